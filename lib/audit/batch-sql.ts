/**
 * A pipeline as batch SQL over bronze, by section 3 of the design and nothing of the engine's: the
 * statements that leave each of its tables, `late` and `dead_letters` in schema `main`, and what
 * they were made from in schema `work`. Running them is left to `batch.ts`.
 */
import type {
  ColumnNode,
  ColumnType,
  PipelineDefinition,
  StreamNode,
  TableNode,
  WindowNode,
} from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { quoteName, quoteText } from "../sinks/duckdb-types.js";
import { aggregateSql, roundingSql } from "./aggregate-sql.js";
import { decodeSql } from "./decode-sql.js";
import { recordsSql } from "./records-sql.js";
import { resultSql } from "./sql-types.js";
import { type MapRun, referenceStatements, stepsSql } from "./steps-sql.js";
import { roundingColumn } from "./tolerances.js";

export interface BatchSource {
  /** Something to select topic, partition, offset, timestamp and value from. */
  readonly bronze: string;
  /** Paths of the reference tables' files, by the table's name. */
  readonly references: ReadonlyMap<string, string>;
}

/** SQL to run, or a user's function over every row of a table. */
export type BatchStep = { readonly kind: "sql"; readonly sql: string } | MapRun;

export const eventsOf = (stream: string): string => `work.${quoteName(`events_${stream}`)}`;
export const classifiedOf = (table: string): string => `work.${quoteName(`classified_${table}`)}`;
const decodedOf = (stream: string): string => `work.${quoteName(`decoded_${stream}`)}`;

const sql = (text: string): BatchStep => ({ kind: "sql", sql: text });

/** The steps in their order. `tables`: only these of the pipeline's, and what they need. */
export function batchSteps(
  definition: PipelineDefinition,
  source: BatchSource,
  tables: readonly TableNode[] = definition.tables,
): BatchStep[] {
  return [
    sql("CREATE SCHEMA IF NOT EXISTS work"),
    sql(`CREATE TABLE dead_letters (topic VARCHAR, "partition" INTEGER, "offset" BIGINT,
      "timestamp" TIMESTAMPTZ, reason VARCHAR, raw BLOB)`),
    sql(`CREATE TABLE late ("table" VARCHAR, topic VARCHAR, "partition" INTEGER, "offset" BIGINT,
      event_time TIMESTAMPTZ, watermark TIMESTAMPTZ)`),
    ...referenceStatements(definition, source.references).map(sql),
    ...definition.streams.flatMap((stream) =>
      eventStatements(definition, stream, source.bronze).map(sql),
    ),
    ...tables.flatMap((table) => tableSteps(definition, table)),
  ];
}

/** Decodes a stream, then gives each event its watermark and what dedup says of it. */
function eventStatements(
  definition: PipelineDefinition,
  stream: StreamNode,
  bronze: string,
): string[] {
  const decoded = decodedOf(stream.name);
  const before = "ORDER BY __o ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING";
  const id = stream.dedup && quoteName(stream.dedup.id);
  const seen = id === undefined ? "NULL" : `max(__t) OVER (PARTITION BY __p, ${id} ${before})`;
  const limit = `__w - ${dedupWithinMs(definition, stream)}`;
  const hasDedup = stream.dedup !== undefined;
  return [
    `CREATE TABLE ${decoded} AS ${decodeSql(stream, `(${recordsSql(stream, bronze)})`)}`,
    `INSERT INTO dead_letters
    SELECT topic, "partition", "offset", "timestamp", __reason, "value" FROM ${bronze} AS records
    JOIN (SELECT __p, __o, __reason FROM ${decoded} WHERE __reason IS NOT NULL) AS dead
      ON "partition" = __p AND "offset" = __o
    WHERE topic = ${quoteText(stream.name)}`,
    `CREATE TABLE ${eventsOf(stream.name)} AS
    SELECT *, ${hasDedup} AND coalesce(__t < ${limit}, false) AS __unchecked,
      coalesce(__seen >= ${limit}, false) AS __repeated
    FROM (SELECT * EXCLUDE (__reason),
        max(__t) OVER (PARTITION BY __p ${before}) - ${stream.latenessMs} AS __w,
        max(__t) OVER (PARTITION BY __p) - ${stream.latenessMs} AS __passed,
        ${seen}::BIGINT AS __seen
      FROM ${decoded} WHERE __reason IS NULL)`,
    `DROP TABLE ${decoded}`,
  ];
}

/** Ids are remembered as long as the longest window of the pipeline, at least the lateness. */
function dedupWithinMs(definition: PipelineDefinition, stream: StreamNode): number {
  const windows = definition.tables.map(({ shape }) => {
    if (shape.kind === "rows") return 0;
    return shape.window.kind === "session" ? shape.window.gapMs : shape.window.sizeMs;
  });
  return stream.dedup?.withinMs ?? Math.max(stream.latenessMs, ...windows);
}

function tableSteps(definition: PipelineDefinition, table: TableNode): BatchStep[] {
  const stream = streamOf(definition, table);
  const references = new Map(definition.references.map((node) => [node.name, node]));
  const steps = stepsSql(table, stream, eventsOf(stream.name), references);
  const classified = classifiedOf(table.name);
  // A row table's rows are its events, read once.
  const kind = table.shape.kind === "rows" ? "VIEW" : "TABLE";
  const made = [
    ...steps.maps,
    // Read three times, each time a few of its columns: cheaper than written down.
    sql(`CREATE VIEW ${classified} AS
    SELECT *, CASE WHEN __unchecked THEN 'late' WHEN __repeated THEN 'duplicate'
      WHEN ${isLateSql(table)} THEN 'late' ELSE 'counted' END AS __class
    FROM (${steps.sql})`),
    sql(`CREATE ${kind} main.${quoteName(table.name)} AS
    ${resultQuery(table, stream, steps.columns)}`),
  ];
  if (table.shape.kind === "rows") return made;
  return [
    ...made,
    sql(`INSERT INTO late
    SELECT ${quoteText(table.name)}, ${quoteText(stream.name)}, __p, __o,
      make_timestamptz(__t * 1000), make_timestamptz(__w * 1000)
    FROM ${classified} WHERE __class = 'late'`),
  ];
}

export function streamOf(definition: PipelineDefinition, table: TableNode): StreamNode {
  const stream = definition.streams.find(({ name }) => name === table.stream);
  if (stream !== undefined) return stream;
  throw new MillpondError("USAGE", `Table "${table.name}" reads unknown stream ${table.stream}.`);
}

type SlidingWindow = Extract<WindowNode, { kind: "sliding" }>;

/** Start of the last window that holds the event: floored, also before 1970 and with an offset. */
const lastStartSql = ({ everyMs, offsetMs }: SlidingWindow): string =>
  `(__t - ((__t - ${offsetMs}) % ${everyMs} + ${everyMs}) % ${everyMs})`;

function isLateSql({ shape }: TableNode): string {
  if (shape.kind === "rows" || shape.window.kind === "session") return "__t < __w";
  return `${lastStartSql(shape.window)} + ${shape.window.sizeMs} <= __w`;
}

/**
 * A table's result. Windows and sessions have one more column, `__settled`: every partition whose
 * events are in the row has passed it, so that the row as published is that of the whole log.
 */
function resultQuery(
  table: TableNode,
  stream: StreamNode,
  columns: ReadonlyMap<string, ColumnType>,
): string {
  const { shape } = table;
  if (shape.kind === "rows") return rowsQuery(table, stream);
  const outputs = outputsSql(table, columns);
  const keys = shape.groupBy.map((name) => `, events.${quoteName(name)}`).join("");
  return shape.window.kind === "session"
    ? sessionsQuery(table.name, shape.window.gapMs, keys, outputs)
    : windowsQuery(table.name, shape.window, keys, outputs);
}

/** Group columns and aggregates of a windowed table, over its events. */
export function outputsSql(table: TableNode, columns: ReadonlyMap<string, ColumnType>): string {
  if (table.shape.kind === "rows") return "";
  const columnOf = new Map(table.columns.map((column) => [column.name, column]));
  const groups = table.shape.groupBy.map(
    (name) => `${resultSql(quoteName(name), columnOf.get(name)!.type)} AS ${quoteName(name)}`,
  );
  const aggregates = table.shape.aggregates.flatMap((aggregate) => {
    const result = columnOf.get(aggregate.name)!;
    const value = `${aggregateSql(aggregate, columns, result)} AS ${quoteName(aggregate.name)}`;
    const rounding = roundingColumn(aggregate, result);
    if (rounding === null) return [value];
    return [value, `${roundingSql(aggregate, columns)} AS ${quoteName(rounding)}`];
  });
  return [...groups, ...aggregates].join(",\n  ");
}

/** Every counted event once for each window that takes it, with the window's `__start`. */
export function windowEventsSql(table: string, window: SlidingWindow, classes: string): string {
  const { sizeMs, everyMs } = window;
  const starts = `range(${lastStartSql(window)}, __t - ${sizeMs}, -${everyMs})`;
  return `SELECT *, unnest(${starts}) AS __start FROM ${classifiedOf(table)} WHERE ${classes}`;
}

function windowsQuery(table: string, window: SlidingWindow, keys: string, outputs: string): string {
  const { sizeMs } = window;
  return `SELECT make_timestamptz(__start * 1000) AS window_start,
      make_timestamptz((__start + ${sizeMs}) * 1000) AS window_end,
      ${outputs},
      bool_and(__passed >= __start + ${sizeMs}) AS __settled
    FROM (${windowEventsSql(table, window, "__class = 'counted'")}) AS events
    WHERE __w IS NULL OR __start + ${sizeMs} > __w
    GROUP BY __start${keys}`;
}

/** Gaps and islands: more than the gap after the previous event begins a session. */
function sessionsQuery(table: string, gapMs: number, keys: string, outputs: string): string {
  const perKey = `PARTITION BY __p${keys} ORDER BY __t, __o`;
  return `SELECT make_timestamptz(min(__t) * 1000) AS session_start,
      make_timestamptz(max(__t) * 1000) AS session_end,
      ${outputs},
      max(__t) + ${gapMs} < max(__passed) AS __settled
    FROM (SELECT *, sum(__begins) OVER (${perKey} ROWS UNBOUNDED PRECEDING) AS __session
      FROM (SELECT *, coalesce(__t - lag(__t) OVER (${perKey}) > ${gapMs}, true)::INTEGER
          AS __begins
        FROM ${classifiedOf(table)} AS events WHERE __class = 'counted') AS events) AS events
    GROUP BY __p, __session${keys}`;
}

function rowsQuery(table: TableNode, stream: StreamNode): string {
  const output = (column: ColumnNode): string =>
    `${resultSql(quoteName(column.name), column.type)} AS ${quoteName(column.name)}`;
  return `SELECT ${table.columns.map(output).join(", ")}, __class = 'late' AS late,
      ${quoteText(stream.name)} AS topic, __p AS "partition", __o AS "offset",
      make_timestamptz(__t * 1000) AS __event_time
    FROM ${classifiedOf(table.name)} WHERE __class <> 'duplicate'`;
}

/** Sums of each stream and table, as the product's accounting names them; one row each. */
export function accountingSql(
  definition: PipelineDefinition,
  tables: readonly TableNode[] = definition.tables,
): string {
  const streams = definition.streams.map(({ name }) => {
    const letters = `(SELECT count(*) FROM dead_letters WHERE topic = ${quoteText(name)})`;
    return `SELECT 'stream' AS kind, ${quoteText(name)} AS name, n + d AS records, n AS events,
      d AS dead_letters, NULL::BIGINT AS counted, NULL::BIGINT AS late, NULL::BIGINT AS duplicates
    FROM (SELECT (SELECT count(*) FROM ${eventsOf(name)}) AS n, ${letters} AS d)`;
  });
  const results = tables.map(
    ({ name }) => `SELECT 'table' AS kind, ${quoteText(name)} AS name, NULL::BIGINT AS records,
      count(*) AS events, NULL::BIGINT AS dead_letters,
      count(*) FILTER (__class = 'counted') AS counted, count(*) FILTER (__class = 'late') AS late,
      count(*) FILTER (__class = 'duplicate') AS duplicates
    FROM ${classifiedOf(name)}`,
  );
  return [...streams, ...results].join("\n    UNION ALL ");
}
