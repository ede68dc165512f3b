/** Writes a query's rows for the command line: as a table, or in the formats of `lib/query`. */
import { createReadStream } from "node:fs";
import type { DuckDBResult } from "@duckdb/node-api";
import { DuckDBTypeId } from "../duckdb-api.js";
import { writeCsv, writeJson, writeText } from "../query/output.js";
import { textValue } from "../query/values.js";
import { textTable } from "./text-table.js";

const NUMBERS: ReadonlySet<DuckDBTypeId> = new Set([
  DuckDBTypeId.TINYINT,
  DuckDBTypeId.SMALLINT,
  DuckDBTypeId.INTEGER,
  DuckDBTypeId.BIGINT,
  DuckDBTypeId.UTINYINT,
  DuckDBTypeId.USMALLINT,
  DuckDBTypeId.UINTEGER,
  DuckDBTypeId.UBIGINT,
  DuckDBTypeId.HUGEINT,
  DuckDBTypeId.UHUGEINT,
  DuckDBTypeId.FLOAT,
  DuckDBTypeId.DOUBLE,
  DuckDBTypeId.DECIMAL,
]);
/** Where the output is no terminal, lines may be long. */
const WIDTH_OF_FILES = 1_000;
/** An EXPLAIN's answer is a drawing, which a table's cells would cut. */
const PLAN_COLUMNS = "explain_key,explain_value";

export async function writeRows(
  result: DuckDBResult,
  format: "table" | "json" | "csv",
  target: NodeJS.WritableStream,
  rowsShown: number,
): Promise<void> {
  if (format === "table") await writeTable(result, target, rowsShown);
  else if (format === "json") await writeJson(result, target);
  else await writeCsv(result, target);
}

async function writeTable(
  result: DuckDBResult,
  target: NodeJS.WritableStream,
  rowsShown: number,
): Promise<void> {
  const columns = result.columnNames().map((name, index) => ({
    name,
    isNumber: NUMBERS.has(result.columnTypeId(index)),
  }));
  const isPlan = columns.map(({ name }) => name).join() === PLAN_COLUMNS;
  const shown: (string | null)[][] = [];
  let total = 0;
  for await (const rows of result.yieldRows()) {
    for (const row of rows.slice(0, Math.max(0, rowsShown - total))) {
      shown.push(row.map(textValue));
    }
    total += rows.length;
  }
  if (isPlan) await writeText(target, shown.map(([, plan]) => `${plan}\n`).join(""));
  else await writeTextTable(columns, shown, total, target);
}

/** Rows that came as JSON, as a table. */
export async function writeObjects(
  rows: readonly Readonly<Record<string, unknown>>[],
  target: NodeJS.WritableStream,
  rowsShown: number,
): Promise<void> {
  const names = Object.keys(rows[0] ?? {});
  const columns = names.map((name) => {
    const values = rows.map((row) => row[name]).filter((value) => value !== null);
    return { name, isNumber: values.every((value) => typeof value === "number") };
  });
  const shown = rows.slice(0, rowsShown).map((row) => names.map((name) => cellText(row[name])));
  if (names.join() === PLAN_COLUMNS) {
    await writeText(target, shown.map(([, plan]) => `${plan}\n`).join(""));
  } else await writeTextTable(columns, shown, rows.length, target);
}

function cellText(value: unknown): string | null {
  if (value === null || value === undefined) return null;
  return typeof value === "string" ? value : JSON.stringify(value);
}

async function writeTextTable(
  columns: Parameters<typeof textTable>[0],
  shown: Parameters<typeof textTable>[1],
  total: number,
  target: NodeJS.WritableStream,
): Promise<void> {
  const isTTY = target === process.stdout && process.stdout.isTTY;
  const width = isTTY ? process.stdout.columns : WIDTH_OF_FILES;
  const color = isTTY && (process.env.NO_COLOR ?? "") === "";
  await writeText(target, textTable(columns, shown, { width, color }));
  const more = total - shown.length;
  if (more > 0) {
    await writeText(target, `… ${more} more ${more === 1 ? "row" : "rows"} (--limit)\n`);
  }
}

export async function copyFile(file: string, target: NodeJS.WritableStream): Promise<void> {
  for await (const bytes of createReadStream(file)) await writeText(target, bytes);
}
