/**
 * The clickstream end to end: Kafka, `millpond dev` that is killed on the way, and Snowflake's own
 * driver; what the account holds is held against SQL over the records that were sent.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadPipeline } from "../../lib/runtime/load-pipeline.js";
import { tableLayouts } from "../../lib/sinks/layouts.js";
import type { TableLayout } from "../../lib/sinks/sink.js";
import type { KafkaClient } from "../../lib/sources/kafka/client.js";
import { connectKafka } from "../../lib/sources/kafka/kafkajs-client.js";
import { plainSql } from "../contract/sinks-batches.js";
import { compareRows } from "../contract/sinks-script.js";
import { referenceTables } from "../reference/reference.js";
import { setUpKafka, startKafka, type TestKafka } from "../servers/kafka.js";
import { setUpSnowflake, startSnowflake, type TestSnowflake } from "../servers/snowflake.js";
import { querySnowflake, readSnowflake } from "../servers/snowflake-reader.js";
import { succeed, testDir } from "./support/cli.js";
import { DevProcess } from "./support/dev.js";
import { produce } from "./support/dev-events.js";

const TOPIC = "clickstream";
const PARTITIONS = 3;
const EVENTS = 4_000;
const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);
const PIPELINE = fileURLToPath(new URL("../../pipelines/clickstream.ts", import.meta.url));

const missing = (await setUpKafka()) ?? (await setUpSnowflake());
const dir = testDir("clickstream");

describe.skipIf(missing !== null)(`clickstream${missing ? ` (skipped: ${missing})` : ""}`, () => {
  let kafka: TestKafka;
  let snowflake: TestSnowflake;
  let client: KafkaClient;
  let running: DevProcess | null = null;

  beforeAll(async () => {
    [kafka, snowflake] = await Promise.all([startKafka(), startSnowflake()]);
    client = await connectKafka({ brokers: [kafka.bootstrap], auth: { kind: "plaintext" } });
  });
  afterAll(async () => {
    await running?.kill();
    await client?.close();
    await Promise.all([kafka?.stop(), snowflake?.stop()]);
  });

  /** Simulated partitions as files; the last record of each closes what is open before it. */
  function simulate() {
    const chances = ["--late", "0.02", "--duplicates", "0.02", "--malformed", "0.01"];
    const size = ["--events", String(EVENTS), "--partitions", String(PARTITIONS), "--rate", "1"];
    succeed("simulate", TOPIC, ...size, ...chances, "--seed", String(SEED), "--out", dir);
    return Array.from({ length: PARTITIONS }, (_, partition) => {
      const file = path.join(dir, `part-0${partition}.ndjson`);
      const last = {
        ...{ event_id: `end-${partition}`, user_id: "end", session_id: "end", page: "/end" },
        ...{ event_type: "page_view", referrer: null, device: { browser: "none", os: "none" } },
        ...{ amount: null, event_time: new Date(lastMs(file) + 86_400_000).toISOString() },
      };
      fs.appendFileSync(file, `${JSON.stringify(last)}\n`);
      return { path: file, topic: TOPIC, partition };
    });
  }

  function lastMs(file: string): number {
    const times = fs.readFileSync(file, "utf8").match(/(?<="event_time":")[^"]+/g) ?? [];
    return Math.max(...times.map(Date.parse).filter(Number.isFinite));
  }

  function dev(): DevProcess {
    const kafkaFlags = ["--bootstrap", kafka.bootstrap, "--partitions", String(PARTITIONS)];
    const flags = ["--out", path.join(dir, "out"), "--set", "snowflake=true", ...kafkaFlags];
    running = new DevProcess([PIPELINE, ...flags], { ...process.env, ...snowflake.env("CLICKS") });
    return running;
  }

  /** Rows as text, without those of windows that the last records opened. */
  function closed(rows: (string | null)[][], { kind }: TableLayout, endMs: number) {
    const isWindow = kind === "windowed" || kind === "session";
    const before = endMs - 3_600_000;
    return rows.filter(([start]) => !isWindow || Number(start) < before).sort(compareRows);
  }

  test(`Snowflake holds what SQL makes of the records (seed ${SEED})`, async () => {
    const files = simulate();
    const lines = files.flatMap(({ path: file, partition }) =>
      // Byte by byte: some are no UTF-8.
      fs
        .readFileSync(file, "latin1")
        .trimEnd()
        .split("\n")
        .map((text) => ({ partition, text: Buffer.from(text, "latin1") })),
    );
    const first = dev();
    await first.heard("started", ({ kind }) => kind === "started");
    await produce(client, TOPIC, lines);
    await first.heard("some records", ({ records = 0 }) => records > 0);
    await first.kill();
    const second = dev();
    await second.caughtUp(lines.length);
    expect(await second.interrupt()).toBe(0);
    expect(second.lines.filter(({ kind }) => kind === "trouble")).toEqual([]);

    const env = snowflake.env("CLICKS");
    const { definition } = await loadPipeline(PIPELINE, new Map([["snowflake", "true"]]));
    const endMs = Math.max(...files.map(({ path: file }) => lastMs(file)));
    const reference = await referenceTables(definition, { files });
    try {
      for (const layout of tableLayouts(definition).filter(({ kind }) => kind !== "bronze")) {
        // SQL over the files knows no revisions, Kafka timestamps and payloads.
        const { connection } = reference;
        const read = async (sql: string) => (await connection.runAndReadAll(sql)).getRowsJson();
        const names = await read(`SELECT column_name FROM (DESCRIBE main."${layout.name}")`);
        const isKnown = new Set(names.map(([name]) => name));
        const columns = layout.columns.filter(
          ({ name }) => isKnown.has(name) && name !== "timestamp",
        );
        expect(columns.length).toBeGreaterThan(2);
        const expected = await read(
          `SELECT ${columns.map(plainSql).join(", ")} FROM main."${layout.name}"`,
        );
        const texts = expected.map((row) => row.map((v) => (v === null ? null : String(v))));
        const found = closed(await readSnowflake(env, { ...layout, columns }), layout, endMs);
        expect(found.length).toBeGreaterThan(0);
        expect(found).toEqual(closed(texts, layout, endMs));
      }
    } finally {
      reference.close();
    }
    expect(await querySnowflake(env, "SELECT COUNT(*) FROM BRONZE")).toEqual([[`${lines.length}`]]);
  });
});
