/** The Kafka port against a real broker: topics, offsets, logins, and what its errors say. */
import { execFile } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import * as zlib from "node:zlib";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MillpondError } from "../../lib/errors.js";
import type { KafkaClient } from "../../lib/sources/kafka/client.js";
import { connectKafka } from "../../lib/sources/kafka/kafkajs-client.js";
import { kafkaSettings, parseBrokers } from "../../lib/sources/kafka/settings.js";
import { SCRAM_USER, setUpKafka, startKafka, type TestKafka } from "../servers/kafka.js";
import { Random, testSeed } from "./support/random.js";

const run = promisify(execFile);
const missing = await setUpKafka();

test("settings name what is missing or wrong", async () => {
  await expect(kafkaSettings({})).rejects.toThrow(/set MILLPOND_BOOTSTRAP to host:port/);
  const MILLPOND_BOOTSTRAP = "a:9092, b:9092";
  expect(await kafkaSettings({ MILLPOND_BOOTSTRAP })).toEqual({
    brokers: ["a:9092", "b:9092"],
    auth: { kind: "plaintext" },
  });
  const iam = { MILLPOND_BOOTSTRAP, MILLPOND_KAFKA_AUTH: "iam", AWS_REGION: "eu-north-1" };
  expect((await kafkaSettings(iam)).auth).toEqual({ kind: "iam", region: "eu-north-1" });
  const wrong = { MILLPOND_BOOTSTRAP, MILLPOND_KAFKA_AUTH: "kerberos" };
  await expect(kafkaSettings(wrong)).rejects.toThrow(/"kerberos": give one of iam/);
  const scram = { MILLPOND_BOOTSTRAP, MILLPOND_KAFKA_AUTH: "scram" };
  await expect(kafkaSettings(scram)).rejects.toThrow(/MILLPOND_KAFKA_SECRET_ARN/);
  expect(() => parseBrokers("--bootstrap", "localhost")).toThrow(/--bootstrap: "localhost"/);
});

describe.skipIf(missing !== null)(`Kafka client${missing ? ` (${missing})` : ""}`, () => {
  let kafka: TestKafka;
  let client: KafkaClient;

  beforeAll(async () => {
    kafka = await startKafka();
    client = await connectKafka({ brokers: [kafka.bootstrap], auth: { kind: "plaintext" } });
  });
  afterAll(async () => {
    await client?.close();
    await kafka?.stop();
  });

  test("makes topics, once, with settings, and grows them", async () => {
    const settings = { "retention.ms": "3600000" };
    expect(await client.offsets("made")).toBeNull();
    expect(await client.createTopic("made", { partitions: 2, replicas: 1, settings })).toBe(true);
    expect(await client.createTopic("made", { partitions: 5 })).toBe(false);
    expect(await client.offsets("made")).toEqual([
      { partition: 0, low: 0, high: 0 },
      { partition: 1, low: 0, high: 0 },
    ]);
    await client.addPartitions("made", 3);
    expect(await client.offsets("made")).toHaveLength(3);
    await expect(client.addPartitions("made", 1)).rejects.toThrow(/cannot add partitions/);
    expect(await client.committed("nobody", "made")).toEqual(new Map());
  });

  test("errors name the broker, what was tried and what to do", async () => {
    const producer = await client.producer();
    const message = { key: null, value: "x" };
    await expect(producer.send("no_such_topic", [message])).rejects.toThrow(
      `Kafka at ${kafka.bootstrap}: cannot read the partitions of topic no_such_topic`,
    );
    await client.createTopic("small", { partitions: 1, settings: { "max.message.bytes": "1000" } });
    const large = { key: null, value: Buffer.alloc(5_000) };
    await expect(producer.send("small", [large])).rejects.toThrow(/max.message.bytes/);
    // Going on could lose records, and says so.
    await expect(producer.send("small", [message])).rejects.toThrow(/make a new one/);
    await producer.close();
    const nobody = await connectKafka({ brokers: ["127.0.0.1:1"], auth: { kind: "plaintext" } });
    const error = await nobody.offsets("made").catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(MillpondError);
    expect(String(error)).toMatch(/Kafka at 127.0.0.1:1: cannot read.*check that the brokers run/);
    await nobody.close();
  });

  // The broker compresses what comes in plain, with the libraries that producers use.
  test.each([
    ["gzip", true],
    ["snappy", true],
    ["lz4", true],
    ["zstd", "zstdDecompressSync" in zlib],
  ])("reads what is compressed by %s", async (codec, isKnown) => {
    const topic = `compressed_${codec}`;
    await client.createTopic(topic, { partitions: 1, settings: { "compression.type": codec } });
    const random = new Random(testSeed());
    const values = Array.from({ length: 300 }, (_, i) => {
      const bytes = Buffer.alloc(random.below(i % 50 === 0 ? 200_000 : 500));
      // Noise, repetition of a few bytes, and text that is much like the text before.
      if (i % 3 === 0) return Buffer.from(bytes.map(() => random.below(256)));
      return i % 3 === 1 ? bytes.fill("abc") : Buffer.from(`{"id":${i},"page":"/home/${i % 7}"}`);
    });
    const producer = await client.producer();
    await producer.send(
      topic,
      values.map((value) => ({ key: "k", value })),
    );
    await producer.close();
    const read: (Buffer | null)[] = [];
    const troubles: unknown[] = [];
    const consumer = await client.consume({
      group: `read-${codec}`,
      topics: [topic],
      startAt: "earliest",
      onAssigned: () => undefined,
      onRecords: ({ records }) => read.push(...records.map(({ value }) => value)),
      onTrouble: (error) => troubles.push(error),
    });
    await expect
      .poll(() => (isKnown ? read.length : String(troubles.at(-1))), { timeout: 30_000 })
      .toEqual(isKnown ? values.length : expect.stringMatching(/use Node 22.15 or later/));
    await consumer.close();
    if (isKnown) expect(Buffer.concat(read.map((value) => value!))).toEqual(Buffer.concat(values));
  });

  test("logs in by TLS and SCRAM, and says when the password is wrong", async () => {
    const cache = path.resolve(".cache", `kafka-login-${process.pid}`);
    const script = path.join(cache, "login.mjs");
    const entry = fileURLToPath(new URL("support/kafka-login.ts", import.meta.url));
    const common = { bundle: true, platform: "node", format: "esm", packages: "external" } as const;
    await build({ ...common, entryPoints: [entry], outfile: script });
    try {
      const { tls, scram, ca } = kafka.secure;
      const { username, password } = SCRAM_USER;
      const logins = [
        { brokers: [tls], auth: { kind: "tls" } },
        { brokers: [scram], auth: { kind: "scram" }, username, password },
        { brokers: [scram], auth: { kind: "scram" }, username, password: "wrong" },
        { brokers: [scram], auth: { kind: "iam", region: "eu-central-1" } },
      ];
      const env = {
        ...process.env,
        // Node reads further roots of trust when it starts.
        NODE_EXTRA_CA_CERTS: ca,
        AWS_ACCESS_KEY_ID: "test",
        AWS_SECRET_ACCESS_KEY: "test",
      };
      const { stdout } = await run(process.execPath, [script, JSON.stringify(logins)], { env });
      expect(JSON.parse(stdout)).toEqual([
        "created",
        "created",
        expect.stringMatching(/check MILLPOND_KAFKA_AUTH and the user/),
        // This broker has no such login: the token's own check is MSK's.
        expect.stringMatching(/SASL mechanism; .*change MILLPOND_KAFKA_AUTH/),
      ]);
      expect(stdout).not.toContain(password);
    } finally {
      fs.rmSync(cache, { recursive: true, force: true });
    }
  });
});
