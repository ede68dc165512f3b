/** Batches from plain rows, and comparable text from values: what sink tests are written in. */
import type { ColumnNode, ColumnType, ScalarType } from "../../lib/define/definition.js";
import type { Batch, Column, RowValue, Vector } from "../../lib/engine/batch.js";

export type Row = readonly RowValue[];

/** A batch with these rows; `columns` may end with `retracted`. */
export function batchOf(columns: readonly ColumnNode[], rows: readonly Row[]): Batch {
  return {
    rowCount: rows.length,
    columns: columns.map((column, index) =>
      columnOf(
        column,
        rows.map((row) => row[index]),
      ),
    ),
  };
}

function columnOf({ name, type }: ColumnNode, values: readonly RowValue[]): Column {
  const hasNull = values.includes(null);
  const valid = hasNull ? Uint8Array.from(values, (value) => (value === null ? 0 : 1)) : null;
  return { name, type, valid, vector: vectorOf(type, values) };
}

function vectorOf(type: ColumnType, values: readonly RowValue[]): Vector {
  switch (type.kind) {
    case "string":
    case "bytes":
      return bytesVector(values);
    case "bigint":
    case "decimal":
      return {
        kind: "int64",
        values: BigInt64Array.from(values, (v) => BigInt(v?.toString() ?? 0)),
      };
    case "list":
    case "topK":
      return { kind: "any", values: [...values] };
    default:
      return { kind: "number", values: Float64Array.from(values, Number) };
  }
}

/** With a gap between any two values, as slices of records have. */
function bytesVector(values: readonly RowValue[]): Vector {
  const parts = values.map((v) => (v instanceof Uint8Array ? v : Buffer.from(String(v ?? ""))));
  const starts = new Int32Array(values.length);
  const ends = new Int32Array(values.length);
  let end = 0;
  for (const [index, part] of parts.entries()) {
    starts[index] = end + 1;
    end += 1 + part.length;
    ends[index] = end;
  }
  const bytes = new Uint8Array(end);
  for (const [index, part] of parts.entries()) bytes.set(part, starts[index]);
  return { kind: "bytes", bytes, starts, ends };
}

/** SQL for a column in the same form as `plain`. */
export function plainSql({ name, type }: ColumnNode): string {
  const column = `"${name}"`;
  switch (type.kind) {
    case "timestamp":
      return `epoch_ms(${column})::VARCHAR AS ${column}`;
    case "bytes":
      return `lower(hex(${column})) AS ${column}`;
    case "list":
    case "topK":
      return `to_json(${column})::VARCHAR AS ${column}`;
    default:
      return `${column}::VARCHAR AS ${column}`;
  }
}

/** A value as text that does not depend on who wrote it; null stays null. */
export function plain(type: ColumnType, value: RowValue): string | null {
  if (value === null) return null;
  switch (type.kind) {
    case "decimal":
      return decimalText(BigInt(value.toString()), type);
    case "double":
      return /^-?\d+$/.test(`${value}`) ? `${value}.0` : `${value}`;
    case "bytes":
      return value instanceof Uint8Array ? Buffer.from(value).toString("hex") : null;
    case "list":
      return JSON.stringify(value, jsonValue(type.element));
    case "topK":
      return JSON.stringify(value, jsonValue(type.value));
    default:
      return String(value);
  }
}

function jsonValue(_type: ScalarType) {
  return (_key: string, value: unknown) => (typeof value === "bigint" ? Number(value) : value);
}

/** As DuckDB writes it: without a leading zero where the type has no digit before the point. */
function decimalText(unscaled: bigint, type: { precision: number; scale: number }): string {
  const { precision, scale } = type;
  const width = Math.min(precision, scale + 1);
  const digits = (unscaled < 0n ? -unscaled : unscaled).toString().padStart(width, "0");
  const sign = unscaled < 0n ? "-" : "";
  if (scale === 0) return sign + digits;
  return `${sign}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}
