/** The producer's handler against a real broker; what arrived is read back by a plain consumer. */
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeProducer } from "../../lib/handlers/producer.js";
import { pipeline, stream, string, timestamp } from "../../lib/index.js";
import type { KafkaClient, KafkaRecord } from "../../lib/sources/kafka/client.js";
import { connectKafka } from "../../lib/sources/kafka/kafkajs-client.js";
import { setUpKafka, startKafka, type TestKafka } from "../servers/kafka.js";

const missing = await setUpKafka();
const dir = fs.mkdtempSync(path.join(tmpdir(), "millpond-producer-"));
const PARTITIONS = 3;

const events = stream("events", {
  schema: { user_id: string(), event_time: timestamp() },
  key: "user_id",
  eventTime: "event_time",
  lateness: 0,
});
const PIPELINE = pipeline("producer_test", { all: events.rows() });
const forever = { getRemainingTimeInMillis: () => 60_000 };

/** Time for so many questions, then none. */
function timeFor(questions: number) {
  let asked = 0;
  return { getRemainingTimeInMillis: () => (asked++ < questions ? 60_000 : 1_000) };
}

interface Sent {
  readonly key: string | null;
  readonly value: string;
  readonly partition: number;
  readonly timestampMs: number;
}

describe.skipIf(missing !== null)(`producer${missing ? ` (${missing})` : ""}`, () => {
  let kafka: TestKafka;
  let client: KafkaClient;
  let topics = 0;

  beforeAll(async () => {
    kafka = await startKafka();
    client = await connectKafka({ brokers: [kafka.bootstrap], auth: { kind: "plaintext" } });
  });
  afterAll(async () => {
    await client?.close();
    await kafka?.stop();
    fs.rmSync(dir, { recursive: true });
  });

  async function newProducer(env: Readonly<Record<string, string>> = {}) {
    const topic = `events_${topics++}`;
    await client.createTopic(topic, { partitions: PARTITIONS });
    const lines: string[] = [];
    const handler = makeProducer({
      pipeline: PIPELINE,
      env: {
        MILLPOND_BOOTSTRAP: kafka.bootstrap,
        MILLPOND_TOPICS: `{"events":"${topic}"}`,
        MILLPOND_STORE: `file:${dir}`,
        ...env,
      },
      write: (line) => lines.push(line),
    });
    return { topic, handler, lines };
  }

  /** Everything in the topic, partition by partition. */
  async function sentTo(topic: string): Promise<Sent[]> {
    const offsets = (await client.offsets(topic))!;
    const total = offsets.reduce((sum, { high }) => sum + high, 0);
    const found: { partition: number; record: KafkaRecord }[] = [];
    let enough: () => void = () => undefined;
    const all = new Promise<void>((resolve) => {
      enough = resolve;
    });
    const consumer = await client.consume({
      group: `read-${topic}-${Math.random()}`,
      topics: [topic],
      startAt: "earliest",
      onAssigned: () => undefined,
      onRecords: ({ partition, records }) => {
        for (const record of records) found.push({ partition, record });
        if (found.length === total) enough();
      },
      onTrouble: () => undefined,
    });
    if (total > 0) await all;
    await consumer.close();
    return found
      .sort((a, b) => a.partition - b.partition || a.record.offset - b.record.offset)
      .map(({ partition, record: { key, value, timestampMs } }) => ({
        key: key?.toString() ?? null,
        value: value?.toString("latin1") ?? "",
        partition,
        timestampMs,
      }));
  }

  const valuesOf = (sent: readonly Sent[]) => sent.map(({ value }) => value);

  test("sends a simulation, each key to one partition, and counts it", async () => {
    const { topic, handler, lines } = await newProducer();
    const request = { simulator: "activity", events: 5_000, duplicates: 0.05, malformed: 0.01 };
    const response = await handler(request, forever);
    const sent = await sentTo(topic);
    expect(response).toEqual({ topic, sent: sent.length, done: true });
    expect(sent.length).toBeGreaterThan(5_000);
    const partitions = new Map<string, number>();
    for (const { key, partition } of sent) {
      expect(partitions.get(key!) ?? partition).toBe(partition);
      partitions.set(key!, partition);
    }
    expect(new Set(partitions.values()).size).toBe(PARTITIONS);
    const whole = sent.find(({ value }) => value.endsWith('Z"}'))!;
    expect(JSON.parse(whole.value)).toMatchObject({ user_id: whole.key });
    expect(JSON.parse(lines[0]!)).toMatchObject({
      Pipeline: "producer_test",
      Stream: "events",
      RecordsProduced: sent.length,
    });
  });

  test("without a start, events are about now and never those of another time", async () => {
    const { topic, handler } = await newProducer();
    const before = Date.now();
    await handler({ simulator: "sensors", events: 300, eventRate: 100 }, forever);
    const sent = await sentTo(topic);
    const times = sent.map(({ value }) => Date.parse(JSON.parse(value).event_time));
    expect(Math.min(...times)).toBeGreaterThanOrEqual(before - 3_100);
    expect(Math.max(...times)).toBeLessThanOrEqual(Date.now());
    await handler({ simulator: "sensors", events: 300, eventRate: 100 }, forever);
    const ids = (await sentTo(topic)).map(({ value }) => JSON.parse(value).reading_id);
    expect(new Set(ids).size).toBe(600);
  });

  test("a schedule's event sends the same when it comes again, the next one others", async () => {
    const request = JSON.stringify({ simulator: "activity", events: 500, rate: 5_000 });
    const { topic, handler } = await newProducer({ MILLPOND_PRODUCER: request });
    const fired = (time: string) => ({
      source: "aws.events",
      "detail-type": "Scheduled Event",
      time,
    });
    await handler(fired("2026-03-01T10:00:00Z"), forever);
    const first = valuesOf(await sentTo(topic));
    expect(first.every((value) => value.includes("2026-03-01T10:00:0"))).toBe(true);
    await handler(fired("2026-03-01T10:00:00Z"), forever);
    expect(new Set(valuesOf(await sentTo(topic)))).toEqual(new Set(first));
    await handler(fired("2026-03-01T10:01:00Z"), forever);
    const ids = valuesOf(await sentTo(topic)).map((value) => JSON.parse(value).event_id);
    expect(new Set(ids).size).toBe(1_000);
  });

  test("keeps to its rate", async () => {
    const { handler } = await newProducer();
    const began = performance.now();
    const { sent } = await handler({ simulator: "activity", events: 400, rate: 200 }, forever);
    const seconds = (performance.now() - began) / 1000;
    expect(sent).toBe(400);
    expect(seconds).toBeGreaterThan(1.9);
    expect(seconds).toBeLessThan(10);
  });

  test("stops before its deadline, and what it returns goes on where it stopped", async () => {
    const simulation = {
      simulator: "clickstream",
      events: 9_000,
      duplicates: 0.1,
      start: "2026-01-01T00:00:00Z",
      seed: 7,
    };
    const whole = await newProducer();
    await whole.handler(simulation, forever);
    const parts = await newProducer();
    let request: unknown = simulation;
    let invocations = 0;
    let sent = 0;
    while (request !== undefined) {
      const response = await parts.handler(request, timeFor(3_500));
      invocations++;
      sent += response.sent;
      expect(response.done).toBe(response.next === undefined);
      // As it would come back in from JSON.
      request = response.next && JSON.parse(JSON.stringify(response.next));
    }
    expect(invocations).toBeGreaterThan(2);
    const all = await sentTo(whole.topic);
    expect(sent).toBe(all.length);
    expect(valuesOf(await sentTo(parts.topic))).toEqual(valuesOf(all));
  });

  test("a broker that is killed meanwhile gets each record once, and in order", async () => {
    const { topic, handler } = await newProducer();
    const request = { simulator: "activity", events: 12_000, rate: 3_000, seed: 3 };
    const producing = handler(request, forever);
    const arrived = async () =>
      (await client.offsets(topic))!.reduce((sum, { high }) => sum + high, 0);
    for (const least of [2_000, 6_000]) {
      await expect.poll(arrived, { timeout: 60_000, interval: 50 }).toBeGreaterThan(least);
      await kafka.kill();
      await kafka.restart();
    }
    expect(await producing).toMatchObject({ sent: 12_000, done: true });
    const sent = await sentTo(topic);
    const ids = sent.map(({ value }) => String(JSON.parse(value).event_id));
    expect(ids).toHaveLength(12_000);
    expect(new Set(ids).size).toBe(12_000);
    // An id begins with its number in the simulation.
    for (let i = 1; i < sent.length; i++) {
      if (sent[i]!.partition === sent[i - 1]!.partition) expect(ids[i]! > ids[i - 1]!).toBe(true);
    }
  });

  test("replays a data set's objects byte by byte, keyed by the stream's key", async () => {
    const folder = path.join(dir, "datasets", "days");
    fs.mkdirSync(folder, { recursive: true });
    const line = (n: number) => `{"user_id":"u${n % 7}","event_time":"2026-01-01T00:00:0${n}Z"}`;
    const broken = Buffer.from([0x7b, 0xff, 0xfe, 0x22]);
    const one = Buffer.concat([Buffer.from(`${line(0)}\n${line(1)}\r\n\n`), broken]);
    fs.writeFileSync(path.join(folder, "1.ndjson"), one);
    const lines = Array.from({ length: 9 }, (_, n) => line(n));
    fs.writeFileSync(path.join(folder, "2.ndjson.gz"), gzipSync(lines.join("\n")));
    fs.writeFileSync(path.join(folder, "notes.txt"), "not a data set");
    const { topic, handler } = await newProducer();
    const first = await handler({ dataset: "days/" }, timeFor(8));
    expect(first).toMatchObject({ done: false });
    const second = await handler(first.next, forever);
    expect(first.sent + second.sent).toBe(12);
    const sent = await sentTo(topic);
    const expected = [line(0), `${line(1)}\r`, broken.toString("latin1"), ...lines];
    expect(valuesOf(sent).sort()).toEqual(expected.sort());
    for (const { key, value } of sent) {
      if (key === null) expect(value).toBe(broken.toString("latin1"));
      else expect(JSON.parse(value)).toMatchObject({ user_id: key });
    }
    expect(await handler({ dataset: "days/2.ndjson.gz", events: 4 }, forever)).toMatchObject({
      sent: 4,
      done: true,
    });
  });

  test.each([
    [{}, /either "simulator" or "dataset"/],
    [{ simulator: "sensors" }, /needs "events"/],
    [{ simulator: "weather", events: 1 }, /simulator is "weather"; give one of sensors/],
    [{ simulator: "sensors", events: 0 }, /events is 0/],
    [{ simulator: "sensors", events: 5, rate: -1 }, /rate is -1/],
    [{ simulator: "sensors", events: 5, sped: 1 }, /no field "sped"; there are/],
    [{ simulator: "sensors", events: 5, stream: "clicks" }, /"clicks".*has events/],
    [{ dataset: "../secrets" }, /dataset is "..\/secrets"/],
    [{ dataset: "nothing/" }, /no NDJSON objects at datasets\/nothing/],
    ["sensors", /no JSON object/],
  ])("refuses %j", async (request, message) => {
    const handler = makeProducer({
      pipeline: PIPELINE,
      env: { MILLPOND_BOOTSTRAP: kafka.bootstrap, MILLPOND_STORE: `file:${dir}` },
    });
    await expect(handler(request, forever)).rejects.toThrow(message);
  });
});
