/** What a run does beyond one pass over complete files: live tables, and files that go away. */
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  count,
  countDistinct,
  final,
  minutes,
  ms,
  type Pipeline,
  pipeline,
  session,
  stream,
  string,
  timestamp,
  tumbling,
  updates,
} from "../../lib/index.js";
import { type RunProgress, runPipeline } from "../../lib/runtime/run-pipeline.js";

let dir = "";
beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "millpond-run-"));
  fs.mkdirSync(path.join(dir, "in"));
});
afterEach(() => fs.rmSync(dir, { recursive: true, force: true }));

function visits(live: boolean): Pipeline {
  const events = stream("visits", {
    schema: { user: string(), page: string(), at: timestamp() },
    key: "user",
    eventTime: "at",
    lateness: minutes(1),
  });
  const emit = live ? updates({ every: ms(1) }) : final();
  return pipeline("visits", {
    pages: events
      .groupBy("page")
      .window(tumbling(minutes(10)))
      .aggregate({ views: count(), users: countDistinct("user") })
      .emit(emit),
    sessions: events
      .groupBy("user")
      .window(session(minutes(5)))
      .aggregate({ views: count() })
      .emit(emit),
  });
}

function write(name: string, from: number, to: number): void {
  const lines = Array.from({ length: to - from }, (_, i) => {
    const n = from + i;
    const at = new Date(Date.UTC(2025, 0, 1) + n * 400 - (n % 7) * 5000).toISOString();
    return `${JSON.stringify({ user: `u${(n * 31) % 57}`, page: `/p${n % 11}`, at })}\n`;
  });
  fs.writeFileSync(path.join(dir, "in", name), lines.join(""));
}

interface Options {
  readonly flush?: boolean;
  readonly turnMs?: number;
  readonly onProgress?: (progress: RunProgress) => void;
}

async function run(live: boolean, out: string, options: Options) {
  return runPipeline({
    pipeline: visits(live),
    inputs: new Map([["visits", path.join(dir, "in")]]),
    out: path.join(dir, out),
    flush: options.flush ?? true,
    batchSize: 500,
    turnMs: options.turnMs ?? 1000,
    onProgress: options.onProgress ?? (() => undefined),
    workers: 1,
  });
}

async function rows(out: string, sql: string): Promise<string[]> {
  const instance = await DuckDBInstance.create(path.join(dir, out, "results.duckdb"));
  const connection = await instance.connect();
  const reader = await connection.runAndReadAll(sql);
  const texts = reader.getRowsJson().map((row) => JSON.stringify(row));
  connection.closeSync();
  instance.closeSync();
  return texts;
}

const PAGES = "SELECT * EXCLUDE (revision) FROM pages ORDER BY ALL";
const SESSIONS = "SELECT * EXCLUDE (revision) FROM sessions ORDER BY ALL";

test("a live table is revised on the way and ends as the final one does", async () => {
  write("a.ndjson", 0, 10_000);
  await run(false, "final", {});
  await run(true, "live", { turnMs: 1 });
  expect(await rows("live", PAGES)).toEqual(await rows("final", PAGES));
  expect(await rows("live", SESSIONS)).toEqual(await rows("final", SESSIONS));
  const [revised] = await rows("live", "SELECT max(revision) > 0 FROM pages");
  expect(revised).toBe("[true]");
});

test("windows that a vanished file left open are published by the next run", async () => {
  write("a.ndjson", 0, 2000);
  await run(false, "out", { flush: false });
  expect(await rows("out", "SELECT sum(views)::INT FROM sessions")).not.toEqual(["[2000]"]);
  fs.rmSync(path.join(dir, "in", "a.ndjson"));
  write("b.ndjson", 2000, 2500);
  const report = await run(false, "out", {});
  expect(report.warnings).toEqual(["a.ndjson was read before and is gone; its results stay"]);
  expect(await rows("out", "SELECT sum(views)::INT FROM pages")).toEqual(["[2500]"]);
  expect(await rows("out", "SELECT sum(views)::INT FROM sessions")).toEqual(["[2500]"]);
});

test("progress counts rows of table late: one for each table an event is late for", async () => {
  write("a.ndjson", 0, 2000);
  const first = fs.readFileSync(path.join(dir, "in", "a.ndjson"), "utf8").split("\n", 25);
  fs.appendFileSync(path.join(dir, "in", "a.ndjson"), `${first.join("\n")}\n`);
  const seen: RunProgress[] = [];
  await run(false, "out", { onProgress: (progress) => seen.push(progress) });
  const last = seen.at(-1);
  expect(last).toMatchObject({ phase: "done", records: 2025, events: 2025 });
  const counts = `SELECT count(*)::INT, count(DISTINCT "offset")::INT FROM late`;
  expect(await rows("out", counts)).toEqual([JSON.stringify([last!.lateRows, 25])]);
  expect(last!.lateRows).toBe(50);
});

test("the database counts each row by how long after its commit it could be seen", async () => {
  write("a.ndjson", 0, 2000);
  await run(false, "out", {});
  const published =
    "(SELECT count(*) FROM pages) + (SELECT count(*) FROM sessions) + (SELECT count(*) FROM late)";
  const counts = `SELECT sum(rows)::INT = ${published}, sum(rows) > 0 FROM millpond.latency`;
  expect(await rows("out", counts)).toEqual(["[true,true]"]);
});

test("results whose state was removed are refused, before anything is read", async () => {
  write("a.ndjson", 0, 1_000);
  await run(false, "lost", {});
  const before = await rows("lost", PAGES);
  fs.rmSync(path.join(dir, "lost", "state"), { recursive: true });
  write("a.ndjson", 2_000, 9_000);
  await expect(run(false, "lost", {})).rejects.toMatchObject({
    code: "INVARIANT",
    message: expect.stringContaining("the state knows of 0 only"),
  });
  expect(await rows("lost", PAGES)).toEqual(before);
});
