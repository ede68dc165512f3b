/**
 * State that grows and shrinks: groups, ids and dictionary entries that expired leave it for good.
 */
import { afterEach, expect, test, vi } from "vitest";
import { GroupStore } from "../../lib/engine/group-store.js";
import {
  count,
  countDistinct,
  duckdb,
  first,
  last,
  max,
  pipeline,
  seconds,
  session,
  sliding,
  sum,
  topK,
  tumbling,
  variance,
} from "../../lib/index.js";
import { differencesBetween, differencesFromReference, Workspace } from "./support/check.js";
import { eventStream, partitionLines, type StreamPlan } from "./support/events.js";
import { Random, testSeed } from "./support/random.js";

const RECORDS = 10_000;

/** Nearly every event has an id, a user and an account of its own. */
const plan: StreamPlan = {
  topic: "events",
  key: "user",
  format: "epoch_ms",
  latenessMs: seconds(3),
  dedup: "within",
  dedupId: "id",
  withinMs: seconds(20),
  baseMs: Date.parse("2025-06-01T00:00:00Z"),
  tickMs: 250,
  keysPerPartition: 1_000_000,
  outOfOrder: 0.3,
  late: 0.02,
  duplicates: 0.05,
  malformed: 0.01,
};

function manyKeys() {
  const events = eventStream(plan);
  const tables = {
    by_user: events
      .groupBy("user", "region")
      .window(tumbling(seconds(10)))
      .aggregate({ n: count(), price: sum("price"), spread: variance("score"), id: first("id") }),
    by_account: events
      .groupBy("account")
      .window(sliding(seconds(12), { every: seconds(8) }))
      .aggregate({ region: last("region"), user: max("user"), ids: countDistinct("id") }),
    by_kind: events
      .groupBy("kind")
      .window(sliding(seconds(20), { every: seconds(10) }))
      .aggregate({
        users: countDistinct("user"),
        top: topK("account", 2),
        id: first("id"),
        spread: variance("score"),
      }),
    visits: events
      .groupBy("user")
      .window(session(seconds(2)))
      .aggregate({ n: count(), from: first("id"), to: last("id"), spent: sum("price") }),
  };
  return pipeline("many_keys", tables, { sinks: [duckdb()] });
}

afterEach(() => vi.restoreAllMocks());

test("many keys that expire leave the state, and the tables stay right", async () => {
  const random = new Random(testSeed());
  const compacted = vi.spyOn(GroupStore.prototype, "compacted");
  const workspace = await Workspace.create();
  try {
    const lines = partitionLines(random, plan, 0);
    const log = Array.from({ length: RECORDS }, () => String(lines.next().value));
    const pipeline = manyKeys();
    const [stopped, undisturbed] = [workspace.newOutput(), workspace.newOutput()];
    for (const records of [RECORDS / 2, (RECORDS * 3) / 4, RECORDS]) {
      await workspace.write(plan.topic, [log.slice(0, records)]);
      const flush = records === RECORDS;
      await workspace.run({ pipeline, out: stopped, batchSize: 500, flush });
    }
    expect(compacted.mock.calls.length).toBeGreaterThan(0);
    await workspace.run({ pipeline, out: undisturbed, batchSize: RECORDS });
    const about = `seed ${random.seed}`;
    expect(await differencesFromReference(pipeline, stopped, workspace), about).toBe("");
    const outs = [stopped, undisturbed] as const;
    expect(await differencesBetween(pipeline, outs, { revisions: true }), about).toBe("");
  } finally {
    await workspace.remove();
  }
}, 600_000);
