/** Random pipelines over random events: the engine's tables equal the SQL reference's, at any batch size. */
import { writeFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { differencesBetween, differencesFromReference, run, Workspace } from "./support/check.js";
import { streamPlan, TOPIC } from "./support/events.js";
import { filesOf, randomPartitions } from "./support/partitions.js";
import { LEVELS_CSV, randomPipeline } from "./support/pipelines.js";
import { Random, testRounds, testSeed } from "./support/random.js";

const TABLES_MAX = 6;

async function checkOne(seed: number, batchSizes: readonly number[], recordsMax: number) {
  const random = new Random(seed);
  const workspace = await Workspace.create();
  try {
    const plan = streamPlan(random);
    const partitions = randomPartitions(random, plan, recordsMax);
    await writeFile(workspace.csv, LEVELS_CSV);
    await workspace.write(partitions);
    const pipeline = randomPipeline(random, plan, workspace.csv, { tablesMax: TABLES_MAX });
    const { input } = workspace;
    const outs: string[] = [];
    for (const batchSize of batchSizes) {
      const out = workspace.newOutput();
      await run({ pipeline, topic: TOPIC, input, out, batchSize });
      outs.push(out);
    }
    const files = filesOf(workspace, partitions.length);
    const references = new Map([["levels", workspace.csv]]);
    const about = `seed ${seed}, plan ${JSON.stringify(plan)}`;
    const fromReference = await differencesFromReference(pipeline, outs[0], files, references);
    expect(fromReference, about).toBe("");
    for (const [i, out] of outs.entries()) {
      if (i === 0) continue;
      const between = await differencesBetween(pipeline, [outs[0], out], { revisions: true });
      expect(between, `${about}, batch size ${batchSizes[i]}`).toBe("");
    }
  } finally {
    await workspace.remove();
  }
}

test("random pipelines give the reference's tables", async () => {
  const seed = testSeed();
  const rounds = testRounds(20);
  for (let round = 0; round < rounds; round++) {
    await checkOne(seed + round, [new Random(seed + round).pick([97, 1000, 10_000])], 3000);
  }
}, 3_600_000);

test("batches of 1, 7, 1,000 and 10,000 records give the same tables, to the last bit", async () => {
  const seed = testSeed();
  const rounds = testRounds(5);
  for (let round = 0; round < rounds; round++) {
    await checkOne(seed + round, [10_000, 1000, 7, 1], 500);
  }
}, 3_600_000);
