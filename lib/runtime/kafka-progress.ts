/**
 * What a Kafka partition's checkpoint remembers of its records, and the decision that rests on it:
 * which records of a slice are new, and whether they are still those of the same topic. Pure.
 */
import { crc32 } from "node:zlib";
import type { Checkpoint } from "../commit/checkpoint.js";
import type { Slice } from "../engine/slice.js";
import { MillpondError } from "../errors.js";

/** As `position` in the checkpoint; a type, not an interface, so that it is a SourcePosition. */
export type KafkaProgress = {
  readonly kind: "kafka";
  /** The first record ever taken. */
  readonly firstOffset: number;
  readonly firstMark: string;
  /** The record at `nextOffset - 1`. */
  readonly lastMark: string;
  /** Of all records taken, epoch ms; null while none had a timestamp. */
  readonly maxTimestampMs: number | null;
};

export type SliceVerdict =
  /** Records before index `from` were committed before: a redelivery. */
  | { readonly kind: "take"; readonly from: number }
  /** These records are not those that the checkpoint is about. */
  | { readonly kind: "recreated"; readonly found: string };

/**
 * Redelivered records are the very ones taken before, so they are not older than the first, not
 * younger than the youngest, and the first and last of them are what they were. Anything else
 * below `nextOffset` means that the topic was deleted and made anew (or its log cut), and that
 * skipping would lose records.
 */
export function judgeSlice(
  slice: Slice,
  nextOffset: number,
  progress: KafkaProgress | null,
): SliceVerdict {
  if (progress === null) return { kind: "take", from: 0 };
  const { firstOffset, firstMark, lastMark, maxTimestampMs } = progress;
  const { offsets, timestamps, count } = slice;
  if (offsets[0]! < firstOffset) {
    const found = `offset ${offsets[0]}, below the first that was ever taken (${firstOffset})`;
    return { kind: "recreated", found };
  }
  let from = 0;
  for (; from < count && offsets[from]! < nextOffset; from++) {
    if (maxTimestampMs !== null && timestamps[from]! > maxTimestampMs) {
      const found =
        `offset ${offsets[from]} with timestamp ${timestamps[from]}, later than of any record ` +
        `taken below offset ${nextOffset} (${maxTimestampMs})`;
      return { kind: "recreated", found };
    }
  }
  const marks = [
    { at: 0, offset: firstOffset, mark: firstMark },
    { at: from - 1, offset: nextOffset - 1, mark: lastMark },
  ];
  for (const { at, offset, mark } of marks) {
    if (at < 0 || at >= from || offsets[at] !== offset || markOf(slice, at) === mark) continue;
    return { kind: "recreated", found: `another record at offset ${offset} than was taken there` };
  }
  return { kind: "take", from };
}

/** What the checkpoint remembers once the slice is committed. */
export function progressAfter(slice: Slice, progress: KafkaProgress | null): KafkaProgress {
  let maxTimestampMs = progress?.maxTimestampMs ?? null;
  for (let i = 0; i < slice.count; i++) {
    const timestampMs = slice.timestamps[i]!;
    if (timestampMs > (maxTimestampMs ?? Number.NEGATIVE_INFINITY)) maxTimestampMs = timestampMs;
  }
  return {
    kind: "kafka",
    firstOffset: progress?.firstOffset ?? slice.offsets[0]!,
    firstMark: progress?.firstMark ?? markOf(slice, 0),
    lastMark: markOf(slice, slice.count - 1),
    maxTimestampMs,
  };
}

/** Throws `MillpondError("OUTPUT")` for the checkpoint of a partition that Kafka did not fill. */
export function kafkaProgress(
  id: string,
  checkpoint: Pick<Checkpoint, "position"> | null,
): KafkaProgress | null {
  if (checkpoint === null) return null;
  const { kind, firstOffset, firstMark, lastMark, maxTimestampMs } = checkpoint.position ?? {};
  if (
    kind === "kafka" &&
    typeof firstOffset === "number" &&
    typeof firstMark === "string" &&
    typeof lastMark === "string" &&
    (typeof maxTimestampMs === "number" || maxTimestampMs === null)
  ) {
    return { kind, firstOffset, firstMark, lastMark, maxTimestampMs };
  }
  throw new MillpondError(
    "OUTPUT",
    `the checkpoint "${id}" was written by another source than Kafka (its position is ` +
      `${JSON.stringify(checkpoint.position)}). Offsets of two sources do not mix: give this ` +
      "pipeline another name, or another output",
  );
}

/** The slice without its first `from` records. */
export function sliceFrom(slice: Slice, from: number): Slice {
  if (from === 0) return slice;
  const { keys, faults } = slice;
  const rest = (array: Int32Array) => array.subarray(from, slice.count);
  return {
    ...slice,
    count: slice.count - from,
    starts: rest(slice.starts),
    ends: rest(slice.ends),
    offsets: slice.offsets.subarray(from, slice.count),
    timestamps: slice.timestamps.subarray(from, slice.count),
    faults: new Map(
      [...faults].flatMap(([index, fault]) => (index < from ? [] : [[index - from, fault]])),
    ),
    ...(keys === undefined
      ? {}
      : { keys: { bytes: keys.bytes, starts: rest(keys.starts), ends: rest(keys.ends) } }),
  };
}

/** Tells two records at one offset apart. */
function markOf(slice: Slice, index: number): string {
  const start = slice.starts[index]!;
  const value = start === -1 ? null : slice.bytes.subarray(start, slice.ends[index]!);
  const sum = value === null ? "none" : `${value.length}:${crc32(value).toString(16)}`;
  return `${slice.timestamps[index]}:${sum}`;
}
