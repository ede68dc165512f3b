/** The section of a windowed table: its measures over time, and its keys by size. */
import type { Results } from "../query/results.js";
import type { Json } from "../query/values.js";
import { quoteName } from "../sinks/duckdb-types.js";
import { type Answer, ask, numberOf, textOf, timeOf } from "./answer.js";
import { stepFor } from "./buckets.js";
import { bars } from "./charts/bars.js";
import { legend, type Series, timeChart } from "./charts/time-chart.js";
import { durationText, keyText, numberText } from "./format.js";
import { type Html, html } from "./html.js";
import {
  combinedSql,
  combinedText,
  type Measure,
  rankSql,
  startStepSql,
  type WindowedFacts,
} from "./measures.js";
import type { Panel } from "./panel.js";
import { shownPeriod } from "./period.js";

/** So many keys have a colour of their own; the others are one more. */
const SERIES_MAX = 6;
const BARS_MAX = 10;
const ALL_OTHERS = "(all others)";

/** Null when the table has no rows. Sessions are many keys', a few each: they go without. */
export async function overTime(results: Results, all: WindowedFacts): Promise<Panel | null> {
  const facts = all.kind === "sessions" ? { ...all, key: null } : all;
  const period = await shownPeriod(results, facts.table.name, facts.start);
  if (period === null) return null;
  const stepMs = stepFor(period.toMs - period.fromMs, facts.everyMs ?? 1_000);
  const isCoarser = facts.everyMs === null || stepMs > facts.everyMs;
  const answer = await ask(results, overTimeSql(facts, { stepMs, isCoarser, where: period.where }));
  const order = seriesOrder(answer, facts);
  const charts = chartsOf(answer, facts, { stepMs, isCoarser, order });
  return {
    title: "Over time",
    note: `${pointText(facts, stepMs, isCoarser)}. Times are UTC.${period.note}`,
    answer,
    body: html`${legend(order)}<div class="charts">${charts}</div>`,
  };
}

function pointText({ kind, sizeMs }: WindowedFacts, stepMs: number, isCoarser: boolean): string {
  const step = durationText(stepMs);
  if (kind === "sessions") return `Each point is the sessions that began within ${step}`;
  if (isCoarser) return `Each point is the windows that begin within ${step}`;
  return `Each point is a window of ${durationText(sizeMs ?? stepMs)}`;
}

interface TimeSteps {
  readonly stepMs: number;
  /** A step holds several windows. */
  readonly isCoarser: boolean;
  readonly where: string;
}

function overTimeSql(facts: WindowedFacts, { stepMs, isCoarser, where }: TimeSteps): string {
  const { table, key, measures, overlaps } = facts;
  const step = `${startStepSql(facts, stepMs)} AS time`;
  const series = key === null ? [] : [`${seriesSql(facts)} AS key`];
  const keys = key === null ? "" : ", (SELECT list(key) AS keys FROM top)";
  const from = `FROM ${quoteName(table.name)}${keys}${where}\nGROUP BY ALL`;
  const top = key === null ? [] : [topSql(facts)];
  const select = (columns: readonly string[]) => `SELECT ${columns.join(",\n  ")}\n`;
  const ctes = (list: readonly string[]) => (list.length === 0 ? "" : `WITH ${list.join(",\n")}\n`);
  if (!overlaps || !isCoarser || measures.length === 0) {
    const counted = facts.kind === "sessions" ? "sessions" : "windows";
    const isCounted = facts.kind === "sessions" || measures.length === 0;
    const columns = [
      step,
      ...series,
      ...(isCounted ? [`count(*) AS ${counted}`] : []),
      ...measures.map((measure) => combinedSql(measure)),
    ];
    return `${ctes(top)}${select(columns)}${from} ORDER BY ALL`;
  }
  // Overlapping windows count an event several times: their mean says what their sum can't.
  const inner = [quoteName(facts.start), ...series, ...measures.map((m) => combinedSql(m))];
  const windows = `windows AS (\n${select(inner)}${from})`;
  const outer = [
    step,
    ...(key === null ? [] : ["key"]),
    ...measures.map((m) => combinedSql(m, m.combine === "sum" ? "avg" : m.combine)),
  ];
  return `${ctes([...top, windows])}${select(outer)}FROM windows\nGROUP BY ALL ORDER BY ALL`;
}

/** The keys that are drawn by themselves. */
function topSql(facts: WindowedFacts): string {
  return (
    `top AS (\n  SELECT ${facts.key} AS key FROM ${quoteName(facts.table.name)}\n` +
    `  GROUP BY 1 ORDER BY ${rankSql(facts)} DESC NULLS LAST, 1 LIMIT ${SERIES_MAX - 1})`
  );
}

function seriesSql({ key }: WindowedFacts): string {
  return `CASE WHEN list_contains(keys, ${key}) THEN ${key} ELSE '${ALL_OTHERS}' END`;
}

function chartsOf(
  answer: Answer,
  facts: WindowedFacts,
  {
    stepMs,
    isCoarser,
    order,
  }: {
    readonly stepMs: number;
    readonly isCoarser: boolean;
    readonly order: readonly Pick<Series, "name" | "rank">[];
  },
): Html[] {
  const hasKey = facts.key !== null;
  const firstValue = hasKey ? 2 : 1;
  return answer.columns.slice(firstValue).map((column, index) => {
    const measure: Measure = facts.measures.find(({ name }) => name === column) ?? {
      name: column,
      adds: true,
      combine: "sum",
    };
    const stacks = measure.adds && !facts.overlaps;
    const series = order.map(
      (one): Series => ({
        ...one,
        points: answer.rows
          .filter((row) => !hasKey || textOf(row[1]) === one.name)
          .map((row) => ({ atMs: timeOf(row[0]), value: numberOf(row[firstValue + index]) })),
      }),
    );
    const title = combinedText(measure, facts, isCoarser);
    // What others have on average says nothing beside the keys that are drawn.
    const drawn = stacks ? series : series.filter(({ rank }) => rank !== "others");
    return timeChart({ title, series: drawn, stepMs, stacks, isLarge: index === 0 });
  });
}

/** Largest first, so that colours go by size; what is left over is last. */
function seriesOrder(answer: Answer, { key }: WindowedFacts): Pick<Series, "name" | "rank">[] {
  if (key === null) return [{ name: "", rank: 0 }];
  const totals = new Map<string, number>();
  for (const row of answer.rows) {
    const name = textOf(row[1]);
    const value = numberOf(row[2]);
    totals.set(name, (totals.get(name) ?? 0) + (Number.isFinite(value) ? value : 0));
  }
  const isLast = (name: string) => Number(name === ALL_OTHERS);
  return [...totals]
    .sort(([a, x], [b, y]) => isLast(a) - isLast(b) || y - x || (a < b ? -1 : 1))
    .map(([name], index) => ({ name, rank: name === ALL_OTHERS ? "others" : index }));
}

/** The largest keys; null for a table without groups, or without rows. */
export async function topKeys(results: Results, facts: WindowedFacts): Promise<Panel | null> {
  const { table, key, keyName, measures } = facts;
  if (key === null) return null;
  const [first] = [...measures.filter(({ adds }) => adds), ...measures];
  const adds = first?.adds === true && !facts.overlaps;
  const counted = facts.kind === "sessions" ? "sessions" : "windows";
  const over = (m: Measure) =>
    combinedSql(m, facts.overlaps && m.combine === "sum" ? "avg" : m.combine);
  const ranked = first === undefined ? [] : [first, ...measures.filter((m) => m !== first)];
  const columns = [
    `${key} AS key`,
    ...ranked.map(over),
    ...(adds ? [percentSql(first.name)] : []),
    `count(*) AS ${counted}`,
    "count(*) OVER () AS all_keys",
  ];
  const sql =
    `SELECT ${columns.join(",\n  ")}\nFROM ${quoteName(table.name)}\nGROUP BY 1 ` +
    `ORDER BY ${first === undefined ? "count(*)" : 2} DESC NULLS LAST, 1 LIMIT ${BARS_MAX}`;
  const answer = await ask(results, sql);
  if (answer.rows.length === 0) return null;
  const all = numberOf(answer.rows[0]!.at(-1));
  const of = all > BARS_MAX ? `The ${BARS_MAX} largest of ${numberText(all)}` : "All";
  const word = first === undefined ? counted : combinedText(first, facts, true);
  return {
    title: `By ${keyName}`,
    note: `${of} by ${word}.`,
    answer,
    body: bars({
      label: `${table.name} by ${keyName}`,
      columns: { name: keyName, value: word },
      rows: answer.rows.map((row) => keyBar(row, first === undefined ? -2 : 1)),
    }),
  };
}

function percentSql(name: string): string {
  const column = quoteName(name);
  return `round(100 * sum(${column}) / nullif(sum(sum(${column})) OVER (), 0), 2) AS percent`;
}

function keyBar(row: readonly Json[], valueAt: number) {
  return { name: keyText(textOf(row[0])), value: numberOf(row.at(valueAt)) };
}
