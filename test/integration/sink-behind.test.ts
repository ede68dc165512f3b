/** A backlog whose partitions are days of event time apart: what is behind still counts. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { makeProcessor } from "../../lib/handlers/processor.js";
import { makeSink } from "../../lib/handlers/sink.js";
import {
  count,
  duckdb,
  hours,
  lake,
  minutes,
  pipeline,
  stream,
  string,
  timestamp,
  tumbling,
} from "../../lib/index.js";
import { kafkaEvent } from "../unit/handlers/kafka-support.js";
import { SinkBed } from "./support/sink-stores.js";

const context = { getRemainingTimeInMillis: () => 60_000 };
const write = () => undefined;
const START_MS = Date.UTC(2025, 0, 1);
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Ten days, one an hour. */
const RECORDS = 240;

const orders = stream("orders", {
  schema: { id: string(), at: timestamp() },
  eventTime: "at",
  lateness: minutes(1),
});
const hourly = orders.window(tumbling(hours(1))).aggregate({ n: count() });
const definition = pipeline("orders", { hourly }, { sinks: [lake(), duckdb()] });

const log = (partition: number) =>
  Array.from({ length: RECORDS }, (_, offset) => {
    const timestamp = START_MS + offset * HOUR_MS + partition * 1000;
    const at = new Date(timestamp).toISOString();
    return { offset, timestamp, value: JSON.stringify({ id: `${partition}-${offset}`, at }) };
  });

let bed: SinkBed;
beforeEach(async () => {
  bed = await SinkBed.create();
  vi.useFakeTimers({ toFake: ["Date"] });
});
afterEach(async () => {
  vi.useRealTimers();
  await bed.remove();
});

async function feed(partition: number, from: number, to: number): Promise<void> {
  const processor = makeProcessor({ pipeline: definition, stores: bed.stores(), write, env: {} });
  const records = log(partition).slice(from, to);
  await processor(kafkaEvent([{ topic: "orders", partition, records }]), context);
}

async function sinkOnce(event: unknown = {}): Promise<void> {
  const stores = bed.stores();
  const sink = makeSink({ pipeline: definition, stores, write, env: process.env });
  await sink(event, context);
  await sink.close();
}

/** Events in rows, and events that were too late for any. */
async function totals(): Promise<{ inRows: number; beyond: number }> {
  await sinkOnce({ flush: true });
  const { hourly: rows = [], accounting = [] } = await bed.dump("orders");
  const table = accounting.map((row) => JSON.parse(row)).find(({ kind }) => kind === "table");
  const inRows = rows.reduce((sum, row) => sum + Number(JSON.parse(row).n), 0);
  return { inRows, beyond: Number(table.beyond_revise) };
}

test("a partition whose first batch comes a little later has all its history counted", async () => {
  await feed(0, 0, RECORDS);
  await sinkOnce();
  vi.setSystemTime(Date.now() + 5_000);
  await feed(1, 0, RECORDS);
  expect(await totals()).toEqual({ inRows: 2 * RECORDS, beyond: 0 });
});

test("when processors stand still in the middle of a backlog, nothing is lost", async () => {
  vi.setSystemTime(START_MS + 20 * DAY_MS);
  await feed(0, 0, 24);
  await feed(1, 0, 24);
  await sinkOnce();
  vi.setSystemTime(Date.now() + 2 * DAY_MS);
  await feed(0, 24, RECORDS);
  await feed(1, 24, 60);
  await sinkOnce();
  // Everybody is idle for an hour: the windows are published as far as anybody is.
  vi.setSystemTime(Date.now() + HOUR_MS);
  await sinkOnce();
  expect(await bed.dump("orders").then(({ hourly: rows }) => rows!.length)).toBe(RECORDS - 2);
  await feed(1, 60, RECORDS);
  expect(await totals()).toEqual({ inRows: 2 * RECORDS, beyond: 0 });
});

test("a partition that was away for longer than reviseFor is counted as such", async () => {
  await feed(0, 0, 24);
  await feed(1, 0, 24);
  await sinkOnce();
  vi.setSystemTime(Date.now() + 2 * DAY_MS);
  await feed(0, 24, RECORDS);
  await sinkOnce();
  await feed(1, 24, RECORDS);
  const { inRows, beyond } = await totals();
  expect(inRows + beyond).toBe(2 * RECORDS);
  // Windows 22 (open in partition 1 before) to 213 (a day before what partition 0 has passed).
  expect(beyond).toBe(192);
});
