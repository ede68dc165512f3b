/**
 * Rows on their way to Snowflake: gathered in DuckDB and written as Parquet files, each sent and
 * deleted when it is full. How they are loaded is for the sink.
 */
import { createHash } from "node:crypto";
import * as fs from "node:fs/promises";
import * as path from "node:path";
import type { Batch } from "../engine/batch.js";
import { supersedes } from "./duckdb.js";
import { Database } from "./duckdb-database.js";
import type { BatchAppender } from "./duckdb-rows.js";
import { columnDefinitions, quoteName, quoteText } from "./duckdb-types.js";
import { revisionColumns } from "./layouts.js";
import type { TableLayout } from "./sink.js";
import { fileColumns } from "./snowflake-sql.js";

/** A file is about a tenth of that; Snowflake asks for 100 to 250 MB where there is as much. */
const GATHERED_BYTES_MAX = 64 * 1024 * 1024;

/** Files of one table. */
export interface StagedFiles {
  readonly layout: TableLayout;
  readonly folder: string;
  /** Names without `.parquet`, which the rows carry too. */
  readonly files: readonly string[];
  readonly rowCount: number;
  /** Whether a row may take the place of one that is there. */
  readonly replaces: boolean;
}

interface Gathered {
  readonly layout: TableLayout;
  readonly folder: string;
  readonly files: string[];
  appender: BatchAppender | null;
  /** Of what no file has yet. */
  firstSequence: number;
  bytes: number;
  rows: number;
  rowsInFiles: number;
  replaces: boolean;
}

export interface KnownPublication {
  readonly sequence: number;
  readonly layout: TableLayout;
  readonly batch: Batch;
}

export class SnowflakeFiles {
  readonly #dir: string;
  readonly #run: string;
  readonly #send: (file: string, folder: string) => Promise<unknown>;
  readonly #tables = new Map<string, Gathered>();
  readonly #database: Database;

  /** `run` makes names unlike those of calls for other publications; `send` gets each file. */
  constructor(dir: string, run: string, send: (file: string, folder: string) => Promise<unknown>) {
    this.#dir = dir;
    this.#run = run;
    this.#send = send;
    this.#database = Database.inMemory({ tempDir: `${dir}/spill` });
  }

  /** Tables that got rows. Files end between publications, so that repeating makes the same. */
  async write(publications: AsyncIterable<KnownPublication>): Promise<StagedFiles[]> {
    for await (const { sequence, layout, batch } of publications) {
      const table = this.#table(layout);
      if (table.rows === 0) table.firstSequence = sequence;
      table.appender ??= await this.#open(layout);
      table.bytes += table.appender.append(batch);
      table.rows += batch.rowCount;
      table.replaces ||= supersedes(batch);
      await this.#flushLargestIfFull();
    }
    for (const table of this.#tables.values()) await this.#flush(table);
    return [...this.#tables.values()].map(({ layout, folder, files, rowsInFiles, replaces }) => {
      return { layout, folder, files, rowCount: rowsInFiles, replaces };
    });
  }

  async close(): Promise<void> {
    for (const { appender } of this.#tables.values()) appender?.discard();
    await this.#database.close();
  }

  #table(layout: TableLayout): Gathered {
    const known = this.#tables.get(layout.name);
    if (known !== undefined) return known;
    const made: Gathered = {
      layout,
      folder: folderName(layout.name),
      files: [],
      appender: null,
      firstSequence: 0,
      bytes: 0,
      rows: 0,
      rowsInFiles: 0,
      replaces: false,
    };
    this.#tables.set(layout.name, made);
    return made;
  }

  async #open(layout: TableLayout): Promise<BatchAppender> {
    const columns = revisionColumns(layout);
    const table = quoteName(layout.name);
    await this.#database.run(`CREATE OR REPLACE TABLE ${table} (${columnDefinitions(columns)})`);
    return this.#database.appender({ name: layout.name }, columns);
  }

  async #flushLargestIfFull(): Promise<void> {
    const tables = [...this.#tables.values()];
    if (tables.reduce((sum, { bytes }) => sum + bytes, 0) < GATHERED_BYTES_MAX) return;
    await this.#flush(tables.reduce((a, b) => (b.bytes > a.bytes ? b : a)));
  }

  async #flush(table: Gathered): Promise<void> {
    if (table.appender === null) return;
    table.appender.close();
    table.appender = null;
    const { layout, folder, rowsInFiles } = table;
    const name = `${this.#run}-${table.firstSequence}`;
    const file = path.join(this.#dir, `${name}.parquet`);
    const columns = fileColumns(layout, name, rowsInFiles);
    const from = quoteName(layout.name);
    await this.#database.run(
      `COPY (SELECT ${columns} FROM ${from}) TO ${quoteText(file)} (FORMAT parquet)`,
    );
    await this.#database.run(`DROP TABLE ${from}`);
    await this.#send(file, folder);
    await fs.rm(file);
    table.files.push(name);
    table.rowsInFiles += table.rows;
    table.rows = 0;
    table.bytes = 0;
  }
}

/** Readable, and of letters that a stage's path may have. */
function folderName(table: string): string {
  const plain = table.replace(/[^A-Za-z0-9_-]/g, "_");
  if (plain === table) return table;
  return `${plain}-${createHash("sha256").update(table).digest("hex").slice(0, 8)}`;
}
