/** kill -9 while the sinks write: run again to the end, and nothing is missing or doubled. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { BUCKET, s3Place } from "../contract/lake-places.js";
import { readDatabase, readLake } from "../contract/sinks-readers.js";
import { compareRows, LAYOUTS, randomOf, randomScript } from "../contract/sinks-script.js";
import { bundleChild } from "./support/bundle-child.js";

const KILLS = 12;
const PUBLICATIONS = 400;
const CHILD = path.resolve(".cache", "sinks-child.mjs");

let dir: string;
beforeEach(async () => {
  dir = await fs.mkdtemp(path.join(tmpdir(), "millpond-kill-"));
  await bundleChild("test/contract/sinks-child.ts", CHILD);
});
afterEach(() => fs.rm(dir, { recursive: true, force: true }));

/** Run the child; kill it after so many ms. Returns whether it came to its end. */
async function run(seed: number, killAfterMs: number, ...bucket: string[]): Promise<boolean> {
  const args = [CHILD, dir, String(seed), String(PUBLICATIONS), ...bucket];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.on("data", (data) => {
    stderr += String(data);
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), killAfterMs);
  const [code, signal] = await once(child, "close");
  clearTimeout(timer);
  if (signal !== "SIGKILL") expect(`${code} ${stderr}`).toBe("0 ");
  return signal !== "SIGKILL";
}

describe("sinks killed at random moments", () => {
  const seed = Math.floor(Math.random() * 1e9);
  it(`hold what an undisturbed run would have written (seed ${seed})`, async () => {
    const random = randomOf(seed);
    let killed = 0;
    for (let n = 0; n < KILLS; n++) if (!(await run(seed, 250 + random(700)))) killed++;
    expect(killed).toBeGreaterThan(0);
    while (!(await run(seed, 60_000)));
    const script = randomScript(seed, PUBLICATIONS);
    for (const layout of LAYOUTS) {
      const expected = script.expected(layout);
      expect((await readLake(dir, layout)).sort(compareRows)).toEqual(expected);
      const file = path.join(dir, "results.duckdb");
      expect((await readDatabase(file, layout)).sort(compareRows)).toEqual(expected);
    }
  }, 120_000);
});

const place = await s3Place();
const where = `on S3${place.missing === null ? "" : ` (skipped: ${place.missing})`}`;

describe.skipIf(place.missing !== null)(`a lake ${where}, its sink killed`, () => {
  beforeAll(() => place.start());
  afterEach(() => place.clear(dir));
  afterAll(() => place.stop());

  const seed = Math.floor(Math.random() * 1e9);
  it(`holds what an undisturbed run would have written (seed ${seed})`, async () => {
    const random = randomOf(seed);
    let killed = 0;
    for (let n = 0; n < KILLS; n++) {
      if (!(await run(seed, 500 + random(1_000), BUCKET))) killed++;
    }
    expect(killed).toBeGreaterThan(0);
    while (!(await run(seed, 60_000, BUCKET)));
    const script = randomScript(seed, PUBLICATIONS);
    const copy = await place.copy(dir);
    for (const layout of LAYOUTS) {
      expect((await readLake(copy, layout)).sort(compareRows)).toEqual(script.expected(layout));
    }
  }, 240_000);
});
