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
  const members = await rowsOf(connection, AFFORDABLE_SQL);
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE beginnings
      (__rid BIGINT, __vid INTEGER, __bp INTEGER, __end BIGINT)`,
  );
  const appender = await connection.createAppender("beginnings", "main", "temp");
  for (const [id, lists] of byRow(members)) {
    for (const [vid, vector] of beginningsOf(lists).entries()) {
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

/**
 * Offsets of the rows that are tried, by row and partition: those of few records first, for as long
 * as the bound lasts. Others may have millions of records, which never leave the database.
 */
const AFFORDABLE_SQL = `WITH
  counts AS (SELECT __rid, __p, count(*) AS n FROM open_members GROUP BY ALL),
  costs AS (SELECT __rid, product(n + 1) AS beginnings, sum(n) * product(n + 1) AS cost
    FROM counts GROUP BY __rid),
  tried AS (SELECT __rid, sum(cost) OVER (ORDER BY cost, __rid) AS spent FROM costs
    WHERE beginnings <= ${BEGINNINGS_MAX})
  SELECT __rid AS id, __p AS p, list(__o::DOUBLE ORDER BY __o) AS offsets FROM open_members
  WHERE __rid IN (SELECT __rid FROM tried WHERE spent <= ${TRIED_RECORDS_MAX})
  GROUP BY ALL ORDER BY ALL`;

type Offsets = readonly [partition: number, offsets: readonly number[]];

/** Partition and the last offset that is in it. */
type Beginning = readonly (readonly [partition: number, end: number])[];

/** By row, of each partition the offsets in it. */
function byRow(members: readonly Cells[]): Map<number, Offsets[]> {
  const rows = new Map<number, Offsets[]>();
  for (const { id, p, offsets } of members) {
    const list = Array.isArray(offsets) ? offsets.map(Number) : [];
    rows.set(Number(id), [...(rows.get(Number(id)) ?? []), [Number(p), list]]);
  }
  return rows;
}

function beginningsOf(lists: readonly Offsets[]): Beginning[] {
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
    return agreesSql(`d.l${at}`, `t.${quoteName(name)}`, tolerances[name], "t.");
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
