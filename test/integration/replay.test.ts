/** A run that is paced by event time ends with the results of one that is not (I1). */
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadPipeline } from "../../lib/runtime/load-pipeline.js";
import { type RunOptions, runPipeline } from "../../lib/runtime/run-pipeline.js";
import { simulate } from "../../lib/sources/simulate/simulate.js";
import { writeSimulation } from "../../lib/sources/simulate/write-files.js";
import { differences } from "../e2e/support/outputs.js";

const PIPELINE = path.resolve("test/e2e/support/activity.ts");
/** Ten minutes of event time in four seconds. */
const SPEED = 150;

let dir = "";
let plain = "";

beforeAll(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "millpond-replay-"));
  const records = simulate("activity", {
    events: 3000,
    seed: 11,
    partitions: 3,
    ratePerSecond: 5,
    startMs: Date.UTC(2025, 5, 1),
    late: 0.02,
    duplicates: 0.01,
    malformed: 0.01,
    outOfOrderMs: 60_000,
  });
  writeSimulation(path.join(dir, "input"), 3, records);
  plain = path.join(dir, "plain");
  await run(plain);
});
afterAll(() => fs.rmSync(dir, { recursive: true, force: true }));

async function run(out: string, more: Partial<RunOptions> = {}) {
  return runPipeline({
    pipeline: await loadPipeline(PIPELINE, new Map()),
    inputs: new Map([["activity", path.join(dir, "input")]]),
    out,
    flush: true,
    batchSize: 10_000,
    workers: 1,
    ...more,
  });
}

test("results show up while it goes on, and end up the same", async () => {
  const out = path.join(dir, "paced");
  const log = path.join(out, "lake", "pages", "_delta_log");
  const versionsBeforeEnd: number[] = [];
  await run(out, {
    speed: SPEED,
    turnMs: 200,
    onProgress: ({ records }) => {
      if (records > 2900 || !fs.existsSync(log)) return;
      versionsBeforeEnd.push(fs.readdirSync(log).filter((name) => name.endsWith(".json")).length);
    },
  });
  // Version 0 has no rows.
  expect(versionsBeforeEnd.at(-1)).toBeGreaterThan(1);
  expect(await differences(plain, out)).toEqual([]);
});

test("stopped in the middle and continued without pacing: the same", async () => {
  const out = path.join(dir, "stopped");
  const stop = new AbortController();
  const report = await run(out, {
    speed: SPEED,
    turnMs: 50,
    signal: stop.signal,
    onProgress: ({ records }) => {
      if (records >= 1000) stop.abort();
    },
  });
  expect(report.aborted).toBe(true);
  expect(report.records).toBeLessThan(3000);
  await run(out);
  expect(await differences(plain, out)).toEqual([]);
});
