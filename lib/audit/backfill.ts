/**
 * A changed definition's tables from the records that are there: bronze is read again through the
 * engine into data of its own, which the audit then holds against batch SQL; one rename puts it in
 * the old data's place. Its checkpoints stand where the old ones stood, so the next run goes on.
 */
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import { Publisher } from "../commit/publisher.js";
import type { Pipeline, PipelineDefinition } from "../define/definition.js";
import { definitionHash } from "../define/json.js";
import { MillpondError } from "../errors.js";
import { publisherState, type StoredPartition, storedPartitions } from "../runtime/inspect-data.js";
import {
  DATA_FOLDER,
  lockOutput,
  type Manifest,
  noResults,
  type OutputPaths,
  outputPaths,
  pathsIn,
  readManifest,
  writeManifest,
} from "../runtime/output.js";
import { keepReferences, loadReferences } from "../runtime/references.js";
import {
  localPlace,
  type RunProgress,
  type RunReport,
  runSources,
} from "../runtime/run-pipeline.js";
import { partitionPrefix, publisherId } from "../runtime/runner.js";
import { quoteText } from "../sinks/duckdb-types.js";
import { FileCheckpointStore, FileObjectStore } from "../stores/files.js";
import type { AuditReport } from "./audit.js";
import { type BronzePartition, bronzeSource } from "./bronze-source.js";
import { openData } from "./place.js";
import { prove, refuseWithoutBronze } from "./prove.js";
import type { AuditPlace } from "./published.js";
import {
  checkServers,
  hasServers,
  makeRoom,
  nameOutput,
  placeServers,
  type Replaced,
  refuseServers,
  stagedDefinition,
} from "./rebuilt-servers.js";

export interface BackfillOptions {
  readonly pipeline: Pipeline;
  readonly out: string;
  /** Publish windows that are still open, as `run` does. */
  readonly flush: boolean;
  readonly batchSize: number;
  readonly onProgress?: (progress: RunProgress) => void;
  readonly signal?: AbortSignal;
}

export type BackfillReport =
  /** The output is of this definition already. */
  | { readonly kind: "current" }
  | { readonly kind: "aborted" }
  | { readonly kind: "done"; readonly run: RunReport; readonly audit: AuditReport };

/**
 * Throws `MillpondError`, and then the output is what it was (or, of a server that was not reached
 * in the last step, gets there with the next run): "USAGE" without results or bronze,
 * "OUTPUT" where the change can't be made from bronze, "CONFLICT" while a run writes, "INVARIANT"
 * when the rebuilt tables are not what batch SQL says.
 */
export async function backfill(options: BackfillOptions): Promise<BackfillReport> {
  const { pipeline, out } = options;
  const references = await loadReferences(pipeline);
  const hash = definitionHash(pipeline.definition, references.hashes);
  if (readManifest(outputPaths(out)) === null) throw noResults(out);
  const lock = await lockOutput(outputPaths(out));
  try {
    // Under the lock: another backfill may have come before.
    const before = outputPaths(out);
    const manifest = readManifest(before);
    if (manifest === null) throw noResults(out);
    removeUnnamed(before);
    const { definition } = pipeline;
    const env = process.env;
    if (hasServers(definition)) {
      // What an earlier backfill had put in place here, and was killed before it was there as well.
      await placeServers(manifest.definition, await outputOf(before, manifest), env);
    }
    if (manifest.definitionHash === hash) return { kind: "current" };
    refuseUnfit(manifest.definition, definition);
    const replaced = await checkServers(definition, await outputOf(before, manifest), env);
    const after = pathsIn(before.dir, `data-${randomBytes(6).toString("hex")}`);
    const run = await rebuild(options, before, after, replaced);
    if (run.aborted) {
      removeData(after);
      return { kind: "aborted" };
    }
    const output = await keptOutput(after, definition.name, hash);
    const filled = await stagedDefinition(definition);
    await nameOutput(filled, output, env);
    const rebuilt = await openData(after, { definition: filled, definitionHash: hash }, env);
    const consequence = `the old results stand. Keep ${after.data} and report it`;
    const audited = await prove(rebuilt, { pipeline, definition: filled }, consequence);
    // From here on the new results stand; on servers, once someone opens their sink.
    writeManifest(after, definition, hash);
    await placeServers(definition, output, env);
    removeData(before);
    return { kind: "done", run, audit: audited };
  } finally {
    lock.release();
  }
}

/** The name under which sinks on servers know the data. */
async function outputOf(
  paths: OutputPaths,
  manifest: Pick<Manifest, "definition" | "definitionHash">,
): Promise<string> {
  return (await publisherState(paths, manifest)).output;
}

/** The same of data that was just made, also when nothing was published in it. */
async function keptOutput(paths: OutputPaths, pipeline: string, hash: string): Promise<string> {
  const publisher = new Publisher({
    checkpoints: new FileCheckpointStore(paths.checkpoints),
    objects: new FileObjectStore(paths.objects),
    id: publisherId(pipeline),
    definitionHash: hash,
    programs: [],
  });
  await publisher.handOver(hash);
  await publisher.load();
  return publisher.state.output;
}

/** Folders of backfills that were cut off, or of data that one has replaced. */
function removeUnnamed(paths: OutputPaths): void {
  for (const name of fs.readdirSync(paths.dir)) {
    const folder = path.join(paths.dir, name);
    if (!DATA_FOLDER.test(name) || folder === paths.data) continue;
    fs.rmSync(folder, { recursive: true, force: true });
  }
  if (paths.data !== paths.dir) removeData(pathsIn(paths.dir, "."));
}

/** The output's own directory keeps the manifest, the lock, and what is no data. */
function removeData(paths: OutputPaths): void {
  const { data, dir, checkpoints, objects, references, lake, database } = paths;
  const files = [checkpoints, objects, references, lake, database, `${database}.wal`];
  for (const place of data === dir ? files : [data]) {
    fs.rmSync(place, { recursive: true, force: true });
  }
}

function refuseUnfit(before: PipelineDefinition, after: PipelineDefinition): void {
  if (before.name !== after.name) {
    throw new MillpondError(
      "OUTPUT",
      `the output belongs to pipeline "${before.name}", not "${after.name}": give its own --out`,
    );
  }
  refuseServers(after);
  const names = new Set(after.streams.map(({ name }) => name));
  const removed = before.streams.find(({ name }) => !names.has(name));
  if (removed !== undefined) {
    throw new MillpondError(
      "OUTPUT",
      `no table of the new definition reads stream "${removed.name}", whose records are in ` +
        "bronze and would be lost: keep a table that reads it (one that no event passes: " +
        `${removed.name}.filter((e) => e.${removed.eventTime}.isNull()).rows())`,
    );
  }
  refuseWithoutBronze(after);
}

async function rebuild(
  options: BackfillOptions,
  before: OutputPaths,
  after: OutputPaths,
  replaced: Replaced,
): Promise<RunReport> {
  const manifest = readManifest(before);
  if (manifest === null) throw noResults(options.out);
  const references = await loadReferences(options.pipeline);
  const place = await openData(before, manifest);
  try {
    const stored = await storedPartitions(before, manifest.definition);
    const partitions = await bronzePartitions(place, stored);
    const sources = partitions.map((partition) => ({
      stream: partition.topic,
      source: bronzeSource(place.instance, place.bronze, partition),
    }));
    await copyOtherItems(before, after, manifest.definition);
    keepReferences(options.pipeline, after.references);
    const { definition } = options.pipeline;
    const hash = definitionHash(definition, references.hashes);
    const output = await keptOutput(after, definition.name, hash);
    await makeRoom(definition, output, replaced, process.env);
    const to = localPlace(after, await stagedDefinition(definition), hash);
    return await runSources(options, to, references, hash, sources);
  } finally {
    await place.close();
  }
}

/** Bronze must hold what the checkpoints have read: no less, and no more. */
async function bronzePartitions(
  { connection, bronze }: AuditPlace,
  stored: readonly StoredPartition[],
): Promise<BronzePartition[]> {
  const partitions: BronzePartition[] = [];
  for (const { stream: topic, partition, checkpoint, meta } of stored) {
    const reader = await connection.runAndReadAll(
      `SELECT count(*)::DOUBLE, max("offset")::DOUBLE,
        coalesce(sum(octet_length("value")), 0)::DOUBLE FROM ${bronze}
      WHERE topic = ${quoteText(topic)} AND "partition" = ${partition}`,
    );
    const [records = 0, last = 0, bytes = 0] = (reader.getRows()[0] ?? []).map(Number);
    const { label, counters } = meta;
    const reaches = counters.records === 0 || last === checkpoint.nextOffset - 1;
    if (records !== counters.records || !reaches) {
      throw new MillpondError(
        "OUTPUT",
        `bronze holds ${records} of the ${counters.records} records that were read of ${label} ` +
          `(up to offset ${last}, the checkpoint is at ${checkpoint.nextOffset}): it is not ` +
          "whole, so process the input again into a new --out",
      );
    }
    partitions.push({ topic, partition, label, position: checkpoint.position, bytes });
  }
  return partitions;
}

/** Which file is which partition, and the like: all but what the engine will write anew. */
async function copyOtherItems(
  before: OutputPaths,
  after: OutputPaths,
  { name, streams }: PipelineDefinition,
): Promise<void> {
  const from = new FileCheckpointStore(before.checkpoints);
  const to = new FileCheckpointStore(after.checkpoints);
  const own = streams.map((stream) => partitionPrefix(name, stream.name));
  for (const id of await from.list(`${name}/`)) {
    if (id === publisherId(name) || own.some((prefix) => id.startsWith(prefix))) continue;
    const item = await from.read(id);
    if (item !== null) await to.compareAndSwap(id, { ...item, generation: 1 });
  }
}
