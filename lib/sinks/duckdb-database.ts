/** One DuckDB instance with the bounds a sink needs: little memory, few threads, no downloads. */
import type { DuckDBConnection } from "@duckdb/node-api";
import type { ColumnNode } from "../define/definition.js";
import { DuckDBInstance } from "../duckdb-api.js";
import { type ErrorCode, MillpondError } from "../errors.js";
import { BatchAppender } from "./duckdb-rows.js";

/** A row off the hot path, as DuckDB's JSON form gives it: 64-bit integers as strings. */
export type JsonRow = Readonly<Record<string, unknown>>;

export interface DatabaseOptions {
  /** `:memory:` or a file. */
  readonly path: string;
  /** Where DuckDB may spill what does not fit its memory. */
  readonly tempDir: string;
  readonly threads?: number;
  readonly readOnly?: boolean;
  /** Where signed extensions are, for `LOAD`. */
  readonly extensionDirectory?: string;
}

/** DuckDB may take some more; a run holds two databases, and must stay under 512 MB. */
const MEMORY_LIMIT = "128MB";

export class Database {
  readonly #instance: DuckDBInstance;
  readonly #connection: DuckDBConnection;
  readonly #path: string;

  private constructor(path: string, instance: DuckDBInstance, connection: DuckDBConnection) {
    this.#path = path;
    this.#instance = instance;
    this.#connection = connection;
  }

  static async open(options: DatabaseOptions): Promise<Database> {
    try {
      const instance = await DuckDBInstance.create(options.path, {
        threads: String(options.threads ?? 1),
        memory_limit: MEMORY_LIMIT,
        access_mode: options.readOnly === true ? "READ_ONLY" : "AUTOMATIC",
        temp_directory: options.tempDir,
        autoinstall_known_extensions: "false",
        autoload_known_extensions: "false",
        ...(options.extensionDirectory === undefined
          ? {}
          : { extension_directory: options.extensionDirectory }),
      });
      const database = new Database(options.path, instance, await instance.connect());
      await database.run("SET TimeZone = 'UTC'");
      return database;
    } catch (error) {
      throw databaseError(options.path, error);
    }
  }

  async run(sql: string): Promise<void> {
    try {
      await this.#connection.run(sql);
    } catch (error) {
      throw databaseError(this.#path, error);
    }
  }

  async rows(sql: string): Promise<JsonRow[]> {
    try {
      return (await this.#connection.runAndReadAll(sql)).getRowObjectsJson();
    } catch (error) {
      throw databaseError(this.#path, error);
    }
  }

  /** Run `work` in one transaction: all of it, or nothing. */
  async transaction(work: () => Promise<void>): Promise<void> {
    await this.run("BEGIN");
    try {
      await work();
      await this.run("COMMIT");
    } catch (error) {
      // The first error is the one to tell; DuckDB may have rolled back by itself already.
      await this.#connection.run("ROLLBACK").catch(() => undefined);
      throw error;
    }
  }

  appender(
    table: { readonly catalog?: string; readonly name: string },
    columns: readonly ColumnNode[],
  ): Promise<BatchAppender> {
    const explain = (error: unknown) => databaseError(this.#path, error);
    return BatchAppender.open(this.#connection, table, columns, explain);
  }

  close(): void {
    this.#connection.closeSync();
    this.#instance.closeSync();
  }
}

function databaseError(path: string, error: unknown): MillpondError {
  if (error instanceof MillpondError) return error;
  const detail = error instanceof Error ? error.message : String(error);
  const where = path === ":memory:" ? "DuckDB" : `DuckDB file ${path}`;
  const [code, advice] = explain(detail);
  return new MillpondError(code, `${where}: ${detail.trim().replace(/\.$/, "")}. ${advice}`, {
    cause: error,
  });
}

function explain(detail: string): [ErrorCode, string] {
  if (/lock on file|Conflicting lock/i.test(detail)) {
    return ["CONFLICT", "Another process has the file open: wait for it, or stop it."];
  }
  if (/No space left|ENOSPC|max_temp_directory_size/i.test(detail)) {
    return ["STORAGE", "The disk is full: free some space and run again; nothing is damaged."];
  }
  if (/not a valid DuckDB database|serialization|Cannot open file/i.test(detail)) {
    return ["OUTPUT", "Give another output directory, or move the file away."];
  }
  return ["STORAGE", "Running again continues where this run stopped."];
}
