/** What `audit` and `diff` must not pass over: columns by their names, tables by their absence. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type AuditReport, audit } from "../../lib/audit/audit.js";
import { diff } from "../../lib/audit/diff.js";
import { openOutput } from "../../lib/audit/place.js";
import type { Pipeline } from "../../lib/define/definition.js";
import {
  bigint,
  duckdb,
  lake,
  max,
  min,
  pipeline,
  seconds,
  stream,
  string,
  timestamp,
  tumbling,
} from "../../lib/index.js";
import { outputPaths } from "../../lib/runtime/output.js";
import { Workspace } from "./support/check.js";

const visits = stream("visits", {
  schema: { user: string(), n: bigint(), event_time: timestamp({ format: "epoch_s" }) },
  eventTime: "event_time",
  lateness: seconds(5),
});
const tens = visits.groupBy("user").window(tumbling(seconds(10)));
/** Named like columns that the product's own tables have. */
const named = {
  tens: tens.aggregate({
    payload: min("n"),
    detail: max("n"),
    raw: min("n"),
    timestamp: max("n"),
  }),
  clean: visits.rows(),
};
const LOG = [1, 3, 12, 14, 40].map((n) => JSON.stringify({ user: "ann", n, event_time: n }));

let workspace: Workspace;
beforeEach(async () => {
  workspace = await Workspace.create();
});
afterEach(() => workspace.remove());

async function run(of: Pipeline): Promise<string> {
  await workspace.write("visits", [LOG]);
  const out = workspace.newOutput();
  await workspace.run({ pipeline: of, out, batchSize: 2 });
  return out;
}

async function audited(out: string, { definition }: Pipeline, table?: string) {
  const place = await openOutput(out);
  try {
    return await audit(place, { definition, references: new Map(), table, examples: 5 });
  } finally {
    await place.close();
  }
}

const wrong = ({ tables }: AuditReport) =>
  tables
    .filter(({ different, missing, extra }) => different + missing + extra > 0)
    .map(({ table, different, missing }) => ({ table, different, missing }));

describe("columns that are named like the product's own", () => {
  test.each(["payload", "detail", "raw", "timestamp"])("an audit compares %s", async (name) => {
    const of = pipeline("visits", named, { sinks: [duckdb(), lake()] });
    const out = await run(of);
    expect(wrong(await audited(out, of))).toEqual([]);
    const instance = await DuckDBInstance.create(outputPaths(out).database);
    const connection = await instance.connect();
    await connection.run(`UPDATE tens SET "${name}" = 99`);
    connection.closeSync();
    instance.closeSync();
    expect(wrong(await audited(out, of))).toEqual([{ table: "tens", different: 3, missing: 0 }]);
  });

  test("a diff compares them", async () => {
    const before = pipeline("visits", named, { sinks: [lake()] });
    const changed = {
      tens: tens.aggregate({
        payload: max("n"),
        detail: max("n"),
        raw: min("n"),
        timestamp: max("n"),
      }),
      clean: visits.derive((e) => ({ event_time: e.event_time.truncate("hour") })).rows(),
    };
    const after = pipeline("visits", changed, { sinks: [lake()] });
    const place = await openOutput(await run(before));
    const { tables } = await diff(place, { before, after, examples: 1 });
    await place.close();
    const counts = tables.map(({ table, changedRows }) => [table, changedRows]);
    expect(counts.slice(0, 2)).toEqual([
      ["tens", 2],
      ["clean", 5],
    ]);
  });
});

describe("a table that is gone", () => {
  test("is missing all its rows, in a lake without a database", async () => {
    const of = pipeline("visits", named, { sinks: [lake()] });
    const out = await run(of);
    expect(wrong(await audited(out, of))).toEqual([]);
    await rm(join(outputPaths(out).lake, "clean"), { recursive: true });
    const report = await audited(out, of);
    expect([wrong(report), report.equal]).toEqual([
      [{ table: "clean", different: 0, missing: 5 }],
      false,
    ]);
  });

  test("that no sink which can be read ever had is refused, not found equal", async () => {
    const of = pipeline("visits", named, { sinks: [lake({ tables: ["clean"] })] });
    const out = await run(of);
    expect(await audited(out, of)).toMatchObject({ equal: true, skipped: [{ table: "tens" }] });
    await expect(audited(out, of, "tens")).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringContaining('nothing was audited: table "tens" is in no sink'),
    });
  });
});

test("a key that comes twice is found, also where a value was found in an array", async () => {
  const listed = stream("listed", {
    schema: {
      first: bigint().nullable().at("a", "0"),
      second: bigint(),
      event_time: timestamp({ format: "epoch_s" }),
    },
    eventTime: "event_time",
    lateness: seconds(5),
  });
  const of = pipeline("listed", { all: listed.rows() }, { sinks: [lake()] });
  const lines = [
    '{"a":{"0":7},"second":1,"event_time":1}',
    '{"a":[7],"second":1,"second":2,"event_time":1}',
    '{"a":{"0":7,"0":8},"second":1,"event_time":1}',
    '{"a":{"0":7},"other":1,"other":2,"second":1,"event_time":1}',
  ];
  await workspace.write("listed", [lines]);
  const out = workspace.newOutput();
  await workspace.run({ pipeline: of, out, batchSize: 2 });
  const report = await audited(out, of);
  expect(wrong(report)).toEqual([]);
  expect(report.tables.map(({ table, rows }) => [table, rows])).toEqual([
    ["all", 2],
    ["late", 0],
    ["dead_letters", 2],
  ]);
});

test("fields are found by their keys, whatever these are", async () => {
  const keys = ['say "a"', "*", "a/b~c", "a\\b", "0", "it's"];
  const odd = stream("odd", {
    schema: {
      first: bigint().at(keys[0]!, keys[1]!),
      second: bigint().at(keys[2]!, keys[3]!),
      third: bigint().at(keys[4]!, keys[5]!),
      event_time: timestamp({ format: "epoch_s" }),
    },
    eventTime: "event_time",
    lateness: seconds(5),
  });
  const of = pipeline("odd", { all: odd.rows() }, { sinks: [duckdb(), lake()] });
  const record = {
    [keys[0]!]: { [keys[1]!]: 1, other: 4 },
    [keys[2]!]: { [keys[3]!]: 2 },
    [keys[4]!]: { [keys[5]!]: 3 },
    event_time: 1,
  };
  await workspace.write("odd", [[record, { ...record, 0: [7] }].map((one) => JSON.stringify(one))]);
  const out = workspace.newOutput();
  await workspace.run({ pipeline: of, out, batchSize: 2 });
  const report = await audited(out, of);
  expect(wrong(report)).toEqual([]);
  const inLake = report.tables.filter(({ place }) => place === "lake");
  expect(inLake.map(({ table, rows }) => [table, rows])).toEqual([
    ["all", 1],
    ["late", 0],
    ["dead_letters", 1],
  ]);
});
