/**
 * One pipeline at work against a broker: the event source mapping in front of the very handlers
 * that Lambda runs, in this process or deployed. It ends with `stop`; watching files is not its
 * business.
 */
import { randomUUID } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import type { Pipeline } from "../define/definition.js";
import { definitionHash } from "../define/json.js";
import { MillpondError } from "../errors.js";
import type { InvocationContext } from "../handlers/deadline.js";
import { makeIngest } from "../handlers/ingest.js";
import {
  type Environment,
  type PipelineRuntime,
  pipelineRuntime,
  streamsByTopic,
} from "../handlers/pipeline-runtime.js";
import { makeProcessor } from "../handlers/processor.js";
import { makeProducer } from "../handlers/producer.js";
import type { ProducerRequest } from "../handlers/producer-request.js";
import { makeSink, type SinkHandler } from "../handlers/sink.js";
import type { MetricsOutput } from "../observe/metrics.js";
import type { MetricsSource } from "../observe/metrics-endpoint.js";
import { claimOutput, lockOutput, type OutputLock, outputPaths } from "../runtime/output.js";
import { keepReferences, type LoadedReferences, loadReferences } from "../runtime/references.js";
import type { KafkaClient } from "../sources/kafka/client.js";
import { connectKafka } from "../sources/kafka/kafkajs-client.js";
import { bootstrapBrokers, kafkaSettings } from "../sources/kafka/settings.js";
import { openStores, type Stores } from "../stores/open-stores.js";
import { EventSourceMapping, type Invoker, type MappingStats } from "./event-source-mapping.js";
import { type Figures, readFigures } from "./figures.js";
import { type Folder, FolderFeed, folderObjects } from "./folder-feed.js";
import { lambdaInvoker } from "./lambda-invoker.js";
import { type SessionMetrics, sessionMetrics } from "./session-metrics.js";

const TICK_MS = 1_000;
/** What Lambda would give the functions. */
const INVOCATION_MS_MAX = 5 * 60_000;
const SIMULATED_FOR_S = 60;
const YIELDING_MS_MAX = 10_000;

export interface DevOptions {
  readonly pipeline: Pipeline;
  /** MILLPOND_BOOTSTRAP and the like; MILLPOND_STORE is set by `store`. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** An output directory, or the AWS stores that `env` names. */
  readonly store: { readonly kind: "file"; readonly out: string } | { readonly kind: "aws" };
  /** Of topics that are missing. */
  readonly partitions: number;
  readonly pollers: number;
  /** What to send to which stream; none by default. */
  readonly simulate: readonly { readonly stream: string; readonly request: ProducerRequest }[];
  /** Whose files go into which stream, beside what Kafka brings; not with `functionName`. */
  readonly folders: readonly Folder[];
  /** Invoke this deployed function instead of the handlers in this process. */
  readonly functionName?: string;
  readonly onTrouble: (error: unknown) => void;
}

/** What a session shows while it works. */
export interface DevStatus {
  readonly mapping: MappingStats;
  /** Null where the work is done by a deployed function. */
  readonly figures: Figures | null;
}

/** The definition's hash with its references, which names an output that only it may write to. */
export async function hashOfPipeline(pipeline: Pipeline): Promise<string> {
  return definitionHash(pipeline.definition, (await loadReferences(pipeline)).hashes);
}

export class DevSession {
  private readonly options: DevOptions;
  private readonly client: KafkaClient;
  private readonly lock: OutputLock | null;
  private work: Work | null = null;
  private mapping: EventSourceMapping | null = null;
  private gathered: SessionMetrics | null = null;
  private readonly producing: Promise<void>[] = [];
  private isStopping = false;

  private constructor(options: DevOptions, client: KafkaClient, lock: OutputLock | null) {
    this.options = options;
    this.client = client;
    this.lock = lock;
  }

  /**
   * @throws MillpondError OUTPUT when the directory is another definition's, CONFLICT when another
   *   process writes to it, INPUT when Kafka is not reached
   */
  static async start(options: DevOptions): Promise<DevSession> {
    const { pipeline, store } = options;
    const references = await loadReferences(pipeline);
    let lock: OutputLock | null = null;
    if (store.kind === "file") lock = await claim(pipeline, store.out, references);
    const client = await connectKafka(await kafkaSettings(options.env));
    const session = new DevSession(options, client, lock);
    try {
      await session.begin(references);
      return session;
    } catch (error) {
      await session.stop();
      throw error;
    }
  }

  async status(): Promise<DevStatus> {
    const mapping = this.mapping!.stats();
    return { mapping, figures: this.work === null ? null : await this.work.figures() };
  }

  /** For Prometheus. */
  get metrics(): MetricsSource {
    return this.gathered!.source;
  }

  /** Lets what is under way end, and publishes what it committed. */
  async stop(): Promise<void> {
    this.isStopping = true;
    await Promise.all(this.producing);
    await this.mapping?.stop();
    await this.work?.stop();
    await this.client.close();
    this.lock?.release();
  }

  private async begin(references: LoadedReferences): Promise<void> {
    const { options } = this;
    const { definition } = options.pipeline;
    const topics = streamsByTopic(definition, options.env);
    for (const topic of topics.keys()) {
      await this.client.createTopic(topic, { partitions: options.partitions });
    }
    const group = groupOf(options);
    this.gathered = await sessionMetrics({ definition, topics, group, client: this.client });
    this.mapping = await EventSourceMapping.start({
      client: this.client,
      origin: { bootstrapServers: (await bootstrapBrokers(options.env)).join(",") },
      topics: [...topics.keys()],
      group,
      invoke: await this.invoker(references),
      pollers: options.pollers,
      rules: { partialBatches: true },
      onTrouble: options.onTrouble,
    });
    for (const { stream, request } of options.simulate) {
      this.producing.push(this.produce(stream, request));
    }
  }

  private async invoker(references: LoadedReferences): Promise<Invoker> {
    const { functionName } = this.options;
    if (functionName !== undefined) return lambdaInvoker(functionName);
    this.work = await Work.start(this.options, references, this.gathered!.output);
    return (event) => this.work!.process(event);
  }

  /** Minute after minute, as a schedule would invoke it. */
  private async produce(stream: string, request: ProducerRequest): Promise<void> {
    const { pipeline, env, onTrouble } = this.options;
    const metrics = this.gathered!.output;
    const handler = makeProducer({ pipeline, env, client: this.client, metrics });
    const context = {
      getRemainingTimeInMillis: () => (this.isStopping ? 0 : INVOCATION_MS_MAX),
    };
    const { rate = 1 } = request;
    const events = Math.ceil(rate * SIMULATED_FOR_S);
    while (!this.isStopping) {
      try {
        await handler({ ...request, stream, events }, context);
      } catch (error) {
        onTrouble(error);
        await new Promise((resolve) => setTimeout(resolve, TICK_MS));
      }
    }
  }
}

async function claim(
  pipeline: Pipeline,
  out: string,
  references: LoadedReferences,
): Promise<OutputLock> {
  const paths = outputPaths(out);
  const lock = await lockOutput(paths);
  try {
    claimOutput(paths, pipeline.definition, definitionHash(pipeline.definition, references.hashes));
    keepReferences(pipeline, paths.references);
    return lock;
  } catch (error) {
    lock.release();
    throw error;
  }
}

/**
 * A new output begins at the topics' beginning, also under an old name: the group is the output's
 * own.
 */
function groupOf({ pipeline, store, env }: DevOptions): string {
  const { name } = pipeline.definition;
  if (store.kind === "aws") return `millpond-dev-${name}-${env.MILLPOND_STATE_TABLE}`;
  const file = path.join(outputPaths(store.out).dir, "state", "consumer-group");
  try {
    return fs.readFileSync(file, "utf8").trim();
  } catch {
    const group = `millpond-dev-${name}-${randomUUID()}`;
    fs.writeFileSync(file, `${group}\n`);
    return group;
  }
}

/** The handlers in this process, and what wakes the sink. */
class Work {
  private readonly processor: ReturnType<typeof makeProcessor>;
  private readonly sink: SinkHandler;
  private readonly runtime: PipelineRuntime;
  private readonly stores: Stores;
  private readonly onTrouble: (error: unknown) => void;
  private readonly timer: NodeJS.Timeout;
  private readonly feed: FolderFeed | null;
  private isStopping = false;
  /** At most one waits behind the one that runs: what it finds is what there is by then. */
  private sinking: Promise<void> | null = null;
  private isWanted = false;
  private yieldedSince: number | null = null;

  private constructor(options: DevOptions, parts: Parts) {
    this.runtime = parts.runtime;
    this.stores = parts.stores;
    this.onTrouble = options.onTrouble;
    this.processor = makeProcessor(parts.handlers);
    this.sink = makeSink(parts.handlers);
    this.timer = setInterval(() => this.wakeSink({}), TICK_MS);
    this.feed = options.folders.length === 0 ? null : this.feedFrom(options, parts);
  }

  static async start(
    options: DevOptions,
    references: LoadedReferences,
    metrics: MetricsOutput,
  ): Promise<Work> {
    const { pipeline, store } = options;
    const MILLPOND_STORE = store.kind === "aws" ? "aws" : `file:${outputPaths(store.out).data}`;
    const env = { ...options.env, MILLPOND_STORE, MILLPOND_PARTIAL_BATCH: "true" };
    const stores = await openStores(env);
    const runtime = await pipelineRuntime(pipeline, env, references);
    // Failures reach `onTrouble` too.
    const write = () => undefined;
    const handlers = { pipeline, env, stores, references, write, metrics };
    return new Work(options, { runtime, stores, handlers });
  }

  async process(event: unknown): Promise<unknown> {
    const response = await this.processor(event, invocation());
    this.wakeSink(stateTableEvent(this.runtime.definition.name));
    return response;
  }

  /** Files go the way of a bucket's objects, through the handler that takes those. */
  private feedFrom({ folders, onTrouble }: DevOptions, { handlers }: Parts): FolderFeed {
    const { MILLPOND_BUCKET: _bucket, MILLPOND_PREFIX: _prefix, ...env } = handlers.env;
    const stores = { ...handlers.stores, incoming: folderObjects(folders) };
    const ingest = makeIngest({ ...handlers, env, stores });
    const handle = async (event: object) => {
      const taken = await ingest(
        event,
        invocation(() => this.isStopping),
      );
      if (taken.some(({ outcome }) => outcome.kind === "ingested")) {
        this.wakeSink(stateTableEvent(this.runtime.definition.name));
      }
      return taken;
    };
    return new FolderFeed({ folders, handle, onTrouble });
  }

  figures(): Promise<Figures> {
    return readFigures(this.runtime, this.stores);
  }

  async stop(): Promise<void> {
    this.isStopping = true;
    await this.feed?.stop();
    clearInterval(this.timer);
    this.wakeSink({});
    while (this.sinking !== null) await this.sinking;
    await this.sink.close();
  }

  /** Giving way to another sink or a query is usual, but not for long. */
  private noteYielding(isYielding: boolean): void {
    const now = performance.now();
    if (!isYielding) this.yieldedSince = null;
    else this.yieldedSince ??= now;
    if (this.yieldedSince === null || now - this.yieldedSince < YIELDING_MS_MAX) return;
    this.onTrouble(
      new MillpondError(
        "CONFLICT",
        "results wait: another process has had the results' database open for over " +
          `${YIELDING_MS_MAX / 1000} s; close it, or query with millpond query`,
      ),
    );
  }

  private wakeSink(event: object): void {
    if (this.sinking !== null) {
      this.isWanted = true;
      return;
    }
    this.isWanted = false;
    this.sinking = this.sink(event, invocation())
      .then((report) => this.noteYielding(report?.outcome === "yielded"), this.onTrouble)
      .then(() => {
        this.sinking = null;
        if (this.isWanted) this.wakeSink({});
      });
  }
}

interface Parts {
  readonly runtime: PipelineRuntime;
  readonly stores: Stores;
  readonly handlers: Parameters<typeof makeProcessor>[0] &
    Parameters<typeof makeSink>[0] & { readonly env: Environment; readonly stores: Stores };
}

function invocation(isOver = () => false): InvocationContext {
  const until = performance.now() + INVOCATION_MS_MAX;
  return { getRemainingTimeInMillis: () => (isOver() ? 0 : until - performance.now()) };
}

/** What the state table's stream would tell the sink about a processor's commit. */
function stateTableEvent(pipeline: string): object {
  const Keys = { pipeline: { S: pipeline }, name: { S: "partitions/" } };
  return { Records: [{ eventName: "MODIFY", dynamodb: { Keys } }] };
}

/** Throws `USAGE` for a stream that the pipeline does not have; `form` is the option's full one. */
export function streamOf(pipeline: Pipeline, name: string | null, form: string): string {
  const names = pipeline.definition.streams.map((stream) => stream.name);
  if (name === null && names.length === 1) return names[0]!;
  if (name !== null && names.includes(name)) return name;
  throw new MillpondError(
    "USAGE",
    `the pipeline reads ${names.join(", ")}; give one of them by ${form}`,
  );
}
