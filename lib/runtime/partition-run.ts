/** One partition's way from its source to its checkpoint: read a slice, fold it, commit it. */
import type { Checkpoint, JsonObject } from "../commit/checkpoint.js";
import { type CommitRequest, PartitionCommitter } from "../commit/committer.js";
import { baseIsDue, STATE_BYTES_MAX } from "../commit/decisions.js";
import type { CheckpointStore, ObjectStore } from "../commit/ports.js";
import { PartitionFold } from "../engine/fold.js";
import type { StreamProgram } from "../engine/program.js";
import { encodeSections, type Section } from "../engine/section.js";
import { MillpondError } from "../errors.js";
import type { PartitionReader, PartitionSource } from "../sources/source.js";
import { metaOf, type PartitionMeta } from "./partition-meta.js";

export interface PartitionRunOptions {
  readonly program: StreamProgram;
  readonly source: PartitionSource;
  readonly checkpoints: CheckpointStore;
  readonly objects: ObjectStore;
  readonly id: string;
  readonly definitionHash: string;
}

/**
 * Slices share a commit up to these bounds: a commit costs the same for one as for many, and a
 * crash makes no more than this to be done again. Row tables make the bytes.
 */
const COMMIT_SLICES_MAX = 8;
const COMMIT_BYTES_MAX = 4 * 1024 * 1024;

/** What was folded since the last commit. */
interface Pending {
  slices: number;
  bytes: number;
  nextOffset: number;
  readonly sections: Section[];
}

const nothingPending = (): Pending => ({ slices: 0, bytes: 0, nextOffset: 0, sections: [] });

export class PartitionRun {
  readonly id: string;
  readonly source: PartitionSource;
  readonly program: StreamProgram;
  /** Outbox entries that the publisher has taken; they leave with the next commit. */
  releaseUpTo = 0;
  checkpoint: Checkpoint | null = null;
  /** Input bytes; kept after the source is closed. */
  bytesRead = 0;
  bytesTotal = 0;
  warnings: readonly string[] = [];
  private readonly committer: PartitionCommitter;
  private fold: PartitionFold | null = null;
  private reader: PartitionReader | null = null;
  private pending = nothingPending();

  constructor(options: PartitionRunOptions) {
    this.id = options.id;
    this.source = options.source;
    this.program = options.program;
    this.committer = new PartitionCommitter(options);
  }

  /** Greatest event time so far minus the lateness, epoch ms; -Infinity before the first event. */
  get watermark(): number {
    return this.fold?.watermark ?? Number.NEGATIVE_INFINITY;
  }

  get meta(): PartitionMeta | null {
    return this.checkpoint === null ? null : metaOf(this.checkpoint);
  }

  /** Restores the state and opens the source where the checkpoint left it. */
  async open(): Promise<void> {
    await this.loadState();
    const { checkpoint } = this;
    this.reader = await this.source.open(checkpoint?.nextOffset ?? 0, checkpoint?.position ?? null);
    this.noteProgress(this.reader);
  }

  /** Of a replay: the event time of the next record, epoch ms; -Infinity when it is due anyway. */
  async nextEventMs(): Promise<number> {
    return (await this.reader?.nextEventMs?.()) ?? Number.NEGATIVE_INFINITY;
  }

  /** Folds the next slice, and commits once there is enough; false at the end of the input. */
  async step(recordsMax: number): Promise<boolean> {
    const reader = this.reader!;
    const slice = await reader.read(recordsMax);
    this.noteProgress(reader);
    if (slice === null) {
      await this.settle();
      return false;
    }
    const { pending } = this;
    for (const section of this.fold!.process(slice)) {
      pending.sections.push(section);
      pending.bytes += section.bytes.length;
    }
    pending.slices++;
    pending.nextOffset = slice.offsets[slice.count - 1]! + 1;
    const full = pending.slices >= COMMIT_SLICES_MAX || pending.bytes >= COMMIT_BYTES_MAX;
    if (full) await this.settle();
    return true;
  }

  /** Slices were folded that are not committed yet. */
  get hasPending(): boolean {
    return this.pending.slices > 0;
  }

  /** Commits what was folded since the last commit; before anything else is asked of the run. */
  async settle(): Promise<void> {
    const { slices, nextOffset, sections } = this.pending;
    if (slices === 0) return;
    await this.commit(nextOffset, sections, { flushed: false, updated: false });
    this.pending = nothingPending();
  }

  /** As if an event of that time, epoch ms, had been read that no table counts. */
  async advanceTo(eventTimeMs: number): Promise<void> {
    const sections = this.fold!.advanceTo(eventTimeMs);
    const nextOffset = this.checkpoint?.nextOffset ?? 0;
    await this.commit(nextOffset, sections, { flushed: false, updated: false });
  }

  /** Hands open windows over as they stand. Does nothing if that was done since the last slice. */
  async flush(): Promise<void> {
    if (this.fold === null) await this.loadState();
    if (this.checkpoint === null || this.meta!.flushed) return;
    const sections = this.fold!.snapshot(() => true);
    await this.commit(this.checkpoint.nextOffset, sections, { flushed: true, updated: true });
  }

  /** Live tables (`updates`) as they stand, without ending the flow. */
  async publishUpdates(tables: ReadonlySet<string>): Promise<void> {
    if (this.fold === null || this.checkpoint === null || this.meta!.flushed) return;
    const sections = this.fold.snapshot((table) => tables.has(table));
    if (sections.length === 0) return;
    const live = this.program.windowed.filter(({ table }) => table.emit.kind === "updates");
    const updated = live.every(({ table }) => tables.has(table.name));
    await this.commit(this.checkpoint.nextOffset, sections, { flushed: false, updated });
  }

  /** Commits that nothing was read yet, so that nobody with another hash can begin. */
  async claim(): Promise<void> {
    await this.loadState();
    if (this.checkpoint === null) await this.commit(0, [], { flushed: false, updated: false });
  }

  /** Deletes what crashed commits of this partition left behind. */
  async sweep(referenced: () => Promise<ReadonlySet<string>>): Promise<void> {
    await this.committer.sweep(referenced);
  }

  /** Closes the source and lets the state go; `flush` loads it again. */
  async close(): Promise<void> {
    await this.reader?.close();
    this.reader = null;
    this.fold = null;
    this.pending = nothingPending();
  }

  /** Reads the checkpoint, and the state into a fresh fold. */
  async loadState(): Promise<void> {
    const { topic, partition } = this.source;
    const fold = new PartitionFold(this.program, topic, partition);
    const { checkpoint, chunks } = await this.committer.load();
    this.checkpoint = checkpoint;
    if (checkpoint !== null) fold.restore(chunks, this.meta!.counters);
    this.fold = fold;
  }

  private noteProgress(reader: PartitionReader): void {
    this.bytesRead = reader.bytesRead;
    this.bytesTotal = reader.bytesTotal;
    if ("warnings" in reader && Array.isArray(reader.warnings)) this.warnings = reader.warnings;
  }

  private async commit(
    nextOffset: number,
    sections: readonly Section[],
    handed: { readonly flushed: boolean; readonly updated: boolean },
  ): Promise<void> {
    const fold = this.fold!;
    const isNew = this.checkpoint === null || nextOffset > this.checkpoint.nextOffset;
    const committedAtMs = isNew ? Date.now() : this.meta!.committedAtMs;
    const { maxEventTime } = fold;
    const result = await this.committer.commit({
      nextOffset,
      maxEventTime: Number.isFinite(maxEventTime) ? maxEventTime : null,
      position: this.reader?.position() ?? this.checkpoint?.position ?? null,
      meta: partitionMeta(fold, this.source.label, { ...handed, committedAtMs }),
      state: stateToWrite(fold, this.checkpoint, STATE_BYTES_MAX),
      outbox: sections.length === 0 ? null : encodeSections(sections),
      releaseOutboxUpTo: this.releaseUpTo,
    });
    if (result.kind === "conflict") {
      throw new MillpondError(
        "CONFLICT",
        `another process moved ${this.source.topic} partition ${this.source.partition} ` +
          `(${this.source.label}) at the same time; nothing is damaged and nothing counted ` +
          "twice: let one of them finish, then run again",
      );
    }
    fold.saved();
    this.checkpoint = result.checkpoint;
  }
}

/** What the next checkpoint of `fold`'s partition says about it. */
export function partitionMeta(
  fold: PartitionFold,
  label: string,
  commit: Pick<PartitionMeta, "flushed" | "updated" | "committedAtMs">,
): JsonObject {
  const { counters, sizes } = fold;
  const meta: PartitionMeta = { counters, label, ...sizes, ...commit };
  return structuredClone(meta) as unknown as JsonObject;
}

/**
 * What the next commit writes of the state: what is new in it, or all of it where that is due, or
 * where it is within its bound only without what has left it.
 */
export function stateToWrite(
  fold: PartitionFold,
  checkpoint: Checkpoint | null,
  stateBytesMax: number,
): CommitRequest["state"] {
  const base = () => ({ kind: "base", bytes: fold.writeState(true) }) as const;
  if (checkpoint === null || baseIsDue(baseFacts(checkpoint))) return base();
  const bytes = fold.writeState(false);
  return checkpoint.stateBytes + bytes.length > stateBytesMax ? base() : { kind: "delta", bytes };
}

function baseFacts({ stateBytes, deltaBytes, state }: Checkpoint) {
  const inObjects = state.objects.reduce((sum, { pieceBytes }) => sum + pieceBytes.length, 0);
  const pieces = inObjects + state.inlinePieceBytes.length;
  return { stateBytes, deltaBytes, pieces, objects: state.objects.length };
}
