/** `millpond query`: one read-only SQL SELECT over the results of a run. */
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { MillpondError } from "../errors.js";

export type QueryFormat = "table" | "json" | "csv" | "parquet";

interface QueryFlags {
  readonly out: string;
  readonly format: QueryFormat;
  readonly json?: boolean;
  readonly output?: string;
  readonly limit: number;
  readonly timeout: number;
}

const HELP = `
Tables: those of the pipeline by their names, late, dead_letters, accounting, and bronze (every
record as it was read) where the lake keeps it. Nothing can be written, and no other file be read.

Examples:
  $ millpond query --out out/flights "SHOW TABLES"
  $ millpond query --out out/flights "SELECT * FROM accounting"
  $ millpond query --out out/flights --format csv "FROM late LIMIT 10" > late.csv
  $ millpond query --out out/flights --format parquet --output late.parquet "FROM late"
`;

export function queryCommand(): Command {
  return new Command("query")
    .description("query the results of a run with SQL, read-only")
    .argument("<sql>", "one SELECT, in DuckDB's SQL")
    .requiredOption("--out <dir>", "directory that a run wrote to")
    .addOption(
      new Option("--format <format>", "how rows are written")
        .choices(["table", "json", "csv", "parquet"])
        .default("table"),
    )
    .option("--json", "the same as --format json, and errors as JSON")
    .option("--output <file>", "write to this new file instead of the standard output")
    .addOption(
      new Option("--limit <n>", "rows of a table that are shown").argParser(count).default(100),
    )
    .addOption(
      new Option("--timeout <seconds>", "stop a query that takes longer")
        .argParser(count)
        .default(60),
    )
    .addHelpText("after", HELP)
    .action(query);
}

async function query(sql: string, flags: QueryFlags): Promise<void> {
  const format = flags.json === true ? "json" : flags.format;
  if (format === "parquet" && flags.output === undefined && process.stdout.isTTY) {
    throw new MillpondError(
      "USAGE",
      "--format parquet is not text: add --output <file>, or redirect the standard output",
    );
  }
  const { Results } = await import("./results.js");
  const writers = await import("./query-output.js");
  const dir = fs.mkdtempSync(path.join(tmpdir(), "millpond-query-"));
  try {
    const results = await Results.open(flags.out, format === "parquet" ? dir : undefined);
    const timer = setTimeout(() => results.interrupt(), flags.timeout * 1000);
    let target: NodeJS.WritableStream | null = null;
    try {
      if (format === "parquet") {
        const file = path.join(dir, "result.parquet");
        await results.writeParquet(sql, file);
        target = openTarget(flags.output);
        await writers.copyFile(file, target);
      } else {
        const rows = await results.select(sql);
        target = openTarget(flags.output);
        await writers.writeRows(rows, format, target, flags.limit);
      }
    } catch (error) {
      throw await results.explained(error);
    } finally {
      clearTimeout(timer);
      results.close();
      await closeTarget(target);
    }
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
}

async function closeTarget(target: NodeJS.WritableStream | null): Promise<void> {
  if (target === null || target === process.stdout) return;
  await new Promise<void>((done) => target.end(done));
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

const COUNT_MAX = 1_000_000;

function count(value: string): number {
  const number = Number(value);
  if (Number.isInteger(number) && number >= 1 && number <= COUNT_MAX) return number;
  throw new InvalidArgumentError(`expected a whole number from 1 to ${COUNT_MAX}.`);
}
