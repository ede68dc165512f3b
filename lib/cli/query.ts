/** `millpond query`: one read-only SELECT over results in a directory, a bucket, or at a URL. */
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { MillpondError } from "../errors.js";
import type { ParameterValue, Results } from "../query/results.js";
import { whole } from "./numbers.js";

export type QueryFormat = "table" | "json" | "csv" | "parquet";

export interface QueryFlags {
  readonly out?: string;
  readonly s3?: string;
  readonly endpoint?: string;
  readonly pipeline?: string;
  readonly region?: string;
  readonly format: QueryFormat;
  readonly json?: boolean;
  readonly param?: Readonly<Record<string, ParameterValue>>;
  readonly output?: string;
  readonly limit: number;
  readonly timeout: number;
}

const COUNT_MAX = 1_000_000;

const HELP = `
Tables: those of the pipeline by their names, late, dead_letters, accounting, and bronze (every
record as it was read) where the lake keeps it. Nothing can be written, and no other file be read.

Results are in a directory (--out), or in a bucket: --s3 reads that with your AWS credentials,
--endpoint asks the query function of a deployed stack, whose URL is among its outputs.

Parameters are written $name in the query. A value that is JSON (5, true, null, "5") is that,
anything else is text.

Examples:
  $ millpond query --out out/flights "SHOW TABLES"
  $ millpond query --out out/flights "SELECT * FROM accounting"
  $ millpond query --out out/flights --format csv "FROM late LIMIT 10" > late.csv
  $ millpond query --out out/flights --format parquet --output late.parquet "FROM late"
  $ millpond query --s3 s3://my-bucket --pipeline flights "FROM accounting"
  $ millpond query --endpoint https://abc.lambda-url.eu-west-1.on.aws --param page=/ \\
      "FROM page_views WHERE page = $page"
`;

export function queryCommand(): Command {
  return new Command("query")
    .description("query results with SQL, read-only")
    .argument("<sql>", "one SELECT, in DuckDB's SQL")
    .option("--out <dir>", "directory that a run wrote to")
    .option("--s3 <uri>", "bucket and prefix of a deployed stack, s3://bucket/prefix")
    .option("--endpoint <url>", "URL of a deployed stack's query function")
    .option("--pipeline <name>", "with --s3, where the bucket holds several")
    .option("--region <name>", "with --endpoint, where its URL does not tell")
    .addOption(
      new Option("--param <name=value>", "a parameter of the query; once each").argParser(
        parameter,
      ),
    )
    .addOption(
      new Option("--format <format>", "how rows are written")
        .choices(["table", "json", "csv", "parquet"])
        .default("table"),
    )
    .option("--json", "the same as --format json, and errors as JSON")
    .option("--output <file>", "write to this new file instead of the standard output")
    .addOption(
      new Option("--limit <n>", "rows of a table that are shown")
        .argParser(whole(1, COUNT_MAX))
        .default(100),
    )
    .addOption(
      new Option("--timeout <seconds>", "stop a query that takes longer")
        .argParser(whole(1, COUNT_MAX))
        .default(60),
    )
    .addHelpText("after", HELP)
    .action(query);
}

async function query(sql: string, flags: QueryFlags): Promise<void> {
  const format = flags.json === true ? "json" : flags.format;
  const places = [flags.out, flags.s3, flags.endpoint].filter((place) => place !== undefined);
  if (places.length !== 1) {
    const found = places.length === 0 ? "none of them" : "several";
    throw new MillpondError("USAGE", `found ${found}: give --out, --s3 or --endpoint, one of them`);
  }
  if (format === "parquet" && flags.output === undefined && process.stdout.isTTY) {
    throw new MillpondError(
      "USAGE",
      "--format parquet is not text: add --output <file>, or redirect the standard output",
    );
  }
  if (flags.endpoint !== undefined) {
    const { queryEndpoint } = await import("./query-endpoint.js");
    const answer = await queryEndpoint({ ...flags, endpoint: flags.endpoint, sql, format });
    await toTarget(flags.output, answer.write);
    return;
  }
  const dir = fs.mkdtempSync(path.join(tmpdir(), "millpond-query-"));
  try {
    const writableDir = format === "parquet" ? dir : undefined;
    const { results, close } = await open(flags, dir, writableDir);
    const timer = setTimeout(() => results.interrupt(), flags.timeout * 1000);
    try {
      await answer(results, sql, { ...flags, format }, path.join(dir, "result.parquet"));
    } catch (error) {
      throw await results.explained(error);
    } finally {
      clearTimeout(timer);
      await close();
    }
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
}

interface Opened {
  readonly results: Results;
  close(): Promise<void>;
}

async function open(
  { out, s3, pipeline }: QueryFlags,
  tempDir: string,
  writableDir: string | undefined,
): Promise<Opened> {
  if (out !== undefined) {
    const { openLocalResults } = await import("../query/local-results.js");
    const results = await openLocalResults(out, writableDir);
    return { results, close: async () => results.close() };
  }
  const { databaseAt } = await import("./query-bucket.js");
  const { openSnapshotResults } = await import("../query/snapshot-results.js");
  const storage = await databaseAt(s3 ?? "", pipeline);
  return openSnapshotResults(storage, { tempDir, writableDir });
}

async function answer(
  results: Results,
  sql: string,
  { format, output, limit, param = {} }: QueryFlags,
  parquetFile: string,
): Promise<void> {
  const writers = await import("./query-output.js");
  if (format === "parquet") {
    await results.writeParquet(sql, parquetFile, param);
    await toTarget(output, (target) => writers.copyFile(parquetFile, target));
  } else {
    const rows = await results.select(sql, param);
    await toTarget(output, (target) => writers.writeRows(rows, format, target, limit));
  }
}

/** Opened only when there is something to write. */
async function toTarget(
  file: string | undefined,
  write: (target: NodeJS.WritableStream) => Promise<void>,
): Promise<void> {
  const target = openTarget(file);
  try {
    await write(target);
  } finally {
    if (target !== process.stdout) await new Promise<void>((done) => target.end(done));
  }
}

function openTarget(file: string | undefined): NodeJS.WritableStream {
  if (file === undefined) return process.stdout;
  try {
    return fs.createWriteStream("", { fd: fs.openSync(file, "wx") });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new MillpondError("USAGE", `--output ${file}: ${reason}; name a new file`, { cause });
  }
}

function parameter(
  text: string,
  before: Readonly<Record<string, ParameterValue>> = {},
): Record<string, ParameterValue> {
  const [, name, value] = /^(\w+)=([\s\S]*)$/.exec(text) ?? [];
  if (name === undefined || value === undefined) {
    throw new InvalidArgumentError("expected name=value.");
  }
  if (name in before) throw new InvalidArgumentError(`$${name} is given twice.`);
  return { ...before, [name]: parameterValue(value) };
}

/** JSON of a plain value, else the text itself. */
function parameterValue(text: string): ParameterValue {
  try {
    const value: unknown = JSON.parse(text);
    if (value === null || typeof value === "string" || typeof value === "boolean") return value;
    // A number that a double can't hold stays text: DuckDB casts that where it is compared.
    if (typeof value === "number" && String(value) === text) return value;
  } catch {
    // Not JSON.
  }
  return text;
}
