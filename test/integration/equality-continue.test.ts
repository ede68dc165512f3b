/**
 * A run that stops and continues, over lines appended and files added in between, flushed or not:
 * in the end its tables equal those of one undisturbed run, and the reference's.
 */
import { writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { differencesBetween, differencesFromReference, run, Workspace } from "./support/check.js";
import { streamPlan, TOPIC } from "./support/events.js";
import { filesOf, randomPartitions } from "./support/partitions.js";
import { LEVELS_CSV, randomPipeline } from "./support/pipelines.js";
import { Random, testRounds, testSeed } from "./support/random.js";

/** How many lines of each partition are there at each step; a file without any is not there yet. */
function randomCuts(random: Random, partitions: readonly (readonly string[])[]): number[][] {
  const steps = random.between(2, 4);
  const files = [partitions.length];
  while (files.length < steps) files.unshift(random.between(1, files[0]));
  const cuts: number[][] = [];
  for (let step = 0; step < steps; step++) {
    const isLast = step === steps - 1;
    cuts.push(
      partitions.slice(0, files[step]).map((lines, partition) => {
        const before = cuts[step - 1]?.[partition] ?? 0;
        return isLast ? lines.length : random.between(before, lines.length);
      }),
    );
  }
  return cuts;
}

async function checkOne(seed: number): Promise<void> {
  const random = new Random(seed);
  const workspace = await Workspace.create();
  try {
    const plan = streamPlan(random);
    const partitions = randomPartitions(random, plan, 1200, 4);
    await writeFile(workspace.csv, LEVELS_CSV);
    const pipeline = randomPipeline(random, plan, workspace.csv, { tablesMax: 4 });
    const { input } = workspace;
    const [stopped, undisturbed] = [workspace.newOutput(), workspace.newOutput()];
    const cuts = randomCuts(random, partitions);
    const about: string[] = [`seed ${seed}, plan ${JSON.stringify(plan)}`];
    for (const [step, counts] of cuts.entries()) {
      await workspace.write(counts.map((count, p) => partitions[p].slice(0, count)));
      const flush = step === cuts.length - 1 || random.chance(0.6);
      const batchSize = random.pick([1, 13, 100, 10_000]);
      about.push(`step ${counts.join("/")} by ${batchSize}${flush ? "" : " without a flush"}`);
      await run({ pipeline, topic: TOPIC, input, out: stopped, batchSize, flush });
    }
    await run({ pipeline, topic: TOPIC, input, out: undisturbed, batchSize: 10_000 });
    const files = filesOf(workspace, partitions.length);
    const references = new Map([["levels", workspace.csv]]);
    const fromReference = await differencesFromReference(pipeline, stopped, files, references);
    expect(fromReference, about.join("\n")).toBe("");
    const between = await differencesBetween(pipeline, [stopped, undisturbed], {
      revisions: false,
    });
    expect(between, about.join("\n")).toBe("");
  } finally {
    await workspace.remove();
  }
}

test("a run that stops and continues ends like one that did not", async () => {
  const seed = testSeed();
  const rounds = testRounds(20);
  for (let round = 0; round < rounds; round++) await checkOne(seed + round);
}, 3_600_000);
