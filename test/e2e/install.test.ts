/** A project of its own, that installs the clone as README says: commands, imports and types. */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, test } from "vitest";
import { testDir } from "./support/cli.js";

const CLONE = fileURLToPath(new URL("../..", import.meta.url));
const dir = testDir("install");

function inProject(command: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: dir, encoding: "utf8" });
  return { status, text: `${stdout}${stderr}` };
}

beforeAll(() => {
  const readme = fs.readFileSync(path.join(CLONE, "README.md"), "utf8");
  fs.writeFileSync(path.join(dir, "activity.ts"), /```ts\n(.*?)```/s.exec(readme)?.[1] ?? "");
  fs.writeFileSync(path.join(dir, "package.json"), '{ "name": "mine", "type": "module" }');
  // A link to the clone asks no registry; the clone's own scripts have run when it was made.
  const quick = ["--offline", "--ignore-scripts", "--no-audit", "--no-fund"];
  expect(inProject("npm", "install", ...quick, CLONE)).toMatchObject({ status: 0 });
});

test("npx millpond simulates, runs and queries there", () => {
  const npx = (...args: string[]) => inProject("npx", "--offline", "millpond", ...args);
  expect(npx("simulate", "activity", "--events", "2000", "--out", "events").status).toBe(0);
  const ran = npx("run", "activity.ts", "--input", "events", "--out", "out");
  expect(ran).toMatchObject({ status: 0, text: expect.stringContaining("2,000 new records") });
  const sql = "SELECT sum(events)::INT AS events FROM user_sessions";
  const queried = npx("query", "--out", "out", sql, "--format", "json");
  expect(queried).toMatchObject({ status: 0, text: expect.stringContaining('{"events":2000}') });
});

test("a pipeline's mistake is found by tsc there, and a right one is fine", () => {
  const options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022"];
  const tsc = (file: string) =>
    inProject(path.join(CLONE, "node_modules", ".bin", "tsc"), ...options, "--types", "", file);
  expect(tsc("activity.ts")).toEqual({ status: 0, text: "" });
  const source = fs.readFileSync(path.join(dir, "activity.ts"), "utf8");
  fs.writeFileSync(path.join(dir, "wrong.ts"), source.replace('groupBy("page")', 'groupBy("pag")'));
  expect(tsc("wrong.ts").text).toContain("Argument of type '\"pag\"' is not assignable");
});
