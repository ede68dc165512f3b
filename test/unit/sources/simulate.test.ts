/** The simulators: deterministic, honest in what they say of each record, bounded and checked. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import {
  LATENESS_MS,
  SIMULATIONS,
  type SimulatedRecord,
  type SimulateOptions,
  type Simulation,
  simulate,
} from "../../../lib/sources/simulate/simulate.js";
import { writeSimulation } from "../../../lib/sources/simulate/write-files.js";

const OPTIONS: SimulateOptions = {
  events: 20_000,
  seed: 7,
  partitions: 3,
  ratePerSecond: 50,
  startMs: Date.UTC(2025, 0, 1),
  late: 0.02,
  duplicates: 0.03,
  malformed: 0.02,
  outOfOrderMs: 30_000,
};
const KEYS = { sensors: "sensor_id", activity: "user_id", clickstream: "user_id" } as const;

const all = (simulation: Simulation, change: Partial<SimulateOptions> = {}): SimulatedRecord[] => [
  ...simulate(simulation, { ...OPTIONS, ...change }),
];
const textOf = (line: string | Uint8Array): string =>
  typeof line === "string" ? line : Buffer.from(line).toString("latin1");
const fieldsOf = (record: SimulatedRecord): Record<string, unknown> =>
  JSON.parse(textOf(record.line)) as Record<string, unknown>;
const timeOf = (record: SimulatedRecord): number => Date.parse(String(fieldsOf(record).event_time));

const directory = mkdtempSync(join(tmpdir(), "millpond-simulate-"));
afterAll(() => rmSync(directory, { recursive: true }));

describe.each(SIMULATIONS)("%s", (simulation) => {
  const records = all(simulation);
  const good = records.filter((record) => record.kind !== "malformed");

  it("gives the same bytes for the same seed, and others for another", () => {
    expect(all(simulation)).toEqual(records);
    expect(all(simulation, { seed: 8 })).not.toEqual(records);
  });

  it("gives every event its own id, and a duplicate the id and bytes of one before it", () => {
    const seen = new Set<string>();
    for (const record of good) {
      const text = textOf(record.line);
      expect(seen.has(text)).toBe(record.kind === "duplicate");
      seen.add(text);
    }
    const ids = [...seen].map((text) => text.slice(0, 60));
    expect(new Set(ids).size).toBe(ids.length);
  });

  it("keeps all events of a key in one partition, and uses every partition", () => {
    const partitionOf = new Map<unknown, number>();
    for (const record of good) {
      const key = fieldsOf(record)[KEYS[simulation]];
      expect(record.key).toBe(key);
      expect(partitionOf.get(key) ?? record.partition).toBe(record.partition);
      partitionOf.set(key, record.partition);
    }
    expect(new Set(partitionOf.values()).size).toBe(OPTIONS.partitions);
  });

  it.each([0, 1000, LATENESS_MS])("calls late what the watermark calls late (d=%d ms)", (d) => {
    const newest = new Map<number, number>();
    for (const record of all(simulation, { outOfOrderMs: d })) {
      if (record.kind === "malformed") continue;
      const watermark = (newest.get(record.partition) ?? -Infinity) - LATENESS_MS;
      const time = timeOf(record);
      if (record.kind === "ok") expect(time).toBeGreaterThanOrEqual(watermark);
      if (record.kind === "late") expect(time + 60_000).toBeLessThanOrEqual(watermark);
      newest.set(record.partition, Math.max(newest.get(record.partition) ?? -Infinity, time));
    }
  });

  it("makes malformed records that no reader takes for an event", () => {
    const malformed = records.filter((record) => record.kind === "malformed");
    expect(malformed.length).toBeGreaterThan(200);
    for (const record of malformed) expect(isEvent(record, KEYS[simulation])).toBe(false);
    for (const record of good) expect(isEvent(record, KEYS[simulation])).toBe(true);
    for (const { line } of malformed) expect(textOf(line)).not.toContain("\n");
  });

  it("comes near to the shares asked for", () => {
    const share = (kind: string): number =>
      records.filter((record) => record.kind === kind).length / OPTIONS.events;
    expect(share("late")).toBeCloseTo(0.02, 2);
    expect(share("duplicate")).toBeCloseTo(0.03 * 0.96, 2);
    expect(share("malformed")).toBeCloseTo(0.02, 2);
    expect(records.length).toBe(OPTIONS.events * (1 + share("duplicate")));
  });

  it("writes the files it says, and never over others", () => {
    const out = join(directory, simulation);
    const summary = writeSimulation(out, OPTIONS.partitions, records);
    const contents = summary.files.map((file) => readFileSync(file));
    expect(contents.reduce((sum, content) => sum + content.length, 0)).toBe(summary.bytes);
    contents.forEach((content, partition) => {
      const lines = records.filter((record) => record.partition === partition);
      const wanted = lines.map(({ line }) => `${textOf(line)}\n`).join("");
      expect(content.toString("latin1") === wanted).toBe(true);
    });
    expect(() => writeSimulation(out, 1, [])).toThrow(/exists already; give an empty or new --out/);
  });
});

function isEvent(record: SimulatedRecord, key: string): boolean {
  let fields: Record<string, unknown>;
  try {
    const bytes = typeof record.line === "string" ? Buffer.from(record.line) : record.line;
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    fields = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return false;
  }
  const id = fields.event_id ?? fields.reading_id;
  const time = Date.parse(String(fields.event_time));
  return typeof id === "string" && typeof fields[key] === "string" && Number.isFinite(time);
}

describe("simulate", () => {
  it("refuses what it cannot do, with the range, before a record is asked for", () => {
    const refused = (change: Partial<SimulateOptions>) => () =>
      simulate("activity", { ...OPTIONS, ...change });
    expect(refused({ late: 1.5 })).toThrow("late is 1.5; give a probability from 0 to 1");
    expect(refused({ partitions: 0 })).toThrow(/partitions is 0/);
    expect(refused({ outOfOrderMs: 180_000 })).toThrow(/at most 120s/);
    expect(refused({ events: 1.5 })).toThrow(/events is 1.5/);
  });

  it("makes an empty file for a partition without events", () => {
    const out = join(directory, "empty");
    writeSimulation(out, 2, simulate("sensors", { ...OPTIONS, events: 0 }));
    expect(existsSync(join(out, "part-01.ndjson"))).toBe(true);
  });
});
