/** Outputs that are full, foreign, or in use, and wrong commands: clear errors, nothing damaged. */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import {
  commandLine,
  ended,
  jsonLines,
  millpond,
  start,
  succeed,
  testDir,
  write,
} from "./support/cli.js";
import { differences } from "./support/outputs.js";

const PIPELINE = fileURLToPath(new URL("support/activity.ts", import.meta.url));
const WEATHER = fileURLToPath(new URL("../../pipelines/weather.ts", import.meta.url));
const dir = testDir("trouble");
const input = path.join(dir, "input");
const undisturbed = path.join(dir, "undisturbed");
const run = (out: string, ...more: string[]) =>
  ["run", PIPELINE, "--input", input, "--out", out, ...more] as const;

beforeAll(() => {
  const shape = ["--events", "30000", "--partitions", "2", "--rate", "200", "--seed", "4"];
  succeed("simulate", "activity", ...shape, "--late", "0.01", "--out", input);
  succeed(...run(undisturbed));
});

function refused(status: number, message: RegExp | string, ...args: readonly string[]): void {
  const result = millpond(...args);
  expect(result.stderr).toMatch(message);
  expect(result.stderr).not.toContain("unexpected error");
  expect(result.status).toBe(status);
}

describe("a disk without room", () => {
  // A limit on a file's size fails writes as a full disk does, and needs no rights. In KiB.
  test("that takes no larger file: an error, then nothing is missing", async () => {
    const out = path.join(dir, "limited");
    const command = `ulimit -f 40; ${commandLine(run(out, "--batch-size", "1000"))}`;
    const limited = spawnSync("bash", ["-c", command], { encoding: "utf8" });
    expect([limited.status, limited.stderr]).toEqual([5, expect.stringContaining("error: ")]);
    succeed(...run(out));
    expect(await differences(undisturbed, out)).toEqual([]);
  });

  test.each([0, 3, 4096, 6000])("that cut the lock at %i bytes locks nothing", async (bytes) => {
    const out = path.join(dir, `cut-lock-${bytes}`);
    const lock = fs.readFileSync(path.join(undisturbed, "state", "lock"));
    write(path.join(out, "state", "lock"), lock.subarray(0, bytes));
    succeed(...run(out));
    expect(await differences(undisturbed, out)).toEqual([]);
  });

  test.each([0, 4096, 8192])("that cut the new database at %i bytes is no harm", async (bytes) => {
    const out = path.join(dir, `cut-database-${bytes}`);
    const [manifest, database] = ["millpond.json", "results.duckdb"].map((name) =>
      fs.readFileSync(path.join(undisturbed, name)),
    );
    write(path.join(out, "millpond.json"), manifest!);
    write(path.join(out, "results.duckdb"), database!.subarray(0, bytes));
    succeed(...run(out));
    expect(await differences(undisturbed, out)).toEqual([]);
  });
});

describe("an output directory", () => {
  test("of another pipeline, definition or program is refused and left as it is", async () => {
    const names = fs.readdirSync(undisturbed, { recursive: true }).sort();
    refused(4, 'belongs to pipeline "activity"', "run", WEATHER, ...run(undisturbed).slice(2));
    const changed = run(undisturbed, "--set", "gap_minutes=3");
    refused(4, /\(changed: table "visits", parameter "gap_minutes"\)/, ...changed);
    expect(fs.readdirSync(undisturbed, { recursive: true }).sort()).toEqual(names);
    const foreign = path.join(dir, "foreign");
    write(path.join(foreign, "mine.txt"), "mine");
    refused(4, /foreign holds other files \(mine\.txt/, ...run(foreign));
    expect(fs.readdirSync(foreign)).toEqual(["mine.txt"]);
  });

  test("that is a file, or cannot be made, is refused", () => {
    const plain = write(path.join(dir, "plain"), "mine");
    refused(4, "plain is not a directory", ...run(plain));
    refused(4, "plain is not a directory", ...run(path.join(plain, "below")));
    refused(4, "plain is not a directory", "simulate", "sensors", "--out", plain);
    expect(fs.readFileSync(plain, "utf8")).toBe("mine");
  });

  test("takes one run at a time", async () => {
    const out = path.join(dir, "twice");
    const both = [start(run(out, "--batch-size", "50")), start(run(out, "--batch-size", "50"))];
    const codes = await Promise.all(both.map(ended));
    expect(codes.sort()).toEqual([0, 4]);
    expect(await differences(undisturbed, out)).toEqual([]);
  });

  test("of a stopped run can be continued", async () => {
    const [long, whole, out] = ["long", "whole", "stopped"].map((name) => path.join(dir, name));
    const shape = ["--events", "400000", "--partitions", "2", "--rate", "2000"];
    succeed("simulate", "activity", ...shape, "--out", long!);
    const runLong = (to: string) => ["run", PIPELINE, "--input", long!, "--out", to];
    succeed(...runLong(whole!));
    const child = start(runLong(out!));
    // A checkpoint: the run is on its way.
    while (!fs.existsSync(path.join(out!, "state", "checkpoints", "activity", "partitions"))) {
      expect(child.exitCode).toBeNull();
      await setTimeout(5);
    }
    child.kill("SIGINT");
    expect(await ended(child)).toBe(130);
    succeed(...runLong(out!));
    expect(await differences(whole!, out!)).toEqual([]);
  });
});

describe("input that changed between runs", () => {
  test("is refused when what was read is not there, and a file that is gone is a warning", () => {
    const own = path.join(dir, "own");
    const out = path.join(dir, "own-out");
    fs.cpSync(input, own, { recursive: true });
    const again = ["run", PIPELINE, "--input", own, "--out", out];
    succeed(...again);
    const file = path.join(own, "part-00.ndjson");
    const whole = fs.readFileSync(file);
    fs.writeFileSync(file, whole.subarray(0, 5000));
    refused(3, /part-00\.ndjson changed since the last run/, ...again);
    const other = Buffer.from(whole);
    other.write("#", 10);
    fs.writeFileSync(file, other);
    refused(3, /are not the same any more/, ...again);
    fs.rmSync(file);
    const gone = succeed(...again);
    expect(gone.stderr).toMatch(/warning: part-00\.ndjson was read before and is gone/);
    expect(gone.stdout).toContain("30,000 records");
  });
});

describe("a command that cannot work", () => {
  const at = (name: string, source: string) => write(path.join(dir, name), source);
  const out = path.join(dir, "never");
  const rest = ["--input", input, "--out", out];

  test("says what is wrong, and exits with 2", () => {
    refused(2, 'no parameter "nope". It has: gap_minutes', ...run(out, "--set", "nope=1"));
    refused(2, "unknown option '--bach-size'", ...run(out, "--bach-size", "1"));
    refused(2, "expected a whole number", ...run(out, "--batch-size", "0"));
    refused(2, /no stream "foo"\. It has: activity/, ...run(out), "--input", "foo=events");
    refused(2, "simulate: events is -5", "simulate", "sensors", "--events", "-5", "--out", out);
    refused(2, "does not exist", "run", path.join(dir, "none.ts"), ...rest);
    refused(2, /syntax\.ts:1:\d+: /, "run", at("syntax.ts", "export default ("), ...rest);
    refused(2, "no default export", "run", at("no.ts", "export const a = 1;"), ...rest);
    refused(2, "exports something else", "run", at("one.ts", "export default 1;"), ...rest);
    expect(fs.existsSync(out)).toBe(false);
  });

  test("with --json says so as JSON, and a run's every line is JSON", () => {
    const wrong = millpond(...run(out, "--set", "nope=1", "--json"));
    expect(jsonLines(wrong.stderr)).toMatchObject([{ kind: "error", code: "USAGE" }]);
    const right = succeed(...run(undisturbed, "--json"));
    expect(jsonLines(right.stderr).every(({ kind }) => kind === "progress")).toBe(true);
    expect(jsonLines(right.stdout)).toMatchObject([{ kind: "report", aborted: false }]);
    const inspected = succeed("inspect", "--out", undisturbed, "--json");
    expect(JSON.parse(inspected.stdout)).toMatchObject({ pipeline: "activity", outbox: 0 });
  });
});
