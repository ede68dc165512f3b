/** Kafka events as Lambda makes them, and processors over stores in memory. */
import type { Pipeline } from "../../../lib/define/definition.js";
import {
  makeProcessor,
  type ProcessorHandler,
  type ProcessorOptions,
} from "../../../lib/handlers/processor.js";
import {
  type FaultHook,
  MemoryCheckpointStore,
  MemoryObjectStore,
  type StoreOperation,
} from "../../../lib/stores/memory.js";

export interface TestRecord {
  readonly offset: number;
  readonly timestamp?: number;
  /** Null is a tombstone, undefined leaves the field out. */
  readonly value: string | null | undefined;
  readonly key?: string;
}

const base64 = (text: string) => Buffer.from(text).toString("base64");

function envelopeRecord(topic: string, partition: number, record: TestRecord) {
  const { offset, timestamp = 0, value, key } = record;
  return {
    topic,
    partition,
    offset,
    timestamp,
    timestampType: "CREATE_TIME",
    ...(key === undefined ? {} : { key: base64(key) }),
    ...(value === undefined ? {} : { value: value === null ? null : base64(value) }),
    headers: [{ trace: [104, -61, -92, 0] }],
  };
}

export type Shape = "aws:kafka" | "SelfManagedKafka";

/** Through JSON, as everything that Lambda hands over. */
export function kafkaEvent(
  partitions: readonly { topic: string; partition: number; records: readonly TestRecord[] }[],
  eventSource: Shape = "aws:kafka",
): unknown {
  const records = Object.fromEntries(
    partitions.map(({ topic, partition, records: list }) => [
      `${topic}-${partition}`,
      list.map((record) => envelopeRecord(topic, partition, record)),
    ]),
  );
  const arn =
    eventSource === "aws:kafka" ? { eventSourceArn: "arn:aws:kafka:us-east-1:1:cluster/c/1" } : {};
  const event = { eventSource, ...arn, bootstrapServers: "b-1:9098", records };
  return JSON.parse(JSON.stringify(event));
}

export interface MemoryStores {
  readonly checkpoints: MemoryCheckpointStore;
  readonly objects: MemoryObjectStore;
}

export function memoryStores(payloadBytesMax = 4096): MemoryStores {
  return {
    checkpoints: new MemoryCheckpointStore({ payloadBytesMax }),
    objects: new MemoryObjectStore(),
  };
}

/** The same stores as another process with these faults would see them. */
export function through(stores: MemoryStores, faults: FaultHook): MemoryStores {
  return {
    checkpoints: stores.checkpoints.withFaults(faults),
    objects: stores.objects.withFaults(faults),
  };
}

/** Plenty. */
export const context = { getRemainingTimeInMillis: () => 60_000 };

export interface TestProcessor {
  readonly handle: ProcessorHandler;
  /** Metrics and log lines. */
  readonly lines: Record<string, unknown>[];
  /** Sum of a metric over all lines of streams. */
  total(metric: string): number;
}

export function processorOver(
  pipeline: Pipeline,
  stores: NonNullable<ProcessorOptions["stores"]>,
  env: ProcessorOptions["env"] = {},
  bounds: Pick<ProcessorOptions, "bounds"> = {},
): TestProcessor {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string) => lines.push(JSON.parse(line));
  const handle = makeProcessor({ pipeline, stores, env, write, ...bounds });
  const total = (metric: string) =>
    lines.reduce((sum, line) => {
      const value = line[metric] ?? 0;
      const values = Array.isArray(value) ? value : [value];
      return sum + values.reduce((all, one) => all + Number(one), 0);
    }, 0);
  return { handle, lines, total };
}

/** What an injected fault throws. */
export class Fault extends Error {}

/** Counts operations; number `at` fails and, if `lasting`, all later ones do. */
export function faultAt(at: number, moment: "before" | "after", lasting: boolean) {
  const operations: StoreOperation[] = [];
  const hook: FaultHook = {
    before(operation) {
      const number = operations.push(operation) - 1;
      if (number > at && lasting) throw new Fault("the process is gone");
      if (number === at && moment === "before") throw new Fault("failed before");
    },
    after(operation) {
      const number = operations.indexOf(operation);
      if (number > at && lasting) throw new Fault("the process is gone");
      if (number === at && moment === "after") throw new Fault("the reply was lost");
    },
  };
  return { operations, hook };
}
