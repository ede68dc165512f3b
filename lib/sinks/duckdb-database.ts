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

interface Opened {
  readonly instance: DuckDBInstance;
  readonly connection: DuckDBConnection;
}

const OUT_OF_MEMORY = /Out of Memory Error/;
const CLOSED = Symbol("closed");

export class Database {
  readonly #options: DatabaseOptions;
  /** Null until it is used. */
  #opened: Promise<Opened> | typeof CLOSED | null = null;

  private constructor(options: DatabaseOptions) {
    this.#options = options;
  }

  static async open(options: DatabaseOptions): Promise<Database> {
    const database = new Database(options);
    await database.#open();
    return database;
  }

  /** Opened once it is used: opening takes some 15 ms, and the first one loads DuckDB. */
  static inMemory(options: Omit<DatabaseOptions, "path">): Database {
    return new Database({ ...options, path: ":memory:" });
  }

  async run(sql: string): Promise<void> {
    const { connection } = await this.#open();
    try {
      await connection.run(sql);
    } catch (error) {
      throw databaseError(this.#options.path, error);
    }
  }

  async rows(sql: string): Promise<JsonRow[]> {
    const { connection } = await this.#open();
    try {
      return (await connection.runAndReadAll(sql)).getRowObjectsJson();
    } catch (error) {
      throw databaseError(this.#options.path, error);
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
      await this.run("ROLLBACK").catch(() => undefined);
      throw error;
    }
  }

  async appender(
    table: { readonly catalog?: string; readonly name: string },
    columns: readonly ColumnNode[],
  ): Promise<BatchAppender> {
    const { connection } = await this.#open();
    const explain = (error: unknown) => databaseError(this.#options.path, error);
    return BatchAppender.open(connection, table, columns, explain);
  }

  /** For good: what comes after it fails. */
  async close(): Promise<void> {
    const opening = this.#opened;
    this.#opened = CLOSED;
    if (opening === null || opening === CLOSED) return;
    const opened = await opening.catch(() => null);
    try {
      opened?.connection.closeSync();
    } finally {
      opened?.instance.closeSync();
    }
  }

  #open(): Promise<Opened> {
    if (this.#opened === CLOSED) {
      const { path } = this.#options;
      throw new MillpondError("INVARIANT", `DuckDB ${path} is closed. This is a bug in Millpond.`);
    }
    this.#opened ??= openDatabase(this.#options).catch((error) => {
      // The next one may have more luck.
      if (this.#opened !== CLOSED) this.#opened = null;
      throw error;
    });
    return this.#opened;
  }
}

async function openDatabase(options: DatabaseOptions): Promise<Opened> {
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
    try {
      const connection = await instance.connect();
      await connection.run("SET TimeZone = 'UTC'");
      return { instance, connection };
    } catch (error) {
      instance.closeSync();
      throw error;
    }
  } catch (error) {
    throw databaseError(options.path, error);
  }
}

/** What was asked for does not fit DuckDB's memory, not even with what it may spill. */
export function isOutOfMemory(error: unknown): boolean {
  return error instanceof MillpondError && OUT_OF_MEMORY.test(error.message);
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
  if (OUT_OF_MEMORY.test(detail)) {
    return [
      "STORAGE",
      "Records are too long to be written together; nothing is damaged. Shorten them, or keep no " +
        "bronze of them.",
    ];
  }
  if (/not a valid DuckDB database|serialization|Cannot open file/i.test(detail)) {
    return ["OUTPUT", "Give another output directory, or move the file away."];
  }
  return ["STORAGE", "Running again continues where this run stopped."];
}
