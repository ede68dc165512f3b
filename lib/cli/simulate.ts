/** `millpond simulate`: realistic, deterministic event files to try pipelines on. */
import { Argument, Command, InvalidArgumentError, Option } from "commander";
import type { Simulation } from "../sources/simulate/simulate.js";
import type { SimulateSummary } from "../sources/simulate/write-files.js";
import { anyNumber } from "./numbers.js";

const HELP = `
Durations are a number and a unit: 500ms, 30s, 2m, 1h.
The same options write the same bytes. All records of a key are in one file.

Examples:
  $ millpond simulate activity --events 100000 --partitions 4 --out data/activity
  $ millpond simulate clickstream --events 1000000 --late 0.002 --duplicates 0.01 \\
      --malformed 0.001 --out-of-order 30s --out data/clicks
`;

interface Flags {
  readonly events: number;
  readonly seed: number;
  readonly partitions: number;
  readonly out: string;
  readonly rate: number;
  readonly start: number;
  readonly late: number;
  readonly duplicates: number;
  readonly malformed: number;
  readonly outOfOrder: number;
  readonly json?: boolean;
}

export function simulateCommand(): Command {
  const kinds = ["sensors", "activity", "clickstream"];
  return new Command("simulate")
    .description("write a deterministic stream of events as NDJSON files, one per partition")
    .addArgument(new Argument("<stream>", "what to simulate").choices(kinds))
    .option("--events <n>", "records to make; duplicates come on top", anyNumber, 100_000)
    .option("--seed <s>", "seed of the randomness", anyNumber, 1)
    .option("--partitions <p>", "files to spread the keys over", anyNumber, 4)
    .requiredOption("--out <dir>", "directory for part-00.ndjson, part-01.ndjson, …")
    .option("--rate <n/s>", "events per second of event time", rate, 1000)
    .addOption(
      new Option("--start <iso>", "time of the first event")
        .argParser(instant)
        .default(Date.UTC(2025, 0, 1), "2025-01-01T00:00:00Z"),
    )
    .option("--late <p>", "share of events 3 to 10 minutes late", anyNumber, 0)
    .option("--duplicates <p>", "share of events sent twice, within a minute", anyNumber, 0)
    .option("--malformed <p>", "share of records that cannot be read", anyNumber, 0)
    .addOption(
      new Option("--out-of-order <d>", "events arrive up to this long after they happened, max 2m")
        .argParser(duration)
        .default(0, "0s"),
    )
    .option("--json", "the summary as one JSON object")
    .addHelpText("after", HELP)
    .action(async (simulation: Simulation, flags: Flags) => {
      const { simulate } = await import("../sources/simulate/simulate.js");
      const { writeSimulation } = await import("../sources/simulate/write-files.js");
      const records = simulate(simulation, {
        ...flags,
        ratePerSecond: flags.rate,
        startMs: flags.start,
        outOfOrderMs: flags.outOfOrder,
      });
      const summary = writeSimulation(flags.out, flags.partitions, records);
      process.stdout.write(flags.json === true ? `${JSON.stringify(summary)}\n` : text(summary));
    });
}

function text(summary: SimulateSummary): string {
  const { records, ok, late, duplicates, malformed, bytes, files } = summary;
  const [n, mb] = [(count: number) => count.toLocaleString("en-US"), (bytes / 1e6).toFixed(1)];
  return (
    `wrote ${n(records)} records (${mb} MB) to ${files.length} files: ${n(ok)} on time, ` +
    `${n(late)} late, ${n(duplicates)} duplicates, ${n(malformed)} malformed\n`
  );
}

/** "500" and "500/s" are the same. */
const rate = (value: string): number => anyNumber(value.replace(/\/s$/, ""));

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

function duration(value: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(value);
  if (match === null && value !== "0") {
    throw new InvalidArgumentError("Give a number and a unit, such as 500ms, 30s or 2m.");
  }
  return match === null ? 0 : Math.round(Number(match[1]) * UNIT_MS[match[2]!]!);
}

function instant(value: string): number {
  const found = Date.parse(value);
  if (Number.isNaN(found) || !/(Z|[+-]\d\d:?\d\d)$/.test(value)) {
    throw new InvalidArgumentError("Give an ISO time with its offset: 2025-01-01T00:00:00Z.");
  }
  return found;
}
