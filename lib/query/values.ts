/** DuckDB's values as JSON and as text. Exact: what a JSON number can't hold becomes a string. */
import type { DuckDBValue } from "@duckdb/node-api";
import {
  DuckDBArrayValue,
  DuckDBBlobValue,
  DuckDBDecimalValue,
  DuckDBListValue,
  DuckDBMapValue,
  DuckDBStructValue,
  DuckDBTimestampTZValue,
  DuckDBTimestampValue,
} from "../duckdb-api.js";

export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [name: string]: Json };

/** Digits that every double holds exactly. */
const EXACT_DIGITS = 15;

export function jsonValue(value: DuckDBValue): Json {
  if (value === null || typeof value === "boolean" || typeof value === "string") return value;
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  if (typeof value === "bigint") {
    return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
  }
  if (value instanceof DuckDBDecimalValue) {
    const text = value.toString();
    return value.value.toString().replace("-", "").length <= EXACT_DIGITS ? Number(text) : text;
  }
  if (value instanceof DuckDBTimestampTZValue || value instanceof DuckDBTimestampValue) {
    return isoTimestamp(value.micros) ?? value.toString();
  }
  if (value instanceof DuckDBBlobValue) return Buffer.from(value.bytes).toString("base64");
  if (value instanceof DuckDBListValue || value instanceof DuckDBArrayValue) {
    return value.items.map(jsonValue);
  }
  if (value instanceof DuckDBStructValue) {
    return Object.fromEntries(
      Object.entries(value.entries).map(([name, entry]) => [name, jsonValue(entry)]),
    );
  }
  if (value instanceof DuckDBMapValue) {
    return Object.fromEntries(
      value.entries.map(({ key, value: entry }) => [String(key), jsonValue(entry)]),
    );
  }
  return value.toString();
}

/** Text of a cell in a table or CSV; null stays null. */
export function textValue(value: DuckDBValue): string | null {
  if (value === null) return null;
  if (value instanceof DuckDBDecimalValue || typeof value === "bigint") return value.toString();
  if (value instanceof DuckDBBlobValue) return bytesText(value);
  const json = jsonValue(value);
  return typeof json === "string" ? json : JSON.stringify(json);
}

const CONTROL = /[^\P{Cc}\t\n\r]/u;

/** Text where the bytes are text (records as read mostly are), else DuckDB's escapes. */
function bytesText(value: DuckDBBlobValue): string {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(value.bytes);
    return CONTROL.test(text) ? value.toString() : text;
  } catch {
    return value.toString();
  }
}

function isoTimestamp(micros: bigint): string | null {
  const MICROS_PER_MS = 1000n;
  const rest = ((micros % MICROS_PER_MS) + MICROS_PER_MS) % MICROS_PER_MS;
  const date = new Date(Number((micros - rest) / MICROS_PER_MS));
  if (Number.isNaN(date.getTime())) return null;
  const iso = date.toISOString();
  return rest === 0n ? iso : `${iso.slice(0, -1)}${String(rest).padStart(3, "0")}Z`;
}
