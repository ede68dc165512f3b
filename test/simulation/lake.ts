/**
 * Schedules with the real lake sink beside the simulated one: Delta commits and Parquet files in a
 * directory, each of their steps a call that the scheduler owns. Slower by a hundred times.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LakeSink, lakeSink } from "../../lib/sinks/lake.js";
import { type Content, type LakeStorage, LocalLakeStorage } from "../../lib/sinks/lake-storage.js";
import { tableLayouts } from "../../lib/sinks/layouts.js";
import type { TableLayout } from "../../lib/sinks/sink.js";
import { NO_FAULTS, Violation } from "../../lib/testing/faults.js";
import { type MoreSinks, runSchedule, type ScheduleResult } from "../../lib/testing/schedule.js";
import type { SimulatedProcess, World } from "../../lib/testing/world.js";
import { plainSql } from "../contract/sinks-batches.js";
import { readLake } from "../contract/sinks-readers.js";
import { checkResult, type KnownCase } from "./oracle.js";

/** The lake's rows by table, as sorted text. */
type LakeTables = Map<string, string>;

/** Runs the seed with a lake, and holds its tables against those of a calm run. */
export async function checkLakeSchedule(known: KnownCase, seed: number): Promise<ScheduleResult> {
  const { result, tables } = await withLake(known, { seed });
  await checkResult(known, result);
  if (result.beyondReviseEvents > 0) return result;
  const calm = await withLake(known, { seed, odds: NO_FAULTS, order: result.ingested });
  for (const [name, rows] of calm.tables) {
    if (tables.get(name) === rows) continue;
    throw new Violation(`the lake's table ${name} is ${tables.get(name)}, expected ${rows}`);
  }
  return result;
}

async function withLake(
  known: KnownCase,
  options: Parameters<typeof runSchedule>[1],
): Promise<{ result: ScheduleResult; tables: LakeTables }> {
  const { definition, definitionHash } = known.prepared.runtime;
  const dir = await mkdtemp(join(tmpdir(), "millpond-simulated-lake-"));
  const layouts = tableLayouts(definition);
  const lakes: LakeSink[] = [];
  const moreSinks: MoreSinks = (world, process, sinks) => {
    const local = new LocalLakeStorage(dir, join(dir, "_millpond", "tmp", process.name));
    const storage = storageOf(world, process, local);
    const { name: pipeline } = definition;
    const lake = lakeSink({ dir, storage, pipeline, layouts, definitionHash });
    lakes.push(lake);
    return {
      ...sinks,
      own: [...sinks.own, lake],
      sweep: () => lake.vacuum(),
      close: () => lake.close(),
    };
  };
  try {
    const result = await runSchedule(known.prepared, { ...options, moreSinks });
    return { result, tables: await readTables(dir, layouts) };
  } finally {
    // Those of killed processes as well: their memory is this process's.
    for (const lake of lakes) await lake.close();
    await rm(dir, { recursive: true, force: true });
  }
}

/** A process's view of the lake's files. */
function storageOf(world: World, process: SimulatedProcess, local: LakeStorage): LakeStorage {
  const call = <T>(what: string, isWrite: boolean, apply: () => Promise<T>) =>
    world.call(process, { what: `lake ${what}`, isWrite, apply });
  return {
    tempDir: local.tempDir,
    uri: (path) => local.uri(path),
    async putIfAbsent(path, content) {
      // What is sent is made now: its file may be gone when it arrives.
      const bytes = await bytesOf(content);
      return call(`put ${path}`, true, () => local.putIfAbsent(path, bytes));
    },
    put: (path, bytes) => call(`overwrite ${path}`, true, () => local.put(path, bytes.slice())),
    get: (path) => call(`get ${path}`, false, () => local.get(path)),
    list: (folder, after) => call(`list ${folder}`, false, () => local.list(folder, after)),
    delete: (path) => call(`delete ${path}`, true, () => local.delete(path)),
    async withLocal(paths, work) {
      await call(`fetch ${paths.length} files`, false, async () => undefined);
      return local.withLocal(paths, work);
    },
  };
}

async function bytesOf(content: Content): Promise<Uint8Array> {
  if (content instanceof Uint8Array) return content.slice();
  const bytes = await readFile(content.file);
  await rm(content.file, { force: true });
  return bytes;
}

async function readTables(dir: string, layouts: readonly TableLayout[]): Promise<LakeTables> {
  const tables: LakeTables = new Map();
  for (const layout of layouts) {
    // How often a row was revised depends on when.
    const columns = layout.columns.filter(({ name }) => name !== "revision");
    const rows = await readLake(dir, layout, columns.map(plainSql).join(", "));
    const texts = rows.map((row) => row.join("|")).sort((a, b) => (a < b ? -1 : 1));
    tables.set(layout.name, JSON.stringify(texts));
  }
  return tables;
}
