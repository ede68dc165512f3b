/** Sessions that are published while open, and then grow, join or begin earlier. */
import { expect, test } from "vitest";
import {
  count,
  double,
  duckdb,
  pipeline,
  seconds,
  session,
  stream,
  string,
  timestamp,
  variance,
} from "../../lib/index.js";
import { readRows } from "../reference/rows.js";
import {
  differencesBetween,
  differencesFromReference,
  Workspace,
  withResults,
} from "./support/check.js";
import { Random, testSeed } from "./support/random.js";

const TOPIC = "visits";

function visits() {
  const events = stream(TOPIC, {
    schema: { user: string(), score: double(), at: timestamp({ format: "epoch_s" }) },
    key: "user",
    eventTime: "at",
    lateness: seconds(60),
  });
  const table = events
    .groupBy("user")
    .window(session(seconds(10)))
    .aggregate({ n: count(), spread: variance("score") });
  return pipeline("visits", { sessions: table }, { sinks: [duckdb()] });
}

const line = (user: string, at: number, score = 1): string => JSON.stringify({ user, score, at });

async function withWorkspace(check: (workspace: Workspace) => Promise<void>): Promise<void> {
  const workspace = await Workspace.create();
  try {
    await check(workspace);
  } finally {
    await workspace.remove();
  }
}

/** Every session as `start-end: events`, after each step's lines were appended, run and flushed. */
async function sessionsAfter(...steps: readonly (readonly number[])[]): Promise<string[]> {
  const found: string[] = [];
  await withWorkspace(async (workspace) => {
    const out = workspace.newOutput();
    const lines: string[] = [];
    for (const times of steps) {
      lines.push(...times.map((at) => line("a", at)));
      await workspace.write(TOPIC, [lines]);
      await workspace.run({ pipeline: visits(), out, batchSize: 1000 });
    }
    expect(await differencesFromReference(visits(), out, workspace)).toBe("");
    await withResults([out], async (connection) => {
      const rows = await readRows(connection, "SELECT * FROM run0.sessions ORDER BY session_start");
      for (const { session_start, session_end, n, revision } of rows) {
        const [start, end] = [session_start, session_end].map((ms) => Number(ms) / 1000);
        found.push(`${start}-${end}: ${n} events, revision ${revision}`);
      }
    });
  });
  return found;
}

test("an open session that was published is revised when it grows", async () => {
  expect(await sessionsAfter([100, 105], [112])).toEqual(["100-112: 3 events, revision 1"]);
});

test("an open session that was published keeps its revision when nothing comes", async () => {
  expect(await sessionsAfter([100, 105], [])).toEqual(["100-105: 2 events, revision 0"]);
});

test("a published session that begins earlier leaves no row under its old start", async () => {
  expect(await sessionsAfter([100, 105], [95])).toEqual(["95-105: 3 events, revision 0"]);
});

test("two published sessions that join become one row", async () => {
  const joined = ["100-118: 3 events, revision 1"];
  expect(await sessionsAfter([100, 118], [109])).toEqual(joined);
});

test("sessions join and begin earlier over several flushes", async () => {
  const steps = [[100, 118, 138], [109], [92], [128], [84, 300]];
  const joined = ["84-138: 7 events, revision 0", "300-300: 1 events, revision 0"];
  expect(await sessionsAfter(...steps)).toEqual(joined);
});

test("a session that closes after its publication is revised once", async () => {
  const closed = ["100-105: 2 events, revision 0", "400-400: 1 events, revision 0"];
  expect(await sessionsAfter([100, 105], [400])).toEqual(closed);
});

test("joined sessions give the same bits at any batch size", async () => {
  const random = new Random(testSeed());
  const users = Array.from({ length: 60 }, (_, i) => `user ${i}`);
  // The first session is over when the second begins, but leaves the state only with its slice.
  const times = [0, 100, 101, 102, 115, 116, 117, 108, 109];
  const lines = times.flatMap((at) => users.map((user) => line(user, at, random.next())));
  await withWorkspace(async (workspace) => {
    await workspace.write(TOPIC, [lines]);
    const outs = [workspace.newOutput(), workspace.newOutput()] as const;
    await workspace.run({ pipeline: visits(), out: outs[0], batchSize: 10_000 });
    await workspace.run({ pipeline: visits(), out: outs[1], batchSize: 20 });
    expect(await differencesBetween(visits(), outs, { revisions: true })).toBe("");
  });
});
