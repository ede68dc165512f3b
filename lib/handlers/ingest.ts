/**
 * The ingest handler: notifications of new objects below `incoming/<stream>/`, each object once
 * into the pipeline's results. How that is done is in `runtime/object-ingest.ts`.
 */
import * as path from "node:path";
import type { CheckpointStore, ObjectStore } from "../commit/ports.js";
import type { Pipeline } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { emfOutput, stdoutLine, type WriteLine } from "../observe/emf.js";
import type { MetricsOutput } from "../observe/metrics.js";
import { INGEST_PARTITION, type IngestOutcome, ObjectIngest } from "../runtime/object-ingest.js";
import { PARTITION_BOUNDS, type PartitionBounds } from "../runtime/partition-writer.js";
import type { LoadedReferences } from "../runtime/references.js";
import { partitionId, publisherId } from "../runtime/runner.js";
import { newObjects } from "../sources/objects/object-event.js";
import {
  bucketObjects,
  directoryObjects,
  type ObjectSource,
} from "../sources/objects/object-source.js";
import { openStores } from "../stores/open-stores.js";
import { hasTime, type InvocationContext } from "./deadline.js";
import { onceReady } from "./once-ready.js";
import { type Environment, type PipelineRuntime, pipelineRuntime } from "./pipeline-runtime.js";

const INCOMING = "incoming/";
const SLICE_RECORDS_MAX = 10_000;

export interface IngestStores {
  readonly checkpoints: CheckpointStore;
  readonly objects: ObjectStore;
  /** Where the notified objects are, by their key without the prefix. */
  readonly incoming: ObjectSource;
}

export interface IngestOptions {
  readonly pipeline: Pipeline;
  /** `MILLPOND_*`; the process's environment by default. */
  readonly env?: Environment;
  /** Instead of those that `env` names. */
  readonly stores?: IngestStores;
  /** Instead of those beside the bundle. */
  readonly references?: LoadedReferences;
  /** Takes log lines, and metrics, as EMF, unless `metrics` does; stdout by default. */
  readonly write?: WriteLine;
  readonly metrics?: MetricsOutput;
  /** Bounds one commit; by default what suits a Lambda. */
  readonly sliceRecordsMax?: number;
  /** Of each stream's objects; by default what suits DynamoDB and a Lambda. */
  readonly bounds?: PartitionBounds;
}

export interface IngestedObject {
  readonly key: string;
  readonly outcome: IngestOutcome;
}

/** What became of each object; Lambda ignores it, callers in process need not. */
export type IngestHandler = (
  event: unknown,
  context: InvocationContext,
) => Promise<readonly IngestedObject[]>;

/**
 * The handler. It throws when an object could not be taken whole (its time was short, a store
 * failed), so that the queue brings the notification again; refused objects are logged and counted,
 * but do not come again. Safe with several invocations at once.
 *
 * @example
 * export const handler = makeIngest({ pipeline });
 */
export function makeIngest(options: IngestOptions): IngestHandler {
  const ready = onceReady(() => Ingest.create(options));
  return async (event, context) => (await ready()).handle(event, context);
}

interface Setup {
  readonly runtime: PipelineRuntime;
  readonly stores: IngestStores;
  /** Null where objects are files. */
  readonly bucket: string | null;
  readonly prefix: string;
  readonly write: WriteLine;
  readonly metrics: MetricsOutput;
  readonly sliceRecordsMax: number;
  readonly bounds: PartitionBounds;
}

class Ingest {
  readonly #setup: Setup;
  /** By stream. */
  readonly #ingests = new Map<string, ObjectIngest>();

  private constructor(setup: Setup) {
    this.#setup = setup;
  }

  static async create(options: IngestOptions): Promise<Ingest> {
    const env = options.env ?? process.env;
    const [runtime, stores] = await Promise.all([
      pipelineRuntime(options.pipeline, env, options.references),
      options.stores ?? openIngestStores(env),
    ]);
    const bucket = env.MILLPOND_BUCKET ?? null;
    const prefix = env.MILLPOND_PREFIX ?? "";
    const write = options.write ?? stdoutLine;
    const metrics = options.metrics ?? emfOutput(write);
    const { sliceRecordsMax = SLICE_RECORDS_MAX, bounds = PARTITION_BOUNDS } = options;
    const limits = { sliceRecordsMax, bounds };
    return new Ingest({ runtime, stores, bucket, prefix, write, metrics, ...limits });
  }

  async handle(event: unknown, context: InvocationContext): Promise<readonly IngestedObject[]> {
    const results: IngestedObject[] = [];
    const failures: { key: string; error: unknown }[] = [];
    let slowestMs = 0;
    let before = performance.now();
    const mayBegin = () => {
      const now = performance.now();
      slowestMs = Math.max(slowestMs, now - before);
      before = now;
      const remainingMs = context.getRemainingTimeInMillis();
      return hasTime({ remainingMs, sliceMs: slowestMs, isFirst: false });
    };
    for (const { bucket, key } of newObjects(event)) {
      before = performance.now();
      try {
        const outcome = await this.#ingest(bucket, key, mayBegin);
        results.push({ key, outcome });
        if (outcome.kind === "unfinished") failures.push({ key, error: unfinished(outcome) });
      } catch (error) {
        failures.push({ key, error });
      }
    }
    this.#report(results, failures);
    if (failures.length > 0) throw failed(failures);
    return results;
  }

  #ingest(bucket: string, fullKey: string, mayBegin: () => boolean): Promise<IngestOutcome> {
    const key = this.#keyWithin(bucket, fullKey);
    const stream = key === null ? undefined : /^incoming\/([^/]+)\/./.exec(key)?.[1];
    if (key === null || stream === undefined || !this.#setup.runtime.programs.has(stream)) {
      const streams = [...this.#setup.runtime.programs.keys()].join(", ");
      const reason =
        `object "${fullKey}" of bucket "${bucket}" is not below ${this.#setup.prefix}${INCOMING}` +
        `<stream>/ of the pipeline's bucket, with one of its streams: ${streams}`;
      return Promise.resolve({ kind: "rejected", reason });
    }
    return this.#ingestOf(stream).ingest(key, mayBegin);
  }

  /** The key without the prefix; null when it is elsewhere. */
  #keyWithin(bucket: string, key: string): string | null {
    const { bucket: own, prefix } = this.#setup;
    if ((own !== null && own !== bucket) || !key.startsWith(prefix + INCOMING)) return null;
    return key.slice(prefix.length);
  }

  #ingestOf(stream: string): ObjectIngest {
    let ingest = this.#ingests.get(stream);
    if (ingest === undefined) {
      const { runtime, stores, sliceRecordsMax, bounds } = this.#setup;
      const { definition, definitionHash, programs } = runtime;
      ingest = new ObjectIngest({
        checkpoints: stores.checkpoints,
        objects: stores.objects,
        source: stores.incoming,
        pipeline: definition.name,
        program: programs.get(stream)!,
        id: partitionId(definition.name, stream, INGEST_PARTITION),
        publisherId: publisherId(definition.name),
        definitionHash,
        sliceRecordsMax,
        bounds,
      });
      this.#ingests.set(stream, ingest);
    }
    return ingest;
  }

  #report(
    results: readonly IngestedObject[],
    failures: readonly { key: string; error: unknown }[],
  ): void {
    const { write, metrics, runtime } = this.#setup;
    const pipeline = runtime.definition.name;
    const count = (kind: string) => results.filter(({ outcome }) => outcome.kind === kind).length;
    const observations = [
      { metric: "ObjectsIngested", value: count("ingested") },
      { metric: "ObjectsRejected", value: count("rejected") },
    ] as const;
    metrics.write(pipeline, observations, Date.now());
    const log = (level: string, object: string, message: string) =>
      write(JSON.stringify({ level, object, message }));
    for (const { key, outcome } of results) {
      if (outcome.kind === "rejected") log("error", key, outcome.reason);
      if (outcome.kind !== "ingested") continue;
      for (const warning of outcome.warnings) log("warn", key, warning);
    }
    for (const { key, error } of failures) log("error", key, messageOf(error));
  }
}

async function openIngestStores(env: Environment): Promise<IngestStores> {
  const { checkpoints, objects, bucket } = await openStores(env);
  if (bucket !== null) {
    return { checkpoints, objects, incoming: bucketObjects(bucket.bucket, bucket.prefix) };
  }
  // `openStores` has proved the form.
  const dir = path.resolve((env.MILLPOND_STORE ?? "").slice("file:".length));
  return { checkpoints, objects, incoming: directoryObjects(dir) };
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

function unfinished({ records }: { records: number }): MillpondError {
  return new MillpondError(
    "LIMIT",
    `its first ${records} records, or those of the object before it, are taken and the time is ` +
      "up; the next invocation goes on from there",
  );
}

function failed(failures: readonly { key: string; error: unknown }[]): MillpondError {
  const first = failures[0]!.error;
  const list = failures.map(({ key, error }) => `"${key}": ${messageOf(error)}`).join("; ");
  return new MillpondError(
    first instanceof MillpondError ? first.code : "STORAGE",
    `${failures.length} object(s) are not ingested whole: ${list}. Let the notification come ` +
      "again; what was committed is skipped then",
    { cause: first },
  );
}
