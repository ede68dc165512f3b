/**
 * The DuckDB database: one file with a table per result, holding the latest revision of each row.
 * Rows and progress change in one transaction; DuckDB's log brings a killed run's file back to the
 * last one. Keys are not primary keys, because group columns may be null: a revised row is deleted
 * and inserted anew. What the key is stands in the table's comment.
 */
import * as fs from "node:fs/promises";
import * as path from "node:path";
import type { Batch } from "../engine/batch.js";
import { MillpondError } from "../errors.js";
import { makeDirectory } from "../stores/make-directory.js";
import { onceFree } from "../stores/once-free.js";
import { Database } from "./duckdb-database.js";
import type { BatchAppender } from "./duckdb-rows.js";
import { columnDefinitions, nameList, quoteName, quoteText } from "./duckdb-types.js";
import { isRevised, revisionColumns } from "./layouts.js";
import type { Accounting, Publication, Sink, TableLayout } from "./sink.js";

export interface DuckdbOptions {
  /** The database file; its directory is made if it is missing. */
  readonly file: string;
  readonly pipeline: string;
  /** How long a process that reads the file is waited for; not at all by default. */
  readonly readersMs?: number | undefined;
  /** The tables this database holds; publications for others are passed over. */
  readonly layouts: readonly TableLayout[];
}

export interface DuckdbSink extends Sink {
  /** Replace table `accounting`: one column per key of any row. */
  setAccounting(accounting: Accounting): Promise<void>;
  /** How many rows the tables that only grow really hold. */
  rowCounts(): Promise<Map<string, number>>;
}

/** The database sink. While it is open, other processes cannot open the file. */
export function duckdbSink(options: DuckdbOptions): DuckdbSink {
  return new DuckdbFile(options);
}

/** Appenders of one call to `apply`. */
interface Pass {
  /** Into the result tables: rows that supersede nothing. */
  readonly direct: Map<string, BatchAppender>;
  /** Into temporary tables, to be merged at the end. */
  readonly staged: Map<string, BatchAppender>;
  /** Rows by when they were committed, epoch ms. */
  readonly commits: Map<number, number>;
}

/** DuckDB makes a file by writing three headers of 4,096 bytes; before that it holds nothing. */
const NEW_FILE_BYTES = 3 * 4096;

/** Removes a file whose making was cut short, by kill -9 or a full disk: DuckDB can't open it. */
async function removeUnfinished(file: string): Promise<void> {
  const info = await fs.stat(file).catch(() => null);
  if (info === null || !info.isFile() || info.size >= NEW_FILE_BYTES) return;
  const start = await fs.readFile(file);
  const isDuckdb = start.subarray(8, 12).toString("latin1") === "DUCK";
  if (start.length === 0 || isDuckdb) await fs.rm(file);
}

class DuckdbFile implements DuckdbSink {
  readonly name = "duckdb";
  readonly #options: DuckdbOptions;
  readonly #layouts: ReadonlyMap<string, TableLayout>;
  #opened: Database | null = null;
  #sequence = 0;

  constructor(options: DuckdbOptions) {
    this.#options = options;
    this.#layouts = new Map(options.layouts.map((layout) => [layout.name, layout]));
  }

  async open(): Promise<number> {
    const { file } = this.#options;
    makeDirectory(path.dirname(path.resolve(file)));
    await removeUnfinished(file);
    const database = await onceFree(this.#options.readersMs ?? 0, () =>
      Database.open({ path: file, tempDir: `${file}.tmp` }),
    );
    this.#opened = database;
    try {
      await database.transaction(() => this.#claim(database));
      this.#sequence = await this.#storedSequence(database);
    } catch (error) {
      await this.close();
      throw error;
    }
    return this.#sequence;
  }

  async apply(publications: AsyncIterable<Publication>, lastSequence: number): Promise<void> {
    const database = this.#database();
    await database.transaction(async () => {
      const pass: Pass = { direct: new Map(), staged: new Map(), commits: new Map() };
      const appenders = () => [...pass.direct.values(), ...pass.staged.values()];
      try {
        await this.#append(database, pass, publications, lastSequence);
        for (const appender of appenders()) appender.close();
      } catch (error) {
        for (const appender of appenders()) appender.discard();
        throw error;
      }
      for (const name of pass.staged.keys()) await merge(database, this.#layout(name));
      await addLatencies(database, pass.commits);
      await database.run(
        `UPDATE millpond.progress SET sequence = greatest(sequence, ${lastSequence})`,
      );
    });
    this.#sequence = Math.max(this.#sequence, lastSequence);
  }

  async setAccounting(accounting: Accounting): Promise<void> {
    const database = this.#database();
    await database.transaction(async () => {
      await writeAccounting(database, accounting);
      // A run that is killed leaves newer rows beside it.
      await database.run(`CREATE OR REPLACE TABLE millpond.accounted AS
        SELECT sequence FROM millpond.progress`);
    });
  }

  async rowCounts(): Promise<Map<string, number>> {
    const counts = new Map<string, number>();
    for (const { name, kind } of this.#layouts.values()) {
      if (kind !== "rows" && kind !== "late" && kind !== "dead_letters") continue;
      const [row] = await this.#database().rows(`SELECT count(*) AS n FROM ${quoteName(name)}`);
      counts.set(name, Number(row?.n ?? 0));
    }
    return counts;
  }

  async close(): Promise<void> {
    const opened = this.#opened;
    this.#opened = null;
    await opened?.close();
  }

  #database(): Database {
    if (this.#opened !== null) return this.#opened;
    throw new MillpondError("USAGE", "The DuckDB sink is not open: call open() first.");
  }

  #layout(name: string): TableLayout {
    const layout = this.#layouts.get(name);
    if (layout !== undefined) return layout;
    throw new MillpondError("INVARIANT", `No layout for table "${name}": a bug in Millpond.`);
  }

  async #append(
    database: Database,
    pass: Pass,
    publications: AsyncIterable<Publication>,
    lastSequence: number,
  ): Promise<void> {
    for await (const { sequence, table, batch, committedAtMs } of publications) {
      const layout = this.#layouts.get(table);
      if (layout === undefined || sequence <= this.#sequence || batch.rowCount === 0) continue;
      if (sequence > lastSequence) {
        throw new MillpondError(
          "INVARIANT",
          `Publication ${sequence} came to a sink that was told that ${lastSequence} is the ` +
            "last. This is a bug in Millpond: report it.",
        );
      }
      const isStaged = isRevised(layout) && (pass.staged.has(table) || supersedes(batch));
      const appender = isStaged
        ? (pass.staged.get(table) ?? (await stage(database, layout)))
        : (pass.direct.get(table) ?? (await database.appender({ name: table }, layout.columns)));
      (isStaged ? pass.staged : pass.direct).set(table, appender);
      appender.append(batch);
      if (committedAtMs === undefined) continue;
      pass.commits.set(committedAtMs, (pass.commits.get(committedAtMs) ?? 0) + batch.rowCount);
    }
  }

  /** Create what is missing in an empty or an own file; refuse any other. */
  async #claim(database: Database): Promise<void> {
    const { file, pipeline } = this.#options;
    const stored = await database.rows(
      "SELECT schema_name || '.' || table_name AS name FROM duckdb_tables() " +
        "WHERE database_name = current_database()",
    );
    const isOurs = stored.some(({ name }) => name === "millpond.progress");
    if (stored.length > 0 && !isOurs) {
      throw new MillpondError(
        "OUTPUT",
        `${file} is a DuckDB database that Millpond did not make: it has other tables. ` +
          "Give another output directory, or move the file away.",
      );
    }
    if (!isOurs) await createProgress(database, pipeline);
    await database.run(
      "CREATE TABLE IF NOT EXISTS millpond.latency (upto_ms BIGINT PRIMARY KEY, rows BIGINT)",
    );
    const [owner] = await database.rows("SELECT pipeline FROM millpond.progress");
    if (owner?.pipeline !== pipeline) {
      throw new MillpondError(
        "OUTPUT",
        `${file} belongs to pipeline "${String(owner?.pipeline)}", not "${pipeline}". ` +
          "Give another output directory.",
      );
    }
    const layouts = await database.rows("SELECT name, columns FROM millpond.layouts");
    const found = new Map(layouts.map(({ name, columns }) => [name, columns]));
    for (const layout of this.#layouts.values()) {
      await this.#createTable(database, layout, found.get(layout.name));
    }
  }

  async #createTable(database: Database, layout: TableLayout, found: unknown): Promise<void> {
    const { name, columns } = layout;
    const expected = columnDefinitions(columns);
    if (found === undefined) {
      const table = `main.${quoteName(name)}`;
      const declared = columns.map((column) => {
        return `${columnDefinitions([column])}${column.nullable ? "" : " NOT NULL"}`;
      });
      await database.run(`CREATE TABLE ${table} (${declared.join(", ")})`);
      await database.run(`COMMENT ON TABLE ${table} IS ${quoteText(keyComment(layout))}`);
      const row = `${quoteText(name)}, ${quoteText(expected)}`;
      await database.run(`INSERT INTO millpond.layouts VALUES (${row})`);
    } else if (found !== expected) {
      throw new MillpondError(
        "OUTPUT",
        `Table "${name}" in ${this.#options.file} has the columns (${String(found)}), but the ` +
          `definition now asks for (${expected}). Give another output directory.`,
      );
    }
  }

  async #storedSequence(database: Database): Promise<number> {
    const [row] = await database.rows("SELECT sequence FROM millpond.progress");
    return Number(row?.sequence ?? 0);
  }
}

/** The key as anyone who opens the file finds it, in `duckdb_tables()`. */
function keyComment({ key, kind }: TableLayout): string {
  const place = kind === "late" ? ["table", ...PLACE] : PLACE;
  return `one row per ${(key.length > 0 ? key : place).join(", ")}`;
}

/** What identifies a row that is never revised. */
const PLACE: readonly string[] = ["topic", "partition", "offset"];

async function createProgress(database: Database, pipeline: string): Promise<void> {
  await database.run("CREATE SCHEMA millpond");
  await database.run("CREATE TABLE millpond.progress (pipeline VARCHAR, sequence BIGINT)");
  // The columns that each table was made with, to tell a changed definition by.
  await database.run("CREATE TABLE millpond.layouts (name VARCHAR, columns VARCHAR)");
  await database.run(`INSERT INTO millpond.progress VALUES (${quoteText(pipeline)}, 0)`);
}

/** Ends of the ranges that rows are counted in; the last one takes what is slower, too. */
const LATENCY_BOUNDS_MS = [
  ...[10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000],
  ...[900_000, 3_600_000, 14_400_000, 86_400_000, 604_800_000, 31_536_000_000],
];

/** How long rows took from their commit until now, when they become visible. */
async function addLatencies(
  database: Database,
  commits: ReadonlyMap<number, number>,
): Promise<void> {
  const nowMs = Date.now();
  const rows = new Map<number, number>();
  for (const [atMs, count] of commits) {
    const bound =
      LATENCY_BOUNDS_MS.find((boundMs) => nowMs - atMs <= boundMs) ?? LATENCY_BOUNDS_MS.at(-1)!;
    rows.set(bound, (rows.get(bound) ?? 0) + count);
  }
  if (rows.size === 0) return;
  const values = [...rows].map(([bound, count]) => `(${bound}, ${count})`).join(", ");
  await database.run(
    `INSERT INTO millpond.latency VALUES ${values} ` +
      "ON CONFLICT DO UPDATE SET rows = latency.rows + excluded.rows",
  );
}

function stageName(layout: TableLayout): string {
  return `stage_${layout.name}`;
}

async function stage(database: Database, layout: TableLayout): Promise<BatchAppender> {
  const columns = revisionColumns(layout);
  const name = stageName(layout);
  await database.run(`CREATE TEMP TABLE ${quoteName(name)} (${columnDefinitions(columns)})`);
  return database.appender({ catalog: "temp", name }, columns);
}

/** Whether a row of the batch may take the place of one that is there. */
export function supersedes({ columns, rowCount }: Batch): boolean {
  return columns.some(
    ({ name, vector }) =>
      (name === "revision" || name === "retracted") &&
      vector.kind === "number" &&
      vector.values.subarray(0, rowCount).some((value) => value !== 0),
  );
}

/** Of each key's staged rows the highest revision takes the place of what the table has. */
async function merge(database: Database, layout: TableLayout): Promise<void> {
  const table = `main.${quoteName(layout.name)}`;
  const staged = `temp.${quoteName(stageName(layout))}`;
  const latest = `temp.${quoteName(`latest_${layout.name}`)}`;
  const keys = layout.key.map(quoteName);
  const sameKey = keys.map((key) => `target.${key} IS NOT DISTINCT FROM latest.${key}`);
  // The later of two equal revisions wins, as it would across two calls.
  await database.run(
    `CREATE TEMP TABLE ${quoteName(`latest_${layout.name}`)} AS SELECT * FROM ${staged} QUALIFY ` +
      `row_number() OVER (PARTITION BY ${keys.join(", ")} ORDER BY revision DESC, rowid DESC) = 1`,
  );
  await database.run(
    `DELETE FROM ${table} AS target USING ${latest} AS latest WHERE ${sameKey.join(" AND ")}`,
  );
  await database.run(
    `INSERT INTO ${table} SELECT ${nameList(layout.columns)} FROM ${latest} WHERE NOT retracted`,
  );
  await database.run(`DROP TABLE ${latest}`);
  await database.run(`DROP TABLE ${staged}`);
}

/** Replaces table `accounting`; to be called in a transaction. */
export async function writeAccounting(
  database: { run(sql: string): Promise<unknown> },
  { rows }: Accounting,
): Promise<void> {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  await database.run("DROP TABLE IF EXISTS main.accounting");
  if (names.length === 0) return;
  const columns = names.map((name) => `${quoteName(name)} ${accountingType(name, rows)}`);
  await database.run(`CREATE TABLE main.accounting (${columns.join(", ")})`);
  for (const row of rows) {
    const values = names.map((name) => literal(row[name] ?? null)).join(", ");
    await database.run(`INSERT INTO main.accounting VALUES (${values})`);
  }
}

function accountingType(name: string, rows: Accounting["rows"]): string {
  const values = rows.map((row) => row[name] ?? null).filter((value) => value !== null);
  if (values.some((value) => typeof value === "string")) return "VARCHAR";
  return values.every((value) => Number.isSafeInteger(value)) ? "BIGINT" : "DOUBLE";
}

function literal(value: string | number | null): string {
  if (value === null) return "NULL";
  if (typeof value === "string") return quoteText(value);
  return Number.isFinite(value) ? String(value) : `'${value}'::DOUBLE`;
}
