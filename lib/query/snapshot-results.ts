/**
 * Opens a pipeline's database in a bucket for queries: a local copy of that one file, and the
 * lake's Parquet files, read over S3, that its views name.
 */
import { randomUUID } from "node:crypto";
import * as fs from "node:fs/promises";
import * as path from "node:path";
import { MillpondError } from "../errors.js";
import type { DatabaseStorage } from "../sinks/database-snapshot.js";
import { Database } from "../sinks/duckdb-database.js";
import { makeDirectory } from "../stores/make-directory.js";
import { Results, type ResultsOptions } from "./results.js";

export interface SnapshotResults {
  readonly results: Results;
  /** Of the file that was opened. */
  readonly etag: string;
  /** Epoch ms at which its files can't be read any more; null for never. */
  readonly expiresAtMs: number | null;
  /** Frees memory and the copy. */
  close(): Promise<void>;
}

/** The part of `DatabaseStorage` that reading takes. */
export type ReadableDatabase = Pick<DatabaseStorage, "uri" | "download" | "access">;

/**
 * Throws `MillpondError`: "USAGE" when there is no such database, "STORAGE" when S3 fails.
 *
 * @example
 * const { results, close } = await openSnapshotResults(storage, { tempDir: tmpdir() });
 */
export async function openSnapshotResults(
  storage: ReadableDatabase,
  options: { readonly tempDir: string } & Pick<
    ResultsOptions,
    "writableDir" | "memoryLimit" | "timeoutAdvice"
  >,
): Promise<SnapshotResults> {
  const { tempDir, ...rest } = options;
  const folder = path.join(tempDir, `millpond-query-${randomUUID()}`);
  makeDirectory(folder);
  try {
    const databaseFile = path.join(folder, "results.duckdb");
    const etag = await storage.download(databaseFile);
    if (etag === null) throw noDatabase(storage.uri);
    const allowedFiles = await namedFiles(databaseFile, folder);
    const access = await storage.access();
    const results = await Results.open({ ...rest, databaseFile, views: [], allowedFiles, access });
    const close = async () => {
      results.close();
      await fs.rm(folder, { recursive: true, force: true });
    };
    return { results, etag, expiresAtMs: access.expiresAtMs, close };
  } catch (error) {
    await fs.rm(folder, { recursive: true, force: true });
    throw error;
  }
}

/** The files that the database's views read. */
async function namedFiles(databaseFile: string, tempDir: string): Promise<string[]> {
  const database = await Database.open({ path: databaseFile, tempDir, readOnly: true });
  try {
    const rows = await database.rows("SELECT uri FROM millpond.files WHERE NOT held");
    return rows.map(({ uri }) => String(uri));
  } finally {
    await database.close();
  }
}

function noDatabase(uri: string): MillpondError {
  return new MillpondError(
    "USAGE",
    `${uri} does not exist: the sink writes it with its first results. Wait for those, or ` +
      "correct bucket, prefix and pipeline",
  );
}
