/**
 * One checkpoint item that moves by compare-and-swap, with unknown outcomes resolved (I5).
 * It knows nothing of what the item holds.
 */
import { MillpondError } from "../errors.js";
import { resolveOutcome } from "./decisions.js";
import type { CheckpointItem, CheckpointStore } from "./ports.js";

/** Attempts per I/O step. Waiting between them is left to the store's own client. */
export const ATTEMPTS_MAX = 3;

/**
 * - `lost`: this commit was not and will never be applied.
 * - `superseded`: the checkpoint moved past it; it may have been applied before that.
 */
export type SwapResult =
  | { readonly kind: "committed"; readonly item: CheckpointItem }
  | { readonly kind: "conflict"; readonly fate: "lost" | "superseded" };

export function newCommitId(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString("hex");
}

/** Run `step` again when it throws, up to `ATTEMPTS_MAX` times; for steps that may be repeated. */
export async function withAttempts<T>(step: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await step();
    } catch (error) {
      if (attempt >= ATTEMPTS_MAX) throw error;
    }
  }
}

/**
 * Not for concurrent calls: one caller reads, then swaps, then swaps again.
 *
 * @example
 * const cell = new CheckpointCell(checkpoints, "flights/publisher");
 * const item = await cell.read(); // null at first
 * const result = await cell.swap({ published: 17 }, new Uint8Array());
 * if (result.kind === "conflict") await cell.read(); // someone else was faster: start over
 */
export class CheckpointCell {
  readonly id: string;
  readonly #store: CheckpointStore;
  /** Undefined: unknown, read first. */
  #current: CheckpointItem | null | undefined;

  constructor(store: CheckpointStore, id: string) {
    this.#store = store;
    this.id = id;
  }

  get payloadBytesMax(): number {
    return this.#store.payloadBytesMax;
  }

  /** The item as this cell last read or wrote it. */
  get current(): CheckpointItem | null {
    if (this.#current !== undefined) return this.#current;
    throw new MillpondError(
      "INVARIANT",
      `checkpoint "${this.id}" was used without having been read ` +
        "(or after a conflict or failure); expected a read first. " +
        "Read it and repeat the work from there",
    );
  }

  get nextGeneration(): number {
    return (this.current?.generation ?? 0) + 1;
  }

  async read(): Promise<CheckpointItem | null> {
    this.#current = undefined;
    this.#current = await withAttempts(() => this.#store.read(this.id));
    return this.#current;
  }

  /**
   * Replace the item if nobody else did since it was read. After "conflict" or an error (outcome
   * unknown) `read` must come before the next swap.
   */
  async swap(
    attributes: Readonly<Record<string, unknown>>,
    payload: Uint8Array,
    commitId: string = newCommitId(),
  ): Promise<SwapResult> {
    const item = { generation: this.nextGeneration, commitId, attributes, payload };
    this.#current = undefined;
    for (let attempt = 1; ; attempt++) {
      const { reply, cause } = await this.#attempt(item);
      // A "conflict" is read back as well: a client may have repeated a write whose reply was lost.
      const stored =
        reply === "committed" ? item : await withAttempts(() => this.#store.read(this.id));
      const facts = { attempted: item, stored, attempt, attemptsMax: ATTEMPTS_MAX };
      const outcome = resolveOutcome(facts);
      if (outcome === "committed") {
        this.#current = item;
        return { kind: "committed", item };
      }
      if (outcome === "lost" || outcome === "superseded") {
        return { kind: "conflict", fate: outcome };
      }
      if (outcome === "wentBack") throw this.#wentBack(item, stored);
      if (outcome === "giveUp") throw this.#gaveUp(item, cause);
    }
  }

  async #attempt(
    item: CheckpointItem,
  ): Promise<{ reply: "committed" | "conflict" | "unknown"; cause?: unknown }> {
    try {
      return { reply: await this.#store.compareAndSwap(this.id, item) };
    } catch (cause) {
      return { reply: "unknown", cause };
    }
  }

  #gaveUp(item: CheckpointItem, cause: unknown): MillpondError {
    const found = cause instanceof Error ? cause.message : "the store refused it without a reason";
    return new MillpondError(
      "STORAGE",
      `checkpoint "${this.id}" could not be moved to generation ${item.generation} ` +
        `in ${ATTEMPTS_MAX} attempts: ${found}. Nothing is lost; run again when the store works`,
      { cause },
    );
  }

  #wentBack(item: CheckpointItem, stored: CheckpointItem | null): MillpondError {
    return new MillpondError(
      "STORAGE",
      `checkpoint "${this.id}" went back: found generation ${stored?.generation ?? "none"}, ` +
        `expected at least ${item.generation - 1}, which had been committed. ` +
        "The output was deleted or restored while a run wrote to it; " +
        "stop the run and start it again with a whole output",
    );
  }
}
