/** A slice as the JSON payload that Lambda's Kafka event source makes of it, and back. */
import type { Slice } from "../../lib/engine/slice.js";

interface EnvelopeRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  readonly timestamp: number;
  readonly timestampType: "CREATE_TIME";
  readonly value: string;
  readonly headers: readonly never[];
}

interface Envelope {
  readonly eventSource: "aws:kafka";
  readonly records: Readonly<Record<string, readonly EnvelopeRecord[]>>;
}

export function envelopeOf(slice: Slice): string {
  const bytes = Buffer.from(slice.bytes.buffer, slice.bytes.byteOffset, slice.bytes.byteLength);
  const records = Array.from(
    { length: slice.count },
    (_, i): EnvelopeRecord => ({
      topic: slice.topic,
      partition: slice.partition,
      offset: slice.offsets[i]!,
      timestamp: slice.timestamps[i]!,
      timestampType: "CREATE_TIME",
      value: bytes.toString("base64", slice.starts[i]!, slice.ends[i]!),
      headers: [],
    }),
  );
  const envelope: Envelope = {
    eventSource: "aws:kafka",
    records: { [`${slice.topic}-${slice.partition}`]: records },
  };
  return JSON.stringify(envelope);
}

let buffer = Buffer.alloc(1 << 20);

/** Values go back to back into one buffer, which the next call reuses. */
export function sliceOf(payload: string): Slice {
  const envelope = JSON.parse(payload) as Envelope;
  const records = Object.values(envelope.records)[0] ?? [];
  const count = records.length;
  const encoded = records.reduce((sum, { value }) => sum + value.length, 0);
  if (buffer.length < encoded) buffer = Buffer.alloc(encoded);
  const starts = new Int32Array(count);
  const ends = new Int32Array(count);
  const offsets = new Float64Array(count);
  const timestamps = new Float64Array(count);
  let at = 0;
  for (let i = 0; i < count; i++) {
    const record = records[i]!;
    starts[i] = at;
    at += buffer.write(record.value, at, "base64");
    ends[i] = at;
    offsets[i] = record.offset;
    timestamps[i] = record.timestamp;
  }
  const { topic = "events", partition = 0 } = records[0] ?? {};
  const bytes = buffer.subarray(0, at);
  return { topic, partition, count, bytes, starts, ends, offsets, timestamps, faults: new Map() };
}
