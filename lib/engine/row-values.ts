/**
 * Single values in and out of columns, for the places off the hot path (map, references, tests).
 */
import type { ColumnNode, ColumnType } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import type { Column, RowValue, Vector } from "./batch.js";

export function valueAt(column: Column, row: number): RowValue {
  if (column.valid !== null && column.valid[row] === 0) return null;
  const { vector } = column;
  if (vector.kind === "number") {
    const value = vector.values[row]!;
    return column.type.kind === "boolean" ? value === 1 : value;
  }
  if (vector.kind === "int64") return vector.values[row]!;
  if (vector.kind === "any") return vector.values[row] as RowValue;
  const bytes = vector.bytes.subarray(vector.starts[row]!, vector.ends[row]!);
  if (column.type.kind === "bytes") return bytes;
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
}

/** A column from plain values; a value of the wrong type is refused with the column's name. */
export function columnFromValues(node: ColumnNode, values: readonly unknown[]): Column {
  const valid = new Uint8Array(values.length);
  let nulls = 0;
  values.forEach((value, i) => {
    if (value !== null && value !== undefined) valid[i] = 1;
    else if (node.nullable) nulls++;
    else throw wrongValue(node, value);
  });
  const vector = vectorFrom(node, values);
  return { name: node.name, type: node.type, valid: nulls === 0 ? null : valid, vector };
}

/** NaN and bigints are none in JSON. */
function shown(value: unknown): string {
  if (typeof value === "bigint") return `${value}n`;
  return typeof value === "number" ? `${value}` : (JSON.stringify(value) ?? String(value));
}

function wrongValue(node: ColumnNode, value: unknown): MillpondError {
  const found = shown(value);
  const declared = `${node.type.kind}${node.nullable ? " or null" : ""}`;
  return new MillpondError(
    "DEFINITION",
    `column "${node.name}": a map function returned ${found.slice(0, 100)} where ` +
      `${declared} is declared; fix the function or its schema`,
  );
}

function vectorFrom(node: ColumnNode, values: readonly unknown[]): Vector {
  const present = (value: unknown): boolean => value !== null && value !== undefined;
  switch (node.type.kind) {
    case "string":
      return stringVector(values.map((value) => (present(value) ? textOf(node, value) : "")));
    case "bigint":
    case "decimal":
      return {
        kind: "int64",
        values: BigInt64Array.from(values, (v) => (present(v) ? wholeOf(node, v) : 0n)),
      };
    case "list":
    case "topK":
    case "bytes":
      return { kind: "any", values: [...values] };
    default:
      return {
        kind: "number",
        values: Float64Array.from(values, (v) => (present(v) ? numberOf(node, v) : 0)),
      };
  }
}

function stringVector(texts: readonly string[]): Vector {
  const parts = texts.map((text) => Buffer.from(text, "utf8"));
  const starts = new Int32Array(parts.length);
  const ends = new Int32Array(parts.length);
  let at = 0;
  parts.forEach((part, i) => {
    starts[i] = at;
    at += part.length;
    ends[i] = at;
  });
  return { kind: "bytes", bytes: Buffer.concat(parts), starts, ends };
}

function textOf(node: ColumnNode, value: unknown): string {
  if (typeof value !== "string") throw wrongValue(node, value);
  return value;
}

function wholeOf(node: ColumnNode, value: unknown): bigint {
  if (typeof value !== "bigint" || BigInt.asIntN(64, value) !== value)
    throw wrongValue(node, value);
  return value;
}

function numberOf(node: ColumnNode, value: unknown): number {
  if (node.type.kind === "boolean") {
    if (typeof value !== "boolean") throw wrongValue(node, value);
    return value ? 1 : 0;
  }
  const number = value instanceof Date ? value.getTime() : value;
  if (typeof number !== "number" || !Number.isFinite(number)) throw wrongValue(node, value);
  if (!fits(node.type, number)) throw wrongValue(node, value);
  return number;
}

function fits(type: ColumnType, value: number): boolean {
  if (type.kind === "int") return (value | 0) === value;
  return type.kind !== "timestamp" || Number.isInteger(value);
}
