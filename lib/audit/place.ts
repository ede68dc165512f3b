/**
 * What an audit reads, as of one publication: bronze, the published tables, and how far they are.
 * It opens an output directory or a bucket's database for reading, and writes to neither.
 */
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type DuckDBConnection, DuckDBInstance } from "@duckdb/node-api";
import type { PublisherState } from "../commit/publisher-state.js";
import type { PipelineDefinition } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { type LakeView, lakeViews } from "../query/local-results.js";
import type { ReadableDatabase } from "../query/snapshot-results.js";
import {
  publisherState,
  type StoredPartition,
  sinkSequences,
  storedPartitions,
} from "../runtime/inspect-data.js";
import {
  LOCKED,
  type Manifest,
  noResults,
  type OutputPaths,
  outputPaths,
  readManifest,
} from "../runtime/output.js";
import { quoteName, quoteText } from "../sinks/duckdb-types.js";
import { tableLayouts } from "../sinks/layouts.js";

export interface AuditPlace {
  /** In memory; `published` schema: copies of the published tables. Bronze is read where it is. */
  readonly connection: DuckDBConnection;
  readonly instance: DuckDBInstance;
  /** Something to select bronze's columns from. */
  readonly bronze: string;
  /** Names of the tables in schema `published`. */
  readonly published: ReadonlySet<string>;
  /**
   * Epoch ms by stream: windows that end by then have been published. Null: only bronze can tell.
   */
  readonly passed: ReadonlyMap<string, number> | null;
  /** What stood open was published too, and nothing came since. */
  readonly flushed: boolean;
  close(): Promise<void>;
}

const SETTLE_MS_MAX = 5_000;
const LOOK_AGAIN_MS = 50;

/**
 * The output of a local run.
 *
 * @throws MillpondError USAGE when there are no results or no bronze, CONFLICT while a run writes
 */
export async function openOutput(out: string): Promise<AuditPlace> {
  const paths = outputPaths(out);
  const manifest = readManifest(paths);
  if (manifest === null || !fs.existsSync(paths.checkpoints)) throw noResults(out);
  return openData(paths, manifest);
}

/** The same, of data that the output's own manifest may not name yet. */
export async function openData(
  paths: OutputPaths,
  manifest: Pick<Manifest, "definition" | "definitionHash">,
): Promise<AuditPlace> {
  const giveUpAt = performance.now() + SETTLE_MS_MAX;
  for (;;) {
    const place = await openAsOfOne(paths, manifest);
    if (place !== null) return place;
    if (performance.now() >= giveUpAt) break;
    await sleep(LOOK_AGAIN_MS);
  }
  throw new MillpondError(
    "CONFLICT",
    `the results in ${paths.dir} stand between two commits: a run is writing them, or one was ` +
      "stopped on its way. Wait for it, or run the pipeline again, which completes them",
  );
}

/** Null when lake, database and state are not of one moment. */
async function openAsOfOne(
  paths: OutputPaths,
  manifest: Pick<Manifest, "definition" | "definitionHash">,
): Promise<AuditPlace | null> {
  const { definition } = manifest;
  const memory = await openMemory();
  const { connection, instance } = memory;
  try {
    const hasDatabase = fs.existsSync(paths.database);
    if (hasDatabase) await connection.run(attachSql(paths.database));
    const sequences = await sinkSequences(paths, definition);
    const state = await publisherState(paths, manifest);
    const views = await lakeViews(paths, definition);
    const partitions = await storedPartitions(paths, definition);
    const isOne =
      sequences.every(({ sequence }) => sequence === state.sequence) &&
      views.every(({ sequence }) => sequence <= state.sequence) &&
      !isBehind(definition, state) &&
      (await publisherState(paths, manifest)).sequence === state.sequence;
    if (!isOne) {
      await memory.close();
      return null;
    }
    const bronze = bronzeOf(views, definition, paths.dir);
    const published = await copyTables(connection, definition, hasDatabase, views);
    if (hasDatabase) await connection.run("DETACH results");
    const flushed = partitions.every((stored) => isFlushed(stored, state));
    const passed = new Map(
      definition.streams.map(({ name }) => [
        name,
        state.watermarks[name] ?? Number.NEGATIVE_INFINITY,
      ]),
    );
    return { connection, instance, bronze, published, passed, flushed, close: memory.close };
  } catch (error) {
    await memory.close();
    if (error instanceof Error && LOCKED.test(error.message)) return null;
    throw error;
  }
}

async function openMemory(options: Readonly<Record<string, string>> = {}) {
  const folder = fs.mkdtempSync(path.join(tmpdir(), "millpond-audit-"));
  const instance = await DuckDBInstance.create(":memory:", {
    temp_directory: path.join(folder, "spill"),
    autoinstall_known_extensions: "false",
    autoload_known_extensions: "false",
    ...options,
  });
  const connection = await instance.connect();
  await connection.run("SET TimeZone = 'UTC'; SET preserve_insertion_order = false");
  const close = async () => {
    connection.closeSync();
    instance.closeSync();
    fs.rmSync(folder, { recursive: true, force: true });
  };
  return { instance, connection, folder, close };
}

const attachSql = (file: string): string => `ATTACH ${quoteText(file)} AS results (READ_ONLY)`;

/** Windows that are due were left to the publisher's next round. */
function isBehind({ tables }: PipelineDefinition, state: PublisherState): boolean {
  return tables.some(({ name, stream, shape }) => {
    if (shape.kind === "rows" || shape.window.kind === "session") return false;
    const { sizeMs } = shape.window;
    const passed = state.watermarks[stream] ?? Number.NEGATIVE_INFINITY;
    const windows = state.windows[name] ?? [];
    return windows.some(({ dirty, start }) => dirty && start + sizeMs <= passed);
  });
}

function isFlushed(
  { stream, partition, checkpoint, meta }: StoredPartition,
  state: PublisherState,
) {
  const last = checkpoint.outbox.at(-1)?.sequence ?? 0;
  const taken = Object.entries(state.taken).find(([id]) => id.endsWith(`/${stream}/${partition}`));
  return meta.flushed && last <= (taken?.[1] ?? 0);
}

function bronzeOf(views: readonly LakeView[], definition: PipelineDefinition, where: string) {
  const bronze = views.find(({ name }) => name === "bronze");
  if (bronze !== undefined) return `(${bronze.sql})`;
  const keeps = definition.sinks.some((sink) => sink.kind === "lake" && sink.bronze);
  if (keeps) return "(SELECT * FROM published.bronze)";
  throw new MillpondError(
    "USAGE",
    `${where} keeps no bronze, the records as they were read, so there is nothing to recompute ` +
      `from: add lake() to the sinks of "${definition.name}" and process the input again`,
  );
}

/** From the database where that holds a table, else from the lake. Bronze only if it is empty. */
async function copyTables(
  connection: DuckDBConnection,
  definition: PipelineDefinition,
  hasDatabase: boolean,
  views: readonly LakeView[],
): Promise<Set<string>> {
  await connection.run("CREATE SCHEMA published");
  const found = hasDatabase ? await namesIn(connection, "results") : new Set<string>();
  const published = new Set<string>();
  for (const layout of [...tableLayouts(definition), { name: "accounting" }]) {
    const { name } = layout;
    const view = views.find((candidate) => candidate.name === name);
    if (name === "bronze" && view !== undefined) continue;
    if (name === "bronze") {
      await connection.run(`CREATE TABLE published.bronze (topic VARCHAR, "partition" INTEGER,
        "offset" BIGINT, "timestamp" TIMESTAMPTZ, key BLOB, "value" BLOB)`);
      continue;
    }
    const from = found.has(name) ? `results.main.${quoteName(name)}` : view && `(${view.sql})`;
    if (from === undefined) continue;
    await connection.run(`CREATE TABLE published.${quoteName(name)} AS SELECT * FROM ${from}`);
    published.add(name);
  }
  return published;
}

async function namesIn(connection: DuckDBConnection, database: string): Promise<Set<string>> {
  const reader = await connection.runAndReadAll(
    `SELECT table_name FROM information_schema.tables
    WHERE table_catalog = ${quoteText(database)} AND table_schema = 'main'`,
  );
  return new Set(reader.getRows().map(([name]) => String(name)));
}

/**
 * A deployed pipeline's database in a bucket, which is of one moment by itself.
 *
 * @throws MillpondError USAGE when there is no such database or it has no bronze, STORAGE when S3
 *   fails
 */
export async function openBucket(
  storage: ReadableDatabase,
  definition: PipelineDefinition,
): Promise<AuditPlace> {
  const access = await storage.access();
  const memory = await openMemory({ extension_directory: access.extensionDirectory });
  const { connection, instance } = memory;
  try {
    for (const sql of access.statements) await connection.run(sql);
    const file = path.join(memory.folder, "results.duckdb");
    if ((await storage.download(file)) === null) {
      throw new MillpondError("USAGE", `${storage.uri} does not exist: correct bucket and prefix`);
    }
    await connection.run(attachSql(file));
    const found = await namesIn(connection, "results");
    if (!found.has("bronze")) bronzeOf([], { ...definition, sinks: [] }, storage.uri);
    // Views of the database name its own schemas.
    const published = new Set<string>();
    await connection.run("CREATE SCHEMA published");
    for (const name of found) {
      if (name === "bronze") continue;
      await connection.run(
        `CREATE TABLE published.${quoteName(name)} AS FROM results.main.${quoteName(name)}`,
      );
      published.add(name);
    }
    const bronze = "results.main.bronze";
    const facts = { bronze, published, passed: null, flushed: false };
    return { ...facts, connection, instance, close: memory.close };
  } catch (error) {
    await memory.close();
    throw error;
  }
}
