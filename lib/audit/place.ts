/** What an audit reads of an output directory; it writes nothing there. */
import * as fs from "node:fs";
import * as path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { DuckDBConnection } from "@duckdb/node-api";
import type { Publisher } from "../commit/publisher.js";
import { type PublisherState, type Standing, standingOf } from "../commit/publisher-state.js";
import type { PipelineDefinition, SinkNode } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { type LakeView, lakeViews } from "../query/local-results.js";
import {
  lakeSequence,
  loadedPublisher,
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
import { quoteName } from "../sinks/duckdb-types.js";
import { BRONZE, tableLayouts } from "../sinks/layouts.js";
import type { TableLayout } from "../sinks/sink.js";
import {
  type AuditPlace,
  attachSql,
  type CopiedAccounting,
  copyServers,
  type Environment,
  type Memory,
  NO_ACCOUNTING,
  namesIn,
  noBronze,
  noRows,
  openMemory,
  type PublishedCopy,
  type ReadPartition,
  standsOf,
  withServers,
} from "./published.js";
import { rowsOf } from "./rows.js";

const SETTLE_MS_MAX = 5_000;
const LOOK_AGAIN_MS = 50;

/**
 * The output of a local run. `env` says where PostgreSQL is, as for the sink; without, no server is
 * read.
 *
 * @throws MillpondError USAGE when there are no results or no bronze, CONFLICT while a run writes
 */
export async function openOutput(out: string, env?: Environment): Promise<AuditPlace> {
  const paths = outputPaths(out);
  const manifest = readManifest(paths);
  if (manifest === null || !fs.existsSync(paths.checkpoints)) throw noResults(out);
  return openData(paths, manifest, env);
}

type Claim = Pick<Manifest, "definition" | "definitionHash">;

/** The same, of data that the output's own manifest may not name yet; without `env` no server's. */
export async function openData(
  paths: OutputPaths,
  manifest: Claim,
  env?: Environment,
): Promise<AuditPlace> {
  const giveUpAt = performance.now() + SETTLE_MS_MAX;
  for (;;) {
    const place = await openAsOfOne(paths, manifest, env);
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
  manifest: Claim,
  env?: Environment,
): Promise<AuditPlace | null> {
  const { definition } = manifest;
  const memory = await openMemory();
  const { connection, instance } = memory;
  try {
    const database = await copyDatabase(memory, paths.database, definition);
    const lake = fs.existsSync(paths.lake) ? lakeSequence(paths) : null;
    const publisher = await loadedPublisher(paths, manifest);
    const { state } = publisher;
    const views = await lakeViews(paths, definition);
    const partitions = await storedPartitions(paths, definition);
    const taken = database?.sequence ?? lake ?? state.sequence;
    const isOne =
      (lake ?? taken) === taken &&
      views.every(({ sequence }) => sequence <= taken) &&
      state.trimmedThrough <= taken;
    // What is not there before all sinks had taken anything was not made yet, or is lost.
    const isMade = database === null || database.sequence !== null || state.trimmedThrough > 0;
    if (!isOne || (!isMade && taken > 0)) {
      await memory.close();
      return null;
    }
    const bronze = bronzeOf(views, definition, paths.dir);
    const own = [...lakeCopies(definition, views), ...(database === null ? [] : [database.copy])];
    const published = { output: state.output, sequence: taken };
    const servers =
      env === undefined ? [] : await copyServers(connection, definition, published, env);
    const isTaken = partitions.every((stored) => isOutboxTaken(stored, state));
    const isCurrent = taken === state.sequence;
    const isFlushed = isCurrent && isTaken && partitions.every(({ meta }) => meta.flushed);
    const standing = standingOf(state, isFlushed);
    const facts = {
      bronze,
      ...withServers(own, servers),
      ...standsOf(standing),
      pending: await pendingIn(publisher, standing, taken),
      read: isCurrent && isTaken ? partitions.map(readOf) : null,
    };
    return { ...facts, connection, instance, close: memory.close };
  } catch (error) {
    await memory.close();
    if (error instanceof Error && LOCKED.test(error.message)) return null;
    throw error;
  }
}

/** Also windows of publications that the sinks have not taken yet. */
async function pendingIn(
  publisher: Publisher,
  { pending }: Standing,
  taken: number,
): Promise<Map<string, number[]>> {
  const starts = new Map(Object.entries(pending).map(([table, some]) => [table, [...some]]));
  for (const entry of publisher.state.publications) {
    if (entry.sequence <= taken) continue;
    const { columns } = await publisher.batchOf(entry);
    const column = columns.find(({ name }) => name === "window_start");
    if (column?.vector.kind !== "number") continue;
    starts.set(entry.table, [...(starts.get(entry.table) ?? []), ...column.vector.values]);
  }
  return starts;
}

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

function bronzeOf(
  views: readonly LakeView[],
  definition: PipelineDefinition,
  where: string,
): string {
  const bronze = views.find(({ name }) => name === "bronze");
  if (bronze !== undefined) return `(${bronze.sql})`;
  if (!definition.sinks.some((sink) => sink.kind === "lake" && sink.bronze)) {
    throw noBronze(where, definition);
  }
  // Nothing was read yet.
  return noRows(BRONZE);
}

/** The layouts that sinks of this kind keep, without bronze; null without such a sink. */
function keptBy(definition: PipelineDefinition, kind: SinkNode["kind"]): TableLayout[] | null {
  const nodes = definition.sinks.filter((node) => node.kind === kind);
  if (nodes.length === 0) return null;
  const layouts = tableLayouts(definition).filter((layout) => layout.kind !== "bronze");
  const kept = new Set(nodes.flatMap((node) => chosen(layouts, node)));
  return layouts.filter((layout) => kept.has(layout));
}

/** Its tables are read where they are: their files are never changed. */
function lakeCopies(definition: PipelineDefinition, views: readonly LakeView[]): PublishedCopy[] {
  const kept = keptBy(definition, "lake");
  if (kept === null) return [];
  const found = new Map(views.map(({ name, sql }) => [name, `(${sql})`]));
  const tables = new Map(
    kept.map((layout) => [layout.name, found.get(layout.name) ?? noRows(layout)]),
  );
  return [{ place: "lake", tables, accounting: NO_ACCOUNTING }];
}

/** A database and the publication that it has taken; null without a `duckdb()` sink. */
async function copyDatabase(
  { connection, folder }: Pick<Memory, "connection" | "folder">,
  file: string,
  definition: PipelineDefinition,
): Promise<{ readonly copy: PublishedCopy; readonly sequence: number | null } | null> {
  const kept = keptBy(definition, "duckdb");
  if (kept === null) return null;
  const place = path.basename(file);
  if (!fs.existsSync(file)) {
    const tables = new Map(kept.map((layout) => [layout.name, noRows(layout)]));
    return { copy: { place, tables, accounting: { kind: "lacking" } }, sequence: null };
  }
  const copied = path.join(folder, place);
  // While it is attached nobody writes to it; and then it is let go, for a sink that wants to.
  await connection.run(attachSql(file));
  for (const end of ["", ".wal"]) {
    if (fs.existsSync(`${file}${end}`)) fs.copyFileSync(`${file}${end}`, `${copied}${end}`);
  }
  await connection.run("DETACH results");
  await connection.run(attachSql(copied));
  const found = await namesIn(connection, "results");
  const tables = new Map(
    kept.map((layout) => {
      const table = `results.main.${quoteName(layout.name)}`;
      return [layout.name, found.has(layout.name) ? table : noRows(layout)];
    }),
  );
  const accounting = await accountingIn(connection, found.has("accounting"));
  const [progress] = await rowsOf(
    connection,
    "SELECT max(sequence) AS sequence FROM results.millpond.progress",
  );
  return { copy: { place, tables, accounting }, sequence: Number(progress?.sequence ?? 0) };
}

async function accountingIn(
  connection: DuckDBConnection,
  isThere: boolean,
): Promise<CopiedAccounting> {
  const isKnown = (await namesIn(connection, "results", "millpond")).has("accounted");
  if (!isKnown && !isThere) return { kind: "old" };
  if (isKnown) {
    const [row] = await rowsOf(
      connection,
      `SELECT max(p.sequence) > max(a.sequence) AS is_old
      FROM results.millpond.progress AS p, results.millpond.accounted AS a`,
    );
    if (row?.is_old === true) return { kind: "old" };
    if (!isThere) return { kind: "lacking" };
  }
  return { kind: "there", from: "results.main.accounting" };
}
