/** Values at the edges of their types on the whole way, and outputs that were tampered with. */
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  bigint,
  count,
  decimal,
  double,
  max,
  minutes,
  type Pipeline,
  pipeline,
  quantile,
  seconds,
  stream,
  string,
  sum,
  timestamp,
  tumbling,
} from "../../lib/index.js";
import { runPipeline } from "../../lib/runtime/run-pipeline.js";

let dir = "";
beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "millpond-values-"));
  fs.mkdirSync(path.join(dir, "in"));
});
afterEach(() => fs.rmSync(dir, { recursive: true, force: true }));

const AT = "2025-01-01T00:00:00Z";

function append(...records: object[]): void {
  const text = records.map((record) => `${JSON.stringify({ at: AT, ...record })}\n`).join("");
  fs.appendFileSync(path.join(dir, "in", "a.ndjson"), text);
}

async function run(definition: Pipeline) {
  const inputs = new Map(
    definition.definition.streams.map(({ name }) => [name, path.join(dir, "in")]),
  );
  const out = path.join(dir, "out");
  return runPipeline({
    pipeline: definition,
    inputs,
    out,
    flush: true,
    batchSize: 1000,
    workers: 1,
  });
}

async function rows(sql: string): Promise<unknown[][]> {
  const instance = await DuckDBInstance.create(path.join(dir, "out", "results.duckdb"));
  const connection = await instance.connect();
  const reader = await connection.runAndReadAll(sql);
  const json = reader.getRowsJson();
  connection.closeSync();
  instance.closeSync();
  return json;
}

function amounts(): Pipeline {
  const events = stream("amounts", {
    schema: {
      at: timestamp(),
      price: decimal(18, 2).nullable(),
      units: bigint().nullable(),
      size: double().nullable(),
    },
    eventTime: "at",
    lateness: seconds(0),
  });
  return pipeline("amounts", {
    totals: events
      .derive((e) => ({ huge: e.size.mul(10) }))
      .window(tumbling(minutes(1)))
      .aggregate({
        price: sum("price"),
        units: sum("units"),
        huge_max: max("huge"),
        huge_p99: quantile("huge", 0.99),
      }),
  });
}

test("a sum beyond its type is null, and the run goes on", async () => {
  const text = `{"at":"${AT}","price":9999999999999999.99,"units":9000000000000000000}\n`;
  fs.writeFileSync(path.join(dir, "in", "a.ndjson"), text.repeat(5));
  await run(amounts());
  expect(await rows("SELECT price, units FROM totals")).toEqual([[null, null]]);
});

test("infinite values reach max and quantile as they are", async () => {
  append({ size: 1e308 });
  await run(amounts());
  expect(await rows("SELECT huge_max, huge_p99 FROM totals")).toEqual([["Infinity", "Infinity"]]);
});

test("a value that turns from null to infinite is a revision", async () => {
  append({ size: null });
  await run(amounts());
  append({ size: 1e308 });
  await run(amounts());
  expect(await rows("SELECT huge_max, revision FROM totals")).toEqual([["Infinity", 1]]);
});

function ids(streamName: string): Pipeline {
  const events = stream(streamName, {
    schema: { at: timestamp(), id: string() },
    key: "id",
    eventTime: "at",
    lateness: minutes(1),
    dedup: "id",
  });
  const counts = events.window(tumbling(minutes(1))).aggregate({ events: count() });
  return pipeline("names", { counts });
}

test.each(["publisher", "files", "partitions"])(
  "a stream named %s keeps its state over several runs",
  async (name) => {
    for (let round = 0; round < 3; round++) {
      // Enough ids for the state to leave the checkpoint item for an object.
      append(...Array.from({ length: 15_000 }, (_, i) => ({ id: `${round}-${i}` })));
      await run(ids(name));
    }
    append({ id: "0-0" });
    await run(ids(name));
    expect(await rows("SELECT events::INT FROM counts")).toEqual([[45_000]]);
    expect(await rows("SELECT duplicates::INT FROM accounting WHERE kind = 'table'")).toEqual([
      [1],
    ]);
  },
);

test("a database that was removed is refused, not begun anew with what is left", async () => {
  append({ id: "a" });
  await run(ids("events"));
  fs.rmSync(path.join(dir, "out", "results.duckdb"));
  append({ id: "b" });
  await expect(run(ids("events"))).rejects.toThrow(/duckdb sink stands at publication 0/);
});

test("a map function that throws is named, with its row", async () => {
  append({ id: "fine" }, { id: "bad" });
  const events = stream("mapped", {
    schema: { at: timestamp(), id: string() },
    eventTime: "at",
    lateness: minutes(1),
  });
  const table = events.map(
    "strict",
    (row) => {
      if (row.id === "bad") throw new TypeError("boom");
      return { id: row.id };
    },
    { id: string() },
  );
  await expect(run(pipeline("mapped", { table }))).rejects.toThrow(
    /table "table": map "strict" threw boom for .*"id":"bad"/,
  );
});
