/**
 * A slice: consecutive records of one topic-partition, as every source hands them to the engine.
 */

export interface Slice {
  readonly topic: string;
  readonly partition: number;
  readonly count: number;
  /**
   * Values back to back, gaps allowed; the reader may reuse the buffer after the slice is
   * processed.
   */
  readonly bytes: Uint8Array;
  /** Value i is `bytes[starts[i], ends[i])`; `starts[i] === -1` is a null value (tombstone). */
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  /** Record keys, where the source has them and bronze wants them; a start of -1 is no key. */
  readonly keys?: {
    readonly bytes: Uint8Array;
    readonly starts: Int32Array;
    readonly ends: Int32Array;
  };
  /** Kafka offsets (for a file: the record's index), ascending, gaps allowed. */
  readonly offsets: Float64Array;
  /** Record timestamps, epoch ms; NaN when unknown. */
  readonly timestamps: Float64Array;
  /**
   * Records that the source already knows to be bad, by index in the slice (e.g. cut by a hard
   * limit).
   */
  readonly faults: ReadonlyMap<
    number,
    { readonly reason: DeadLetterReason; readonly detail: string }
  >;
}

export type DeadLetterReason =
  | "malformed"
  | "missing_field"
  | "wrong_type"
  | "out_of_range"
  | "failed_check"
  | "oversize"
  | "event_time_in_future";

export const DEAD_LETTER_REASONS: readonly DeadLetterReason[] = [
  "malformed",
  "missing_field",
  "wrong_type",
  "out_of_range",
  "failed_check",
  "oversize",
  "event_time_in_future",
];
