/**
 * The results of a run as a DuckDB that can only be read: the database is attached read-only,
 * lake tables are views over their live files, everything else on the machine is out of reach.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import {
  type DuckDBConnection,
  DuckDBInstance,
  type DuckDBResult,
  StatementType,
} from "@duckdb/node-api";
import { MillpondError } from "../errors.js";
import { LOCKED, outputPaths, readManifest } from "../runtime/output.js";
import { DeltaTable } from "../sinks/delta-table.js";
import { Database } from "../sinks/duckdb-database.js";
import { nameList, quoteName, quoteText } from "../sinks/duckdb-types.js";
import { storedPath } from "../sinks/lake-files.js";
import { LocalLakeStorage } from "../sinks/lake-storage.js";
import { isRevised, tableLayouts } from "../sinks/layouts.js";
import type { TableLayout } from "../sinks/sink.js";

const MEMORY_LIMIT = "1GB";
const THREADS = "2";

interface LakeView {
  readonly name: string;
  readonly files: readonly string[];
  readonly sql: string;
}

export class Results {
  readonly #instance: DuckDBInstance;
  readonly #connection: DuckDBConnection;
  #isInterrupted = false;

  private constructor(instance: DuckDBInstance, connection: DuckDBConnection) {
    this.#instance = instance;
    this.#connection = connection;
  }

  /**
   * @param writableDir an empty directory that `writeParquet` may write to
   * @throws MillpondError USAGE when there are no results in `out`, CONFLICT while a run writes
   */
  static async open(out: string, writableDir?: string): Promise<Results> {
    const paths = outputPaths(out);
    const hasDatabase = fs.existsSync(paths.database);
    const views = await lakeViews(out);
    if (!hasDatabase && views.length === 0) throw noResults(out);
    const instance = await DuckDBInstance.create(":memory:", {
      threads: THREADS,
      memory_limit: MEMORY_LIMIT,
      autoinstall_known_extensions: "false",
      autoload_known_extensions: "false",
    });
    const connection = await instance.connect();
    const results = new Results(instance, connection);
    try {
      if (hasDatabase) await results.#attach(paths.database);
      await results.#addViews(views);
      await results.#lock(views, writableDir);
      return results;
    } catch (error) {
      results.close();
      throw error;
    }
  }

  /** Runs one SELECT; rows come in chunks. @throws MillpondError QUERY */
  async select(sql: string): Promise<DuckDBResult> {
    const prepared = await this.#prepareSelect(sql);
    try {
      return await prepared.stream();
    } catch (error) {
      throw await this.explained(error);
    }
  }

  /** Writes a SELECT's rows into a file inside `writableDir`. */
  async writeParquet(sql: string, file: string): Promise<void> {
    (await this.#prepareSelect(sql)).destroySync();
    try {
      // A view takes the text as one statement's tail, so it can't end in a COPY of its own.
      const view = "millpond_query_result";
      const create = await this.#connection.extractStatements(`CREATE TEMP VIEW ${view} AS ${sql}`);
      if (create.count !== 1) throw refused("it is more than one statement");
      await (await create.prepare(0)).run();
      await this.#connection.run(
        `COPY (FROM temp.${view}) TO ${quoteText(file)} (FORMAT parquet, COMPRESSION zstd)`,
      );
    } catch (error) {
      throw await this.explained(error);
    }
  }

  interrupt(): void {
    this.#isInterrupted = true;
    this.#connection.interrupt();
  }

  close(): void {
    this.#connection.closeSync();
    this.#instance.closeSync();
  }

  /** A DuckDB error as one of ours; one about a missing table names those that exist. */
  async explained(error: unknown): Promise<MillpondError> {
    if (error instanceof MillpondError) return error;
    if (this.#isInterrupted) {
      return new MillpondError(
        "QUERY",
        "the query took too long and was stopped: narrow it, or give a longer --timeout <seconds>",
        { cause: error },
      );
    }
    const message = error instanceof Error ? error.message.trim() : String(error);
    const isMissing = /Table with name/.test(message);
    const tables = isMissing ? `. Tables here: ${(await this.#tables()).join(", ")}` : "";
    const text = message.split("\n\n")[0]!.replaceAll("\n", " ");
    return new MillpondError("QUERY", `${text}${tables}`, { cause: error });
  }

  async #tables(): Promise<string[]> {
    const reader = await this.#connection.runAndReadAll(
      "SELECT DISTINCT table_name FROM (SELECT table_name FROM duckdb_tables() WHERE " +
        "schema_name = 'main' UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal) " +
        "ORDER BY 1",
    );
    return reader.getRows().map(([name]) => String(name));
  }

  async #prepareSelect(sql: string) {
    try {
      const statements = await this.#connection.extractStatements(sql);
      if (statements.count !== 1) throw refused(`it has ${statements.count} statements`);
      const prepared = await statements.prepare(0);
      if (prepared.statementType === StatementType.SELECT) return prepared;
      throw refused(`it is ${StatementType[prepared.statementType]}`);
    } catch (error) {
      throw await this.explained(error);
    }
  }

  async #attach(file: string): Promise<void> {
    try {
      await this.#connection.run(`ATTACH ${quoteText(file)} AS results (READ_ONLY)`);
      await this.#connection.run("USE results");
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause);
      if (LOCKED.test(message)) {
        throw new MillpondError("CONFLICT", `a run is writing to ${file}: try again when it ends`, {
          cause,
        });
      }
      throw new MillpondError("STORAGE", `cannot open ${file}: ${message}`, { cause });
    }
  }

  async #addViews(views: readonly LakeView[]): Promise<void> {
    for (const { name, sql } of views) {
      const inDatabase = await this.#tables();
      if (inDatabase.includes(name)) continue;
      await this.#connection.run(`CREATE TEMP VIEW ${quoteName(name)} AS ${sql}`);
    }
  }

  async #lock(views: readonly LakeView[], writableDir: string | undefined): Promise<void> {
    const files = views.flatMap((view) => view.files);
    const directories = writableDir === undefined ? [] : [`${writableDir}${path.sep}`];
    const settings = [
      "SET TimeZone = 'UTC'",
      "SET temp_directory = ''",
      `SET allowed_paths = [${files.map(quoteText).join(", ")}]`,
      `SET allowed_directories = [${directories.map(quoteText).join(", ")}]`,
      "SET allow_community_extensions = false",
      "SET enable_external_access = false",
      "SET lock_configuration = true",
    ];
    for (const sql of settings) await this.#connection.run(sql);
  }
}

function refused(found: string): MillpondError {
  return new MillpondError(
    "QUERY",
    `the query was refused because ${found}: results are read-only, give one SELECT`,
  );
}

function noResults(out: string): MillpondError {
  const found = fs.existsSync(out) ? "holds no results" : "does not exist";
  return new MillpondError(
    "USAGE",
    `--out ${out} ${found}: give the directory that \`millpond run --out\` wrote to`,
  );
}

/** Views over the live files of every Delta table in the lake. */
async function lakeViews(out: string): Promise<LakeView[]> {
  const paths = outputPaths(out);
  const names = fs.existsSync(paths.lake)
    ? fs
        .readdirSync(paths.lake)
        .filter((name) => fs.existsSync(path.join(paths.lake, name, "_delta_log")))
    : [];
  if (names.length === 0) return [];
  const manifest = readManifest(paths);
  const layouts = manifest === null ? [] : tableLayouts(manifest.definition);
  const storage = new LocalLakeStorage(paths.lake, path.join(paths.lake, "_millpond", "tmp"));
  // Only reads checkpoints of the logs.
  const reader = await Database.open({ path: ":memory:", tempDir: storage.tempDir });
  try {
    const views: LakeView[] = [];
    for (const name of names.sort()) {
      const table = new DeltaTable(name, storage, reader, 0);
      await table.load();
      const live = [...table.snapshot.files.values()];
      const files = live.map((file) => storage.uri(storedPath(name, file)));
      if (files.length === 0) continue;
      const layout = layouts.find((candidate) => candidate.name === name);
      views.push({ name, files, sql: viewSql(files, layout) });
    }
    return views;
  } finally {
    reader.close();
  }
}

/** A lake keeps every revision: the view shows the last of each row, like the database does. */
function viewSql(files: readonly string[], layout: TableLayout | undefined): string {
  const source = `read_parquet([${files.map(quoteText).join(", ")}], hive_partitioning = false)`;
  if (layout === undefined) return `SELECT * FROM ${source}`;
  const select = `SELECT ${nameList(layout.columns)} FROM ${source}`;
  if (!isRevised(layout)) return select;
  const key = layout.key.map(quoteName).join(", ");
  return (
    `SELECT ${nameList(layout.columns)} FROM (SELECT *, row_number() OVER (PARTITION BY ${key} ` +
    `ORDER BY revision DESC) AS millpond_rank FROM ${source}) ` +
    "WHERE millpond_rank = 1 AND NOT retracted"
  );
}
