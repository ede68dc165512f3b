/**
 * The reference: a pipeline's tables computed by DuckDB from raw NDJSON files, by section 3 of the
 * design and nothing else, so that tests can hold the engine's results against it.
 * User functions (`map`) cannot be said in SQL and are refused.
 */
import { type DuckDBConnection, DuckDBInstance } from "@duckdb/node-api";
import type {
  ColumnNode,
  ColumnType,
  PipelineDefinition,
  StreamNode,
  TableNode,
  WindowNode,
} from "../../lib/define/definition.js";
import { MillpondError } from "../../lib/errors.js";
import { aggregateSql } from "./aggregate-sql.js";
import { decodeSql } from "./decode-sql.js";
import { loadLines } from "./load-lines.js";
import { type Row, readRows } from "./rows.js";
import { quoteName, quoteText, resultSql } from "./sql-types.js";
import { createReferences, stepsSql } from "./steps-sql.js";

/** One NDJSON file (or .ndjson.gz) is one partition; line i has offset i. */
export interface ReferenceInput {
  readonly files: readonly {
    readonly path: string;
    readonly topic: string;
    readonly partition: number;
  }[];
  /** Files of the pipeline's reference tables, by the table's name. */
  readonly references?: ReadonlyMap<string, string>;
}

export interface StreamAccounting {
  readonly stream: string;
  readonly records: number;
  readonly events: number;
  readonly deadLetters: number;
}

/** `counted` of a row table are its rows that are not late; its late ones are rows too. */
export interface TableAccounting {
  readonly table: string;
  readonly filtered: number;
  readonly counted: number;
  readonly late: number;
  readonly duplicates: number;
}

export interface ReferenceTables {
  /**
   * Rows of a table of the pipeline, of `late` or of `dead_letters`, without `revision`, payloads
   * and raw bytes.
   */
  table(name: string): Promise<Row[]>;
  accounting(): Promise<{ streams: StreamAccounting[]; tables: TableAccounting[] }>;
  /** Holds each table under its name in schema `main`, for checks too large for rows. */
  readonly connection: DuckDBConnection;
  close(): void;
}

export async function referenceTables(
  definition: PipelineDefinition,
  input: ReferenceInput,
): Promise<ReferenceTables> {
  const instance = await DuckDBInstance.create(":memory:", { threads: "2" });
  const connection = await instance.connect();
  await connection.run("SET TimeZone = 'UTC'; SET preserve_insertion_order = false");
  await connection.run("CREATE SCHEMA work");
  await connection.run(
    `CREATE TABLE dead_letters (topic VARCHAR, "partition" INTEGER, "offset" BIGINT,
      reason VARCHAR)`,
  );
  await connection.run(
    `CREATE TABLE late ("table" VARCHAR, topic VARCHAR, "partition" INTEGER, "offset" BIGINT,
      event_time TIMESTAMPTZ, watermark TIMESTAMPTZ)`,
  );
  await createReferences(connection, definition, input.references ?? new Map());
  for (const stream of definition.streams)
    await createEvents(connection, definition, stream, input);
  for (const table of definition.tables) await createTable(connection, definition, table);
  return {
    connection,
    table: (name) => readRows(connection, `SELECT * FROM main.${quoteName(name)}`),
    accounting: async () => ({
      streams: await streamAccounting(connection, definition),
      tables: await tableAccounting(connection, definition),
    }),
    close: () => {
      connection.closeSync();
      instance.closeSync();
    },
  };
}

const eventsOf = (stream: string): string => `work.${quoteName(`events_${stream}`)}`;
const classifiedOf = (table: string): string => `work.${quoteName(`classified_${table}`)}`;

/** Decodes the stream's files, then gives each event its watermark and what dedup says of it. */
async function createEvents(
  connection: DuckDBConnection,
  definition: PipelineDefinition,
  stream: StreamNode,
  input: ReferenceInput,
): Promise<void> {
  const files = input.files.filter((file) => file.topic === stream.name);
  const decoded = `work.${quoteName(`decoded_${stream.name}`)}`;
  for (const [index, file] of files.entries()) {
    const lines = "lines_of_one_file";
    await loadLines(connection, lines, file.path, stream);
    const query = `SELECT ${file.partition}::INTEGER AS __p, * FROM (${decodeSql(stream, lines)})`;
    const into = index === 0 ? `CREATE TABLE ${decoded} AS` : `INSERT INTO ${decoded}`;
    await connection.run(`${into} ${query}`);
    await connection.run(`DROP TABLE ${lines}`);
  }
  if (files.length === 0) {
    throw new MillpondError(
      "USAGE",
      `No input file has topic "${stream.name}"; name at least one.`,
    );
  }
  await connection.run(`INSERT INTO dead_letters
    SELECT ${quoteText(stream.name)}, __p, __o, __reason FROM ${decoded}
    WHERE __reason IS NOT NULL`);
  const before = "ORDER BY __o ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING";
  const id = stream.dedup && quoteName(stream.dedup.id);
  const seen = id === undefined ? "NULL" : `max(__t) OVER (PARTITION BY __p, ${id} ${before})`;
  const limit = `__w - ${dedupWithinMs(definition, stream)}`;
  const hasDedup = stream.dedup !== undefined;
  await connection.run(`CREATE TABLE ${eventsOf(stream.name)} AS
    SELECT *, ${hasDedup} AND coalesce(__t < ${limit}, false) AS __unchecked,
      coalesce(__seen >= ${limit}, false) AS __repeated
    FROM (SELECT * EXCLUDE (__reason),
        max(__t) OVER (PARTITION BY __p ${before}) - ${stream.latenessMs} AS __w,
        ${seen}::BIGINT AS __seen
      FROM ${decoded} WHERE __reason IS NULL)`);
  await connection.run(`DROP TABLE ${decoded}`);
}

/** Ids are remembered as long as the longest window of the pipeline, at least the lateness. */
function dedupWithinMs(definition: PipelineDefinition, stream: StreamNode): number {
  const windows = definition.tables.map(({ shape }) => {
    if (shape.kind === "rows") return 0;
    return shape.window.kind === "session" ? shape.window.gapMs : shape.window.sizeMs;
  });
  return stream.dedup?.withinMs ?? Math.max(stream.latenessMs, ...windows);
}

async function createTable(
  connection: DuckDBConnection,
  definition: PipelineDefinition,
  table: TableNode,
): Promise<void> {
  const stream = definition.streams.find(({ name }) => name === table.stream);
  if (stream === undefined) {
    throw new MillpondError("USAGE", `Table "${table.name}" reads unknown stream ${table.stream}.`);
  }
  const references = new Map(definition.references.map((node) => [node.name, node]));
  const steps = stepsSql(table, stream, eventsOf(stream.name), references);
  const classified = classifiedOf(table.name);
  await connection.run(`CREATE TABLE ${classified} AS
    SELECT *, CASE WHEN __unchecked THEN 'late' WHEN __repeated THEN 'duplicate'
      WHEN ${isLateSql(table)} THEN 'late' ELSE 'counted' END AS __class
    FROM (${steps.sql})`);
  await connection.run(
    `CREATE TABLE main.${quoteName(table.name)} AS ${resultQuery(table, stream, steps.columns)}`,
  );
  if (table.shape.kind === "rows") return;
  await connection.run(`INSERT INTO late
    SELECT ${quoteText(table.name)}, ${quoteText(stream.name)}, __p, __o,
      make_timestamptz(__t * 1000), make_timestamptz(__w * 1000)
    FROM ${classified} WHERE __class = 'late'`);
}

function resultQuery(
  table: TableNode,
  stream: StreamNode,
  columns: ReadonlyMap<string, ColumnType>,
): string {
  const { shape } = table;
  if (shape.kind === "rows") return rowsQuery(table, stream);
  const columnOf = new Map(table.columns.map((column) => [column.name, column]));
  const groups = shape.groupBy.map(
    (name) => `${resultSql(quoteName(name), columnOf.get(name)!.type)} AS ${quoteName(name)}`,
  );
  const aggregates = shape.aggregates.map((aggregate) => {
    const sql = aggregateSql(aggregate, columns, columnOf.get(aggregate.name)!);
    return `${sql} AS ${quoteName(aggregate.name)}`;
  });
  const outputs = [...groups, ...aggregates].join(",\n  ");
  const keys = shape.groupBy.map((name) => `, events.${quoteName(name)}`).join("");
  return shape.window.kind === "session"
    ? sessionsQuery(table.name, shape.window.gapMs, keys, outputs)
    : windowsQuery(table.name, shape.window, keys, outputs);
}

type SlidingWindow = Extract<WindowNode, { kind: "sliding" }>;

/** Start of the last window that holds the event: floored, also before 1970 and with an offset. */
const lastStartSql = ({ everyMs, offsetMs }: SlidingWindow): string =>
  `(__t - ((__t - ${offsetMs}) % ${everyMs} + ${everyMs}) % ${everyMs})`;

function isLateSql({ shape }: TableNode): string {
  if (shape.kind === "rows" || shape.window.kind === "session") return "__t < __w";
  return `${lastStartSql(shape.window)} + ${shape.window.sizeMs} <= __w`;
}

function windowsQuery(table: string, window: SlidingWindow, keys: string, outputs: string): string {
  const { sizeMs, everyMs } = window;
  const starts = `range(${lastStartSql(window)}, __t - ${sizeMs}, -${everyMs})`;
  return `SELECT make_timestamptz(__start * 1000) AS window_start,
      make_timestamptz((__start + ${sizeMs}) * 1000) AS window_end,
      ${outputs}
    FROM (SELECT *, unnest(${starts}) AS __start
      FROM ${classifiedOf(table)} WHERE __class = 'counted') AS events
    WHERE __w IS NULL OR __start + ${sizeMs} > __w
    GROUP BY __start${keys}`;
}

/** Gaps and islands: more than the gap after the previous event begins a session. */
function sessionsQuery(table: string, gapMs: number, keys: string, outputs: string): string {
  const perKey = `PARTITION BY __p${keys} ORDER BY __t, __o`;
  return `SELECT make_timestamptz(min(__t) * 1000) AS session_start,
      make_timestamptz(max(__t) * 1000) AS session_end,
      ${outputs}
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
      ${quoteText(stream.name)} AS topic, __p AS "partition", __o AS "offset"
    FROM ${classifiedOf(table.name)} WHERE __class <> 'duplicate'`;
}

async function streamAccounting(
  connection: DuckDBConnection,
  definition: PipelineDefinition,
): Promise<StreamAccounting[]> {
  const count = async (from: string): Promise<number> =>
    Number((await readRows(connection, `SELECT count(*) AS n FROM ${from}`))[0].n);
  const result: StreamAccounting[] = [];
  for (const { name } of definition.streams) {
    const events = await count(eventsOf(name));
    const deadLetters = await count(`dead_letters WHERE topic = ${quoteText(name)}`);
    result.push({ stream: name, records: events + deadLetters, events, deadLetters });
  }
  return result;
}

async function tableAccounting(
  connection: DuckDBConnection,
  definition: PipelineDefinition,
): Promise<TableAccounting[]> {
  const result: TableAccounting[] = [];
  for (const { name, stream } of definition.tables) {
    const [row] = await readRows(
      connection,
      `SELECT (SELECT count(*) FROM ${eventsOf(stream)}) - count(*) AS filtered,
        count(*) FILTER (__class = 'counted') AS counted,
        count(*) FILTER (__class = 'late') AS late,
        count(*) FILTER (__class = 'duplicate') AS duplicates
      FROM ${classifiedOf(name)}`,
    );
    result.push({
      table: name,
      filtered: Number(row.filtered),
      counted: Number(row.counted),
      late: Number(row.late),
      duplicates: Number(row.duplicates),
    });
  }
  return result;
}
