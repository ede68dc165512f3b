/**
 * The local event source mapping against a real broker: what was delivered is counted by the
 * function itself and held against what was produced, whatever fails on the way.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  EventSourceMapping,
  type EventSourceMappingOptions,
} from "../../lib/dev/event-source-mapping.js";
import type { FailureRecord } from "../../lib/dev/failure-record.js";
import { type KafkaEvent, PAYLOAD_BYTES_MAX } from "../../lib/dev/kafka-event.js";
import type { KafkaClient } from "../../lib/sources/kafka/client.js";
import { connectKafka } from "../../lib/sources/kafka/kafkajs-client.js";
import { setUpKafka, startKafka, type TestKafka } from "../servers/kafka.js";
import { Random, testSeed } from "./support/random.js";

const missing = await setUpKafka();
const GROUP = "mapping";

/** A function that remembers every record it was given, by `topic-partition` and offset. */
class Recorder {
  readonly seen = new Map<string, number>();
  readonly events: KafkaEvent[] = [];
  /** Partitions in the invocations that run now; two of one partition must never be. */
  readonly #running = new Set<string>();
  overlaps = 0;

  async run(event: KafkaEvent, work: () => Promise<unknown>): Promise<unknown> {
    const names = Object.keys(event.records);
    for (const name of names) {
      if (this.#running.has(name)) this.overlaps++;
      this.#running.add(name);
    }
    this.events.push(event);
    try {
      return await work();
    } finally {
      for (const name of names) this.#running.delete(name);
    }
  }

  count(event: KafkaEvent, isDone: (id: string) => boolean = () => true): void {
    for (const [name, records] of Object.entries(event.records)) {
      for (const { offset } of records) {
        const id = `${name}@${offset}`;
        if (isDone(id)) this.seen.set(id, (this.seen.get(id) ?? 0) + 1);
      }
    }
  }

  get ids(): readonly string[] {
    return [...this.seen.keys()].sort();
  }
}

const offsetsOf = (event: KafkaEvent): readonly string[] =>
  Object.entries(event.records).flatMap(([name, records]) =>
    records.map(({ offset }) => `${name}@${offset}`),
  );

/** Each of n records in each partition. */
const allIds = (topic: string, partitions: number, n: number): readonly string[] =>
  Array.from({ length: partitions }, (_, p) =>
    Array.from({ length: n }, (__, offset) => `${topic}-${p}@${offset}`),
  )
    .flat()
    .sort();

const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const giveUpAt = Date.now() + 60_000;
  while (!(await isSo())) {
    if (Date.now() > giveUpAt) throw new Error(`not within a minute: ${what}`);
    await later(20);
  }
}

describe.skipIf(missing !== null)(`event source mapping${missing ? ` (${missing})` : ""}`, () => {
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
  });

  async function newTopic(partitions: number): Promise<string> {
    const topic = `topic_${topics++}`;
    await client.createTopic(topic, { partitions });
    return topic;
  }

  /** n records in each partition. */
  async function produce(topic: string, partitions: number, n: number, value?: Buffer) {
    const producer = await client.producer();
    for (let partition = 0; partition < partitions; partition++) {
      const messages = Array.from({ length: n }, (_, i) => ({
        key: `k${partition}`,
        value: value ?? `{"p":${partition},"i":${i}}`,
        partition,
      }));
      await producer.send(topic, messages);
    }
    await producer.close();
  }

  function start(
    topic: string,
    options: Partial<EventSourceMappingOptions> & Pick<EventSourceMappingOptions, "invoke">,
  ) {
    const origin = { bootstrapServers: kafka.bootstrap };
    return EventSourceMapping.start({ client, origin, topics: [topic], group: GROUP, ...options });
  }

  const isCommitted = async (topic: string, partitions: number, n: number) => {
    const committed = await client.committed(GROUP, topic);
    return committed.size === partitions && [...committed.values()].every((offset) => offset === n);
  };

  test("delivers each record once, several partitions in an invocation, and commits", async () => {
    const topic = await newTopic(3);
    await produce(topic, 3, 200);
    const recorder = new Recorder();
    const mapping = await start(topic, {
      invoke: (event) => recorder.run(event, async () => recorder.count(event)),
    });
    await until("all committed", () => isCommitted(topic, 3, 200));
    await until("no lag", async () => mapping.stats().lag === 0);
    expect(mapping.stats()).toMatchObject({ delivered: 600, failures: 0 });
    await mapping.stop();
    expect(recorder.ids).toEqual(allIds(topic, 3, 200));
    expect(new Set(recorder.seen.values())).toEqual(new Set([1]));
    expect(Object.keys(recorder.events[0]!.records)).toHaveLength(3);
  });

  test("makes the payload that Lambda makes", async () => {
    const topic = await newTopic(1);
    const producer = await client.producer();
    const headers = { trace: "é1" };
    await producer.send(topic, [
      { key: "k", value: '{"a":1}', timestampMs: 1_700_000_000_123, headers },
      { key: null, value: "no key", timestampMs: 1_700_000_000_124 },
      { key: "k", value: null, timestampMs: 1_700_000_000_125 },
    ]);
    await producer.close();
    const events: KafkaEvent[] = [];
    const arn = "arn:aws:kafka:eu-central-1:123456789012:cluster/c/uuid";
    for (const eventSourceArn of [undefined, arn]) {
      const mapping = await start(topic, {
        group: `payload-${eventSourceArn}`,
        origin: {
          bootstrapServers: kafka.bootstrap,
          ...(eventSourceArn !== undefined && { eventSourceArn }),
        },
        invoke: async (event) => events.push(event),
      });
      const before = events.length;
      await until("an invocation", () => events.length > before);
      await mapping.stop();
    }
    const common = { topic, partition: 0, timestampType: "CREATE_TIME" };
    const at = (offset: number) => ({ ...common, offset, timestamp: 1_700_000_000_123 + offset });
    const records = {
      [`${topic}-0`]: [
        { ...at(0), key: "aw==", value: "eyJhIjoxfQ==", headers: [{ trace: [195, 169, 49] }] },
        { ...at(1), value: Buffer.from("no key").toString("base64"), headers: [] },
        { ...at(2), key: "aw==", value: null, headers: [] },
      ],
    };
    const bootstrapServers = kafka.bootstrap;
    expect(JSON.parse(JSON.stringify(events))).toEqual([
      { eventSource: "SelfManagedKafka", bootstrapServers, records },
      { eventSource: "aws:kafka", eventSourceArn: arn, bootstrapServers, records },
    ]);
  });

  test("keeps to the batch size, and to 6 MB of payload", async () => {
    const topic = await newTopic(2);
    const [small, large] = [500, 12];
    await produce(topic, 1, small);
    const sizes: number[] = [];
    const mapping = await start(topic, {
      limits: { records: 64, windowMs: 0 },
      invoke: async (event) => sizes.push(offsetsOf(event).length),
    });
    await until("all small ones", () => mapping.stats().delivered === small);
    await mapping.stop();
    expect(Math.max(...sizes)).toBe(64);

    const producer = await client.producer();
    const value = Buffer.alloc(900_000, "x");
    for (let i = 0; i < large; i++) {
      await producer.send(topic, [{ key: "k", value, partition: 1 }]);
    }
    await producer.close();
    const bytes: number[] = [];
    const second = await start(topic, {
      limits: { windowMs: 2_000 },
      invoke: async (event) => bytes.push(Buffer.byteLength(JSON.stringify(event))),
    });
    await until("all large ones", () => second.stats().delivered === large);
    await second.stop();
    expect(Math.max(...bytes)).toBeLessThanOrEqual(PAYLOAD_BYTES_MAX);
    // Five of them fit, six do not.
    expect(Math.max(...bytes)).toBeGreaterThan(5_900_000);
  });

  test("a function that fails now and then gets everything in the end", async () => {
    const topic = await newTopic(4);
    const n = 300;
    await produce(topic, 4, n);
    const random = new Random(testSeed());
    console.log(`failing function: seed ${random.seed}`);
    const recorder = new Recorder();
    const mapping = await start(topic, {
      limits: { records: 100, windowMs: 20 },
      invoke: (event) =>
        recorder.run(event, async () => {
          await later(random.below(10));
          if (random.chance(0.3)) throw new Error("now and then");
          recorder.count(event);
        }),
    });
    await until("all committed", () => isCommitted(topic, 4, n));
    await mapping.stop();
    expect(recorder.ids).toEqual(allIds(topic, 4, n));
    // An invocation succeeds as a whole or not at all, so that nothing was counted twice.
    expect(new Set(recorder.seen.values())).toEqual(new Set([1]));
    expect(recorder.overlaps).toBe(0);
    expect(mapping.stats().failures).toBeGreaterThan(0);
  });

  test("a partial batch response retries a partition from its first failed offset", async () => {
    const topic = await newTopic(2);
    await produce(topic, 2, 10);
    const sent: (readonly string[])[] = [];
    const mapping = await start(topic, {
      rules: { partialBatches: true },
      invoke: async (event) => {
        sent.push(offsetsOf(event));
        const partition = `${topic}-1`;
        if (sent.length === 1) {
          return {
            batchItemFailures: [
              { itemIdentifier: { partition, offset: 8 } },
              { itemIdentifier: { partition, offset: 6 } },
            ],
          };
        }
        // Something that was not sent: all is tried again.
        const itemIdentifier = { partition, offset: 1 };
        return sent.length === 2 ? { batchItemFailures: [{ itemIdentifier }] } : {};
      },
    });
    await until("all committed", () => isCommitted(topic, 2, 10));
    await mapping.stop();
    const failed = [6, 7, 8, 9].map((offset) => `${topic}-1@${offset}`);
    expect([...sent[0]!].sort()).toEqual(allIds(topic, 2, 10));
    expect(sent.slice(1)).toEqual([failed, failed]);
  });

  test("bisecting finds the poison record, which alone goes to the destination", async () => {
    const topic = await newTopic(2);
    await produce(topic, 2, 40);
    const poison = `${topic}-1@23`;
    const recorder = new Recorder();
    const failures: FailureRecord[] = [];
    let destinationFails = true;
    const mapping = await start(topic, {
      rules: { bisect: true, retriesMax: 1 },
      onFailure: async (failure) => {
        if (destinationFails) {
          destinationFails = false;
          throw new Error("the destination is down");
        }
        failures.push(failure);
      },
      invoke: (event) =>
        recorder.run(event, async () => {
          if (offsetsOf(event).includes(poison)) throw new Error("poison");
          recorder.count(event);
        }),
    });
    await until("all committed", () => isCommitted(topic, 2, 40));
    await mapping.stop();
    expect(recorder.ids).toEqual(allIds(topic, 2, 40).filter((id) => id !== poison));
    expect(new Set(recorder.seen.values())).toEqual(new Set([1]));
    expect(failures.map(({ KafkaBatchInfo }) => KafkaBatchInfo)).toMatchObject([
      {
        batchSize: 1,
        bootstrapServers: kafka.bootstrap,
        recordInfo: { [`${topic}-1`]: { firstRecordOffset: 23, lastRecordOffset: 23 } },
      },
    ]);
    expect(offsetsOf(JSON.parse(failures[0]!.payload))).toEqual([poison]);
    expect(mapping.stats().discarded).toBe(1);
  });

  test("a partition that always fails does not hold up the others", async () => {
    const topic = await newTopic(2);
    await produce(topic, 2, 50);
    const mapping = await start(topic, {
      rules: { partialBatches: true },
      invoke: async (event) => ({
        batchItemFailures: Object.keys(event.records)
          .filter((partition) => partition === `${topic}-0`)
          .map((partition) => ({
            itemIdentifier: { partition, offset: event.records[partition]![0]!.offset },
          })),
      }),
    });
    await until("the first batch", () => mapping.stats().delivered === 50);
    await produce(topic, 2, 50);
    await until("the second", () => mapping.stats().delivered === 100);
    expect(await client.committed(GROUP, topic)).toEqual(new Map([[1, 100]]));
    expect(mapping.stats().lag).toBeGreaterThanOrEqual(50);
    await mapping.stop();
  });

  test("two pollers share the partitions; one that leaves hands its own over", async () => {
    const topic = await newTopic(4);
    const recorder = new Recorder();
    const invoke = (event: KafkaEvent) => recorder.run(event, async () => recorder.count(event));
    const both = await start(topic, { pollers: 2, invoke, limits: { records: 50, windowMs: 20 } });
    const third = await start(topic, { invoke, limits: { records: 50, windowMs: 20 } });
    await produce(topic, 4, 400);
    await until("some of it", () => recorder.ids.length > 100);
    await third.stop();
    await produce(topic, 4, 400);
    await until("all committed", () => isCommitted(topic, 4, 800));
    await both.stop();
    expect(recorder.ids).toEqual(allIds(topic, 4, 800));
  });

  test("a partition that is added is read from its beginning", async () => {
    const topic = await newTopic(1);
    const recorder = new Recorder();
    const mapping = await start(topic, {
      startAt: "earliest",
      invoke: (event) => recorder.run(event, async () => recorder.count(event)),
    });
    await produce(topic, 1, 50);
    await until("the first partition", () => recorder.ids.length === 50);
    await client.addPartitions(topic, 3);
    await produce(topic, 3, 50);
    await until("all", () => recorder.ids.length === 200);
    await mapping.stop();
    expect(recorder.ids).toContain(`${topic}-2@49`);
  });

  test("a broker that is killed and comes back costs no record", async () => {
    const topic = await newTopic(3);
    const recorder = new Recorder();
    const mapping = await start(topic, {
      limits: { records: 100, windowMs: 20 },
      invoke: (event) =>
        recorder.run(event, async () => {
          await later(20);
          recorder.count(event);
        }),
    });
    await produce(topic, 3, 1_000);
    await until("some of it", () => recorder.ids.length > 200);
    await kafka.kill();
    await kafka.restart();
    await produce(topic, 3, 1_000);
    await until("all committed", () => isCommitted(topic, 3, 2_000));
    await mapping.stop();
    expect(recorder.ids).toEqual(allIds(topic, 3, 2_000));
    expect(recorder.overlaps).toBe(0);
  });
});
