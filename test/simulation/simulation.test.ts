/** A few thousand simulated schedules, seeds that once found something, and that runs repeat. */
import { describe, expect, test } from "vitest";
import { runSchedule } from "../../lib/testing/schedule.js";
import { knownCase } from "./oracle.js";
import { caseNumber, SeedRunner } from "./seeds.js";

/** Seeds of the suite: of each case some, so that there are many cases. */
const CASES = 60;
const SEEDS_OF_EACH = 25;

/** Seeds whose schedules once ended in a violation, by what it was. */
const FOUND: readonly (readonly [seed: number, what: string])[] = [];

test(`${CASES * SEEDS_OF_EACH} schedules hold`, async () => {
  const runner = new SeedRunner();
  for (let number = 0; number < CASES; number++) {
    for (let i = 0; i < SEEDS_OF_EACH; i++) await runner.run(number * 50 + i);
    expect(runner.tally.failures).toEqual([]);
  }
  expect(runner.tally.faults.size).toBeGreaterThan(20);
});

describe("seeds that found something", () => {
  test.for(FOUND)("%i: %s", async ([seed]) => {
    const runner = new SeedRunner();
    await runner.run(seed);
    expect(runner.tally.failures).toEqual([]);
  });
});

test("a seed gives the same run, byte for byte, and another seed another", async () => {
  const seed = 4_711;
  const known = await knownCase(caseNumber(seed));
  const traceOf = async (one: number) => {
    const lines: string[] = [];
    const { tables } = await runSchedule(known.prepared, {
      seed: one,
      trace: (line) => lines.push(line),
    });
    return { lines, tables };
  };
  const [first, other] = [await traceOf(seed), await traceOf(seed + 1)];
  expect(await traceOf(seed)).toEqual(first);
  expect(other.lines).not.toEqual(first.lines);
});
