/** The Delta log's pure parts: statistics, snapshots, what is compacted. */
import { describe, expect, it } from "vitest";
import type { ColumnNode } from "../../../lib/define/definition.js";
import {
  type AddFile,
  applyActions,
  checkpointActions,
  decodeActions,
  emptySnapshot,
  encodeActions,
} from "../../../lib/sinks/delta-log.js";
import { deltaStats } from "../../../lib/sinks/delta-schema.js";
import { smallFileGroups } from "../../../lib/sinks/lake.js";

function statsOf(type: ColumnNode["type"], min: string, max: string): unknown {
  const column = { name: "c", type, nullable: true };
  const found = new Map([
    ["min", min],
    ["max", max],
    ["null_count", "3"],
  ]);
  return JSON.parse(deltaStats("5", [column], new Map([['"c"', found]])));
}

const exact = (min: unknown, max: unknown) => ({
  numRecords: 5,
  minValues: { c: min },
  maxValues: { c: max },
  nullCount: { c: 3 },
});
const unknownBounds = { numRecords: 5, minValues: {}, maxValues: {}, nullCount: { c: 3 } };

describe("file statistics", () => {
  it("keeps all digits of 64-bit integers", () => {
    const column: ColumnNode = { name: "c", type: { kind: "bigint" }, nullable: true };
    const found = new Map([
      ["min", "-9223372036854775808"],
      ["max", "9223372036854775807"],
    ]);
    const text = deltaStats("1", [column], new Map([['"c"', found]]));
    expect(text).toContain('"minValues":{"c":-9223372036854775808}');
    expect(text).toContain('"maxValues":{"c":9223372036854775807}');
  });

  it("writes timestamps in ISO-8601 with milliseconds", () => {
    const type = { kind: "timestamp" } as const;
    expect(statsOf(type, "1950-01-01 00:00:00+00", "2024-01-01 00:00:00.12+00")).toEqual(
      exact("1950-01-01T00:00:00.000Z", "2024-01-01T00:00:00.120Z"),
    );
  });

  it("makes JSON numbers of decimals without a leading digit", () => {
    const type = { kind: "decimal", precision: 2, scale: 2 } as const;
    expect(statsOf(type, "-.25", ".50")).toEqual(exact(-0.25, 0.5));
  });

  it.each([
    ["infinite doubles", { kind: "double" }, "1.0", "inf"],
    [
      "years beyond four digits",
      { kind: "timestamp" },
      "2024-01-01 00:00:00+00",
      "275760-09-13 00:00:00+00",
    ],
    [
      "years before Christ",
      { kind: "timestamp" },
      "0044-03-15 (BC) 00:00:00+00",
      "2024-01-01 00:00:00+00",
    ],
    ["long texts", { kind: "string" }, "a", "b".repeat(65)],
    ["control characters", { kind: "string" }, "a", "b\u0000"],
    ["bytes", { kind: "bytes" }, "61", "62"],
  ] as const)("tells no bounds for %s", (_, type, min, max) => {
    expect(statsOf(type, min, max)).toEqual(unknownBounds);
  });
});

function file(path: string, size: number, date = "2024-01-01"): AddFile {
  const partitionValues = { event_date: date };
  return { path, partitionValues, size, modificationTime: 0, dataChange: true, stats: "{}" };
}

describe("the log", () => {
  it("comes to the same through a checkpoint as through its commits", () => {
    const direct = emptySnapshot();
    applyActions(direct, 0, [{ add: { ...file("a", 1), dataChange: false } }]);
    const remove = {
      path: "a",
      deletionTimestamp: 5,
      dataChange: false,
      extendedFileMetadata: true,
      partitionValues: {},
      size: 1,
    } as const;
    const add = { ...file("b", 2), dataChange: false };
    applyActions(direct, 1, [
      { remove },
      { add },
      { txn: { appId: "x", version: 7, lastUpdated: 1 } },
    ]);
    const restored = emptySnapshot();
    applyActions(restored, 1, decodeActions(encodeActions(checkpointActions(direct)), "log"));
    expect(restored).toEqual(direct);
  });

  it("refuses a table that another program upgraded", () => {
    const upgrade = encodeActions([{ protocol: { minReaderVersion: 3, minWriterVersion: 7 } }]);
    expect(() => decodeActions(upgrade, "t/_delta_log/1.json")).toThrow(/t\/_delta_log\/1.json/);
  });

  it("refuses a line that is not JSON, naming the file", () => {
    expect(() => decodeActions(Buffer.from("{"), "t/_delta_log/1.json")).toThrow(/damaged/);
  });
});

describe("what is compacted", () => {
  const MIB = 1024 * 1024;
  const many = (n: number, size: number, date?: string) =>
    Array.from({ length: n }, (_, i) => file(`${date}-${i}`, size, date));

  it("is nothing while a date has few small files", () => {
    expect(smallFileGroups([...many(7, MIB, "2024-01-01"), ...many(7, MIB, "2024-01-02")])).toEqual(
      [],
    );
    expect(smallFileGroups(many(50, 16 * MIB))).toEqual([]);
  });

  it("is tiny files among themselves: what they were merged into is not written again", () => {
    const [tiny, small] = [many(8, 1000), many(7, MIB)];
    expect(smallFileGroups([...small, ...tiny])).toEqual([tiny]);
    expect(smallFileGroups([...tiny.slice(1), ...small])).toEqual([]);
    const more = file("merged", 2 * MIB);
    expect(smallFileGroups([...small, more])).toEqual([[...small, more]]);
  });

  it("is split so that no merged file grows beyond 128 MiB", () => {
    const groups = smallFileGroups(many(18, 15 * MIB));
    expect(groups.map((group) => group.length)).toEqual([8, 8, 2]);
  });
});
