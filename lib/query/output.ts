/** Writes a query's rows as JSON or CSV, chunk by chunk. */
import type { DuckDBResult, DuckDBValue } from "@duckdb/node-api";
import { jsonValue, textValue } from "./values.js";

/** Text is handed on in pieces of about this size, however large a chunk of rows is. */
const PIECE_CHARS = 64 * 1024;

/** An array of objects; names that appear twice get a number. */
export async function writeJson(
  result: DuckDBResult,
  target: NodeJS.WritableStream,
): Promise<void> {
  const names = result.deduplicatedColumnNames();
  let separator = "[\n";
  await writeRows(result, target, (row) => {
    const cells = row.map((value, index) => [names[index]!, jsonValue(value)]);
    const text = `${separator}${JSON.stringify(Object.fromEntries(cells))}`;
    separator = ",\n";
    return text;
  });
  await writeText(target, separator === "[\n" ? "[]\n" : "\n]\n");
}

/** RFC 4180; null is empty, an empty string is quoted. */
export async function writeCsv(result: DuckDBResult, target: NodeJS.WritableStream): Promise<void> {
  await writeText(target, csvLine(result.columnNames()));
  await writeRows(result, target, (row) => csvLine(row.map(textValue)));
}

/** Row by row, so that of a chunk with large values no more is in memory than DuckDB's own. */
async function writeRows(
  result: DuckDBResult,
  target: NodeJS.WritableStream,
  textOf: (row: readonly DuckDBValue[]) => string,
): Promise<void> {
  for await (const chunk of result) {
    const vectors = Array.from({ length: chunk.columnCount }, (_, c) => chunk.getColumnVector(c));
    let text = "";
    for (let row = 0; row < chunk.rowCount; row++) {
      text += textOf(vectors.map((vector) => vector.getItem(row)));
      if (text.length < PIECE_CHARS) continue;
      await writeText(target, text);
      text = "";
    }
    await writeText(target, text);
  }
}

function csvLine(cells: readonly (string | null)[]): string {
  return `${cells.map(csvCell).join(",")}\r\n`;
}

function csvCell(text: string | null): string {
  if (text === null) return "";
  return text === "" || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Waits until the target took the text, so that memory stays bounded when it is slow. */
export async function writeText(
  target: NodeJS.WritableStream,
  content: string | Uint8Array,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    target.write(content, (error) => (error ? reject(error) : resolve()));
  });
}
