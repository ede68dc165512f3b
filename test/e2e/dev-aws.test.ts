/** `millpond dev --store aws`: the same handlers with DynamoDB and S3, on an emulator. */
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { KafkaClient } from "../../lib/sources/kafka/client.js";
import { connectKafka } from "../../lib/sources/kafka/kafkajs-client.js";
import { fetchResults } from "../integration/support/aws-results.js";
import { makeAwsResources } from "../servers/aws-resources.js";
import { setUpKafka, startKafka, type TestKafka } from "../servers/kafka.js";
import { type Ministack, setUpMinistack, startMinistack } from "../servers/ministack.js";
import { testDir, write } from "./support/cli.js";
import { DevProcess } from "./support/dev.js";
import {
  makeLines,
  PARTITIONS,
  pipelineText,
  produce,
  reference,
  results,
  SEED,
} from "./support/dev-events.js";

const missing = (await setUpKafka()) ?? (await setUpMinistack());
const dir = testDir("dev-aws");

describe.skipIf(missing !== null)(`dev on AWS stores${missing ? ` (${missing})` : ""}`, () => {
  let kafka: TestKafka;
  let aws: Ministack;
  let client: KafkaClient;

  beforeAll(async () => {
    [kafka, aws] = [await startKafka(), await startMinistack()];
    client = await connectKafka({ brokers: [kafka.bootstrap], auth: { kind: "plaintext" } });
  });
  afterAll(async () => {
    await client?.close();
    await kafka?.stop();
    await aws?.stop();
  });

  test(`two at once, one killed: the tables that SQL makes (seed ${SEED})`, async () => {
    const resources = await makeAwsResources(aws.env);
    const env = { ...process.env, ...aws.env, ...resources };
    const topic = "dev_aws";
    const file = write(path.join(dir, "pipeline.ts"), pipelineText(topic));
    await client.createTopic(topic, { partitions: PARTITIONS });
    const args = [file, "--bootstrap", kafka.bootstrap, "--store", "aws"];
    const one = new DevProcess(args, env);
    const other = new DevProcess(args, env);
    for (const process of [one, other]) {
      await process.heard("started", ({ kind }) => kind === "started");
    }
    const lines = makeLines(2_000);
    const half = Math.floor(lines.length / 2);
    await produce(client, topic, lines.slice(0, half));
    await one.heard("half", ({ records }) => records === half);
    await other.kill();
    await produce(client, topic, lines.slice(half));
    await one.heard("all", ({ records }) => records === lines.length);
    expect(await one.interrupt()).toBe(0);
    const out = path.join(dir, "out");
    await fetchResults("dev_test", env, out);
    expect(await results(out)).toEqual(await reference(dir, lines));
  });
});
