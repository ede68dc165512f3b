/**
 * The deployed stack at work, a step after the other: what the CDK made, events in by the producer,
 * the sink woken by the table's stream, results equal to the reference, answers by the query.
 */
import { DynamoDBClient, QueryCommand } from "@aws-sdk/client-dynamodb";
import { GetFunctionConfigurationCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { ListObjectsV2Command, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import activity from "../../pipelines/activity.js";
import { fetchResults } from "../integration/support/aws-results.js";
import { differencesFromReference, Workspace, withResults } from "../integration/support/check.js";
import { readRows } from "../reference/rows.js";
import { Cloud, saveTopic, setUpCloud } from "./cloud.js";

const missing = await setUpCloud();
const title = missing === null ? "the deployed stack" : `the deployed stack (skipped: ${missing})`;
const TOPIC = "user_activity";
const EVENTS = Number(process.env.EVENTS ?? 1_000_000);
/** The reference alone takes minutes over a million events. */
const LONG_MS = 1_200_000;
const WAIT = { timeout: 120_000, interval: 500 } as const;

describe.skipIf(missing !== null)(title, () => {
  let cloud: Cloud;
  let workspace: Workspace;
  let out: string;
  let records = 0;
  const before = { ...process.env };

  beforeAll(async () => {
    workspace = await Workspace.create();
    cloud = await Cloud.start({ pipeline: "pipelines/activity.ts" });
  });
  afterAll(async () => {
    process.env = before;
    await cloud?.stop();
    await workspace?.remove();
  });

  /** A query through the deployed function. */
  async function ask(sql: string): Promise<Record<string, unknown>[]> {
    const answer = await cloud.invoke("QueryFunction", { sql, format: "json" });
    const { statusCode, body } = answer as { statusCode: number; body: string };
    if (statusCode !== 200) throw new TypeError(`status ${statusCode}: ${body}`);
    return JSON.parse(body);
  }

  async function keys(prefix: string): Promise<string[]> {
    const client = new S3Client({ forcePathStyle: true });
    const Bucket = cloud.output("Bucket");
    const { Contents = [] } = await client.send(
      new ListObjectsV2Command({ Bucket, Prefix: prefix }),
    );
    client.destroy();
    return Contents.map(({ Key = "" }) => Key);
  }

  /** CloudWatch's answer as text: the emulator writes times in a way that the SDK can't read. */
  async function cloudwatch(action: string): Promise<string> {
    const scope = "test/20260101/us-east-1/monitoring/aws4_request";
    const response = await fetch(cloud.aws.endpoint, {
      method: "POST",
      headers: { authorization: `AWS4-HMAC-SHA256 Credential=${scope}` },
      body: new URLSearchParams({ Action: action, Version: "2010-08-01" }),
    });
    return await response.text();
  }

  test("alarms and dashboard are there", async () => {
    const alarms = (await cloudwatch("DescribeAlarms")).match(/<AlarmName>/g) ?? [];
    expect(alarms.length).toBeGreaterThanOrEqual(10);
    expect(await cloudwatch("ListDashboards")).toContain(cloud.output("DashboardName"));
  });

  test(
    "the producer sends to the topic that the deploy made",
    async () => {
      const produced = await cloud.invoke("Producer", {
        simulator: "activity",
        events: EVENTS,
        start: "2026-01-01T00:00:00Z",
        // So that an hour and more passes in event time, and windows close.
        eventRate: EVENTS / 5_000,
        late: 0.01,
        duplicates: 0.01,
        malformed: 0.001,
        outOfOrderMs: 60_000,
      });
      expect(produced).toMatchObject({ topic: TOPIC, done: true });
      records = await saveTopic(cloud.kafka.bootstrap, TOPIC, workspace.input(TOPIC));
      expect(produced).toMatchObject({ sent: records });
      expect(records).toBeGreaterThanOrEqual(EVENTS);
    },
    LONG_MS,
  );

  test(
    "the processor, invoked through Lambda's API, leaves watermark and state",
    async () => {
      const mapping = await cloud.poll([TOPIC]);
      await expect.poll(() => mapping.stats().delivered, WAIT).toBe(records);
      await mapping.stop();
      expect(mapping.stats().failures).toBe(0);
      const client = new DynamoDBClient({});
      const { Items = [] } = await client.send(
        new QueryCommand({
          TableName: cloud.output("StateTable"),
          KeyConditionExpression: "pipeline = :p AND begins_with(#n, :prefix)",
          ExpressionAttributeNames: { "#n": "name" },
          ExpressionAttributeValues: {
            ":p": { S: "activity" },
            ":prefix": { S: `partitions/${TOPIC}/` },
          },
        }),
      );
      client.destroy();
      expect(Items).toHaveLength(4);
      const attributes = Items.map((item) => JSON.parse(item.attributes?.S ?? "{}"));
      const offsets = attributes.map(({ nextOffset }) => Number(nextOffset));
      expect(offsets.reduce((sum, offset) => sum + offset, 0)).toBe(records);
      expect(JSON.stringify(attributes[0])).toContain("maxEventTime");
    },
    LONG_MS,
  );

  /** Messages that a function has logged, as CloudWatch Logs keeps them. */
  async function logged(output: string): Promise<string[]> {
    const lambda = new LambdaClient({});
    const { LoggingConfig } = await lambda.send(
      new GetFunctionConfigurationCommand({ FunctionName: cloud.output(output) }),
    );
    lambda.destroy();
    const scope = "test/20260101/us-east-1/logs/aws4_request";
    const response = await fetch(cloud.aws.endpoint, {
      method: "POST",
      headers: {
        authorization: `AWS4-HMAC-SHA256 Credential=${scope}`,
        "content-type": "application/x-amz-json-1.1",
        "x-amz-target": "Logs_20140328.FilterLogEvents",
      },
      body: JSON.stringify({ logGroupName: LoggingConfig?.LogGroup }),
    });
    const { events = [] } = (await response.json()) as { events?: { message: string }[] };
    return events.flatMap(({ message }) => message.split("\n"));
  }

  test("the processor's metrics are in its log, in CloudWatch's format", async () => {
    const lines = (await logged("Processor")).filter((line) => line.includes("CloudWatchMetrics"));
    const documents = lines.map((line) => JSON.parse(line.slice(line.indexOf("{"))));
    const read = documents.flatMap(({ RecordsRead = [] }) => RecordsRead);
    expect(read.reduce((sum: number, value: number) => sum + value, 0)).toBe(records);
    expect(documents[0]).toMatchObject({ Pipeline: "activity" });
  });

  test(
    "the sink is woken by the table's stream: results show without being asked for",
    async () => {
      await expect.poll(() => keys("databases/"), WAIT).toEqual(["databases/activity.duckdb"]);
      await expect
        .poll(
          async () => Number((await ask("SELECT count(*) AS n FROM page_view_counts"))[0]?.n),
          WAIT,
        )
        .toBeGreaterThan(0);
    },
    LONG_MS,
  );

  test(
    "after a flush every table equals the reference over the raw topic",
    async () => {
      const flushed = await cloud.invoke("Sink", { flush: true });
      expect(flushed).toMatchObject({ pending: 0 });
      out = workspace.newOutput();
      await fetchResults("activity", cloud.env, out);
      expect(await differencesFromReference(activity, out, workspace)).toBe("");
      const { wrong } = await accounting();
      expect(wrong).toBe(0);
    },
    LONG_MS,
  );

  /** Records of every kind were among them, and they add up. */
  async function accounting(): Promise<{ wrong: number }> {
    const [row = {}] = await withResults([out], (connection) =>
      readRows(
        connection,
        "SELECT records - events - dead_letters AS wrong, dead_letters, records " +
          "FROM run0.main.accounting WHERE kind = 'stream'",
      ),
    );
    expect(Number(row.records)).toBe(records);
    expect(Number(row.dead_letters)).toBeGreaterThan(EVENTS / 2_000);
    return { wrong: Number(row.wrong) };
  }

  test("the lake holds Parquet and a Delta log for every table", async () => {
    for (const table of ["bronze", "page_view_counts", "user_sessions", "dead_letters"]) {
      const found = await keys(`lake/activity/${table}/`);
      expect(found.some((key) => key.endsWith(".parquet"))).toBe(true);
      expect(found.some((key) => /_delta_log\/\d{20}\.json$/.test(key))).toBe(true);
    }
  });

  test("the query's answers are those of the tables", async () => {
    const sql =
      "SELECT page, sum(views)::BIGINT AS views FROM page_view_counts GROUP BY page ORDER BY 1";
    const expected = await withResults([out], (connection) =>
      readRows(connection, sql.replace("page_view_counts", "run0.main.page_view_counts")),
    );
    const plain = (rows: readonly object[]) =>
      rows.map((row) => Object.values(row).map((value) => String(value)));
    expect(plain(await ask(sql))).toEqual(plain(expected));
    await expect(ask("CREATE TABLE x (a INTEGER)")).rejects.toThrow("status 400");
  });

  test(
    "a new object in the bucket becomes rows, once",
    async () => {
      const client = new S3Client({ forcePathStyle: true });
      const lines = [1, 2, 3].map((n) =>
        JSON.stringify({
          event_id: `object-${n}`,
          user_id: "someone",
          page: "/",
          event_type: "purchase",
          amount: n,
          event_time: "2026-01-01T00:00:00Z",
        }),
      );
      await client.send(
        new PutObjectCommand({
          Bucket: cloud.output("Bucket"),
          Key: `incoming/${TOPIC}/new.ndjson`,
          Body: `${lines.join("\n")}\n`,
        }),
      );
      client.destroy();
      const count = async () => {
        await cloud.invoke("Sink", { flush: true });
        const sql = "SELECT count(*) AS n FROM enriched_activity WHERE event_id LIKE 'object-%'";
        return Number((await ask(sql))[0]?.n);
      };
      await expect.poll(count, { timeout: 60_000, interval: 1_000 }).toBe(3);
    },
    LONG_MS,
  );
});
