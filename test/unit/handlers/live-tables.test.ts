/** Live tables (`updates`) through the processor: open windows leave with its commits when due. */
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { fromItem } from "../../../lib/commit/checkpoint.js";
import { sectionPlaces } from "../../../lib/engine/section.js";
import {
  count,
  duckdb,
  hours,
  minutes,
  ms,
  pipeline,
  stream,
  string,
  timestamp,
  tumbling,
  updates,
} from "../../../lib/index.js";
import { metaOf } from "../../../lib/runtime/partition-meta.js";
import { context, kafkaEvent, memoryStores, processorOver } from "./kafka-support.js";

function livePipeline(everyMs: number) {
  const views = stream("views", {
    schema: { page: string(), at: timestamp() },
    eventTime: "at",
    lateness: minutes(1),
  });
  const counts = (every: number) =>
    views
      .groupBy("page")
      .window(tumbling(minutes(1)))
      .aggregate({ views: count() })
      .emit(updates({ every }));
  const tables = { often: counts(ms(everyMs)), seldom: counts(hours(1)) };
  return pipeline("live", tables, { sinks: [duckdb()] });
}

beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"] }));
afterEach(() => void vi.useRealTimers());

/** Three commits, 1 s apart. */
async function commitsOf(everyMs: number) {
  const stores = memoryStores();
  const { handle } = processorOver(livePipeline(everyMs), stores);
  const found: { tables: string[]; updated: boolean }[] = [];
  for (let offset = 0; offset < 3; offset++) {
    vi.setSystemTime(offset * 1_000);
    const value = JSON.stringify({ page: "/", at: new Date(offset).toISOString() });
    const records = [{ offset, timestamp: 0, value }];
    await handle(kafkaEvent([{ topic: "views", partition: 0, records }]), context);
    const id = "live/partitions/views/0";
    const checkpoint = fromItem(id, (await stores.checkpoints.read(id))!);
    const entry = checkpoint.outbox.find(({ sequence }) => sequence === offset + 1);
    const object = entry === undefined ? null : await stores.objects.get(entry.key);
    const sections = object === null ? [] : sectionPlaces(object);
    expect(sections.every(({ open }) => open)).toBe(true);
    const tables = sections.map(({ table }) => table);
    found.push({ tables, updated: metaOf(checkpoint).updated });
  }
  return found;
}

it("leave with the first commit, and then as often as they want", async () => {
  expect(await commitsOf(1_000)).toEqual([
    { tables: ["often", "seldom"], updated: true },
    { tables: ["often"], updated: false },
    { tables: ["often"], updated: false },
  ]);
});

it("wait where it is not yet time", async () => {
  expect(await commitsOf(2_001)).toEqual([
    { tables: ["often", "seldom"], updated: true },
    { tables: [], updated: false },
    { tables: [], updated: false },
  ]);
});
