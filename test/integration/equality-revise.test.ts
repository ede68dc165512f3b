/** Partitions that come after others have passed: revisions, and what is too old for them. */
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  count,
  duckdb,
  pipeline,
  seconds,
  sliding,
  stream,
  string,
  timestamp,
  tumbling,
} from "../../lib/index.js";
import { type Row, readRows } from "../reference/rows.js";
import { type Logs, Workspace, withResults } from "./support/check.js";

const TOPIC = "readings";

function readings(reviseForMs: number) {
  const events = stream(TOPIC, {
    schema: { sensor: string(), at: timestamp({ format: "epoch_s" }) },
    eventTime: "at",
    lateness: 0,
  });
  const tables = {
    tens: events
      .window(tumbling(seconds(10)))
      .aggregate({ n: count() })
      .reviseFor(reviseForMs),
    rolling: events
      .window(sliding(seconds(10), { every: seconds(5) }))
      .aggregate({ n: count() })
      .reviseFor(reviseForMs),
  };
  return pipeline("readings", tables, { sinks: [duckdb()] });
}

let workspace: Workspace;
beforeEach(async () => {
  workspace = await Workspace.create();
});
afterEach(() => workspace.remove());

const logsOf = (partitions: readonly (readonly number[])[]): Logs =>
  partitions.map((times, p) => times.map((at) => JSON.stringify({ sensor: `s${p}`, at })));

interface Step {
  /** Event times in seconds, by partition. */
  readonly partitions: readonly (readonly number[])[];
  readonly flush?: boolean;
}

/** The windows of `tens` as `start: n`, and the table's accounting, after all steps. */
async function after(reviseForMs: number, ...steps: readonly Step[]) {
  const pipeline = readings(reviseForMs);
  const out = workspace.newOutput();
  for (const { partitions, flush = true } of steps) {
    await workspace.write(TOPIC, logsOf(partitions));
    await workspace.run({ pipeline, out, batchSize: 100, flush });
  }
  return withResults([out], async (connection) => {
    const rows = await readRows(connection, "SELECT * FROM run0.tens ORDER BY window_start");
    const [accounting] = await readRows(
      connection,
      "SELECT * FROM run0.accounting WHERE name = 'tens'",
    );
    return { windows: rows.map(windowText), accounting };
  });
}

const windowText = ({ window_start, n }: Row): string => `${Number(window_start) / 1000}: ${n}`;

test("a new partition revises windows that others have closed", async () => {
  const { windows } = await after(
    seconds(1000),
    { partitions: [[1, 12, 40]], flush: false },
    {
      partitions: [
        [1, 12, 40],
        [3, 11, 41],
      ],
    },
  );
  expect(windows).toEqual(["0: 2", "10: 2", "40: 2"]);
});

test("events beyond reviseFor are in no row, and accounted for", async () => {
  const { windows, accounting } = await after(
    0,
    { partitions: [[1, 12, 40]] },
    {
      partitions: [
        [1, 12, 40],
        [3, 41],
      ],
    },
  );
  expect(windows).toEqual(["0: 1", "10: 1", "40: 2"]);
  expect(accounting).toMatchObject({ counted: 5n, beyond_revise: 1n });
});

test("an open window beyond reviseFor counts once, however often it is flushed", async () => {
  const { windows, accounting } = await after(
    0,
    { partitions: [[1, 12, 40]] },
    { partitions: [[1, 12, 40], [3]] },
    {
      partitions: [
        [1, 12, 40],
        [3, 4],
      ],
    },
    {
      partitions: [
        [1, 12, 40],
        [3, 4, 42],
      ],
    },
  );
  expect(windows).toEqual(["0: 1", "10: 1", "40: 2"]);
  expect(accounting).toMatchObject({ counted: 6n, beyond_revise: 2n });
});

test("a window that only a late partition has open is revised until it closes", async () => {
  const { windows, accounting } = await after(
    0,
    { partitions: [[1, 40]] },
    { partitions: [[1, 40], [13]] },
    {
      partitions: [
        [1, 40],
        [13, 14],
      ],
    },
    {
      partitions: [
        [1, 40],
        [13, 14, 42],
      ],
    },
  );
  expect(windows).toEqual(["0: 1", "10: 2", "40: 2"]);
  expect(accounting).toMatchObject({ counted: 5n, beyond_revise: 0n });
});
