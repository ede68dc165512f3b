/**
 * The medallion end to end: files dropped and topics fed while `millpond dev` runs, is killed and
 * comes back; both tables held against SQL over the input, by three readers.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { KafkaClient } from "../../lib/sources/kafka/client.js";
import { connectKafka } from "../../lib/sources/kafka/kafkajs-client.js";
import { deltalake, setUpDeltalake } from "../integration/deltalake.js";
import { setUpKafka, startKafka, type TestKafka } from "../servers/kafka.js";
import { setUpSpark, spark } from "../servers/spark.js";
import { millpond, succeed, testDir } from "./support/cli.js";
import { DevProcess } from "./support/dev.js";
import { produce } from "./support/dev-events.js";
import {
  expectedTables,
  FILES_PARTITION,
  fileLines,
  type Line,
  PARTITIONS,
  type Rows,
  topicLines,
} from "./support/medallion.js";

const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);
const PIPELINE = fileURLToPath(new URL("../../pipelines/medallion.ts", import.meta.url));
const SPARK_PROGRAM = path.join(import.meta.dirname, "support", "medallion-spark.py");
const COLUMNS = {
  bronze_files: ["offset", "reading_id", "site", "temperature", "humidity", "at"],
  silver: [
    ...["partition", "offset", "reading_id", "site", "temperature", "fahrenheit", "at"],
    "late",
  ],
};

const missing = (await setUpKafka()) ?? (await setUpDeltalake()) ?? (await setUpSpark());
const dir = testDir("medallion");

describe.skipIf(missing !== null)(`medallion${missing ? ` (skipped: ${missing})` : ""}`, () => {
  const incoming = path.join(dir, "incoming");
  const out = path.join(dir, "out");
  /** What came from files, in the order in which they were dropped. */
  const fromFiles: Line[] = [];
  let lines: Line[] = [];
  let modifiedS = Math.floor(Date.now() / 1000) - 10_000;
  let kafka: TestKafka;
  let client: KafkaClient;
  let running: DevProcess | null = null;
  const troubles: string[] = [];

  beforeAll(async () => {
    fs.mkdirSync(path.join(incoming, "2025", "06"), { recursive: true });
    kafka = await startKafka();
    client = await connectKafka({ brokers: [kafka.bootstrap], auth: { kind: "plaintext" } });
  });
  afterAll(async () => {
    await running?.kill();
    await client?.close();
    await kafka?.stop();
  });

  /** As a producer should: written elsewhere, then renamed. */
  function drop(name: string, content: string | Buffer, records: readonly string[]): void {
    const part = path.join(dir, "part");
    fs.writeFileSync(part, content);
    fs.utimesSync(part, modifiedS, modifiedS);
    modifiedS += 1;
    fs.renameSync(part, path.join(incoming, name));
    fromFiles.push(...records.map((text) => ({ partition: FILES_PARTITION, text })));
  }

  const dropLines = (name: string, records: readonly string[]) =>
    drop(name, records.map((line) => `${line}\n`).join(""), records);

  function dev(): DevProcess {
    const files = ["--files", `sensor_files=${incoming}`];
    const kafkaFlags = ["--bootstrap", kafka.bootstrap, "--partitions", String(PARTITIONS)];
    running = new DevProcess([PIPELINE, "--out", out, ...files, ...kafkaFlags]);
    return running;
  }

  function dropFormats(): void {
    const array = fileLines(SEED, "array", 40, true);
    drop(
      "array.json",
      JSON.stringify(
        array.map((text) => JSON.parse(text)),
        null,
        2,
      ),
      array,
    );
    const [document = ""] = fileLines(SEED + 1, "document", 1, true);
    drop("2025/06/document.json", JSON.stringify(JSON.parse(document), null, 2), [document]);
    const zipped = fileLines(SEED + 2, "zipped", 80);
    drop("zipped.ndjson.gz", gzipSync(zipped.join("\n")), zipped);
    drop("empty.ndjson", "", []);
  }

  test(`takes files and records once each, over a crash (seed ${SEED})`, async () => {
    const topic = topicLines(SEED, 3_000);
    dropFormats();
    const first = dev();
    await first.heard("started", ({ kind }) => kind === "started");
    await produce(client, "sensor_data", topic.slice(0, 1_500));
    for (let n = 0; n < 10; n++) dropLines(`first-${n}.ndjson`, fileLines(SEED + n, `a${n}`, 60));
    await first.heard("some records", ({ records = 0 }) => records > 1_600);
    await first.kill();

    for (let n = 0; n < 5; n++) dropLines(`second-${n}.jsonl`, fileLines(SEED + n, `b${n}`, 60));
    drop("garbage.json", Buffer.from([0, 255, 1, 2]), ["\u0000\ufffd"]);
    fs.writeFileSync(path.join(incoming, "slow.ndjson.part"), '{"reading_id":"half');
    const second = dev();
    await produce(client, "sensor_data", topic.slice(1_500));
    lines = [...fromFiles, ...topic];
    await second.caughtUp(lines.length);
    expect(second.lines.filter(({ kind }) => kind === "trouble")).toEqual([]);

    // What was taken stays as it is, and what cannot be read is said.
    fs.appendFileSync(path.join(incoming, "first-3.ndjson"), `${fileLines(1, "late", 1)[0]}\n`);
    fs.writeFileSync(path.join(incoming, "notes.txt"), "remember the milk");
    await second.heard("changed", ({ message = "" }) =>
      /first-3.*content has changed/.test(message),
    );
    await second.heard("no format", ({ message = "" }) => /notes.txt.*no format/.test(message));
    await second.caughtUp(lines.length);
    expect(await second.interrupt()).toBe(0);
    troubles.push(...second.lines.flatMap(({ message = "" }) => message));
  });

  test("holds the rows that SQL makes of the input, whoever reads them", async () => {
    const expected = await expectedTables(dir, lines);
    const query = (sql: string): Rows =>
      JSON.parse(succeed("query", "--out", out, "--json", sql).stdout);
    const select = (table: "bronze_files" | "silver") => {
      const names = COLUMNS[table].map((name) =>
        name === "at" ? "epoch_ms(event_time)::VARCHAR AS at" : `"${name}"`,
      );
      return query(`SELECT ${names.join(", ")} FROM ${table} ORDER BY partition, "offset"`);
    };
    expect(select("bronze_files")).toEqual(expected.bronze);
    expect(select("silver")).toEqual(expected.silver);
    expect(expected.silver.filter(({ late }) => late).length).toBeGreaterThan(50);
    const counts = query(
      "SELECT (SELECT count(*)::INT FROM bronze) AS raw, " +
        "(SELECT count(*)::INT FROM dead_letters) AS dead",
    );
    expect(counts).toEqual([{ raw: lines.length, dead: expected.deadLetters[0]?.n }]);

    const lake = path.join(out, "lake");
    const bySpark = await spark(SPARK_PROGRAM, lake, JSON.stringify(COLUMNS));
    const sorted = { bronze_files: expected.bronze, silver: expected.silver };
    expect(inOrder(bySpark)).toEqual(sorted);
    expect(inOrder(await deltalake(lake, DELTALAKE_PROGRAM, JSON.stringify(COLUMNS)))).toEqual(
      sorted,
    );
  });

  test("shows the newest records, also as they were at an older version", () => {
    const read = (...args: string[]): Rows =>
      JSON.parse(succeed("read", ...args, "--out", out, "--json").stdout);
    const newest = read("silver", "--limit", "5");
    const times = read("silver", "--limit", "100000").map(({ event_time: at }) => String(at));
    expect(newest.map(({ event_time: at }) => at)).toEqual(times.slice(0, 5));
    expect(times).toEqual([...times].sort().reverse());
    expect(read("bronze")).toHaveLength(20);
    expect(read("silver", "--as-of", "0")).toEqual([]);
    const some = read("silver", "--as-of", "1", "--limit", "100000");
    expect(some.length).toBeGreaterThan(0);
    expect(some.length).toBeLessThan(times.length);
    const none = millpond("read", "gold", "--out", out);
    expect([none.status, none.stderr]).toEqual([
      2,
      expect.stringMatching(/no table "gold".*bronze_files, silver, late, dead_letters, bronze/),
    ]);
    const never = millpond("read", "silver", "--out", out, "--as-of", "9999");
    expect([never.status, never.stderr]).toEqual([2, expect.stringMatching(/no version 9999/)]);
  });
});

const DELTALAKE_PROGRAM = `
import pyarrow as pa, pyarrow.compute as pc
tables = {}
for name, columns in json.loads(args[0]).items():
    rows = DeltaTable(os.path.join(table_dir, name)).to_pyarrow_table()
    millis = pc.divide(rows["event_time"].cast(pa.int64()), 1000).cast(pa.string())
    tables[name] = rows.append_column("at", millis).select(columns).to_pylist()
print(json.dumps(tables))`;

/** Rows by partition and offset, which is how they were written; zeros without a sign. */
function inOrder(tables: unknown): Record<string, Rows> {
  const at = (row: Rows[number]) => Number(row.partition ?? 0) * 1e9 + Number(row.offset);
  const found: Record<string, Rows> = JSON.parse(JSON.stringify(tables));
  return Object.fromEntries(
    Object.entries(found).map(([name, rows]) => [name, [...rows].sort((a, b) => at(a) - at(b))]),
  );
}
