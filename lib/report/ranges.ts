/** Histograms of times in SQL: how many values lie in each range between bounds. */
import { quoteName, quoteText } from "../sinks/duckdb-types.js";
import { durationText } from "./format.js";

/**
 * SQL with a row per range that has values: its name, how many, and its lower bound in ms.
 * Ranges begin after their lower bound, and the first bound is a range of its own: exactly that,
 * or below.
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
  const ranges = boundsMs.map((fromMs, index) => {
    const toMs = boundsMs[index + 1];
    const name =
      toMs === undefined ? `over ${durationText(fromMs)}` : `up to ${durationText(toMs)}`;
    return `(${fromMs}, ${quoteText(name)})`;
  });
  const [first] = boundsMs;
  return (
    `SELECT range, sum(n)::BIGINT AS ${quoteName(counted)}, over_ms\n` +
    `FROM (${values})\n` +
    `ASOF JOIN (VALUES (-9e15::BIGINT, ${quoteText(durationText(first!))}),\n  ` +
    `${ranges.join(", ")}) AS ranges(over_ms, range)\n  ON ms > over_ms\n` +
    "GROUP BY range, over_ms ORDER BY over_ms"
  );
}
