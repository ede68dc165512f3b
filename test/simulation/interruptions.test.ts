/**
 * Each call of a run in turn, instead of calls drawn by chance: the process that makes it is killed
 * there, or held up while others take over, and then goes on as if nothing had happened.
 */
import { expect, test } from "vitest";
import { NO_FAULTS } from "../../lib/testing/faults.js";
import { runSchedule } from "../../lib/testing/schedule.js";
import type { Interruption } from "../../lib/testing/world.js";
import { checkResult, type KnownCase, knownCase } from "./oracle.js";
import { s3Objects } from "./s3.js";

const TIMEOUT_MS = 900_000;
/** Among them cases with files, with several tables and partitions, with live tables. */
const USUAL_CASES = [2, 3, 14, 21, 25, 35, 49, 57, 64];
/** So many cases instead, from the first on: some seconds each. */
const MORE = Number(process.env.MILLPOND_INTERRUPTED ?? 0);
const CASES = MORE > 0 ? Array.from({ length: MORE }, (_, number) => number) : USUAL_CASES;

const WAYS = [
  { when: "before", how: "killed" },
  { when: "late", how: "killed" },
  { when: "after", how: "killed" },
  { when: "before", how: "held" },
  { when: "after", how: "held" },
] as const;

/** All else is as in a run that is interrupted. */
const NOWHERE: Interruption = { call: 0, when: "before", how: "held" };

interface Options {
  readonly interruption: Interruption;
  readonly trace?: (line: string) => void;
}

async function run(known: KnownCase, seed: number, options: Options): Promise<number> {
  const objects = seed % 2 === 0 ? {} : { objectsOver: s3Objects };
  const result = await runSchedule(known.prepared, {
    seed,
    odds: NO_FAULTS,
    ...objects,
    ...options,
  });
  await checkResult(known, result);
  return result.calls;
}

/** Where a process was stopped, and what came of it, with every step. */
async function failureOf(known: KnownCase, seed: number, interruption: Interruption) {
  const trace: string[] = [];
  try {
    await run(known, seed, { interruption, trace: (line) => trace.push(line) });
    expect(trace.join("\n")).toContain(`is ${interruption.how} ${interruption.when} its call`);
    return null;
  } catch (error) {
    return { interruption, error, trace };
  }
}

test.for(CASES)(
  "case %i: whoever is killed or held up at any call, tables are the same",
  { timeout: TIMEOUT_MS },
  async (number) => {
    const known = await knownCase(number);
    const calls = await run(known, number, { interruption: NOWHERE });
    expect(calls).toBeGreaterThan(10);
    for (let call = 1; call <= calls; call++) {
      for (const way of WAYS) expect(await failureOf(known, number, { call, ...way })).toBe(null);
    }
    console.log(`case ${number}: ${calls * WAYS.length} interruptions`);
  },
);
