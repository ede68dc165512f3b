/** Moves a set of partitions forward in this thread, the one that lags most first. */
import { setTimeout as sleep } from "node:timers/promises";
import type { CheckpointStore, ObjectStore } from "../commit/ports.js";
import type { PartitionFacts } from "../commit/publisher.js";
import type { StreamProgram } from "../engine/program.js";
import { pacedSource, type ReplayClock } from "../sources/paced.js";
import type { PartitionSource } from "../sources/source.js";
import { PartitionRun } from "./partition-run.js";

/** Partitions with an open source and state at a time; more input files than that take turns. */
const OPEN_PARTITIONS_MAX = 16;
/** A turn ends after so long, so that results and progress keep flowing. */
export const TURN_MS = 1_000;
/**
 * The first slices are small, and grow up to the batch size: code that has seen whole small ones is
 * compiled once and right, before it meets long ones. Each worker has code of its own to compile.
 */
const FIRST_SLICE_RECORDS = 100;
const SLICE_GROWTH = 1.3;

export interface PartitionProgress {
  readonly facts: PartitionFacts;
  readonly label: string;
  readonly bytesRead: number;
  readonly bytesTotal: number;
  readonly warnings: readonly string[];
}

/** What both kinds of runner (this thread, a worker) offer. */
export interface Runner {
  /** Works for about a second; `taken` are the outbox sequences the publisher has, by id. */
  turn(taken: Readonly<Record<string, number>>): Promise<{ ended: boolean }>;
  flush(taken: Readonly<Record<string, number>>): Promise<void>;
  publishUpdates(tables: ReadonlySet<string>): Promise<void>;
  progress(): readonly PartitionProgress[];
  close(): Promise<void>;
}

export interface LocalRunnerOptions {
  readonly checkpoints: CheckpointStore;
  readonly objects: ObjectStore;
  readonly pipeline: string;
  readonly definitionHash: string;
  readonly partitions: readonly {
    readonly program: StreamProgram;
    readonly source: PartitionSource;
  }[];
  /** Records of a slice, at most. */
  readonly batchSize: number;
  /** Length of a turn; `TURN_MS` by default. */
  readonly turnMs?: number;
  /** A replay: records are read when their event time has come. */
  readonly clock?: ReplayClock | undefined;
  /** Called after every slice. */
  readonly onSlice?: () => void;
}

/** Ids of a stream's partitions begin with it; nothing else of a pipeline's does. */
export function partitionPrefix(pipeline: string, stream: string): string {
  return `${pipeline}/partitions/${stream}/`;
}

export function partitionId(pipeline: string, stream: string, partition: number): string {
  return `${partitionPrefix(pipeline, stream)}${partition}`;
}

/** Of the checkpoint that says what of the partitions' outboxes has been taken. */
export function publisherId(pipeline: string): string {
  return `${pipeline}/publisher`;
}

export class LocalRunner implements Runner {
  private readonly runs: PartitionRun[];
  private readonly waiting: PartitionRun[];
  private readonly active = new Set<PartitionRun>();
  private readonly options: LocalRunnerOptions;
  /** Of the next slice. */
  private sliceRecords = FIRST_SLICE_RECORDS;

  constructor(options: LocalRunnerOptions) {
    this.options = options;
    this.runs = options.partitions.map(({ program, source }) => {
      const id = partitionId(options.pipeline, program.stream.name, source.partition);
      const { definitionHash, checkpoints, objects, clock } = options;
      const read = clock === undefined ? source : pacedSource(source, clock, program.decoder);
      return new PartitionRun({ program, source: read, checkpoints, objects, id, definitionHash });
    });
    this.waiting = [...this.runs];
  }

  /** Removes leftovers of crashed runs; once, before the first turn. */
  async sweep(referenced: () => Promise<ReadonlySet<string>>): Promise<void> {
    for (const run of this.runs) await run.sweep(referenced);
  }

  async turn(taken: Readonly<Record<string, number>>): Promise<{ ended: boolean }> {
    this.release(taken);
    const until = performance.now() + (this.options.turnMs ?? TURN_MS);
    do {
      while (this.active.size < OPEN_PARTITIONS_MAX && this.waiting.length > 0) {
        const run = this.waiting.shift()!;
        await run.open();
        this.active.add(run);
      }
      const run = await this.next(until);
      if (run === null) break;
      if (!(await this.advance(run))) {
        await run.close();
        this.active.delete(run);
      }
    } while (performance.now() < until);
    for (const run of this.active) await run.settle();
    return { ended: this.active.size === 0 && this.waiting.length === 0 };
  }

  /** Slices up to the next commit: a partition's state stays in the caches that long. */
  private async advance(run: PartitionRun): Promise<boolean> {
    do {
      const { batchSize } = this.options;
      if (!(await run.step(Math.min(batchSize, Math.ceil(this.sliceRecords))))) return false;
      if (this.sliceRecords < batchSize) this.sliceRecords *= SLICE_GROWTH;
      this.options.onSlice?.();
    } while (run.hasPending && this.options.clock === undefined);
    return true;
  }

  async flush(taken: Readonly<Record<string, number>>): Promise<void> {
    this.release(taken);
    for (const run of this.runs) {
      await run.flush();
      await run.close();
    }
  }

  async publishUpdates(tables: ReadonlySet<string>): Promise<void> {
    for (const run of this.active) await run.publishUpdates(tables);
  }

  progress(): readonly PartitionProgress[] {
    return this.runs.map((run) => ({
      facts: {
        id: run.id,
        stream: run.program.stream.name,
        partition: run.source.partition,
        checkpoint: run.checkpoint,
        idle: false,
      },
      label: run.source.label,
      bytesRead: run.bytesRead,
      bytesTotal: run.bytesTotal,
      warnings: run.warnings,
    }));
  }

  async close(): Promise<void> {
    for (const run of this.runs) await run.close();
  }

  private release(taken: Readonly<Record<string, number>>): void {
    for (const run of this.runs) run.releaseUpTo = taken[run.id] ?? 0;
  }

  /** The partition whose turn it is; null if there is none, or nothing is due before `until`. */
  private async next(until: number): Promise<PartitionRun | null> {
    const { clock } = this.options;
    if (clock === undefined) return this.lagging();
    let first: PartitionRun | null = null;
    let eventMs = Number.POSITIVE_INFINITY;
    for (const run of this.active) {
      const dueAt = await run.nextEventMs();
      if (first === null || dueAt < eventMs) [first, eventMs] = [run, dueAt];
    }
    if (first === null) return null;
    const leftMs = Math.max(0, until - performance.now());
    const waitMs = clock.boundedWaitMs(eventMs);
    await sleep(Math.ceil(Math.min(waitMs, leftMs)));
    return waitMs > leftMs ? null : first;
  }

  /** Keeping partitions together in event time keeps few windows waiting for each other. */
  private lagging(): PartitionRun | null {
    let lowest: PartitionRun | null = null;
    for (const run of this.active) {
      if (lowest === null || run.watermark < lowest.watermark) lowest = run;
    }
    return lowest;
  }
}
