/** `millpond query` as a process: exit codes, and a database that another process writes to. */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { DuckDBInstance } from "@duckdb/node-api";
import { afterAll, expect, test } from "vitest";

const CLI = fileURLToPath(new URL("../../dist/bin/millpond.js", import.meta.url));
const dir = fs.mkdtempSync(path.join(tmpdir(), "millpond-query-"));
afterAll(() => fs.rmSync(dir, { recursive: true, force: true }));

function query(...args: string[]) {
  return spawnSync(process.execPath, [CLI, "query", "--out", dir, ...args], { encoding: "utf8" });
}

test("exit codes and errors tell what happened", async () => {
  expect(query("SELECT 1").status).toBe(2);
  const instance = await DuckDBInstance.create(path.join(dir, "results.duckdb"));
  const connection = await instance.connect();
  await connection.run("CREATE TABLE t AS SELECT 1 AS a");
  const busy = query("--json", "FROM t");
  expect(busy.status).toBe(4);
  expect(JSON.parse(busy.stderr)).toMatchObject({ kind: "error", code: "CONFLICT" });
  connection.closeSync();
  instance.closeSync();
  expect(JSON.parse(query("--json", "FROM t").stdout)).toEqual([{ a: 1 }]);
  const refused = query("DROP TABLE t");
  expect(refused.status).toBe(7);
  expect(refused.stderr).toMatch(/^error: .*refused.*\n$/);
  expect(query("--frmat", "json", "FROM t").stderr).toContain("Did you mean --format?");
});
