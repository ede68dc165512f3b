/**
 * Random pipelines over random events: the engine's tables equal the SQL reference's, at any batch
 * size.
 */
import { expect, test } from "vitest";
import { duckdb } from "../../lib/index.js";
import { differencesBetween, differencesFromReference } from "./support/check.js";
import { Random, testRounds, testSeed } from "./support/random.js";
import { withScenario } from "./support/scenario.js";

const OPTIONS = {
  partitionsMax: 8,
  tablesMax: 6,
  sinks: [duckdb()],
  settles: true,
  updates: false,
};

async function checkOne(seed: number, batchSizes: readonly number[], recordsMax: number) {
  const random = new Random(seed);
  await withScenario(random, { ...OPTIONS, recordsMax }, async (scenario) => {
    const { workspace, pipeline, logs, about } = scenario;
    const lineEnd = random.pick(["\n", ""]);
    for (const [topic, log] of logs) await workspace.write(topic, log, lineEnd);
    const outs: string[] = [];
    for (const batchSize of batchSizes) {
      const out = workspace.newOutput();
      await workspace.run({ pipeline, out, batchSize });
      outs.push(out);
    }
    expect(await differencesFromReference(pipeline, outs[0], workspace), about).toBe("");
    for (const [i, out] of outs.slice(1).entries()) {
      const between = await differencesBetween(pipeline, [outs[0], out], { revisions: true });
      expect(between, `${about}, batch size ${batchSizes[i + 1]}`).toBe("");
    }
  });
}

test("random pipelines give the reference's tables", async () => {
  const seed = testSeed();
  const rounds = testRounds(20);
  for (let round = 0; round < rounds; round++) {
    await checkOne(seed + round, [new Random(seed + round).pick([97, 1000, 10_000])], 3000);
  }
}, 3_600_000);

test("batches of 1, 7, 1,000 and 10,000 records give the same tables, bit by bit", async () => {
  const seed = testSeed();
  const rounds = testRounds(6);
  for (let round = 0; round < rounds; round++) {
    await checkOne(seed + round, [10_000, 1000, 7, 1], 500);
  }
}, 3_600_000);

test("without a flush, exactly what has closed is published", async () => {
  const seed = testSeed();
  const rounds = testRounds(5);
  for (let round = 0; round < rounds; round++) {
    const random = new Random(seed + round);
    const options = { ...OPTIONS, recordsMax: 2000, partitionsMax: 4 };
    await withScenario(random, options, async ({ workspace, pipeline, logs, about }) => {
      for (const [topic, log] of logs) await workspace.write(topic, log);
      const out = workspace.newOutput();
      const batchSize = random.pick([1, 97, 10_000]);
      await workspace.run({ pipeline, out, batchSize, flush: false });
      const closedOnly = { closedOnly: true };
      expect(await differencesFromReference(pipeline, out, workspace, closedOnly), about).toBe("");
    });
  }
}, 3_600_000);
