/**
 * Objects of one stream into its results, each once (I4). They form one partition, whose offsets
 * run on from object to object; which notification asks for which object is left to the handler.
 */
import { createHash } from "node:crypto";
import { CheckpointCell } from "../commit/cell.js";
import type { Checkpoint } from "../commit/checkpoint.js";
import type { Slice } from "../engine/slice.js";
import { MillpondError } from "../errors.js";
import type { FileReader } from "../sources/files/file-source.js";
import { openObject } from "../sources/objects/object-reader.js";
import {
  type FoundObject,
  ObjectChanged,
  type ObjectSource,
} from "../sources/objects/object-source.js";
import type { SourcePosition } from "../sources/source.js";
import { PartitionWriter, type PartitionWriterOptions } from "./partition-writer.js";

/**
 * The partition of a stream's objects: beyond any that Kafka has, so that a stream may have both.
 */
export const INGEST_PARTITION = 1_000_000;

/** Someone else keeps being faster: more often than that means that something else is wrong. */
const ATTEMPTS_MAX = 20;

export type IngestOutcome =
  | { readonly kind: "ingested"; readonly records: number; readonly warnings: readonly string[] }
  /** By an earlier notification. */
  | { readonly kind: "already" }
  /** Deleted before it was begun. */
  | { readonly kind: "gone" }
  | { readonly kind: "rejected"; readonly reason: string }
  /** Time is short; the next call goes on. */
  | { readonly kind: "unfinished"; readonly records: number };

/** As `position` in the checkpoint, beside what the reader needs to go on. */
interface ObjectPosition {
  readonly object: string;
  readonly etag: string;
  readonly modifiedMs: number;
  readonly records: number;
  /** The object changed while it was read: its last record says so. */
  readonly abandoned: boolean;
  readonly reader: SourcePosition;
}

export interface ObjectIngestOptions extends Omit<PartitionWriterOptions, "partition" | "label"> {
  readonly pipeline: string;
  readonly source: ObjectSource;
  /** Bounds one commit. */
  readonly sliceRecordsMax: number;
}

/**
 * The checkpoint names the object that was begun last; a ledger item says that one is finished.
 * Before another object is begun, the one before is finished and in the ledger. So who has read a
 * checkpoint that names another object, and finds no ledger item, knows that this object was not
 * begun before that checkpoint; and if it was since, the commit conflicts.
 *
 * @example
 * const ingest = new ObjectIngest({ …, source: bucketObjects(bucket, prefix) });
 * await ingest.ingest("incoming/clicks/2025/01/01.ndjson.gz", () => true);
 */
export class ObjectIngest {
  readonly #options: ObjectIngestOptions;
  readonly #writer: PartitionWriter;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: ObjectIngestOptions) {
    this.#options = options;
    const stream = options.program.stream.name;
    const label = `objects of ${stream}`;
    this.#writer = new PartitionWriter({ ...options, partition: INGEST_PARTITION, label });
  }

  /**
   * Commits what is new in the object, after finishing the one that was begun before it.
   * `mayBegin` is asked before every slice but the first. Calls at once run one after the other;
   * elsewhere, conflicts settle it. Throws `MillpondError` as commits do, and "CONFLICT" when
   * others kept being faster.
   */
  ingest(key: string, mayBegin: () => boolean): Promise<IngestOutcome> {
    const turn = this.#last.then(() => this.#ingest(key, mayBegin));
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #ingest(key: string, mayBegin: () => boolean): Promise<IngestOutcome> {
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
      const checkpoint = await this.#writer.open();
      const begun = checkpoint === null ? null : objectPosition(this.#options.id, checkpoint);
      if (begun !== null && begun.object !== key && (await this.#ledger(begun.object)) === null) {
        const outcome = await this.#drain(begun.object, checkpoint, begun, mayBegin);
        if (outcome !== "conflict" && outcome.kind === "unfinished") return outcome;
        continue;
      }
      const finished = await this.#ledger(key);
      if (finished !== null) {
        return repeated(key, finished, await this.#options.source.describe(key));
      }
      const own = begun?.object === key ? begun : null;
      const outcome = await this.#drain(key, checkpoint, own, mayBegin);
      if (outcome !== "conflict") return outcome;
    }
    throw new MillpondError(
      "CONFLICT",
      `other ingests of "${this.#options.id}" were faster ${ATTEMPTS_MAX} times while this one ` +
        `worked on "${key}". Nothing is lost or counted twice; let fewer of them run at once`,
    );
  }

  /** Reads the object from where it stands to its end, and enters it in the ledger. */
  async #drain(
    key: string,
    checkpoint: Checkpoint | null,
    begun: ObjectPosition | null,
    mayBegin: () => boolean,
  ): Promise<IngestOutcome | "conflict"> {
    const found = await this.#options.source.describe(key);
    if (begun === null && found === null) {
      // Another one may have finished it since the ledger was read, and then it was removed.
      return (await this.#ledger(key)) === null ? { kind: "gone" } : { kind: "already" };
    }
    if (begun?.abandoned === true) return this.#finish(key, begun.etag, begun.records, []);
    if (found === null || (begun !== null && found.etag !== begun.etag)) {
      return this.#abandon(key, checkpoint, begun!);
    }
    const object = { ...found, modifiedMs: begun?.modifiedMs ?? found.modifiedMs };
    let reader: FileReader;
    try {
      reader = await this.#open(object, checkpoint, begun);
    } catch (error) {
      if (error instanceof ObjectChanged) return "conflict";
      if (!(error instanceof MillpondError && error.code === "INPUT")) throw error;
      if (begun !== null) return this.#abandon(key, checkpoint, begun);
      return { kind: "rejected", reason: error.message };
    }
    try {
      return await this.#read(reader, object, begun?.records ?? 0, mayBegin);
    } catch (error) {
      // Judged anew from the checkpoint, which knows what of it has been committed.
      if (error instanceof ObjectChanged) return "conflict";
      throw error;
    } finally {
      await reader.close();
    }
  }

  #open(object: FoundObject, checkpoint: Checkpoint | null, begun: ObjectPosition | null) {
    return openObject({
      source: this.#options.source,
      object,
      stream: this.#options.program.stream.name,
      partition: INGEST_PARTITION,
      nextOffset: checkpoint?.nextOffset ?? 0,
      position: begun?.reader ?? null,
    });
  }

  async #read(
    reader: FileReader,
    object: FoundObject,
    recordsBefore: number,
    mayBegin: () => boolean,
  ): Promise<IngestOutcome | "conflict"> {
    let records = recordsBefore;
    for (let isFirst = true; ; isFirst = false) {
      const slice = await reader.read(this.#options.sliceRecordsMax);
      if (slice === null) break;
      if (!isFirst && !mayBegin()) return { kind: "unfinished", records };
      records += slice.count;
      const position = { ...positionOf(object, records), ...prefixed(reader.position()) };
      const result = await this.#writer.advance(slice, position);
      if (result.kind === "conflict") return "conflict";
    }
    return this.#finish(object.key, object.etag, records, reader.warnings);
  }

  /** What cannot be read any more is one dead letter, so that the numbers tell of it. */
  async #abandon(
    key: string,
    checkpoint: Checkpoint | null,
    begun: ObjectPosition,
  ): Promise<IngestOutcome | "conflict"> {
    // Another one may have finished it meanwhile, and then it was removed.
    const finished = await this.#ledger(key);
    if (finished !== null) {
      return repeated(key, finished, await this.#options.source.describe(key));
    }
    const detail =
      `object "${key}" was replaced or deleted after ${begun.records} of its records; what ` +
      "followed them in the old one was not read";
    const slice = faultySlice(this.#options.program.stream.name, checkpoint!.nextOffset, detail);
    const object = { key, etag: begun.etag, modifiedMs: begun.modifiedMs };
    const records = begun.records + 1;
    const position = { ...positionOf(object, records), abandoned: true, ...prefixed(begun.reader) };
    const result = await this.#writer.advance(slice, position);
    if (result.kind === "conflict") return "conflict";
    return this.#finish(key, begun.etag, records, [detail]);
  }

  async #finish(
    key: string,
    etag: string,
    records: number,
    warnings: readonly string[],
  ): Promise<IngestOutcome> {
    const cell = new CheckpointCell(this.#options.checkpoints, this.#ledgerId(key));
    // A conflict is someone else's entry of the same object, as good as ours.
    if ((await cell.read()) === null) {
      await cell.swap({ object: key, etag, records, warnings }, new Uint8Array());
    }
    return { kind: "ingested", records, warnings };
  }

  /** The ETag of a finished object; null when it is not finished. */
  async #ledger(key: string): Promise<string | null> {
    const item = await this.#options.checkpoints.read(this.#ledgerId(key));
    return item === null ? null : String(item.attributes.etag);
  }

  #ledgerId(key: string): string {
    const { pipeline, program } = this.#options;
    const name = createHash("sha256").update(key).digest("hex");
    return `${pipeline}/ingested/${program.stream.name}/${name}`;
  }
}

function repeated(key: string, etag: string, found: FoundObject | null): IngestOutcome {
  if (found === null || found.etag === etag) return { kind: "already" };
  return {
    kind: "rejected",
    reason:
      `object "${key}" was ingested before, and its content has changed since. Records that were ` +
      "taken stay; write new ones under a new key",
  };
}

function positionOf(object: Pick<FoundObject, "key" | "etag" | "modifiedMs">, records: number) {
  const { key, etag, modifiedMs } = object;
  return { kind: "objects", object: key, etag, modifiedMs, records, abandoned: false };
}

const READER = "reader.";

function prefixed(position: SourcePosition): SourcePosition {
  return Object.fromEntries(Object.entries(position).map(([name, v]) => [READER + name, v]));
}

/** Throws `MillpondError("OUTPUT")` for a checkpoint that another source wrote. */
function objectPosition(id: string, { position }: Checkpoint): ObjectPosition {
  const { kind, object, etag, modifiedMs, records, abandoned } = position ?? {};
  if (
    kind === "objects" &&
    typeof object === "string" &&
    typeof etag === "string" &&
    typeof modifiedMs === "number" &&
    typeof records === "number" &&
    typeof abandoned === "boolean"
  ) {
    const own = Object.entries(position ?? {}).filter(([name]) => name.startsWith(READER));
    const reader = Object.fromEntries(own.map(([name, v]) => [name.slice(READER.length), v]));
    return { object, etag, modifiedMs, records, abandoned, reader };
  }
  throw new MillpondError(
    "OUTPUT",
    `the checkpoint "${id}" was not written by an ingest of objects (its position is ` +
      `${JSON.stringify(position)}). Give the pipeline another name, or another output`,
  );
}

function faultySlice(topic: string, offset: number, detail: string): Slice {
  return {
    topic,
    partition: INGEST_PARTITION,
    count: 1,
    bytes: new Uint8Array(0),
    starts: Int32Array.of(-1),
    ends: Int32Array.of(-1),
    offsets: Float64Array.of(offset),
    timestamps: Float64Array.of(Number.NaN),
    faults: new Map([[0, { reason: "malformed", detail }]]),
  };
}
