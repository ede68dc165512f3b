/** How long sessions last. */
import type { Results } from "../query/results.js";
import { quoteName } from "../sinks/duckdb-types.js";
import { ask, numberOf, textOf } from "./answer.js";
import { bars } from "./charts/bars.js";
import { DAY_MS, HOUR_MS, MINUTE_MS, numberText, SECOND_MS } from "./format.js";
import type { WindowedFacts } from "./measures.js";
import type { Panel } from "./panel.js";
import { rangesSql } from "./ranges.js";

const BOUNDS_MS = [
  ...[0, SECOND_MS, 10 * SECOND_MS, MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS],
  ...[3 * HOUR_MS, 12 * HOUR_MS, DAY_MS, 7 * DAY_MS, 30 * DAY_MS],
];

/** Null when there are no sessions. */
export async function durations(results: Results, facts: WindowedFacts): Promise<Panel | null> {
  const [start, end] = [quoteName(facts.start), quoteName(facts.end)];
  const values =
    `SELECT epoch_ms(${end}) - epoch_ms(${start}) AS ms, 1 AS n ` +
    `FROM ${quoteName(facts.table.name)}`;
  const answer = await ask(
    results,
    rangesSql({ values, boundsMs: BOUNDS_MS, counted: "sessions" }),
  );
  if (answer.rows.length === 0) return null;
  const all = answer.rows.reduce((sum, row) => sum + numberOf(row[1]), 0);
  return {
    title: "How long they last",
    note: `${numberText(all)} sessions, from first to last event. One event alone lasts 0 seconds.`,
    answer,
    body: bars({
      label: `Durations of ${facts.table.name}`,
      columns: { name: "duration", value: "sessions" },
      rows: answer.rows.map((row) => ({ name: textOf(row[0]), value: numberOf(row[1]) })),
      hasShares: true,
    }),
  };
}
