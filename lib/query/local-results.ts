/** Opens the results that a run wrote into an output directory, for queries. */
import * as fs from "node:fs";
import * as path from "node:path";
import type { PipelineDefinition } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import {
  LOCKED,
  noResults,
  type OutputPaths,
  outputPaths,
  readManifest,
} from "../runtime/output.js";
import { DeltaTable } from "../sinks/delta-table.js";
import { Database } from "../sinks/duckdb-database.js";
import { storedPath } from "../sinks/lake-files.js";
import { LocalLakeStorage } from "../sinks/lake-storage.js";
import { lakeTableSql } from "../sinks/lake-view.js";
import { tableLayouts } from "../sinks/layouts.js";
import { HELD_MS_MAX, onceFree } from "../stores/once-free.js";
import { Results } from "./results.js";

export interface LakeView {
  readonly name: string;
  /** The last publication that the table has rows of; 0 for none. */
  readonly sequence: number;
  readonly files: readonly string[];
  readonly sql: string;
}

/**
 * The database, and views over lake tables that it lacks.
 *
 * @param writableDir an empty directory that `writeParquet` may write to
 * @throws MillpondError USAGE when there are no results in `out`, CONFLICT while a run goes on
 *   writing
 */
export function openLocalResults(out: string, writableDir?: string): Promise<Results> {
  return onceFree(HELD_MS_MAX, () => open(out, writableDir));
}

async function open(out: string, writableDir: string | undefined): Promise<Results> {
  const paths = outputPaths(out);
  const databaseFile = fs.existsSync(paths.database) ? paths.database : null;
  const views = await lakeViews(paths, readManifest(paths)?.definition);
  const isNew = databaseFile === null && views.length === 0;
  if (isNew && readManifest(paths) === null) throw noResults(out);
  const allowedFiles = views.flatMap(({ files }) => files);
  try {
    return await Results.open({ databaseFile, views, allowedFiles, writableDir });
  } catch (cause) {
    if (cause instanceof MillpondError) throw cause;
    const message = cause instanceof Error ? cause.message : String(cause);
    if (LOCKED.test(message)) {
      throw new MillpondError(
        "CONFLICT",
        `a run is writing to ${paths.database}: try again when it ends`,
        { cause },
      );
    }
    throw new MillpondError("STORAGE", `cannot open ${paths.database}: ${message}`, { cause });
  }
}

/** Views over the live files of every Delta table in the lake. */
export async function lakeViews(
  paths: OutputPaths,
  definition: PipelineDefinition | undefined,
): Promise<LakeView[]> {
  const names = fs.existsSync(paths.lake)
    ? fs
        .readdirSync(paths.lake)
        .filter((name) => fs.existsSync(path.join(paths.lake, name, "_delta_log")))
    : [];
  if (names.length === 0) return [];
  const layouts = definition === undefined ? [] : tableLayouts(definition);
  const storage = new LocalLakeStorage(paths.lake, path.join(paths.lake, "_millpond", "tmp"));
  // Only reads checkpoints of the logs.
  const reader = Database.inMemory({ tempDir: storage.tempDir });
  try {
    const views: LakeView[] = [];
    for (const name of names.sort()) {
      const table = new DeltaTable(name, storage, reader, 0);
      await table.load();
      const live = [...table.snapshot.files.values()];
      const files = live.map((file) => storage.uri(storedPath(name, file)));
      if (files.length === 0) continue;
      const layout = layouts.find((candidate) => candidate.name === name);
      const taken = [...table.snapshot.txns.values()].map(({ version }) => version);
      const sequence = Math.max(0, ...taken);
      views.push({ name, sequence, files, sql: lakeTableSql(files, layout) });
    }
    return views;
  } finally {
    await reader.close();
  }
}
