/**
 * Rows that were published while their windows were open, by a flush or as live rows, and have not
 * been since: what the row had read of each partition then, nobody wrote down. But it was a
 * beginning of what the row's records are now, so that a row which no beginning gives is wrong.
 */
import type { DuckDBConnection } from "@duckdb/node-api";
import type { PipelineDefinition, TableNode } from "../define/definition.js";
import { BIGINT, INTEGER } from "../duckdb-api.js";
import { quoteName } from "../sinks/duckdb-types.js";
import type { TableLayout } from "../sinks/sink.js";
import { classifiedOf, eventsOf, outputsSql, streamOf, windowEventsSql } from "./batch-sql.js";
import { agreesSql } from "./compare-sql.js";
import { recomputedColumns } from "./explain.js";
import { type Cells, rowsOf } from "./rows.js";
import { resultSql } from "./sql-types.js";
import { stepsSql } from "./steps-sql.js";
import { tolerancesOf } from "./tolerances.js";

/** Records to aggregate, over all rows and beginnings of a table; rows beyond stay open. */
const TRIED_RECORDS_MAX = 3_000_000;
/** Beginnings of a row: a product over its partitions. */
const BEGINNINGS_MAX = 2_000;

export interface OpenRows {
  readonly definition: PipelineDefinition;
  readonly layout: TableLayout;
  readonly table: TableNode;
  /** The table of differences; of its rows, those that are not due. */
  readonly differences: string;
}

/** Makes those rows due that no beginning of their records gives. */
export async function judgeOpenRows(connection: DuckDBConnection, rows: OpenRows): Promise<void> {
  const { differences, table } = rows;
  const isOpen = "NOT due AND l0 IS NOT NULL";
  const [some] = await rowsOf(connection, `SELECT 1 FROM ${differences} WHERE ${isOpen} LIMIT 1`);
  if (some === undefined || table.shape.kind === "rows") return;
  await connection.run(`CREATE OR REPLACE TEMP TABLE open_members AS ${membersSql(rows, isOpen)}`);
  const members = await rowsOf(
    connection,
    `SELECT __rid AS id, __p AS p, list(__o::DOUBLE ORDER BY __o) AS offsets
    FROM open_members GROUP BY ALL ORDER BY ALL`,
  );
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE beginnings
      (__rid BIGINT, __vid INTEGER, __bp INTEGER, __end BIGINT)`,
  );
  const appender = await connection.createAppender("beginnings", "main", "temp");
  for (const { id, vectors } of affordable(members)) {
    for (const [vid, vector] of vectors.entries()) {
      for (const [partition, end] of vector) {
        appender.appendValue(BigInt(id), BIGINT);
        appender.appendValue(vid, INTEGER);
        appender.appendValue(partition, INTEGER);
        appender.appendValue(BigInt(end), BIGINT);
        appender.endRow();
      }
    }
  }
  appender.closeSync();
  await connection.run(`UPDATE ${differences} SET due = true
    WHERE rowid IN (SELECT __rid FROM beginnings) AND rowid NOT IN (${explainedSql(rows)})`);
}

/** Partition and the last offset that is in it. */
type Beginning = readonly (readonly [partition: number, end: number])[];

/** Those of few records first, for as long as the bound lasts. */
function affordable(members: readonly Cells[]): { id: number; vectors: Beginning[] }[] {
  const byRow = new Map<number, (readonly [number, readonly number[]])[]>();
  for (const { id, p, offsets } of members) {
    const list = Array.isArray(offsets) ? offsets.map(Number) : [];
    byRow.set(Number(id), [...(byRow.get(Number(id)) ?? []), [Number(p), list]]);
  }
  const rows = [...byRow].map(([id, lists]) => {
    const records = lists.reduce((sum, [, offsets]) => sum + offsets.length, 0);
    const beginnings = lists.reduce((product, [, offsets]) => product * (offsets.length + 1), 1);
    return { id, lists, beginnings, cost: records * beginnings };
  });
  const tried: { id: number; vectors: Beginning[] }[] = [];
  let left = TRIED_RECORDS_MAX;
  for (const { id, lists, beginnings, cost } of rows.sort((a, b) => a.cost - b.cost)) {
    left -= cost;
    if (left < 0) break;
    if (beginnings <= BEGINNINGS_MAX) tried.push({ id, vectors: beginningsOf(lists) });
  }
  return tried;
}

function beginningsOf(lists: readonly (readonly [number, readonly number[]])[]): Beginning[] {
  let vectors: Beginning[] = [[]];
  for (const [partition, offsets] of lists) {
    vectors = vectors.flatMap((vector): Beginning[] => [
      vector,
      ...offsets.map((end) => [...vector, [partition, end] as const]),
    ]);
  }
  return vectors.filter(({ length }) => length > 0);
}

/** The records that the rows may have been made of, with `__rid`, the row. */
function membersSql({ differences, layout, table }: OpenRows, isOpen: string): string {
  if (table.shape.kind === "rows") return "";
  const { window, groupBy } = table.shape;
  const types = new Map(table.columns.map(({ name, type }) => [name, type]));
  const keys = layout.key.slice(1).map((name, i) => {
    const key = resultSql(`e.${quoteName(name)}`, types.get(name)!);
    return `${key} IS NOT DISTINCT FROM d.k${i + 1}`;
  });
  const same = groupBy.length === 0 ? [] : keys;
  const open = `(SELECT rowid AS __rid, * FROM ${differences} WHERE ${isOpen}) AS d`;
  if (window.kind === "session") {
    const within = "e.__t BETWEEN epoch_ms(d.k0) AND epoch_ms(d.l0)";
    return `SELECT d.__rid, e.* FROM ${classifiedOf(table.name)} AS e JOIN ${open}
      ON ${[within, ...same].join(" AND ")} WHERE e.__class = 'counted'`;
  }
  const first = `(SELECT min(epoch_ms(k0)) FROM ${differences} WHERE ${isOpen})`;
  const events = windowEventsSql(table.name, window, `__class = 'counted' AND __t >= ${first}`);
  return `SELECT d.__rid, e.* FROM (${events}) AS e JOIN ${open}
    ON ${["e.__start = epoch_ms(d.k0)", ...same].join(" AND ")}
    WHERE e.__w IS NULL OR e.__start + ${window.sizeMs} > e.__w`;
}

/** The rows that a beginning gives. */
function explainedSql({ definition, differences, layout, table }: OpenRows): string {
  if (table.shape.kind === "rows") return "";
  const references = new Map(definition.references.map((node) => [node.name, node]));
  const stream = streamOf(definition, table);
  const { columns } = stepsSql(table, stream, eventsOf(stream.name), references);
  const compared = recomputedColumns(layout);
  const tolerances = tolerancesOf(table);
  const agree = table.shape.aggregates.map(({ name }) => {
    const at = compared.findIndex((column) => column.name === name);
    return agreesSql(`d.l${at}`, `t.${quoteName(name)}`, tolerances[name]);
  });
  const isSession = table.shape.window.kind === "session";
  const times = isSession ? ["t.__from = epoch_ms(d.k0)", "t.__to = epoch_ms(d.l0)"] : [];
  const groups = table.shape.groupBy.map((name) => `, events.${quoteName(name)}`).join("");
  return `SELECT d.rowid FROM (
      SELECT __rid, __vid, min(__t) AS __from, max(__t) AS __to, ${outputsSql(table, columns)}
      FROM (SELECT * FROM open_members JOIN beginnings USING (__rid)
        WHERE __p = __bp AND __o <= __end) AS events
      GROUP BY __rid, __vid${groups}) AS t
    JOIN ${differences} AS d ON d.rowid = t.__rid
    WHERE ${["NOT d.due", ...times, ...agree].join(" AND ")}`;
}
