/** The port every sink implements, and what it is given: publications in order, as columns. */

import type { ColumnNode } from "../define/definition.js";
import type { Batch } from "../engine/batch.js";
import { MillpondError } from "../errors.js";

/**
 * How the rows of a result table are identified and laid out, for sinks.
 * `columns` are all stored columns in order: for windows `window_start`, `window_end`, group
 * columns, aggregates, `revision`; for sessions `session_start`, `session_end`, …, `revision`;
 * for rows the event's columns, then `late`, `topic`, `partition`, `offset`.
 * A revised table's batches carry one more, last column `retracted` (boolean): true means
 * that the row with this key is withdrawn (two sessions became one).
 */
export interface TableLayout {
  readonly name: string;
  readonly kind: "windowed" | "session" | "rows" | "late" | "dead_letters" | "bronze";
  readonly columns: readonly ColumnNode[];
  /**
   * Columns that identify a row; a row with the same key and a higher revision supersedes. Empty:
   * append-only.
   */
  readonly key: readonly string[];
  /** Timestamp column whose UTC date is `event_date`; null dates go to 1970-01-01. */
  readonly dateColumn: string;
}

/** Rows for one table. `sequence` grows by one per publication of a pipeline, over all tables. */
export interface Publication {
  readonly sequence: number;
  readonly table: string;
  readonly batch: Batch;
  /** Wall clock of the newest commit in it, epoch ms, where it is known. */
  readonly committedAtMs?: number | undefined;
}

export interface Accounting {
  readonly rows: readonly Readonly<Record<string, string | number | null>>[];
}

export interface Sink {
  readonly name: string;
  /**
   * Create what is missing; refuse what belongs to another pipeline. Returns the last sequence
   * applied (0 when none). `output` names the publications that will come, whose sequences are
   * those of another output too: a sink on a server belongs to the first it took any from, and
   * refuses others, also in `apply`.
   */
  open(output?: string): Promise<number>;
  /**
   * Apply publications in order, atomically with the sink's own progress; those with a sequence
   * not above its progress are skipped. After it returns they are durable. Kill it anywhere and
   * apply again: same content (I7).
   */
  apply(publications: AsyncIterable<Publication>, lastSequence: number): Promise<void>;
  close(): Promise<void>;
}

/** What a sink throws when it gets a publication behind the last one that it was told of. */
export function beyondLast(sequence: number, lastSequence: number): MillpondError {
  return new MillpondError(
    "INVARIANT",
    `Publication ${sequence} came to a sink that was told that ${lastSequence} is the last. ` +
      "This is a bug in Millpond: report it.",
  );
}
