/** The audit of PostgreSQL: values of every type are equal, and a change of any is found. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { audit } from "../../lib/audit/audit.js";
import { openOutput } from "../../lib/audit/place.js";
import {
  bigint,
  boolean,
  count,
  decimal,
  double,
  int,
  lake,
  list,
  pipeline,
  postgres,
  seconds,
  session,
  stream,
  string,
  sum,
  timestamp,
  topK,
  tumbling,
} from "../../lib/index.js";
import { setUpPostgres, startPostgres, type TestPostgres } from "../servers/postgres.js";
import { Workspace } from "./support/check.js";

const missing = await setUpPostgres();
const title = missing === null ? "in PostgreSQL" : `in PostgreSQL (skipped: ${missing})`;

const seen = stream("seen", {
  schema: {
    user: string().nullable(),
    n: bigint(),
    i: int(),
    price: decimal(18, 6),
    ratio: double(),
    ok: boolean(),
    words: list(string()),
    times: list(timestamp()),
    amounts: list(decimal(10, 2)),
    at: timestamp(),
  },
  eventTime: "at",
  key: "ok",
  lateness: seconds(1),
});
const tens = seen.groupBy("user").window(tumbling(seconds(10)));
const tables = {
  rows: seen,
  tens: tens.aggregate({ hits: count(), total: sum("price"), words: topK("user", 2) }),
  prices: seen.window(tumbling(seconds(10))).aggregate({ prices: topK("price", 3) }),
  stays: seen
    .groupBy("ok")
    .window(session(seconds(4)))
    .aggregate({ last: topK("at", 2) }),
};
const START_MS = Date.UTC(2025, 0, 1);
const record = (i: number) => ({
  user: [null, "o'neil", "a\0b", "␀0", "␀␀ü", ""][i % 6],
  n: i * 1e15 + 7,
  i: -i,
  price: Number(`${i * 1111}.123456`),
  ratio: [0.1, 1e308, -5e-324, 3][i % 4],
  ok: i % 2 === 0,
  words: i % 3 === 0 ? [] : ["x", 'y"\\,{}', "z\0␀", "NULL"],
  times: [new Date(START_MS - i), "1969-12-31T23:59:59.999Z"],
  amounts: [i, -0.05],
  at: new Date(START_MS + i * 700 + (i % 5) * 900),
});

describe.skipIf(missing !== null)(title, () => {
  const before = { ...process.env };
  let server: TestPostgres;
  let workspace: Workspace;
  let out = "";
  const of = pipeline("seen", tables, { sinks: [lake(), postgres({ schema: "au'dit" })] });

  beforeAll(async () => {
    server = await startPostgres();
    Object.assign(process.env, server.env);
    workspace = await Workspace.create();
    const lines = Array.from({ length: 60 }, (_, i) => JSON.stringify(record(i)));
    await workspace.write("seen", [["no record", ...lines.slice(0, 40)], lines.slice(40)]);
    out = workspace.newOutput();
    await workspace.run({ pipeline: of, out, batchSize: 7 });
  });
  afterAll(async () => {
    process.env = before;
    await workspace?.remove();
    await server?.stop();
  });

  async function audited() {
    const place = await openOutput(out, server.env);
    try {
      const { definition } = of;
      return await audit(place, { definition, references: new Map(), examples: 2 });
    } finally {
      await place.close();
    }
  }
  const wrong = async () =>
    (await audited()).tables.flatMap(({ table, place, different, missing: gone, extra }) =>
      different + gone + extra === 0 ? [] : [[place, table, different, gone, extra]],
    );

  test("every table is equal, whatever the types of its columns", async () => {
    const report = await audited();
    expect(report.tables.flatMap(({ differences }) => differences)).toEqual([]);
    expect(report).toMatchObject({ equal: true, unread: [], skipped: [] });
    const held = report.tables.filter(({ place }) => place === "PostgreSQL schema au'dit");
    expect(held.map(({ table }) => table)).toEqual([
      ...Object.keys(tables),
      "late",
      "dead_letters",
    ]);
    expect(held.every(({ rows }) => rows > 0)).toBe(true);
  });

  test.each([
    ["rows", "UPDATE rows SET words[1] = 'X' WHERE \"offset\" = 2"],
    ["rows", "UPDATE rows SET times[1] = times[1] + interval '1 ms' WHERE \"offset\" = 2"],
    ["rows", 'UPDATE rows SET price = price + 0.000001 WHERE "offset" = 3'],
    ["rows", 'UPDATE rows SET "user" = \'a␀␀b\' WHERE "user" = \'a␀0b\' AND "offset" = 3'],
    ["prices", "UPDATE prices SET prices = jsonb_set(prices, '{0,value}', '5.000001')"],
    ["tens", 'DELETE FROM tens WHERE "user" IS NULL'],
    ["dead_letters", "UPDATE dead_letters SET raw = '\\x00'"],
  ])("of %s: %s", async (table, sql) => {
    await server.query(`BEGIN; SET LOCAL search_path = "au'dit";
      CREATE TABLE kept AS TABLE ${table}; ${sql}; COMMIT`);
    const found = await wrong();
    await server.query(`BEGIN; SET LOCAL search_path = "au'dit"; DELETE FROM ${table};
      INSERT INTO ${table} TABLE kept; DROP TABLE kept; COMMIT`);
    expect(found.map(([place, name]) => [place, name])).toEqual([
      ["PostgreSQL schema au'dit", table],
    ]);
    expect(await wrong()).toEqual([]);
  });

  test("one that is behind, or another's, is not read, and the report says why", async () => {
    const progress = `"au'dit".millpond_progress`;
    await server.query(`UPDATE ${progress} SET sequence = sequence - 1`);
    const behind = await audited();
    await server.query(`UPDATE ${progress} SET sequence = sequence + 1, output = 'x' || output`);
    const foreign = await audited();
    await server.query(`UPDATE ${progress} SET output = substr(output, 2)`);
    expect(behind).toMatchObject({ equal: true });
    expect(behind.unread[0]?.reason).toContain("is behind");
    expect(foreign.unread).toEqual([
      { place: "PostgreSQL schema au'dit", reason: "it has the results of another output" },
    ]);
  });
});
