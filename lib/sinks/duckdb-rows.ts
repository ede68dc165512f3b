/**
 * Batches into DuckDB: columns are copied into the memory of data chunks, which go to an appender.
 * Uses the bindings under node-api for that, because node-api sets values one by one.
 */
import { isUtf8 } from "node:buffer";
import type { DuckDBAppender, DuckDBConnection, DuckDBValue } from "@duckdb/node-api";
import duckdb, { type Vector as NativeVector } from "@duckdb/node-bindings";
import type { ColumnNode, ColumnType } from "../define/definition.js";
import {
  blobValue,
  DuckDBDataChunk,
  DuckDBDecimalValue,
  DuckDBTimestampTZValue,
  listValue,
  structValue,
} from "../duckdb-api.js";
import type { Batch, BytesVector, Column } from "../engine/batch.js";
import { MillpondError } from "../errors.js";
import { checkedColumns } from "./batch-columns.js";
import { duckdbType } from "./duckdb-types.js";

/** Rows in one of DuckDB's data chunks. */
const CHUNK_ROWS = 2048;
const TWO_POW_32 = 4_294_967_296;
/** What a list or topK value is taken to occupy; only for the estimate that bounds memory. */
const ANY_VALUE_BYTES = 64;

/** Appends batches to one DuckDB table. */
export class BatchAppender {
  readonly #table: string;
  readonly #columns: readonly ColumnNode[];
  readonly #appender: DuckDBAppender;
  readonly #chunk: DuckDBDataChunk;
  readonly #explain: (error: unknown) => Error;
  readonly #scratch = new Int32Array(CHUNK_ROWS * 2);
  readonly #validity = new Uint8Array(CHUNK_ROWS / 8);

  private constructor(
    table: string,
    columns: readonly ColumnNode[],
    appender: DuckDBAppender,
    explain: (error: unknown) => Error,
  ) {
    this.#table = table;
    this.#explain = explain;
    this.#columns = columns;
    this.#appender = appender;
    this.#chunk = DuckDBDataChunk.create(columns.map(({ type }) => duckdbType(type)));
  }

  /** `columns` are all columns of the table, in order; `explain` makes errors of DuckDB's. */
  static async open(
    connection: DuckDBConnection,
    table: { readonly catalog?: string; readonly name: string },
    columns: readonly ColumnNode[],
    explain: (error: unknown) => Error,
  ): Promise<BatchAppender> {
    const appender = await connection.createAppender(table.name, "main", table.catalog);
    return new BatchAppender(table.name, columns, appender, explain);
  }

  /**
   * Append all rows. Columns of the batch beyond the table's are left out; if it lacks the last
   * one (`retracted`), that is false. Returns about how many bytes were added.
   *
   * @throws MillpondError INVARIANT when the batch does not fit the table.
   */
  append(batch: Batch): number {
    const columns = checkedColumns(this.#table, this.#columns, batch);
    for (let from = 0; from < batch.rowCount; from += CHUNK_ROWS) {
      const count = Math.min(CHUNK_ROWS, batch.rowCount - from);
      this.#chunk.reset();
      this.#chunk.rowCount = count;
      for (let index = 0; index < columns.length; index++) {
        this.#writeColumn(index, columns[index], from, count);
      }
      this.#call(() => this.#appender.appendDataChunk(this.#chunk));
    }
    return estimateBytes(batch);
  }

  /** Hand over what is buffered; required before the table is read. */
  close(): void {
    this.#call(() => this.#appender.closeSync());
  }

  /**
   * After a failure: forget what is buffered. An appender that is merely dropped writes it when it
   * is garbage collected, after the rollback.
   */
  discard(): void {
    try {
      this.#appender.clear();
      this.#appender.closeSync();
    } catch {
      // The failure that led here is the one to tell.
    }
  }

  #call(work: () => void): void {
    try {
      work();
    } catch (error) {
      throw this.#explain(error);
    }
  }

  #writeColumn(index: number, column: Column, from: number, count: number): void {
    const native = duckdb.data_chunk_get_vector(this.#chunk.chunk, index);
    const { vector, valid } = column;
    if (vector.kind === "any") {
      const target = this.#chunk.getColumnVector(index);
      for (let i = 0; i < count; i++) {
        const isNull = valid !== null && valid[from + i] === 0;
        target.setItem(i, isNull ? null : duckdbValue(column.type, vector.values[from + i]));
      }
      target.flush();
      return;
    }
    if (valid !== null) this.#writeValidity(native, valid, from, count);
    if (vector.kind === "bytes") {
      writeBytes(native, vector, column.type, valid, from, count);
    } else if (vector.kind === "int64") {
      this.#writeInt64(native, column.type, vector.values, from, count);
    } else this.#writeNumbers(native, column.type, vector.values, from, count);
  }

  #writeValidity(native: NativeVector, valid: Uint8Array, from: number, count: number): void {
    const bits = this.#validity.fill(0);
    for (let i = 0; i < count; i++) if (valid[from + i] !== 0) bits[i >> 3] |= 1 << (i & 7);
    duckdb.vector_ensure_validity_writable(native);
    const byteCount = Math.ceil(count / 64) * 8;
    duckdb.copy_data_to_vector_validity(native, 0, bits.buffer, 0, byteCount);
  }

  #writeNumbers(
    native: NativeVector,
    type: ColumnType,
    values: Float64Array,
    from: number,
    count: number,
  ): void {
    const scratch = this.#scratch;
    let byteCount = count * 4;
    if (type.kind === "timestamp") {
      byteCount = count * 8;
      for (let i = 0; i < count; i++) writeMicros(scratch, i * 2, values[from + i]);
    } else if (type.kind === "boolean") {
      byteCount = count;
      const bytes = new Uint8Array(scratch.buffer);
      for (let i = 0; i < count; i++) bytes[i] = values[from + i] === 1 ? 1 : 0;
    } else if (type.kind === "int") {
      for (let i = 0; i < count; i++) scratch[i] = values[from + i];
    } else {
      copyOut(native, values, from, count);
      return;
    }
    duckdb.copy_data_to_vector(native, 0, scratch.buffer, 0, byteCount);
  }

  /** A decimal's storage depends on its precision: up to 4 digits int16, up to 9 int32. */
  #writeInt64(
    native: NativeVector,
    type: ColumnType,
    values: BigInt64Array,
    from: number,
    count: number,
  ): void {
    if (type.kind !== "decimal" || type.precision > 9) {
      copyOut(native, values, from, count);
      return;
    }
    const { buffer } = this.#scratch;
    const narrow = type.precision <= 4 ? new Int16Array(buffer) : new Int32Array(buffer);
    for (let i = 0; i < count; i++) narrow[i] = Number(values[from + i]);
    duckdb.copy_data_to_vector(native, 0, buffer, 0, count * narrow.BYTES_PER_ELEMENT);
  }
}

function copyOut(
  native: NativeVector,
  values: Float64Array | BigInt64Array,
  from: number,
  count: number,
): void {
  // The bindings take an ArrayBuffer; a shared one (worker threads) is copied.
  const { buffer, byteOffset } = values;
  if (buffer instanceof ArrayBuffer) {
    duckdb.copy_data_to_vector(native, 0, buffer, byteOffset + from * 8, count * 8);
  } else {
    const copy = values.slice(from, from + count);
    duckdb.copy_data_to_vector(native, 0, new Uint8Array(copy.buffer).slice().buffer, 0, count * 8);
  }
}

/**
 * DuckDB's `duckdb_string_t` (duckdb.h), of strings and blobs alike: a length, and up to 12 bytes,
 * or of longer values the first four and the address of all.
 */
const STRING_BYTES = 16;
const INLINE_BYTES_MAX = 12;
const PREFIX_BYTES = 4;
const strings = new Uint8Array(CHUNK_ROWS * STRING_BYTES);
const stringWords = new Uint32Array(strings.buffer);

/**
 * The values of a chunk mostly stand together in one stretch of a slice: one call hands that over,
 * and the values are addresses in it. A call a value would take most of the time of all sinks.
 */
function writeBytes(
  native: NativeVector,
  vector: BytesVector,
  type: ColumnType,
  valid: Uint8Array | null,
  from: number,
  count: number,
): void {
  const { bytes, starts, ends } = vector;
  const isSet = (row: number) => valid === null || valid[row] !== 0;
  let [first, last, total] = [Number.POSITIVE_INFINITY, 0, 0];
  for (let row = from; row < from + count; row++) {
    const length = ends[row] - starts[row];
    if (length <= INLINE_BYTES_MAX || !isSet(row)) continue;
    if (starts[row] < first) first = starts[row];
    if (ends[row] > last) last = ends[row];
    total += length;
  }
  const isDense = total > 0 && last - first <= 2 * total;
  // DuckDB refuses text that is none; between the values there may be any bytes.
  const stretch = isDense ? bytes.subarray(first, last) : null;
  const isShared = stretch !== null && (type.kind !== "string" || isUtf8(stretch));
  const address = isShared ? placeInHeap(native, stretch) - first : 0;
  strings.fill(0, 0, count * STRING_BYTES);
  for (let i = 0; i < count; i++) {
    const row = from + i;
    if (isSet(row)) writeString(i, bytes, starts[row], ends[row], address);
  }
  duckdb.copy_data_to_vector(native, 0, strings.buffer, 0, count * STRING_BYTES);
  if (isShared || total === 0) return;
  for (let i = 0; i < count; i++) {
    const [start, end] = [starts[from + i], ends[from + i]];
    if (end - start <= INLINE_BYTES_MAX || !isSet(from + i)) continue;
    duckdb.vector_assign_string_element_len(native, i, bytes.subarray(start, end));
  }
}

/** `address` is where byte 0 of `bytes` would be. */
function writeString(
  index: number,
  bytes: Uint8Array,
  start: number,
  end: number,
  address: number,
): void {
  const length = end - start;
  const isInline = length <= INLINE_BYTES_MAX;
  stringWords[index * 4] = length;
  let at = index * STRING_BYTES + 4;
  const copyEnd = isInline ? end : start + PREFIX_BYTES;
  for (let byte = start; byte < copyEnd; byte++) strings[at++] = bytes[byte];
  if (isInline) return;
  stringWords[index * 4 + 2] = (address + start) % TWO_POW_32;
  stringWords[index * 4 + 3] = Math.floor((address + start) / TWO_POW_32);
}

/** Copies the bytes into the vector's own heap; where to. Addresses have at most 48 bits. */
function placeInHeap(native: NativeVector, bytes: Uint8Array): number {
  duckdb.vector_assign_string_element_len(native, 0, bytes);
  const { buffer, byteOffset } = duckdb.vector_get_data(native, STRING_BYTES);
  const view = new DataView(buffer, byteOffset, STRING_BYTES);
  if (view.getUint32(0, true) === bytes.length) {
    return view.getUint32(8, true) + view.getUint32(12, true) * TWO_POW_32;
  }
  throw new MillpondError(
    "INVARIANT",
    `DuckDB took ${view.getUint32(0, true)} of ${bytes.length} bytes of a column. This is a bug ` +
      "in Millpond: report it.",
  );
}

/** Epoch ms as 64-bit microseconds, in two halves: exact, and without a BigInt per value. */
function writeMicros(target: Int32Array, at: number, ms: number): void {
  const high = Math.floor(ms / TWO_POW_32);
  const low = (ms - high * TWO_POW_32) * 1000;
  const carry = Math.floor(low / TWO_POW_32);
  target[at] = low - carry * TWO_POW_32;
  target[at + 1] = high * 1000 + carry;
}

/** A `RowValue` of this type as node-api takes it. */
function duckdbValue(type: ColumnType, value: unknown): DuckDBValue {
  if (value === null || value === undefined) return null;
  if (type.kind === "list" && Array.isArray(value)) {
    return listValue(value.map((element) => duckdbValue(type.element, element)));
  }
  if (type.kind === "topK" && Array.isArray(value)) {
    return listValue(
      value.map((item: { value: unknown; count: unknown }) =>
        structValue({ value: duckdbValue(type.value, item.value), count: BigInt(`${item.count}`) }),
      ),
    );
  }
  if (typeof value === "bigint") {
    return type.kind === "decimal"
      ? new DuckDBDecimalValue(value, type.precision, type.scale)
      : value;
  }
  if (typeof value === "number") {
    return type.kind === "timestamp" ? new DuckDBTimestampTZValue(BigInt(value) * 1000n) : value;
  }
  if (typeof value === "string" || typeof value === "boolean") return value;
  if (value instanceof Uint8Array) return blobValue(value);
  throw new MillpondError(
    "INVARIANT",
    `Found a ${typeof value} where a value of type ${type.kind} was expected. This is a bug in ` +
      "Millpond: report it.",
  );
}

function estimateBytes(batch: Batch): number {
  let bytes = 0;
  for (const { vector } of batch.columns) {
    if (vector.kind === "bytes") {
      const { starts, ends } = vector;
      // DuckDB keeps 16 bytes a string, and the text.
      bytes += batch.rowCount * 16;
      for (let i = 0; i < batch.rowCount; i++) bytes += ends[i] - starts[i];
    } else bytes += batch.rowCount * (vector.kind === "any" ? ANY_VALUE_BYTES : 8);
  }
  return bytes;
}
