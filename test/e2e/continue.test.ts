/** One stream run in many ways: workers, batch sizes, again, grown, without a flush. */
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { deltalake, setUpDeltalake } from "../integration/deltalake.js";
import { succeed, testDir } from "./support/cli.js";
import { differences, lakeTables, rowsOf } from "./support/outputs.js";

const PIPELINE = fileURLToPath(new URL("support/activity.ts", import.meta.url));
const dir = testDir("continue");
const input = path.join(dir, "input");
const once = path.join(dir, "once");
const run = (from: string, out: string, ...more: string[]) =>
  succeed("run", PIPELINE, "--input", from, "--out", out, ...more);
const SIMULATION = ["activity", "--events", "3000", "--partitions", "3", "--seed", "11"]
  .concat(["--rate", "20", "--late", "0.01", "--duplicates", "0.01", "--malformed", "0.01"])
  .concat(["--out-of-order", "60s"]);

beforeAll(() => {
  succeed("simulate", ...SIMULATION, "--out", input);
  run(input, once);
});

describe("results do not depend on", () => {
  test.each(["1", "2", "3"])("workers: %s", async (workers) => {
    const out = path.join(dir, `workers-${workers}`);
    run(input, out, "--workers", workers);
    expect(await differences(once, out)).toEqual([]);
  });

  test.each(["1", "7", "1000"])("the batch size: %s", async (size) => {
    const out = path.join(dir, `batch-${size}`);
    run(input, out, "--batch-size", size);
    expect(await differences(once, out)).toEqual([]);
  });
});

test("the same command again adds nothing", async () => {
  const out = path.join(dir, "again");
  run(input, out);
  expect(run(input, out).stdout).toContain("0 new records");
  expect(await differences(once, out)).toEqual([]);
});

test("lines and files that came later are picked up; a flush publishes what was open", async () => {
  const grown = path.join(dir, "grown");
  const out = path.join(dir, "grown-out");
  fs.mkdirSync(grown);
  const copy = (name: string, share: number) => {
    const lines = fs.readFileSync(path.join(input, name), "utf8").split(/(?<=\n)/);
    const text = lines.slice(0, Math.floor(lines.length * share)).join("");
    fs.writeFileSync(path.join(grown, name), text);
  };
  copy("part-00.ndjson", 0.5);
  run(grown, out, "--no-flush");
  copy("part-00.ndjson", 1);
  copy("part-01.ndjson", 0.3);
  run(grown, out, "--no-flush");
  copy("part-01.ndjson", 1);
  copy("part-02.ndjson", 1);
  run(grown, out, "--no-flush");
  const [open] = await rowsOf(out, "SELECT sum(views)::INTEGER AS views FROM {db}.pages");
  const [all] = await rowsOf(once, "SELECT sum(views)::INTEGER AS views FROM {db}.pages");
  expect(Number(open?.views)).toBeLessThan(Number(all?.views));
  run(grown, out);
  const content = (table: string) => `SELECT * EXCLUDE (revision) FROM {db}.${table} ORDER BY ALL`;
  for (const table of ["pages", "rolling", "visits"]) {
    expect(await rowsOf(out, content(table))).toEqual(await rowsOf(once, content(table)));
  }
  for (const table of ["purchases", "accounting"]) {
    const rows = `SELECT * FROM {db}.${table} ORDER BY ALL`;
    expect(await rowsOf(out, rows)).toEqual(await rowsOf(once, rows));
  }
});

test("simulate writes the same bytes for the same options, others for another seed", () => {
  const [same, other] = [path.join(dir, "same"), path.join(dir, "other")];
  succeed("simulate", ...SIMULATION, "--out", same);
  succeed("simulate", ...SIMULATION, "--seed", "12", "--out", other);
  const read = (from: string) =>
    fs.readdirSync(from).map((name) => fs.readFileSync(path.join(from, name), "utf8"));
  expect(read(same)).toEqual(read(input));
  expect(read(other)).not.toEqual(read(input));
});

test("inspect shows partitions, tables, sinks and sums; progress is plain lines", () => {
  const { stdout } = succeed("inspect", "--out", once);
  expect(stdout).toContain("pipeline activity");
  for (const word of ["activity-2", "part-02.ndjson", "visits", "duckdb", "lake"]) {
    expect(stdout).toContain(word);
  }
  expect(stdout).toMatch(/stream activity +[\d,]+ records = [\d,]+ events \+ [\d,]+ dead letters/);
  const { stderr } = run(input, path.join(dir, "plain"));
  expect(stderr).toMatch(/^(reading|publishing|done) .*records/m);
  expect(stderr.includes("\u001b") || stderr.includes("\r")).toBe(false);
});

const noDeltalake = await setUpDeltalake();
const deltalakeTitle =
  noDeltalake === null ? "PyPI's deltalake" : `PyPI's deltalake (skipped: ${noDeltalake})`;
const countedAlike = `${deltalakeTitle} counts what DuckDB counts, and bronze has every record`;
test.skipIf(noDeltalake !== null)(countedAlike, async () => {
  for (const table of lakeTables(once)) {
    const [counted] = await rowsOf(once, `SELECT count(*)::INTEGER AS n FROM {lake.${table}}`);
    const code = "print(json.dumps(DeltaTable(table_dir).to_pyarrow_table().num_rows))";
    const rows = await deltalake(path.join(once, "lake", table), code);
    expect([table, rows]).toEqual([table, counted?.n]);
  }
  const [sums] = await rowsOf(
    once,
    `SELECT (SELECT count(*) FROM {lake.bronze}) AS bronze,
      (SELECT records FROM {db}.accounting WHERE kind = 'stream') AS records`,
  );
  expect(sums?.bronze).toBe(sums?.records);
});
