/** `millpond run`: a pipeline over files, to the end of the input. */
import { existsSync } from "node:fs";
import { Command, InvalidArgumentError, Option } from "commander";
import { suggestion } from "../define/definition-error.js";
import { MillpondError } from "../errors.js";
import { loadPipeline } from "../runtime/load-pipeline.js";
import { whole } from "./numbers.js";
import { watched } from "./progress.js";
import { printRunReport } from "./run-report.js";
import { setOption } from "./settings.js";

interface RunFlags {
  readonly input: readonly string[];
  readonly out: string;
  readonly flush: boolean;
  readonly batchSize: number;
  readonly workers: number;
  readonly speed?: number;
  readonly set: ReadonlyMap<string, string>;
  readonly json?: boolean;
}

const HELP = `
Input: a file, or a directory of .ndjson, .jsonl, .json, .csv (each also .gz) or .parquet files.
Each file is one partition; record i of a file is offset i. Running again continues from the
checkpoints: new files and appended lines are read, nothing is counted twice.

--speed replays the input: records are read when their event time has come on a clock that runs so
many times as fast, and results show up as they are published. They end up the same. A gap in the
data is waited for up to a minute.

Examples:
  $ millpond run pipelines/flights.ts --input data/nycflights13/flights --out out/flights
  $ millpond run shop.ts --input orders=orders/ --input clicks=clicks/ --out out/shop
  $ millpond run shop.ts --input events/ --out out/shop --set gap_minutes=20 --workers 2
  $ millpond run shop.ts --input events/ --out out/replay --speed 60x
`;

export function runCommand(): Command {
  return new Command("run")
    .description("run a pipeline over files and publish its tables")
    .argument("<pipeline>", "the pipeline's file (.ts or .js)")
    .requiredOption(
      "--input <path>",
      "file or directory to read; <stream>=<path> with several",
      collect,
    )
    .requiredOption("--out <dir>", "directory of results and checkpoints")
    .option("--no-flush", "leave windows that are still open unpublished")
    .addOption(
      new Option(
        "--batch-size <n>",
        "records in one slice, at most; changes nothing in the results",
      )
        .argParser(whole(1, BATCH_SIZE_MAX))
        .default(10_000),
    )
    .addOption(
      new Option("--workers <n>", "threads to use").argParser(whole(1, WORKERS_MAX)).default(1),
    )
    .addOption(
      new Option(
        "--speed <x>",
        "replay: event time passes x times as fast as the clock, as 60 or 60x",
      ).argParser(speed),
    )
    .addOption(setOption())
    .option("--json", "progress and result as JSON lines")
    .addHelpText("after", HELP)
    .action(async (file: string, flags: RunFlags) => run(file, flags));
}

async function run(file: string, flags: RunFlags): Promise<void> {
  if (flags.speed !== undefined && flags.workers > 1) {
    throw new MillpondError("USAGE", "--speed replays in one thread: leave out --workers");
  }
  const { runPipeline } = await import("../runtime/run-pipeline.js");
  const pipeline = await loadPipeline(file, flags.set);
  const inputs = inputsByStream(
    flags.input,
    pipeline.definition.streams.map(({ name }) => name),
  );
  const json = flags.json === true;
  const report = await watched(json, (watch) =>
    runPipeline({
      pipeline,
      inputs,
      out: flags.out,
      flush: flags.flush,
      batchSize: flags.batchSize,
      workers: flags.workers,
      ...(flags.speed === undefined ? {} : { speed: flags.speed }),
      pipelineFile: file,
      overrides: flags.set,
      ...watch,
    }),
  );
  printRunReport(report, { json });
  if (report.aborted) process.exitCode = 130;
}

/** The path of each stream's input; a path alone is enough for a pipeline of one stream. */
export function inputsByStream(
  inputs: readonly string[],
  streams: readonly string[],
): ReadonlyMap<string, string> {
  const byStream = new Map<string, string>();
  for (const input of inputs) {
    const { stream, path } = inputOf(input, streams);
    if (byStream.has(stream)) {
      throw new MillpondError(
        "USAGE",
        `--input ${input}: stream "${stream}" has an input already; give it one file or directory`,
      );
    }
    byStream.set(stream, path);
  }
  return byStream;
}

function inputOf(input: string, streams: readonly string[]): { stream: string; path: string } {
  const [name, ...rest] = input.split("=");
  if (rest.length > 0 && streams.includes(name!)) return { stream: name!, path: rest.join("=") };
  const [only, ...others] = streams;
  // A path may hold "=" itself, as partition folders do.
  const isPath = rest.length === 0 || existsSync(input);
  if (isPath && only !== undefined && others.length === 0) return { stream: only, path: input };
  if (!isPath) {
    throw new MillpondError(
      "USAGE",
      `--input ${input}: the pipeline has no stream "${name}"${suggestion(name!, streams)}`,
    );
  }
  throw new MillpondError(
    "USAGE",
    `--input ${input}: the pipeline reads ${streams.length} streams (${streams.join(", ")}); ` +
      "give one --input <stream>=<path> for each",
  );
}

function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

const SPEED_MAX = 1e9;

function speed(value: string): number {
  const number = Number(value.replace(/x$/i, ""));
  if (number > 0 && number <= SPEED_MAX) return number;
  throw new InvalidArgumentError("expected how many times as fast, as 60 or 0.5x.");
}

const BATCH_SIZE_MAX = 1_000_000;
const WORKERS_MAX = 1_000;
