/** A partition whose records a test sends: a source that ends where they end, for now. */
import { MillpondError } from "../errors.js";
import type { PartitionReader, PartitionSource } from "../sources/source.js";

/** A plain object is sent as JSON, text and bytes as they are; null is a tombstone. */
export type TestRecord = object | string | Uint8Array | null;

interface Queued {
  readonly bytes: Buffer | null;
  readonly key: Buffer | null;
  readonly timestampMs: number;
}

export class RecordQueue implements PartitionSource {
  readonly topic: string;
  readonly partition: number;
  readonly label: string;
  readonly #records: Queued[] = [];

  constructor(topic: string, partition: number) {
    this.topic = topic;
    this.partition = partition;
    this.label = `${topic}/${partition}`;
  }

  push(record: TestRecord, key: string | null, timestampMs: number): void {
    const keyBytes = key === null ? null : Buffer.from(key);
    this.#records.push({ bytes: bytesOf(record), key: keyBytes, timestampMs });
  }

  async open(nextOffset: number): Promise<PartitionReader> {
    let offset = nextOffset;
    return {
      topic: this.topic,
      partition: this.partition,
      label: this.label,
      bytesTotal: Number.NaN,
      bytesRead: Number.NaN,
      read: async (recordsMax) => {
        const records = this.#records.slice(offset, offset + recordsMax);
        if (records.length === 0) return null;
        const offsets = Float64Array.from(records, (_, i) => offset + i);
        offset += records.length;
        const values = sideBySide(records.map(({ bytes }) => bytes));
        const { topic, partition } = this;
        return {
          topic,
          partition,
          count: records.length,
          ...values,
          keys: sideBySide(records.map(({ key }) => key)),
          offsets,
          timestamps: Float64Array.from(records, ({ timestampMs }) => timestampMs),
          faults: new Map(),
        };
      },
      position: () => ({}),
      close: async () => undefined,
    };
  }
}

function sideBySide(values: readonly (Buffer | null)[]) {
  const starts = new Int32Array(values.length).fill(-1);
  const ends = new Int32Array(values.length).fill(-1);
  let at = 0;
  for (const [index, value] of values.entries()) {
    if (value === null) continue;
    starts[index] = at;
    at += value.length;
    ends[index] = at;
  }
  return { bytes: Buffer.concat(values.filter((value) => value !== null)), starts, ends };
}

/** @throws MillpondError USAGE for what is no JSON */
export function bytesOf(record: TestRecord): Buffer | null {
  if (record === null) return null;
  if (typeof record === "string") return Buffer.from(record);
  if (record instanceof Uint8Array) return Buffer.from(record);
  try {
    return Buffer.from(JSON.stringify(record));
  } catch (cause) {
    throw new MillpondError(
      "USAGE",
      "a record for a test is no JSON (a bigint or a cycle is in it); give it as text",
      { cause },
    );
  }
}
