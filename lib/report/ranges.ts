/** Histograms of times in SQL: how many values lie in each range between bounds. */
import { quoteName, quoteText } from "../sinks/duckdb-types.js";
import { shortDuration } from "./format.js";

/**
 * SQL with a row per range that has values: its name, how many, and its bounds in ms. Ranges begin
 * after their lower bound; the first one is what is at or below the first bound.
 *
 * @param values SQL with columns `ms` and `n`, how often
 */
export function rangesSql(options: {
  readonly values: string;
  /** Ascending. */
  readonly boundsMs: readonly number[];
  readonly counted: string;
}): string {
  const { values, boundsMs, counted } = options;
  const ranges = boundsMs.map((overMs, index) => {
    const uptoMs = boundsMs[index + 1];
    const name =
      uptoMs === undefined
        ? `over ${shortDuration(overMs)}`
        : `${shortDuration(overMs)} – ${shortDuration(uptoMs)}`;
    return `(${overMs}, ${uptoMs ?? "NULL"}, ${quoteText(name)})`;
  });
  const first = boundsMs[0]!;
  return (
    `SELECT range, sum(n)::BIGINT AS ${quoteName(counted)}, over_ms, upto_ms\n` +
    `FROM (${values})\n` +
    `ASOF JOIN (VALUES\n  (-9e15::BIGINT, ${first}, ${quoteText(shortDuration(first))}),\n  ` +
    `${ranges.join(",\n  ")}\n) AS ranges(over_ms, upto_ms, range) ON ms > over_ms\n` +
    "GROUP BY ALL ORDER BY over_ms"
  );
}
