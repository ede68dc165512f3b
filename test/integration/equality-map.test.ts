/** A table over `map` equals the same table said with expressions, as SQL cannot run a function. */
import { expect, test } from "vitest";
import {
  bigint,
  count,
  duckdb,
  int,
  last,
  pipeline,
  seconds,
  session,
  sliding,
  string,
  sum,
  timestamp,
} from "../../lib/index.js";
import { readRows } from "../reference/rows.js";
import { differencesFromReference, Workspace, withResults } from "./support/check.js";
import { eventStream, partitionLines, type StreamPlan, streamPlan } from "./support/events.js";
import { Random, testRounds, testSeed } from "./support/random.js";

const RECORDS = 600;
const WINDOW = sliding(seconds(6), { every: seconds(4) });

const shape = {
  at: timestamp(),
  user: string(),
  account: bigint(),
  place: string().nullable(),
  level: int().nullable(),
};

/** Two maps that drop rows: the second reads what the first has left. */
function mappedTables(plan: StreamPlan) {
  const events = eventStream(plan)
    .filter((e) => e.kind.ne("view"))
    .map(
      "shaped",
      ({ at, user, account, region, level, flag }) =>
        flag ? null : { at, user, account, place: region, level },
      shape,
    )
    .map(
      "named",
      (row) => (row.place === "north" ? null : { ...row, place: row.place?.toUpperCase() ?? null }),
      shape,
    );
  return {
    mapped_rows: events.rows(),
    mapped_windows: events
      .groupBy("place")
      .window(WINDOW)
      .aggregate({ n: count(), total: sum("level"), newest: last("user") }),
  };
}

function saidTables(plan: StreamPlan) {
  const events = eventStream(plan)
    .filter((e) => e.kind.ne("view").and(e.flag.not(), e.region.ne("north").coalesce(true)))
    .derive((e) => ({ place: e.region.upper() }))
    .select("at", "user", "account", "place", "level");
  return {
    said_rows: events.rows(),
    said_windows: events
      .groupBy("place")
      .window(WINDOW)
      .aggregate({ n: count(), total: sum("level"), newest: last("user") }),
    said_sessions: events
      .groupBy(plan.key)
      .window(session(seconds(3)))
      .aggregate({ n: count() }),
  };
}

async function checkOne(seed: number): Promise<void> {
  const random = new Random(seed);
  const workspace = await Workspace.create();
  try {
    const plan = streamPlan(random, "events");
    const logs = [0, 1].map((partition) => {
      const lines = partitionLines(random, plan, partition);
      return Array.from({ length: RECORDS }, () => String(lines.next().value));
    });
    await workspace.write(plan.topic, logs);
    const sinks = [duckdb()];
    const said = pipeline("said", saidTables(plan), { sinks });
    const both = pipeline("both", { ...mappedTables(plan), ...saidTables(plan) }, { sinks });
    const [saidOut, bothOut] = [workspace.newOutput(), workspace.newOutput()];
    await workspace.run({ pipeline: said, out: saidOut, batchSize: 50 });
    await workspace.run({ pipeline: both, out: bothOut, batchSize: 50 });
    const about = `seed ${seed}, plan ${JSON.stringify(plan)}`;
    expect(await differencesFromReference(said, saidOut, workspace), about).toBe("");
    await withResults([bothOut], async (connection) => {
      for (const table of ["rows", "windows"]) {
        const [one, other] = [`run0.mapped_${table}`, `run0.said_${table}`];
        const only = await readRows(
          connection,
          `(FROM ${one} EXCEPT ALL FROM ${other}) UNION ALL (FROM ${other} EXCEPT ALL FROM ${one})`,
        );
        expect(only.slice(0, 3), `${about}, ${table}`).toEqual([]);
      }
      const late = (table: string) =>
        `SELECT "partition", "offset", event_time, watermark FROM run0.late
         WHERE "table" = '${table}'`;
      const [one, other] = [late("mapped_windows"), late("said_windows")];
      const only = await readRows(
        connection,
        `(${one} EXCEPT ALL ${other}) UNION ALL (${other} EXCEPT ALL ${one})`,
      );
      expect(only.slice(0, 3), `${about}, late`).toEqual([]);
    });
  } finally {
    await workspace.remove();
  }
}

test("tables over maps equal those over expressions", async () => {
  const seed = testSeed();
  const rounds = testRounds(4);
  for (let round = 0; round < rounds; round++) await checkOne(seed + round);
}, 3_600_000);
