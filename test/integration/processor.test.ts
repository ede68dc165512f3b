/**
 * Random pipelines over random topics through the processor's handler: their tables equal the SQL
 * reference's, and those of a local run over the same records.
 */
import { expect, test } from "vitest";
import { duckdb, lake } from "../../lib/index.js";
import { differencesBetween, differencesFromReference } from "./support/check.js";
import { runThroughProcessor } from "./support/kafka-run.js";
import { Random, testRounds, testSeed } from "./support/random.js";
import { withScenario } from "./support/scenario.js";

const OPTIONS = {
  partitionsMax: 5,
  tablesMax: 6,
  recordsMax: 2500,
  settles: true,
  updates: false,
};

test("random topics through the processor give the reference's tables", async () => {
  const seed = testSeed();
  for (let round = 0; round < testRounds(8); round++) {
    const random = new Random(seed + round);
    const sinks = [lake({ bronze: random.chance(0.5) }), duckdb()];
    await withScenario(random, { ...OPTIONS, sinks }, async (scenario) => {
      const { workspace, pipeline, logs, about } = scenario;
      for (const [topic, log] of logs) await workspace.write(topic, log);
      const [streamed, local] = [workspace.newOutput(), workspace.newOutput()];
      await runThroughProcessor(pipeline, workspace, streamed, random);
      expect(await differencesFromReference(pipeline, streamed, workspace), about).toBe("");
      await workspace.run({ pipeline, out: local, batchSize: 1000 });
      const between = await differencesBetween(pipeline, [streamed, local], { revisions: true });
      expect(between, about).toBe("");
    });
  }
}, 3_600_000);
