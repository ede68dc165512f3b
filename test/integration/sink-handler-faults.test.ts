/** The sink's handler with a fault at every single step, and several sinks at work at once. */
import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { makeProcessor } from "../../lib/handlers/processor.js";
import { makeSink } from "../../lib/handlers/sink.js";
import {
  count,
  duckdb,
  lake,
  minutes,
  type Pipeline,
  pipeline,
  stream,
  string,
  timestamp,
  tumbling,
} from "../../lib/index.js";
import { clickRecords } from "../unit/handlers/clicks.js";
import { kafkaEvent } from "../unit/handlers/kafka-support.js";
import { Random, testRounds, testSeed } from "./support/random.js";
import { faultAt, SinkBed, type SinkStores } from "./support/sink-stores.js";

const context = { getRemainingTimeInMillis: () => 60_000 };
const write = () => undefined;
const RECORDS = 240;
const NAME = "clicks";

function clicks(): Pipeline {
  const source = stream(NAME, {
    schema: { id: string(), user: string(), page: string(), at: timestamp() },
    key: "user",
    eventTime: "at",
    lateness: minutes(1),
    dedup: "id",
  });
  const pages = source
    .groupBy("page")
    .window(tumbling(minutes(1)))
    .aggregate({ views: count() });
  return pipeline(NAME, { pages }, { sinks: [lake(), duckdb()] });
}

const definition = clicks();

async function feed(stores: SinkStores, partition: number, from: number, to: number) {
  const processor = makeProcessor({ pipeline: definition, stores, write, env: {} });
  const records = clickRecords(RECORDS, partition).slice(from, to);
  await processor(kafkaEvent([{ topic: NAME, partition, records: [...records] }]), context);
}

async function sinkOnce(stores: SinkStores, event: unknown): Promise<void> {
  const sink = makeSink({ pipeline: definition, stores, write, env: process.env });
  try {
    await sink(event, context);
  } finally {
    await sink.close();
  }
}

/** Two rounds' worth of commits, one half already taken: the second is disturbed. */
async function bedWithHalf(): Promise<SinkBed> {
  const bed = await SinkBed.create();
  const stores = bed.stores();
  for (const partition of [0, 1]) await feed(stores, partition, 0, RECORDS / 2);
  await sinkOnce(stores, {});
  for (const partition of [0, 1]) await feed(stores, partition, RECORDS / 2, RECORDS);
  return bed;
}

async function undisturbed(): Promise<Record<string, string[]>> {
  const bed = await bedWithHalf();
  await sinkOnce(bed.stores(), { flush: true });
  const tables = await bed.dump(NAME);
  await bed.remove();
  return tables;
}

/** Revisions tell how often a row was corrected, which a flush begun twice may change. */
const withoutRevisions = (tables: Record<string, string[]>) =>
  Object.fromEntries(
    Object.entries(tables).map(([name, rows]) => [
      name,
      rows.map((row) => row.replace(/"revision":\d+/, "")).sort((a, b) => (a < b ? -1 : 1)),
    ]),
  );

for (const moment of ["before", "after"] as const) {
  for (const dies of [true, false]) {
    const what = dies ? "the process dies" : "a step fails";
    test(`the same results when ${what}, ${moment} any step is done`, async () => {
      const expected = await undisturbed();
      expect(expected.bronze).toHaveLength(2 * RECORDS);
      // Every third step takes half a minute; ROUNDS=1 or more goes through all of them.
      const stride = process.env.ROUNDS === undefined ? 3 : 1;
      let isOver = false;
      let at = testSeed() % stride;
      for (; !isOver; at += stride) {
        const bed = await bedWithHalf();
        const { hook, state } = faultAt(at, moment, dies);
        const sink = makeSink({
          pipeline: definition,
          stores: bed.stores(hook),
          write,
          env: process.env,
        });
        await sink({ flush: true }, context).catch(() => undefined);
        isOver = !state.hasFailed;
        // The warm one goes on from wherever it failed.
        if (!dies && !isOver) await sink({ flush: true }, context);
        await sink.close().catch(() => undefined);
        await sinkOnce(bed.stores(), { flush: true });
        const found = withoutRevisions(await bed.dump(NAME));
        expect(found, `step ${at}`).toEqual(withoutRevisions(expected));
        await bed.remove();
      }
      expect(at).toBeGreaterThan(30);
    }, 600_000);
  }
}

test("sinks at once, while processors commit, lose and double nothing", async () => {
  const expected = await undisturbed();
  const seed = testSeed();
  for (let round = 0; round < testRounds(4); round++) {
    const random = new Random(seed + round);
    const bed = await SinkBed.create();
    const pause = async () => {
      for (let n = random.below(12); n > 0; n--) await setImmediate();
    };
    const hook = { before: pause, after: pause };
    const processors = [0, 1].map(async (partition) => {
      for (let from = 0; from < RECORDS; from += 40) {
        await feed(bed.stores(hook), partition, from, from + 40);
      }
    });
    let isFed = false;
    const fed = Promise.all(processors).then(() => {
      isFed = true;
    });
    const sinks = [0, 1, 2].map(async () => {
      const stores = bed.stores(hook);
      const sink = makeSink({ pipeline: definition, stores, write, env: process.env });
      do await sink({ flush: random.chance(0.2) }, context);
      while (!isFed);
      await sink.close();
    });
    await Promise.all([fed, ...sinks]);
    await sinkOnce(bed.stores(), { flush: true });
    const found = withoutRevisions(await bed.dump(NAME));
    expect(found, `seed ${random.seed}`).toEqual(withoutRevisions(expected));
    await bed.remove();
  }
}, 600_000);
