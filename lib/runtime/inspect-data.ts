/** Reads what `millpond inspect` shows from an output directory; changes nothing in it. */
import * as fs from "node:fs";
import * as path from "node:path";
import { type Checkpoint, fromItem } from "../commit/checkpoint.js";
import { Publisher } from "../commit/publisher.js";
import type { PublisherState } from "../commit/publisher-state.js";
import type { PipelineDefinition } from "../define/definition.js";
import { DuckDBInstance } from "../duckdb-api.js";
import { MillpondError } from "../errors.js";
import { FileCheckpointStore, FileObjectStore } from "../stores/files.js";
import { type AccountingRow, accountingRows, type StreamCounters } from "./accounting.js";
import { type Manifest, noResults, type OutputPaths, outputPaths, readManifest } from "./output.js";
import { metaOf, type PartitionMeta } from "./partition-meta.js";
import { partitionPrefix, publisherId } from "./runner.js";

export interface InspectedPartition {
  readonly topic: string;
  readonly partition: number;
  /** The file it is read from. */
  readonly label: string;
  readonly nextOffset: number;
  /** Epoch ms; null before the first event. */
  readonly watermark: number | null;
  readonly maxEventTime: number | null;
  readonly openWindows: number;
  readonly openSessions: number;
  readonly dedupIds: number;
  readonly stateBytes: number;
  readonly generation: number;
}

export interface InspectedTable {
  readonly name: string;
  readonly published: number;
  readonly pending: number;
  readonly late: number;
  readonly counted: number;
  readonly duplicates: number;
}

export interface InspectReport {
  readonly pipeline: string;
  readonly definitionHash: string;
  readonly streams: readonly InspectedPartition[];
  readonly tables: readonly InspectedTable[];
  readonly accounting: readonly AccountingRow[];
  /** Publications that a sink has not taken yet. */
  readonly outbox: number;
  readonly sinks: readonly { readonly name: string; readonly sequence: number }[];
}

export interface StoredPartition {
  readonly stream: string;
  readonly partition: number;
  readonly checkpoint: Checkpoint;
  readonly meta: PartitionMeta;
}

export async function inspectData(out: string): Promise<InspectReport> {
  const paths = outputPaths(out);
  const manifest = readManifest(paths);
  if (manifest === null || !fs.existsSync(paths.checkpoints)) throw noResults(out);
  const partitions = await storedPartitions(paths, manifest.definition);
  const published = await publisherState(paths, manifest);
  const { definition } = manifest;
  const latenesses = new Map(definition.streams.map((s) => [s.name, s.latenessMs]));
  const counters = partitions.map(({ stream, meta }) => ({ stream, counters: meta.counters }));
  const sinks = await sinkSequences(paths, definition);
  const taken = Math.min(published.sequence, ...sinks.map(({ sequence }) => sequence));
  return {
    pipeline: manifest.pipeline,
    definitionHash: manifest.definitionHash,
    streams: partitions.map((stored) => inspected(stored, latenesses.get(stored.stream) ?? 0)),
    tables: tables(definition, counters, published),
    accounting: accountingRows(definition, counters, published),
    outbox: published.publications.filter(({ sequence }) => sequence > taken).length,
    sinks,
  };
}

/** By stream, then by partition. */
export async function storedPartitions(
  paths: OutputPaths,
  definition: PipelineDefinition,
): Promise<StoredPartition[]> {
  const checkpoints = new FileCheckpointStore(paths.checkpoints);
  const found: StoredPartition[] = [];
  for (const { name: stream } of definition.streams) {
    for (const id of await checkpoints.list(partitionPrefix(definition.name, stream))) {
      const item = await checkpoints.read(id);
      if (item === null) continue;
      const checkpoint = fromItem(id, item);
      found.push({
        stream,
        partition: Number(id.split("/").at(-1)),
        checkpoint,
        meta: metaOf(checkpoint),
      });
    }
  }
  return found.sort((a, b) => a.stream.localeCompare(b.stream) || a.partition - b.partition);
}

export async function publisherState(
  paths: OutputPaths,
  manifest: Pick<Manifest, "definition" | "definitionHash">,
): Promise<PublisherState> {
  return (await loadedPublisher(paths, manifest)).state;
}

/** To read what it has, not to publish. */
export async function loadedPublisher(
  paths: OutputPaths,
  manifest: Pick<Manifest, "definition" | "definitionHash">,
): Promise<Publisher> {
  const publisher = new Publisher({
    checkpoints: new FileCheckpointStore(paths.checkpoints),
    objects: new FileObjectStore(paths.objects),
    id: publisherId(manifest.definition.name),
    definitionHash: manifest.definitionHash,
    programs: [],
  });
  await publisher.load();
  return publisher;
}

function inspected(stored: StoredPartition, latenessMs: number): InspectedPartition {
  const { stream: topic, partition, checkpoint, meta } = stored;
  const { nextOffset, maxEventTime, stateBytes, generation } = checkpoint;
  const { label, openWindows, openSessions, dedupIds } = meta;
  const watermark = maxEventTime === null ? null : maxEventTime - latenessMs;
  return {
    topic,
    partition,
    label,
    nextOffset,
    watermark,
    maxEventTime,
    openWindows,
    openSessions,
    dedupIds,
    stateBytes,
    generation,
  };
}

function tables(
  definition: PipelineDefinition,
  counters: readonly StreamCounters[],
  published: PublisherState,
): InspectedTable[] {
  return accountingRows(definition, counters, published)
    .filter(({ kind }) => kind === "table")
    .map(({ name, late, counted, duplicates, rows }) => ({
      name,
      published: published.totals[name]?.publishedRows ?? 0,
      pending: (published.windows[name] ?? []).filter(({ dirty }) => dirty).length,
      late: late ?? 0,
      counted: counted ?? rows ?? 0,
      duplicates: duplicates ?? 0,
    }));
}

async function sinkSequences(
  paths: OutputPaths,
  definition: PipelineDefinition,
): Promise<{ name: string; sequence: number }[]> {
  const kinds = definition.sinks.map(({ kind }) => kind);
  const sequences: { name: string; sequence: number }[] = [];
  if (kinds.includes("lake")) sequences.push({ name: "lake", sequence: lakeSequence(paths) });
  if (kinds.includes("duckdb")) {
    sequences.push({ name: "duckdb", sequence: await databaseSequence(paths) });
  }
  return sequences;
}

/** The publication that the lake has taken. */
export function lakeSequence(paths: OutputPaths): number {
  const dir = path.join(paths.lake, "_millpond", "progress");
  if (!fs.existsSync(dir)) return 0;
  return Math.max(0, ...fs.readdirSync(dir).map(Number).filter(Number.isFinite));
}

async function databaseSequence(paths: OutputPaths): Promise<number> {
  if (!fs.existsSync(paths.database)) return 0;
  try {
    const instance = await DuckDBInstance.create(paths.database, { access_mode: "READ_ONLY" });
    try {
      const connection = await instance.connect();
      const reader = await connection.runAndReadAll("SELECT max(sequence) FROM millpond.progress");
      return Number(reader.getRows()[0]?.[0] ?? 0);
    } finally {
      instance.closeSync();
    }
  } catch (cause) {
    throw new MillpondError(
      "CONFLICT",
      `${paths.database} is in use: a run is writing to it; try again in a moment`,
      { cause },
    );
  }
}
