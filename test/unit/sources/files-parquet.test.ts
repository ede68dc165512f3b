/** Parquet files: rows as exact JSON in the file's order, resumed by row, guarded. */
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { beforeAll, describe, expect, test } from "vitest";
import { field, readFileRecords, scratch, streamOf, texts, write } from "./files-support.js";

const dir = await scratch();
const instance = await DuckDBInstance.create(":memory:", { threads: "1" });
const duckdb = await instance.connect();

async function writeParquet(name: string, select: string): Promise<string> {
  const path = join(dir, name);
  await duckdb.run(`COPY (${select}) TO '${path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)`);
  return path;
}

describe("values", () => {
  beforeAll(() => duckdb.run("SET TimeZone = 'America/New_York'").then(() => undefined));

  test.each([
    ["9223372036854775807::BIGINT", "9223372036854775807"],
    ["-1234567890123456.78::DECIMAL(18, 2)", "-1234567890123456.78"],
    ["0.1::DOUBLE", "0.1"],
    ["'NaN'::DOUBLE", '"nan"'],
    ["'-inf'::DOUBLE", '"-inf"'],
    ["'inf'::FLOAT", '"inf"'],
    ["NULL::DOUBLE", "null"],
    ["TIMESTAMP '2024-02-29 12:34:56.789123'", '"2024-02-29T12:34:56.789123Z"'],
    ["TIMESTAMPTZ '2024-02-29 12:34:56.5+05:30'", '"2024-02-29T07:04:56.500000Z"'],
    ["TIMESTAMP_NS '2024-02-29 12:34:56.789123456'", '"2024-02-29T12:34:56.789123Z"'],
    ["TIMESTAMP '0001-01-01 00:00:00'", '"0001-01-01T00:00:00.000000Z"'],
    ["NULL::TIMESTAMP", "null"],
    ["true", "true"],
    ["'quote \" back \\ é😀'", '"quote \\" back \\\\ é😀"'],
    ["'ab'::BLOB", '"YWI="'],
    ["DATE '2024-01-02'", '"2024-01-02"'],
    ["[1.5::DOUBLE, 'nan'::DOUBLE, NULL]", '[1.5,"nan",null]'],
    ["[TIMESTAMPTZ '2024-01-01 00:00:00Z']", '["2024-01-01T00:00:00.000000Z"]'],
    ["[[1], [2, 3]]", "[[1],[2,3]]"],
    [
      "{'T': 1.5, 'at': TIMESTAMPTZ '2024-01-01 00:00:00Z', 'x': [{'y': TIMESTAMP '2024-01-01'}]}",
      '{"T":1.5,"at":"2024-01-01T00:00:00.000000Z","x":[{"y":"2024-01-01T00:00:00.000000Z"}]}',
    ],
    ["NULL::STRUCT(a TIMESTAMP)", "null"],
  ])("%s becomes %s", async (sql, json) => {
    const path = await writeParquet("value.parquet", `SELECT ${sql} AS "va""l'ue"`);
    const [text] = texts(await readFileRecords(path));
    expect(Buffer.from(text!, "latin1").toString()).toBe(`{"va\\"l'ue":${json}}`);
  });

  test("a timestamp of a field declared as epoch is a number", async () => {
    const stream = streamOf(
      field("s", { kind: "timestamp" }, { format: { kind: "epoch_s" } }),
      field("ms", { kind: "timestamp" }, { path: ["p", "ms"], format: { kind: "epoch_ms" } }),
      field("us", { kind: "timestamp" }, { format: { kind: "epoch_us" } }),
      field("n", { kind: "timestamp" }, { format: { kind: "epoch_ms" } }),
    );
    const at = "TIMESTAMPTZ '2024-01-01 00:00:00.25Z'";
    const select = `SELECT ${at} AS s, {'ms': ${at}} AS p, ${at} AS us, 17::BIGINT AS n`;
    const path = await writeParquet("epoch.parquet", select);
    const rows = texts(await readFileRecords(path, { stream })).map((text) => JSON.parse(text));
    const ms = Date.UTC(2024, 0, 1) + 250;
    expect(rows).toEqual([{ s: ms / 1000, p: { ms }, us: ms * 1000, n: 17 }]);
  });
});

describe("files", () => {
  const select = "SELECT range AS i, 'row ' || hash(range) AS s FROM range(10000)";

  test("any split and a resume at any row give the rows in order", async () => {
    const path = await writeParquet("year=2024.parquet", select);
    const rows = (await duckdb.runAndReadAll(select)).getRows();
    const expected = rows.map(([i, s]) => `{"i":${i},"s":"${s}"}`);
    for (const [recordsMax, stopAfter] of [
      [7, 1],
      [1000, 2500],
      [3000, 9000],
      [100_000, 1],
    ] as const) {
      const limits = { sliceBytesMax: 50_000 };
      const first = await readFileRecords(path, { recordsMax, stopAfter, limits });
      const rest = await readFileRecords(path, { recordsMax, from: first });
      const both = [...first.records, ...rest.records];
      expect(both.map((record) => record.text)).toEqual(expected);
      expect(both.map((record) => record.offset)).toEqual(expected.map((_, i) => i));
    }
  });

  test("no rows, and no bytes, are no records", async () => {
    const none = await writeParquet("none.parquet", "SELECT 1 AS a WHERE false");
    expect((await readFileRecords(none)).records).toEqual([]);
    expect((await readFileRecords(await write(dir, "zero.parquet", ""))).records).toEqual([]);
  });

  test("a changed file is refused, and so is one that is not Parquet", async () => {
    const path = await writeParquet("changed.parquet", "SELECT 1 AS a");
    const first = await readFileRecords(path);
    expect((await readFileRecords(path, { from: first })).records).toEqual([]);
    await writeParquet("changed.parquet", "SELECT 2 AS a");
    await expect(readFileRecords(path, { from: first })).rejects.toThrow(/changed since/);
    const fake = await write(dir, "fake.parquet", "not parquet at all");
    await expect(readFileRecords(fake)).rejects.toMatchObject({ code: "INPUT" });
    await expect(readFileRecords(fake)).rejects.toThrow(/fake\.parquet/);
  });
});
