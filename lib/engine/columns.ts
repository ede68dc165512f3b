/**
 * Small building blocks over columns: picking rows, constants, and the shape of a table's result.
 */
import type { ColumnNode, ColumnType } from "../define/definition.js";
import type { Column, Vector } from "./batch.js";

/** The rows `rows[0..count)` of a column, in that order. String bytes are shared, not copied. */
export function gather(column: Column, rows: Int32Array, count: number): Column {
  const { name, type, vector } = column;
  let valid: Uint8Array | null = null;
  if (column.valid !== null) {
    valid = new Uint8Array(count);
    for (let i = 0; i < count; i++) valid[i] = column.valid[rows[i]!]!;
  }
  return { name, type, valid, vector: gatherVector(vector, rows, count) };
}

function gatherVector(vector: Vector, rows: Int32Array, count: number): Vector {
  if (vector.kind === "number") {
    const values = new Float64Array(count);
    for (let i = 0; i < count; i++) values[i] = vector.values[rows[i]!]!;
    return { kind: "number", values };
  }
  if (vector.kind === "int64") {
    const values = new BigInt64Array(count);
    for (let i = 0; i < count; i++) values[i] = vector.values[rows[i]!]!;
    return { kind: "int64", values };
  }
  if (vector.kind === "any") {
    return {
      kind: "any",
      values: Array.from({ length: count }, (_, i) => vector.values[rows[i]!]),
    };
  }
  const starts = new Int32Array(count);
  const ends = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    starts[i] = vector.starts[rows[i]!]!;
    ends[i] = vector.ends[rows[i]!]!;
  }
  return { kind: "bytes", bytes: vector.bytes, starts, ends };
}

export function numberColumn(name: string, type: ColumnType, values: Float64Array): Column {
  return { name, type, valid: null, vector: { kind: "number", values } };
}

/** Numbers, with NaN as null. */
export function nullableNumberColumn(name: string, type: ColumnType, values: Float64Array): Column {
  const valid = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) valid[i] = Number.isNaN(values[i]!) ? 0 : 1;
  return { name, type, valid, vector: { kind: "number", values } };
}

/** Whole numbers below 2^53 as a 64-bit column. */
export function bigintColumn(name: string, values: Float64Array, count: number): Column {
  const wide = new BigInt64Array(count);
  const halves = new Uint32Array(wide.buffer);
  for (let i = 0; i < count; i++) {
    const value = values[i]!;
    halves[2 * i] = value;
    halves[2 * i + 1] = Math.floor(value / 4294967296);
  }
  return { name, type: { kind: "bigint" }, valid: null, vector: { kind: "int64", values: wide } };
}

/** One of a few texts by row. */
export function textColumn(
  name: string,
  texts: readonly string[],
  count: number,
  which: (row: number) => number,
): Column {
  const parts = texts.map((text) => Buffer.from(text, "utf8"));
  const offsets = [0];
  for (const part of parts) offsets.push(offsets[offsets.length - 1]! + part.length);
  const starts = new Int32Array(count);
  const ends = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    const text = which(i);
    starts[i] = offsets[text]!;
    ends[i] = offsets[text + 1]!;
  }
  const vector: Vector = { kind: "bytes", bytes: Buffer.concat(parts), starts, ends };
  return { name, type: { kind: "string" }, valid: null, vector };
}

export function columnNode(name: string, type: ColumnType, nullable: boolean): ColumnNode {
  return { name, type, nullable };
}
