/** Reads a DuckDB result as plain rows whose values follow `RowValue`, for comparisons. */
import {
  DuckDBBlobValue,
  type DuckDBConnection,
  DuckDBDecimalValue,
  DuckDBListValue,
  DuckDBStructValue,
  DuckDBTimestampTZValue,
  DuckDBTimestampValue,
  type DuckDBValue,
} from "@duckdb/node-api";
import type { RowValue } from "../../lib/engine/batch.js";
import { MillpondError } from "../../lib/errors.js";

export type Row = Readonly<Record<string, RowValue>>;

export async function readRows(connection: DuckDBConnection, sql: string): Promise<Row[]> {
  const reader = await connection.runAndReadAll(sql);
  const names = reader.columnNames();
  return reader
    .getRows()
    .map((values) => Object.fromEntries(names.map((name, i) => [name, rowValue(values[i])])));
}

function rowValue(value: DuckDBValue): RowValue {
  if (value === null || typeof value !== "object") return value;
  if (value instanceof DuckDBTimestampTZValue || value instanceof DuckDBTimestampValue) {
    return Number(value.micros / 1000n) - (value.micros % 1000n < 0n ? 1 : 0);
  }
  if (value instanceof DuckDBDecimalValue) return value.value;
  if (value instanceof DuckDBBlobValue) return value.bytes;
  if (value instanceof DuckDBListValue) return value.items.map(listItem);
  throw new MillpondError("QUERY", `No row value for ${value.constructor.name}; cast it in SQL.`);
}

function listItem(item: DuckDBValue): unknown {
  if (!(item instanceof DuckDBStructValue)) return rowValue(item);
  const entries = Object.entries(item.entries);
  return Object.fromEntries(entries.map(([name, value]) => [name, rowValue(value)]));
}
