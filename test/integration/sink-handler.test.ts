/**
 * Random pipelines over random topics through the handlers of processor and sink: the tables equal
 * the SQL reference's, and those of a local run over the same records.
 */
import { expect, test } from "vitest";
import { makeSink } from "../../lib/handlers/sink.js";
import { duckdb, lake } from "../../lib/index.js";
import { loadReferences } from "../../lib/runtime/references.js";
import { differencesBetween, differencesFromReference, lakeDifferences } from "./support/check.js";
import { feedProcessor } from "./support/kafka-run.js";
import { Random, testRounds, testSeed } from "./support/random.js";
import { withScenario } from "./support/scenario.js";

const OPTIONS = {
  partitionsMax: 4,
  tablesMax: 5,
  recordsMax: 2500,
  settles: true,
  updates: true,
};
const context = { getRemainingTimeInMillis: () => 60_000 };

test("random topics through processor and sink give the reference's tables", async () => {
  const seed = testSeed();
  for (let round = 0; round < testRounds(6); round++) {
    const random = new Random(seed + round);
    const sinks = [lake({ bronze: random.chance(0.5) }), duckdb()];
    await withScenario(random, { ...OPTIONS, sinks }, async (scenario) => {
      const { workspace, pipeline, logs, about } = scenario;
      for (const [topic, log] of logs) await workspace.write(topic, log);
      const [streamed, local] = [workspace.newOutput(), workspace.newOutput()];
      const env = { MILLPOND_STORE: `file:${streamed}` };
      const references = await loadReferences(pipeline);
      const sink = makeSink({ pipeline, env, references, write: () => undefined });
      await feedProcessor(pipeline, workspace, env, random, async () => {
        if (random.chance(0.3)) await sink({ flush: random.chance(0.1) }, context);
      });
      await sink({ flush: true }, context);
      await sink.close();
      expect(await differencesFromReference(pipeline, streamed, workspace), about).toBe("");
      expect(await lakeDifferences(pipeline, streamed), about).toBe("");
      await workspace.run({ pipeline, out: local, batchSize: 1000 });
      const between = await differencesBetween(pipeline, [streamed, local], { revisions: false });
      expect(between, about).toBe("");
    });
  }
}, 3_600_000);
