/** Reads output directories with DuckDB alone, and tells two of them apart. */
import * as fs from "node:fs";
import * as path from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";

export type Row = Readonly<Record<string, unknown>>;

/** Rows of one SELECT, in which `{db}` and `{lake.<table>}` stand for an output's content. */
export async function rowsOf(out: string, sql: string): Promise<Row[]> {
  const instance = await DuckDBInstance.create(":memory:", { threads: "1" });
  const connection = await instance.connect();
  try {
    await connection.run("SET TimeZone = 'UTC'");
    await connection.run(`ATTACH '${path.join(out, "results.duckdb")}' AS db (READ_ONLY)`);
    const text = sql.replaceAll(/\{lake\.(\w+)\}/g, (_, table: string) => lakeRows(out, table));
    return (await connection.runAndReadAll(text.replaceAll("{db}", "db"))).getRowObjectsJson();
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

/** Live files by the Delta log's own words: what was added and not removed. */
export function liveFiles(out: string, table: string): string[] {
  const log = path.join(out, "lake", table, "_delta_log");
  const live = new Set<string>();
  for (const name of fs.readdirSync(log).sort()) {
    if (!name.endsWith(".json")) continue;
    for (const line of fs.readFileSync(path.join(log, name), "utf8").split("\n")) {
      if (line === "") continue;
      const { add, remove } = JSON.parse(line);
      if (add !== undefined) live.add(decodeURIComponent(add.path));
      if (remove !== undefined) live.delete(decodeURIComponent(remove.path));
    }
  }
  return [...live].map((file) => path.join(out, "lake", table, file));
}

function lakeRows(out: string, table: string): string {
  const files = liveFiles(out, table).map((file) => `'${file}'`);
  if (files.length === 0) return "(SELECT 1 WHERE false)";
  return `read_parquet([${files.join(", ")}], hive_partitioning = false)`;
}

export function lakeTables(out: string): string[] {
  const isTable = (name: string) => fs.existsSync(path.join(out, "lake", name, "_delta_log"));
  return fs.readdirSync(path.join(out, "lake")).filter(isTable).sort();
}

/** One line for each table, of the database or the lake, whose rows are not the same. */
export async function differences(one: string, other: string): Promise<string[]> {
  const instance = await DuckDBInstance.create(":memory:", { threads: "1" });
  const connection = await instance.connect();
  try {
    await connection.run(`ATTACH '${path.join(one, "results.duckdb")}' AS a (READ_ONLY)`);
    await connection.run(`ATTACH '${path.join(other, "results.duckdb")}' AS b (READ_ONLY)`);
    const rows = async (sql: string) => (await connection.runAndReadAll(sql)).getRows();
    const found: string[] = [];
    const compare = async (name: string, a: string, b: string) => {
      const both = `SELECT (SELECT count(*) FROM (FROM ${a} EXCEPT ALL FROM ${b})),
        (SELECT count(*) FROM (FROM ${b} EXCEPT ALL FROM ${a}))`;
      const [[missing, extra] = []] = await rows(both);
      if (missing !== 0n || extra !== 0n) found.push(`${name}: -${missing} +${extra}`);
    };
    const tablesIn = async (db: string) =>
      rows(
        `SELECT table_name FROM information_schema.tables WHERE table_catalog = '${db}'
         AND table_schema = 'main' ORDER BY 1`,
      );
    const tables = (await tablesIn("a")).map(([name]) => String(name));
    if (String(tables) !== String((await tablesIn("b")).flat())) found.push("tables");
    for (const name of tables) await compare(name, `a.${name}`, `b.${name}`);
    if (String(lakeTables(one)) !== String(lakeTables(other))) found.push("lake tables");
    for (const name of lakeTables(one)) {
      await compare(`lake ${name}`, lakeRows(one, name), lakeRows(other, name));
    }
    return found;
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}
