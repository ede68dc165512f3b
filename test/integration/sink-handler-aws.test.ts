/** The sink's handler over DynamoDB and S3: results, takers at once, faults, a big backlog. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeSink } from "../../lib/handlers/sink.js";
import { duckdb, lake } from "../../lib/index.js";
import { loadReferences } from "../../lib/runtime/references.js";
import { makeAwsResources } from "../servers/aws-resources.js";
import { type Ministack, setUpMinistack, startMinistack } from "../servers/ministack.js";
import { fetchResults } from "./support/aws-results.js";
import { differencesBetween, differencesFromReference } from "./support/check.js";
import { feedProcessor } from "./support/kafka-run.js";
import { Random, testRounds, testSeed } from "./support/random.js";
import { withScenario } from "./support/scenario.js";

const missing = await setUpMinistack();
const title = missing === null ? "on MiniStack" : `on MiniStack (skipped: ${missing})`;
const context = { getRemainingTimeInMillis: () => 60_000 };
const OPTIONS = {
  partitionsMax: 3,
  tablesMax: 4,
  recordsMax: 1200,
  settles: true,
  updates: true,
};

describe.skipIf(missing !== null)(title, () => {
  let aws: Ministack;
  const before = { ...process.env };
  beforeAll(async () => {
    aws = await startMinistack();
    Object.assign(process.env, aws.env);
  });
  afterAll(async () => {
    process.env = before;
    await aws?.stop();
  });

  test("random topics give the reference's tables in the database on S3", async () => {
    const seed = testSeed();
    for (let round = 0; round < testRounds(3); round++) {
      const random = new Random(seed + round);
      const sinks = random.chance(0.7) ? [lake(), duckdb()] : [lake({ bronze: false })];
      await withScenario(random, { ...OPTIONS, sinks }, async (scenario) => {
        const { workspace, pipeline, logs, about } = scenario;
        for (const [topic, log] of logs) await workspace.write(topic, log);
        const [streamed, local] = [workspace.newOutput(), workspace.newOutput()];
        const env = { ...aws.env, ...(await makeAwsResources(aws.env)) };
        const references = await loadReferences(pipeline);
        const options = { pipeline, env, references, write: () => undefined };
        const handlers = [makeSink(options), makeSink(options)];
        await feedProcessor(pipeline, workspace, env, random, async () => {
          if (random.chance(0.4)) return;
          const atOnce = random.chance(0.5) ? handlers : [random.pick(handlers)];
          await Promise.all(atOnce.map((sink) => sink({}, context)));
        });
        const report = await handlers[0]!({ flush: true }, context);
        expect(report, about).toMatchObject({ outcome: "done", pending: 0 });
        for (const sink of handlers) await sink.close();
        const views = await fetchResults(pipeline.definition.name, env, streamed);
        if (sinks.length === 1) expect(views.length).toBeGreaterThan(0);
        expect(await differencesFromReference(pipeline, streamed, workspace), about).toBe("");
        const withBoth = { ...pipeline, definition: { ...pipeline.definition, sinks: [duckdb()] } };
        await workspace.run({ pipeline: withBoth, out: local, batchSize: 1000 });
        const between = await differencesBetween(pipeline, [streamed, local], { revisions: false });
        expect(between, about).toBe("");
      });
    }
  }, 3_600_000);
});
