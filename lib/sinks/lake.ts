/**
 * The lake: one Delta table per result table in a directory, Parquet with zstd, partitioned by
 * `event_date`. Rows are only ever added: a corrected row is one more, with a higher `revision`
 * (or `retracted`).
 */

import { randomUUID } from "node:crypto";
import * as fs from "node:fs/promises";
import * as path from "node:path";
import { MillpondError } from "../errors.js";
import { makeDirectory } from "../stores/make-directory.js";
import { type Action, type AddFile, type MetaData, PROTOCOL } from "./delta-log.js";
import { deltaSchema, PARTITION_COLUMN } from "./delta-schema.js";
import { DeltaTable } from "./delta-table.js";
import { Database, isOutOfMemory } from "./duckdb-database.js";
import { mergeFiles, RowStage, storedPath, writtenAt } from "./lake-files.js";
import { type LakeStorage, LocalLakeStorage } from "./lake-storage.js";
import { revisionColumns } from "./layouts.js";
import { beyondLast, type Publication, type Sink, type TableLayout } from "./sink.js";

export interface LakeOptions {
  /** The tables' directories are made in here; so is `_millpond`, for the sink's own files. */
  readonly dir: string;
  readonly pipeline: string;
  /** The tables this lake holds; publications for others are passed over. */
  readonly layouts: readonly TableLayout[];
  /** A lake written under another hash is refused. */
  readonly definitionHash?: string;
  /** Default: the local directory `dir`. */
  readonly storage?: LakeStorage;
  /** How long files that compaction replaced stay, for readers of old versions; 7 days. */
  readonly retentionMs?: number;
}

/** A table as the lake last knew it. */
export interface LakeTableState {
  readonly layout: TableLayout;
  /** Of its Delta log. */
  readonly version: number;
  /** Live files: where DuckDB finds each, and its size. */
  readonly files: readonly { readonly uri: string; readonly bytes: number }[];
}

export interface LakeSink extends Sink {
  /** The open lake's tables. */
  tables(): LakeTableState[];
  /** Merge small files, where a table's event date has many. `apply` does it when there is need. */
  compact(): Promise<void>;
  /**
   * Delete files that no version needs, those replaced longer than `olderThanMs` ago (by default
   * the retention), and the part of the logs that no reader needs any more.
   */
  vacuum(olderThanMs?: number): Promise<void>;
}

const DAY_MS = 86_400_000;
const RETENTION_MS = 7 * DAY_MS;
/** As Delta's own default for `delta.logRetentionDuration`. */
const LOG_RETENTION_MS = 30 * DAY_MS;
/** A file that no commit names yet may belong to a sink that is still at work. */
const UNNAMED_MS = DAY_MS;
/** What may be gathered in DuckDB before it is written to files. */
const STAGED_BYTES_MAX = 16 * 1024 * 1024;
const STAGED_ROWS_MAX = 1_000_000;
const SMALL_FILE_BYTES = 16 * 1024 * 1024;
/** These are merged among themselves, so that a file that grows is not written again each time. */
const TINY_FILE_BYTES = 1024 * 1024;
const SMALL_FILES_MAX = 8;
const MERGED_BYTES_MAX = 128 * 1024 * 1024;
const PROGRESS = "_millpond/progress";
const OWNER = "_millpond/lake.json";

/** One table of the lake: its log, and rows on their way. */
interface LakeTable {
  readonly layout: TableLayout;
  readonly delta: DeltaTable;
  readonly stage: RowStage;
}

/**
 * The lake sink.
 *
 * @example const sink = lakeSink({ dir: "out/lake", pipeline: "activity", layouts });
 */
export function lakeSink(options: LakeOptions): LakeSink {
  return new Lake(options);
}

class Lake implements LakeSink {
  readonly name = "lake";
  readonly #options: LakeOptions;
  readonly #storage: LakeStorage;
  readonly #retentionMs: number;
  #database: Database | null = null;
  #tables = new Map<string, LakeTable>();
  /** Tables whose rows are so long that files cannot be merged in DuckDB's memory: they stay. */
  readonly #tooWide = new Set<string>();

  constructor(options: LakeOptions) {
    this.#options = options;
    this.#retentionMs = options.retentionMs ?? RETENTION_MS;
    this.#storage =
      options.storage ??
      new LocalLakeStorage(options.dir, path.join(options.dir, "_millpond", "tmp"));
  }

  /** When it is open already: learns what others wrote since. */
  async open(): Promise<number> {
    if (this.#database !== null) {
      for (const { delta } of this.#tables.values()) await delta.refresh();
      return this.#progress();
    }
    const { tempDir } = this.#storage;
    await fs.rm(tempDir, { recursive: true, force: true });
    makeDirectory(tempDir);
    await this.#claim();
    const database = Database.inMemory({ tempDir: path.join(tempDir, "spill") });
    this.#database = database;
    try {
      for (const layout of this.#options.layouts) {
        this.#tables.set(layout.name, await this.#openTable(layout, database));
      }
      return await this.#progress();
    } catch (error) {
      // With some of its tables it would pass over rows of the others, as of tables it lacks.
      await this.close();
      throw error;
    }
  }

  async apply(publications: AsyncIterable<Publication>, lastSequence: number): Promise<void> {
    try {
      const touched = await this.#gather(publications, lastSequence);
      for (const table of touched) await this.#commitTable(table, lastSequence);
    } catch (error) {
      for (const { stage } of this.#tables.values()) await stage.discard().catch(() => undefined);
      throw error;
    }
    await this.#saveProgress(lastSequence);
    await this.compact();
  }

  tables(): LakeTableState[] {
    return [...this.#tables.values()].map(({ layout, delta }) => ({
      layout,
      version: delta.snapshot.version,
      files: [...delta.snapshot.files.values()].map((file) => ({
        uri: this.#storage.uri(storedPath(delta.name, file)),
        bytes: file.size,
      })),
    }));
  }

  async compact(): Promise<void> {
    for (const table of this.#tables.values()) await this.#compactTable(table);
  }

  async vacuum(olderThanMs = this.#retentionMs): Promise<void> {
    const replacedBefore = Date.now() - olderThanMs;
    for (const { delta } of this.#tables.values()) {
      await delta.trimLog(LOG_RETENTION_MS);
      const { files, removed } = delta.snapshot;
      const kept = new Set([...files.values()].map((file) => storedPath(delta.name, file)));
      for (const file of removed.values()) {
        if (file.deletionTimestamp > replacedBefore) kept.add(storedPath(delta.name, file));
      }
      const log = `${delta.name}/_delta_log/`;
      for (const stored of await this.#storage.list(delta.name)) {
        if (stored.startsWith(log) || kept.has(stored)) continue;
        const isNew = !removed.has(encodeURI(stored.slice(delta.name.length + 1)));
        if (isNew && writtenAt(stored) > Date.now() - UNNAMED_MS) continue;
        await this.#storage.delete(stored);
      }
    }
  }

  async close(): Promise<void> {
    this.#tables = new Map();
    const database = this.#database;
    this.#database = null;
    await database?.close();
    await fs.rm(this.#storage.tempDir, { recursive: true, force: true });
  }

  /** The first pipeline to open the lake owns it. */
  async #claim(): Promise<void> {
    const { pipeline, definitionHash = null } = this.#options;
    const owner = new TextEncoder().encode(`${JSON.stringify({ pipeline, definitionHash })}\n`);
    if ((await this.#storage.putIfAbsent(OWNER, owner)) === "created") return;
    const stored = await this.#storage.get(OWNER);
    const found: { pipeline?: unknown; definitionHash?: unknown } = JSON.parse(
      new TextDecoder().decode(stored ?? undefined),
    );
    if (found.pipeline !== pipeline) {
      throw new MillpondError(
        "OUTPUT",
        `The lake in ${this.#options.dir} belongs to pipeline "${String(found.pipeline)}", not ` +
          `"${pipeline}". Give another output directory.`,
      );
    }
    if (found.definitionHash !== definitionHash) throw this.#otherDefinition("the lake");
  }

  async #openTable(layout: TableLayout, database: Database): Promise<LakeTable> {
    const { name, dateColumn } = layout;
    const columns = revisionColumns(layout);
    const delta = new DeltaTable(name, this.#storage, database, this.#retentionMs);
    const stage = new RowStage(name, columns, dateColumn, database, this.#storage);
    const schema = deltaSchema(columns);
    await delta.load();
    await delta.commit("CREATE TABLE", (snapshot) =>
      snapshot.metaData === null
        ? [{ protocol: PROTOCOL }, { metaData: newMetaData(name, schema) }]
        : null,
    );
    if (delta.snapshot.metaData?.schemaString !== schema) {
      throw this.#otherDefinition(`table "${name}" of the lake`);
    }
    return { layout, delta, stage };
  }

  /** Rows of all new publications into files or stages; returns the tables that got any. */
  async #gather(
    publications: AsyncIterable<Publication>,
    lastSequence: number,
  ): Promise<Set<LakeTable>> {
    const touched = new Set<LakeTable>();
    for await (const { sequence, table: name, batch } of publications) {
      if (sequence > lastSequence) throw beyondLast(sequence, lastSequence);
      const table = this.#tables.get(name);
      if (table === undefined || sequence <= this.#appliedTo(table)) continue;
      await table.stage.append(batch);
      if (batch.rowCount > 0) touched.add(table);
      if (table.stage.rowCount >= STAGED_ROWS_MAX) await table.stage.flush();
      else await this.#flushLargestIfFull();
    }
    return touched;
  }

  async #flushLargestIfFull(): Promise<void> {
    let total = 0;
    let largest: RowStage | null = null;
    for (const { stage } of this.#tables.values()) {
      total += stage.byteCount;
      if (largest === null || stage.byteCount > largest.byteCount) largest = stage;
    }
    if (total > STAGED_BYTES_MAX) await largest?.flush();
  }

  #appliedTo({ delta }: LakeTable): number {
    return delta.snapshot.txns.get(this.#appId(delta.name))?.version ?? 0;
  }

  #appId(table: string): string {
    return `millpond:${this.#options.pipeline}:${table}`;
  }

  async #commitTable(table: LakeTable, lastSequence: number): Promise<void> {
    await table.stage.flush();
    const files = table.stage.takeFiles();
    const appId = this.#appId(table.delta.name);
    const appliedTo = this.#appliedTo(table);
    await table.delta.commit("WRITE", ({ txns }) => {
      const now = txns.get(appId)?.version ?? 0;
      if (now >= lastSequence) return null;
      if (now !== appliedTo) throw this.#otherRun(table, appliedTo, now);
      const txn = { appId, version: lastSequence, lastUpdated: Date.now() };
      return [{ txn }, ...files.map((add) => ({ add }))];
    });
  }

  async #compactTable({ layout, delta }: LakeTable): Promise<void> {
    if (this.#tooWide.has(delta.name)) return;
    const merges: Action[] = [];
    for (const inputs of smallFileGroups(delta.snapshot.files.values())) {
      const columns = revisionColumns(layout);
      const database = this.#openDatabase();
      try {
        const merged = await mergeFiles(delta.name, columns, inputs, database, this.#storage);
        merges.push({ add: merged }, ...inputs.map((file) => ({ remove: removal(file) })));
      } catch (error) {
        if (!isOutOfMemory(error)) throw error;
        this.#tooWide.add(delta.name);
        break;
      }
    }
    if (merges.length === 0) return;
    await delta.commit("OPTIMIZE", ({ files }) =>
      merges.every(({ remove }) => !remove || files.has(remove.path)) ? merges : null,
    );
  }

  #openDatabase(): Database {
    if (this.#database !== null) return this.#database;
    throw new MillpondError("USAGE", "The lake sink is not open: call open() first.");
  }

  /** Tables that got no rows have no `txn` to tell by, so the lake as a whole keeps a mark. */
  async #progress(): Promise<number> {
    const marks = await this.#storage.list(PROGRESS);
    return marks.reduce((last, mark) => Math.max(last, Number(path.basename(mark))), 0);
  }

  async #saveProgress(lastSequence: number): Promise<void> {
    const mark = `${PROGRESS}/${String(lastSequence).padStart(20, "0")}`;
    await this.#storage.putIfAbsent(mark, new Uint8Array());
    for (const older of await this.#storage.list(PROGRESS)) {
      if (older < mark) await this.#storage.delete(older);
    }
  }

  #otherDefinition(what: string): MillpondError {
    return new MillpondError(
      "OUTPUT",
      `In ${this.#options.dir}, ${what} was written under another definition of pipeline ` +
        `"${this.#options.pipeline}". Give another output directory, or run the old definition.`,
    );
  }

  #otherRun({ delta }: LakeTable, from: number, to: number): MillpondError {
    return new MillpondError(
      "CONFLICT",
      `Table ${delta.name} in ${this.#options.dir}: another run moved it from publication ` +
        `${from} to ${to} while this one wrote. Stop the other run and run again.`,
    );
  }
}

function newMetaData(name: string, schemaString: string): MetaData {
  return {
    id: randomUUID(),
    name,
    format: { provider: "parquet", options: {} },
    schemaString,
    partitionColumns: [PARTITION_COLUMN],
    configuration: {},
    createdTime: Date.now(),
  };
}

function removal(file: AddFile) {
  return {
    path: file.path,
    deletionTimestamp: Date.now(),
    dataChange: false,
    extendedFileMetadata: true,
    partitionValues: file.partitionValues,
    size: file.size,
  } as const;
}

/** Per event date with many files of a kind of small, those, in groups that make one good file. */
export function smallFileGroups(files: Iterable<AddFile>): AddFile[][] {
  const byKind = new Map<string, AddFile[]>();
  for (const file of files) {
    if (file.size >= SMALL_FILE_BYTES) continue;
    const kind = `${file.partitionValues[PARTITION_COLUMN]} ${file.size < TINY_FILE_BYTES}`;
    const group = byKind.get(kind);
    if (group) group.push(file);
    else byKind.set(kind, [file]);
  }
  const groups: AddFile[][] = [];
  for (const small of byKind.values()) {
    if (small.length >= SMALL_FILES_MAX) groups.push(...splitBySize(small));
  }
  return groups;
}

function splitBySize(files: readonly AddFile[]): AddFile[][] {
  const groups: AddFile[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const file of files) {
    if (bytes + file.size > MERGED_BYTES_MAX) {
      groups.push([]);
      bytes = 0;
    }
    groups[groups.length - 1].push(file);
    bytes += file.size;
  }
  return groups.filter((group) => group.length > 1);
}
