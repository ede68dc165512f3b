/** Bad input, file by file: what becomes of every record, and that those around it stay right. */
import * as fs from "node:fs";
import * as path from "node:path";
import { gzipSync } from "node:zlib";
import { DuckDBInstance } from "@duckdb/node-api";
import { beforeAll, describe, expect, test } from "vitest";
import { millpond, type Result, succeed, testDir, write } from "./support/cli.js";
import { type Row, rowsOf } from "./support/outputs.js";

const PIPELINE = `
import { bigint, boolean, count, days, decimal, double, hours, int, list, pipeline, stream, string,
  sum, timestamp, tumbling } from "millpond";
const input = stream("input", {
  schema: {
    id: string(), at: timestamp(), n: bigint().nullable(), x: double().nullable(),
    i: int().nullable(), price: decimal(10, 2).nullable(), ok: boolean().nullable(),
    tags: list(string()).nullable(), name: string().at("a.name").nullable(),
  },
  eventTime: "at", lateness: days(365),
});
export default pipeline("bad", {
  events: input,
  hourly: input.window(tumbling(hours(1))).aggregate({ events: count(), total: sum("n") }),
});`;

const TIME = "2025-01-01T00:00:00Z";
const record = (id: string, more = "") => `{"id":"${id}","at":"${TIME}"${more}}`;
const DEEP = `${"[".repeat(10_000)}${"]".repeat(10_000)}`;
const LONG = "x".repeat(10_000_000);
const LINES = Array.from({ length: 2000 }, (_, i) => record(`${i}`, `,"n":${i}`));
const ZIPPED = gzipSync(`${LINES.join("\n")}\n`);

type Line = string | Uint8Array;

/** Each line with what becomes of it: columns of the event, or the reason of the dead letter. */
const CASES: Readonly<Record<string, readonly (readonly [Line, string | Row])[]>> = {
  malformed: [
    [record("1"), { id: "1" }],
    ['{"id":"x",', "malformed"],
    ["not json", "malformed"],
    [`${record("2")} more`, "malformed"],
    ["[1,2]", "malformed"],
    ["null", "malformed"],
    ["123", "malformed"],
    ["\u0000", "malformed"],
    [record("9", ',"n":01'), "malformed"],
    [record("10", ',"x":NaN'), "malformed"],
    [record("3"), { id: "3" }],
  ],
  utf8: [
    [record("1", ',"a":{"name":"é😀"}'), { id: "1", name: "é😀" }],
    [Buffer.from(record("\xff\xc3"), "latin1"), "malformed"],
    [record("2"), { id: "2" }],
  ],
  types: [
    [record("1"), { id: "1" }],
    [`{"id":5,"at":"${TIME}"}`, "wrong_type"],
    [record("2", ',"n":"x"'), "wrong_type"],
    [record("3", ',"i":1.5'), "wrong_type"],
    [record("4", ',"ok":"true"'), "wrong_type"],
    [record("5", ',"tags":{}'), "wrong_type"],
    [record("6", ',"tags":[1]'), "wrong_type"],
    [record("7", ',"a":5'), "wrong_type"],
    ['{"id":"8","at":5}', "wrong_type"],
    ['{"id":"9","at":"yesterday"}', "wrong_type"],
    ['{"id":"10","at":"2025-01-01T00:00:00"}', "wrong_type"],
    [record("11", ',"ok":true,"tags":["p","q"]'), { ok: true, tags: ["p", "q"] }],
  ],
  nulls: [
    [`{"id":null,"at":"${TIME}"}`, "missing_field"],
    [`{"at":"${TIME}"}`, "missing_field"],
    ['{"id":"1","at":null}', "missing_field"],
    [record("2", ',"tags":[null]'), "wrong_type"],
    [record("3", ',"n":null,"tags":null,"a":null'), { id: "3", n: null, tags: null, name: null }],
  ],
  big: [
    [record("1"), { id: "1" }],
    [record(LONG), "oversize"],
    [LONG, "oversize"],
    [record("2"), { id: "2" }],
  ],
  deep: [
    [record("1"), { id: "1" }],
    [DEEP, "oversize"],
    [record("2", `,"extra":${DEEP}`), "oversize"],
    [record("3", `,"extra":${'{"a":'.repeat(10_000)}1${"}".repeat(10_000)}`), "oversize"],
    ["[".repeat(10_000), "oversize"],
    [record("4"), { id: "4" }],
  ],
  duplicateKeys: [
    [record("1", ',"n":1,"n":2'), "malformed"],
    [`{"id":"a","id":"b","at":"${TIME}"}`, "malformed"],
    [record("2", ',"n":2'), { id: "2", n: "2" }],
  ],
  proto: [
    [record("1", ',"__proto__":{"id":"evil"}'), { id: "1" }],
    [`{"__proto__":{"id":"evil"},"at":"${TIME}"}`, "missing_field"],
    [record("2", ',"constructor":1,"toString":2'), { id: "2" }],
    [record("3", ',"a":{"__proto__":1,"name":"z"}'), { id: "3", name: "z" }],
  ],
  numbers: [
    [record("1", ',"n":9007199254740993'), { n: "9007199254740993" }],
    [record("2", ',"n":-9223372036854775808'), { n: "-9223372036854775808" }],
    [record("3", ',"n":9223372036854775808'), "out_of_range"],
    [record("4", ',"n":1e400'), "out_of_range"],
    [record("5", ',"x":1e400'), "out_of_range"],
    [record("6", ',"i":2147483648'), "out_of_range"],
    [record("7", ',"price":100000000'), "out_of_range"],
    [record("8", ',"price":1.234'), "out_of_range"],
    [record("9", ',"price":99999999.99,"n":1e3'), { price: "99999999.99", n: "1000" }],
    [record("10", ',"x":123456789012345678901234567890'), { x: 123456789012345680000000000000 }],
  ],
  dates: [
    ['{"id":"1","at":"0001-01-01T00:00:00Z"}', { at: "0001-01-01 00:00:00+00" }],
    ['{"id":"2","at":"275760-09-13T00:00:00Z"}', "wrong_type"],
    ['{"id":"3","at":"+275760-09-13T00:00:00Z"}', "event_time_in_future"],
    ['{"id":"4","at":"9999-12-31T23:59:59Z"}', "event_time_in_future"],
    ['{"id":"5","at":"2025-02-30T00:00:00Z"}', "wrong_type"],
    [record("6"), { at: "2025-01-01 00:00:00+00" }],
  ],
};

const CSV = [
  "\ufeffid,n,x,ok,a.name,at",
  `1,5,1.5,true,"a ""b"", c",${TIME}`,
  `2,,,,,${TIME}`,
  `3,x,,,,${TIME}`,
  "4,1",
  `5,1,1,maybe,,${TIME}`,
  `"6\nx",7,1,false,,${TIME}`,
  `"7,1,1,true,,${TIME}`,
  `8,9007199254740993,,,,${TIME}`,
].join("\r\n");

const dir = testDir("bad-input");
const input = path.join(dir, "input");
const out = path.join(dir, "out");
let result: Result;
let partitions: ReadonlyMap<string, number>;

const EXTRA: Readonly<Record<string, string | Uint8Array>> = {
  "blank.ndjson": "\n\r\n  \n",
  "bom.ndjson": `\ufeff${record("1")}\n${record("2")}\n`,
  "crlf.ndjson": `${record("1")}\r\n${record("2")}\r\n`,
  "cut.ndjson.gz": ZIPPED.subarray(0, ZIPPED.length - 1500),
  "empty.csv": "",
  "empty.ndjson": "",
  "empty.ndjson.gz": "",
  "table.csv": CSV,
  "unended.ndjson": `${record("1")}\n${record("2")}`,
};

beforeAll(() => {
  for (const [name, lines] of Object.entries(CASES)) {
    const bytes = lines.flatMap(([line]) => [Buffer.from(line), Buffer.from("\n")]);
    write(path.join(input, `${name}.ndjson`), Buffer.concat(bytes));
  }
  for (const [name, content] of Object.entries(EXTRA)) write(path.join(input, name), content);
  const names = [...Object.keys(CASES).map((name) => `${name}.ndjson`), ...Object.keys(EXTRA)];
  partitions = new Map(names.sort().map((name, partition) => [name, partition]));
  const pipeline = write(path.join(dir, "bad.ts"), PIPELINE);
  result = millpond("run", pipeline, "--input", input, "--out", out);
});

const eventsOf = (file: string) =>
  rowsOf(out, `FROM {db}.events WHERE partition = ${partitions.get(file)} ORDER BY "offset"`);
const deadLettersOf = (file: string) =>
  rowsOf(out, `FROM {db}.dead_letters WHERE partition = ${partitions.get(file)} ORDER BY "offset"`);

describe("bad input", () => {
  test("never stops the run, and records = events + dead letters", async () => {
    expect(result.stderr).not.toContain("error");
    expect(result.status).toBe(0);
    const [sums] = await rowsOf(out, "FROM {db}.accounting WHERE kind = 'stream'");
    const lines = Object.values(CASES).reduce((sum, { length }) => sum + length, 0);
    const cut = (await eventsOf("cut.ndjson.gz")).length + 1;
    // table.csv has 8 rows; bom, crlf and unended 2 records each.
    expect(Number(sums?.records)).toBe(lines + cut + 8 + 6);
    expect(Number(sums?.records)).toBe(Number(sums?.events) + Number(sums?.dead_letters));
  });

  test.each(Object.entries(CASES))("each record of %s has its fate", async (name, lines) => {
    const events = new Map((await eventsOf(`${name}.ndjson`)).map((row) => [row.offset, row]));
    const dead = new Map((await deadLettersOf(`${name}.ndjson`)).map((row) => [row.offset, row]));
    expect(events.size + dead.size).toBe(lines.length);
    for (const [offset, [, fate]] of lines.entries()) {
      const at = String(offset);
      if (typeof fate === "string") expect([offset, dead.get(at)?.reason]).toEqual([offset, fate]);
      else expect(events.get(at)).toMatchObject(fate);
    }
  });

  test("dead letters keep the bytes as they came", async () => {
    const sizes = await rowsOf(
      out,
      `SELECT octet_length(raw) AS size FROM {db}.dead_letters WHERE reason = 'oversize'
       AND partition = ${partitions.get("big.ndjson")} ORDER BY "offset"`,
    );
    const expected = [record(LONG).length, LONG.length].map((size) => ({ size: String(size) }));
    expect(sizes).toEqual(expected);
  });

  test("empty and blank files hold no record; BOM, CRLF, no last newline do no harm", async () => {
    for (const name of ["blank.ndjson", "empty.csv", "empty.ndjson", "empty.ndjson.gz"]) {
      expect([name, await eventsOf(name), await deadLettersOf(name)]).toEqual([name, [], []]);
    }
    for (const name of ["bom.ndjson", "crlf.ndjson", "unended.ndjson"]) {
      expect((await eventsOf(name)).map(({ id }) => id)).toEqual(["1", "2"]);
      expect(await deadLettersOf(name)).toEqual([]);
    }
  });

  test("of a .gz that was cut all that can be read is, and the run warns", async () => {
    const events = await eventsOf("cut.ndjson.gz");
    expect(events.length).toBeGreaterThan(500);
    expect(events.map(({ n }) => n)).toEqual(events.map((_, i) => String(i)));
    const dead = await deadLettersOf("cut.ndjson.gz");
    expect(dead.map(({ reason, offset }) => [reason, offset])).toEqual([
      ["malformed", String(events.length)],
    ]);
    expect(result.stderr).toMatch(/warning: .*cut\.ndjson\.gz ends inside its gzip stream/);
  });

  test("a broken CSV row takes no other along", async () => {
    expect(await eventsOf("table.csv")).toMatchObject([
      { id: "1", n: "5", x: 1.5, ok: true, name: 'a "b", c' },
      { id: "2", n: null, x: null, ok: null, name: null },
      { id: "6\nx", n: "7", ok: false },
      { id: "8", n: "9007199254740993" },
    ]);
    const dead = (await deadLettersOf("table.csv")).map(({ reason }) => reason);
    expect(dead).toEqual(["wrong_type", "malformed", "wrong_type", "malformed"]);
  });

  test("windows hold every event that is in the row table and not late", async () => {
    const [windows] = await rowsOf(
      out,
      "SELECT sum(events) AS events, sum(total) AS total FROM {db}.hourly",
    );
    const [rows] = await rowsOf(
      out,
      `SELECT (count(*) - (SELECT count(*) FROM {db}.late))::HUGEINT AS events, sum(n) AS total
       FROM {db}.events`,
    );
    expect(windows).toEqual(rows);
  });

  test("Parquet rows with a null or a wrong value are dead letters, others events", async () => {
    const file = path.join(dir, "rows.parquet");
    const instance = await DuckDBInstance.create(":memory:");
    const connection = await instance.connect();
    await connection.run(
      `COPY (SELECT * FROM (VALUES ('1', '${TIME}', 9007199254740993), (NULL, '${TIME}', 2),
       ('3', 'yesterday', 3), ('4', '${TIME}', NULL)) AS t(id, "at", n)) TO '${file}'`,
    );
    instance.closeSync();
    const target = path.join(dir, "parquet-out");
    succeed("run", path.join(dir, "bad.ts"), "--input", file, "--out", target);
    const events = 'SELECT "offset", id, n FROM {db}.events ORDER BY ALL';
    expect(await rowsOf(target, events)).toEqual([
      { offset: "0", id: "1", n: "9007199254740993" },
      { offset: "3", id: "4", n: null },
    ]);
    const dead = 'SELECT "offset", reason FROM {db}.dead_letters ORDER BY ALL';
    expect(await rowsOf(target, dead)).toEqual([
      { offset: "1", reason: "missing_field" },
      { offset: "2", reason: "wrong_type" },
    ]);
    fs.truncateSync(file, fs.statSync(file).size - 20);
    const broken = millpond(
      "run",
      path.join(dir, "bad.ts"),
      "--input",
      file,
      "--out",
      `${target}2`,
    );
    expect(broken.status).toBe(3);
    expect(broken.stderr).toContain("rows.parquet");
  });
});
