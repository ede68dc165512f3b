/** The ingest handler over S3 and DynamoDB, as an emulator plays them. */
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeIngest } from "../../lib/handlers/ingest.js";
import { INGEST_PARTITION } from "../../lib/runtime/object-ingest.js";
import { openStores } from "../../lib/stores/open-stores.js";
import { S3Bucket } from "../../lib/stores/s3.js";
import { makeAwsResources } from "../servers/aws-resources.js";
import { type Ministack, setUpMinistack, startMinistack } from "../servers/ministack.js";
import { clickRecords, clicksPipeline } from "../unit/handlers/clicks.js";
import {
  context,
  kafkaEvent,
  memoryStores,
  processorOver,
} from "../unit/handlers/kafka-support.js";
import { published } from "../unit/handlers/published.js";

const missing = await setUpMinistack();
const title = missing === null ? "on MiniStack" : `on MiniStack (skipped: ${missing})`;
const pipeline = clicksPipeline();
const LINES = clickRecords(30_000).flatMap(({ value }) => value ?? []);
const PREFIX = "stage/";
const byText = (a: string, b: string) => (a < b ? -1 : 1);

const ndjson = (lines: readonly string[]) => Buffer.from(lines.map((l) => `${l}\n`).join(""));

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

  async function setUp() {
    const resources = await makeAwsResources(aws.env);
    const env: Record<string, string> = { ...aws.env, ...resources, MILLPOND_PREFIX: PREFIX };
    const bucket = new S3Bucket(env.MILLPOND_BUCKET!);
    const ingest = () => makeIngest({ pipeline, env, write: () => undefined });
    const created = (key: string) => ({
      "detail-type": "Object Created",
      detail: { bucket: { name: env.MILLPOND_BUCKET }, object: { key: PREFIX + key } },
    });
    return { env, bucket, ingest, created };
  }

  test("objects count once, with environments at once and calls short of time", async () => {
    const { env, bucket, ingest, created } = await setUp();
    const keys = ["incoming/clicks/a b+c.ndjson", "incoming/clicks/ä/2.jsonl.gz"];
    const halves = [LINES.slice(0, 14_000), LINES.slice(14_000)];
    await bucket.put(PREFIX + keys[0]!, ndjson(halves[0]!));
    await bucket.put(PREFIX + keys[1]!, gzipSync(ndjson(halves[1]!)));
    const hurried = { getRemainingTimeInMillis: () => 10 };
    for (const key of keys) {
      await expect(ingest()(created(key), hurried)).rejects.toThrow(/first 10000 records/);
      await Promise.all([1, 2, 3].map(() => ingest()(created(key), context)));
    }
    const stores = await openStores(env);
    const expected = memoryStores();
    const records = LINES.map((value, offset) => ({ offset, timestamp: Date.now(), value }));
    const event = { topic: "clicks", partition: INGEST_PARTITION, records };
    await processorOver(pipeline, expected).handle(kafkaEvent([event]), context);
    const [found, wanted] = [
      await published(pipeline, stores),
      await published(pipeline, expected),
    ];
    expect(found.records).toBe(LINES.length);
    // The record's timestamp, S3's here, is in bronze and in dead letters only.
    for (const table of ["pages", "visits", "expensive", "late"]) {
      expect(found.tables[table], table).toEqual(wanted.tables[table]);
    }
    const values = (rows: string[]): string[] =>
      rows.map((row) => JSON.parse(row).value).sort(byText);
    expect(values(found.tables.bronze!)).toEqual(values(wanted.tables.bronze!));
  });

  test("an object that is overwritten meanwhile is not mixed with its new content", async () => {
    const { env, bucket, ingest, created } = await setUp();
    const key = "incoming/clicks/1.ndjson";
    await bucket.put(PREFIX + key, ndjson(LINES));
    const hurried = { getRemainingTimeInMillis: () => 10 };
    await expect(ingest()(created(key), hurried)).rejects.toThrow(/first 10000 records/);
    await bucket.put(PREFIX + key, ndjson(LINES.slice(0, 100)));
    expect(await ingest()(created(key), context)).toMatchObject([
      { outcome: { kind: "ingested", records: 10_001 } },
    ]);
    expect(await ingest()(created(key), context)).toMatchObject([
      { outcome: { kind: "rejected" } },
    ]);
    const { records, tables } = await published(pipeline, await openStores(env));
    expect(records).toBe(10_001);
    expect(tables.dead_letters!.filter((row) => row.includes("was replaced"))).toHaveLength(1);
  });
});
