/** A benchmark result counts only if its rows are right, so the check must notice a wrong one. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { expect, test } from "vitest";
import { verifyAgainstReference } from "./reference.js";

test("right sessions agree, and one wrong count is reported from both sides", async () => {
  const folder = await mkdtemp(join(tmpdir(), "millpond-verify-"));
  try {
    await mkdir(join(folder, "ref"));
    const answers = join(folder, "ref", "w3.parquet");
    const instance = await DuckDBInstance.create(join(folder, "results.duckdb"));
    const connection = await instance.connect();
    await connection.run(`COPY (SELECT * FROM (VALUES ('u1', 1000, 5000, 3, 2), ('u2', 7, 7, 1, 1))
      AS t(user_id, start_ms, end_ms, n, pages)) TO '${answers}'`);
    const sessions = `SELECT user_id, make_timestamptz(start_ms * 1000) AS session_start,
      make_timestamptz(end_ms * 1000) AS session_end, n, pages FROM '${answers}'`;
    await connection.run(`CREATE TABLE sessions AS ${sessions}`);
    await connection.run(`CREATE TABLE wrong AS FROM sessions`);
    await connection.run("UPDATE wrong SET n = 4 WHERE user_id = 'u1'");
    connection.closeSync();
    instance.closeSync();
    const options = { outDir: folder, dataDir: folder, workload: "w3" } as const;
    const right = await verifyAgainstReference({ ...options, table: "sessions" });
    expect(right).toMatchObject({ agrees: true, rows: 2, expectedRows: 2, report: "" });
    const wrong = await verifyAgainstReference({ ...options, table: "wrong" });
    expect(wrong.agrees).toBe(false);
    expect(wrong.report.split("\n")).toEqual([
      "missing {'user_id': u1, 'start_ms': 1000, 'end_ms': 5000, 'n': 3, 'pages': 2}",
      "extra {'user_id': u1, 'start_ms': 1000, 'end_ms': 5000, 'n': 4, 'pages': 2}",
    ]);
  } finally {
    await rm(folder, { recursive: true });
  }
});
