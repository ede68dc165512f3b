/**
 * A backfill from one stack to another on the emulator: the new stack's handlers leave it alone
 * while it works, go on where bronze ended, and end with what the new definition makes of all.
 */
import { writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { audit } from "../../lib/audit/audit.js";
import { backfillStack } from "../../lib/audit/backfill-stack.js";
import { openBucket } from "../../lib/audit/bucket-place.js";
import { backfillCommand } from "../../lib/cli/backfill.js";
import { databaseAt } from "../../lib/cli/query-bucket.js";
import type { Pipeline } from "../../lib/define/definition.js";
import { definitionHash } from "../../lib/define/json.js";
import { makeProcessor } from "../../lib/handlers/processor.js";
import { makeSink } from "../../lib/handlers/sink.js";
import { duckdb, lake } from "../../lib/index.js";
import { loadPipeline } from "../../lib/runtime/load-pipeline.js";
import { loadReferences, referenceFiles } from "../../lib/runtime/references.js";
import { openStores } from "../../lib/stores/open-stores.js";
import { makeAwsResources } from "../servers/aws-resources.js";
import { type Ministack, setUpMinistack, startMinistack } from "../servers/ministack.js";
import { kafkaEvent } from "../unit/handlers/kafka-support.js";
import { fetchResults } from "./support/aws-results.js";
import { differencesFromReference, type Logs, Workspace } from "./support/check.js";
import { partitionLines, streamPlan } from "./support/events.js";
import { feedProcessor } from "./support/kafka-run.js";
import { LEVELS_CSV, randomPipeline } from "./support/pipelines.js";
import { Random, testRounds, testSeed } from "./support/random.js";

const missing = await setUpMinistack();
const title = missing === null ? "on MiniStack" : `on MiniStack (skipped: ${missing})`;
const context = { getRemainingTimeInMillis: () => 60_000 };
type Env = Record<string, string>;

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

  const newStack = async (): Promise<Env> => ({
    ...aws.env,
    ...(await makeAwsResources(aws.env)),
    MILLPOND_PREFIX: "some/where/",
  });
  const databaseOf = (env: Env) =>
    databaseAt(`s3://${env.MILLPOND_BUCKET}/${env.MILLPOND_PREFIX}`, undefined);

  async function sinkOnce(pipeline: Pipeline, env: Env, event: object): Promise<void> {
    const references = await loadReferences(pipeline);
    const sink = makeSink({ pipeline, env, references, write: () => undefined });
    expect(await sink(event, context)).toMatchObject({ outcome: "done", pending: 0 });
    await sink.close();
  }

  async function audited(pipeline: Pipeline, env: Env) {
    const { definition, functions } = pipeline;
    const { hashes } = await loadReferences(pipeline);
    const claim = { definition, definitionHash: definitionHash(definition, hashes) };
    const place = await openBucket(await databaseOf(env), claim);
    try {
      const references = referenceFiles(pipeline);
      return await audit(place, { definition, functions, references, examples: 1 });
    } finally {
      await place.close();
    }
  }

  async function checkOne(seed: number): Promise<void> {
    const random = new Random(seed);
    const workspace = await Workspace.create();
    try {
      const plan = streamPlan(random, "events");
      await writeFile(workspace.csv, LEVELS_CSV);
      const options = { tablesMax: 3, sinks: [lake(), duckdb()], settles: true, updates: true };
      const [v1, v2] = [0, 1].map(() => randomPipeline(random, [plan], workspace.csv, options));
      const logs: Logs = Array.from({ length: random.between(1, 3) }, (_, partition) => {
        const lines = partitionLines(random, plan, partition);
        return Array.from({ length: random.between(20, 400) }, () => String(lines.next().value));
      });
      const early = logs.map((log) => log.slice(0, random.between(1, log.length)));
      const about = `seed ${seed}, plan ${JSON.stringify(plan)}`;
      const [oldEnv, newEnv] = [await newStack(), await newStack()];
      await workspace.write("events", early);
      await feedProcessor(v1!, workspace, oldEnv, random);
      await sinkOnce(v1!, oldEnv, {});

      const from = await databaseOf(oldEnv);
      const stores = await openStores(newEnv);
      const request = { pipeline: v2!, from, stores, env: newEnv, batchSize: 50 };
      const report = await backfillStack(request);
      expect(report, about).toMatchObject({ kind: "done", audit: { equal: true } });
      expect(await backfillStack(request)).toEqual({ kind: "current" });
      expect(
        (await audited(v2!, newEnv)).tables.flatMap((t) => t.differences),
        about,
      ).toEqual([]);

      await workspace.write("events", logs);
      await feedProcessor(v2!, workspace, newEnv, random);
      await sinkOnce(v2!, newEnv, { flush: true });
      const out = workspace.newOutput();
      await fetchResults(v2!.definition.name, newEnv, out);
      expect(await differencesFromReference(v2!, out, workspace), about).toBe("");
    } finally {
      await workspace.remove();
    }
  }

  async function command(...args: string[]): Promise<string> {
    const stdout: string[] = [];
    const spies = [
      vi.spyOn(process.stdout, "write").mockImplementation((text) => stdout.push(String(text)) > 0),
      vi.spyOn(process.stderr, "write").mockImplementation(() => true),
    ];
    try {
      await backfillCommand().parseAsync(args, { from: "user" });
    } finally {
      for (const spy of spies) spy.mockRestore();
    }
    return stdout.join("");
  }

  test("the command rebuilds results whose state was lost, and says where Kafka is", async () => {
    const file = "pipelines/clickstream.ts";
    const pipeline = await loadPipeline(file, new Map());
    const [oldEnv, newEnv] = [await newStack(), await newStack()];
    const records = [..."abc"].map((id, i) => {
      const reading = { sensor: id, at: new Date(i * 1000).toISOString() };
      return { offset: 7 + i, timestamp: i * 1000, value: JSON.stringify(reading) };
    });
    const [{ name: topic }] = pipeline.definition.streams;
    const handler = makeProcessor({ pipeline, env: oldEnv, write: () => undefined });
    await handler(kafkaEvent([{ topic, partition: 3, records }]), context);
    await sinkOnce(pipeline, oldEnv, {});
    const at = (env: Env) => `s3://${env.MILLPOND_BUCKET}/some/where`;
    const args = [file, "--from-s3", at(oldEnv), "--s3", at(newEnv)];
    const table = newEnv.MILLPOND_STATE_TABLE!;
    const text = await command(...args, "--state-table", table);
    expect(text).toContain("Rebuilt from 3 records in bronze");
    expect(text).toContain(`${topic}-3 from offset 10  (after 1970-01-01T00:00:02.000Z)`);
    expect(await command(...args, "--state-table", table)).toContain("nothing was done");
    await expect(command(...args)).rejects.toMatchObject({ code: "USAGE" });
  });

  test("the new stack goes on where bronze ended, and ends like one that read all", async () => {
    const seed = testSeed();
    for (let round = 0; round < testRounds(3); round++) await checkOne(seed + round);
  }, 3_600_000);
});
