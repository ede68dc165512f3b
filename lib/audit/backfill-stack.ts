/**
 * A changed definition's tables in a stack of its own, from the bronze of the stack before: read
 * again through the engine into the new stack's stores, which its functions leave alone until all
 * is there and the audit agrees. Kafka then brings what bronze did not have.
 */
import { randomUUID } from "node:crypto";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { CheckpointCell } from "../commit/cell.js";
import { fromItem } from "../commit/checkpoint.js";
import { backfillHash, checkDefinition } from "../commit/committer.js";
import type { CheckpointItem } from "../commit/ports.js";
import { Publisher } from "../commit/publisher.js";
import type { Pipeline, PipelineDefinition } from "../define/definition.js";
import { definitionHash } from "../define/json.js";
import { compileStream } from "../engine/program.js";
import { MillpondError } from "../errors.js";
import { makeSink } from "../handlers/sink.js";
import type { ReadableDatabase } from "../query/snapshot-results.js";
import { goneSource } from "../runtime/gone-source.js";
import { kafkaProgress } from "../runtime/kafka-progress.js";
import { INGEST_PARTITION } from "../runtime/object-ingest.js";
import { PartitionRun } from "../runtime/partition-run.js";
import { type LoadedReferences, loadReferences } from "../runtime/references.js";
import { type RunProgress, runSources } from "../runtime/run-pipeline.js";
import { makeSinks, storePlaces } from "../runtime/run-sinks.js";
import { partitionId, partitionPrefix, publisherId } from "../runtime/runner.js";
import type { DatabaseStorage } from "../sinks/database-snapshot.js";
import type { Stores } from "../stores/open-stores.js";
import type { AuditReport } from "./audit.js";
import { bronzeSource, kafkaBronzeSource } from "./bronze-source.js";
import { type BronzePlace, openBronze, openBucket } from "./bucket-place.js";
import { prove, refuseWithoutBronze } from "./prove.js";
import {
  checkServers,
  makeRoom,
  nameOutput,
  refuseServers,
  stagedDefinition,
} from "./rebuilt-servers.js";
import { rowsOf } from "./rows.js";

export interface StackBackfillOptions {
  readonly pipeline: Pipeline;
  /** The old stack's results. */
  readonly from: ReadableDatabase;
  /** The new stack's. */
  readonly stores: Pick<Stores, "checkpoints" | "objects" | "lake" | "database">;
  readonly env: NodeJS.ProcessEnv;
  readonly batchSize: number;
  readonly onProgress?: (progress: RunProgress) => void;
  readonly signal?: AbortSignal;
}

export type StackBackfillReport =
  /** That was done before. */
  | { readonly kind: "current" }
  /** What was done stays, and the next call goes on from there. */
  | { readonly kind: "aborted" }
  | {
      readonly kind: "done";
      /** Null when only the handing over was left to do. */
      readonly audit: AuditReport | null;
      readonly partitions: readonly PartitionEnd[];
    };

/** Where Kafka takes over. */
export interface PartitionEnd {
  readonly stream: string;
  readonly partition: number;
  readonly nextOffset: number;
  /** Of the youngest record that was read, epoch ms; null when none had a timestamp. */
  readonly timestampMs: number | null;
}

/** `replay`: checkpoints are a backfill's; `handOver`: all is there, some may be handed over. */
type Phase = "replay" | "handOver" | "done";

interface Journal {
  readonly definitionHash: string;
  readonly phase: Phase;
}

interface BronzePartition {
  readonly stream: string;
  readonly partition: number;
  readonly records: number;
  /** About. */
  readonly bytes: number;
}

/**
 * Throws `MillpondError`, and then nothing is published and the next call goes on or begins anew:
 * "OUTPUT" where the new stack has begun by itself or bronze is not fit, "CONFLICT" while another
 * backfill is at work, "INVARIANT" when the rebuilt tables are not what batch SQL says, "STORAGE".
 *
 * @example
 * const from = await databaseAt("s3://old-bucket", "clicks");
 * const report = await backfillStack({ pipeline, from, stores, env, batchSize: 10_000 });
 */
export async function backfillStack(options: StackBackfillOptions): Promise<StackBackfillReport> {
  refuseServers(options.pipeline.definition);
  refuseWithoutBronze(options.pipeline.definition);
  const references = await loadReferences(options.pipeline);
  const hash = definitionHash(options.pipeline.definition, references.hashes);
  return new StackBackfill(options, references, hash).run();
}

class StackBackfill {
  readonly #options: StackBackfillOptions;
  readonly #definition: PipelineDefinition;
  readonly #references: LoadedReferences;
  readonly #hash: string;
  readonly #journal: CheckpointCell;

  constructor(options: StackBackfillOptions, references: LoadedReferences, hash: string) {
    this.#options = options;
    this.#definition = options.pipeline.definition;
    this.#references = references;
    this.#hash = hash;
    this.#journal = new CheckpointCell(
      options.stores.checkpoints,
      `${this.#definition.name}/backfill`,
    );
  }

  async run(): Promise<StackBackfillReport> {
    const phase = this.#phase(await this.#journal.read());
    if (phase === "done") return { kind: "current" };
    let audited: AuditReport | null = null;
    if (phase !== "handOver") {
      audited = await this.#rebuild(phase === null);
      if (audited === null) return { kind: "aborted" };
      await this.#note("handOver");
    }
    const partitions = await this.#handOver();
    await this.#publish();
    await this.#note("done");
    return { kind: "done", audit: audited, partitions };
  }

  #phase(item: CheckpointItem | null): Phase | null {
    if (item === null) return null;
    const { definitionHash: found, phase } = item.attributes as Partial<Journal>;
    if (found === this.#hash && phase !== undefined) return phase;
    throw new MillpondError(
      "OUTPUT",
      "the new stack was filled, or begun to be, with another version of the definition: take it " +
        "down and deploy it anew, then run the backfill with the definition that is deployed",
    );
  }

  async #note(phase: Phase): Promise<void> {
    const entry: Journal = { definitionHash: this.#hash, phase };
    const result = await this.#journal.swap({ ...entry }, new Uint8Array());
    if (result.kind === "conflict") throw isAtWork();
  }

  /** Null when it was asked to stop. */
  async #rebuild(isFirst: boolean): Promise<AuditReport | null> {
    const { from, env, stores, batchSize, onProgress, signal, pipeline } = this.#options;
    const source = await openBronze(from, this.#definition);
    const folder = await fs.mkdtemp(path.join(tmpdir(), "millpond-backfill-"));
    try {
      const partitions = await partitionsIn(source);
      refuseObjects(partitions);
      refuseGaps(source, from.uri, partitions);
      const own = partitions.filter(({ stream }) => this.#hasStream(stream));
      const replaced = await checkServers(this.#definition, null, env);
      if (isFirst) await this.#claim(own);
      const output = await this.#output();
      await makeRoom(this.#definition, output, replaced, env);
      const sources = [];
      for (const { stream, partition, bytes } of await this.#claimed(own)) {
        const label = `${stream}-${partition}`;
        const bronze = { topic: stream, partition, label, position: null, bytes };
        const read = bronzeSource(source.instance, source.bronze, bronze);
        sources.push({ stream, source: kafkaBronzeSource(read) });
      }
      const storage = unpublished(storePlaces(stores, this.#definition.name, env), folder);
      const filled = await stagedDefinition(this.#definition);
      const sinks = makeSinks(filled, storage.places, this.#hash, env);
      const place = { ...stores, sinks };
      const watch = {
        ...(onProgress !== undefined && { onProgress }),
        ...(signal !== undefined && { signal }),
      };
      const run = { pipeline, out: from.uri, flush: false, batchSize, ...watch };
      const marked = backfillHash(this.#hash);
      const report = await runSources(run, place, this.#references, marked, sources);
      if (report.aborted) return null;
      await nameOutput(filled, output, env);
      return await this.#prove(storage.database, filled);
    } finally {
      await source.close();
      await fs.rm(folder, { recursive: true, force: true });
    }
  }

  #hasStream(stream: string): boolean {
    return this.#definition.streams.some(({ name }) => name === stream);
  }

  /** What has begun by itself has read from Kafka what bronze has as well. */
  async #claim(partitions: readonly BronzePartition[]): Promise<void> {
    const { checkpoints } = this.#options.stores;
    const { name, streams } = this.#definition;
    const begun = async () => {
      const lists = streams.map((stream) => checkpoints.list(partitionPrefix(name, stream.name)));
      for (const id of (await Promise.all(lists)).flat()) {
        const item = await checkpoints.read(id);
        if (item === null) continue;
        const { definitionHash: found, nextOffset } = fromItem(id, item);
        if (found === this.#hash) throw hasBegun(`"${id}" is at offset ${nextOffset}`);
        checkDefinition(id, { definitionHash: found }, backfillHash(this.#hash));
      }
    };
    await begun();
    for (const partition of partitions) await this.#partitionRun(partition).claim();
    // A processor may have begun meanwhile, at a partition that bronze does not have.
    await begun();
    await this.#note("replay");
  }

  #partitionRun({ stream, partition }: BronzePartition): PartitionRun {
    const { pipeline, stores } = this.#options;
    const context = { functions: pipeline.functions, references: this.#references.data };
    return new PartitionRun({
      ...stores,
      program: compileStream(this.#definition, stream, context),
      source: goneSource(stream, partition, `${stream}-${partition}`),
      id: partitionId(this.#definition.name, stream, partition),
      definitionHash: backfillHash(this.#hash),
    });
  }

  /** Partitions that bronze has had since the first call are Kafka's from their beginning. */
  async #claimed(partitions: readonly BronzePartition[]): Promise<BronzePartition[]> {
    const claimed: BronzePartition[] = [];
    for (const partition of partitions) {
      const id = partitionId(this.#definition.name, partition.stream, partition.partition);
      const item = await this.#options.stores.checkpoints.read(id);
      if (item?.attributes.definitionHash === backfillHash(this.#hash)) claimed.push(partition);
    }
    return claimed;
  }

  async #prove(database: ReadableDatabase, definition: PipelineDefinition): Promise<AuditReport> {
    const { pipeline, env } = this.#options;
    // That of whoever filled it.
    const claim = { definition, definitionHash: backfillHash(this.#hash) };
    const place = await openBucket(database, claim, env);
    const consequence = "nothing of it is published. Keep the new stack and report it";
    return prove(place, { pipeline, definition }, consequence);
  }

  /** Partitions first: the sink publishes nothing before the publisher is handed over as well. */
  async #handOver(): Promise<PartitionEnd[]> {
    const { checkpoints } = this.#options.stores;
    const { name, streams } = this.#definition;
    const marked = backfillHash(this.#hash);
    const ends: PartitionEnd[] = [];
    for (const { name: stream } of streams) {
      for (const id of await checkpoints.list(partitionPrefix(name, stream))) {
        const cell = new CheckpointCell(checkpoints, id);
        const item = await cell.read();
        if (item?.attributes.definitionHash !== marked) continue;
        const handed = { ...item.attributes, definitionHash: this.#hash };
        const result = await cell.swap(handed, item.payload);
        if (result.kind === "conflict") throw overtaken(id);
        const checkpoint = fromItem(id, result.item);
        const timestampMs = kafkaProgress(id, checkpoint)?.maxTimestampMs ?? null;
        const partition = Number(id.split("/").at(-1));
        ends.push({ stream, partition, nextOffset: checkpoint.nextOffset, timestampMs });
      }
    }
    await this.#publisher().handOver(this.#hash);
    return ends.sort((a, b) => a.stream.localeCompare(b.stream) || a.partition - b.partition);
  }

  #publisher(): Publisher {
    const { checkpoints, objects } = this.#options.stores;
    const id = publisherId(this.#definition.name);
    const definitionHash = backfillHash(this.#hash);
    return new Publisher({ checkpoints, objects, id, definitionHash, programs: [] });
  }

  /** The name under which sinks on servers know the results, also when nothing was published. */
  async #output(): Promise<string> {
    const publisher = this.#publisher();
    await publisher.handOver(backfillHash(this.#hash));
    await publisher.load();
    return publisher.state.output;
  }

  /** What the new stack's sink would do with its next tick. */
  async #publish(): Promise<void> {
    const { pipeline, env, stores } = this.#options;
    const references = this.#references;
    const sink = makeSink({ pipeline, env, stores, references, write: () => undefined });
    try {
      await sink({}, { getRemainingTimeInMillis: () => PUBLISH_MS_MAX });
    } finally {
      await sink.close();
    }
  }
}

const PUBLISH_MS_MAX = 10 * 60_000;

async function partitionsIn({ connection, bronze }: BronzePlace): Promise<BronzePartition[]> {
  const rows = await rowsOf(
    connection,
    `SELECT topic AS stream, "partition", count(*)::DOUBLE AS records,
      (SELECT avg(octet_length("value")) FROM (SELECT "value" FROM ${bronze} LIMIT 1000)) AS mean
    FROM ${bronze} GROUP BY ALL ORDER BY ALL`,
  );
  return rows.map(({ stream, partition, records, mean }) => ({
    stream: String(stream),
    partition: Number(partition),
    records: Number(records),
    bytes: Number(records) * Number(mean ?? 0),
  }));
}

/** A record that was published once must be there, or it would be missing from now on. */
function refuseGaps(
  { standing }: BronzePlace,
  uri: string,
  partitions: readonly BronzePartition[],
): void {
  const found = partitions.reduce((sum, { records }) => sum + records, 0);
  // Databases that were made before do not say it.
  const published = standing?.bronzeRows ?? 0;
  if (found >= published) return;
  throw new MillpondError(
    "OUTPUT",
    `bronze of ${uri} holds ${found} of the ${published} records that were read: restore what ` +
      "was removed from the lake, or let the new stack read the topic again",
  );
}

function refuseObjects(partitions: readonly BronzePartition[]): void {
  const found = partitions.find(({ partition }) => partition >= INGEST_PARTITION);
  if (found === undefined) return;
  throw new MillpondError(
    "OUTPUT",
    `stream "${found.stream}" has records of objects in bronze, and which objects those are is ` +
      "not in it: deploy the new stack without a backfill, and copy incoming/ to its bucket",
  );
}

const hasBegun = (found: string): MillpondError =>
  new MillpondError(
    "OUTPUT",
    `the new stack's processor has begun by itself: ${found}. Take the stack down, deploy it ` +
      "with -c paused=true, run the backfill, and deploy it without",
  );

const isAtWork = (): MillpondError =>
  new MillpondError(
    "CONFLICT",
    "another backfill is at work in the new stack: let it finish, and this one has nothing to do",
  );

const overtaken = (id: string): MillpondError =>
  new MillpondError("CONFLICT", `another backfill has moved "${id}": let it finish`);

/** The same places, but for the database: a local file, until it is handed over. */
function unpublished(places: ReturnType<typeof storePlaces>, folder: string) {
  if (places.database.kind === "file") {
    throw new MillpondError("USAGE", "expected stores in AWS, found a directory");
  }
  const { storage } = places.database;
  const file = path.join(folder, "results.duckdb");
  let etag: string | null = null;
  const database: DatabaseStorage = {
    uri: storage.uri,
    access: () => storage.access(),
    etag: async () => etag,
    async download(to) {
      if (etag !== null) await fs.copyFile(file, to);
      return etag;
    },
    async upload(from) {
      await fs.copyFile(from, file);
      etag = randomUUID();
      return "written";
    },
  };
  return {
    database,
    places: { ...places, database: { kind: "snapshot" as const, storage: database } },
  };
}
