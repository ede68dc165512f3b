/**
 * `millpond report`: asks an output's results the questions that any pipeline's can answer, and
 * makes one HTML file of them. It reads as `millpond query` does and writes that file alone.
 */
import * as fs from "node:fs";
import type { PipelineDefinition, TableNode, WindowNode } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { openLocalResults } from "../query/local-results.js";
import type { Results } from "../query/results.js";
import { noResults, outputPaths, readManifest } from "../runtime/output.js";
import { quoteName } from "../sinks/duckdb-types.js";
import { type Answer, ask, numberOf, timeOf } from "./answer.js";
import {
  accounting,
  columns,
  deadLetters,
  eventOrder,
  lateEvents,
  latency,
  type OrderPanel,
} from "./flow.js";
import { durationText, numberText, percentText, timeText } from "./format.js";
import {
  type Insight,
  nullsInsight,
  orderInsight,
  readingInsight,
  tableInsights,
} from "./insights.js";
import { type WindowedFacts, windowedFacts } from "./measures.js";
import { pageHtml, type Tile } from "./page.js";
import type { Panel, Section } from "./panel.js";
import { rowsOverTime } from "./rows.js";
import { durations } from "./sessions.js";
import { overTime, topKeys } from "./windowed.js";

/** A section each; more are named, and can be asked by SQL. */
const TABLES_MAX = 12;

export interface ReportOptions {
  /** Directory that a run wrote to. */
  readonly out: string;
  /** The HTML file to write; one that is there is replaced. */
  readonly file: string;
}

/**
 * Writes the report. Results need not be final: it shows what was published.
 *
 * @throws MillpondError USAGE when `out` holds no results or `file` can't be written, CONFLICT
 *   while a run writes to `out`
 *
 * @example
 * await writeReport({ out: "out/flights", file: "out/flights/report.html" });
 */
export async function writeReport({ out, file }: ReportOptions): Promise<void> {
  const manifest = readManifest(outputPaths(out));
  if (manifest === null) throw noResults(out);
  const results = await openLocalResults(out);
  let text: string;
  try {
    text = await reportText(results, manifest.definition, out);
  } catch (error) {
    throw await results.explained(error);
  } finally {
    results.close();
  }
  try {
    fs.writeFileSync(file, text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new MillpondError(
      "USAGE",
      `the report cannot be written: ${reason}; name another --file`,
      {
        cause,
      },
    );
  }
}

async function reportText(
  results: Results,
  definition: PipelineDefinition,
  out: string,
): Promise<string> {
  const present = new Set(await results.tables());
  const insights: Insight[] = [];
  const said = new Set<string>();
  const sections: Section[] = [];
  for (const [index, table] of definition.tables.slice(0, TABLES_MAX).entries()) {
    const found = await tableSection(results, definition, table, {
      isPresent: present.has(table.name),
      id: `table-${index + 1}`,
      said,
    });
    sections.push(found.section);
    insights.push(...found.insights);
  }
  const orders: OrderPanel[] = [];
  for (const stream of present.has("bronze") ? definition.streams : []) {
    const order = await eventOrder(results, stream, present.has("dead_letters"));
    if (order !== null) orders.push(order);
  }
  insights.push(...orders.map(orderInsight));
  const late = present.has("late") ? await lateEvents(results) : null;
  const slow = await latency(results);
  const unread = present.has("dead_letters") ? await deadLetters(results) : [];
  const sums = present.has("accounting") ? await accounting(results) : null;
  if (sums !== null) {
    const insight = readingInsight(sums.answer, unread[0]?.answer ?? null);
    if (insight !== null) insights.push(insight);
  }
  const flow = [...orders, late, slow].filter((panel) => panel !== null);
  const more: Section[] = [
    {
      id: "time",
      title: "Order, lateness and latency",
      note: "How the events came, and how long results took.",
      panels: flow,
    },
    {
      id: "dead-letters",
      title: "Dead letters",
      note: "Records that could not be decoded or did not pass a check.",
      panels: unread,
    },
    {
      id: "accounting",
      title: "Accounting",
      note: "Nothing disappears: every record is counted, late, a duplicate or a dead letter.",
      panels: sums === null ? [] : [{ ...sums, isWide: true }],
    },
  ];
  const period = await periodOf(results, definition, present);
  return pageHtml({
    pipeline: definition.name,
    lead: leadText(definition, period),
    madeAtMs: Date.now(),
    out,
    tiles: tilesOf(sums?.answer ?? null),
    insights,
    sections: [...sections, ...more.filter(({ panels }) => panels.length > 0)],
  });
}

async function tableSection(
  results: Results,
  definition: PipelineDefinition,
  table: TableNode,
  { isPresent, id, said }: { isPresent: boolean; id: string; said: Set<string> },
): Promise<{ section: Section; insights: Insight[] }> {
  const title = table.name;
  const panels: Panel[] = [];
  const insights: Insight[] = [];
  const facts = windowedFacts(table);
  const first = !isPresent
    ? null
    : facts === null
      ? await rowsOverTime(results, definition, table)
      : await overTime(results, facts);
  if (first === null) {
    const why = isPresent
      ? "It has no rows yet."
      : "It has no rows here, or no sink keeps it here.";
    return { section: { id, title, note: `${aboutTable(table)} ${why}`, panels }, insights };
  }
  panels.push({ ...first, isWide: true });
  if (facts !== null) {
    panels.push(...(await keyPanels(results, facts)));
    insights.push(...(await tableInsights(results, facts, said)));
  }
  const profile = await columns(results, table);
  const nulls = nullsInsight(table.name, profile.answer);
  if (nulls !== null) insights.push(nulls);
  panels.push({ ...profile, fold: true, isWide: true });
  return { section: { id, title, note: aboutTable(table), panels }, insights };
}

async function keyPanels(results: Results, facts: WindowedFacts): Promise<Panel[]> {
  const keys = await topKeys(results, facts);
  const lengths = facts.kind === "sessions" ? await durations(results, facts) : null;
  return [keys, lengths].filter((panel) => panel !== null);
}

function aboutTable({ stream, shape }: TableNode): string {
  if (shape.kind === "rows") return `Rows of ${stream}, one an event.`;
  const by = shape.groupBy.length === 0 ? "" : ` by ${shape.groupBy.join(", ")}`;
  return `${windowText(shape.window)} over ${stream}${by}.`;
}

function windowText(window: WindowNode): string {
  if (window.kind === "session") return `Sessions with a gap of ${durationText(window.gapMs)}`;
  const size = durationText(window.sizeMs);
  if (window.everyMs === window.sizeMs) return `Windows of ${size}`;
  return `Windows of ${size}, one every ${durationText(window.everyMs)},`;
}

interface Period {
  readonly fromMs: number;
  readonly toMs: number;
}

/** Of event time, over all tables that have one. */
async function periodOf(
  results: Results,
  definition: PipelineDefinition,
  present: ReadonlySet<string>,
): Promise<Period | null> {
  const times: number[] = [];
  for (const table of definition.tables) {
    const facts = windowedFacts(table);
    if (facts === null || !present.has(table.name)) continue;
    const sql = `SELECT min(${facts.start}), max(${facts.end}) FROM ${quoteName(table.name)}`;
    times.push(...(await ask(results, sql)).rows[0]!.map(timeOf));
  }
  const known = times.filter(Number.isFinite);
  return known.length === 0 ? null : { fromMs: Math.min(...known), toMs: Math.max(...known) };
}

const minuteText = (epochMs: number) => timeText(epochMs, 60_000);

function leadText({ streams, tables }: PipelineDefinition, period: Period | null): string {
  const names = streams.map(({ name }) => name).join(", ");
  const what = `${tables.length} ${tables.length === 1 ? "table" : "tables"} from ${names}`;
  const cut =
    tables.length > TABLES_MAX ? `, of which the first ${TABLES_MAX} have a section here` : "";
  const when =
    period === null
      ? "There are no results yet."
      : `Event time from ${minuteText(period.fromMs)} to ${minuteText(period.toMs)} UTC.`;
  return `${what}${cut}. ${when}`;
}

function tilesOf(sums: Answer | null): Tile[] {
  if (sums === null) return [];
  const at = (name: string) => sums.columns.indexOf(name);
  const total = (kind: string, name: string) =>
    sums.rows
      .filter(([found]) => found === kind)
      .reduce((sum, row) => sum + (numberOf(row[at(name)]) || 0), 0);
  const [records, events, dead, duplicates] = [
    "records",
    "events",
    "dead_letters",
    "duplicates",
  ].map((name) => total("stream", name));
  const late = total("table", "late");
  const isRight = sums.rows.every((row) => row[at("adds_up")] === true);
  const share = (part: number) => `${percentText(part, records!)} of records`;
  return [
    { name: "Records read", value: numberText(records!), more: `${numberText(events!)} events` },
    { name: "Late", value: numberText(late), more: "rows, over all tables" },
    { name: "Duplicates", value: numberText(duplicates!), more: share(duplicates!) },
    { name: "Dead letters", value: numberText(dead!), more: share(dead!) },
    isRight
      ? { name: "Accounting", value: "adds up", more: "every record is somewhere", mood: "good" }
      : { name: "Accounting", value: "does not add up", more: "see below", mood: "bad" },
  ];
}
