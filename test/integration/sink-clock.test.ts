/** What the sink does by the clock: idle partitions, live tables, sweeping; and what wakes it. */
import { expect, test } from "vitest";
import type { Pipeline } from "../../lib/define/definition.js";
import { makeProcessor } from "../../lib/handlers/processor.js";
import { makeSink, requestOf } from "../../lib/handlers/sink.js";
import {
  count,
  duckdb,
  lake,
  minutes,
  pipeline,
  seconds,
  stream,
  string,
  timestamp,
  tumbling,
  updates,
} from "../../lib/index.js";
import { loadReferences } from "../../lib/runtime/references.js";
import { kafkaEvent } from "../unit/handlers/kafka-support.js";
import { differencesFromReference } from "./support/check.js";
import { feedProcessor } from "./support/kafka-run.js";
import { Random, testRounds, testSeed } from "./support/random.js";
import { withScenario } from "./support/scenario.js";
import { SinkBed, type SinkStores } from "./support/sink-stores.js";

const context = { getRemainingTimeInMillis: () => 60_000 };
const write = () => undefined;

function clicks(options: { idleAfter?: number; live?: boolean } = {}): Pipeline {
  const { idleAfter = seconds(60), live = false } = options;
  const source = stream("clicks", {
    schema: { page: string(), at: timestamp() },
    eventTime: "at",
    lateness: 0,
    idleAfter,
  });
  const windowed = source.groupBy("page").window(tumbling(minutes(1)));
  const pages = windowed.aggregate({ views: count() });
  const emit = live ? pages.emit(updates({ every: 1 })) : pages;
  return pipeline("clicks", { pages: emit }, { sinks: [lake({ bronze: false }), duckdb()] });
}

const START_MS = Date.UTC(2026, 0, 1);

/** Clicks on page "/" at these seconds. */
async function feed(
  definition: Pipeline,
  stores: SinkStores,
  partition: number,
  offset: number,
  times: readonly number[],
): Promise<void> {
  const processor = makeProcessor({ pipeline: definition, stores, write, env: {} });
  const records = times.map((second, index) => {
    const at = new Date(START_MS + second * 1000).toISOString();
    return {
      offset: offset + index,
      timestamp: START_MS,
      value: JSON.stringify({ page: "/", at }),
    };
  });
  await processor(kafkaEvent([{ topic: "clicks", partition, records }]), context);
}

async function tick(definition: Pipeline, stores: SinkStores, event: unknown = {}): Promise<void> {
  const sink = makeSink({ pipeline: definition, stores, write, env: process.env });
  await sink(event, context);
  await sink.close();
}

/** Views by window, as "minute:views@revision". */
async function pages(bed: SinkBed): Promise<string[]> {
  const rows = (await bed.dump("clicks")).pages ?? [];
  return rows
    .map((row): Record<string, string> => JSON.parse(row))
    .map((row) => [Date.parse(`${row.window_start!.replace(" ", "T")}:00`), row] as const)
    .sort(([a], [b]) => a - b)
    .map(([start, row]) => `${(start - START_MS) / 60_000}:${row.views}@${row.revision}`);
}

test("an active partition holds the others back, an idle one does not", async () => {
  for (const idleAfter of [seconds(60), 0]) {
    const definition = clicks({ idleAfter });
    const bed = await SinkBed.create();
    await feed(definition, bed.stores(), 0, 0, [0, 30, 61, 121, 181]);
    await feed(definition, bed.stores(), 1, 0, [10, 59]);
    await tick(definition, bed.stores());
    const isIdle = idleAfter === 0;
    expect(await pages(bed)).toEqual(isIdle ? ["0:2@0", "1:1@0", "2:1@0"] : []);
    await feed(definition, bed.stores(), 1, 2, [62, 182]);
    await tick(definition, bed.stores());
    expect(await pages(bed)).toEqual(
      isIdle ? ["0:4@1", "1:2@1", "2:1@0"] : ["0:4@0", "1:2@0", "2:1@0"],
    );
    await bed.remove();
  }
});

test("idle or not changes revisions, never what the tables end up as", async () => {
  const seed = testSeed();
  const options = { partitionsMax: 4, tablesMax: 4, recordsMax: 1200, settles: false };
  for (let round = 0; round < testRounds(3); round++) {
    const random = new Random(seed + round);
    const sinks = [lake({ bronze: false }), duckdb()];
    await withScenario(random, { ...options, updates: true, sinks }, async (scenario) => {
      const { workspace, logs, about } = scenario;
      const { definition } = scenario.pipeline;
      const streams = definition.streams.map((one) => ({ ...one, idleAfterMs: 0 }));
      const idle = { ...scenario.pipeline, definition: { ...definition, streams } };
      for (const [topic, log] of logs) await workspace.write(topic, log);
      const out = workspace.newOutput();
      const env = { MILLPOND_STORE: `file:${out}` };
      const references = await loadReferences(idle);
      const sink = makeSink({ pipeline: idle, env, references, write });
      await feedProcessor(idle, workspace, env, random, async () => {
        if (random.chance(0.5)) await sink({}, context);
      });
      await sink({ flush: true }, context);
      await sink.close();
      expect(await differencesFromReference(idle, out, workspace), about).toBe("");
    });
  }
}, 600_000);

test("a live table shows what a quiet partition has, and then leaves it alone", async () => {
  const definition = clicks({ live: true });
  const bed = await SinkBed.create();
  await feed(definition, bed.stores(), 0, 0, [0]);
  await tick(definition, bed.stores());
  expect(await pages(bed)).toEqual(["0:1@0"]);
  const stores = bed.stores();
  const processor = makeProcessor({ pipeline: definition, stores, write, env: {} });
  const record = (offset: number) => ({
    offset,
    timestamp: START_MS,
    value: JSON.stringify({ page: "/", at: new Date(START_MS + offset).toISOString() }),
  });
  // The second comes so soon after the first that it is not handed over with its commit.
  for (const offset of [1, 2]) {
    const event = kafkaEvent([{ topic: "clicks", partition: 0, records: [record(offset)] }]);
    await processor(event, context);
  }
  const started = Date.now();
  while (Date.now() <= started + 1);
  await tick(definition, bed.stores());
  expect(await pages(bed)).toEqual([expect.stringMatching(/^0:3@/)]);
  const generation = async () => (await stores.checkpoints.read("clicks/partitions/clicks/0"))!;
  const before = (await generation()).generation;
  for (let n = 0; n < 3; n++) await tick(definition, bed.stores());
  expect((await generation()).generation).toBe(before);
  await bed.remove();
});

test("what crashed commits left is swept once an hour, on the tick", async () => {
  const definition = clicks();
  const bed = await SinkBed.create();
  const { objects } = bed.stores();
  await feed(definition, bed.stores(), 0, 0, [0, 61, 121]);
  const leftovers = [
    "clicks/partitions/clicks/0/outbox/000000000001-lost",
    "clicks/partitions/clicks/0/state/000000000001-lost",
    "clicks/publisher/publications/000000000001-lost",
  ];
  const put = () => Promise.all(leftovers.map((key) => objects.putIfAbsent(key, new Uint8Array())));
  const left = async () => (await objects.list("clicks/")).filter((key) => key.endsWith("-lost"));
  await put();
  const news = { dynamodb: { Keys: { pipeline: { S: "clicks" }, name: { S: "partitions/c/0" } } } };
  await tick(definition, bed.stores(), { Records: [news] });
  expect(await left()).toHaveLength(3);
  await tick(definition, bed.stores());
  expect(await left()).toEqual([]);
  await put();
  await tick(definition, bed.stores());
  expect(await left()).toHaveLength(3);
  expect(await pages(bed)).toEqual(["0:1@0", "1:1@0"]);
  await bed.remove();
});

test("records of the stream wake it only if one is a partition of its pipeline", () => {
  const record = (owner: string, name: string) => ({
    dynamodb: { Keys: { pipeline: { S: owner }, name: { S: name } } },
  });
  const wake = { flush: false, tick: false };
  const of = (...records: unknown[]) => requestOf({ Records: records }, "clicks");
  expect(of(record("clicks", "publisher"), record("clicks", "maintenance"))).toBeNull();
  expect(of(record("other", "partitions/x/0"))).toBeNull();
  expect(of(record("clicks", "publisher"), record("clicks", "partitions/x/0"))).toEqual(wake);
  expect(of({ unknown: true })).toEqual(wake);
  expect(of()).toBeNull();
  expect(requestOf({ flush: true }, "clicks")).toEqual({ flush: true, tick: true });
  expect(requestOf({ flush: "yes" }, "clicks")).toEqual({ flush: false, tick: true });
  expect(requestOf({ source: "aws.events" }, "clicks")).toEqual({ flush: false, tick: true });
  expect(requestOf(null, "clicks")).toEqual({ flush: false, tick: true });
});
