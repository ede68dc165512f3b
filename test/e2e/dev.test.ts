/** `millpond dev` end to end: a real broker, the CLI as a process, results held against SQL. */
import * as fs from "node:fs";
import * as path from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { KafkaClient } from "../../lib/sources/kafka/client.js";
import { connectKafka } from "../../lib/sources/kafka/kafkajs-client.js";
import { setUpKafka, startKafka, type TestKafka } from "../servers/kafka.js";
import { millpond, testDir, write } from "./support/cli.js";
import { DevProcess } from "./support/dev.js";
import { rowsOf } from "./support/outputs.js";

const missing = await setUpKafka();
const dir = testDir("dev");
const PARTITIONS = 3;
const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);
/** Event times begin here; the lateness of the pipeline is a minute. */
const BASE_MS = Date.UTC(2026, 0, 1);

const pipelineText = (topic: string, every = 1): string => `
import * as m from "millpond";
const { count, countDistinct, minutes, pipeline, stream, string, timestamp, tumbling } = m;

const events = stream("${topic}", {
  schema: { id: string(), user: string(), page: string(), at: timestamp() },
  key: "user", eventTime: "at", lateness: minutes(1), dedup: "id",
});

export default pipeline("dev_test", {
  pages: events.groupBy("page").window(tumbling(minutes(${every})))
    .aggregate({ views: count(), users: countDistinct("user") }),
  all_events: events.rows(),
});
`;

/** mulberry32: small, and the same everywhere. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

interface Line {
  readonly partition: number;
  readonly text: string;
}

/** Out of order, late, twice, or no JSON; each partition's last one closes all windows. */
function makeLines(n: number): Line[] {
  const random = randomOf(SEED);
  const lines: Line[] = [];
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const own: string[] = [];
    for (let i = 0; i < n; i++) {
      const dice = random(100);
      if (dice < 5 && own.length > 0) own.push(own[Math.max(0, own.length - 1 - random(20))]!);
      else if (dice < 7) own.push(`{"id":"broken-${i}`);
      else {
        const behindMs = dice < 10 ? 300_000 + random(300_000) : random(50_000);
        const at = new Date(BASE_MS + i * 200 - behindMs).toISOString();
        const user = `u${partition}-${random(40)}`;
        own.push(JSON.stringify({ id: `${partition}-${i}`, user, page: `/${random(8)}`, at }));
      }
    }
    const at = new Date(BASE_MS + 7_200_000).toISOString();
    own.push(JSON.stringify({ id: `end-${partition}`, user: `u${partition}-0`, page: "/end", at }));
    lines.push(...own.map((text) => ({ partition, text })));
  }
  return lines;
}

/** The same from the lines by SQL alone, with the watermark of each event in its partition. */
async function reference(lines: readonly Line[]) {
  const file = write(
    path.join(dir, `reference-${Math.random()}.ndjson`),
    lines.map((line, i) => `${JSON.stringify({ ...line, i })}\n`).join(""),
  );
  const instance = await DuckDBInstance.create(":memory:", { threads: "1" });
  const connection = await instance.connect();
  const rows = async (sql: string) => (await connection.runAndReadAll(sql)).getRowObjectsJson();
  try {
    await connection.run("SET TimeZone = 'UTC'");
    await connection.run(`
      CREATE TABLE events AS
      WITH decoded AS (
        SELECT partition, i, json->>'id' AS id, json->>'user' AS user, json->>'page' AS page,
          (json->>'at')::TIMESTAMPTZ AS happened
        FROM (SELECT *, TRY_CAST(text AS JSON) AS json FROM read_json('${file}',
          columns = {partition: 'INT', i: 'INT', text: 'VARCHAR'})) WHERE json IS NOT NULL),
      marked AS (
        SELECT *, max(happened) OVER (PARTITION BY partition ORDER BY i
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - INTERVAL 1 MINUTE AS watermark,
          row_number() OVER (PARTITION BY partition, id ORDER BY i) > 1 AS seen
        FROM decoded)
      -- An id is known for as long as the longest window.
      SELECT *, seen AND happened >= watermark - INTERVAL 1 MINUTE AS again,
        date_trunc('minute', happened) AS window_start,
        window_start + INTERVAL 1 MINUTE <= coalesce(watermark, '-infinity') AS late
      FROM marked`);
    return {
      pages: await rows(`SELECT window_start, page, count(*) AS views, count(DISTINCT user) AS users
        FROM events WHERE NOT again AND NOT late AND page <> '/end' GROUP BY ALL ORDER BY ALL`),
      counts: await rows(`SELECT count(*) FILTER (NOT again) AS "all_events",
        count(*) FILTER (NOT again AND late) AS late, (SELECT ${lines.length}) - count(*) AS dead
        FROM events`),
    };
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

async function results(out: string) {
  return {
    pages: await rowsOf(
      out,
      `SELECT window_start, page, views, users FROM {db}.pages WHERE page <> '/end' ORDER BY ALL`,
    ),
    counts: await rowsOf(
      out,
      `SELECT (SELECT count(*) FROM {db}.all_events) AS "all_events",
        (SELECT count(*) FROM {db}.late) AS late, (SELECT count(*) FROM {db}.dead_letters) AS dead`,
    ),
  };
}

describe.skipIf(missing !== null)(`millpond dev${missing ? ` (${missing})` : ""}`, () => {
  let kafka: TestKafka;
  let client: KafkaClient;
  let topics = 0;
  const running: DevProcess[] = [];

  beforeAll(async () => {
    kafka = await startKafka();
    client = await connectKafka({ brokers: [kafka.bootstrap], auth: { kind: "plaintext" } });
  });
  afterEach(async () => {
    for (const dev of running.splice(0)) await dev.kill();
  });
  afterAll(async () => {
    await client?.close();
    await kafka?.stop();
  });

  function setUp() {
    const topic = `dev_${topics++}`;
    const file = write(path.join(dir, topic, "pipeline.ts"), pipelineText(topic));
    return { topic, file, out: path.join(dir, topic, "out") };
  }

  function dev(file: string, ...args: string[]): DevProcess {
    const more = ["--partitions", String(PARTITIONS), ...args];
    const started = new DevProcess([file, "--bootstrap", kafka.bootstrap, ...more]);
    running.push(started);
    return started;
  }

  async function produce(topic: string, lines: readonly Line[]): Promise<void> {
    const producer = await client.producer();
    for (let from = 0; from < lines.length; from += 1_000) {
      const messages = lines.slice(from, from + 1_000);
      await producer.send(
        topic,
        messages.map(({ partition, text }) => ({ key: `k${partition}`, value: text, partition })),
      );
    }
    await producer.close();
  }

  test(`makes a missing topic, and the tables that SQL makes (seed ${SEED})`, async () => {
    const { topic, file, out } = setUp();
    const lines = makeLines(4_000);
    const process = dev(file, "--out", out, "--pollers", "2");
    await process.heard("started", ({ kind }) => kind === "started");
    expect(await client.offsets(topic)).toHaveLength(PARTITIONS);
    const half = Math.floor(lines.length / 2);
    await produce(topic, lines.slice(0, half));
    await process.caughtUp(half);
    // A process that is killed continues where it stood.
    await process.kill();
    await produce(topic, lines.slice(half));
    const second = dev(file, "--out", out);
    await second.caughtUp(lines.length);
    expect(await second.interrupt()).toBe(0);
    expect(second.lines.at(-1)).toMatchObject({ kind: "stopped" });
    expect(second.lines.filter(({ kind }) => kind === "trouble")).toEqual([]);
    expect(await results(out)).toEqual(await reference(lines));
  });

  test("restarts within 2 s of a change; a changed definition gets an answer", async () => {
    const { topic, file, out } = setUp();
    const lines = makeLines(500);
    const process = dev(file, "--out", out);
    await process.heard("started", ({ kind }) => kind === "started");
    await produce(topic, lines);
    await process.caughtUp(lines.length);

    let from = process.lines.length;
    const changedAt = performance.now();
    fs.appendFileSync(file, "// another comment\n");
    await process.heard("restarted", ({ kind }) => kind === "restarted", from);
    expect(performance.now() - changedAt).toBeLessThan(2_000);

    from = process.lines.length;
    fs.writeFileSync(file, pipelineText(topic, 5));
    const refusal = await process.heard("refused", ({ kind }) => kind === "trouble", from);
    expect(refusal.message).toMatch(/another version of pipeline.*table "pages".*--out/);
    await process.heard("waiting", ({ kind }) => kind === "waiting", from);

    from = process.lines.length;
    fs.writeFileSync(file, "export default 1 +;\n");
    await process.heard("broken", (line) => /pipeline.ts:1/.test(line.message ?? ""), from);
    fs.writeFileSync(file, pipelineText(topic));
    await process.heard("restarted", ({ kind }) => kind === "restarted", from);
    await produce(topic, lines);
    await process.heard("all", (line) => line.records === 2 * lines.length, from);
    expect(await process.interrupt()).toBe(0);
    // The same ids again, which are too old to tell.
    expect(await results(out)).toEqual(await reference([...lines, ...lines]));
  });

  test("without --out, each definition has an output and begins at the beginning", async () => {
    const { topic, file } = setUp();
    const lines = makeLines(500);
    await client.createTopic(topic, { partitions: PARTITIONS });
    await produce(topic, lines);
    const cwd = process.cwd();
    process.chdir(dir);
    const child = dev(file);
    process.chdir(cwd);
    const first = await child.heard("started", ({ kind }) => kind === "started");
    await child.caughtUp(lines.length);
    const from = child.lines.length;
    fs.writeFileSync(file, pipelineText(topic, 5));
    const second = await child.heard("restarted", ({ kind }) => kind === "restarted", from);
    const isAll = (line: { records?: number }) => line.records === lines.length;
    await child.heard("all again", isAll, child.lines.indexOf(second));
    expect(await child.interrupt()).toBe(0);
    expect(second.out).not.toBe(first.out);
    const { counts } = await reference(lines);
    for (const { out } of [first, second]) {
      const [found] = (await results(path.join(dir, out!))).counts;
      expect(found).toMatchObject({ dead: counts[0]!.dead });
    }
  });

  test("results can be queried while it runs", async () => {
    const { file, out } = setUp();
    const process = dev(file, "--out", out, "--simulate", "activity", "--rate", "300");
    await process.heard("records", ({ records = 0 }) => records > 500);
    for (let i = 0; i < 8; i++) {
      const { status, stdout, stderr } = millpond(
        ...[
          "query",
          "--out",
          out,
          "--json",
          "SELECT records, dead_letters FROM accounting LIMIT 1",
        ],
      );
      expect([status, stderr]).toEqual([0, ""]);
      expect(Number(JSON.parse(stdout)[0].records)).toBeGreaterThan(0);
    }
    // The queries held nothing up for good.
    const from = process.lines.length;
    await process.heard("more", ({ kind }) => kind === "status", from);
    expect(await process.interrupt()).toBe(0);
  });

  test("says what is wrong when it starts, and ends", async () => {
    const { file, out } = setUp();
    const nobody = millpond("dev", file, "--bootstrap", "127.0.0.1:1", "--out", out);
    expect(nobody.status).toBe(3);
    expect(nobody.stderr).toMatch(/Kafka at 127.0.0.1:1: cannot create topic.*brokers run/);
    const first = dev(file, "--out", out);
    await first.heard("started", ({ kind }) => kind === "started");
    const second = millpond("dev", file, "--bootstrap", kafka.bootstrap, "--out", out);
    expect(second.status).toBe(4);
    expect(second.stderr).toMatch(/another run is writing/);
    const unknown = millpond("dev", file, "--simulate", "nowhere=activity");
    expect(unknown.status).toBe(2);
    expect(await first.interrupt()).toBe(0);
  });
});
