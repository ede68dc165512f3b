/**
 * The sinks' contract and what is Kafka's own, against a real broker: what a topic holds is read by
 * kcat, and its values by DuckDB.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { kafkaSink } from "../../lib/sinks/kafka.js";
import { progressTopic } from "../../lib/sinks/kafka-progress.js";
import type { Sink } from "../../lib/sinks/sink.js";
import type { KafkaClient } from "../../lib/sources/kafka/client.js";
import { connectKafka } from "../../lib/sources/kafka/kafkajs-client.js";
import { setUpKafka, startKafka, type TestKafka } from "../servers/kafka.js";
import { kcatLines, missingKcat, readByKcat } from "../servers/kcat.js";
import { Rows } from "./kafka-rows.js";
import { describeSink } from "./sinks.js";
import { batchOf, plainSql, type Row } from "./sinks-batches.js";
import { queryPlain } from "./sinks-readers.js";
import { compareRows, EVERY_TYPE, ORIGIN, ROWS, stream } from "./sinks-script.js";

const missing = (await setUpKafka()) ?? (await missingKcat());

/** How DuckDB reads a column of the records' JSON. */
const JSON_TYPES: Readonly<Record<string, string>> = {
  s: "VARCHAR",
  b: "BOOLEAN",
  i: "INTEGER",
  l: "BIGINT",
  d: "DOUBLE",
  tags: "VARCHAR[]",
  top: 'STRUCT("value" INTEGER, "count" BIGINT)[]',
};

const DECIMALS: Readonly<Record<string, string>> = {
  d4: "DECIMAL(4, 2)",
  d9: "DECIMAL(9, 0)",
  d18: "DECIMAL(18, 18)",
};

function originOf(headers: Readonly<Record<string, string>>) {
  const [topic, partition, offset] = headers["millpond-source"]!.split("/");
  return { topic, partition: Number(partition), offset: Number(offset) };
}

describe.skipIf(missing !== null)(`Kafka sink${missing ? ` (${missing})` : ""}`, () => {
  let kafka: TestKafka;
  let client: KafkaClient;
  let dir: string;
  let topic: string;
  let sink: Sink;
  let topics = 0;

  beforeAll(async () => {
    kafka = await startKafka();
    client = await connectKafka({ brokers: [kafka.bootstrap], auth: { kind: "plaintext" } });
  });
  afterAll(async () => {
    await client?.close();
    await kafka?.stop();
  });
  beforeEach(async () => {
    dir = await mkdtemp(path.join(tmpdir(), "millpond-kafka-sink-"));
    topic = `out_${++topics}`;
    sink = make();
  });
  afterEach(async () => {
    await sink.close();
    await rm(dir, { recursive: true, force: true });
  });

  function make(pipeline = "p", layout = ROWS): Sink {
    const env = { MILLPOND_BOOTSTRAP: kafka.bootstrap };
    return kafkaSink({ env, pipeline, topic, layout, keyColumn: "s", sourceTopic: "none" });
  }

  describeSink({
    name: "kafka",
    tables: [ROWS],
    make: (place, pipeline, [layout]) => {
      topic = path.basename(place);
      return make(pipeline, layout);
    },
    readTable: (place) => readTable(path.basename(place)),
  });

  async function readTable(from = topic): Promise<(string | null)[][]> {
    const records = await readByKcat(kafka.bootstrap, from);
    const file = path.join(dir, "records.ndjson");
    const lines = records.map(({ payload, headers }) => {
      const raw = Object.fromEntries(
        Object.keys(DECIMALS).map((name) => [
          name,
          payload?.match(`"${name}":([^,]*),`)?.[1] ?? null,
        ]),
      );
      return JSON.stringify({ payload, raw, headers: originOf(headers) });
    });
    await writeFile(file, lines.map((line) => `${line}\n`).join(""));
    if (records.length === 0) return [];
    const value = (name: string) => {
      if (name === "raw") return "from_base64(payload->>'raw')";
      // DuckDB takes JSON's decimals for doubles, so their digits are cut out of the text.
      // ISO 8601 has a sign before years of more than four digits; DuckDB wants none.
      if (name === "t") return "ltrim(payload->>'t', '+')::TIMESTAMPTZ";
      const decimal = DECIMALS[name];
      if (decimal !== undefined) return `nullif(raw->>'${name}', 'null')::${decimal}`;
      if (ORIGIN.some((column) => column.name === name)) return `headers->>'${name}'`;
      const type = JSON_TYPES[name]?.replaceAll('"', '\\"');
      return `from_json(payload, '{"${name}":"${type}"}').${name}`;
    };
    const columns = ROWS.columns.map(({ name }) => `${value(name)} AS "${name}"`).join(", ");
    const source = `read_json('${file}', columns = {payload: 'VARCHAR', raw: 'JSON',
      headers: 'JSON'}, maximum_object_size = 100000000)`;
    const select = ROWS.columns.map(plainSql).join(", ");
    const rows = await queryPlain(
      ":memory:",
      `SELECT ${select} FROM (SELECT ${columns} FROM (
        SELECT payload::JSON AS payload, raw, headers FROM ${source}))`,
    );
    return rows.sort(compareRows);
  }

  async function expectRows(rows: Rows): Promise<void> {
    expect(await readTable()).toEqual(rows.expected());
  }

  test("makes a topic of its own", async () => {
    await sink.open();
    expect(await client.offsets(topic)).toHaveLength(4);
  });

  test("refuses a null where none may be, naming table and column", async () => {
    const strict = { ...ROWS, columns: ROWS.columns.map((node) => ({ ...node, nullable: false })) };
    await sink.close();
    sink = make("p", strict);
    await sink.open();
    const { publications } = new Rows().add([EVERY_TYPE[1]!]);
    await expect(sink.apply(stream(publications), 1)).rejects.toThrow(/"events".*"s"/);
  });

  test("keeps each partition's rows in one partition, in their order, with their key", async () => {
    await client.createTopic(topic, { partitions: 2 });
    const rows = new Rows();
    for (let i = 0; i < 20; i++) rows.add([EVERY_TYPE[0]!, EVERY_TYPE[3]!], i % 3);
    await sink.open();
    await sink.apply(stream(rows.publications), 20);
    const records = await readByKcat(kafka.bootstrap, topic);
    expect(records).toHaveLength(40);
    const last = new Map<number, number>();
    for (const { partition, key, payload, headers } of records) {
      const { partition: from, offset } = originOf(headers);
      expect(partition).toBe(from % 2);
      expect(key).toBe(JSON.parse(payload!).s);
      expect(offset).toBeGreaterThan(last.get(from) ?? -1);
      last.set(from, offset);
      const [publication, row] = headers["millpond-publication"]!.split("/").map(Number);
      expect(publication! * 2 - 2 + row!).toBe(offset);
    }
  });

  test("takes a million rows in one call", async () => {
    const rowCount = 50_000;
    const row: Row = ["k", null, 1, null, 0.5, null, null, null, 0, null, null, null];
    async function* publications() {
      for (let sequence = 1; sequence <= 20; sequence++) {
        const full = Array.from({ length: rowCount }, (_, i): Row => {
          const offset = BigInt(sequence * rowCount + i);
          return [...row, "clicks", i % 8, offset];
        });
        yield { sequence, table: ROWS.name, batch: batchOf(ROWS.columns, full) };
      }
    }
    await sink.open();
    await sink.apply(publications(), 20);
    const headers = await kcatLines(kafka.bootstrap, topic, ["-f", "%h\\n"]);
    expect([headers.length, new Set(headers).size]).toEqual([1_000_000, 1_000_000]);
  });

  test("of two at work the newer one goes on, and the older one is told", async () => {
    const rows = new Rows().add([EVERY_TYPE[0]!]).add([EVERY_TYPE[1]!]).add([EVERY_TYPE[3]!]);
    const newer = make();
    await sink.open();
    expect(await newer.open()).toBe(0);
    async function* overtaken() {
      yield rows.publications[0]!;
      await newer.apply(stream(rows.publications.slice(0, 2)), 2);
      yield rows.publications[1]!;
    }
    await expect(sink.apply(overtaken(), 2)).rejects.toMatchObject({ code: "CONFLICT" });
    // Its own next call begins where the other one ended.
    await sink.apply(stream(rows.publications), 3);
    await newer.apply(stream(rows.publications), 3);
    await newer.close();
    await expectRows(rows);
  });

  test("belongs to the output that came first, also of two that begin at once", async () => {
    const rows = new Rows().add([EVERY_TYPE[0]!]).add([EVERY_TYPE[1]!]);
    const other = make();
    expect(await sink.open("first")).toBe(0);
    expect(await other.open("second")).toBe(0);
    await sink.apply(stream(rows.publications.slice(0, 1)), 1);
    const refusal = { code: "OUTPUT", message: expect.stringMatching(/results of another output/) };
    await expect(other.apply(stream(rows.publications), 2)).rejects.toMatchObject(refusal);
    await expect(other.open("second")).rejects.toMatchObject(refusal);
    await other.close();
    expect(await sink.open("first")).toBe(1);
    await sink.apply(stream(rows.publications), 2);
    await expectRows(rows);
  });

  test("two that race apply everything once, whoever wins", async () => {
    const rows = new Rows();
    for (let i = 0; i < 12; i++) rows.add([EVERY_TYPE[0]!, EVERY_TYPE[1]!]);
    const racers = [sink, make(), make()];
    await sink.open();
    const race = async (racer: Sink): Promise<void> => {
      for (let done = await racer.open(); done < 12; ) {
        try {
          await racer.apply(stream(rows.publications.slice(0, done + 3)), done + 3);
        } catch (error) {
          // A broker that is asked by all at once may have no better words.
          expect(String(error)).toMatch(/another process has taken over|an unexpected error/);
        }
        done = await racer.open();
      }
      await racer.close();
    };
    await Promise.all(racers.map(race));
    await expectRows(rows);
  });

  test("a topic that was removed and made anew is refused, and so is lost progress", async () => {
    const rows = new Rows().add([EVERY_TYPE[0]!]);
    await sink.open();
    await sink.apply(stream(rows.publications), 1);
    await sink.close();
    await kafka.deleteTopic(topic);
    await expect(sink.open()).rejects.toMatchObject({
      code: "OUTPUT",
      message: expect.stringMatching(/is not the one that rows were written to: its partition 0/),
    });
    topic = `${topic}_again`;
    const other = make();
    await other.open();
    await other.apply(stream(rows.publications), 1);
    await other.close();
    await kafka.deleteTopic(progressTopic(topic));
    await expect(other.open()).rejects.toThrow(/lost its record: rows could come twice/);
  });

  test("what other producers leave open or aborted in the topic disturbs nothing", async () => {
    const rows = new Rows().add([EVERY_TYPE[0]!], 0).add([EVERY_TYPE[1]!], 0);
    await sink.open();
    const other = await client.transactions("someone-else");
    await other.begin();
    const noise = { key: null, value: "noise" };
    await other.send({ topic, partition: 0 }, [noise]);
    await sink.apply(stream(rows.publications.slice(0, 1)), 1);
    await sink.close();
    expect(await sink.open()).toBe(1);
    await sink.apply(stream(rows.publications), 2);
    // Readers of committed records wait for the other one, which gives up.
    expect(await readTable()).toEqual([]);
    await other.close();
    await expectRows(rows);
  });

  test("a row larger than the topic takes is named; smaller batches are tried", async () => {
    await client.createTopic(topic, { partitions: 1, settings: { "max.message.bytes": "20000" } });
    const text = (length: number): Row => ["x".repeat(length), ...EVERY_TYPE[1]!.slice(1)];
    const rows = new Rows().add(
      Array.from({ length: 40 }, () => text(5_000)),
      0,
    );
    await sink.open();
    await sink.apply(stream(rows.publications), 1);
    await expectRows(rows);
    const large = new Rows().add([], 0).add([text(10), text(30_000)], 3);
    await expect(sink.apply(stream(large.publications), 2)).rejects.toMatchObject({
      code: "LIMIT",
      message: expect.stringMatching(/row of clicks, partition 3, offset 1 .*max.message.bytes/),
    });
    await expectRows(rows);
  });

  test("a broker that is down is an error; what comes later catches up", async () => {
    const rows = new Rows().add(EVERY_TYPE).add([EVERY_TYPE[0]!]);
    await sink.open();
    await sink.apply(stream(rows.publications.slice(0, 1)), 1);
    // A broker that is killed before it has written a transaction's end may never write it.
    expect(await sink.open()).toBe(1);
    await kafka.kill();
    const failed = await sink.apply(stream(rows.publications), 2).catch((error) => error);
    expect(failed).toMatchObject({ code: "INPUT", message: expect.stringMatching(/Kafka at/) });
    await sink.close();
    await expect(sink.open()).rejects.toThrow(/check that the brokers run/);
    await kafka.restart();
    expect(await sink.open()).toBe(1);
    await sink.apply(stream(rows.publications), 2);
    await expectRows(rows);
  });
});
