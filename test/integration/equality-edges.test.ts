/**
 * Event times, lateness, gaps and reaches of a few seconds, so that every bound is often met
 * exactly.
 */
import { expect, test } from "vitest";
import {
  count,
  duckdb,
  pipeline,
  seconds,
  session,
  sliding,
  stream,
  string,
  timestamp,
} from "../../lib/index.js";
import { differencesBetween, differencesFromReference, Workspace } from "./support/check.js";
import { Random, testRounds, testSeed } from "./support/random.js";

const TOPIC = "edges";
const RECORDS = 150;
const TABLES = 5;

function randomEdges(random: Random) {
  const events = stream(TOPIC, {
    schema: { id: string(), user: string(), at: timestamp({ format: "epoch_s" }) },
    key: "user",
    eventTime: "at",
    lateness: seconds(random.below(6)),
    ...(random.chance(0.7) && { dedup: { id: "id", within: seconds(random.below(8)) } }),
  });
  const windows = Array.from({ length: TABLES }, (_, i) => {
    const every = random.between(1, 4);
    const size = every + random.below(6);
    const offset = seconds(random.below(every));
    const window = random.chance(0.5)
      ? session(seconds(random.between(1, 6)))
      : sliding(seconds(size), { every: seconds(every), offset });
    return [`table_${i}`, events.groupBy("user").window(window).aggregate({ n: count() })] as const;
  });
  const tables = { rows: events.rows(), ...Object.fromEntries(windows) };
  return pipeline(TOPIC, tables, { sinks: [duckdb()] });
}

function randomLog(random: Random, partition: number): string[] {
  let clock = random.below(10) - 20;
  return Array.from({ length: RECORDS }, () => {
    clock += random.pick([0, 0, 1, 1, 2, 5]);
    const at = clock - (random.chance(0.3) ? random.below(12) : 0);
    const [id, user] = [`id ${random.below(40)}`, `${partition} ${random.below(3)}`];
    return JSON.stringify({ id, user, at });
  });
}

test("bounds that are met exactly go the way the reference says, at any batch size", async () => {
  const seed = testSeed();
  const rounds = testRounds(10);
  for (let round = 0; round < rounds; round++) {
    const random = new Random(seed + round);
    const workspace = await Workspace.create();
    try {
      const pipeline = randomEdges(random);
      await workspace.write(TOPIC, [randomLog(random, 0), randomLog(random, 1)]);
      const outs = [workspace.newOutput(), workspace.newOutput()] as const;
      await workspace.run({ pipeline, out: outs[0], batchSize: 1 });
      await workspace.run({ pipeline, out: outs[1], batchSize: random.pick([3, 1000]) });
      const about = `seed ${random.seed}, ${JSON.stringify(pipeline.definition.streams)}`;
      expect(await differencesFromReference(pipeline, outs[0], workspace), about).toBe("");
      expect(await differencesBetween(pipeline, outs, { revisions: true }), about).toBe("");
    } finally {
      await workspace.remove();
    }
  }
}, 3_600_000);
