/** Writes a query's rows as a table, JSON or CSV, chunk by chunk. */
import { createReadStream } from "node:fs";
import { type DuckDBResult, DuckDBTypeId } from "@duckdb/node-api";
import { jsonValue, textValue } from "./query-values.js";
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
  const shown: (string | null)[][] = [];
  let total = 0;
  for await (const rows of result.yieldRows()) {
    for (const row of rows.slice(0, Math.max(0, rowsShown - total))) {
      shown.push(row.map(textValue));
    }
    total += rows.length;
  }
  const isTTY = target === process.stdout && process.stdout.isTTY;
  const width = isTTY ? process.stdout.columns : WIDTH_OF_FILES;
  const color = isTTY && (process.env.NO_COLOR ?? "") === "";
  await write(target, textTable(columns, shown, { width, color }));
  const more = total - shown.length;
  if (more > 0) await write(target, `… ${more} more ${more === 1 ? "row" : "rows"} (--limit)\n`);
}

async function writeJson(result: DuckDBResult, target: NodeJS.WritableStream): Promise<void> {
  const names = result.deduplicatedColumnNames();
  let separator = "[\n";
  for await (const rows of result.yieldRows()) {
    let text = "";
    for (const row of rows) {
      const cells = row.map((value, index) => [names[index]!, jsonValue(value)]);
      text += `${separator}${JSON.stringify(Object.fromEntries(cells))}`;
      separator = ",\n";
    }
    await write(target, text);
  }
  await write(target, separator === "[\n" ? "[]\n" : "\n]\n");
}

/** RFC 4180; null is empty, an empty string is quoted. */
async function writeCsv(result: DuckDBResult, target: NodeJS.WritableStream): Promise<void> {
  await write(target, csvLine(result.columnNames()));
  for await (const rows of result.yieldRows()) {
    await write(target, rows.map((row) => csvLine(row.map(textValue))).join(""));
  }
}

function csvLine(cells: readonly (string | null)[]): string {
  return `${cells.map(csvCell).join(",")}\r\n`;
}

function csvCell(text: string | null): string {
  if (text === null) return "";
  return text === "" || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export async function copyFile(file: string, target: NodeJS.WritableStream): Promise<void> {
  for await (const bytes of createReadStream(file)) await write(target, bytes);
}

/** Waits until the target took the text, so that memory stays bounded when it is slow. */
async function write(target: NodeJS.WritableStream, content: string | Uint8Array): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    target.write(content, (error) => (error ? reject(error) : resolve()));
  });
}
