/**
 * What the way of the data itself tells: how far out of order events came, what was too late, how
 * long results took to be visible, and what could not be read.
 */
import type { FieldNode, PipelineDefinition, StreamNode } from "../define/definition.js";
import type { Results } from "../query/results.js";
import { quoteName, quoteText } from "../sinks/duckdb-types.js";
import { type Answer, ask, numberOf, textOf } from "./answer.js";
import { bars } from "./charts/bars.js";
import {
  DAY_MS,
  durationText,
  HOUR_MS,
  keyText,
  MINUTE_MS,
  numberText,
  percentText,
  SECOND_MS,
  shortDuration,
} from "./format.js";
import type { Panel } from "./panel.js";
import { rangesSql } from "./ranges.js";

/** Bronze is decoded again, in memory, for the order of events: of so many records. */
const ORDER_RECORDS_MAX = 1_000_000;
const BOUNDS_MS = [
  ...[0, SECOND_MS, 10 * SECOND_MS, MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS],
  ...[4 * HOUR_MS, 12 * HOUR_MS, DAY_MS, 7 * DAY_MS],
];

export interface OrderPanel extends Panel {
  readonly stream: StreamNode;
  /** Events that came no later than the lateness allows, and all that were looked at. */
  readonly within: number;
  readonly all: number;
}

/** How far each event of a stream was behind the newest one of its partition; null without any. */
export async function eventOrder(
  results: Results,
  stream: StreamNode,
  hasDeadLetters: boolean,
): Promise<OrderPanel | null> {
  const topic = quoteText(stream.name);
  const found = await ask(
    results,
    `SELECT count(*), count(DISTINCT partition), max("offset") FROM bronze WHERE topic = ${topic}`,
  );
  const [records, partitions, lastOffset] = found.rows[0]!.map(numberOf);
  if (!records || !partitions) return null;
  const isPart = records > ORDER_RECORDS_MAX;
  const offsetMax = isPart ? Math.floor(ORDER_RECORDS_MAX / partitions) : lastOffset!;
  const { latenessMs } = stream;
  const boundsMs = [...new Set([...BOUNDS_MS, latenessMs])].sort((a, b) => a - b);
  const values = behindSql(stream, { offsetMax: isPart ? offsetMax : null, hasDeadLetters });
  const answer = await ask(results, rangesSql({ values, boundsMs, counted: "events" }));
  const all = answer.rows.reduce((sum, row) => sum + numberOf(row[1]), 0);
  if (all === 0) return null;
  const isWithin = (row: Answer["rows"][number]) => numberOf(row[2]) < latenessMs;
  const within = answer.rows.filter(isWithin).reduce((sum, row) => sum + numberOf(row[1]), 0);
  const first = isPart ? ` The first ${numberText(offsetMax)} records of each partition.` : "";
  return {
    title: `Order of ${stream.name}`,
    note:
      "How far an event's time is behind the newest one before it in its partition. The lateness " +
      `of ${durationText(latenessMs)} covers ${percentText(within, all)} of ` +
      `${numberText(all)} events.${first}`,
    answer,
    body: bars({
      label: `Events of ${stream.name} by how far they are out of order`,
      columns: { name: "behind", value: "events" },
      rows: answer.rows.map((row) => ({
        name: numberOf(row[2]) < 0 ? "in order" : textOf(row[0]),
        value: numberOf(row[1]),
        warns: !isWithin(row),
      })),
      hasShares: true,
    }),
    stream,
    within,
    all,
  };
}

/** Event times are read from the records anew; dead letters have none that counts. */
function behindSql(
  stream: StreamNode,
  { offsetMax, hasDeadLetters }: { offsetMax: number | null; hasDeadLetters: boolean },
): string {
  const field = stream.fields.find(({ name }) => name === stream.eventTime)!;
  const origin = `topic, partition, "offset"`;
  const bound = offsetMax === null ? "" : ` AND "offset" < ${offsetMax}`;
  return (
    "\n  SELECT greatest(0, newest - event_ms) AS ms, 1 AS n FROM (\n" +
    "    SELECT event_ms, max(event_ms) OVER (PARTITION BY partition\n" +
    `      ORDER BY "offset" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS newest\n` +
    `    FROM (SELECT ${origin},\n        ${eventMsSql(field)} AS event_ms\n` +
    `      FROM bronze WHERE topic = ${quoteText(stream.name)}${bound})\n` +
    (hasDeadLetters ? `    ANTI JOIN dead_letters USING (${origin})\n` : "") +
    "    WHERE event_ms IS NOT NULL)\n  WHERE newest IS NOT NULL"
  );
}

function eventMsSql({ path, format }: FieldNode): string {
  const names = path.map((name) => `."${name.replaceAll('"', '\\"')}"`).join("");
  const text = `TRY(json_extract_string(decode(value), ${quoteText(`$${names}`)}))`;
  switch (format?.kind) {
    case "epoch_s":
      return `floor(1000 * TRY_CAST(${text} AS DECIMAL(18, 6)))::BIGINT`;
    case "epoch_ms":
      return `floor(TRY_CAST(${text} AS DECIMAL(18, 3)))::BIGINT`;
    case "epoch_us":
      return `TRY_CAST(${text} AS BIGINT) // 1000`;
    default:
      return `epoch_ms(TRY_CAST(${text} AS TIMESTAMPTZ))`;
  }
}

/** How far late events were behind the watermark; null when none were late. */
export async function lateEvents(results: Results): Promise<Panel | null> {
  const values = "\n  SELECT epoch_ms(watermark) - epoch_ms(event_time) AS ms, 1 AS n FROM late";
  const answer = await ask(
    results,
    rangesSql({ values, boundsMs: BOUNDS_MS, counted: "late_rows" }),
  );
  if (answer.rows.length === 0) return null;
  const all = answer.rows.reduce((sum, row) => sum + numberOf(row[1]), 0);
  return {
    title: "Late events",
    note:
      "How far event times were behind the watermark, so beyond the lateness that is allowed. " +
      `${numberText(all)} rows: one for each table that an event came too late for.`,
    answer,
    body: bars({
      label: "Late events by how far they were behind the watermark",
      columns: { name: "behind", value: "rows" },
      rows: answer.rows.map((row) => ({
        name: textOf(row[0]),
        value: numberOf(row[1]),
        warns: true,
      })),
      hasShares: true,
    }),
  };
}

/** Null where it is not recorded: outputs of before, and lakes alone. */
export async function latency(results: Results): Promise<Panel | null> {
  const there = await ask(
    results,
    "SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'millpond' " +
      "AND table_name = 'latency'",
  );
  if (there.rows[0]?.[0] !== 1) return null;
  const answer = await ask(results, "SELECT upto_ms, rows FROM millpond.latency ORDER BY upto_ms");
  if (answer.rows.length === 0) return null;
  const all = answer.rows.reduce((sum, row) => sum + numberOf(row[1]), 0);
  return {
    title: "From commit to visible",
    note:
      `How long ${numberText(all)} published rows took from the commit of their records to this ` +
      "database, by the clock. A run over files brings results here in large steps.",
    answer,
    body: bars({
      label: "Published rows by latency",
      columns: { name: "latency", value: "rows" },
      rows: answer.rows.map((row) => ({
        name: `up to ${shortDuration(numberOf(row[0]))}`,
        value: numberOf(row[1]),
      })),
      hasShares: true,
    }),
  };
}

/** None when there are none. */
export async function deadLetters(results: Results): Promise<readonly Panel[]> {
  const reasons = await ask(
    results,
    "SELECT reason, count(*) AS records, count(DISTINCT partition) AS partitions,\n" +
      "  min(timestamp) AS first, max(timestamp) AS last\n" +
      "FROM dead_letters GROUP BY reason ORDER BY records DESC, reason",
  );
  if (reasons.rows.length === 0) return [];
  const examples = await ask(
    results,
    'SELECT reason, detail, topic, partition, "offset",\n' +
      "  left(coalesce(TRY(decode(raw)), raw::VARCHAR), 200) AS raw\n" +
      "FROM dead_letters\n" +
      'QUALIFY row_number() OVER (PARTITION BY reason ORDER BY topic, partition, "offset") <= 3\n' +
      'ORDER BY reason, topic, partition, "offset"',
  );
  const all = reasons.rows.reduce((sum, row) => sum + numberOf(row[1]), 0);
  return [
    {
      title: "Dead letters by reason",
      note: `${numberText(all)} records could not be used; each is kept as it came.`,
      answer: reasons,
      body: bars({
        label: "Dead letters by reason",
        columns: { name: "reason", value: "records" },
        rows: reasons.rows.map((row) => ({
          name: keyText(textOf(row[0])),
          value: numberOf(row[1]),
          warns: true,
        })),
        hasShares: true,
      }),
    },
    {
      title: "Examples",
      note: "The first three of each reason.",
      answer: examples,
      body: null,
      isWide: true,
    },
  ];
}

/** The sums that must hold, per stream and table. */
export async function accounting(results: Results): Promise<Panel> {
  const answer = await ask(
    results,
    "SELECT kind, name, records, events, dead_letters, counted, late, duplicates, rows,\n" +
      "  CASE WHEN kind = 'stream' THEN records = events + dead_letters\n" +
      "    WHEN rows IS NULL THEN events = counted + late + duplicates ELSE true END AS adds_up\n" +
      "FROM accounting",
  );
  return {
    title: "Every record accounted for",
    note:
      "Streams: records = events + dead letters. Windowed tables: events = counted + late + " +
      "duplicates. What does not apply is null.",
    answer,
    body: null,
  };
}

const COLUMNS_MAX = 30;

/** Nulls and ranges of a table's columns. */
export async function columns(
  results: Results,
  table: PipelineDefinition["tables"][number],
): Promise<Panel> {
  const selects = table.columns.slice(0, COLUMNS_MAX).map(({ name }) => {
    const column = quoteName(name);
    return (
      `SELECT ${quoteText(name)} AS "column", count(*) - count(${column}) AS nulls,\n` +
      `  round(100 * (count(*) - count(${column})) / count(*), 2) AS null_percent,\n` +
      `  approx_count_distinct(${column}) AS distinct_about,\n` +
      `  left(min(${column})::VARCHAR, 60) AS least, left(max(${column})::VARCHAR, 60) AS most\n` +
      `FROM ${quoteName(table.name)}`
    );
  });
  const cut = table.columns.length - selects.length;
  return {
    title: "Columns",
    note: `Nulls and values of each column.${cut > 0 ? ` ${cut} more are not shown.` : ""}`,
    answer: await ask(results, selects.join("\nUNION ALL BY NAME\n")),
    body: null,
  };
}
