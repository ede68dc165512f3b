/** The section of a row table: its rows over time, on time and late. */
import type { PipelineDefinition, TableNode } from "../define/definition.js";
import type { Results } from "../query/results.js";
import { quoteName } from "../sinks/duckdb-types.js";
import { tableLayouts } from "../sinks/layouts.js";
import { ask, numberOf, timeOf } from "./answer.js";
import { stepFor, stepSql } from "./buckets.js";
import { legend, timeChart } from "./charts/time-chart.js";
import { durationText } from "./format.js";
import { html } from "./html.js";
import type { Panel } from "./panel.js";
import { shownPeriod } from "./period.js";

const STEP_MS_MIN = 1_000;

/** Null when the table has no rows. */
export async function rowsOverTime(
  results: Results,
  definition: PipelineDefinition,
  table: TableNode,
): Promise<Panel | null> {
  const layout = tableLayouts(definition).find(({ name }) => name === table.name)!;
  const time = quoteName(layout.dateColumn);
  const name = quoteName(table.name);
  const period = await shownPeriod(results, table.name, layout.dateColumn);
  if (period === null) return null;
  const stepMs = stepFor(period.toMs - period.fromMs, STEP_MS_MIN);
  const answer = await ask(
    results,
    `SELECT ${stepSql(time, stepMs, 0)} AS time,\n` +
      "  count(*) FILTER (NOT late) AS on_time, count(*) FILTER (late) AS late\n" +
      `FROM ${name}${period.where}\nGROUP BY 1 ORDER BY 1`,
  );
  const points = (column: number) =>
    answer.rows.map((row) => ({ atMs: timeOf(row[0]), value: numberOf(row[column]) }));
  const late = { name: "late", rank: "late" as const, points: points(2) };
  const isAny = late.points.some(({ value }) => value > 0);
  const onTime = { name: isAny ? "on time" : "", rank: 0, points: points(1) };
  const series = isAny ? [onTime, late] : [onTime];
  return {
    title: "Over time",
    note: `Rows by event time, in steps of ${durationText(stepMs)}. Times are UTC.${period.note}`,
    answer,
    body: html`${legend(series)}<div class="charts">${timeChart({
      title: "rows",
      series,
      stepMs,
      stacks: true,
      isLarge: true,
    })}</div>`,
  };
}
