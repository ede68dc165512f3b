/**
 * One partition's state, kept warm between slices: folds a slice in and commits it. Which records
 * a slice may hold, and what to do after a conflict, is left to its callers.
 */
import type { Checkpoint } from "../commit/checkpoint.js";
import { type CommitResult, PartitionCommitter } from "../commit/committer.js";
import { STATE_BYTES_MAX } from "../commit/decisions.js";
import type { CheckpointStore, ObjectStore } from "../commit/ports.js";
import { takenFrom } from "../commit/publisher-state.js";
import { PartitionFold } from "../engine/fold.js";
import type { StreamProgram } from "../engine/program.js";
import { encodeSections, type Section } from "../engine/section.js";
import type { Slice } from "../engine/slice.js";
import { MillpondError } from "../errors.js";
import type { SourcePosition } from "../sources/source.js";
import { metaOf } from "./partition-meta.js";
import { partitionMeta, stateToWrite } from "./partition-run.js";

/** Where a partition takes no more records, until the sink or a later version makes room (I6). */
export interface PartitionBounds {
  /** Commits that wait for the sink, and their bytes. */
  readonly waitingEntriesMax: number;
  readonly waitingBytesMax: number;
  readonly stateBytesMax: number;
}

/**
 * A waiting entry takes about 60 bytes of the checkpoint, which must stay well below DynamoDB's
 * 400 KB an item; its rows wait in an object.
 */
export const PARTITION_BOUNDS: PartitionBounds = {
  waitingEntriesMax: 3_000,
  waitingBytesMax: 16 * 1024 ** 3,
  stateBytesMax: STATE_BYTES_MAX,
};

/**
 * What the publisher has taken is looked up (one small read) once the outbox is so long, and then
 * after so many commits: entries that stay a little longer cost less than a read a slice.
 */
const RELEASE_LOOK_ENTRIES = 16;

export interface PartitionWriterOptions {
  readonly program: StreamProgram;
  readonly checkpoints: CheckpointStore;
  readonly objects: ObjectStore;
  /** Of the partition's checkpoint, and of the publisher's. */
  readonly id: string;
  readonly publisherId: string;
  readonly partition: number;
  readonly definitionHash: string;
  /** A name for people. */
  readonly label: string;
  readonly bounds: PartitionBounds;
}

/** What a slice added, by the numbers of I2. */
export interface SliceCounts {
  readonly records: number;
  readonly events: number;
  readonly duplicates: number;
  /** Rows of table `late` by the table that the event came too late for. */
  readonly late: Readonly<Record<string, number>>;
  readonly deadLetters: Readonly<Record<string, number>>;
}

export type Advance =
  | {
      readonly kind: "committed";
      readonly checkpoint: Checkpoint;
      readonly counts: SliceCounts;
      /** Objects and items. */
      readonly storageWrites: number;
      /** Epoch ms; -Infinity before the first event. */
      readonly watermark: number;
    }
  | { readonly kind: "conflict" };

interface Warm {
  readonly fold: PartitionFold;
  readonly committer: PartitionCommitter;
  checkpoint: Checkpoint | null;
  commitsSinceLook: number;
  releaseUpTo: number;
  /** When a live table was last handed over as it stands, by table; this process's clock. */
  readonly updatedAtMs: Map<string, number>;
}

/**
 * Not for concurrent calls. Two writers of one partition, in any processes, are safe: one of them
 * gets "conflict".
 *
 * @example
 * const checkpoint = await writer.open(); // null at first
 * const result = await writer.advance(slice, position);
 * if (result.kind === "conflict") await writer.open(); // someone was faster: judge anew
 */
export class PartitionWriter {
  readonly #options: PartitionWriterOptions;
  #warm: Warm | null = null;

  constructor(options: PartitionWriterOptions) {
    this.#options = options;
  }

  /** Bytes that the warm state stands for; 0 when there is none. */
  get stateBytes(): number {
    return this.#warm?.checkpoint?.stateBytes ?? 0;
  }

  /**
   * The checkpoint: of the warm state, which may be stale (a commit finds out), or read. Throws
   * `MillpondError`: "OUTPUT" for another definition's, "STORAGE" for a damaged one.
   */
  async open(): Promise<Checkpoint | null> {
    this.#warm ??= await this.#load();
    return this.#warm.checkpoint;
  }

  /** Lets the warm state go; the next `open` reads. */
  discard(): void {
    this.#warm = null;
  }

  /**
   * Folds the slice in and commits it with the source's position; `open` comes before. Throws
   * `MillpondError("LIMIT")` when the outbox or the state is full; whatever it throws, nothing of
   * the slice has been committed or the next `open` finds that it was.
   */
  async advance(slice: Slice, position: SourcePosition): Promise<Advance> {
    const warm = this.#warm ?? (await this.#load());
    await this.#release(warm);
    // Until the commit is known, the fold is ahead of the checkpoint.
    this.#warm = null;
    const { fold } = warm;
    const before = countsOf(fold);
    const rows = fold.process(slice);
    const live = this.#updates(warm);
    const sections = [...rows, ...live.sections];
    const nextOffset = slice.offsets[slice.count - 1]! + 1;
    const result = await this.#commit(warm, { nextOffset, position, updated: live.all }, sections);
    if (result.kind === "conflict") return result;
    fold.saved();
    const { checkpoint } = result;
    warm.checkpoint = checkpoint;
    warm.commitsSinceLook += 1;
    this.#warm = warm;
    return {
      kind: "committed",
      checkpoint,
      counts: difference(countsOf(fold), before),
      storageWrites: writesOf(checkpoint, sections.length > 0),
      watermark: fold.watermark,
    };
  }

  #commit(
    { fold, committer, checkpoint, releaseUpTo }: Warm,
    progress: { nextOffset: number; position: SourcePosition; updated: boolean },
    sections: readonly Section[],
  ): Promise<CommitResult> {
    const { nextOffset, position, updated } = progress;
    const { maxEventTime } = fold;
    return committer.commit({
      nextOffset,
      maxEventTime: Number.isFinite(maxEventTime) ? maxEventTime : null,
      position,
      meta: partitionMeta(fold, this.#options.label, {
        flushed: false,
        updated,
        committedAtMs: Date.now(),
      }),
      state: stateToWrite(fold, checkpoint, this.#options.bounds.stateBytesMax),
      outbox: sections.length === 0 ? null : encodeSections(sections),
      releaseOutboxUpTo: releaseUpTo,
    });
  }

  async #load(): Promise<Warm> {
    const { program, partition } = this.#options;
    const { stateBytesMax } = this.#options.bounds;
    const committer = new PartitionCommitter({ ...this.#options, stateBytesMax });
    const { checkpoint, chunks } = await committer.load();
    const fold = new PartitionFold(program, program.stream.name, partition);
    if (checkpoint !== null) fold.restore(chunks, metaOf(checkpoint).counters);
    const commitsSinceLook = Number.POSITIVE_INFINITY;
    const updatedAtMs = new Map<string, number>();
    return { fold, committer, checkpoint, commitsSinceLook, releaseUpTo: 0, updatedAtMs };
  }

  /** Learns what the publisher has taken, and refuses when too much waits for it all the same. */
  async #release(warm: Warm): Promise<void> {
    const waiting = warm.checkpoint?.outbox ?? [];
    const { waitingEntriesMax, waitingBytesMax } = this.#options.bounds;
    const isFull = waiting.length >= waitingEntriesMax;
    const facts = { entries: waiting.length, commitsSinceLook: warm.commitsSinceLook };
    if (!isFull && !lookIsDue(facts)) return;
    const item = await this.#options.checkpoints.read(this.#options.publisherId);
    warm.releaseUpTo = takenFrom(item?.attributes ?? {}, this.#options.id);
    const left = waiting.filter(({ sequence }) => sequence > warm.releaseUpTo);
    const bytes = left.reduce((sum, entry) => sum + entry.bytes, 0);
    if (left.length < waitingEntriesMax && bytes < waitingBytesMax) {
      // Only now: while it is full, every slice looks again.
      warm.commitsSinceLook = 0;
      return;
    }
    throw new MillpondError(
      "LIMIT",
      `"${this.#options.id}" has ${left.length} commits of ${bytes} bytes that the sink has not ` +
        `taken; the limits are ${waitingEntriesMax} commits and ` +
        `${waitingBytesMax} bytes. No records were taken, Kafka keeps them: repair the ` +
        "sink (see its errors), and this goes on by itself",
    );
  }

  /**
   * Open windows of live tables (`updates`) whose time has come, as they stand with this slice;
   * `all` when those are all of the live tables. What a quiet partition holds back is for the sink.
   */
  #updates({ fold, updatedAtMs }: Warm): { sections: Section[]; all: boolean } {
    const nowMs = Date.now();
    const due = new Set<string>();
    let all = true;
    for (const { table } of this.#options.program.windowed) {
      const { name, emit } = table;
      if (emit.kind !== "updates") continue;
      const sinceMs = nowMs - (updatedAtMs.get(name) ?? Number.NEGATIVE_INFINITY);
      if (sinceMs < emit.everyMs) {
        all = false;
        continue;
      }
      updatedAtMs.set(name, nowMs);
      due.add(name);
    }
    return { sections: due.size === 0 ? [] : fold.snapshot((table) => due.has(table)), all };
  }
}

function lookIsDue(facts: { entries: number; commitsSinceLook: number }): boolean {
  return facts.entries >= RELEASE_LOOK_ENTRIES && facts.commitsSinceLook >= RELEASE_LOOK_ENTRIES;
}

function countsOf({ counters }: PartitionFold): SliceCounts {
  const { records, events, duplicates, tables, deadLetters } = counters;
  const late = Object.entries(tables).map(([name, table]) => [name, table.late] as const);
  return {
    records,
    events,
    duplicates,
    late: Object.fromEntries(late),
    deadLetters: { ...deadLetters },
  };
}

function difference(after: SliceCounts, before: SliceCounts): SliceCounts {
  return {
    records: after.records - before.records,
    events: after.events - before.events,
    duplicates: after.duplicates - before.duplicates,
    late: differences(after.late, before.late),
    deadLetters: differences(after.deadLetters, before.deadLetters),
  };
}

function differences(
  after: Readonly<Record<string, number>>,
  before: Readonly<Record<string, number>>,
): Record<string, number> {
  const found = Object.entries(after).map(([name, n]) => [name, n - (before[name] ?? 0)] as const);
  return Object.fromEntries(found);
}

/** The item, the outbox object, and the object that this commit moved state to. */
function writesOf({ state, commitId }: Checkpoint, hasOutbox: boolean): number {
  const movedState = state.objects.some(({ key }) => key.endsWith(`-${commitId}`));
  return 1 + (hasOutbox ? 1 : 0) + (movedState ? 1 : 0);
}
