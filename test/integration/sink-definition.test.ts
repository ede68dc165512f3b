/** A changed definition: its partials never get into results of the one before. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { makeProcessor } from "../../lib/handlers/processor.js";
import { makeSink } from "../../lib/handlers/sink.js";
import {
  count,
  double,
  duckdb,
  lake,
  minutes,
  type Pipeline,
  pipeline,
  stream,
  string,
  sum,
  timestamp,
  tumbling,
} from "../../lib/index.js";
import { kafkaEvent } from "../unit/handlers/kafka-support.js";
import { SinkBed } from "./support/sink-stores.js";

const context = { getRemainingTimeInMillis: () => 60_000 };
const write = () => undefined;
const START_MS = Date.UTC(2025, 0, 1);

const orders = stream("orders", {
  schema: { id: string(), cost: double(), at: timestamp() },
  eventTime: "at",
  lateness: 0,
});
const windows = orders.window(tumbling(minutes(1)));
const OPTIONS = { sinks: [lake(), duckdb()] };
const before = pipeline("orders", { totals: windows.aggregate({ total: count() }) }, OPTIONS);
const changed = pipeline("orders", { totals: windows.aggregate({ total: sum("cost") }) }, OPTIONS);

let bed: SinkBed;
beforeEach(async () => {
  bed = await SinkBed.create();
});
afterEach(() => bed.remove());

async function feed(definition: Pipeline, partition: number): Promise<void> {
  const records = Array.from({ length: 200 }, (_, offset) => {
    const timestamp = START_MS + offset * 1000;
    const order = { id: `${offset}`, cost: 0.5, at: new Date(timestamp).toISOString() };
    return { offset, timestamp, value: JSON.stringify(order) };
  });
  const processor = makeProcessor({ pipeline: definition, stores: bed.stores(), write, env: {} });
  await processor(kafkaEvent([{ topic: "orders", partition, records }]), context);
}

async function sinkOnce(definition: Pipeline): Promise<void> {
  const stores = bed.stores();
  const sink = makeSink({ pipeline: definition, stores, write, env: process.env });
  try {
    await sink({}, context);
  } finally {
    await sink.close();
  }
}

test("a changed pipeline's sink refuses what its processor's predecessor left", async () => {
  await feed(before, 0);
  await expect(sinkOnce(changed)).rejects.toThrow(/partitions\/orders\/0.*changed definition/);
});

test("a sink refuses a partition that a changed pipeline's processor began", async () => {
  await feed(before, 0);
  await sinkOnce(before);
  const { totals } = await bed.dump("orders");
  await feed(changed, 1);
  await expect(sinkOnce(before)).rejects.toThrow(/partitions\/orders\/1.*changed definition/);
  expect((await bed.dump("orders")).totals).toEqual(totals);
});
