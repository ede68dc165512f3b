/**
 * The checkpoint of one partition (DESIGN, section 4): loads it with its state, and moves it on
 * with one compare-and-swap per commit. It leaves to the caller what the state and the outbox mean.
 */
import { MillpondError } from "../errors.js";
import { CheckpointCell, newCommitId, type SwapResult, withAttempts } from "./cell.js";
import {
  type Checkpoint,
  fromItem,
  type OutboxEntry,
  outboxKey,
  type Progress,
  stateKey,
  toAttributes,
} from "./checkpoint.js";
import {
  ATTRIBUTES_BYTES_MAX,
  leftoverKeys,
  OUTBOX_ENTRIES_MAX,
  placeState,
  STATE_BYTES_MAX,
  STATE_OBJECTS_MAX,
  STATE_PIECES_MAX,
  totalBytes,
} from "./decisions.js";
import type { CheckpointItem, CheckpointStore, ObjectStore } from "./ports.js";

/** Reads of a checkpoint that moved on each time; more means that something else is wrong. */
const LOADS_MAX = 10;

export interface CommitterOptions {
  readonly checkpoints: CheckpointStore;
  readonly objects: ObjectStore;
  /** One (pipeline, topic, partition), e.g. "flights/p-3"; objects are kept under it. */
  readonly id: string;
  readonly definitionHash: string;
  /** State beyond it is not committed; 2 GiB by default. */
  readonly stateBytesMax?: number;
}

export interface CommitRequest extends Progress {
  /** A base replaces all state before it. The bytes may be reused once `commit` returns. */
  readonly state: { readonly kind: "base" | "delta"; readonly bytes: Uint8Array };
  /** One outbox entry, or null when the slice closed nothing. */
  readonly outbox: Uint8Array | null;
  /** Entries up to this sequence leave the checkpoint, for the publisher has them; 0 for none. */
  readonly releaseOutboxUpTo: number;
}

export type CommitResult =
  | { readonly kind: "committed"; readonly checkpoint: Checkpoint }
  /** Someone else committed: load again and redo the work from there. */
  | { readonly kind: "conflict" };

export interface Loaded {
  /** Null before the first commit. */
  readonly checkpoint: Checkpoint | null;
  /** State pieces: the base, then the deltas in order. */
  readonly chunks: Uint8Array[];
}

interface CommitPlan {
  readonly checkpoint: Checkpoint;
  readonly payload: Uint8Array;
  readonly puts: readonly { readonly key: string; readonly bytes: Uint8Array }[];
}

/**
 * Not for concurrent calls. Two committers on one id, in any processes, are safe: at most one of
 * them commits a generation.
 *
 * @example
 * const id = "flights/p-3";
 * const committer = new PartitionCommitter({ checkpoints, objects, id, definitionHash });
 * const { checkpoint, chunks } = await committer.load();
 * // … fold a slice into the state …
 * const result = await committer.commit({
 *   nextOffset: 10_000, maxEventTime, position, meta: {},
 *   state: { kind: "delta", bytes }, outbox: null, releaseOutboxUpTo: 0,
 * });
 * if (result.kind === "conflict") await committer.load(); // and redo the slice
 */
export class PartitionCommitter {
  readonly id: string;
  readonly #cell: CheckpointCell;
  readonly #checkpoints: CheckpointStore;
  readonly #objects: ObjectStore;
  readonly #definitionHash: string;
  readonly #stateBytesMax: number;
  #checkpoint: Checkpoint | null = null;

  constructor(options: CommitterOptions) {
    this.id = options.id;
    this.#cell = new CheckpointCell(options.checkpoints, options.id);
    this.#checkpoints = options.checkpoints;
    this.#objects = options.objects;
    this.#definitionHash = options.definitionHash;
    this.#stateBytesMax = options.stateBytesMax ?? STATE_BYTES_MAX;
  }

  /**
   * The newest checkpoint and its state. Throws `MillpondError`: "OUTPUT" when another definition
   * wrote it, "STORAGE" when it is damaged or names a missing object.
   */
  async load(): Promise<Loaded> {
    let missing = { generation: 0, key: "" };
    for (let attempt = 1; attempt <= LOADS_MAX; attempt++) {
      const item = await this.#cell.read();
      this.#checkpoint = item === null ? null : fromItem(this.id, item);
      if (item === null || this.#checkpoint === null) return { checkpoint: null, chunks: [] };
      const checkpoint = this.#checkpoint;
      checkDefinition(this.id, checkpoint, this.#definitionHash);
      if (missing.generation === checkpoint.generation) break;
      const { chunks, missingKey } = await this.#readState(checkpoint, item.payload);
      if (missingKey === null) return { checkpoint, chunks };
      // A newer checkpoint may have replaced the object since the read: then read again.
      missing = { generation: checkpoint.generation, key: missingKey };
    }
    throw new MillpondError(
      "STORAGE",
      `checkpoint "${this.id}" names the state object "${missing.key}", which does not exist. ` +
        "The output is incomplete: restore it whole, or process the input again into a new output",
    );
  }

  /**
   * Make progress durable. Throws when the outcome stayed unknown or a bound was reached
   * ("LIMIT"); then nothing may be assumed: load again.
   */
  async commit(request: CommitRequest): Promise<CommitResult> {
    const previous = this.#cell.current === null ? null : this.#checkpoint;
    const plan = this.#plan(request, previous, this.#cell.current);
    const attributes = toAttributes(plan.checkpoint);
    checkBounds(this.id, plan.checkpoint, attributes, this.#stateBytesMax);
    // The commit id makes keys unique, so "exists" is our own put, repeated.
    await Promise.all(
      plan.puts.map(({ key, bytes }) => withAttempts(() => this.#objects.putIfAbsent(key, bytes))),
    );
    const { commitId } = plan.checkpoint;
    const result: SwapResult = await this.#cell.swap(attributes, plan.payload, commitId);
    if (result.kind === "conflict") {
      // Only when it is certain that no checkpoint names them.
      if (result.fate === "lost") await this.#discard(plan.puts.map(({ key }) => key));
      return { kind: "conflict" };
    }
    this.#checkpoint = plan.checkpoint;
    await this.#discard(replacedKeys(previous, plan.checkpoint));
    return { kind: "committed", checkpoint: plan.checkpoint };
  }

  /**
   * Delete what crashed and lost commits left under this id; returns how many objects.
   * `readReleasedOutbox` gives the keys of released entries that a publisher may still read; it is
   * called after the checkpoint was read, so no entry can slip from one list to the other unseen.
   */
  async sweep(readReleasedOutbox: () => Promise<ReadonlySet<string>>): Promise<number> {
    const [stateKeys, outboxKeys] = await Promise.all([
      this.#objects.list(`${this.id}/state/`),
      this.#objects.list(`${this.id}/outbox/`),
    ]);
    const item = await withAttempts(() => this.#checkpoints.read(this.id));
    if (item === null) return 0;
    const checkpoint = fromItem(this.id, item);
    const usedState = new Set(checkpoint.state.objects.map(({ key }) => key));
    const released = await readReleasedOutbox();
    const usedOutbox = new Set([...released, ...checkpoint.outbox.map(({ key }) => key)]);
    const leftovers = [
      ...leftoverKeys(stateKeys, checkpoint.generation, usedState),
      ...leftoverKeys(outboxKeys, checkpoint.nextOutboxSequence - 1, usedOutbox),
    ];
    await this.#discard(leftovers);
    return leftovers.length;
  }

  #plan(
    request: CommitRequest,
    previous: Checkpoint | null,
    item: CheckpointItem | null,
  ): CommitPlan {
    const commitId = newCommitId();
    const generation = this.#cell.nextGeneration;
    checkForward(this.id, previous, request);
    const { kind, bytes } = request.state;
    const placement = placeState({
      current: previous?.state ?? { objects: [], inlinePieceBytes: [] },
      kind,
      bytes: bytes.length,
      payloadBytesMax: this.#cell.payloadBytesMax,
      objectKey: stateKey(this.id, generation, commitId),
    });
    const kept = placement.keepsInline && item !== null ? item.payload : new Uint8Array();
    // Always a copy: the caller may reuse its bytes, and the payload stays as the warm copy.
    const tail = Buffer.concat([kept, bytes]);
    const puts: { key: string; bytes: Uint8Array }[] = [];
    if (placement.to === "object") {
      puts.push({ key: stateKey(this.id, generation, commitId), bytes: tail });
    }
    const sequence = previous?.nextOutboxSequence ?? 1;
    const outbox = (previous?.outbox ?? []).filter(
      (entry) => entry.sequence > request.releaseOutboxUpTo,
    );
    if (request.outbox !== null) {
      const key = outboxKey(this.id, sequence, commitId);
      const { maxEventTime } = request;
      const bytes = request.outbox.length;
      outbox.push({ sequence, key, bytes, maxEventTime, committedAtMs: Date.now() });
      puts.push({ key, bytes: request.outbox });
    }
    const isDelta = kind === "delta";
    const checkpoint: Checkpoint = {
      generation,
      commitId,
      definitionHash: this.#definitionHash,
      nextOffset: request.nextOffset,
      maxEventTime: request.maxEventTime,
      position: request.position,
      meta: request.meta,
      state: placement.next,
      stateBytes: bytes.length + (isDelta ? (previous?.stateBytes ?? 0) : 0),
      deltaBytes: isDelta ? (previous?.deltaBytes ?? 0) + bytes.length : 0,
      outbox,
      nextOutboxSequence: sequence + (request.outbox === null ? 0 : 1),
    };
    return { checkpoint, payload: placement.to === "item" ? tail : new Uint8Array(), puts };
  }

  async #readState(
    checkpoint: Checkpoint,
    payload: Uint8Array,
  ): Promise<{ chunks: Uint8Array[]; missingKey: string | null }> {
    const { objects, inlinePieceBytes } = checkpoint.state;
    const read = await Promise.all(
      objects.map(({ key }) => withAttempts(() => this.#objects.get(key))),
    );
    const chunks: Uint8Array[] = [];
    for (const [index, { key, pieceBytes }] of objects.entries()) {
      const bytes = read[index] ?? null;
      if (bytes === null) return { chunks: [], missingKey: key };
      chunks.push(...cut(this.id, key, bytes, pieceBytes));
    }
    chunks.push(...cut(this.id, "the item's payload", payload, inlinePieceBytes));
    return { chunks, missingKey: null };
  }

  /** Never an error: what stays behind is found by `sweep`. */
  async #discard(keys: readonly string[]): Promise<void> {
    await Promise.allSettled(keys.map((key) => this.#objects.delete(key)));
  }
}

/**
 * The hash under which a backfill writes checkpoints, so that nobody but a backfill of that
 * definition goes on with them until they are handed over under the definition's own.
 */
export const backfillHash = (definitionHash: string): string => `backfill:${definitionHash}`;

/** Throws `MillpondError("CONFLICT")` while a backfill is at work there. */
export function refuseWhileFilled(id: string, definitionHash: string, expected: string): void {
  const ofBackfill = backfillHash("");
  if (!definitionHash.startsWith(ofBackfill) || expected.startsWith(ofBackfill)) return;
  throw new MillpondError(
    "CONFLICT",
    `"${id}" is being filled by a backfill. Nothing was taken, Kafka keeps it; this goes on by ` +
      "itself once the backfill is done. If it was cut off, run `millpond backfill` again",
  );
}

/**
 * Throws `MillpondError`: "CONFLICT" while a backfill is at work there, "OUTPUT" when another
 * definition wrote the checkpoint.
 */
export function checkDefinition(
  id: string,
  { definitionHash }: Pick<Checkpoint, "definitionHash">,
  expected: string,
): void {
  if (definitionHash === expected) return;
  refuseWhileFilled(id, definitionHash, expected);
  throw new MillpondError(
    "OUTPUT",
    `the output's checkpoint "${id}" was written by another or a changed definition ` +
      `(hash ${definitionHash}, expected ${expected}). Results of two definitions do not mix: ` +
      "run with the definition that wrote it, or give another output (in AWS another name or " +
      "stage)",
  );
}

/** The bytes of an outbox entry that a checkpoint (or the publisher) names. */
export async function readOutbox(objects: ObjectStore, entry: OutboxEntry): Promise<Uint8Array> {
  const bytes = await withAttempts(() => objects.get(entry.key));
  if (bytes !== null && bytes.length === entry.bytes) return bytes;
  const found = bytes === null ? "does not exist" : `has ${bytes.length} bytes`;
  throw new MillpondError(
    "STORAGE",
    `outbox object "${entry.key}" ${found}` +
      `, expected ${entry.bytes} bytes. The output is incomplete: restore it whole, ` +
      "or process the input again into a new output",
  );
}

function replacedKeys(previous: Checkpoint | null, next: Checkpoint): string[] {
  const kept = new Set(next.state.objects.map(({ key }) => key));
  return (previous?.state.objects ?? []).map(({ key }) => key).filter((key) => !kept.has(key));
}

function cut(
  id: string,
  where: string,
  bytes: Uint8Array,
  pieceBytes: readonly number[],
): Uint8Array[] {
  if (bytes.length !== totalBytes(pieceBytes)) {
    throw new MillpondError(
      "STORAGE",
      `checkpoint "${id}": ${where} has ${bytes.length} bytes, expected ` +
        `${totalBytes(pieceBytes)}. The output is damaged: restore it whole, or process ` +
        "the input again into a new output",
    );
  }
  let end = 0;
  return pieceBytes.map((length) => {
    const start = end;
    end += length;
    return bytes.subarray(start, end);
  });
}

function checkForward(id: string, previous: Checkpoint | null, next: Progress): void {
  const offsetBack = !(next.nextOffset >= (previous?.nextOffset ?? 0));
  const timeBack =
    next.maxEventTime === null
      ? (previous?.maxEventTime ?? null) !== null
      : !(next.maxEventTime >= (previous?.maxEventTime ?? -Infinity));
  if (!offsetBack && !timeBack) return;
  const [name, found, stored] = offsetBack
    ? ["nextOffset", next.nextOffset, previous?.nextOffset]
    : ["maxEventTime", next.maxEventTime, previous?.maxEventTime];
  throw new MillpondError(
    "INVARIANT",
    `checkpoint "${id}": ${name} ${found} is behind the committed ${stored}; it only goes ` +
      "forward. If the topic or file was recreated, process it into a new output",
  );
}

function checkBounds(
  id: string,
  checkpoint: Checkpoint,
  attributes: Readonly<Record<string, unknown>>,
  stateBytesMax: number,
): void {
  const { objects, inlinePieceBytes } = checkpoint.state;
  const pieces = objects.reduce((sum, object) => sum + object.pieceBytes.length, 0);
  const bounds: [name: string, found: number, max: number, advice: string][] = [
    ["outbox entries", checkpoint.outbox.length, OUTBOX_ENTRIES_MAX, "let the publisher catch up"],
    [
      "state bytes",
      checkpoint.stateBytes,
      stateBytesMax,
      "use shorter windows, or more partitions",
    ],
    ["state objects", objects.length, STATE_OBJECTS_MAX, "commit a base"],
    ["state pieces", pieces + inlinePieceBytes.length, STATE_PIECES_MAX, "commit a base"],
    [
      "attribute bytes",
      Buffer.byteLength(JSON.stringify(attributes)),
      ATTRIBUTES_BYTES_MAX,
      "let the publisher catch up, and keep less in the checkpoint's meta",
    ],
  ];
  for (const [name, found, max, advice] of bounds) {
    if (found <= max) continue;
    throw new MillpondError(
      "LIMIT",
      `checkpoint "${id}" would hold ${found} ${name}, the limit is ${max}. ` +
        `Nothing was committed: ${advice}, then run again`,
    );
  }
}
