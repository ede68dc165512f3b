/**
 * The event that Lambda's Kafka event source hands over, as slices: both of its shapes (MSK and
 * self-managed), several partitions at once. What becomes of the slices is left to the processor.
 */
import type { Slice } from "../engine/slice.js";
import { MillpondError } from "../errors.js";

/** One topic-partition of an event, as it came; `kafkaSlices` proves and decodes it. */
export interface EventPartition {
  /** The event's own name for it, "topic-0", by which failures are reported. */
  readonly name: string;
  readonly topic: string;
  readonly partition: number;
  readonly records: readonly unknown[];
}

export interface SliceTarget {
  /** The stream's name, which rows carry as their topic. */
  readonly stream: string;
  /** Whether record keys are wanted (for bronze). */
  readonly keys: boolean;
  /** A slice holds at most so many records. */
  readonly recordsMax: number;
}

interface RawRecord {
  readonly topic?: unknown;
  readonly partition?: unknown;
  readonly offset?: unknown;
  readonly timestamp?: unknown;
  readonly key?: unknown;
  readonly value?: unknown;
}

const SOURCES: readonly unknown[] = ["aws:kafka", "SelfManagedKafka"];

/**
 * The partitions of an event, without those that have no records. Throws `MillpondError("INPUT")`
 * when it is no Kafka event.
 *
 * @example
 * for (const { topic, partition, records } of eventPartitions(event)) { … }
 */
export function eventPartitions(event: unknown): EventPartition[] {
  const source = isObject(event) && "eventSource" in event ? event.eventSource : undefined;
  const records = isObject(event) && "records" in event ? event.records : undefined;
  if (!SOURCES.includes(source) || !isObject(records)) {
    throw new MillpondError(
      "INPUT",
      `the event is not one of Kafka: eventSource is ${JSON.stringify(source) ?? "missing"}, ` +
        'expected "aws:kafka" or "SelfManagedKafka" with records. Invoke this function by a ' +
        "Kafka event source mapping",
    );
  }
  const partitions: EventPartition[] = [];
  for (const [name, list] of Object.entries(records)) {
    if (!Array.isArray(list)) throw badEnvelope(name, "its records are no list");
    if (list.length === 0) continue;
    const first: unknown = list[0];
    const { topic, partition } = isRecord(first) ? first : {};
    if (typeof topic !== "string" || typeof partition !== "number") {
      throw badEnvelope(name, "its first record names no topic and partition");
    }
    partitions.push({ name, topic, partition, records: list });
  }
  return partitions;
}

/**
 * Memory of one invocation, grown and then reused by the next. Views handed out before it grew
 * stay valid: they keep the old memory.
 */
export class EnvelopeMemory {
  #bytes = Buffer.allocUnsafeSlow(1 << 16);
  #bytesUsed = 0;
  #ints = new Int32Array(1 << 12);
  #intsUsed = 0;
  #floats = new Float64Array(1 << 12);
  #floatsUsed = 0;

  reset(): void {
    this.#bytesUsed = 0;
    this.#intsUsed = 0;
    this.#floatsUsed = 0;
  }

  /** At least `length` bytes; `keepBytes` says how many of them were used. */
  bytes(length: number): Buffer {
    if (this.#bytesUsed + length > this.#bytes.length) {
      this.#bytes = Buffer.allocUnsafeSlow(Math.max(length, this.#bytes.length * 2));
      this.#bytesUsed = 0;
    }
    return this.#bytes.subarray(this.#bytesUsed);
  }

  keepBytes(length: number): void {
    this.#bytesUsed += length;
  }

  ints(length: number): Int32Array {
    if (this.#intsUsed + length > this.#ints.length) {
      this.#ints = new Int32Array(Math.max(length, this.#ints.length * 2));
      this.#intsUsed = 0;
    }
    this.#intsUsed += length;
    return this.#ints.subarray(this.#intsUsed - length, this.#intsUsed);
  }

  floats(length: number): Float64Array {
    if (this.#floatsUsed + length > this.#floats.length) {
      this.#floats = new Float64Array(Math.max(length, this.#floats.length * 2));
      this.#floatsUsed = 0;
    }
    this.#floatsUsed += length;
    return this.#floats.subarray(this.#floatsUsed - length, this.#floatsUsed);
  }
}

/**
 * A partition's records as slices of at most `recordsMax`, valid until `memory` is reset. A value
 * that is null or missing is a tombstone; one that is not base64 becomes a dead letter with the
 * text that came. Throws `MillpondError("INPUT")` for records that Kafka cannot have sent: of
 * another partition, not ascending, or with an offset beyond 2^53.
 *
 * @example
 * const target = { stream: "clicks", keys: true, recordsMax: 10_000 };
 * for (const slice of kafkaSlices(partition, target, memory)) await process(slice);
 */
export function kafkaSlices(
  partition: EventPartition,
  target: SliceTarget,
  memory: EnvelopeMemory,
): Slice[] {
  const slices: Slice[] = [];
  let offsetBefore = -1;
  for (let from = 0; from < partition.records.length; from += target.recordsMax) {
    const to = Math.min(partition.records.length, from + target.recordsMax);
    const slice = decodeSlice(partition, partition.records.slice(from, to), target, memory);
    if (slice.offsets[0]! <= offsetBefore) throw notAscending(partition, slice.offsets[0]!);
    offsetBefore = slice.offsets[slice.count - 1]!;
    slices.push(slice);
  }
  return slices;
}

function decodeSlice(
  from: EventPartition,
  list: readonly unknown[],
  { stream, keys }: SliceTarget,
  memory: EnvelopeMemory,
): Slice {
  const records = proven(from, list);
  const { offsets, timestamps } = places(from, records, memory);
  const values = decodeTexts(records, "value", memory);
  const faults: Slice["faults"] = new Map(
    [...values.malformed].map((index) => {
      const detail = "the event's value is not base64; raw is what came";
      return [index, { reason: "malformed", detail }];
    }),
  );
  const count = records.length;
  const { bytes, starts, ends } = values;
  const { partition } = from;
  const base = { topic: stream, partition, count, bytes, starts, ends, offsets, timestamps };
  return keys
    ? { ...base, faults, keys: decodeTexts(records, "key", memory) }
    : { ...base, faults };
}

function proven(from: EventPartition, list: readonly unknown[]): readonly RawRecord[] {
  if (list.every(isRecord)) return list;
  throw badEnvelope(from.name, "a record is no object");
}

function places(from: EventPartition, records: readonly RawRecord[], memory: EnvelopeMemory) {
  const count = records.length;
  const offsets = memory.floats(count);
  const timestamps = memory.floats(count);
  let before = -1;
  for (let i = 0; i < count; i++) {
    const { topic, partition, offset, timestamp } = records[i]!;
    if (topic !== from.topic || partition !== from.partition) {
      throw badEnvelope(from.name, `a record is of ${String(topic)}-${String(partition)}`);
    }
    if (typeof offset !== "number" || !Number.isSafeInteger(offset) || offset < 0) {
      throw badEnvelope(from.name, `an offset is ${String(offset)}, not a whole number below 2^53`);
    }
    if (offset <= before) throw notAscending(from, offset);
    before = offset;
    offsets[i] = offset;
    // Kafka says -1 where a record has none.
    timestamps[i] = typeof timestamp === "number" && timestamp >= 0 ? timestamp : Number.NaN;
  }
  return { offsets, timestamps };
}

/** Base64 texts back to back; a start of -1 for null and missing. */
function decodeTexts(
  records: readonly RawRecord[],
  field: "key" | "value",
  memory: EnvelopeMemory,
): { bytes: Buffer; starts: Int32Array; ends: Int32Array; malformed: ReadonlySet<number> } {
  const count = records.length;
  const starts = memory.ints(count);
  const ends = memory.ints(count);
  let room = 0;
  for (let i = 0; i < count; i++) {
    const text = records[i]![field];
    if (typeof text === "string") room += text.length;
  }
  const bytes = memory.bytes(room);
  const malformed = new Set<number>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    const text = records[i]![field];
    if (typeof text !== "string") {
      starts[i] = -1;
      ends[i] = -1;
      if (text !== null && text !== undefined) malformed.add(i);
      continue;
    }
    starts[i] = at;
    const written = bytes.write(text, at, "base64");
    if (written === decodedLength(text)) at += written;
    else {
      malformed.add(i);
      at += bytes.write(text, at, text.length, "utf8");
    }
    ends[i] = at;
  }
  memory.keepBytes(at);
  return { bytes: bytes.subarray(0, at), starts, ends, malformed };
}

const PADDING = 61;

/**
 * Bytes of a base64 text; -1 for a length that none has. Node leaves out what is no base64 without
 * a word, but then it writes fewer.
 */
function decodedLength(text: string): number {
  const { length } = text;
  if (length % 4 !== 0) return -1;
  if (length === 0 || text.charCodeAt(length - 1) !== PADDING) return (length / 4) * 3;
  return (length / 4) * 3 - (text.charCodeAt(length - 2) === PADDING ? 2 : 1);
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

/** Every field of a RawRecord is optional and unknown, so any object is one. */
function isRecord(value: unknown): value is RawRecord {
  return typeof value === "object" && value !== null;
}

function notAscending(from: EventPartition, offset: number): MillpondError {
  return badEnvelope(from.name, `offset ${offset} does not follow the one before it`);
}

function badEnvelope(name: string, found: string): MillpondError {
  return new MillpondError(
    "INPUT",
    `the Kafka event cannot be read: in "${name}", ${found}. Nothing of that partition was ` +
      "taken; let an event source mapping make the event",
  );
}
