/** Independent readers of what sinks wrote: DuckDB on the file, and JSON.parse on the Delta log. */
import * as fs from "node:fs/promises";
import * as path from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import type { TableLayout } from "../../lib/sinks/sink.js";
import { plainSql } from "./sinks-batches.js";

type PlainRow = (string | null)[];

export async function queryPlain(file: string, sql: string): Promise<PlainRow[]> {
  const instance = await DuckDBInstance.create(
    file,
    file === ":memory:" ? {} : { access_mode: "READ_ONLY" },
  );
  const connection = await instance.connect();
  try {
    await connection.run("SET TimeZone = 'UTC'");
    const reader = await connection.runAndReadAll(sql);
    return reader
      .getRowsJson()
      .map((row) => row.map((value) => (value === null ? null : String(value))));
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

export function readDatabase(
  file: string,
  layout: TableLayout,
  select = layout.columns.map(plainSql).join(", "),
): Promise<PlainRow[]> {
  return queryPlain(file, `SELECT ${select} FROM main."${layout.name}"`);
}

/** Live files of a Delta table, from the JSON commits alone. */
export async function liveFiles(tableDir: string): Promise<{ path: string; stats: string }[]> {
  const log = path.join(tableDir, "_delta_log");
  const live = new Map<string, { path: string; stats: string }>();
  for (const name of (await fs.readdir(log)).filter((n) => n.endsWith(".json")).sort()) {
    for (const line of (await fs.readFile(path.join(log, name), "utf8")).trim().split("\n")) {
      const { add, remove } = JSON.parse(line);
      if (add) live.set(add.path, add);
      if (remove) live.delete(remove.path);
    }
  }
  return [...live.values()];
}

/** A lake table's latest revisions. */
export async function readLake(
  dir: string,
  layout: TableLayout,
  select = layout.columns.map(plainSql).join(", "),
): Promise<PlainRow[]> {
  const tableDir = path.join(dir, layout.name);
  const files = await liveFiles(tableDir);
  if (files.length === 0) return [];
  const list = files.map((file) => `'${path.join(tableDir, decodeURI(file.path))}'`).join(", ");
  const rows = `read_parquet([${list}], hive_partitioning = false)`;
  if (layout.key.length === 0) return queryPlain(":memory:", `SELECT ${select} FROM ${rows}`);
  const keys = layout.key.map((key) => `"${key}"`).join(", ");
  const latest =
    `SELECT * FROM ${rows} QUALIFY row_number() OVER ` +
    `(PARTITION BY ${keys} ORDER BY revision DESC) = 1`;
  return queryPlain(":memory:", `SELECT ${select} FROM (${latest}) WHERE NOT retracted`);
}
