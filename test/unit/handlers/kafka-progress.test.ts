/** Which records of a slice are new, judged from what the checkpoint remembers. */
import { describe, expect, it } from "vitest";
import type { Slice } from "../../../lib/engine/slice.js";
import {
  judgeSlice,
  type KafkaProgress,
  progressAfter,
  sliceFrom,
} from "../../../lib/runtime/kafka-progress.js";

/** Records as [offset, timestamp, value]. */
function sliceOf(...records: (readonly [number, number, string | null])[]): Slice {
  let at = 0;
  const ends = records.map(([, , value]) => {
    at += value?.length ?? 0;
    return value === null ? -1 : at;
  });
  return {
    topic: "t",
    partition: 0,
    count: records.length,
    bytes: Buffer.from(records.map(([, , value]) => value ?? "").join("")),
    starts: Int32Array.from(ends, (end, i) => (end === -1 ? -1 : end - records[i]![2]!.length)),
    ends: Int32Array.from(ends),
    offsets: Float64Array.from(records, ([offset]) => offset),
    timestamps: Float64Array.from(records, ([, timestamp]) => timestamp),
    faults: new Map(),
  };
}

const A = [10, 1000, "a"] as const;
const B = [11, 3000, "bb"] as const;
const C = [15, 2000, null] as const;
const D = [16, 1500, "d"] as const;

function progressOf(...slices: Slice[]): KafkaProgress {
  const all = slices.reduce<KafkaProgress | null>((p, slice) => progressAfter(slice, p), null);
  return all!;
}

describe("the progress of a partition", () => {
  it("is the same however its records were cut", () => {
    const whole = progressOf(sliceOf(A, B, C, D));
    expect(progressOf(sliceOf(A), sliceOf(B, C), sliceOf(D))).toEqual(whole);
    expect(whole).toMatchObject({ kind: "kafka", firstOffset: 10, maxTimestampMs: 3000 });
  });

  it("has no greatest timestamp while records have none", () => {
    expect(progressOf(sliceOf([1, Number.NaN, "x"])).maxTimestampMs).toBeNull();
  });
});

describe("a slice", () => {
  const progress = progressOf(sliceOf(A, B, C));
  const judge = (...records: (readonly [number, number, string | null])[]) =>
    judgeSlice(sliceOf(...records), 16, progress);

  it("is taken from the first record that is new", () => {
    expect(judgeSlice(sliceOf(A, B), 0, null)).toEqual({ kind: "take", from: 0 });
    expect(judge(D)).toEqual({ kind: "take", from: 0 });
    expect(judge(B, C, D)).toEqual({ kind: "take", from: 2 });
    expect(judge(A, B, C)).toEqual({ kind: "take", from: 3 });
    expect(judge([100, 5000, "far"])).toEqual({ kind: "take", from: 0 });
  });

  it("may lack records that compaction has removed since", () => {
    expect(judge(A, D)).toEqual({ kind: "take", from: 1 });
    expect(judge(B, D)).toEqual({ kind: "take", from: 1 });
  });

  it.each([
    ["begins before the first", [[9, 500, "z"], A]],
    ["is younger than the youngest", [[12, 3001, "x"]]],
    ["has another first value", [[10, 1000, "x"]]],
    ["has a first record of another time", [[10, 999, "a"]]],
    ["has a value where a tombstone was", [[15, 2000, ""]]],
  ] as const)("is of another topic when it %s", (_, records) => {
    expect(judge(...records).kind).toBe("recreated");
  });

  it("keeps keys and faults with their records when its beginning is left out", () => {
    const keys = sliceOf([0, 0, "k0"], [0, 0, null], [0, 0, "k2"], [0, 0, "k3"]);
    const fault = { reason: "malformed", detail: "x" } as const;
    const faults = new Map([
      [0, fault],
      [2, fault],
    ]);
    const rest = sliceFrom({ ...sliceOf(A, B, C, D), keys, faults }, 2);
    expect(rest.count).toBe(2);
    expect([...rest.offsets]).toEqual([15, 16]);
    expect([...rest.starts]).toEqual([-1, 3]);
    expect([...rest.keys!.ends]).toEqual([4, 6]);
    expect([...rest.faults.keys()]).toEqual([0]);
  });
});
