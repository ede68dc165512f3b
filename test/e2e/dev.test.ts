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
import {
  makeLines,
  PARTITIONS,
  pipelineText,
  produce,
  reference,
  results,
  SEED,
} from "./support/dev-events.js";

const missing = await setUpKafka();
const dir = testDir("dev");
/** Opens a database between two moments of the sink's. */
async function hold(file: string): Promise<DuckDBInstance> {
  const giveUpAt = Date.now() + 30_000;
  for (;;) {
    try {
      return await DuckDBInstance.create(file, { access_mode: "READ_ONLY" });
    } catch (error) {
      if (Date.now() > giveUpAt) throw error;
    }
  }
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

  test(`makes a missing topic, and the tables that SQL makes (seed ${SEED})`, async () => {
    const { topic, file, out } = setUp();
    const lines = makeLines(4_000);
    const process = dev(file, "--out", out, "--pollers", "2");
    await process.heard("started", ({ kind }) => kind === "started");
    expect(await client.offsets(topic)).toHaveLength(PARTITIONS);
    const half = Math.floor(lines.length / 2);
    await produce(client, topic, lines.slice(0, half));
    await process.caughtUp(half);
    // A process that is killed continues where it stood.
    await process.kill();
    await produce(client, topic, lines.slice(half));
    const second = dev(file, "--out", out);
    await second.caughtUp(lines.length);
    expect(await second.interrupt()).toBe(0);
    expect(second.lines.at(-1)).toMatchObject({ kind: "stopped" });
    expect(second.lines.filter(({ kind }) => kind === "trouble")).toEqual([]);
    expect(await results(out)).toEqual(await reference(dir, lines));
  });

  test("restarts when the file changes; a changed definition gets an answer", async () => {
    const { topic, file, out } = setUp();
    const lines = makeLines(500);
    const process = dev(file, "--out", out);
    await process.heard("started", ({ kind }) => kind === "started");
    await produce(client, topic, lines);
    await process.caughtUp(lines.length);

    let from = process.lines.length;
    fs.appendFileSync(file, "// another comment\n");
    await process.heard("restarted", ({ kind }) => kind === "restarted", from);

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
    await produce(client, topic, lines);
    await process.heard("all", (line) => line.records === 2 * lines.length, from);
    expect(await process.interrupt()).toBe(0);
    // The same ids again, which are too old to tell.
    expect(await results(out)).toEqual(await reference(dir, [...lines, ...lines]));
  });

  test("without --out, each definition has an output and begins at the beginning", async () => {
    const { topic, file } = setUp();
    const lines = makeLines(500);
    await client.createTopic(topic, { partitions: PARTITIONS });
    await produce(client, topic, lines);
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
    const { counts } = await reference(dir, lines);
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

  test("says when another program holds the results, and goes on when it lets go", async () => {
    const { topic, file, out } = setUp();
    const lines = makeLines(300);
    const process = dev(file, "--out", out);
    await process.heard("started", ({ kind }) => kind === "started");
    await process.heard("a look", ({ kind }) => kind === "status");
    const holder = await hold(path.join(out, "results.duckdb"));
    await produce(client, topic, lines);
    await process.heard("held", (line) => /another process has had/.test(line.message ?? ""));
    holder.closeSync();
    await process.caughtUp(lines.length);
    expect(await process.interrupt()).toBe(0);
    expect(await results(out)).toEqual(await reference(dir, lines));
  });

  test("ends on Ctrl-C while the broker is away, and continues when it is back", async () => {
    const { topic, file, out } = setUp();
    const lines = makeLines(300);
    const process = dev(file, "--out", out);
    await process.heard("started", ({ kind }) => kind === "started");
    await produce(client, topic, lines);
    await process.caughtUp(lines.length);
    await kafka.kill();
    try {
      await process.heard("trouble", ({ kind }) => kind === "trouble");
      const began = performance.now();
      expect(await process.interrupt()).toBe(0);
      expect(performance.now() - began).toBeLessThan(15_000);
    } finally {
      await kafka.restart();
    }
    const again = dev(file, "--out", out);
    await produce(client, topic, lines);
    await again.heard("all", ({ records }) => records === 2 * lines.length);
    expect(await again.interrupt()).toBe(0);
    expect(await results(out)).toEqual(await reference(dir, [...lines, ...lines]));
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
