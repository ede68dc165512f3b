/** kill -9 at random moments of a run, many times; then its results are those of an undisturbed. */
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { ended, start, succeed, testDir } from "./support/cli.js";
import { differences, lakeTables, rowsOf } from "./support/outputs.js";

const PIPELINE = fileURLToPath(new URL("support/activity.ts", import.meta.url));
const dir = testDir("kill");
const SEED = Number(process.env.MILLPOND_SEED ?? Date.now() % 1_000_000);
/** Set MILLPOND_KILLS for a longer run; some fifty take a minute. */
const KILLS = Number(process.env.MILLPOND_KILLS ?? 50);
/** Late enough that a run gets somewhere, early enough that all kills fit a minute. */
const KILL_AFTER_MS_MAX = 2_000;
const ROUNDS = [
  { workers: 1, kills: Math.ceil(KILLS * 0.6) },
  { workers: 2, kills: Math.floor(KILLS * 0.4) },
];

/** mulberry32: small, and the same everywhere. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

test(
  `a run killed ${KILLS} times ends like one that was not (seed ${SEED})`,
  async () => {
    console.log(`kill -9: seed ${SEED}, ${KILLS} kills`);
    const input = path.join(dir, "input");
    const shape = ["--events", "200000", "--partitions", "4", "--seed", String(SEED)];
    const trouble = ["--late", "0.01", "--duplicates", "0.01", "--malformed", "0.005"];
    const order = ["--out-of-order", "90s", "--rate", "200"];
    succeed("simulate", "activity", ...shape, ...trouble, ...order, "--out", input);
    const run = (out: string, workers: number) =>
      ["run", PIPELINE, "--input", input, "--out", out, "--batch-size", "500"].concat([
        "--workers",
        String(workers),
      ]);

    const undisturbed = path.join(dir, "undisturbed");
    const began = performance.now();
    succeed(...run(undisturbed, 1));
    const wholeMs = performance.now() - began;
    const random = randomOf(SEED);
    for (const { workers, kills } of ROUNDS) {
      const killed = path.join(dir, `killed-${workers}`);
      let done = 0;
      let restarts = 0;
      while (done < kills) {
        // Mostly before any run could end; when one did end, the next starts on a fresh output.
        const out = `${killed}-${restarts}`;
        const child = start(run(out, workers));
        const killAfterMs = 100 + random() * Math.min(wholeMs * 0.5, KILL_AFTER_MS_MAX);
        const timer = setTimeout(() => child.kill("SIGKILL"), killAfterMs);
        const how = await ended(child);
        clearTimeout(timer);
        if (how === "SIGKILL") done++;
        else {
          expect(how).toBe(0);
          expect(await differences(undisturbed, out)).toEqual([]);
          restarts++;
        }
      }
      const last = `${killed}-${restarts}`;
      succeed(...run(last, workers));
      expect(await differences(undisturbed, last)).toEqual([]);
    }

    expect(lakeTables(undisturbed)).toEqual(
      ["bronze", "dead_letters", "late", "pages", "purchases", "rolling", "visits"].sort(),
    );
    const [sums] = await rowsOf(
      undisturbed,
      `SELECT (SELECT count(*) FROM {lake.bronze}) AS bronze,
      (SELECT records FROM {db}.accounting WHERE kind = 'stream') AS records,
      (SELECT count(*) > 0 FROM {db}.late) AS late,
      (SELECT count(*) > 0 FROM {db}.dead_letters) AS dead,
      (SELECT max(views) > 1 FROM {db}.pages) AS counted`,
    );
    expect(sums).toMatchObject({ bronze: sums?.records, late: true, dead: true, counted: true });
  },
  300_000 + KILLS * 10_000,
);
