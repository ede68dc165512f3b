/** A question of the report and its answer: SQL, and the rows it gives. */
import type { Results } from "../query/results.js";
import { type Json, jsonValue } from "../query/values.js";

export interface Answer {
  /** Runs as it stands in `millpond query`, and gives `rows`. */
  readonly sql: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Json[])[];
}

/** Every question of the report asks for less; more would be a mistake in it. */
const ROWS_MAX = 2_000;

/** @throws MillpondError QUERY */
export async function ask(results: Results, sql: string): Promise<Answer> {
  const result = await results.select(sql);
  const rows: Json[][] = [];
  for await (const chunk of result) {
    for (const row of chunk.getRows()) rows.push(row.map(jsonValue));
    if (rows.length > ROWS_MAX) break;
  }
  return { sql, columns: result.deduplicatedColumnNames(), rows };
}

/** A number, also one that JSON holds as text; NaN for null and what is none. */
export function numberOf(value: Json | undefined): number {
  if (typeof value === "number") return value;
  return typeof value === "string" && value !== "" ? Number(value) : Number.NaN;
}

/** Epoch ms of a timestamp; NaN for null and for times that dates can't hold. */
export function timeOf(value: Json | undefined): number {
  return typeof value === "string" ? Date.parse(value) : Number.NaN;
}

export function textOf(value: Json | undefined): string {
  if (value === null || value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}
