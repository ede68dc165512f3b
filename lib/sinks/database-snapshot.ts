/**
 * The DuckDB database in a bucket: one file made whole from the lake and the accounting, replaced
 * by a conditional put. Every table of the lake is a view over its live Parquet files; the small
 * ones of the `duckdb()` sink are held inside. It holds no state of its own, so whoever makes it
 * again from the same lake makes the same.
 *
 * A view names files. Those that compaction replaces stay for the lake's retention (7 days), so a
 * copy of the database can be read for as long.
 */
import { randomUUID } from "node:crypto";
import * as fs from "node:fs/promises";
import * as path from "node:path";
import { MillpondError } from "../errors.js";
import { makeDirectory } from "../stores/make-directory.js";
import { writeAccounting } from "./duckdb.js";
import { Database, type JsonRow } from "./duckdb-database.js";
import { columnDefinitions, nameList, quoteName, quoteText } from "./duckdb-types.js";
import type { LakeTableState } from "./lake.js";
import { lakeTableSql, latestSql, parquetSource } from "./lake-view.js";
import { isRevised } from "./layouts.js";
import type { Accounting, TableLayout } from "./sink.js";

/** Tables of at most so much Parquet are held inside the file. */
const HELD_BYTES_MAX = 4 * 1024 * 1024;
/** Each file costs some requests whenever the database is made. */
const HELD_FILES_MAX = 64;
/** Others who may be faster; each of them has published something newer than before. */
const ATTEMPTS_MAX = 5;

/** What a DuckDB needs to read files over S3. */
export interface FileAccess {
  readonly extensionDirectory: string;
  /** To be run on a connection before anything is read. */
  readonly statements: readonly string[];
  /** Epoch ms at which the credentials end; null when they don't. */
  readonly expiresAtMs: number | null;
}

/** One file in a bucket, and how DuckDB reads the lake's files beside it. */
export interface DatabaseStorage {
  /** The file's address, for messages. */
  readonly uri: string;
  /** The ETag, or null when absent. */
  etag(): Promise<string | null>;
  /** Into a local file; returns the ETag, or null when absent. */
  download(file: string): Promise<string | null>;
  /** `expectedEtag` null: only if there is no file. "conflict": nothing was written. */
  upload(file: string, expectedEtag: string | null): Promise<"written" | "conflict">;
  access(): Promise<FileAccess>;
}

export interface SnapshotOptions {
  readonly storage: DatabaseStorage;
  readonly pipeline: string;
  /** Tables to be held inside while they are small. */
  readonly held: ReadonlySet<string>;
  readonly tempDir: string;
}

export interface SnapshotContent {
  /** The lake holds the publications up to this one. */
  readonly sequence: number;
  readonly tables: readonly LakeTableState[];
  /** Null: as the database has it. */
  readonly accounting: Accounting["rows"] | null;
  /** How far the rows are, as JSON in the database; what it says is between publisher and audit. */
  readonly standing?: object;
}

/** What orders databases of one pipeline; each number only grows. */
export interface SnapshotVersion {
  readonly sequence: number;
  /** Sum of the versions of the lake's tables: compaction makes new ones without publications. */
  readonly lakeVersions: number;
  /** Records in the accounting: some leave no row. */
  readonly records: number;
}

/** Whether `next` should take the place of `current`. */
export function compareVersions(
  next: SnapshotVersion,
  current: SnapshotVersion | null,
): "newer" | "same" | "older" {
  if (current === null) return "newer";
  const differences = [
    next.sequence - current.sequence,
    next.lakeVersions - current.lakeVersions,
    next.records - current.records,
  ];
  const first = differences.find((difference) => difference !== 0) ?? 0;
  if (first === 0) return "same";
  return first > 0 ? "newer" : "older";
}

/** The database as it is in the bucket, and as a local copy. */
interface Current {
  readonly etag: string | null;
  readonly file: string | null;
  readonly version: SnapshotVersion | null;
}

/**
 * @example
 * const snapshot = new DatabaseSnapshot({ storage, pipeline: "flights", held, tempDir });
 * await snapshot.publish({ sequence: 17, tables: lake.tables(), accounting: rows });
 */
export class DatabaseSnapshot {
  readonly #options: SnapshotOptions;
  /** What the file with this ETag was found to be. */
  #known: { readonly etag: string; readonly version: SnapshotVersion } | null = null;

  constructor(options: SnapshotOptions) {
    this.#options = options;
  }

  /**
   * Make the database from this content and put it in place, unless what is there is as new.
   * "superseded": it is newer. Throws `MillpondError("OUTPUT")` when the file is not ours.
   */
  async publish(content: SnapshotContent): Promise<"written" | "unchanged" | "superseded"> {
    const { storage, tempDir } = this.#options;
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const etag = await storage.etag();
      const known = etag !== null && etag === this.#known?.etag ? this.#known.version : null;
      if (known !== null && compareVersions(versionOf(content), known) === "same") {
        return "unchanged";
      }
      const folder = path.join(tempDir, `database-${randomUUID()}`);
      makeDirectory(folder);
      try {
        const current = await this.#current(folder);
        if (current.etag !== null && current.version !== null) {
          this.#known = { etag: current.etag, version: current.version };
        }
        const order = compareVersions(versionOf(content), current.version);
        if (order !== "newer") return order === "same" ? "unchanged" : "superseded";
        const file = path.join(folder, "next.duckdb");
        await this.#make(content, current, file);
        if ((await storage.upload(file, current.etag)) === "written") return "written";
      } finally {
        await fs.rm(folder, { recursive: true, force: true });
      }
    }
    return "superseded";
  }

  async #current(folder: string): Promise<Current> {
    const { storage, pipeline } = this.#options;
    const file = path.join(folder, "current.duckdb");
    const etag = await storage.download(file);
    if (etag === null) return { etag, file: null, version: null };
    const database = await Database.open({ path: file, tempDir: folder }).catch(
      (cause: unknown) => {
        throw damaged(storage.uri, cause);
      },
    );
    try {
      const [row] = await progressOf(database);
      if (row?.pipeline !== pipeline) {
        const found = row === undefined ? "a database of something else" : `"${row.pipeline}"'s`;
        throw new MillpondError(
          "OUTPUT",
          `${storage.uri} is ${found}, expected the database of pipeline "${pipeline}": ` +
            "move it away, or give this pipeline another bucket or prefix",
        );
      }
      const version = {
        sequence: Number(row.sequence),
        lakeVersions: Number(row.lake_versions),
        records: Number(row.records),
      };
      return { etag, file, version };
    } finally {
      await database.close();
    }
  }

  async #make(content: SnapshotContent, current: Current, file: string): Promise<void> {
    const { storage, pipeline, held } = this.#options;
    const { extensionDirectory, statements } = await storage.access();
    const tempDir = path.join(path.dirname(file), "spill");
    const database = await Database.open({ path: file, tempDir, extensionDirectory });
    try {
      for (const sql of statements) await database.run(sql);
      if (current.file !== null) {
        await database.run(`ATTACH ${quoteText(current.file)} AS before (READ_ONLY)`);
      }
      const before = current.file === null ? new Map() : await filesBefore(database);
      await database.transaction(async () => {
        await writeProgress(database, pipeline, versionOf(content));
        await writeStanding(database, content);
        for (const table of content.tables) {
          const name = table.layout.name;
          const isHeld = held.has(name) && isSmall(table);
          await createTable(database, table, isHeld ? (before.get(name) ?? []) : null);
        }
        if (content.accounting !== null) {
          await writeAccounting(database, { rows: content.accounting });
        } else if (current.file !== null) await copyAccounting(database);
      });
      await database.run("CHECKPOINT");
    } finally {
      await database.close();
    }
  }
}

function damaged(uri: string, cause: unknown): MillpondError {
  return new MillpondError(
    "OUTPUT",
    `${uri} is damaged: DuckDB can't open it. It holds nothing that the lake does not: delete ` +
      "that object, or move it away, and the sink makes it anew",
    { cause },
  );
}

function versionOf({ sequence, tables, accounting }: SnapshotContent): SnapshotVersion {
  return {
    sequence,
    lakeVersions: tables.reduce((sum, { version }) => sum + version, 0),
    records: (accounting ?? []).reduce((sum, { records }) => sum + Number(records ?? 0), 0),
  };
}

async function progressOf(database: Database): Promise<JsonRow[]> {
  const [found] = await database.rows(
    "SELECT count(*) AS n FROM duckdb_tables() " +
      "WHERE schema_name = 'millpond' AND table_name = 'progress'",
  );
  return Number(found?.n) === 0 ? [] : database.rows("FROM millpond.progress");
}

async function writeProgress(
  database: Database,
  pipeline: string,
  { sequence, lakeVersions, records }: SnapshotVersion,
): Promise<void> {
  await database.run("CREATE SCHEMA millpond");
  await database.run(
    "CREATE TABLE millpond.progress AS SELECT " +
      `${quoteText(pipeline)} AS pipeline, ${sequence}::BIGINT AS sequence, ` +
      `${lakeVersions}::BIGINT AS lake_versions, ${records}::BIGINT AS records`,
  );
  // What a reader has to be allowed to read, and what has been taken in.
  await database.run(
    "CREATE TABLE millpond.files (table_name VARCHAR, uri VARCHAR, bytes BIGINT, held BOOLEAN)",
  );
}

async function writeStanding(
  database: Database,
  { standing, accounting }: SnapshotContent,
): Promise<void> {
  if (standing === undefined) return;
  const text = quoteText(JSON.stringify(standing));
  // An accounting that was copied from the database before is of an earlier publication.
  await database.run(`CREATE TABLE millpond.standing AS
    SELECT ${text} AS standing, ${accounting !== null} AS is_accounted`);
}

/** Of the tables that the database held before: which files they were made of. */
async function filesBefore(database: Database): Promise<Map<string, string[]>> {
  const rows = await database.rows("SELECT table_name, uri FROM before.millpond.files WHERE held");
  const files = new Map<string, string[]>();
  for (const { table_name: name, uri } of rows) {
    files.set(String(name), [...(files.get(String(name)) ?? []), String(uri)]);
  }
  return files;
}

function isSmall({ files }: LakeTableState): boolean {
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  return bytes <= HELD_BYTES_MAX && files.length <= HELD_FILES_MAX;
}

/** `heldBefore`: files whose rows the database before has; null for a view. */
async function createTable(
  database: Database,
  { layout, files }: LakeTableState,
  heldBefore: readonly string[] | null,
): Promise<void> {
  const name = `main.${quoteName(layout.name)}`;
  const uris = files.map(({ uri }) => uri);
  if (heldBefore !== null || files.length === 0) {
    await database.run(`CREATE TABLE ${name} (${columnDefinitions(layout.columns)})`);
    const rows = heldRows(layout, uris, heldBefore ?? []);
    if (rows !== null) await database.run(`INSERT INTO ${name} ${rows}`);
  } else await database.run(`CREATE VIEW ${name} AS ${lakeTableSql(uris, layout)}`);
  if (files.length === 0) return;
  const held = String(heldBefore !== null);
  const rows = files.map(
    ({ uri, bytes }) => `(${quoteText(layout.name)}, ${quoteText(uri)}, ${bytes}, ${held})`,
  );
  await database.run(`INSERT INTO millpond.files VALUES ${rows.join(", ")}`);
}

/**
 * The table's rows: those it had before and those of new files, so that each file is read once; or
 * all anew, when compaction took files away. Null for none.
 */
function heldRows(
  layout: TableLayout,
  uris: readonly string[],
  heldBefore: readonly string[],
): string | null {
  if (uris.length === 0) return null;
  const columns = nameList(layout.columns);
  const now = new Set(uris);
  const goesOn = heldBefore.length > 0 && heldBefore.every((uri) => now.has(uri));
  if (!goesOn) return `SELECT ${columns} FROM (${lakeTableSql(uris, layout)})`;
  const before = `before.main.${quoteName(layout.name)}`;
  const known = new Set(heldBefore);
  const added = uris.filter((uri) => !known.has(uri));
  if (added.length === 0) return `SELECT ${columns} FROM ${before}`;
  const files = parquetSource(added);
  if (!isRevised(layout)) {
    return `SELECT ${columns} FROM ${before} UNION ALL SELECT ${columns} FROM ${files}`;
  }
  const both =
    `SELECT ${columns}, false AS retracted FROM ${before} ` +
    `UNION ALL SELECT ${columns}, retracted FROM ${files}`;
  return latestSql(`(${both})`, layout);
}

/** In a transaction, beside the attached database before. */
async function copyAccounting(database: Database): Promise<void> {
  const [found] = await database.rows(
    "SELECT count(*) AS n FROM duckdb_tables() " +
      "WHERE database_name = 'before' AND schema_name = 'main' AND table_name = 'accounting'",
  );
  if (Number(found?.n) === 0) return;
  await database.run("CREATE TABLE main.accounting AS FROM before.main.accounting");
}
