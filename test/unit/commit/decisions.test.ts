/** The commit protocol's decisions, each on its own. */
import { describe, expect, it } from "vitest";
import {
  baseIsDue,
  leftoverKeys,
  numberInKey,
  placeState,
  resolveOutcome,
} from "../../../lib/commit/decisions.js";

describe("resolving an unacknowledged write", () => {
  const attempted = { generation: 5, commitId: "ours" };
  const decide = (stored: { generation: number; commitId: string } | null, attempt = 1) =>
    resolveOutcome({ attempted, stored, attempt, attemptsMax: 3 });

  it("is committed when our own commit id is stored", () => {
    expect(decide({ generation: 5, commitId: "ours" })).toBe("committed");
  });

  it("is lost when another commit holds the generation", () => {
    expect(decide({ generation: 5, commitId: "theirs" })).toBe("lost");
  });

  it("is superseded when the checkpoint is past it, for ours may be an ancestor", () => {
    expect(decide({ generation: 6, commitId: "theirs" })).toBe("superseded");
  });

  it("is tried again while nothing changed, a bounded number of times", () => {
    const before = { generation: 4, commitId: "before" };
    expect([1, 2, 3].map((attempt) => decide(before, attempt))).toEqual([
      "retry",
      "retry",
      "giveUp",
    ]);
  });

  it("tells a first commit from a store that lost everything", () => {
    expect(decide(null)).toBe("wentBack");
    const first = { generation: 1, commitId: "ours" };
    expect(resolveOutcome({ attempted: first, stored: null, attempt: 1, attemptsMax: 3 })).toBe(
      "retry",
    );
  });
});

describe("placing state", () => {
  const current = { objects: [{ key: "old", pieceBytes: [500, 20] }], inlinePieceBytes: [30, 40] };
  const place = (kind: "base" | "delta", bytes: number) =>
    placeState({ current, kind, bytes, payloadBytesMax: 100, objectKey: "new" });

  it("keeps a delta in the item while all inline pieces fit", () => {
    expect(place("delta", 30)).toEqual({
      next: { objects: current.objects, inlinePieceBytes: [30, 40, 30] },
      keepsInline: true,
      to: "item",
    });
  });

  it("moves the inline pieces and the delta to one object when they no longer fit", () => {
    expect(place("delta", 31)).toEqual({
      next: {
        objects: [...current.objects, { key: "new", pieceBytes: [30, 40, 31] }],
        inlinePieceBytes: [],
      },
      keepsInline: true,
      to: "object",
    });
  });

  it("lets a base replace every piece, in the item or in an object", () => {
    expect(place("base", 100).next).toEqual({ objects: [], inlinePieceBytes: [100] });
    expect(place("base", 101).next).toEqual({
      objects: [{ key: "new", pieceBytes: [101] }],
      inlinePieceBytes: [],
    });
  });

  it("adds no piece for an empty delta, and one for an empty base", () => {
    expect(place("delta", 0).next).toEqual(current);
    expect(place("base", 0).next).toEqual({ objects: [], inlinePieceBytes: [0] });
  });
});

describe("asking for a base", () => {
  const facts = { stateBytes: 1_000_000, deltaBytes: 0, pieces: 1, objects: 1 };

  it("is due when the deltas outweigh the base", () => {
    expect(baseIsDue({ ...facts, deltaBytes: 500_000 })).toBe(false);
    expect(baseIsDue({ ...facts, deltaBytes: 500_001 })).toBe(true);
  });

  it("is due well before the bounds on pieces and objects", () => {
    expect(baseIsDue({ ...facts, pieces: 1_024 })).toBe(true);
    expect(baseIsDue({ ...facts, objects: 32 })).toBe(true);
  });

  it("is not due for little state, whatever its share of deltas", () => {
    expect(baseIsDue({ ...facts, stateBytes: 60_000, deltaBytes: 60_000 })).toBe(false);
  });
});

describe("finding leftovers", () => {
  it("takes decided numbers that nothing names, and leaves what may be under way", () => {
    const keys = ["p/state/000007-aa", "p/state/000008-bb", "p/state/000008-cc", "p/state/9-dd"];
    expect(leftoverKeys(keys, 8, new Set(["p/state/000008-cc"]))).toEqual([
      "p/state/000007-aa",
      "p/state/000008-bb",
    ]);
  });

  it("never takes a key whose name it does not know", () => {
    expect(numberInKey("p/state/readme")).toBeNaN();
    expect(leftoverKeys(["p/state/readme"], 8, new Set())).toEqual([]);
  });
});
