/**
 * The processor's handler: a Kafka event in, each record committed once. It divides the event into
 * slices, has the partitions' processors take them side by side, and answers Lambda; what a slice
 * means is theirs.
 */
import type { CheckpointStore, ObjectStore } from "../commit/ports.js";
import type { Pipeline } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { emfOutput, stdoutLine, type WriteLine } from "../observe/emf.js";
import type { MetricsOutput } from "../observe/metrics.js";
import { PARTITION_BOUNDS, type PartitionBounds } from "../runtime/partition-writer.js";
import type { LoadedReferences } from "../runtime/references.js";
import { partitionId, publisherId } from "../runtime/runner.js";
import { type SliceOutcome, SliceProcessor } from "../runtime/slice-processor.js";
import {
  EnvelopeMemory,
  type EventPartition,
  eventPartitions,
  kafkaSlices,
} from "../sources/kafka-event.js";
import { openStores } from "../stores/open-stores.js";
import { hasTime, type InvocationContext } from "./deadline.js";
import { onceReady } from "./once-ready.js";
import {
  type Environment,
  type PipelineRuntime,
  pipelineRuntime,
  streamsByTopic,
} from "./pipeline-runtime.js";
import { ProcessorMetrics } from "./processor-metrics.js";

/** Bounds the memory, and the time, of one commit. */
const SLICE_RECORDS_MAX = 10_000;
/** Of an invocation's failures, so many are in its error; all of them are logged. */
const FAILURES_SHOWN_MAX = 5;
/** State of partitions that moved to other environments is let go beyond it. */
const WARM_BYTES_MAX = 128 * 1024 * 1024;
const WARM_PARTITIONS_MAX = 256;

/** Where a partition's records stay unprocessed; all later ones of the batch do so too. */
export interface BatchItemFailure {
  readonly itemIdentifier: { readonly partition: string; readonly offset: number };
}

export interface PartialBatchResponse {
  readonly batchItemFailures: readonly BatchItemFailure[];
}

export interface ProcessorOptions {
  readonly pipeline: Pipeline;
  /** `MILLPOND_*`; the process's environment by default. */
  readonly env?: Environment;
  /** Instead of those that `env` names. */
  readonly stores?: { readonly checkpoints: CheckpointStore; readonly objects: ObjectStore };
  /** Instead of those beside the bundle. */
  readonly references?: LoadedReferences;
  /** Takes log lines; stdout by default. */
  readonly write?: WriteLine;
  /** Takes metrics; as EMF among the log lines by default. */
  readonly metrics?: MetricsOutput;
  /** Of each partition; by default what suits DynamoDB and a Lambda. */
  readonly bounds?: PartitionBounds;
}

/** Nothing when all went well, or where partial batches are not reported. */
export type ProcessorHandler = (
  event: unknown,
  context: InvocationContext,
) => Promise<PartialBatchResponse | undefined>;

/**
 * The handler. Any failed partition makes the invocation throw, after the others have committed;
 * the batch comes again, and what was committed is skipped. With `MILLPOND_PARTIAL_BATCH=true` it
 * returns where each failed partition goes on instead. Safe with several invocations at once.
 *
 * @example
 * export const handler = makeProcessor({ pipeline });
 */
export function makeProcessor(options: ProcessorOptions): ProcessorHandler {
  const ready = onceReady(() => Processor.create(options));
  return async (event, context) => (await ready()).handle(event, context);
}

interface Setup {
  readonly runtime: PipelineRuntime;
  readonly streams: ReadonlyMap<string, string>;
  readonly stores: NonNullable<ProcessorOptions["stores"]>;
  readonly partialBatch: boolean;
  readonly write: WriteLine;
  readonly metrics: MetricsOutput;
  readonly bounds: PartitionBounds;
}

interface PartitionFailure {
  readonly name: string;
  /** The first record that was not processed. */
  readonly offset: number;
  readonly error: unknown;
}

class Processor {
  readonly #setup: Setup;
  /** Least recently used first. */
  readonly #partitions = new Map<string, SliceProcessor>();
  readonly #freeMemory: EnvelopeMemory[] = [];
  /** What a slice has taken at most of late. */
  #sliceMs = 0;

  private constructor(setup: Setup) {
    this.#setup = setup;
  }

  static async create(options: ProcessorOptions): Promise<Processor> {
    const env = options.env ?? process.env;
    const [runtime, stores] = await Promise.all([
      pipelineRuntime(options.pipeline, env, options.references),
      options.stores ?? openStores(env),
    ]);
    const write = options.write ?? stdoutLine;
    return new Processor({
      runtime,
      stores,
      streams: streamsByTopic(runtime.definition, env),
      partialBatch: env.MILLPOND_PARTIAL_BATCH === "true",
      write,
      metrics: options.metrics ?? emfOutput(write),
      bounds: options.bounds ?? PARTITION_BOUNDS,
    });
  }

  async handle(
    event: unknown,
    context: InvocationContext,
  ): Promise<PartialBatchResponse | undefined> {
    const metrics = new ProcessorMetrics();
    const memory = this.#freeMemory.pop() ?? new EnvelopeMemory();
    let failures: PartitionFailure[];
    try {
      const results = await Promise.all(
        eventPartitions(event).map((partition) =>
          this.#process(partition, memory, context, metrics),
        ),
      );
      failures = results.filter((failure) => failure !== null);
    } finally {
      memory.reset();
      this.#freeMemory.push(memory);
      this.#boundWarmState();
      const { name } = this.#setup.runtime.definition;
      this.#setup.metrics.write(name, metrics.observations, Date.now());
    }
    for (const failure of failures) this.#setup.write(logLine(failure));
    if (this.#setup.partialBatch) return { batchItemFailures: failures.map(itemFailure) };
    if (failures.length > 0) throw failed(failures);
    return undefined;
  }

  /** Null when all of the partition's records are committed. Never throws. */
  async #process(
    partition: EventPartition,
    memory: EnvelopeMemory,
    context: InvocationContext,
    metrics: ProcessorMetrics,
  ): Promise<PartitionFailure | null> {
    const { name } = partition;
    let offset = firstOffset(partition);
    try {
      const stream = this.#streamOf(partition.topic);
      const { bronze } = this.#setup.runtime.programs.get(stream)!;
      const target = { stream, keys: bronze, recordsMax: SLICE_RECORDS_MAX };
      const processor = this.#processorOf(stream, partition);
      for (const [index, slice] of kafkaSlices(partition, target, memory).entries()) {
        offset = slice.offsets[0]!;
        const remainingMs = context.getRemainingTimeInMillis();
        const facts = { remainingMs, sliceMs: this.#sliceMs, isFirst: index === 0 };
        if (!hasTime(facts)) throw outOfTime(remainingMs, this.#sliceMs);
        const outcome = await processor.process(slice);
        metrics.add({ stream, partition: partition.partition }, outcome);
        this.#noteDuration(outcome);
      }
      return null;
    } catch (error) {
      const stream = this.#setup.streams.get(partition.topic);
      // A topic of no stream would be a label without bound.
      if (stream !== undefined) metrics.addFailure({ stream, partition: partition.partition });
      return { name, offset, error };
    }
  }

  #streamOf(topic: string): string {
    const { streams, runtime } = this.#setup;
    const stream = streams.get(topic);
    if (stream !== undefined) return stream;
    throw new MillpondError(
      "INPUT",
      `topic "${topic}" is of no stream of pipeline "${runtime.definition.name}", whose topics ` +
        `are ${[...streams.keys()].join(", ")}. Correct the event source mapping, or name the ` +
        "topic in MILLPOND_TOPICS",
    );
  }

  #processorOf(stream: string, { topic, partition }: EventPartition): SliceProcessor {
    const { definition, definitionHash, programs } = this.#setup.runtime;
    const id = partitionId(definition.name, stream, partition);
    let processor = this.#partitions.get(id);
    // Taken out and put back, so that it is the most recently used.
    this.#partitions.delete(id);
    processor ??= new SliceProcessor({
      ...this.#setup.stores,
      program: programs.get(stream)!,
      id,
      publisherId: publisherId(definition.name),
      partition,
      definitionHash,
      label: `${topic}-${partition}`,
      bounds: this.#setup.bounds,
    });
    this.#partitions.set(id, processor);
    return processor;
  }

  /** The longest of late: a shorter slice takes it down by a tenth only. */
  #noteDuration({ durationMs }: SliceOutcome): void {
    this.#sliceMs = Math.max(durationMs, this.#sliceMs * 0.9);
  }

  #boundWarmState(): void {
    let bytes = 0;
    let partitions = 0;
    for (const processor of [...this.#partitions.values()].reverse()) {
      bytes += processor.stateBytes;
      partitions += 1;
      if (bytes <= WARM_BYTES_MAX && partitions <= WARM_PARTITIONS_MAX) continue;
      // The one in use stays, however large: it would be read again for the next slice.
      if (partitions === 1) continue;
      processor.discard();
      if (partitions > WARM_PARTITIONS_MAX) this.#partitions.delete(processor.id);
    }
  }
}

function firstOffset({ records }: EventPartition): number {
  const first = records[0];
  if (typeof first !== "object" || first === null || !("offset" in first)) return 0;
  return typeof first.offset === "number" ? first.offset : 0;
}

const itemFailure = ({ name: partition, offset }: PartitionFailure): BatchItemFailure => ({
  itemIdentifier: { partition, offset },
});

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

function logLine({ name, offset, error }: PartitionFailure): string {
  const code = error instanceof MillpondError ? error.code : "UNEXPECTED";
  const stack = error instanceof Error && code === "UNEXPECTED" ? { stack: error.stack } : {};
  const message = messageOf(error);
  return JSON.stringify({ level: "error", partition: name, offset, code, message, ...stack });
}

function failed(failures: readonly PartitionFailure[]): MillpondError {
  const first = failures[0]!.error;
  const list = failures
    .slice(0, FAILURES_SHOWN_MAX)
    .map(({ name, offset, error }) => `${name} from offset ${offset}: ${messageOf(error)}`)
    .join("; ");
  return new MillpondError(
    first instanceof MillpondError ? first.code : "STORAGE",
    `records of ${failures.length} partition(s) were not processed and stay in Kafka: ${list}. ` +
      "The batch will come again; what was committed is skipped then",
    { cause: first },
  );
}

function outOfTime(remainingMs: number, sliceMs: number): MillpondError {
  return new MillpondError(
    "LIMIT",
    `a slice was not begun: ${Math.round(remainingMs)} ms are left, and one has taken ` +
      `${Math.round(sliceMs)} ms. The records stay in Kafka and come again; if this goes on, ` +
      "give the function a longer timeout or more memory, or the mapping a smaller batch",
  );
}
