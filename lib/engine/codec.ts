/**
 * Bytes in and out: the primitives that state chunks, partials and staged rows are written with.
 * Number columns use frame-of-reference packing (a minimum and 0, 1, 2 or 4 bytes a value), which
 * needs no entropy coder to be compact and costs a few nanoseconds a value.
 */
import { MillpondError } from "../errors.js";

const RAW_F64 = 8;
const U32_SPAN = 0xffffffff;

export class ByteWriter {
  bytes: Uint8Array;
  length = 0;
  private view: DataView;

  constructor(capacityBytes = 1024) {
    this.bytes = new Uint8Array(capacityBytes);
    this.view = new DataView(this.bytes.buffer);
  }

  /** A copy of what was written; the writer can be reused after `reset`. */
  finish(): Uint8Array {
    return this.bytes.slice(0, this.length);
  }

  reset(): void {
    this.length = 0;
  }

  reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, this.bytes.length * 2));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
    this.view = new DataView(grown.buffer);
  }

  u8(value: number): void {
    this.reserve(1);
    this.bytes[this.length++] = value;
  }

  u32(value: number): void {
    this.reserve(4);
    this.view.setUint32(this.length, value, true);
    this.length += 4;
  }

  f64(value: number): void {
    this.reserve(8);
    this.view.setFloat64(this.length, value, true);
    this.length += 8;
  }

  raw(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** Length-prefixed bytes. */
  block(bytes: Uint8Array): void {
    this.u32(bytes.length);
    this.raw(bytes);
  }

  text(value: string): void {
    this.block(Buffer.from(value, "utf8"));
  }

  /** `count` numbers; whole numbers of a narrow range take 0, 1, 2 or 4 bytes each, others 8. */
  column(values: Float64Array | Int32Array, count: number): void {
    let min = 0;
    let max = 0;
    let whole = true;
    if (count > 0) {
      min = values[0]!;
      max = min;
    }
    for (let i = 0; i < count; i++) {
      const value = values[i]!;
      if (value < min) min = value;
      if (value > max) max = value;
      if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
        whole = false;
        break;
      }
    }
    const width = !whole ? RAW_F64 : widthOf(max - min);
    this.u8(width);
    if (width !== RAW_F64) this.f64(min);
    this.reserve(width * count);
    this.pack(values, count, width, min);
  }

  private pack(values: Float64Array | Int32Array, count: number, width: number, min: number): void {
    const { bytes, view } = this;
    let at = this.length;
    if (width === 1) {
      for (let i = 0; i < count; i++) bytes[at++] = values[i]! - min;
    } else if (width === 2) {
      for (let i = 0; i < count; i++, at += 2) {
        const v = values[i]! - min;
        bytes[at] = v;
        bytes[at + 1] = v >>> 8;
      }
    } else if (width === 4) {
      for (let i = 0; i < count; i++, at += 4) view.setUint32(at, values[i]! - min, true);
    } else if (width === RAW_F64) {
      for (let i = 0; i < count; i++, at += 8) view.setFloat64(at, values[i]!, true);
    }
    this.length = at;
  }
}

function widthOf(span: number): number {
  if (span === 0) return 0;
  if (span <= 0xff) return 1;
  if (span <= 0xffff) return 2;
  return span <= U32_SPAN ? 4 : RAW_F64;
}

/** Reads what `ByteWriter` wrote; running past the end is a `STORAGE` error, never garbage. */
export class ByteReader {
  at = 0;
  readonly bytes: Uint8Array;
  private readonly view: DataView;

  constructor(bytes: Uint8Array) {
    // Never a Buffer: its `slice` would share memory where Uint8Array's copies.
    this.bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  private take(count: number): number {
    const at = this.at;
    if (at + count > this.bytes.length) {
      throw new MillpondError(
        "STORAGE",
        `stored data ends at byte ${this.bytes.length} where ${count} more were expected ` +
          `at ${at}: the object is damaged; restore it or start with a new output`,
      );
    }
    this.at = at + count;
    return at;
  }

  u8(): number {
    return this.bytes[this.take(1)]!;
  }

  u32(): number {
    return this.view.getUint32(this.take(4), true);
  }

  f64(): number {
    return this.view.getFloat64(this.take(8), true);
  }

  raw(count: number): Uint8Array {
    const at = this.take(count);
    return this.bytes.subarray(at, at + count);
  }

  block(): Uint8Array {
    return this.raw(this.u32());
  }

  text(): string {
    const block = this.block();
    return Buffer.from(block.buffer, block.byteOffset, block.byteLength).toString("utf8");
  }

  column(count: number): Float64Array {
    return this.columnInto(new Float64Array(count), count);
  }

  columnInto<T extends Float64Array | Int32Array>(out: T, count: number): T {
    const width = this.u8();
    const min = width === RAW_F64 ? 0 : this.f64();
    let at = this.take(width * count);
    const { bytes, view } = this;
    if (width === 0) {
      out.fill(min, 0, count);
    } else if (width === 1) {
      for (let i = 0; i < count; i++) out[i] = min + bytes[at++]!;
    } else if (width === 2) {
      for (let i = 0; i < count; i++, at += 2) out[i] = min + (bytes[at]! | (bytes[at + 1]! << 8));
    } else if (width === 4) {
      for (let i = 0; i < count; i++, at += 4) out[i] = min + view.getUint32(at, true);
    } else {
      for (let i = 0; i < count; i++, at += 8) out[i] = view.getFloat64(at, true);
    }
    return out;
  }
}
