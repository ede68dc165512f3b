/** A lake table's Parquet files: rows are gathered in DuckDB and written by event date. */
import { randomUUID } from "node:crypto";
import * as fs from "node:fs/promises";
import * as path from "node:path";
import type { ColumnNode } from "../define/definition.js";
import type { Batch } from "../engine/batch.js";
import { MillpondError } from "../errors.js";
import { makeDirectory } from "../stores/make-directory.js";
import type { AddFile } from "./delta-log.js";
import { type ColumnStatistics, deltaStats, PARTITION_COLUMN } from "./delta-schema.js";
import type { Database, JsonRow } from "./duckdb-database.js";
import type { BatchAppender } from "./duckdb-rows.js";
import { columnDefinitions, nameList, quoteName, quoteText } from "./duckdb-types.js";
import type { LakeStorage } from "./lake-storage.js";

/** Row groups are held in memory, and rows of bronze are long: half of DuckDB's default size. */
const FILE_OPTIONS =
  "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, " +
  "ROW_GROUP_SIZE 61440, RETURN_STATS true";

const BY_DATE = `PARTITION_BY (${PARTITION_COLUMN}), FILENAME_PATTERN 'part-{uuid}'`;

/** Rows of one table on their way into files. */
export class RowStage {
  readonly #table: string;
  readonly #columns: readonly ColumnNode[];
  readonly #dateColumn: string;
  readonly #database: Database;
  readonly #storage: LakeStorage;
  #appender: BatchAppender | null = null;
  #files: AddFile[] = [];
  /** Gathered and not in files yet. */
  rowCount = 0;
  byteCount = 0;

  constructor(
    table: string,
    columns: readonly ColumnNode[],
    dateColumn: string,
    database: Database,
    storage: LakeStorage,
  ) {
    this.#table = table;
    this.#columns = columns;
    this.#dateColumn = dateColumn;
    this.#database = database;
    this.#storage = storage;
  }

  async append(batch: Batch): Promise<void> {
    if (batch.rowCount === 0) return;
    this.#appender ??= await this.#open();
    this.byteCount += this.#appender.append(batch);
    this.rowCount += batch.rowCount;
  }

  /** Write what is gathered into files. They are invisible until a commit names them. */
  async flush(): Promise<void> {
    if (this.#appender === null) return;
    this.#appender.close();
    this.#appender = null;
    const date = `${eventDate(this.#dateColumn)} AS ${PARTITION_COLUMN}`;
    const dates = await this.#database.rows(
      `SELECT DISTINCT ${date} FROM ${this.#stage()} LIMIT 2`,
    );
    // Mostly all rows are of one day: sorting them by day would be a third of the work.
    const [only] = dates.length === 1 ? dates : [];
    const columns = nameList(this.#columns);
    makeDirectory(this.#storage.tempDir);
    const target = path.join(this.#storage.tempDir, randomUUID());
    const [what, how] =
      only === undefined
        ? [`${columns}, ${date}`, `${FILE_OPTIONS}, ${BY_DATE}`]
        : [columns, FILE_OPTIONS];
    const rows = await this.#database.rows(
      `COPY (SELECT ${what} FROM ${this.#stage()}) TO ${quoteText(target)} (${how})`,
    );
    await this.#database.run(`DROP TABLE ${this.#stage()}`);
    for (const row of rows) {
      const written = parseWritten(row, this.#columns, only?.[PARTITION_COLUMN]);
      this.#files.push(await publish(this.#storage, this.#table, written, true));
    }
    await fs.rm(target, { recursive: true, force: true });
    this.rowCount = 0;
    this.byteCount = 0;
  }

  /** Files of all flushes since the last call. */
  takeFiles(): AddFile[] {
    const files = this.#files;
    this.#files = [];
    return files;
  }

  /** Drop everything gathered, after a failure. */
  async discard(): Promise<void> {
    this.#appender?.discard();
    this.#appender = null;
    this.#files = [];
    const isEmpty = this.rowCount === 0;
    this.rowCount = 0;
    this.byteCount = 0;
    if (!isEmpty) await this.#database.run(`DROP TABLE IF EXISTS ${this.#stage()}`);
  }

  async #open(): Promise<BatchAppender> {
    const definitions = columnDefinitions(this.#columns);
    await this.#database.run(`CREATE OR REPLACE TABLE ${this.#stage()} (${definitions})`);
    return this.#database.appender({ name: this.#table }, this.#columns);
  }

  #stage(): string {
    return quoteName(this.#table);
  }
}

/**
 * UTC date of the column. Null goes to 1970-01-01. Dates outside years 1 to 9999, which other
 * readers of Delta cannot parse, go to the first or the last day of that range.
 */
function eventDate(column: string): string {
  const name = quoteName(column);
  return (
    `CASE WHEN ${name} IS NULL THEN DATE '1970-01-01' ELSE least(greatest(` +
    `(${name} AT TIME ZONE 'UTC')::DATE, DATE '0001-01-01'), DATE '9999-12-31') END`
  );
}

/** Rewrite files of one event date into one file, which no commit names yet. */
export async function mergeFiles(
  table: string,
  columns: readonly ColumnNode[],
  inputs: readonly AddFile[],
  database: Database,
  storage: LakeStorage,
): Promise<AddFile> {
  makeDirectory(storage.tempDir);
  const target = path.join(storage.tempDir, `${randomUUID()}.parquet`);
  const paths = inputs.map((file) => storedPath(table, file));
  const rows = await storage.withLocal(paths, (files) =>
    database.rows(
      `COPY (SELECT ${nameList(columns)} FROM ` +
        `read_parquet([${files.map(quoteText).join(", ")}], hive_partitioning = false)) ` +
        `TO ${quoteText(target)} (${FILE_OPTIONS})`,
    ),
  );
  const date = inputs[0].partitionValues[PARTITION_COLUMN];
  return publish(storage, table, parseWritten(rows[0], columns, date), false);
}

/** Where a file of the log is, relative to the storage's root. */
export function storedPath(table: string, file: { readonly path: string }): string {
  return `${table}/${decodeURI(file.path)}`;
}

/** Epoch ms at which a data file was written, by its name; 0 when the name does not tell. */
export function writtenAt(name: string): number {
  return Number(/\/part-(\d+)-[^/]*$/.exec(name)?.[1] ?? 0);
}

/** One file that DuckDB wrote. */
interface WrittenFile {
  readonly file: string;
  readonly size: number;
  readonly date: string;
  readonly stats: string;
}

async function publish(
  storage: LakeStorage,
  table: string,
  written: WrittenFile,
  dataChange: boolean,
): Promise<AddFile> {
  const part = `part-${Date.now()}-${randomUUID()}.zstd.parquet`;
  const name = `${PARTITION_COLUMN}=${written.date}/${part}`;
  const outcome = await storage.putIfAbsent(`${table}/${name}`, { file: written.file });
  if (outcome === "exists") {
    throw new MillpondError(
      "STORAGE",
      `${table}/${name} was there before it was written, though its name is random. ` +
        "Check that nothing else writes into the lake, then run again.",
    );
  }
  return {
    path: encodeURI(name),
    partitionValues: { [PARTITION_COLUMN]: written.date },
    size: written.size,
    modificationTime: Date.now(),
    dataChange,
    stats: written.stats,
  };
}

/** Without `date`, DuckDB wrote the file into a folder of one. */
function parseWritten(row: JsonRow, columns: readonly ColumnNode[], date?: unknown): WrittenFile {
  const statistics = new Map<string, ColumnStatistics>();
  for (const [column, values] of entriesOf(row.column_statistics)) {
    const texts = entriesOf(values).map(([key, value]): [string, string] => [key, String(value)]);
    statistics.set(column, new Map(texts));
  }
  const [, folder] = entriesOf(row.partition_keys)[0] ?? ["", ""];
  return {
    file: String(row.filename),
    size: Number(row.file_size_bytes),
    date: String(date ?? folder),
    stats: deltaStats(String(row.count), columns, statistics),
  };
}

/** A DuckDB MAP in its JSON form: `[{key, value}]`. */
function entriesOf(map: unknown): [string, unknown][] {
  if (!Array.isArray(map)) return [];
  return map.map((entry: { key: unknown; value: unknown }) => [String(entry.key), entry.value]);
}
