/** kill -9 while sinks work on DynamoDB and S3, two at a time: nothing is missing or doubled. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import * as path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeProcessor } from "../../lib/handlers/processor.js";
import { makeSink } from "../../lib/handlers/sink.js";
import { makeAwsResources } from "../servers/aws-resources.js";
import { type Ministack, setUpMinistack, startMinistack } from "../servers/ministack.js";
import { clickRecords, clicksPipeline } from "../unit/handlers/clicks.js";
import { kafkaEvent } from "../unit/handlers/kafka-support.js";
import { fetchResults } from "./support/aws-results.js";
import { bundleChild } from "./support/bundle-child.js";
import { differencesBetween, Workspace } from "./support/check.js";
import { Random, testRounds, testSeed } from "./support/random.js";

const missing = await setUpMinistack();
const title = missing === null ? "on MiniStack" : `on MiniStack (skipped: ${missing})`;
const CHILD = path.resolve(".cache", "sink-child.mjs");
const KILLS = testRounds(8);
const BATCH = 60;
const context = { getRemainingTimeInMillis: () => 60_000 };
const write = () => undefined;

describe.skipIf(missing !== null)(title, () => {
  const before = { ...process.env };
  const pipeline = clicksPipeline();
  let aws: Ministack;
  let workspace: Workspace;

  beforeAll(async () => {
    aws = await startMinistack();
    Object.assign(process.env, aws.env);
    workspace = await Workspace.create();
    await bundleChild("test/integration/support/sink-child.ts", CHILD);
  });
  afterAll(async () => {
    process.env = before;
    await workspace?.remove();
    await aws?.stop();
  });

  async function feed(env: Record<string, string>, batch: number): Promise<void> {
    const partitions = [0, 1].map((partition) => ({
      topic: "clicks",
      partition,
      records: clickRecords((batch + 1) * BATCH, partition).slice(batch * BATCH),
    }));
    await makeProcessor({ pipeline, env, write })(kafkaEvent(partitions), context);
  }

  /** The results once a last sink has flushed. */
  async function results(env: Record<string, string>): Promise<string> {
    const sink = makeSink({ pipeline, env, write });
    expect(await sink({ flush: true }, context)).toMatchObject({ outcome: "done", pending: 0 });
    await sink.close();
    const out = workspace.newOutput();
    await fetchResults(pipeline.definition.name, env, out);
    return out;
  }

  test("sinks killed at random moments", async () => {
    const random = new Random(testSeed());
    const env = { ...aws.env, ...(await makeAwsResources(aws.env)) };
    const undisturbed = { ...aws.env, ...(await makeAwsResources(aws.env)) };
    for (let n = 0; n < KILLS; n++) {
      const children = [0, 1].map(() => startChild(env));
      const ends = children.map(({ child }) => once(child, "close"));
      await Promise.all(children.map(({ child }) => once(child.stdout!, "data")));
      await feed(env, n);
      for (const { child } of children) {
        await delay(random.between(0, 900));
        child.kill("SIGKILL");
      }
      await Promise.all(ends);
      for (const { child, stderr } of children) {
        expect(`${child.signalCode} ${stderr()}`).toBe("SIGKILL ");
      }
      await feed(undisturbed, n);
    }
    const outs = [await results(env), await results(undisturbed)] as const;
    const options = { revisions: false };
    expect(await differencesBetween(pipeline, outs, options), `seed ${random.seed}`).toBe("");
  }, 300_000);
});

function startChild(env: Record<string, string>): { child: ChildProcess; stderr: () => string } {
  const child = spawn(process.execPath, ["--no-warnings", CHILD], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  child.stderr?.setEncoding("utf8").on("data", (data) => (text += data));
  return { child, stderr: () => text };
}
