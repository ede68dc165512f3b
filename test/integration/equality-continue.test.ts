/**
 * A run that stops and continues, over lines appended and files added in between, flushed or not:
 * in the end its tables equal those of one undisturbed run, and the reference's.
 */
import { expect, test } from "vitest";
import { duckdb, lake } from "../../lib/index.js";
import {
  differencesBetween,
  differencesFromReference,
  type Logs,
  lakeDifferences,
} from "./support/check.js";
import { Random, testRounds, testSeed } from "./support/random.js";
import { withScenario } from "./support/scenario.js";

/** How many lines of each partition are there at each step; a file without any is not there yet. */
function randomCuts(random: Random, steps: number, log: Logs): number[][] {
  const files = [log.length];
  while (files.length < steps) files.unshift(random.between(1, files[0]));
  const cuts: number[][] = [];
  for (let step = 0; step < steps; step++) {
    const isLast = step === steps - 1;
    cuts.push(
      log.slice(0, files[step]).map((lines, partition) => {
        const before = cuts[step - 1]?.[partition] ?? 0;
        return isLast ? lines.length : random.between(before, lines.length);
      }),
    );
  }
  return cuts;
}

async function checkOne(seed: number): Promise<void> {
  const random = new Random(seed);
  const withLake = random.chance(0.15);
  const sinks = withLake ? [lake(), duckdb()] : [duckdb()];
  // More partitions than are open at a time now and then.
  const partitionsMax = random.chance(0.1) ? 24 : 4;
  const limits = { recordsMax: 1200, partitionsMax, tablesMax: 4 };
  const options = { ...limits, sinks, settles: false, updates: true };
  await withScenario(random, options, async ({ workspace, pipeline, logs, about }) => {
    const [stopped, undisturbed] = [workspace.newOutput(), workspace.newOutput()];
    const steps = random.between(2, 4);
    const cuts = new Map([...logs].map(([topic, log]) => [topic, randomCuts(random, steps, log)]));
    const history: string[] = [about];
    for (let step = 0; step < steps; step++) {
      const isLast = step === steps - 1;
      for (const [topic, log] of logs) {
        const counts = cuts.get(topic)?.[step] ?? [];
        const there = counts.map((count, partition) => log[partition].slice(0, count));
        await workspace.write(topic, there);
        history.push(`${topic} ${counts.join("/")}`);
      }
      const flush = isLast || random.chance(0.6);
      const batchSize = random.pick([1, 13, 100, 10_000]);
      history.push(`run by ${batchSize}${flush ? "" : " without a flush"}`);
      await workspace.run({ pipeline, out: stopped, batchSize, flush });
    }
    const story = history.join("\n");
    await workspace.run({ pipeline, out: undisturbed, batchSize: 10_000 });
    expect(await differencesFromReference(pipeline, stopped, workspace), story).toBe("");
    const outs = [stopped, undisturbed] as const;
    expect(await differencesBetween(pipeline, outs, { revisions: false }), story).toBe("");
    if (withLake) expect(await lakeDifferences(pipeline, stopped), story).toBe("");
  });
}

test("a run that stops and continues ends like one that did not", async () => {
  const seed = testSeed();
  const rounds = testRounds(20);
  for (let round = 0; round < rounds; round++) await checkOne(seed + round);
}, 3_600_000);
