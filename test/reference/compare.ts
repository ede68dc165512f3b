/** Compares two tables by key and says in words where they differ. */
import type { Tolerance } from "../../lib/audit/tolerances.js";

export { tolerancesOf } from "../../lib/audit/tolerances.js";

import { MillpondError } from "../../lib/errors.js";
import type { Row } from "./rows.js";

const EXAMPLES_MAX = 5;

/**
 * Differences between two tables as readable text, "" if there are none. Only the columns of the
 * expected rows count; a number and a bigint of equal value are equal.
 */
export function compareTables(
  actualRows: readonly Row[],
  expectedRows: readonly Row[],
  keyColumns: readonly string[],
  options: { readonly tolerances?: Readonly<Record<string, Tolerance>> } = {},
): string {
  const tolerances = options.tolerances ?? {};
  const actual = byKey(actualRows, keyColumns, "actual");
  const expected = byKey(expectedRows, keyColumns, "expected");
  const missing = [...expected.keys()].filter((key) => !actual.has(key));
  const extra = [...actual.keys()].filter((key) => !expected.has(key));
  const different: string[] = [];
  for (const [key, row] of expected) {
    const other = actual.get(key);
    const text = other === undefined ? "" : differences(other, row, tolerances);
    if (text !== "") different.push(`${key}: ${text}`);
  }
  if (missing.length + extra.length + different.length === 0) return "";
  const show = (what: string, rows: ReadonlyMap<string, Row>, keys: readonly string[]): string[] =>
    keys.slice(0, EXAMPLES_MAX).map((key) => `  ${what} ${literal(rows.get(key))}`);
  return [
    `${actualRows.length} rows, expected ${expectedRows.length}: ${missing.length} missing, ` +
      `${extra.length} extra, ${different.length} different`,
    ...show("missing", expected, missing),
    ...show("extra", actual, extra),
    ...different.slice(0, EXAMPLES_MAX).map((text) => `  different ${text}`),
  ].join("\n");
}

function byKey(rows: readonly Row[], keys: readonly string[], whose: string): Map<string, Row> {
  const map = new Map<string, Row>();
  for (const row of rows) {
    const key = keys.map((name) => `${name}=${literal(row[name])}`).join(" ");
    if (map.has(key)) {
      throw new MillpondError("INVARIANT", `The ${whose} rows have ${key} twice; keys are unique.`);
    }
    map.set(key, row);
  }
  return map;
}

function differences(
  actual: Row,
  expected: Row,
  tolerances: Readonly<Record<string, Tolerance>>,
): string {
  return Object.keys(expected)
    .filter((name) => !agrees(actual[name], expected[name], tolerances[name]))
    .map((name) => `${name} is ${literal(actual[name])}, expected ${literal(expected[name])}`)
    .join("; ");
}

function agrees(actual: unknown, expected: unknown, tolerance?: Tolerance): boolean {
  if (literal(actual) === literal(expected)) return true;
  if (!isNumeric(actual) || !isNumeric(expected) || tolerance === undefined) return false;
  const allowed = tolerance.absolute + tolerance.relative * Math.abs(Number(expected));
  return Math.abs(Number(actual) - Number(expected)) <= allowed;
}

const isNumeric = (value: unknown): value is number | bigint =>
  typeof value === "number" || typeof value === "bigint";

/** Values as text, equal exactly when the values are; -0 is 0. */
function literal(value: unknown): string {
  if (value === undefined) return "(absent)";
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "number") return Number.isInteger(value) ? `${BigInt(value)}` : `${value}`;
  if (value instanceof Uint8Array) return `x'${Buffer.from(value).toString("hex")}'`;
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value);
    return `{${entries.map(([name, part]) => `${name}: ${literal(part)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}
