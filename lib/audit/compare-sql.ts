/** Two versions of a table held against each other in SQL: by key, within tolerances. */
import type { ColumnNode } from "../define/definition.js";
import { quoteName } from "../sinks/duckdb-types.js";
import type { Tolerance } from "./tolerances.js";

export interface Comparison {
  /** Relations that hold `key` and `columns`. */
  readonly left: string;
  readonly right: string;
  readonly key: readonly string[];
  readonly columns: readonly ColumnNode[];
  readonly tolerances: Readonly<Record<string, Tolerance>>;
  /** More of the right side's columns, for `l`/`r` conditions on the result. */
  readonly carried?: readonly string[];
  /** Whether a key may come more than once: then the n-th is held against the n-th. */
  readonly repeats: boolean;
}

/**
 * The rows in which the two differ: `kind` ("missing" from the left, "extra" there, "different"),
 * each key column as `k<i>`, the other columns as `l<i>` and `r<i>`, carried ones by their names,
 * `again` where the left row's key comes before it too.
 */
export function differencesSql(comparison: Comparison): string {
  const { left, right, key, columns, tolerances, carried = [] } = comparison;
  const nth = comparison.repeats
    ? `, row_number() OVER (PARTITION BY ${key.map(quoteName).join(", ")}) AS __nth`
    : "";
  const on = [
    ...key.map((name) => `l.${quoteName(name)} IS NOT DISTINCT FROM r.${quoteName(name)}`),
    ...(comparison.repeats ? ["l.__nth = r.__nth"] : []),
  ];
  const agree = columns.map(({ name }) =>
    agreesSql(`l.${quoteName(name)}`, `r.${quoteName(name)}`, tolerances[name], "r."),
  );
  const outputs = [
    "CASE WHEN l.__here IS NULL THEN 'missing' WHEN r.__here IS NULL THEN 'extra' " +
      "ELSE 'different' END AS kind",
    ...key.map((name, i) => {
      const sides = ["l", "r"].map((side) => `${side}.${quoteName(name)}`);
      return `CASE WHEN l.__here THEN ${sides[0]} ELSE ${sides[1]} END AS k${i}`;
    }),
    ...columns.flatMap(({ name }, i) => [
      `l.${quoteName(name)} AS l${i}`,
      `r.${quoteName(name)} AS r${i}`,
    ]),
    ...carried.map((name) => `r.${quoteName(name)}`),
    `${comparison.repeats ? "coalesce(l.__nth, 1) > 1" : "false"} AS again`,
  ];
  const equal = ["l.__here", "r.__here", ...agree].join(" AND ");
  return `SELECT ${outputs.join(", ")}
    FROM (SELECT *, true AS __here${nth} FROM ${left}) AS l
    FULL OUTER JOIN (SELECT *, true AS __here${nth} FROM ${right}) AS r ON ${on.join(" AND ")}
    WHERE (${equal}) IS NOT TRUE`;
}

/**
 * Never null. The right side is the one that is held to be right; `of` is what its column of the
 * tolerance's rounding is found by, such as "r.".
 */
export function agreesSql(left: string, right: string, tolerance?: Tolerance, of = ""): string {
  const same = `${left} IS NOT DISTINCT FROM ${right}`;
  if (tolerance === undefined) return same;
  const [a, b] = [left, right].map((side) => `${side}::DOUBLE`);
  const { absolute, relative } = tolerance;
  const rounding = tolerance.rounding && `coalesce(${of}${quoteName(tolerance.rounding)}, 0)`;
  const allowed = `${absolute} + ${relative} * abs(${b})${rounding ? ` + ${rounding}` : ""}`;
  // Of what is infinite, or not a number, any number would be near enough.
  const near = `isfinite(${b}) AND abs(${a} - ${b}) <= ${allowed}`;
  const any = rounding ? ` OR (isinf(${rounding}) AND ${a} IS NOT NULL)` : "";
  return `(${same} OR coalesce(${near}, false)${any})`;
}
