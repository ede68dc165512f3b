/** The lake as PyPI's `deltalake` (delta-rs) reads it; one program does all the reading. */
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ColumnType } from "../../lib/define/definition.js";
import type { RowValue } from "../../lib/engine/batch.js";
import { plain } from "../contract/sinks-batches.js";
import { liveFiles } from "../contract/sinks-readers.js";
import { compareRows, EVENTS, EVERY_TYPE } from "../contract/sinks-script.js";
import { deltalake, setUpDeltalake } from "./deltalake.js";
import {
  COMMITS,
  COUNT_FILTERS,
  EVENT_FILTERS,
  EVENT_TYPES,
  expectedCounts,
  LAST_VERSION,
  MILLION,
  makeReaderLake,
  rowsAtVersion,
  totals,
} from "./support/reader-lake.js";

const PROGRAM = path.join(import.meta.dirname, "delta-deltalake.py");
const OLD_VERSION = 5;

/** What the program finds. */
interface Found {
  readonly schema: readonly { name: string; type: unknown }[];
  readonly partitions: readonly string[];
  readonly protocol: readonly number[];
  /** Values of each column. */
  readonly rows: Readonly<Record<string, unknown[]>>;
  readonly events: Readonly<Record<string, number>>;
  readonly million: Readonly<Record<string, number>>;
  /** Files with a value between its bounds in the log's statistics. */
  readonly fragments: number;
  readonly txn: number;
  /** Row count and sum by version. */
  readonly versions: readonly [number, number][];
  readonly trimmed: [number, number];
  readonly vacuumed: [number, number];
  readonly gone: string;
  readonly distinct: number;
  readonly dryRun: readonly string[];
  readonly operations: readonly string[];
}

const missing = await setUpDeltalake();
const title = missing === null ? "PyPI's deltalake" : `PyPI's deltalake (skipped: ${missing})`;

describe.skipIf(missing !== null)(title, () => {
  let root: string;
  let found: Found;

  beforeAll(async () => {
    root = await fs.mkdtemp(path.join(tmpdir(), "millpond-deltalake-"));
    await makeReaderLake(root);
    const program = await fs.readFile(PROGRAM, "utf8");
    const asked = { events: EVENT_FILTERS, counts: COUNT_FILTERS };
    const rest = { last: LAST_VERSION, gone: OLD_VERSION };
    found = (await deltalake(root, program, JSON.stringify({ ...asked, ...rest }))) as Found;
  }, 300_000);
  afterAll(() => fs.rm(root, { recursive: true, force: true }));

  it("finds the columns, the partition column and the protocol", () => {
    const types = Object.fromEntries(found.schema.map(({ name, type }) => [name, type]));
    expect(types).toEqual(EVENT_TYPES);
    expect(found.partitions).toEqual(["event_date"]);
    expect(found.protocol).toEqual([1, 2]);
  });

  it("reads every type, null, awkward text and the ends of time", () => {
    for (const [name, values] of Object.entries(found.rows)) {
      const index = EVENTS.columns.findIndex((column) => column.name === name);
      const { type } = EVENTS.columns[index]!;
      const expected = EVERY_TYPE.map((row) => arrowValue(type, row[index] ?? null));
      expect(values.sort(compareJson), name).toEqual(expected.sort(compareJson));
    }
  });

  it("finds the same rows by every filter, and skips files by their statistics", async () => {
    const events = await expectedCounts(`${root}/lake/events`, EVENT_FILTERS);
    expect(found.events).toEqual(events);
    expect(Math.min(...Object.values(events))).toBeGreaterThan(0);
    expect(found.million).toEqual(await expectedCounts(`${root}/million/select`, COUNT_FILTERS));
    expect((await liveFiles(`${root}/million/select`)).length).toBeGreaterThan(10);
    expect(found.fragments).toBe(1);
    expect(found.distinct).toBe(MILLION);
  });

  it("finds the sink's progress, and every version that was", () => {
    // The last publication of `select`; those of `events` came before.
    expect(found.txn).toBe(EVERY_TYPE.length + COMMITS);
    expect(found.versions).toEqual(found.versions.map((_, at) => totals(rowsAtVersion(at))));
    expect(found.versions).toHaveLength(LAST_VERSION + 1);
    expect(found.operations).toEqual(["CREATE TABLE", "OPTIMIZE", "WRITE"]);
  });

  it("reads a log that was cut down to its last checkpoint", () => {
    expect(found.trimmed).toEqual(totals(COMMITS));
  });

  it("reads what was vacuumed, and says which files an old version lacks", () => {
    expect(found.vacuumed).toEqual(totals(COMMITS));
    expect(found.gone).toMatch(/No such file|not found/i);
    // What Millpond keeps for readers of old versions, deltalake's own vacuum keeps too.
    expect(found.dryRun).toEqual([]);
  });
});

const compareJson = (a: unknown, b: unknown) => compareRows([a], [b]);

/** As the program writes it. */
function arrowValue(type: ColumnType, value: RowValue): unknown {
  if (value === null || type.kind === "list" || type.kind === "topK") return value;
  if (type.kind === "double" || type.kind === "timestamp") return Number(value);
  const written = plain(type, value);
  return type.kind === "decimal" ? written?.replace(/^(-?)\./, "$10.") : written;
}
