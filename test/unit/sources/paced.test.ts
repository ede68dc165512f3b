/** Replays: what is read is the same in the same order, and is due when its event time has come. */
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createDecoder } from "../../../lib/engine/decode/decoder.js";
import type { Slice } from "../../../lib/engine/slice.js";
import { minutes, pipeline, stream, string, timestamp } from "../../../lib/index.js";
import { openFileSources } from "../../../lib/sources/files/index.js";
import { pacedSource, ReplayClock } from "../../../lib/sources/paced.js";
import type { PartitionReader, PartitionSource } from "../../../lib/sources/source.js";

const events = stream("events", {
  schema: { id: string(), at: timestamp() },
  eventTime: "at",
  lateness: minutes(1),
});
const EVENTS = pipeline("paced", { rows: events }).definition.streams[0]!;

let dir = "";
let source: PartitionSource;
/** Seconds after the first event; two are out of order, one is no event, one comes after a gap. */
const LINES = ["0", "10", "5", "broken", "10", "20", "7000", "6000"];

beforeAll(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "millpond-paced-"));
  const line = (text: string, id: number) =>
    text === "broken"
      ? "{"
      : JSON.stringify({ id: `é${id}`, at: new Date(Number(text) * 1000).toISOString() });
  const file = path.join(dir, "a.ndjson");
  fs.writeFileSync(file, `${LINES.map(line).join("\n")}\n`);
  const opened = await openFileSources({ path: file, stream: EVENTS, known: new Map() });
  source = opened.sources[0]!;
});
afterAll(() => fs.rmSync(dir, { recursive: true, force: true }));

const paced = (clock: ReplayClock) => pacedSource(source, clock, createDecoder(EVENTS));

const texts = ({ bytes, starts, ends, count }: Slice): string[] =>
  Array.from({ length: count }, (_, i) =>
    Buffer.from(bytes.subarray(starts[i], ends[i])).toString(),
  );

async function allOf(reader: PartitionReader, recordsMax: number): Promise<string[]> {
  const all: string[] = [];
  for (;;) {
    const slice = await reader.read(recordsMax);
    if (slice === null) return all;
    all.push(...texts(slice).map((text, i) => `${slice.offsets[i]} ${text}`));
  }
}

test("event time passes as fast as the clock is asked to", () => {
  let nowMs = 500;
  const clock = new ReplayClock(60, () => nowMs);
  expect(clock.waitMs(Number.NEGATIVE_INFINITY)).toBe(0);
  expect(clock.waitMs(1_000_000)).toBe(0);
  expect(clock.waitMs(1_060_000)).toBe(1_000);
  nowMs += 400;
  expect(clock.waitMs(1_060_000)).toBe(600);
  nowMs += 100_000;
  expect(clock.waitMs(1_060_000)).toBe(0);
});

test("a pause is a minute at most: then the clock leaps", () => {
  let nowMs = 0;
  const clock = new ReplayClock(2, () => nowMs);
  clock.waitMs(0);
  expect(clock.boundedWaitMs(1_000_000)).toBe(60_000);
  nowMs += 60_000;
  expect(clock.waitMs(1_000_000)).toBe(0);
  expect(clock.boundedWaitMs(1_002_000)).toBe(1_000);
});

test("records are due with their event times; those out of order with the one before", async () => {
  let nowMs = 0;
  const reader = await paced(new ReplayClock(1, () => nowMs)).open(0, null);
  expect(await reader.nextEventMs?.()).toBe(0);
  const readAt = async (atMs: number) => {
    nowMs = atMs;
    return (await reader.read(100))?.offsets;
  };
  expect(await readAt(0)).toEqual(Float64Array.of(0));
  expect(await reader.nextEventMs?.()).toBe(10_000);
  expect(await readAt(10_000)).toEqual(Float64Array.of(1, 2, 3, 4));
  expect(await reader.nextEventMs?.()).toBe(20_000);
  expect(await readAt(30_000)).toEqual(Float64Array.of(5));
  expect(await readAt(7_000_000)).toEqual(Float64Array.of(6, 7));
  expect(await readAt(7_000_000)).toBeUndefined();
  await reader.close();
});

test("what is asked for too early is given one by one: null is the end alone", async () => {
  const reader = await paced(new ReplayClock(1, () => 0)).open(0, null);
  const plain = await source.open(0, null);
  expect(await allOf(reader, 100)).toEqual(await allOf(plain, 100));
  await Promise.all([reader.close(), plain.close()]);
});

test.each([1, 2, 3, 5])("continues after %i records where it stopped, at any speed", async (n) => {
  const first = await paced(new ReplayClock(1e9)).open(0, null);
  const begun = texts((await first.read(n))!).length;
  // The next record has been looked at, and must be read again.
  await first.nextEventMs?.();
  const position = first.position();
  await first.close();
  for (const open of [paced(new ReplayClock(1e9)), source]) {
    const reader = await open.open(begun, position);
    const rest = await allOf(reader, 100);
    expect(rest).toHaveLength(LINES.length - begun);
    expect(rest[0]).toMatch(new RegExp(`^${begun} `));
    await reader.close();
  }
});
