/**
 * Every trouble of docs/operations.md, made on an emulator: what handlers say is what the page
 * quotes, and the remedy that it gives helps.
 */
import { readFileSync } from "node:fs";
import { DynamoDBClient, PutItemCommand, ScanCommand } from "@aws-sdk/client-dynamodb";
import { DeleteObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { makeIngest } from "../../lib/handlers/ingest.js";
import { makeProcessor } from "../../lib/handlers/processor.js";
import { makeQuery } from "../../lib/handlers/query.js";
import { makeSink } from "../../lib/handlers/sink.js";
import type { Pipeline } from "../../lib/index.js";
import { makeAwsResources } from "../servers/aws-resources.js";
import { type Fault, type FaultyProxy, startFaultyProxy } from "../servers/faulty-proxy.js";
import { type Ministack, setUpMinistack, startMinistack } from "../servers/ministack.js";
import { clickRecords, clicksPipeline } from "../unit/handlers/clicks.js";
import { kafkaEvent, type TestRecord } from "../unit/handlers/kafka-support.js";
import { SinkBed } from "./support/sink-stores.js";

const missing = await setUpMinistack();
const title = missing === null ? "operations" : `operations (skipped: ${missing})`;
const PAGE = readFileSync(new URL("../../docs/operations.md", import.meta.url), "utf8");
const context = { getRemainingTimeInMillis: () => 120_000 };
const RECORDS = clickRecords(400);
/** Bound of the outbox, in commits. */
const OUTBOX_COMMITS = 3_000;

const DYNAMODB_DENIES: Fault = {
  status: 400,
  body: JSON.stringify({
    __type: "com.amazon.coral.service#AccessDeniedException",
    message: "User: f is not authorized to perform: dynamodb:PutItem",
  }),
};
/** As the bucket's key makes it refuse. */
const S3_DENIES: Fault = {
  status: 403,
  body:
    "<Error><Code>AccessDenied</Code><Message>User: f is not authorized to perform: " +
    "kms:GenerateDataKey</Message></Error>",
};

interface Handlers {
  readonly take: (records: readonly TestRecord[], partition?: number) => Promise<unknown>;
  readonly sink: (event?: unknown) => Promise<unknown>;
  /** Metrics and log lines of both. */
  readonly lines: Record<string, unknown>[];
}

describe.skipIf(missing !== null)(title, () => {
  const before = { ...process.env };
  let aws: Ministack;
  let proxy: FaultyProxy;
  let env: Record<string, string>;
  let handlers: Handlers;

  beforeAll(async () => {
    aws = await startMinistack();
    proxy = await startFaultyProxy(aws.endpoint);
    const endpoint = proxy.endpoint;
    Object.assign(process.env, aws.env, { AWS_ENDPOINT_URL: endpoint });
    process.env.AWS_ENDPOINT_URL_S3 = endpoint;
  });
  beforeEach(async () => {
    const endpoints = { AWS_ENDPOINT_URL: proxy.endpoint, AWS_ENDPOINT_URL_S3: proxy.endpoint };
    env = { ...aws.env, ...(await makeAwsResources(aws.env)), ...endpoints };
    handlers = handlersOf(clicksPipeline());
  });
  afterEach(() => {
    proxy.plan = () => null;
  });
  afterAll(async () => {
    process.env = before;
    await proxy?.stop();
    await aws?.stop();
  });

  /** As a new environment of each function. */
  function handlersOf(from: Pipeline, stores = {}): Handlers {
    const lines: Record<string, unknown>[] = [];
    const write = (line: string) => lines.push(JSON.parse(line));
    const processor = makeProcessor({ pipeline: from, env, write, ...stores });
    const sink = makeSink({ pipeline: from, env, write, ...stores });
    return {
      take: (records, partition = 0) =>
        processor(kafkaEvent([{ topic: "clicks", partition, records }]), context),
      sink: (event = {}) => sink(event, context),
      lines,
    };
  }

  async function ask(sql: string): Promise<Record<string, unknown>[]> {
    const query = makeQuery({
      env: { ...env, MILLPOND_PIPELINE: "clicks-by-page" },
      write: () => undefined,
    });
    const { statusCode, body } = (await query({ sql }, context)) as {
      statusCode: number;
      body: string;
    };
    if (statusCode !== 200) throw new TypeError(`status ${statusCode}: ${body}`);
    return JSON.parse(body);
  }

  test("a denied permission, of the table and of the bucket's key", async () => {
    proxy.plan = ({ operation }) => (operation === "PutItem" ? DYNAMODB_DENIES : null);
    await says(handlers.take(RECORDS.slice(0, 50)), "AccessDeniedException");
    proxy.plan = ({ method }) => (method === "PUT" ? S3_DENIES : null);
    await says(handlers.take(RECORDS.slice(0, 50)), "check the role's policy");
    proxy.plan = () => null;
    await handlers.take(RECORDS.slice(0, 50));
    expect(handlers.lines.at(-1)).toMatchObject({ RecordsRead: 50 });
  });

  test("a table that throttles for longer than a client tries", async () => {
    proxy.plan = ({ operation }) =>
      operation !== "PutItem"
        ? null
        : {
            status: 400,
            body: '{"__type":"x#ProvisionedThroughputExceededException","message":"exceeded"}',
          };
    await says(handlers.take(RECORDS.slice(0, 50)), "it stayed throttled through all attempts");
    proxy.plan = () => null;
    await handlers.take(RECORDS.slice(0, 50));
  });

  test("a topic that was made anew, and a new name for what comes of it", async () => {
    await handlers.take(RECORDS.slice(0, 50));
    const anew = RECORDS.slice(0, 10).map((record) => ({
      ...record,
      timestamp: record.timestamp! + 86_400_000,
    }));
    await says(handlers.take(anew), "the topic is not the one that was read before");
    expect(handlers.lines).toContainEqual(
      expect.objectContaining({ level: "error", partition: "clicks-0", code: "INPUT" }),
    );
    await handlersOf(renamed(clicksPipeline())).take(anew);
  });

  test("a changed definition: both functions refuse, and a new name begins anew", async () => {
    await handlers.take(RECORDS.slice(0, 50));
    await handlers.sink();
    const changed = clicksPipeline({ lateness: 5_000 });
    const next = handlersOf(changed);
    await says(next.take(RECORDS.slice(50, 60)), "was written by another or a changed definition");
    await says(next.sink(), "were published by another or a changed definition");
    await handlersOf(renamed(changed)).take(RECORDS.slice(0, 60));
    await handlers.take(RECORDS.slice(50, 60));
  });

  test("poison records and clocks ahead are dead letters, counted by reason", async () => {
    const [good] = RECORDS.filter(({ value }) => value?.includes("cost"));
    const ahead = good!.value!.replace(/"at":"\d+/, '"at":"2031');
    await handlers.take([...RECORDS.slice(0, 50), { ...good!, offset: 5_000, value: ahead }]);
    await handlers.sink({ flush: true });
    const sql =
      "SELECT reason, count(*) AS records, min(detail) AS example " +
      "FROM dead_letters GROUP BY reason";
    expect(PAGE).toContain(sql);
    const reasons = (await ask(sql)).map(({ reason }) => reason);
    expect(reasons).toContain("malformed");
    expect(reasons).toContain("event_time_in_future");
    expect(PAGE).toContain("event_time_in_future");
  });

  test("a partition is added: its events count from its first record on", async () => {
    await handlers.take(RECORDS.slice(0, 50));
    await handlers.sink();
    await handlers.take(clickRecords(50, 1), 1);
    await handlers.sink({ flush: true });
    const [row] = await ask("SELECT records FROM accounting WHERE kind = 'stream'");
    expect(row).toMatchObject({ records: 100 });
  });

  test("a stuck sink: what waits grows old, and is taken when the sink can again", async () => {
    await handlers.take(RECORDS.slice(0, 50));
    proxy.plan = ({ method, path }) =>
      method === "PUT" && path.includes("/lake/") ? S3_DENIES : null;
    await says(handlers.sink(), "check the role's policy");
    expect(handlers.lines).toContainEqual(expect.objectContaining({ SinkErrors: 1 }));
    proxy.plan = () => null;
    expect(await handlers.sink()).toMatchObject({ outcome: "done", pending: 0 });
    expect(handlers.lines.at(-1)).toMatchObject({ PublicationsPending: 0 });
  });

  test("a damaged database: delete it, and the sink makes it anew", async () => {
    await handlers.take(RECORDS.slice(0, 200));
    await handlers.sink({ flush: true });
    const before = await ask("SELECT * FROM pages ORDER BY ALL");
    const object = { Bucket: env.MILLPOND_BUCKET!, Key: "databases/clicks-by-page.duckdb" };
    const s3 = new S3Client({ forcePathStyle: true });
    await s3.send(new PutObjectCommand({ ...object, Body: "no database" }));
    await says(handlers.sink({ flush: true }), "is damaged: DuckDB can't open it");
    await s3.send(new DeleteObjectCommand(object));
    await handlers.sink({ flush: true });
    s3.destroy();
    expect(await ask("SELECT * FROM pages ORDER BY ALL")).toEqual(before);
  });

  test("a state that was restored to an earlier time than the results is refused", async () => {
    const dynamoDb = new DynamoDBClient({});
    const TableName = env.MILLPOND_STATE_TABLE!;
    await handlers.take(RECORDS.slice(0, 50));
    await handlers.sink();
    const { Items = [] } = await dynamoDb.send(new ScanCommand({ TableName }));
    await handlers.take(RECORDS.slice(50, 100));
    await handlers.sink();
    for (const Item of Items) await dynamoDb.send(new PutItemCommand({ TableName, Item }));
    dynamoDb.destroy();
    const restored = handlersOf(clicksPipeline());
    await restored.take(RECORDS.slice(100, 150));
    await says(restored.sink(), "the state was restored to an earlier time");
  });

  test("records that were given up are sent again as an object", async () => {
    await handlers.take(RECORDS.slice(0, 50));
    const lost = RECORDS.slice(50, 60);
    await handlers.take(RECORDS.slice(60, 70));
    // By hand into the function they would be taken for a redelivery, which they are not.
    await handlers.take(lost);
    expect(handlers.lines.at(-1)).toMatchObject({ Redelivered: 10 });
    const lines = lost.map(({ value }) => `${value ?? ""}\n`).join("");
    const ingest = makeIngest({ pipeline: clicksPipeline(), env, write: () => undefined });
    const Key = "incoming/clicks/again-1.ndjson";
    const s3 = new S3Client({ forcePathStyle: true });
    await s3.send(new PutObjectCommand({ Bucket: env.MILLPOND_BUCKET, Key, Body: lines }));
    s3.destroy();
    const detail = { bucket: { name: env.MILLPOND_BUCKET }, object: { key: Key } };
    await ingest({ "detail-type": "Object Created", detail }, context);
    await handlers.sink({ flush: true });
    const [row] = await ask("SELECT records, events FROM accounting WHERE kind = 'stream'");
    const sent = lost.filter(({ value }) => typeof value === "string").length;
    expect(row).toMatchObject({ records: 60 + sent });
  });

  test("a full outbox: the processor stops, and goes on when the sink has taken it", async () => {
    const bed = await SinkBed.create();
    try {
      const own = handlersOf(clicksPipeline(), { stores: bed.stores() });
      const records = clickRecords(OUTBOX_COMMITS + 1);
      for (const record of records.slice(0, OUTBOX_COMMITS)) await own.take([record]);
      const last = records.slice(OUTBOX_COMMITS);
      await says(own.take(last), "commits of");
      expect(PAGE).toContain("that the sink has not taken");
      await own.sink();
      await own.take(last);
    } finally {
      await bed.remove();
    }
  });
});

/** Fails with this, and the page quotes it. */
async function says(work: Promise<unknown>, quote: string): Promise<void> {
  const error = await work.then(
    () => new TypeError("nothing failed"),
    (cause: unknown) => cause,
  );
  if (process.env.SHOW !== undefined) console.log(String(error));
  expect(String(error)).toContain(quote);
  expect(PAGE).toContain(quote);
}

function renamed(pipeline: Pipeline): Pipeline {
  return { ...pipeline, definition: { ...pipeline.definition, name: "clicks-again" } };
}
