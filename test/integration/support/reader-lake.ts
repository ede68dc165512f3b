/**
 * Lakes for other implementations of Delta to read: every type, many versions, a million rows. What
 * they must find is taken from the rows that went in, or by DuckDB from the files of the log.
 */
import { cp, readdir, rm } from "node:fs/promises";
import * as path from "node:path";
import { type LakeSink, lakeSink } from "../../../lib/sinks/lake.js";
import { liveFiles, queryPlain } from "../../contract/sinks-readers.js";
import {
  COUNTS,
  count,
  EVENTS,
  EVERY_TYPE,
  LAYOUTS,
  manyCounts,
  Script,
  stream,
} from "../../contract/sinks-script.js";

/** Commits to `select`, a row each, beside its creation and a compaction for every eighth file. */
export const COMMITS = 60;
export const LAST_VERSION = 68;
export const MILLION = 1_000_000;
const BATCH_ROWS = 50_000;

export interface ReaderLake {
  /** Tables `select` (many versions) and `events` (every type, a file a row). */
  readonly dir: string;
  /** The same, its log cut down to the last checkpoint and what follows. */
  readonly trimmed: string;
  /** The same, without the files that no version but the last one needs. */
  readonly vacuumed: string;
  /** `select` with a million rows. */
  readonly million: string;
}

export async function makeReaderLake(root: string): Promise<ReaderLake> {
  const [dir, trimmed, vacuumed, million] = ["lake", "trimmed", "vacuumed", "million"].map((name) =>
    path.join(root, name),
  ) as [string, string, string, string];
  const script = new Script();
  for (const row of EVERY_TYPE) script.add(EVENTS, [row]);
  for (let n = 0; n < COMMITS; n++) script.add(COUNTS, [count(n * 1000, "a", n, n)]);
  await withLake(dir, async (sink) => {
    for (const [index, publication] of script.publications.entries()) {
      await sink.apply(stream([publication]), index + 1);
    }
  });
  await cp(dir, trimmed, { recursive: true });
  await trimLog(path.join(trimmed, COUNTS.name, "_delta_log"));
  await cp(dir, vacuumed, { recursive: true });
  await withLake(vacuumed, (sink) => sink.vacuum(-1));
  await withLake(million, (sink) => sink.apply(millionRows(), MILLION / BATCH_ROWS));
  return { dir, trimmed, vacuumed, million };
}

export async function withLake(
  dir: string,
  work: (sink: LakeSink) => Promise<void>,
): Promise<void> {
  const sink = lakeSink({ dir, pipeline: "p", layouts: LAYOUTS });
  await sink.open();
  try {
    await work(sink);
  } finally {
    await sink.close();
  }
}

async function* millionRows() {
  for (let sequence = 1; sequence <= MILLION / BATCH_ROWS; sequence++) {
    const batch = manyCounts((sequence - 1) * BATCH_ROWS, BATCH_ROWS);
    yield { sequence, table: COUNTS.name, batch };
  }
}

async function trimLog(log: string): Promise<void> {
  const names = await readdir(log);
  const checkpoint = names
    .filter((name) => name.endsWith(".checkpoint.parquet"))
    .sort()
    .at(-1);
  for (const name of names) {
    if (/^\d/.test(name) && name < String(checkpoint)) await rm(path.join(log, name));
  }
}

/** In SQL that DuckDB, Spark and DataFusion understand; each is true for some rows of `events`. */
export const EVENT_FILTERS = [
  "s = 'plain'",
  "s > 'y'",
  "s IS NULL",
  "b = true",
  "i = -2147483648",
  "i >= 0",
  "l > 9223372036854775806",
  "l <= -1",
  "l IS NOT NULL",
  "d < 0",
  "d > 0 AND d < 1",
  "d4 = 1.23",
  "d4 >= 99.99",
  "d9 < 0",
  "d18 = CAST('-0.999999999999999999' AS DECIMAL(18, 18))",
  "d18 = CAST('0.999999999999999999' AS DECIMAL(18, 18))",
  "d18 > 0",
  "t < TIMESTAMP '1970-01-01 00:00:00'",
  "t >= TIMESTAMP '2024-01-01 00:00:00'",
  "t < TIMESTAMP '1700-01-01 00:00:00'",
  "t IS NULL",
  "raw IS NULL",
  "event_date = DATE '2024-01-01'",
  "event_date < DATE '1970-01-01'",
] as const;

/** Of the million rows, a second apart. */
export const COUNT_FILTERS = [
  "window_start BETWEEN TIMESTAMP '2024-01-03 00:00:00' AND TIMESTAMP '2024-01-03 12:00:00'",
  "count = 777777",
  "count < 0",
  "count BETWEEN 99990 AND 100010 AND revision = 0",
  "event_date = DATE '2024-01-12'",
  "event_date > DATE '2024-01-05' AND count < 500000",
] as const;

/** How many rows of the table's files are so, read whole by DuckDB. */
export async function expectedCounts(
  tableDir: string,
  filters: readonly string[],
): Promise<Record<string, number>> {
  const files = await liveFiles(tableDir);
  const list = files.map(({ path: name }) => `'${path.join(tableDir, decodeURI(name))}'`);
  const source =
    `read_parquet([${list.join(", ")}], hive_partitioning = true, ` +
    "hive_types = {'event_date': DATE})";
  const counts = filters.map((filter) => `count(*) FILTER (${filter})`);
  const [row = []] = await queryPlain(":memory:", `SELECT ${counts.join(", ")} FROM ${source}`);
  return Object.fromEntries(filters.map((filter, index) => [filter, Number(row[index])]));
}

/** Row count and sum of `count` of the first so many rows of `select`. */
export function totals(rows: number): [number, number] {
  return [rows, rows === 0 ? 0 : (rows * (rows - 1)) / 2];
}

/** How many rows `select` had: version 0 made the table. */
export function rowsAtVersion(version: number): number {
  // Versions 1 to 8 are rows and 9 merges them; after it every seven rows fill the eight again.
  let rows = 0;
  for (let at = 1, small = 0; at <= version; at++) {
    if (small === 8) small = 1;
    else [rows, small] = [rows + 1, small + 1];
  }
  return rows;
}

/** The columns as Delta has them, in order. */
export const EVENT_TYPES = {
  s: "string",
  b: "boolean",
  i: "integer",
  l: "long",
  d: "double",
  d4: "decimal(4,2)",
  d9: "decimal(9,0)",
  d18: "decimal(18,18)",
  t: "timestamp",
  raw: "binary",
  tags: { type: "array", elementType: "string", containsNull: true },
  top: {
    type: "array",
    elementType: {
      type: "struct",
      fields: [
        { name: "value", type: "integer", nullable: true, metadata: {} },
        { name: "count", type: "long", nullable: true, metadata: {} },
      ],
    },
    containsNull: true,
  },
  event_date: "date",
} as const;
