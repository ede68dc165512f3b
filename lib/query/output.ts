/** Writes a query's rows as JSON or CSV, chunk by chunk. */
import type { DuckDBResult } from "@duckdb/node-api";
import { jsonValue, textValue } from "./values.js";

/** An array of objects; names that appear twice get a number. */
export async function writeJson(
  result: DuckDBResult,
  target: NodeJS.WritableStream,
): Promise<void> {
  const names = result.deduplicatedColumnNames();
  let separator = "[\n";
  for await (const rows of result.yieldRows()) {
    let text = "";
    for (const row of rows) {
      const cells = row.map((value, index) => [names[index]!, jsonValue(value)]);
      text += `${separator}${JSON.stringify(Object.fromEntries(cells))}`;
      separator = ",\n";
    }
    await writeText(target, text);
  }
  await writeText(target, separator === "[\n" ? "[]\n" : "\n]\n");
}

/** RFC 4180; null is empty, an empty string is quoted. */
export async function writeCsv(result: DuckDBResult, target: NodeJS.WritableStream): Promise<void> {
  await writeText(target, csvLine(result.columnNames()));
  for await (const rows of result.yieldRows()) {
    await writeText(target, rows.map((row) => csvLine(row.map(textValue))).join(""));
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
