/** Compares two tables by key and says in words where they differ. */
import type { AggregateNode, ColumnNode, TableNode } from "../../lib/define/definition.js";
import { MillpondError } from "../../lib/errors.js";
import type { Row } from "./rows.js";

/** Two numbers agree if they differ by at most `absolute + relative * |expected|`. */
export interface Tolerance {
  readonly relative: number;
  readonly absolute: number;
}

const EXAMPLES_MAX = 5;
/** DESIGN, I8: doubles within 1e-9 relative; the absolute part is for sums that cancel out. */
const DOUBLE_TOLERANCE: Tolerance = { relative: 1e-9, absolute: 1e-9 };
/** DDSketch promises 1 % of the value; the rest is rounding. */
const QUANTILE_TOLERANCE: Tolerance = { relative: 0.01001, absolute: 1e-9 };
/** HyperLogLog with 4,096 registers: 1.63 % standard error, here four of them. */
const DISTINCT_TOLERANCE: Tolerance = { relative: 0.065, absolute: 2 };

/** How exactly each column of a table can be expected to agree; columns not named must be equal. */
export function tolerancesOf(table: TableNode): Record<string, Tolerance> {
  if (table.shape.kind === "rows") return {};
  const types = new Map(table.columns.map((column) => [column.name, column]));
  const tolerances: Record<string, Tolerance> = {};
  for (const aggregate of table.shape.aggregates) {
    const tolerance = toleranceOf(aggregate, types.get(aggregate.name));
    if (tolerance !== undefined) tolerances[aggregate.name] = tolerance;
  }
  return tolerances;
}

function toleranceOf(aggregate: AggregateNode, column?: ColumnNode): Tolerance | undefined {
  if (aggregate.fn === "quantile") return QUANTILE_TOLERANCE;
  if (aggregate.fn === "approxCountDistinct") return DISTINCT_TOLERANCE;
  const isExact = ["min", "max", "first", "last"].includes(aggregate.fn);
  return column?.type.kind === "double" && !isExact ? DOUBLE_TOLERANCE : undefined;
}

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
