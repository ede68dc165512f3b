/**
 * audit, diff and backfill as users run them: their exit codes, and kill -9 in the middle of a
 * backfill, after which the output is of one definition or of the other, and whole.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { DuckDBInstance } from "@duckdb/node-api";
import { expect, test } from "vitest";
import { ended, millpond, start, succeed, testDir, write } from "./support/cli.js";

const PIPELINE = fileURLToPath(new URL("support/activity.ts", import.meta.url));
const dir = testDir("audit");
const input = path.join(dir, "input");
const out = path.join(dir, "out");
const KILLS = 4;
const SEED = Number(process.env.MILLPOND_SEED ?? Date.now() % 1_000_000);

/** The same pipeline with longer windows. */
function changed(): string {
  const text = fs
    .readFileSync(PIPELINE, "utf8")
    .replaceAll("tumbling(minutes(1))", "tumbling(minutes(2))");
  return write(path.join(dir, "changed.ts"), text);
}

const rowsOf = (sql: string): unknown[] =>
  JSON.parse(succeed("query", "--out", out, "--format", "json", sql).stdout);

test("a run is proved, and a change of its results is found: the exit code says so", async () => {
  const shape = ["--events", "20000", "--partitions", "3", "--seed", "7", "--out", input];
  succeed("simulate", "activity", ...shape, "--late", "0.02", "--duplicates", "0.02");
  succeed("run", PIPELINE, "--input", input, "--out", out);
  const audit = millpond("audit", "--out", out);
  expect(audit).toMatchObject({ status: 0, stderr: "" });
  expect(audit.stdout).toContain("Equal: every row is as the raw records say.");
  const copy = path.join(dir, "copy");
  fs.cpSync(out, copy, { recursive: true });
  const instance = await DuckDBInstance.create(path.join(copy, "results.duckdb"));
  const connection = await instance.connect();
  await connection.run("UPDATE pages SET views = views + 1 WHERE rowid = 3");
  connection.closeSync();
  instance.closeSync();
  const tampered = millpond("audit", "--out", copy);
  expect(tampered.status).toBe(1);
  expect(tampered.stdout).toMatch(/pages: 1 difference/);
  expect(JSON.parse(millpond("audit", "--out", copy, "--json").stdout)).toMatchObject({
    equal: false,
  });
  expect(millpond("audit", "--out", path.join(dir, "nowhere")).status).toBe(2);
  const pages = path.join(copy, "lake", "pages");
  const files = fs.readdirSync(pages, { recursive: true, encoding: "utf8" });
  for (const name of files.filter((one) => one.endsWith(".parquet"))) {
    fs.writeFileSync(path.join(pages, name), "no Parquet");
  }
  const damaged = millpond("audit", "--out", copy);
  expect(damaged.status).toBe(5);
  expect(damaged.stderr).toContain("published rows cannot be read");
});

test("its SQL is a script that DuckDB runs by itself", async () => {
  const script = succeed("audit", "--out", out, "--sql").stdout;
  const instance = await DuckDBInstance.create(":memory:");
  const connection = await instance.connect();
  await connection.run(script);
  const reader = await connection.runAndReadAll("SELECT count(*)::INTEGER FROM pages");
  expect(reader.getRows()).toEqual([[rowsOf("FROM pages").length]]);
  instance.closeSync();
});

test(`a backfill killed ${KILLS} times leaves old results or new (seed ${SEED})`, async () => {
  const next = changed();
  const difference = millpond("diff", PIPELINE, next, "--out", out, "--json");
  expect(difference.status).toBe(1);
  const tables: { table: string; before: number; after: number }[] = JSON.parse(
    difference.stdout,
  ).tables;
  const counts = tables.find(({ table }) => table === "pages")!;
  let seed = SEED;
  for (let kill = 0; kill < KILLS; kill++) {
    const child = start(["backfill", next, "--out", out]);
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    const timer = setTimeout(() => child.kill("SIGKILL"), 300 + (seed % 2_000));
    await ended(child);
    clearTimeout(timer);
    const rows = rowsOf("FROM pages").length;
    expect([counts.before, counts.after]).toContain(rows);
    expect(millpond("audit", "--out", out).status).toBe(0);
  }
  succeed("backfill", next, "--out", out);
  expect(rowsOf("FROM pages").length).toBe(counts.after);
  const again = succeed("run", next, "--input", input, "--out", out);
  expect(again.stdout).toContain("0 new records");
  expect(millpond("audit", "--out", out).status).toBe(0);
});
