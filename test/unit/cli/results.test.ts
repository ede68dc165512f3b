/** Queries over a small output made by hand: what they return, and what they can't reach. */
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { Writable } from "node:stream";
import { DuckDBInstance } from "@duckdb/node-api";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { copyFile, writeRows } from "../../../lib/cli/query-output.js";
import { openLocalResults } from "../../../lib/query/local-results.js";

let dir = "";
let out = "";

beforeAll(async () => {
  dir = fs.mkdtempSync(path.join(tmpdir(), "millpond-test-"));
  out = path.join(dir, "out");
  fs.mkdirSync(path.join(out, "lake", "bronze", "_delta_log"), { recursive: true });
  const bronze = path.join(out, "lake", "bronze");
  const instance = await DuckDBInstance.create(path.join(out, "results.duckdb"));
  const connection = await instance.connect();
  const statements = [
    `CREATE TABLE views AS SELECT 'a,"b"' AS page, 9007199254740993::BIGINT AS n,
       1.50::DECIMAL(5, 2) AS d, TIMESTAMPTZ '2024-01-02 03:04:05.678+00' AS t, NULL AS nothing,
       [1, 2] AS list`,
    "CREATE TABLE many AS SELECT range::INTEGER AS n FROM range(1000)",
    `COPY (SELECT 7 AS "offset") TO '${bronze}/live.parquet' (FORMAT parquet)`,
    `COPY (SELECT 8 AS "offset") TO '${bronze}/removed.parquet' (FORMAT parquet)`,
    `COPY (SELECT 9 AS x) TO '${dir}/outside.parquet' (FORMAT parquet)`,
    `ATTACH '${dir}/outside.duckdb' AS outside`,
    "CREATE TABLE outside.secret AS SELECT 1 AS x",
  ];
  for (const sql of statements) await connection.run(sql);
  connection.closeSync();
  instance.closeSync();
  const add = (name: string) => JSON.stringify({ add: { path: name, partitionValues: {} } });
  const remove = JSON.stringify({ remove: { path: "removed.parquet" } });
  const commit = (version: number) =>
    path.join(bronze, "_delta_log", `${String(version).padStart(20, "0")}.json`);
  fs.writeFileSync(commit(0), `${add("live.parquet")}\n${add("removed.parquet")}\n`);
  fs.writeFileSync(commit(1), `${remove}\n`);
  fs.writeFileSync(path.join(dir, "secret.csv"), "a\n1\n");
});

afterAll(() => fs.rmSync(dir, { recursive: true, force: true }));

class Text extends Writable {
  text = "";
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

async function run(sql: string, format: "table" | "json" | "csv", limit = 100): Promise<string> {
  const results = await openLocalResults(out);
  try {
    const target = new Text();
    await writeRows(await results.select(sql), format, target, limit);
    return target.text;
  } catch (error) {
    throw await results.explained(error);
  } finally {
    results.close();
  }
}

describe("what a query returns", () => {
  test("JSON keeps numbers exact and writes timestamps as ISO", async () => {
    expect(JSON.parse(await run("FROM views", "json"))).toEqual([
      {
        page: 'a,"b"',
        n: "9007199254740993",
        d: 1.5,
        t: "2024-01-02T03:04:05.678Z",
        nothing: null,
        list: [1, 2],
      },
    ]);
  });

  test("no rows are an empty JSON array", async () => {
    expect(JSON.parse(await run("FROM many WHERE n < 0", "json"))).toEqual([]);
  });

  test("CSV quotes as RFC 4180 says", async () => {
    const text = await run("SELECT page, n, nothing, '' AS empty FROM views", "csv");
    expect(text).toBe('page,n,nothing,empty\r\n"a,""b""",9007199254740993,,""\r\n');
  });

  test("a table is aligned, and says how many rows it leaves out", async () => {
    const text = await run("SELECT n, 'x' AS s FROM many ORDER BY n", "table", 2);
    expect(text).toBe("n  s\n─  ─\n0  x\n1  x\n… 998 more rows (--limit)\n");
  });

  test("a lake table shows the files that its log says are live", async () => {
    expect(JSON.parse(await run("FROM bronze", "json"))).toEqual([{ offset: 7 }]);
  });

  test("bytes that are text show as text, others as escapes; JSON has base64", async () => {
    const sql = `SELECT encode('say "é"') AS text, '\\xFF\\x00'::BLOB AS other`;
    expect(await run(sql, "csv")).toBe('text,other\r\n"say ""é""",\\xFF\\x00\r\n');
    const [row] = JSON.parse(await run(sql, "json"));
    expect(Buffer.from(row.text, "base64").toString()).toBe('say "é"');
    expect(row.other).toBe(Buffer.from([255, 0]).toString("base64"));
  });

  test("a plan is shown as it is drawn", async () => {
    for (const sql of ["EXPLAIN FROM many", " -- why\nexplain analyze /* x */ FROM many;"]) {
      const text = await run(sql, "table", 100);
      expect(text).toContain("│");
      expect(text).not.toContain("explain_key");
    }
  });

  test("a query may begin and end with comments", async () => {
    const sql = "-- one;\n/* two; */ SELECT ';' AS s, $$a;b$$ AS t; -- three;";
    expect(JSON.parse(await run(sql, "json"))).toEqual([{ s: ";", t: "a;b" }]);
    for (const empty of ["", " ;", "-- nothing", "/* */ -- x\n;"]) {
      await expect(run(empty, "json")).rejects.toThrow(/because it is empty/);
    }
  });

  test("Parquet holds the rows", async () => {
    const writable = fs.mkdtempSync(path.join(dir, "writable-"));
    const results = await openLocalResults(out, writable);
    const file = path.join(writable, "result.parquet");
    await results.writeParquet("FROM many WHERE n >= $n; -- a comment", file, { n: 0 });
    await expect(results.writeParquet("SELECT 1) TO 'x' --", file)).rejects.toThrow();
    results.close();
    const target = fs.createWriteStream(path.join(dir, "copy.parquet"));
    await copyFile(file, target);
    await new Promise<void>((done) => target.end(done));
    const instance = await DuckDBInstance.create(":memory:");
    const connection = await instance.connect();
    const reader = await connection.runAndReadAll(
      `SELECT count(*), sum(n)::BIGINT FROM '${dir}/copy.parquet'`,
    );
    expect(reader.getRows()).toEqual([[1000n, 499_500n]]);
    connection.closeSync();
    instance.closeSync();
  });

  test("a missing table's error names those that exist", async () => {
    await expect(run("FROM nope", "json")).rejects.toThrow(/bronze, many, views/);
  });
});

describe("what a query can't do", () => {
  const attempts = [
    "SELECT 1; SELECT 2",
    "",
    "INSERT INTO many VALUES (1)",
    "DELETE FROM many",
    "UPDATE many SET n = 1",
    "DROP TABLE many",
    "CREATE TABLE memory.main.z AS SELECT 1",
    "CREATE MACRO memory.main.f() AS 1",
    "COPY many TO 'DIR/stolen.csv'",
    "COPY many TO 'OUT/lake/bronze/live.parquet' (FORMAT parquet, USE_TMP_FILE false)",
    "EXPLAIN ANALYZE COPY many TO 'OUT/lake/bronze/live.parquet' (USE_TMP_FILE false)",
    "COPY memory.main.x FROM 'DIR/secret.csv'",
    "EXPORT DATABASE 'DIR/exported'",
    "ATTACH 'DIR/outside.duckdb' AS other",
    "ATTACH 'DIR/new.duckdb' AS other",
    "DETACH results",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET lock_configuration = false",
    "SET enable_external_access = true",
    "RESET allowed_paths",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "CHECKPOINT",
    "PREPARE p AS SELECT 1",
    "FROM query('COPY many TO ''DIR/stolen.csv''')",
    "FROM read_csv('DIR/secret.csv')",
    "FROM 'DIR/secret.csv'",
    "FROM read_text('DIR/secret.csv')",
    "FROM read_blob('DIR/secret.csv')",
    "FROM sniff_csv('DIR/secret.csv')",
    "FROM read_json('DIR/secret.csv')",
    "FROM read_ndjson_objects('DIR/secret.csv')",
    "FROM glob('DIR/*')",
    "FROM read_parquet('DIR/outside.parquet')",
    "FROM parquet_metadata('DIR/outside.parquet')",
    "FROM read_parquet('OUT/lake/bronze/../../../outside.parquet')",
    "FROM read_parquet('OUT/lake/bronze/removed.parquet')",
    "FROM 'DIR/outside.duckdb'",
    "FROM 'https://127.0.0.1/x.parquet'",
    "SELECT getenv('HOME')",
    "FROM duckdb_secrets()",
    "FROM which_secret('s3://x', 's3')",
  ];

  test.each(attempts)("%s", async (attempt) => {
    const before = fs.readFileSync(path.join(out, "lake", "bronze", "live.parquet"));
    const names = fs.readdirSync(dir).sort();
    const sql = attempt.replaceAll("DIR", dir).replaceAll("OUT", out);
    await expect(run(sql, "json")).rejects.toMatchObject({ code: "QUERY" });
    expect(fs.readFileSync(path.join(out, "lake", "bronze", "live.parquet"))).toEqual(before);
    expect(fs.readdirSync(dir).sort()).toEqual(names);
  });

  test("a query that was interrupted says so", async () => {
    const results = await openLocalResults(out);
    const timer = setTimeout(() => results.interrupt(), 200);
    const sql = "SELECT sum(a.n * b.n * c.n) FROM many a, many b, many c, many d";
    const work = results.select(sql).then((rows) => rows.fetchAllChunks());
    const error = await work.catch((found: unknown) => results.explained(found));
    clearTimeout(timer);
    results.close();
    expect(error).toMatchObject({ code: "QUERY" });
    expect(String(error)).toContain("--timeout");
  });
});

test("a directory without results is named in the error", async () => {
  await expect(openLocalResults(path.join(dir, "absent"))).rejects.toThrow(/does not exist/);
  const empty = fs.mkdtempSync(path.join(dir, "empty-"));
  await expect(openLocalResults(empty)).rejects.toThrow(/holds no results/);
});
