/** The lake as Spark with Delta Lake reads it; one session does all the reading. */
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ColumnType } from "../../lib/define/definition.js";
import type { RowValue } from "../../lib/engine/batch.js";
import { plain } from "../contract/sinks-batches.js";
import { liveFiles, readLake } from "../contract/sinks-readers.js";
import {
  COUNTS,
  compareRows,
  count,
  EVENTS,
  EVERY_TYPE,
  Script,
  stream,
} from "../contract/sinks-script.js";
import { setUpSpark, spark } from "../servers/spark.js";
import {
  COMMITS,
  COUNT_FILTERS,
  EVENT_FILTERS,
  EVENT_TYPES,
  expectedCounts,
  LAST_VERSION,
  MILLION,
  makeReaderLake,
  type ReaderLake,
  rowsAtVersion,
  totals,
  withLake,
} from "./support/reader-lake.js";

const PROGRAM = path.join(import.meta.dirname, "delta-spark.py");
const OLD_VERSION = 5;

/** What the program finds. */
interface Found {
  readonly schema: readonly { name: string; type: unknown; nullable: boolean }[];
  readonly detail: unknown;
  readonly rows: readonly unknown[][];
  readonly events: Readonly<Record<string, number>>;
  readonly million: Readonly<Record<string, number>>;
  readonly unskipped: Readonly<Record<string, number>>;
  /** Files read for each filter of `million`. */
  readonly scanned: Readonly<Record<string, number>>;
  readonly txn: number;
  /** Row count and sum by version. */
  readonly versions: Readonly<Record<string, [number, number]>>;
  readonly trimmed: [number, number];
  readonly streamed: [number, number];
  readonly vacuumed: [number, number];
  readonly gone: string;
  readonly distinct: number;
  readonly dryRun: number;
}

const missing = await setUpSpark();
const title = missing === null ? "Spark" : `Spark (skipped: ${missing})`;

describe.skipIf(missing !== null)(title, () => {
  let root: string;
  let lake: ReaderLake;
  let optimized: string;
  let found: Found;
  // Around a compaction, a checkpoint, and both.
  const versions = [0, 1, 8, 9, 10, 20, 21, 41, 60, LAST_VERSION];

  beforeAll(async () => {
    root = await fs.mkdtemp(path.join(tmpdir(), "millpond-spark-lake-"));
    lake = await makeReaderLake(root);
    optimized = path.join(root, "optimized");
    await fs.cp(lake.dir, optimized, { recursive: true });
    const asked = { events: EVENT_FILTERS, counts: COUNT_FILTERS, versions, gone: OLD_VERSION };
    const lakes = [lake.dir, lake.trimmed, lake.vacuumed, lake.million, optimized];
    found = (await spark(PROGRAM, ...lakes, JSON.stringify(asked))) as Found;
  }, 300_000);
  afterAll(() => fs.rm(root, { recursive: true, force: true }));

  it("finds the columns, the partition column and the protocol", () => {
    const types = found.schema.map(({ name, type }) => [name, bare(type)]);
    expect(Object.fromEntries(types)).toEqual(bare(EVENT_TYPES));
    const { length: files } = EVERY_TYPE;
    expect(found.detail).toEqual({ partitionColumns: ["event_date"], protocol: [1, 2], files });
  });

  it("reads every type, null, awkward text and the ends of time", () => {
    const rows = EVERY_TYPE.map((row) =>
      row.map((value, index) => sparkText(EVENTS.columns[index]!.type, value ?? null)),
    );
    const texts = found.rows.map((row) => row.map((cell) => JSON.stringify(cell)));
    expect(texts.sort(compareRows)).toEqual(
      rows.map((row) => row.map((cell) => JSON.stringify(cell))).sort(compareRows),
    );
  });

  it("finds the same rows by every filter, with files skipped and without", async () => {
    expect(found.events).toEqual(await expectedCounts(`${lake.dir}/events`, EVENT_FILTERS));
    expect(Math.min(...Object.values(found.events))).toBeGreaterThan(0);
    const counts = await expectedCounts(`${lake.million}/select`, COUNT_FILTERS);
    expect(found.million).toEqual(counts);
    expect(found.unskipped).toEqual(counts);
    const all = (await liveFiles(`${lake.million}/select`)).length;
    for (const [filter, files] of Object.entries(found.scanned)) {
      expect(files, filter).toBeLessThan(all / 3);
    }
    expect(found.distinct).toBe(MILLION);
  });

  it("finds the sink's progress, and every version that was", () => {
    // The last publication of `select`; those of `events` came before.
    expect(found.txn).toBe(EVERY_TYPE.length + COMMITS);
    const expected = versions.map((version) => [String(version), totals(rowsAtVersion(version))]);
    expect(found.versions).toEqual(Object.fromEntries(expected));
  });

  it("reads a log that was cut down to its last checkpoint", () => {
    expect(found.trimmed).toEqual(totals(COMMITS));
  });

  it("gives a streaming reader each row once, over all compactions", () => {
    expect(found.streamed).toEqual(totals(COMMITS));
  });

  it("reads what was vacuumed, and says which files an old version lacks", () => {
    expect(found.vacuumed).toEqual(totals(COMMITS));
    expect(found.gone).toMatch(/FILE_NOT_(EXIST|FOUND)|does not exist/);
    // What Millpond keeps for readers of old versions, Spark's own VACUUM keeps too.
    expect(found.dryRun).toBe(0);
  });

  it("may rewrite the files; the sink goes on where it stood", async () => {
    const script = new Script();
    for (let n = 0; n <= COMMITS; n++) script.add(COUNTS, [count(n * 1000, "a", n, n)]);
    const sequence = EVERY_TYPE.length + COMMITS + 1;
    const last = { ...script.publications.at(-1)!, sequence };
    await withLake(optimized, (sink) => sink.apply(stream([last]), sequence));
    expect((await readLake(optimized, COUNTS)).sort(compareRows)).toEqual(script.expected(COUNTS));
  });
});

/** Without the marks of what Spark adds. */
function bare(type: unknown): unknown {
  return JSON.parse(JSON.stringify(type));
}

/** Doubles and decimals as Spark writes them; lists stay what they are. */
function sparkText(type: ColumnType, value: RowValue): unknown {
  if (value === null) return null;
  if (type.kind === "list" || type.kind === "topK") return value;
  const text = plain(type, value);
  if (text === null) return null;
  if (type.kind === "decimal") return text.replace(/^(-?)\./, "$10.");
  return type.kind === "double" ? javaDouble(Number(text)) : text;
}

/** As Java writes the few doubles of the rows. */
function javaDouble(value: number): string {
  if (value === 5e-324) return "4.9E-324";
  return Math.abs(value) >= 1e7 ? value.toExponential(1).replace("e+", "E") : plainDouble(value);
}

const plainDouble = (value: number) => (Number.isInteger(value) ? `${value}.0` : `${value}`);
