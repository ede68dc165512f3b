/**
 * A backfill in the middle of a stream: in the end the output is what the new definition makes of
 * the whole input; cut off, refused or done twice, it leaves what was there.
 */
import { existsSync, readdirSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { backfill } from "../../lib/audit/backfill.js";
import { diff } from "../../lib/audit/diff.js";
import { openOutput } from "../../lib/audit/place.js";
import type { Pipeline } from "../../lib/define/definition.js";
import {
  count,
  duckdb,
  lake,
  max,
  pipeline,
  seconds,
  snowflake,
  stream,
  string,
  timestamp,
  tumbling,
} from "../../lib/index.js";
import { lockOutput, outputPaths } from "../../lib/runtime/output.js";
import { readRows } from "../reference/rows.js";
import {
  differencesBetween,
  differencesFromReference,
  lakeDifferences,
  Workspace,
  withResults,
} from "./support/check.js";
import { partitionLines, streamPlan } from "./support/events.js";
import { LEVELS_CSV, randomPipeline } from "./support/pipelines.js";
import { Random, testRounds, testSeed } from "./support/random.js";

let workspace: Workspace;
beforeEach(async () => {
  workspace = await Workspace.create();
});
afterEach(() => workspace.remove());

const rebuilt = (of: Pipeline, out: string, options: { flush?: boolean } = {}) =>
  backfill({ pipeline: of, out, flush: true, batchSize: 50, ...options });

async function checkOne(seed: number): Promise<void> {
  const random = new Random(seed);
  const plan = streamPlan(random, "events");
  await writeFile(workspace.csv, LEVELS_CSV);
  const options = { tablesMax: 3, sinks: [lake(), duckdb()], settles: false, updates: true };
  const [v1, v2] = [0, 1].map(() => randomPipeline(random, [plan], workspace.csv, options));
  const logs = Array.from({ length: random.between(1, 3) }, (_, partition) => {
    const lines = partitionLines(random, plan, partition);
    return Array.from({ length: random.between(20, 250) }, () => String(lines.next().value));
  });
  const early = logs.map((log) => log.slice(0, random.between(0, log.length)));
  const about = `seed ${seed}, plan ${JSON.stringify(plan)}`;
  const [out, scratch] = [workspace.newOutput(), workspace.newOutput()];
  await workspace.write("events", early);
  await workspace.run({ pipeline: v1, out, batchSize: 40, flush: random.chance(0.5) });
  const report = await rebuilt(v2, out, { flush: random.chance(0.5) });
  expect(report.kind, about).toBe("done");
  await workspace.write("events", logs);
  await workspace.run({ pipeline: v2, out, batchSize: random.pick([7, 1000]) });
  await workspace.run({ pipeline: v2, out: scratch, batchSize: 1000 });
  const data = outputPaths(out).data;
  expect(await differencesBetween(v2, [data, scratch], { revisions: false }), about).toBe("");
  expect(await differencesFromReference(v2, data, workspace), about).toBe("");
  expect(await lakeDifferences(v2, data), about).toBe("");
}

test("v1 on a part, a backfill to v2, and v2 on the rest end like v2 from the start", async () => {
  const seed = testSeed();
  const rounds = testRounds(5);
  for (let round = 0; round < rounds; round++) {
    await checkOne(seed + round);
    await rm(workspace.input("events"), { recursive: true });
  }
}, 3_600_000);

const clicks = stream("clicks", {
  schema: { page: string(), at: timestamp({ format: "epoch_s" }) },
  eventTime: "at",
  lateness: seconds(2),
});
const byTens = clicks
  .groupBy("page")
  .window(tumbling(seconds(10)))
  .aggregate({ n: count() });
const byFives = clicks
  .groupBy("page")
  .window(tumbling(seconds(5)))
  .aggregate({ n: count() });
const sinks = [lake(), duckdb()];
const v1 = pipeline("clicks", { pages: byTens }, { sinks });
const v2 = pipeline("clicks", { pages: byFives, clean: clicks.rows() }, { sinks });

const LOG = [1, 3, 7, 12, 13, 19, 31].map((at) => JSON.stringify({ page: "/", at }));

async function v1Output(): Promise<string> {
  await workspace.write("clicks", [LOG]);
  const out = workspace.newOutput();
  await workspace.run({ pipeline: v1, out, batchSize: 3 });
  return out;
}

const pagesOf = (out: string) =>
  withResults([outputPaths(out).data], (connection) =>
    readRows(connection, "SELECT window_start, n FROM run0.pages ORDER BY 1"),
  );
const TENS = [3, 3, 1];
const FIVES = [2, 1, 2, 1, 1];
const counts = async (out: string) => (await pagesOf(out)).map(({ n }) => Number(n));

describe("the results that are there", () => {
  test("give way in one step, with their files, and a second backfill does nothing", async () => {
    const out = await v1Output();
    expect(await counts(out)).toEqual(TENS);
    expect(await rebuilt(v2, out)).toMatchObject({ kind: "done", audit: { equal: true } });
    expect(await counts(out)).toEqual(FIVES);
    const [data] = readdirSync(out).filter((name) => name.startsWith("data-"));
    expect(readdirSync(out).sort()).toEqual([data, "millpond.json", "state"]);
    expect(readdirSync(join(out, "state"))).toEqual(["lock"]);
    expect(await rebuilt(v2, out)).toEqual({ kind: "current" });
    expect(await rebuilt(v1, out)).toMatchObject({ kind: "done" });
    expect(await counts(out)).toEqual(TENS);
    expect(readdirSync(out)).not.toContain(data);
  });

  test("stand when a backfill is cut off, and what it left goes with the next", async () => {
    const out = await v1Output();
    const stop = new AbortController();
    stop.abort();
    const cut = { pipeline: v2, out, flush: true, batchSize: 1, signal: stop.signal };
    expect(await backfill(cut)).toEqual({ kind: "aborted" });
    expect(readdirSync(out).sort()).toEqual(["lake", "millpond.json", "results.duckdb", "state"]);
    await writeFile(join(out, "data-000000000000"), "left by a process that was killed");
    expect(await counts(out)).toEqual(TENS);
    await workspace.run({ pipeline: v1, out, batchSize: 3 });
    await rebuilt(v2, out);
    expect(existsSync(join(out, "data-000000000000"))).toBe(false);
    expect(await counts(out)).toEqual(FIVES);
  });

  test("stand while another process has the output", async () => {
    const out = await v1Output();
    const lock = await lockOutput(outputPaths(out));
    await expect(rebuilt(v2, out)).rejects.toMatchObject({ code: "CONFLICT" });
    lock.release();
    expect(await counts(out)).toEqual(TENS);
  });

  test("stand when bronze is not whole, or the change cannot be made from it", async () => {
    const out = await v1Output();
    const other = stream("other", {
      schema: { at: timestamp() },
      eventTime: "at",
      lateness: 0,
    });
    const refused: [Pipeline, string][] = [
      [pipeline("other", { pages: byFives }, { sinks }), 'belongs to pipeline "clicks"'],
      [pipeline("clicks", { others: other.rows() }, { sinks }), 'reads stream "clicks"'],
      [pipeline("clicks", { pages: byFives }, { sinks: [duckdb()] }), "keeps no bronze"],
      [pipeline("clicks", { pages: byFives }, { sinks: [lake(), snowflake()] }), "Snowflake"],
    ];
    for (const [changed, message] of refused) {
      await expect(rebuilt(changed, out)).rejects.toMatchObject({
        code: "OUTPUT",
        message: expect.stringContaining(message),
      });
    }
    await rm(join(outputPaths(out).lake, "bronze"), { recursive: true });
    await expect(rebuilt(v2, out)).rejects.toMatchObject({
      code: "OUTPUT",
      message: expect.stringContaining("bronze holds 0 of the 7 records"),
    });
    expect(await counts(out)).toEqual(TENS);
  });
});

test("a stream that is not wanted is kept by a table that none of its events passes", async () => {
  const out = await v1Output();
  const none = clicks.filter((e) => e.at.isNull()).rows();
  const other = stream("other", { schema: { at: timestamp() }, eventTime: "at", lateness: 0 });
  const changed = pipeline("clicks", { none, others: other.rows() }, { sinks });
  expect(await rebuilt(changed, out)).toMatchObject({ kind: "done", run: { records: 7 } });
});

describe("diff", () => {
  const compared = async (out: string, before: Pipeline, after: Pipeline) => {
    const place = await openOutput(out);
    try {
      return await diff(place, { before, after, examples: 2 });
    } finally {
      await place.close();
    }
  };

  test("says which rows come, go and change, and of which columns", async () => {
    const report = await compared(await v1Output(), v1, v2);
    expect(report).toMatchObject({ equal: false, records: 7 });
    expect(report.tables.map(({ table, kind }) => [table, kind])).toEqual([
      ["pages", "changed"],
      ["clean", "added"],
      ["late", "same"],
      ["dead_letters", "same"],
    ]);
    const [pages, clean] = report.tables;
    expect(pages).toMatchObject({
      before: 3,
      after: 5,
      addedRows: 2,
      removedRows: 0,
      changedRows: 3,
    });
    expect(pages.examples[0]).toEqual({
      kind: "changed",
      key: [
        { column: "window_start", value: "1970-01-01T00:00:00.000Z" },
        { column: "page", value: "/" },
      ],
      columns: [
        {
          column: "window_end",
          before: "1970-01-01T00:00:10.000Z",
          after: "1970-01-01T00:00:05.000Z",
        },
        { column: "n", before: "3", after: "2" },
      ],
    });
    expect(clean).toMatchObject({ before: null, after: 7 });
  });

  test("tells other columns and other keys, and an equal definition as such", async () => {
    const out = await v1Output();
    const tens = clicks.groupBy("page").window(tumbling(seconds(10)));
    const total = tens.aggregate({ n: count(), newest: max("at") });
    const columns = await compared(out, v1, pipeline("clicks", { pages: total }, { sinks }));
    expect(columns.tables[0]).toMatchObject({
      kind: "changed",
      changedRows: 0,
      schema: ["+ newest timestamp or null"],
    });
    const all = clicks.window(tumbling(seconds(10))).aggregate({ n: count() });
    const keys = await compared(out, v1, pipeline("clicks", { pages: all }, { sinks }));
    expect(keys.tables[0]).toMatchObject({
      kind: "rekeyed",
      schema: ["- page string", "~ a row's key (window_start, page) → (window_start)"],
    });
    expect(await compared(out, v1, v1)).toMatchObject({ equal: true });
  });

  test("is refused where bronze lacks records", async () => {
    const out = await v1Output();
    await rm(join(outputPaths(out).lake, "bronze"), { recursive: true });
    await expect(compared(out, v1, v2)).rejects.toMatchObject({
      code: "OUTPUT",
      message: expect.stringContaining("bronze holds 0 of the 7 records"),
    });
  });
});
