/** Opens one table of a local lake as it was at an older version of its Delta log, for queries. */
import { existsSync } from "node:fs";
import * as path from "node:path";
import { MillpondError } from "../errors.js";
import { outputPaths, readManifest } from "../runtime/output.js";
import { DeltaTable } from "../sinks/delta-table.js";
import { Database } from "../sinks/duckdb-database.js";
import { storedPath } from "../sinks/lake-files.js";
import { LocalLakeStorage } from "../sinks/lake-storage.js";
import { lakeTableSql } from "../sinks/lake-view.js";
import { tableLayouts } from "../sinks/layouts.js";
import { Results } from "./results.js";

/**
 * Only this table, as of `version`; without rows then, there is no table.
 *
 * @throws MillpondError USAGE when there is no such version, or its files were deleted since
 * @example const results = await openLakeVersion("out/sensors", "silver", 3);
 */
export async function openLakeVersion(
  out: string,
  table: string,
  version: number,
): Promise<Results> {
  const paths = outputPaths(out);
  const storage = new LocalLakeStorage(paths.lake, path.join(paths.lake, "_millpond", "tmp"));
  const files = await filesAt(table, version, storage);
  const gone = files.filter((file) => !existsSync(file)).length;
  if (gone > 0) {
    throw new MillpondError(
      "USAGE",
      `version ${version} of table "${table}" cannot be read: ${gone} of its ${files.length} ` +
        "files were deleted, as those are that compaction replaced more than 7 days ago. Read a " +
        "later version",
    );
  }
  const definition = readManifest(paths)?.definition;
  const layouts = definition === undefined ? [] : tableLayouts(definition);
  const layout = layouts.find(({ name }) => name === table);
  const views = files.length === 0 ? [] : [{ name: table, sql: lakeTableSql(files, layout) }];
  return Results.open({ databaseFile: null, views, allowedFiles: files });
}

async function filesAt(
  table: string,
  version: number,
  storage: LocalLakeStorage,
): Promise<string[]> {
  // Only reads checkpoints of the log.
  const reader = Database.inMemory({ tempDir: storage.tempDir });
  try {
    const delta = new DeltaTable(table, storage, reader, 0);
    await delta.load(version);
    const live = [...delta.snapshot.files.values()];
    return live.map((file) => storage.uri(storedPath(table, file)));
  } finally {
    await reader.close();
  }
}
