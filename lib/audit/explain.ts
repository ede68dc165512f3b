/** Which record explains a difference: found by trying, over the few records of one row. */
import type { DuckDBConnection } from "@duckdb/node-api";
import type {
  ColumnNode,
  ColumnType,
  PipelineDefinition,
  TableNode,
} from "../define/definition.js";
import { quoteName, quoteText } from "../sinks/duckdb-types.js";
import type { TableLayout } from "../sinks/sink.js";
import { classifiedOf, eventsOf, outputsSql, streamOf, windowEventsSql } from "./batch-sql.js";
import { agreesSql } from "./compare-sql.js";
import { type Cells, rowsOf } from "./rows.js";
import { resultSql } from "./sql-types.js";
import { stepsSql } from "./steps-sql.js";
import { tolerancesOf } from "./tolerances.js";

/** Rows of more records than that are not tried record by record. */
const TRIED_MAX = 300;

export interface Explained {
  readonly definition: PipelineDefinition;
  readonly layout: TableLayout;
  /** Absent for `late` and `dead_letters`. */
  readonly table: TableNode | undefined;
  /** The table of differences, and which of its rows. */
  readonly differences: string;
  readonly rowid: string;
  readonly kind: string;
  /** Something to select the sums of all records from. */
  readonly accounting: string | null;
}

/** In words, beginning with the offset where there is one. */
export async function explain(
  connection: DuckDBConnection,
  difference: Explained,
): Promise<string> {
  const { layout, table } = difference;
  const isWindowed = table !== undefined && table.shape.kind === "windowed";
  if (isWindowed) return explainWindow(connection, difference, table);
  const at = layout.key.length > 0 ? layout.key : keyOf(layout);
  const [row] = await rowsOf(
    connection,
    `SELECT k${at.indexOf("topic")} AS topic,
    k${at.indexOf("partition")} AS p, k${at.indexOf("offset")} AS o
    FROM ${difference.differences} WHERE rowid = ${difference.rowid}`,
  );
  const { topic, p, o } = row!;
  return `${topic}-${p} offset ${o}: ${await verdict(connection, difference, String(topic), p, o)}`;
}

/** The columns that tell rows of append-only tables apart. */
export function keyOf({ kind, key }: TableLayout): readonly string[] {
  if (key.length > 0) return key;
  const origin = ["topic", "partition", "offset"];
  return kind === "late" ? ["table", ...origin] : origin;
}

/** By kind of table: what bronze does not tell by itself, or only the stream knows. */
const NOT_RECOMPUTED: Readonly<Record<TableLayout["kind"], readonly string[]>> = {
  windowed: ["revision"],
  session: ["revision"],
  rows: [],
  late: ["payload"],
  dead_letters: ["detail"],
  bronze: [],
};

/** Columns beside the key that a row's recomputation has too. */
export function recomputedColumns(layout: TableLayout): ColumnNode[] {
  const left = [...keyOf(layout), ...NOT_RECOMPUTED[layout.kind]];
  return layout.columns.filter(({ name }) => !left.includes(name));
}

/** What the recomputation says of one record. */
async function verdict(
  connection: DuckDBConnection,
  { definition, table }: Explained,
  topic: string,
  partition: unknown,
  offset: unknown,
): Promise<string> {
  const place = `"partition" = ${Number(partition)} AND "offset" = ${Number(offset)}`;
  const at = `__p = ${Number(partition)} AND __o = ${Number(offset)}`;
  const letters = await rowsOf(
    connection,
    `SELECT reason FROM dead_letters WHERE topic = ${quoteText(topic)} AND ${place}`,
  );
  if (letters.length > 0) return `is a dead letter (${letters[0]!.reason})`;
  const isStream = definition.streams.some(({ name }) => name === topic);
  const events = isStream
    ? await rowsOf(connection, `SELECT ${TIMES} FROM ${eventsOf(topic)} WHERE ${at}`)
    : [];
  const [event] = events;
  if (event === undefined) return "bronze has no such record";
  if (table === undefined) return timesText(event);
  const classes = await rowsOf(
    connection,
    `SELECT __class AS class FROM ${classifiedOf(table.name)} WHERE ${at}`,
  );
  const verdicts = { late: "came late", duplicate: "is a duplicate", counted: "is in time" };
  const found = String(classes[0]?.class ?? "");
  const words = Object.entries(verdicts).find(([name]) => name === found)?.[1];
  return `${words ?? "is filtered out"}, ${timesText(event)}`;
}

const iso = (ms: string): string => `strftime(epoch_ms(${ms}), '%Y-%m-%dT%H:%M:%S.%gZ')`;
const TIMES = `${iso("__t")} AS event_time, ${iso("__w")} AS watermark`;

const timesText = ({ event_time, watermark }: Cells): string =>
  `event time ${event_time}, watermark before it ${watermark ?? "none"}`;

async function explainWindow(
  connection: DuckDBConnection,
  difference: Explained,
  table: TableNode,
): Promise<string> {
  const members = membersSql(difference, table);
  await connection.run(`CREATE OR REPLACE TEMP TABLE members AS ${members}`);
  const [counts] = await rowsOf(
    connection,
    "SELECT count(*) FILTER (__taken) AS n, count(*) FILTER (NOT __taken) AS others FROM members",
  );
  const n = Number(counts!.n);
  const place = (row: Cells) => `${table.stream}-${row.p} offset ${row.o}`;
  const [first] = await rowsOf(
    connection,
    "SELECT __p AS p, __o AS o FROM members WHERE __taken ORDER BY 1, 2 LIMIT 1",
  );
  if (difference.kind === "missing") {
    return `${place(first!)}: the first of the row's ${n} records`;
  }
  const [lacking] = n <= TRIED_MAX ? await tried(connection, difference, table, "without") : [];
  if (lacking !== undefined)
    return `${place(lacking)}: with it the row is as recomputed, the published row lacks it`;
  const gap = await firstGap(connection, difference, table);
  if (gap !== null) return `${gap}: was read, and bronze lacks it`;
  const others = Number(counts!.others) <= TRIED_MAX;
  const [added] = others ? await tried(connection, difference, table, "with") : [];
  if (added !== undefined) {
    const says = await verdict(connection, difference, table.stream, added.p, added.o);
    return `${place(added)}: the published row counts it, but it ${says}`;
  }
  if (first === undefined) return "no record in bronze explains it";
  return `${place(first)}: the first of the row's ${n} records`;
}

/** The row's records (`__taken`), and those that the recomputation kept out of it. */
function membersSql({ differences, rowid, layout }: Explained, table: TableNode): string {
  if (table.shape.kind === "rows") return "";
  const { window, groupBy } = table.shape;
  const types = new Map(table.columns.map(({ name, type }) => [name, type]));
  const key = layout.key.slice(1).map((name, i) => {
    const type: ColumnType = types.get(name)!;
    return `${resultSql(`e.${quoteName(name)}`, type)} IS NOT DISTINCT FROM d.k${i + 1}`;
  });
  const same = groupBy.length === 0 ? [] : key;
  if (window.kind === "session") {
    const end = "greatest(epoch_ms(coalesce(d.l0, d.r0)), epoch_ms(coalesce(d.r0, d.l0)))";
    const range = `e.__t BETWEEN epoch_ms(d.k0) - ${window.gapMs} AND ${end} + ${window.gapMs}`;
    return `SELECT e.*, 0::BIGINT AS __start, e.__class = 'counted'
        AND e.__t BETWEEN epoch_ms(d.k0) AND ${end} AS __taken
      FROM ${classifiedOf(table.name)} AS e, ${differences} AS d
      WHERE d.rowid = ${rowid} AND ${[range, ...same].join(" AND ")}`;
  }
  return `SELECT e.*, e.__class = 'counted'
      AND (e.__w IS NULL OR e.__start + ${window.sizeMs} > e.__w) AS __taken
    FROM (${windowEventsSql(table.name, window, "true")}) AS e, ${differences} AS d
    WHERE d.rowid = ${rowid} AND ${["e.__start = epoch_ms(d.k0)", ...same].join(" AND ")}`;
}

/** The first record without (or with) which the recomputed row would be the published one. */
async function tried(
  connection: DuckDBConnection,
  { definition, differences, rowid, layout }: Explained,
  table: TableNode,
  how: "with" | "without",
): Promise<Cells[]> {
  if (table.shape.kind === "rows") return [];
  const references = new Map(definition.references.map((node) => [node.name, node]));
  const stream = streamOf(definition, table);
  const { columns } = stepsSql(table, stream, eventsOf(stream.name), references);
  const tried = `SELECT __p AS try_p, __o AS try_o FROM members
    WHERE ${how === "with" ? "NOT __taken" : "__taken"}`;
  const isIt = "(__p = try_p AND __o = try_o)";
  const takes = how === "with" ? `(__taken OR ${isIt})` : `(__taken AND NOT ${isIt})`;
  const groups = table.shape.groupBy.map((name) => `, events.${quoteName(name)}`).join("");
  const compared = recomputedColumns(layout);
  const tolerances = tolerancesOf(table);
  const agree = table.shape.aggregates.map(({ name }) => {
    const at = compared.findIndex((column) => column.name === name);
    return agreesSql(`d.l${at}`, `t.${quoteName(name)}`, tolerances[name], "t.");
  });
  return rowsOf(
    connection,
    `SELECT t.try_p AS p, t.try_o AS o FROM (
      SELECT try_p, try_o, ${outputsSql(table, columns)}
      FROM (SELECT * FROM members, (${tried}) WHERE ${takes}) AS events
      GROUP BY try_p, try_o${groups}) AS t, ${differences} AS d
    WHERE d.rowid = ${rowid} AND ${agree.join(" AND ")} ORDER BY 1, 2 LIMIT 1`,
  );
}

/**
 * The first offset that bronze jumps over, where the accounting knows of more records than bronze
 * has: Kafka's offsets may have gaps by themselves.
 */
async function firstGap(
  connection: DuckDBConnection,
  { definition, accounting }: Explained,
  table: TableNode,
): Promise<string | null> {
  if (accounting === null) return null;
  const { name } = streamOf(definition, table);
  const [gap] = await rowsOf(
    connection,
    `WITH records AS (SELECT __p AS p, __o AS o FROM ${eventsOf(name)} UNION ALL
        SELECT "partition", "offset" FROM dead_letters WHERE topic = ${quoteText(name)})
    SELECT p, o FROM (
      SELECT p, o + 1 AS o, lead(o) OVER (PARTITION BY p ORDER BY o) AS next FROM records)
    WHERE next > o AND (SELECT count(*) FROM records) < (SELECT max(records)
      FROM ${accounting} WHERE kind = 'stream' AND name = ${quoteText(name)})
    ORDER BY p, o LIMIT 1`,
  );
  return gap === undefined ? null : `${name}-${gap.p} offset ${gap.o}`;
}
