/** `millpond read`: the newest rows of a table, now or as of an older version of the lake. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { Command, Option } from "commander";
import { MillpondError } from "../errors.js";
import type { Results } from "../query/results.js";
import type { TableLayout } from "../sinks/sink.js";
import { whole } from "./numbers.js";

interface ReadFlags {
  readonly out?: string;
  readonly s3?: string;
  readonly pipeline?: string;
  readonly asOf?: number;
  readonly limit: number;
  readonly format: "table" | "json" | "csv";
  readonly json?: boolean;
}

const ROWS_MAX = 1_000_000;
const VERSION_MAX = 1e15;

const HELP = `
Newest first: by a row's event time, a window's start, or, of bronze and dead_letters, the record's
timestamp. For anything else there is query.

Every commit makes a version of a table in the lake. Versions stay readable for 7 days after their
files were compacted; Spark, deltalake and others read them too.

Examples:
  $ millpond read silver --out out/sensors
  $ millpond read bronze --out out/sensors --limit 5 --json
  $ millpond read silver --out out/sensors --as-of 3
  $ millpond read silver --s3 s3://my-bucket --pipeline medallion
`;

export function readCommand(): Command {
  return new Command("read")
    .description("show the newest rows of a table")
    .argument("<table>", "such as bronze, silver, late or dead_letters")
    .option("--out <dir>", "directory that a run wrote to")
    .option("--s3 <uri>", "bucket and prefix of a deployed stack, s3://bucket/prefix")
    .option("--pipeline <name>", "with --s3, where the bucket holds several")
    .addOption(
      new Option("--as-of <n>", "with --out, as of this version of the lake's table").argParser(
        whole(0, VERSION_MAX),
      ),
    )
    .addOption(new Option("--limit <n>", "rows to show").argParser(whole(1, ROWS_MAX)).default(20))
    .addOption(
      new Option("--format <format>", "how rows are written")
        .choices(["table", "json", "csv"])
        .default("table"),
    )
    .option("--json", "the same as --format json, and errors as JSON")
    .addHelpText("after", HELP)
    .action(read);
}

async function read(table: string, flags: ReadFlags): Promise<void> {
  const { out, s3, asOf } = flags;
  if ((out === undefined) === (s3 === undefined)) {
    const found = out === undefined ? "neither" : "both";
    throw new MillpondError("USAGE", `found ${found} of --out and --s3: give one of them`);
  }
  if (s3 !== undefined && asOf !== undefined) {
    throw new MillpondError(
      "USAGE",
      "--as-of goes with --out; of a lake in a bucket, Spark and deltalake read old versions",
    );
  }
  const tempDir = mkdtempSync(path.join(tmpdir(), "millpond-read-"));
  try {
    const opened = await open(table, flags, tempDir);
    try {
      await show(opened, table, flags);
    } catch (error) {
      throw await opened.results.explained(error);
    } finally {
      await opened.close();
    }
  } finally {
    rmSync(tempDir, { recursive: true, force: true });
  }
}

interface Opened {
  readonly results: Results;
  /** What the newest rows are told by; null where that is for the columns to tell. */
  readonly timeColumn: string | null;
  close(): Promise<void>;
}

async function open(
  table: string,
  { out, s3, pipeline, asOf }: ReadFlags,
  tempDir: string,
): Promise<Opened> {
  if (out !== undefined) {
    const { openLocalResults } = await import("../query/local-results.js");
    const { openLakeVersion } = await import("../query/lake-version.js");
    const { dateColumn } = await layoutOf(out, table);
    const results = await (asOf === undefined
      ? openLocalResults(out)
      : openLakeVersion(out, table, asOf));
    return { results, timeColumn: dateColumn, close: async () => results.close() };
  }
  const { databaseAt } = await import("./query-bucket.js");
  const { openSnapshotResults } = await import("../query/snapshot-results.js");
  const opened = await openSnapshotResults(await databaseAt(s3 ?? "", pipeline), { tempDir });
  const tables = await opened.results.tables();
  if (tables.includes(table)) return { ...opened, timeColumn: null };
  await opened.close();
  throw noTable(table, `${s3} (those without rows are not there yet)`, tables);
}

/** @throws MillpondError USAGE when there are no results in `out`, or none of that name */
async function layoutOf(out: string, table: string): Promise<TableLayout> {
  const { noResults, outputPaths, readManifest } = await import("../runtime/output.js");
  const { tableLayouts } = await import("../sinks/layouts.js");
  const manifest = readManifest(outputPaths(out));
  if (manifest === null) throw noResults(out);
  const layouts = tableLayouts(manifest.definition);
  const layout = layouts.find(({ name }) => name === table);
  if (layout !== undefined) return layout;
  const names = layouts.map(({ name }) => name);
  throw noTable(table, out, names);
}

function noTable(table: string, place: string, tables: readonly string[]): MillpondError {
  return new MillpondError(
    "USAGE",
    `there is no table "${table}" in ${place}; its tables: ${tables.join(", ")}`,
  );
}

async function show(
  { results, timeColumn }: Opened,
  table: string,
  { limit, format: chosen, json }: ReadFlags,
): Promise<void> {
  const format = json === true ? "json" : chosen;
  const { writeRows } = await import("./query-output.js");
  const isThere = (await results.tables()).includes(table);
  if (!isThere) {
    process.stderr.write(`table "${table}" has no rows yet\n`);
    if (format === "json") process.stdout.write("[]\n");
    return;
  }
  const rows = await results.select(await newestSql(results, table, timeColumn, limit));
  await writeRows(rows, format, process.stdout, limit);
}

/** Of rows at the same time, those that were read last come first. */
async function newestSql(
  results: Results,
  table: string,
  timeColumn: string | null,
  limit: number,
): Promise<string> {
  const { DuckDBTypeId } = await import("../duckdb-api.js");
  const { quoteName } = await import("../sinks/duckdb-types.js");
  const empty = await results.select(`SELECT * FROM ${quoteName(table)} LIMIT 0`);
  const names = empty.columnNames();
  const isTime = (_: string, index: number) =>
    empty.columnTypeId(index) === DuckDBTypeId.TIMESTAMP_TZ;
  const order = [timeColumn ?? names.find(isTime), "partition", "offset"]
    .filter((name) => name !== undefined && names.includes(name))
    .map((name) => `${quoteName(String(name))} DESC NULLS LAST`);
  const orderBy = order.length === 0 ? "" : `ORDER BY ${order.join(", ")} `;
  return `SELECT * FROM ${quoteName(table)} ${orderBy}LIMIT ${limit}`;
}
