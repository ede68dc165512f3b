/**
 * One Kafka partition of a pipeline: takes slices in any order of delivery, repeated or not, and
 * commits each record once. Reading events and answering Lambda is left to the handler.
 */
import type { Slice } from "../engine/slice.js";
import { MillpondError } from "../errors.js";
import { judgeSlice, kafkaProgress, progressAfter, sliceFrom } from "./kafka-progress.js";
import {
  PartitionWriter,
  type PartitionWriterOptions,
  type SliceCounts,
} from "./partition-writer.js";

/** Someone else keeps being faster: more often than that means that something else is wrong. */
const CONFLICTS_MAX = 5;

export interface SliceOutcome {
  /** Null when all records had been committed before. */
  readonly counts: SliceCounts | null;
  readonly redelivered: number;
  readonly conflicts: number;
  readonly storageWrites: number;
  readonly durationMs: number;
  readonly stateBytes: number;
  readonly outboxEntries: number;
  /** Epoch ms; null before the first event. */
  readonly watermark: number | null;
}

/**
 * Safe with several calls at once, which run one after the other, and with several processors of
 * one partition anywhere.
 *
 * @example
 * const processor = new SliceProcessor({ program, checkpoints, objects, … });
 * const { counts, redelivered } = await processor.process(slice);
 */
export class SliceProcessor {
  readonly id: string;
  readonly #label: string;
  readonly #latenessMs: number;
  readonly #writer: PartitionWriter;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: PartitionWriterOptions) {
    this.id = options.id;
    this.#label = options.label;
    this.#latenessMs = options.program.stream.latenessMs;
    this.#writer = new PartitionWriter(options);
  }

  /** Bytes that are kept warm. */
  get stateBytes(): number {
    return this.#writer.stateBytes;
  }

  /**
   * Commits what is new in the slice. Throws `MillpondError`: "INPUT" when the topic is not the one
   * that was read before, "OUTPUT" for another definition's checkpoint, "CONFLICT" when others kept
   * being faster, "LIMIT" at a bound, "STORAGE". Then nothing of the slice is committed, or the
   * next call finds that it was.
   */
  process(slice: Slice): Promise<SliceOutcome> {
    const turn = this.#last.then(() => this.#process(slice));
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /** Lets the warm state go, after what is under way. */
  discard(): void {
    this.#last = this.#last.then(() => this.#writer.discard());
  }

  async #process(slice: Slice): Promise<SliceOutcome> {
    const started = performance.now();
    const durationMs = () => performance.now() - started;
    for (let conflicts = 0; conflicts <= CONFLICTS_MAX; conflicts++) {
      const checkpoint = await this.#writer.open();
      const progress = kafkaProgress(this.id, checkpoint);
      const verdict = judgeSlice(slice, checkpoint?.nextOffset ?? 0, progress);
      if (verdict.kind === "recreated") throw this.#recreated(verdict.found);
      const { from } = verdict;
      const known = { redelivered: from, conflicts };
      if (from === slice.count) {
        const maxEventTime = checkpoint?.maxEventTime ?? null;
        return {
          ...known,
          counts: null,
          storageWrites: 0,
          durationMs: durationMs(),
          stateBytes: this.stateBytes,
          outboxEntries: checkpoint?.outbox.length ?? 0,
          watermark: maxEventTime === null ? null : maxEventTime - this.#latenessMs,
        };
      }
      const fresh = sliceFrom(slice, from);
      const result = await this.#writer.advance(fresh, progressAfter(fresh, progress));
      if (result.kind === "conflict") continue;
      const { counts, storageWrites, watermark } = result;
      const { stateBytes, outbox } = result.checkpoint;
      return {
        ...known,
        counts,
        storageWrites,
        durationMs: durationMs(),
        stateBytes,
        outboxEntries: outbox.length,
        watermark: Number.isFinite(watermark) ? watermark : null,
      };
    }
    throw new MillpondError(
      "CONFLICT",
      `${this.#label}: other processors committed ${CONFLICTS_MAX + 1} times while this one ` +
        "worked on one slice; expected one poller a partition. Nothing is lost or counted twice; " +
        "look for a second event source mapping of this pipeline on the topic",
    );
  }

  #recreated(found: string): MillpondError {
    return new MillpondError(
      "INPUT",
      `${this.#label}: the topic is not the one that was read before: found ${found}. It was ` +
        "deleted and made anew, or its log was cut. Nothing was taken; to start on the new " +
        "topic, give the pipeline a new name (a new output), or restore the old one",
    );
  }
}
