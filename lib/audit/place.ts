/**
 * What an audit reads, as of one publication: bronze, the published tables, and how far they are.
 * It opens an output directory or a bucket's database for reading, and writes to neither.
 */
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { DuckDBConnection } from "@duckdb/node-api";
import type { PublisherState } from "../commit/publisher-state.js";
import type { PipelineDefinition } from "../define/definition.js";
import { DuckDBInstance } from "../duckdb-api.js";
import { MillpondError } from "../errors.js";
import { type LakeView, lakeViews } from "../query/local-results.js";
import type { ReadableDatabase } from "../query/snapshot-results.js";
import {
  lakeSequence,
  publisherState,
  type StoredPartition,
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
import { chosen } from "../runtime/run-sinks.js";
import { columnDefinitions, quoteName, quoteText } from "../sinks/duckdb-types.js";
import { tableLayouts } from "../sinks/layouts.js";

export interface AuditPlace {
  /** In memory; `published` schema: copies of the published tables. Bronze is read where it is. */
  readonly connection: DuckDBConnection;
  readonly instance: DuckDBInstance;
  /** Something to select bronze's columns from. */
  readonly bronze: string;
  /** Names of the tables in schema `published`. */
  readonly published: ReadonlySet<string>;
  /** The accounting is of an earlier publication than the tables, and not in `published`. */
  readonly isAccountingOld: boolean;
  /**
   * Epoch ms by stream: windows that end by then have been published. Null: only bronze can tell.
   */
  readonly passed: ReadonlyMap<string, number> | null;
  /**
   * By table, starts (epoch ms) of windows whose published rows lack something that came since.
   * Null where that is not known of windows that `passed` has not reached.
   */
  readonly pending: ReadonlyMap<string, readonly number[]> | null;
  /** What stood open was published too, and nothing came since. */
  readonly flushed: boolean;
  /** Records that bronze must hold, by topic and partition; null where only bronze can tell. */
  readonly read: readonly ReadPartition[] | null;
  close(): Promise<void>;
}

export interface ReadPartition {
  readonly topic: string;
  readonly partition: number;
  readonly records: number;
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

/** Null when lake and database are not of one moment. */
async function openAsOfOne(
  paths: OutputPaths,
  manifest: Pick<Manifest, "definition" | "definitionHash">,
): Promise<AuditPlace | null> {
  const { definition } = manifest;
  const memory = await openMemory();
  const { connection, instance } = memory;
  try {
    await connection.run("CREATE SCHEMA published");
    const sequences: number[] = [];
    let isAccountingOld = false;
    const published = new Set<string>();
    // First, and let go at once: a sink that wants to write to it would fail.
    if (fs.existsSync(paths.database)) {
      await connection.run(attachSql(paths.database));
      isAccountingOld = await isOldAccounting(connection);
      sequences.push(await copyDatabase(connection, definition, published));
      if (isAccountingOld) published.delete("accounting");
      await connection.run("DETACH results");
    }
    if (fs.existsSync(paths.lake)) sequences.push(lakeSequence(paths));
    const state = await publisherState(paths, manifest);
    const views = await lakeViews(paths, definition);
    const partitions = await storedPartitions(paths, definition);
    const taken = sequences[0] ?? state.sequence;
    const isOne =
      sequences.every((sequence) => sequence === taken) &&
      views.every(({ sequence }) => sequence <= taken);
    if (!isOne) {
      await memory.close();
      return null;
    }
    for (const { name, sql } of views) {
      if (name !== "bronze" && !published.has(name))
        await copy(connection, published, name, `(${sql})`);
    }
    await addEmpty(connection, definition, published);
    const bronze = await bronzeOf(connection, views, definition, paths.dir);
    // What the publisher has published since, or left to its next round, sinks need not have.
    const isCurrent = taken === state.sequence && !isBehind(definition, state);
    const flushed = isCurrent && partitions.every((stored) => isFlushed(stored, state));
    const passed = new Map(
      definition.streams.map(({ name }) => [
        name,
        (isCurrent ? state.watermarks[name] : null) ?? Number.NEGATIVE_INFINITY,
      ]),
    );
    const isTaken = isCurrent && partitions.every((stored) => isOutboxTaken(stored, state));
    const read = isTaken ? partitions.map(readOf) : null;
    const pending = isCurrent ? pendingIn(state) : null;
    const facts = { bronze, published, isAccountingOld, passed, pending, flushed, read };
    return { ...facts, connection, instance, close: memory.close };
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

const pendingIn = ({ windows }: PublisherState): Map<string, number[]> =>
  new Map(
    Object.entries(windows).map(([table, entries]) => [
      table,
      entries.filter(({ dirty }) => dirty).map(({ start }) => start),
    ]),
  );

const isFlushed = (stored: StoredPartition, state: PublisherState): boolean =>
  stored.meta.flushed && isOutboxTaken(stored, state);

function isOutboxTaken({ stream, partition, checkpoint }: StoredPartition, state: PublisherState) {
  const last = checkpoint.outbox.at(-1)?.sequence ?? 0;
  const taken = Object.entries(state.taken).find(([id]) => id.endsWith(`/${stream}/${partition}`));
  return last <= (taken?.[1] ?? 0);
}

const readOf = ({ stream, partition, meta }: StoredPartition): ReadPartition => ({
  topic: stream,
  partition,
  records: meta.counters.records,
});

async function bronzeOf(
  connection: DuckDBConnection,
  views: readonly LakeView[],
  definition: PipelineDefinition,
  where: string,
): Promise<string> {
  const bronze = views.find(({ name }) => name === "bronze");
  if (bronze !== undefined) return `(${bronze.sql})`;
  if (!definition.sinks.some((sink) => sink.kind === "lake" && sink.bronze)) {
    throw noBronze(where, definition);
  }
  // Nothing was read yet.
  await connection.run(`CREATE TABLE published.bronze (topic VARCHAR, "partition" INTEGER,
    "offset" BIGINT, "timestamp" TIMESTAMPTZ, key BLOB, "value" BLOB)`);
  return "published.bronze";
}

const noBronze = (where: string, { name }: PipelineDefinition): MillpondError =>
  new MillpondError(
    "USAGE",
    `${where} keeps no bronze, the records as they were read, so there is nothing to recompute ` +
      `from: add lake() to the sinks of "${name}" and process the input again`,
  );

/** Its tables; returns the publication that it has taken. */
async function copyDatabase(
  connection: DuckDBConnection,
  definition: PipelineDefinition,
  published: Set<string>,
): Promise<number> {
  const found = await namesIn(connection, "results");
  for (const { name } of [...tableLayouts(definition), { name: "accounting" }]) {
    if (found.has(name)) await copy(connection, published, name, `results.main.${quoteName(name)}`);
  }
  const reader = await connection.runAndReadAll(
    "SELECT max(sequence) FROM results.millpond.progress",
  );
  return Number(reader.getRows()[0]?.[0] ?? 0);
}

async function isOldAccounting(connection: DuckDBConnection): Promise<boolean> {
  const tables = await connection.runAndReadAll(
    `SELECT 1 FROM information_schema.tables WHERE table_catalog = 'results'
      AND table_schema = 'millpond' AND table_name = 'accounted'`,
  );
  if (tables.currentRowCount === 0) return false;
  const reader = await connection.runAndReadAll(
    `SELECT max(p.sequence) > max(a.sequence)
    FROM results.millpond.progress AS p, results.millpond.accounted AS a`,
  );
  return reader.getRows()[0]?.[0] === true;
}

/** Tables that no row was published of yet are in no sink, and empty. */
async function addEmpty(
  connection: DuckDBConnection,
  definition: PipelineDefinition,
  published: Set<string>,
): Promise<void> {
  const layouts = tableLayouts(definition).filter(({ kind }) => kind !== "bronze");
  const local = definition.sinks.filter(({ kind }) => kind === "lake" || kind === "duckdb");
  const kept = new Set(local.flatMap((node) => chosen(layouts, node)));
  for (const { name, columns } of kept) {
    if (published.has(name)) continue;
    await connection.run(
      `CREATE TABLE published.${quoteName(name)} (${columnDefinitions(columns)})`,
    );
    published.add(name);
  }
}

async function copy(
  connection: DuckDBConnection,
  published: Set<string>,
  name: string,
  from: string,
): Promise<void> {
  await connection.run(`CREATE TABLE published.${quoteName(name)} AS SELECT * FROM ${from}`);
  published.add(name);
}

async function namesIn(connection: DuckDBConnection, database: string): Promise<Set<string>> {
  const reader = await connection.runAndReadAll(
    `SELECT table_name FROM information_schema.tables
    WHERE table_catalog = ${quoteText(database)} AND table_schema = 'main'`,
  );
  return new Set(reader.getRows().map(([name]) => String(name)));
}

/** Bronze alone, without the published tables. */
export interface BronzePlace
  extends Pick<AuditPlace, "connection" | "instance" | "bronze" | "close"> {
  /** Something to select the accounting from, which is not newer than bronze; null without one. */
  readonly accounting: string | null;
}

/**
 * A deployed pipeline's bronze, as of one moment.
 *
 * @throws MillpondError USAGE when there is no such database or it has no bronze, STORAGE when S3
 *   fails
 */
export async function openBronze(
  storage: ReadableDatabase,
  definition: PipelineDefinition,
): Promise<BronzePlace> {
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
    if (!found.has("bronze")) throw noBronze(storage.uri, definition);
    const accounting = found.has("accounting") ? "results.main.accounting" : null;
    const bronze = "results.main.bronze";
    return { connection, instance, bronze, accounting, close: memory.close };
  } catch (error) {
    await memory.close();
    throw error;
  }
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
  const opened = await openBronze(storage, definition);
  const { connection } = opened;
  try {
    const published = new Set<string>();
    await connection.run("CREATE SCHEMA published");
    for (const name of await namesIn(connection, "results")) {
      if (name === "bronze") continue;
      await copy(connection, published, name, `results.main.${quoteName(name)}`);
    }
    const unknown = { isAccountingOld: false, passed: null, flushed: false, read: null };
    // Of one moment: what its partitions have closed is in its windows.
    return { ...opened, published, ...unknown, pending: new Map() };
  } catch (error) {
    await opened.close();
    throw error;
  }
}
