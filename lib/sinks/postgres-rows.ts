/**
 * Batches as the rows of PostgreSQL's COPY in binary format, in which numbers, times and texts are
 * exact and nothing is quoted. (PostgreSQL's manual, "COPY", and the types' send functions.)
 */
import type { ColumnType, ScalarType } from "../define/definition.js";
import type { BytesVector, Column } from "../engine/batch.js";
import { MillpondError } from "../errors.js";
import { jsonText } from "./kafka-rows.js";

/** "PGCOPY\n\xff\r\n\0", no flags, no extension of the header. */
const HEADER = Buffer.from("5047434f50590aff0d0a000000000000000000", "hex");
const BLOCK_BYTES = 256 * 1024;
const NULL_LENGTH = -1;
const TWO_POW_32 = 4_294_967_296;

/** PostgreSQL counts from 2000-01-01, in microseconds. */
const EPOCH_MS = 946_684_800_000;
/** Its first moment, 4714-11-24 BC; what is before is -infinity. */
const FIRST_MS = -210_866_803_200_000;
const MINUS_INFINITY = [-0x8000_0000, 0] as const;

/** The types' numbers in PostgreSQL's catalogue, which never change. */
const OIDS: Readonly<Record<ScalarType["kind"], number>> = {
  string: 25,
  boolean: 16,
  int: 23,
  bigint: 20,
  double: 701,
  decimal: 1700,
  timestamp: 1184,
};

/** One COPY under way: rows go in, its bytes come out. */
export class CopyRows {
  readonly #bytes = new Bytes();

  constructor() {
    this.#bytes.raw(HEADER);
  }

  get byteLength(): number {
    return this.#bytes.byteLength;
  }

  /** Appends all rows; the columns have passed `checkedColumns`. */
  append(columns: readonly Column[], rowCount: number): void {
    const bytes = this.#bytes;
    const writers = columns.map((column) => writerOf(bytes, column));
    for (let row = 0; row < rowCount; row++) {
      bytes.int16(writers.length);
      for (const write of writers) write(row);
    }
  }

  /** Ends it; its blocks in order. */
  finish(): readonly Buffer[] {
    this.#bytes.int16(-1);
    return this.#bytes.blocks();
  }
}

/** A growing row of blocks, big-endian. */
class Bytes {
  readonly #full: Buffer[] = [];
  #fullBytes = 0;
  #block = Buffer.allocUnsafe(BLOCK_BYTES);
  #at = 0;

  get byteLength(): number {
    return this.#fullBytes + this.#at;
  }

  blocks(): readonly Buffer[] {
    return [...this.#full, this.#block.subarray(0, this.#at)];
  }

  int16(value: number): void {
    this.#reserve(2);
    this.#at = this.#block.writeInt16BE(value, this.#at);
  }

  int32(value: number): void {
    this.#reserve(4);
    this.#at = this.#block.writeInt32BE(value, this.#at);
  }

  /** `high` signed, `low` signed or not. */
  int64(high: number, low: number): void {
    this.#reserve(8);
    this.#at = this.#block.writeInt32BE(high, this.#at);
    this.#at = this.#block.writeInt32BE(low | 0, this.#at);
  }

  double(value: number): void {
    this.#reserve(8);
    this.#at = this.#block.writeDoubleBE(value, this.#at);
  }

  byte(value: number): void {
    this.#reserve(1);
    this.#block[this.#at++] = value;
  }

  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#block.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #reserve(byteCount: number): void {
    if (this.#at + byteCount <= this.#block.length) return;
    this.#full.push(this.#block.subarray(0, this.#at));
    this.#fullBytes += this.#at;
    this.#block = Buffer.allocUnsafe(Math.max(BLOCK_BYTES, byteCount));
    this.#at = 0;
  }
}

/** Writes one row's value of the column: its length, then itself. */
function writerOf(bytes: Bytes, { type, valid, vector }: Column): (row: number) => void {
  const write = presentWriter(bytes, type, vector);
  if (valid === null) return write;
  return (row) => {
    if (valid[row] === 0) bytes.int32(NULL_LENGTH);
    else write(row);
  };
}

function presentWriter(
  bytes: Bytes,
  type: ColumnType,
  vector: Column["vector"],
): (row: number) => void {
  switch (vector.kind) {
    case "number":
      return numberWriter(bytes, type, vector.values);
    case "int64":
      return int64Writer(bytes, type, vector.values);
    case "bytes":
      return type.kind === "bytes" ? rawWriter(bytes, vector) : textWriter(bytes, vector);
    case "any":
      return (row) => writeValue(bytes, type, vector.values[row]);
  }
}

function numberWriter(bytes: Bytes, type: ColumnType, values: Float64Array) {
  switch (type.kind) {
    case "timestamp":
      return (row: number) => writeTimestamp(bytes, values[row]!);
    case "boolean":
      return (row: number) => writeBoolean(bytes, values[row] === 1);
    case "int":
      return (row: number) => {
        bytes.int32(4);
        bytes.int32(values[row]!);
      };
    default:
      return (row: number) => {
        bytes.int32(8);
        bytes.double(values[row]!);
      };
  }
}

function int64Writer(bytes: Bytes, type: ColumnType, values: BigInt64Array) {
  if (type.kind === "decimal") {
    return (row: number) => writeDecimal(bytes, values[row]!, type.scale);
  }
  const halves = new Int32Array(values.buffer, values.byteOffset, values.length * 2);
  return (row: number) => {
    bytes.int32(8);
    bytes.int64(halves[2 * row + 1]!, halves[2 * row]!);
  };
}

function rawWriter(bytes: Bytes, { bytes: from, starts, ends }: BytesVector) {
  return (row: number) => {
    bytes.int32(ends[row]! - starts[row]!);
    bytes.raw(from.subarray(starts[row], ends[row]));
  };
}

function textWriter(bytes: Bytes, vector: BytesVector) {
  const write = rawWriter(bytes, vector);
  // Two quick searches of what all rows share, instead of one of each row's.
  const { starts, ends } = vector;
  const { buffer, byteOffset, byteLength } = vector.bytes;
  const all = Buffer.from(buffer, byteOffset, byteLength);
  if (!all.includes(0) && !all.includes("␀")) return write;
  return (row: number) => writeText(bytes, all.toString("utf8", starts[row], ends[row]));
}

/**
 * Text as PostgreSQL can hold it, which has no U+0000: that becomes `␀0`, and `␀` becomes `␀␀`, so
 * that texts which differ still do.
 */
export function storableText(text: string): string {
  return text.replace(/[\0␀]/g, (found) => (found === "\0" ? "␀0" : "␀␀"));
}

function writeText(bytes: Bytes, text: string): void {
  const stored = Buffer.from(storableText(text));
  bytes.int32(stored.length);
  bytes.raw(stored);
}

function writeBoolean(bytes: Bytes, value: boolean): void {
  bytes.int32(1);
  bytes.byte(value ? 1 : 0);
}

/** Epoch ms as 64-bit microseconds, in two halves: exact, and without a BigInt per value. */
function writeTimestamp(bytes: Bytes, epochMs: number): void {
  bytes.int32(8);
  if (epochMs < FIRST_MS) {
    bytes.int64(...MINUS_INFINITY);
    return;
  }
  const ms = epochMs - EPOCH_MS;
  const high = Math.floor(ms / TWO_POW_32);
  const low = (ms - high * TWO_POW_32) * 1000;
  const carry = Math.floor(low / TWO_POW_32);
  bytes.int64(high * 1000 + carry, low - carry * TWO_POW_32);
}

/** Four decimal digits at a time, counted from the point, without zeros at either end. */
function writeDecimal(bytes: Bytes, unscaled: bigint, scale: number): void {
  const text = (unscaled < 0n ? -unscaled : unscaled).toString().padStart(scale + 1, "0");
  const whole = text.slice(0, text.length - scale);
  const fraction = text.slice(text.length - scale);
  const wholeDigits = whole.padStart(Math.ceil(whole.length / 4) * 4, "0");
  const digits = wholeDigits + fraction.padEnd(Math.ceil(scale / 4) * 4, "0");
  const groups = digits.match(/\d{4}/g)!.map(Number);
  let weight = wholeDigits.length / 4 - 1;
  while (groups[0] === 0) {
    groups.shift();
    weight--;
  }
  while (groups.at(-1) === 0) groups.pop();
  bytes.int32(8 + 2 * groups.length);
  bytes.int16(groups.length);
  bytes.int16(groups.length === 0 ? 0 : weight);
  bytes.int16(unscaled < 0n ? 0x4000 : 0);
  bytes.int16(scale);
  for (const group of groups) bytes.int16(group);
}

/** A `RowValue` of this type. */
function writeValue(bytes: Bytes, type: ColumnType, value: unknown): void {
  if (value === null || value === undefined) bytes.int32(NULL_LENGTH);
  else if (Array.isArray(value)) writeItems(bytes, type, value);
  else if (typeof value === "string") writeText(bytes, value);
  else if (typeof value === "boolean") writeBoolean(bytes, value);
  else if (type.kind === "bigint" || type.kind === "decimal") {
    int64Writer(bytes, type, BigInt64Array.of(BigInt(String(value))))(0);
  } else if (typeof value === "number") numberWriter(bytes, type, Float64Array.of(value))(0);
  else throw unexpected(type, value);
}

function writeItems(bytes: Bytes, type: ColumnType, items: readonly unknown[]): void {
  if (type.kind === "list") writeArray(bytes, type.element, items);
  else if (type.kind === "topK") writeTop(bytes, type, items);
  else throw unexpected(type, items);
}

function unexpected(type: ColumnType, value: unknown): MillpondError {
  return new MillpondError(
    "INVARIANT",
    `Found a ${typeof value} where a value of type ${type.kind} was expected. This is a bug in ` +
      "Millpond: report it.",
  );
}

/** Dimensions, whether there are nulls, the type; then length and lower bound, and the elements. */
function writeArray(bytes: Bytes, element: ScalarType, values: readonly unknown[]): void {
  const content = new Bytes();
  content.int32(values.length === 0 ? 0 : 1);
  content.int32(values.some((value) => value === null) ? 1 : 0);
  content.int32(OIDS[element.kind]);
  if (values.length > 0) {
    content.int32(values.length);
    content.int32(1);
  }
  for (const value of values) writeValue(content, element, value);
  bytes.int32(content.byteLength);
  for (const block of content.blocks()) bytes.raw(block);
}

/** As jsonb, whose first byte is its version. */
function writeTop(
  bytes: Bytes,
  type: ColumnType & { readonly kind: "topK" },
  items: readonly unknown[],
): void {
  const storable = items.map((item) => {
    const isObject = typeof item === "object" && item !== null;
    if (!isObject || !("value" in item) || typeof item.value !== "string") return item;
    return { ...item, value: storableText(item.value) };
  });
  const text = Buffer.from(jsonText(type, storable));
  bytes.int32(1 + text.length);
  bytes.byte(1);
  bytes.raw(text);
}
