/** A batch of columns as bytes: how rows wait for a sink. */
import type { ColumnType } from "../define/definition.js";
import type { Batch, BytesVector, Column, Vector } from "./batch.js";
import { ByteReader, ByteWriter } from "./codec.js";

const KINDS = ["bytes", "number", "int64", "any"] as const;

export function encodeBatch(batch: Batch, writer = new ByteWriter(4096)): Uint8Array {
  writer.reset();
  writer.u32(batch.rowCount);
  writer.u32(batch.columns.length);
  for (const column of batch.columns) encodeColumn(writer, column, batch.rowCount);
  return writer.finish();
}

function encodeColumn(writer: ByteWriter, column: Column, count: number): void {
  writer.text(column.name);
  writer.text(JSON.stringify(column.type));
  writer.u8(KINDS.indexOf(column.vector.kind));
  writer.u8(column.valid === null ? 0 : 1);
  if (column.valid !== null) writer.raw(column.valid.subarray(0, count));
  const { vector } = column;
  if (vector.kind === "number") writer.column(vector.values, count);
  else if (vector.kind === "bytes") encodeBytes(writer, vector, column.valid, count);
  else if (vector.kind === "int64") {
    const { buffer, byteOffset } = vector.values;
    writer.raw(new Uint8Array(buffer, byteOffset, count * 8));
  } else writer.text(JSON.stringify(vector.values.slice(0, count), replacer));
}

function encodeBytes(
  writer: ByteWriter,
  vector: BytesVector,
  valid: Uint8Array | null,
  count: number,
): void {
  const lengths = new Float64Array(count);
  let total = 0;
  for (let i = 0; i < count; i++) {
    lengths[i] = valid !== null && valid[i] === 0 ? 0 : vector.ends[i]! - vector.starts[i]!;
    total += lengths[i]!;
  }
  writer.column(lengths, count);
  writer.u32(total);
  writer.reserve(total);
  const { bytes } = vector;
  for (let i = 0; i < count; i++) {
    const length = lengths[i]!;
    const start = vector.starts[i]!;
    const at = writer.length;
    // Short values are faster byte by byte than by a call into memcpy.
    if (length > 64) writer.bytes.set(bytes.subarray(start, start + length), at);
    else for (let j = 0; j < length; j++) writer.bytes[at + j] = bytes[start + j]!;
    writer.length = at + length;
  }
}

export function decodeBatch(bytes: Uint8Array): Batch {
  const reader = new ByteReader(bytes);
  const rowCount = reader.u32();
  const columnCount = reader.u32();
  const columns: Column[] = [];
  for (let c = 0; c < columnCount; c++) columns.push(decodeColumn(reader, rowCount));
  return { rowCount, columns };
}

function decodeColumn(reader: ByteReader, count: number): Column {
  const name = reader.text();
  const type = JSON.parse(reader.text()) as ColumnType;
  const kind = KINDS[reader.u8()]!;
  const valid = reader.u8() === 1 ? reader.raw(count).slice() : null;
  return { name, type, valid, vector: decodeVector(reader, kind, count) };
}

function decodeVector(reader: ByteReader, kind: (typeof KINDS)[number], count: number): Vector {
  if (kind === "number") return { kind, values: reader.column(count) };
  if (kind === "int64") {
    const copy = reader.raw(count * 8).slice();
    return { kind, values: new BigInt64Array(copy.buffer, 0, count) };
  }
  if (kind === "any") return { kind, values: JSON.parse(reader.text(), reviver) as unknown[] };
  const lengths = reader.column(count);
  const bytes = reader.block();
  const starts = new Int32Array(count);
  const ends = new Int32Array(count);
  let at = 0;
  for (let i = 0; i < count; i++) {
    starts[i] = at;
    at += lengths[i]!;
    ends[i] = at;
  }
  return { kind, bytes, starts, ends };
}

/** JSON has no bigint: it travels as `{"$int": "…"}`. */
function replacer(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? { $int: value.toString() } : value;
}

function reviver(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("$int" in value)) return value;
  return BigInt(String(value.$int));
}
