/** The comparison that every check against the reference relies on: it must see differences. */
import { expect, test } from "vitest";
import type { RowValue } from "../../lib/engine/batch.js";
import { compareTables } from "./compare.js";
import type { Row } from "./rows.js";

const row = (key: string, value?: RowValue): Row =>
  value === undefined ? { key } : { key, value };

test("equal tables in any order differ in nothing, extra columns aside", () => {
  const actual = [{ ...row("b", 2), revision: 1 }, row("a", [{ value: 1n }])];
  expect(compareTables(actual, [row("a", [{ value: 1 }]), row("b", 2n)], ["key"])).toBe("");
});

test("missing, extra and different rows are counted and shown", () => {
  const actual = [row("a", 1), row("c", 3)];
  expect(compareTables(actual, [row("a", 2), row("b", 2)], ["key"])).toBe(
    [
      "2 rows, expected 2: 1 missing, 1 extra, 1 different",
      '  missing {key: "b", value: 2}',
      '  extra {key: "c", value: 3}',
      '  different key="a": value is 1, expected 2',
    ].join("\n"),
  );
});

test("null, text, a number and false all differ, and an absent column is none of them", () => {
  const values = [null, "0", 0, false];
  for (const [i, expected] of values.entries()) {
    for (const [j, actual] of values.entries()) {
      const text = compareTables([row("k", actual)], [row("k", expected)], ["key"]);
      expect(text === "").toBe(i === j);
    }
    expect(compareTables([row("k")], [row("k", expected)], ["key"])).toMatch(/\(absent\)/);
  }
});

test("a tolerance holds for its column only, and whole numbers beyond 2^53 are exact", () => {
  const near = [row("k", 1_000_000.0001)];
  const tolerances = { value: { relative: 1e-9, absolute: 0 } };
  expect(compareTables(near, [row("k", 1_000_000)], ["key"], { tolerances })).toBe("");
  expect(compareTables(near, [row("k", 1_000_000)], ["key"])).not.toBe("");
  const [a, b] = [9007199254740993n, 9007199254740992n];
  expect(compareTables([row("k", a)], [row("k", b)], ["key"])).not.toBe("");
});

test("a key that occurs twice is refused", () => {
  expect(() => compareTables([row("k", 1), row("k", 1)], [], ["key"])).toThrow(/twice/);
});
