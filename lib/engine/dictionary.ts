/**
 * Values to small integer codes and back, by their bytes: strings as UTF-8, numbers and 64-bit
 * integers as their 8 bytes. Group keys and distinct sets then work on integers only.
 */
import type { Column } from "./batch.js";
import type { ByteReader, ByteWriter } from "./codec.js";

/**
 * A column seen as bytes per row, for hashing and comparing. Without `starts`, row i is the 8 bytes
 * at 8 * i.
 */
export interface ByteRows {
  readonly bytes: Uint8Array;
  readonly starts: Int32Array | null;
  readonly ends: Int32Array | null;
}

/** Code of null. It is a value of its own in group keys and never enters a dictionary. */
export const NULL_CODE = -1;

export class Dictionary {
  count = 0;
  private arena = new Uint8Array(256);
  private arenaView = viewOf(this.arena);
  private arenaLength = 0;
  private ends = new Int32Array(32);
  private hashes = new Int32Array(32);
  private index = new Int32Array(64);

  /** Codes of the column's rows listed in `rows`; `out[row]` is set. New values are added. */
  encode(column: Column, rows: Int32Array, count: number, out: Int32Array): void {
    const source = byteRows(column);
    const view = viewOf(source.bytes);
    const { valid } = column;
    for (let i = 0; i < count; i++) {
      const row = rows[i]!;
      if (valid !== null && valid[row] === 0) {
        out[row] = NULL_CODE;
        continue;
      }
      const start = source.starts === null ? row * 8 : source.starts[row]!;
      const end = source.ends === null ? start + 8 : source.ends[row]!;
      out[row] = this.codeIn(view, start, end);
    }
  }

  /** The code of a known value, or -1; adds nothing. */
  lookup(bytes: Uint8Array, start: number, end: number): number {
    const view = viewOf(bytes);
    const hash = hashBytes(view, start, end);
    const mask = this.index.length - 1;
    for (let at = hash & mask; this.index[at] !== 0; at = (at + 1) & mask) {
      const code = this.index[at]! - 1;
      if (this.hashes[code] === hash && this.equals(code, view, start, end)) return code;
    }
    return NULL_CODE;
  }

  codeOf(bytes: Uint8Array, start: number, end: number): number {
    return this.codeIn(viewOf(bytes), start, end);
  }

  private codeIn(view: DataView, start: number, end: number): number {
    const hash = hashBytes(view, start, end);
    const mask = this.index.length - 1;
    let at = hash & mask;
    for (;;) {
      const found = this.index[at]!;
      if (found === 0) break;
      const code = found - 1;
      if (this.hashes[code] === hash && this.equals(code, view, start, end)) return code;
      at = (at + 1) & mask;
    }
    this.index[at] = this.count + 1;
    return this.append(view, start, end, hash);
  }

  startOf(code: number): number {
    return code === 0 ? 0 : this.ends[code - 1]!;
  }

  /** The bytes of a code; valid until the next insertion. */
  bytesOf(code: number): Uint8Array {
    return this.arena.subarray(this.startOf(code), this.ends[code]!);
  }

  numberOf(code: number): number {
    return readF64(this.arena, this.startOf(code));
  }

  int64Of(code: number): bigint {
    const at = this.startOf(code);
    return new DataView(this.arena.buffer).getBigInt64(at, true);
  }

  /** Unsigned byte order, as SQL compares UTF-8 strings. */
  compare(a: number, b: number): number {
    return a === b ? 0 : Buffer.compare(this.bytesOf(a), this.bytesOf(b));
  }

  /** Entries from `from` on. */
  write(writer: ByteWriter, from: number): void {
    const count = this.count - from;
    const lengths = new Int32Array(count);
    for (let i = 0; i < count; i++) lengths[i] = this.ends[from + i]! - this.startOf(from + i);
    writer.u32(count);
    writer.column(lengths, count);
    writer.block(this.arena.subarray(this.startOf(from), this.arenaLength));
  }

  /** The entries listed in `codes`, in that order. */
  writeCodes(writer: ByteWriter, codes: Int32Array, count: number): void {
    const lengths = new Int32Array(count);
    let total = 0;
    for (let i = 0; i < count; i++) {
      lengths[i] = this.ends[codes[i]!]! - this.startOf(codes[i]!);
      total += lengths[i]!;
    }
    writer.u32(count);
    writer.column(lengths, count);
    writer.u32(total);
    writer.reserve(total);
    let at = writer.length;
    for (let i = 0; i < count; i++) {
      const end = this.ends[codes[i]!]!;
      for (let from = this.startOf(codes[i]!); from < end; from++) {
        writer.bytes[at++] = this.arena[from]!;
      }
    }
    writer.length = at;
  }

  /** Adds written entries; returns the code here of each entry there. */
  read(reader: ByteReader): Int32Array {
    const count = reader.u32();
    const lengths = reader.columnInto(new Int32Array(count), count);
    const view = viewOf(reader.block());
    const codes = new Int32Array(count);
    let at = 0;
    for (let i = 0; i < count; i++) {
      codes[i] = this.codeIn(view, at, at + lengths[i]!);
      at += lengths[i]!;
    }
    return codes;
  }

  private equals(code: number, view: DataView, start: number, end: number): boolean {
    const from = this.startOf(code);
    return (
      this.ends[code]! - from === end - start && sameBytes(this.arenaView, from, view, start, end)
    );
  }

  private append(view: DataView, start: number, end: number, hash: number): number {
    const code = this.count++;
    const length = end - start;
    if (this.arenaLength + length > this.arena.length) {
      const grown = new Uint8Array(Math.max(this.arena.length * 2, this.arenaLength + length));
      grown.set(this.arena);
      this.arena = grown;
      this.arenaView = viewOf(grown);
    }
    const base = this.arenaLength;
    for (let i = 0; i < length; i++) this.arena[base + i] = view.getUint8(start + i);
    this.arenaLength += length;
    if (code >= this.ends.length) {
      this.ends = growInt32(this.ends, code + 1);
      this.hashes = growInt32(this.hashes, code + 1);
    }
    this.ends[code] = this.arenaLength;
    this.hashes[code] = hash;
    if (this.count * 2 > this.index.length) this.rehash();
    return code;
  }

  /** Forgets everything but keeps its room. */
  reset(): void {
    this.count = 0;
    this.arenaLength = 0;
    this.index.fill(0);
  }

  private rehash(): void {
    const index = new Int32Array(this.index.length * 4);
    const mask = index.length - 1;
    for (let code = 0; code < this.count; code++) {
      let at = this.hashes[code]! & mask;
      while (index[at] !== 0) at = (at + 1) & mask;
      index[at] = code + 1;
    }
    this.index = index;
  }
}

/** The dictionaries of one operator, and how much of them has been saved. */
export class DictionarySet {
  readonly all: readonly Dictionary[];
  private readonly savedCounts: number[];

  constructor(count: number) {
    this.all = Array.from({ length: count }, () => new Dictionary());
    this.savedCounts = this.all.map(() => 0);
  }

  /** New entries since the last save, or `all`. */
  write(writer: ByteWriter, all: boolean): void {
    this.all.forEach((dictionary, d) => {
      dictionary.write(writer, all ? 0 : this.savedCounts[d]!);
    });
  }

  saved(): void {
    this.all.forEach((dictionary, d) => {
      this.savedCounts[d] = dictionary.count;
    });
  }

  read(reader: ByteReader): void {
    for (const dictionary of this.all) dictionary.read(reader);
  }
}

/**
 * Multiply-mix over 4-byte words, of which the last may overlap the one before; a hash for tables
 * only, never stored.
 */
function hashBytes(view: DataView, start: number, end: number): number {
  let hash = (end - start) | 0;
  if (hash >= 4) {
    const last = end - 4;
    for (let i = start; i < last; i += 4) {
      hash = Math.imul(hash ^ view.getInt32(i, true), 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    hash = Math.imul(hash ^ view.getInt32(last, true), 0x9e3779b1);
  } else {
    for (let i = start; i < end; i++) hash = Math.imul(hash ^ view.getUint8(i), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return hash ^ (hash >>> 13);
}

/** Whether `a` from `from` on holds the bytes `b[start, end)`. */
export function sameBytes(
  a: DataView,
  from: number,
  b: DataView,
  start: number,
  end: number,
): boolean {
  const shift = from - start;
  if (end - start < 4) {
    for (let i = start; i < end; i++) if (a.getUint8(i + shift) !== b.getUint8(i)) return false;
    return true;
  }
  const last = end - 4;
  for (let i = start; i < last; i += 4) {
    if (a.getInt32(i + shift, true) !== b.getInt32(i, true)) return false;
  }
  return a.getInt32(last + shift, true) === b.getInt32(last, true);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function byteRows(column: Column): ByteRows {
  const { vector } = column;
  if (vector.kind === "bytes") return vector;
  if (vector.kind === "number") {
    // -0 and 0 are one value; adding 0 turns -0 into 0.
    for (let i = 0; i < vector.values.length; i++) vector.values[i] = vector.values[i]! + 0;
  }
  if (vector.kind === "any") return anyRows(vector.values);
  const { values } = vector;
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { bytes, starts: null, ends: null };
}

/** Lists have no 8-byte form: their JSON text stands for them. */
function anyRows(values: readonly unknown[]): ByteRows {
  const texts = values.map((value) => Buffer.from(JSON.stringify(value ?? null), "utf8"));
  const starts = new Int32Array(texts.length);
  const ends = new Int32Array(texts.length);
  let at = 0;
  texts.forEach((text, i) => {
    starts[i] = at;
    at += text.length;
    ends[i] = at;
  });
  return { bytes: Buffer.concat(texts), starts, ends };
}

const f64Scratch = new Float64Array(1);
const f64Bytes = new Uint8Array(f64Scratch.buffer);

function readF64(bytes: Uint8Array, at: number): number {
  for (let i = 0; i < 8; i++) f64Bytes[i] = bytes[at + i]!;
  return f64Scratch[0]!;
}

export function growInt32(array: Int32Array, needed: number): Int32Array<ArrayBuffer> {
  const grown = new Int32Array(Math.max(needed, array.length * 2));
  grown.set(array);
  return grown;
}

export function growF64(array: Float64Array, needed: number): Float64Array<ArrayBuffer> {
  const grown = new Float64Array(Math.max(needed, array.length * 2));
  grown.set(array);
  return grown;
}
