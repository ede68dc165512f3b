/** The test driver against SQL over the same events, and what its rows and errors look like. */
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import {
  bigint,
  count,
  countDistinct,
  decimal,
  double,
  last,
  list,
  minutes,
  pipeline,
  seconds,
  session,
  stream,
  string,
  sum,
  timestamp,
  topK,
  tumbling,
  updates,
} from "millpond";
import { testPipeline } from "millpond/testing";
import { expect, test } from "vitest";
import { simulate } from "../../../lib/sources/simulate/simulate.js";
import { Random, testSeed } from "../../integration/support/random.js";
import { simulationPipelines } from "../../integration/support/simulations.js";
import { referenceTables } from "../../reference/reference.js";
import { readRows } from "../../reference/rows.js";

const PARTITIONS = 3;
const iso = (column: string) => `${column}: strftime(${column}, '%Y-%m-%dT%H:%M:%S.%gZ')`;
/** Tables of exact values, with their columns in SQL. */
const COMPARED = {
  page_view_counts: `${iso("window_start")}, ${iso("window_end")}, page: page, views: views,
    users: users`,
  sessions: `${iso("session_start")}, ${iso("session_end")}, user_id: user_id, events: events,
    pages: pages, 'left': "left"`,
};

test("chunks, with restarts between them, give the tables of SQL over all records", async () => {
  const random = new Random(testSeed());
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "millpond-driver-"));
  const startMs = Date.UTC(2025, 0, 1);
  const logs: Uint8Array[][] = Array.from({ length: PARTITIONS }, () => []);
  for (const { partition, line } of simulate("activity", {
    events: 1500,
    seed: random.between(1, 1e6),
    partitions: PARTITIONS,
    ratePerSecond: 1,
    startMs,
    late: 0.05,
    duplicates: 0.05,
    malformed: 0.02,
    outOfOrderMs: 60_000,
  })) {
    logs[partition]!.push(Buffer.from(line));
  }
  const files = logs.map((lines, partition) => {
    const file = path.join(dir, `${partition}.ndjson`);
    fs.writeFileSync(file, Buffer.concat(lines.flatMap((line) => [line, Buffer.from("\n")])));
    return { path: file, topic: "activity", partition };
  });
  const made = simulationPipelines.activity();
  const driver = await testPipeline(made);
  const [{ name: topic } = { name: "" }] = made.definition.streams;
  const expected = await referenceTables(made.definition, {
    files: files.map((file) => ({ ...file, topic })),
  });
  try {
    while (logs.some((lines) => lines.length > 0)) {
      const partition = random.below(PARTITIONS);
      const chunk = logs[partition]!.splice(0, random.between(1, 200));
      if (chunk.length > 0) await driver.send(topic, chunk, { partition });
      if (random.chance(0.2)) await driver.restart();
    }
    await driver.flush();
    driver.accounting();
    for (const [table, columns] of Object.entries(COMPARED)) {
      const rows = driver.rows(table).map((row) => JSON.stringify(row));
      const wanted = await readRows(
        expected.connection,
        `SELECT to_json({${columns}}) AS row FROM main.${table}`,
      );
      expect(rows.length).toBeGreaterThan(0);
      expect(new Set(rows), `${table}, seed ${random.seed}`).toEqual(
        new Set(wanted.map(({ row }) => String(row))),
      );
      expect(rows).toHaveLength(wanted.length);
    }
  } finally {
    expected.close();
    fs.rmSync(dir, { recursive: true });
  }
});

const sales = stream("sales", {
  schema: {
    shop: string(),
    price: decimal(9, 2),
    weight: double().nullable(),
    serial: bigint(),
    tags: list(string()),
    at: timestamp(),
  },
  key: "shop",
  eventTime: "at",
  lateness: minutes(1),
});
const sale = { shop: "a", price: 2.5, serial: 7, tags: ["x", "y"], at: "2026-01-01T12:00:00Z" };

test("decimals and times are text, lists and whole numbers what they are", async () => {
  const perShop = sales
    .groupBy("shop")
    .window(tumbling(minutes(1)))
    .aggregate({ total: sum("price"), best: topK("serial", 1), heaviest: last("weight") });
  const driver = await testPipeline(pipeline("shop", { sold: sales, per_shop: perShop }));
  const large = '"serial": 9007199254740993';
  await driver.send("sales", [sale, JSON.stringify(sale).replace('"serial":7', large)]);
  await driver.flush();
  expect(driver.rows("sold")).toMatchObject([
    { price: "2.50", weight: null, serial: 7, tags: ["x", "y"], at: "2026-01-01T12:00:00.000Z" },
    { serial: 9007199254740993n, offset: 1, late: false },
  ]);
  expect(driver.rows("per_shop")).toMatchObject([
    { total: "5.00", best: [{ value: 7, count: 1 }], heaviest: null },
  ]);
});

test("sessions that become one leave a row, and the changes say how", async () => {
  const visits = sales
    .groupBy("shop")
    .window(session(minutes(5)))
    .aggregate({ sales: count() });
  const driver = await testPipeline(pipeline("shop", { visits }));
  await driver.send("sales", [
    { ...sale, at: "2026-01-01T12:00:00Z" },
    { ...sale, at: "2026-01-01T12:06:00Z" },
  ]);
  await driver.flush();
  expect(driver.rows("visits")).toMatchObject([{ sales: 1 }, { sales: 1 }]);
  await driver.send("sales", { ...sale, at: "2026-01-01T12:05:00Z" });
  await driver.flush();
  expect(driver.rows("visits")).toMatchObject([
    { session_start: "2026-01-01T12:00:00.000Z", sales: 3 },
  ]);
  expect(driver.changes("visits").filter(({ retracted }) => retracted)).toHaveLength(1);
});

test("a live table shows open windows when the clock says so", async () => {
  const shops = sales
    .window(tumbling(minutes(10)))
    .aggregate({ shops: countDistinct("shop") })
    .emit(updates({ every: seconds(10) }));
  const driver = await testPipeline(pipeline("shop", { shops }), {
    startAt: "2026-01-01T12:00:00Z",
  });
  await driver.send("sales", sale);
  expect(driver.rows("shops")).toMatchObject([{ shops: 1 }]);
  await driver.send("sales", { ...sale, shop: "b" });
  expect(driver.rows("shops")).toMatchObject([{ shops: 1 }]);
  await driver.advanceClock(seconds(10));
  expect(driver.rows("shops")).toMatchObject([{ shops: 2 }]);
});

test("keys, timestamps and tombstones are those of the records", async () => {
  const driver = await testPipeline(pipeline("shop", { sold: sales }));
  const at = "2026-01-01T11:00:00Z";
  await driver.send("sales", sale, { key: "k", timestamp: new Date(at) });
  await driver.send("sales", null, { timestamp: at });
  await driver.send("sales", { ...sale, at: "2026-01-01T12:00:00.001Z" }, { timestamp: at });
  expect(driver.rows("bronze")).toMatchObject([
    { key: "k", timestamp: "2026-01-01T11:00:00.000Z" },
    { key: null, value: null },
    { key: null },
  ]);
  expect(driver.deadLetters()).toMatchObject([
    { offset: 1, reason: "malformed" },
    { offset: 2, reason: "event_time_in_future" },
  ]);
});

test("what does not exist or cannot be is refused by name", async () => {
  const driver = await testPipeline(pipeline("shop", { sold: sales }));
  await expect(driver.send("sale", sale)).rejects.toThrow('no stream "sale"; it has sales');
  await expect(driver.send("sales", { serial: 1n })).rejects.toThrow("give it as text");
  await expect(driver.send("sales", sale, { partition: -1 })).rejects.toThrow("-1 is no partition");
  await expect(driver.advanceEventTime("sales", "noon")).rejects.toThrow("noon is no time");
  await expect(driver.advanceClock(-1)).rejects.toThrow("does not move by -1 ms");
  expect(() => driver.rows("nothing")).toThrow("it has sold, late, dead_letters, bronze");
});
