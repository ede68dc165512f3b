/**
 * What of a windowed table can be drawn: its key as one text, its numeric aggregates, and how each
 * is put together over several windows.
 */
import type { TableNode, WindowNode } from "../define/definition.js";
import { quoteName } from "../sinks/duckdb-types.js";
import { stepSql } from "./buckets.js";

export interface Measure {
  readonly name: string;
  /** Values of keys, and of windows that do not overlap, add up. */
  readonly adds: boolean;
  /** How values of several windows or keys become one. */
  readonly combine: "sum" | "min" | "max" | "avg";
}

export interface WindowedFacts {
  readonly table: TableNode;
  readonly kind: "windows" | "sessions";
  /** Null for sessions. */
  readonly everyMs: number | null;
  readonly sizeMs: number | null;
  readonly offsetMs: number;
  /** Windows overlap: nothing adds up over them. */
  readonly overlaps: boolean;
  readonly start: string;
  readonly end: string;
  /** SQL of the key as text; null without groups. */
  readonly key: string | null;
  /** E.g. "origin" or "carrier, airline". */
  readonly keyName: string;
  readonly measures: readonly Measure[];
}

const MEASURES_MAX = 6;
const NUMERIC = new Set(["int", "bigint", "double", "decimal"]);
const COMBINES: Readonly<Record<string, Measure["combine"]>> = {
  count: "sum",
  sum: "sum",
  min: "min",
  max: "max",
};

/** Null for a row table. */
export function windowedFacts(table: TableNode): WindowedFacts | null {
  const { shape } = table;
  if (shape.kind === "rows") return null;
  const { window, groupBy, aggregates } = shape;
  const prefix = window.kind === "session" ? "session" : "window";
  const measures = aggregates.flatMap(({ name, fn }): Measure[] => {
    const column = table.columns.find((candidate) => candidate.name === name);
    if (column === undefined || !NUMERIC.has(column.type.kind)) return [];
    return [{ name, adds: fn === "count" || fn === "sum", combine: COMBINES[fn] ?? "avg" }];
  });
  return {
    table,
    kind: window.kind === "session" ? "sessions" : "windows",
    ...lengths(window),
    start: `${prefix}_start`,
    end: `${prefix}_end`,
    key: keySql(groupBy),
    keyName: groupBy.join(", "),
    measures: measures.slice(0, MEASURES_MAX),
  };
}

function lengths(window: WindowNode) {
  if (window.kind === "session") {
    return { everyMs: null, sizeMs: null, offsetMs: 0, overlaps: false };
  }
  const { everyMs, sizeMs, offsetMs } = window;
  return { everyMs, sizeMs, offsetMs, overlaps: everyMs < sizeMs };
}

function keySql(groupBy: readonly string[]): string | null {
  const parts = groupBy.map((name) => `coalesce(${quoteName(name)}::VARCHAR, '(null)')`);
  if (parts.length === 0) return null;
  return parts.length === 1 ? parts[0]! : `concat_ws(' · ', ${parts.join(", ")})`;
}

/** A column of the answer, over the rows of several windows or keys. */
export function combinedSql({ name, combine }: Measure, combineAs = combine): string {
  return `${combineAs}(${quoteName(name)}) AS ${quoteName(name)}`;
}

/** How keys are ranked: by what adds up, else by the size of the first measure. */
export function rankSql({ measures }: WindowedFacts): string {
  const [first] = [...measures.filter(({ adds }) => adds), ...measures];
  if (first === undefined) return "count(*)";
  return `${first.adds ? "sum" : first.combine}(${quoteName(first.name)})`;
}

export function startStepSql({ start, offsetMs }: WindowedFacts, stepMs: number): string {
  return stepSql(quoteName(start), stepMs, offsetMs);
}

/** What the drawn numbers are, in words. */
export function combinedText(measure: Measure, facts: WindowedFacts, isCoarser: boolean): string {
  const { name, combine, adds } = measure;
  if (!isCoarser) return name;
  if (adds && !facts.overlaps) return name;
  const word = { sum: "mean", avg: "mean", min: "least", max: "greatest" }[combine];
  return `${word} ${name}`;
}
