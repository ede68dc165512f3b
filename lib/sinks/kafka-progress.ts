/**
 * A Kafka sink's progress: the last record of a compacted topic of its own, written in the
 * transaction of the rows it stands for. Who reads it while it may change is not decided here.
 */
import { setTimeout } from "node:timers/promises";
import { MillpondError } from "../errors.js";
import type {
  KafkaClient,
  KafkaMessage,
  KafkaReader,
  KafkaRecord,
  PartitionOffsets,
} from "../sources/kafka/client.js";

export interface KafkaProgress {
  /** Whose rows the topic holds. */
  readonly pipeline: string;
  /** The columns that the rows have. */
  readonly columns: string;
  readonly sequence: number;
  /** Whose publications those are; absent when none came. */
  readonly output?: string | undefined;
  /** By output partition, an offset that it had reached: below it, it is another topic. */
  readonly ends: Readonly<Record<string, number>>;
}

export const progressTopic = (topic: string): string => `${topic}-millpond-progress`;

/** The topic's, not the pipeline's: whoever writes there fences off whoever did. */
export const transactionalId = (topic: string): string => `millpond-${topic}`;

/** Compaction keeps the last record for good, however long the pipeline is idle. */
export const PROGRESS_TOPIC = { partitions: 1, settings: { "cleanup.policy": "compact" } } as const;

export function progressMessage(progress: KafkaProgress): KafkaMessage {
  return { key: "progress", value: JSON.stringify(progress) };
}

/** How long another sink at work is waited for. */
const SETTLE_MS_MAX = 3_000;
const SETTLE_WAIT_MS = 200;

export interface FoundProgress {
  /** Null when there is none. */
  readonly progress: KafkaProgress | null;
  /**
   * False while a transaction is not ended: another sink's; or one that is committed, but whose
   * broker went down before it said so in the log. Only who begins a transaction ends that.
   */
  readonly isSettled: boolean;
}

/** The topic must be there. */
export async function readProgress(
  client: KafkaClient,
  reader: KafkaReader,
  topic: string,
): Promise<FoundProgress> {
  const name = progressTopic(topic);
  const [offsets] = (await client.offsets(name)) ?? [];
  if (offsets === undefined) return { progress: null, isSettled: true };
  const { high, isSettled } = await settledEnd(reader, name, offsets);
  const record = await lastRecord(reader, name, { ...offsets, high });
  return { progress: record === null ? null : parse(name, record), isSettled };
}

async function settledEnd(
  reader: KafkaReader,
  topic: string,
  { partition, high }: PartitionOffsets,
): Promise<{ readonly high: number; readonly isSettled: boolean }> {
  const until = performance.now() + SETTLE_MS_MAX;
  for (let offset = high; ; ) {
    const [range] = await reader.fetch([{ topic, partition, offset }], 0);
    offset = range?.stableEnd ?? offset;
    const isSettled = offset >= (range?.highWatermark ?? offset);
    if (isSettled || performance.now() >= until) return { high: offset, isSettled };
    await setTimeout(SETTLE_WAIT_MS);
  }
}

const STEP_BACK = 8;

/** The last committed record of a partition; null when there is none. */
export async function lastRecord(
  reader: KafkaReader,
  topic: string,
  { partition, low, high }: PartitionOffsets,
): Promise<KafkaRecord | null> {
  // What was aborted, and the markers of transactions, have offsets too.
  for (let back = STEP_BACK, end = high; end > low; back *= STEP_BACK) {
    const start = Math.max(low, high - back);
    let last: KafkaRecord | null = null;
    for (let offset = start; offset < end; ) {
      const [range] = await reader.fetch([{ topic, partition, offset }], 0);
      last = range?.records.findLast((record) => record.offset < end) ?? last;
      offset = range?.nextOffset ?? end;
    }
    if (last !== null) return last;
    end = start;
  }
  return null;
}

function parse(topic: string, { offset, value }: KafkaRecord): KafkaProgress {
  try {
    const found: unknown = JSON.parse(String(value));
    if (isProgress(found)) return found;
  } catch {
    // Said below.
  }
  throw new MillpondError(
    "OUTPUT",
    `topic ${topic}, offset ${offset} holds no progress of Millpond's: something else wrote to ` +
      "it. Give the pipeline another output topic",
  );
}

function isProgress(found: unknown): found is KafkaProgress {
  if (typeof found !== "object" || found === null) return false;
  if (!("pipeline" in found && "columns" in found && "sequence" in found && "ends" in found)) {
    return false;
  }
  const { pipeline, columns, sequence, ends } = found;
  const areTexts = typeof pipeline === "string" && typeof columns === "string";
  return areTexts && Number.isSafeInteger(sequence) && typeof ends === "object" && ends !== null;
}
