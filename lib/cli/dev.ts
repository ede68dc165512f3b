/** `millpond dev`: a pipeline against a real broker, restarted when its file changes. */
import { statSync } from "node:fs";
import { Command, InvalidArgumentError, Option } from "commander";
import type { MetricsAddress } from "../observe/metrics-endpoint.js";
import { SIMULATIONS, type Simulation } from "../sources/simulate/simulate.js";
import { whole } from "./numbers.js";
import { setOption } from "./settings.js";

export interface DevFlags {
  readonly bootstrap?: string;
  readonly out?: string;
  readonly store: "file" | "aws";
  readonly simulate: readonly SimulateFlag[];
  readonly files: readonly FilesFlag[];
  readonly rate: number;
  readonly partitions: number;
  readonly pollers: number;
  readonly function?: string;
  readonly metricsPort?: MetricsAddress;
  readonly set: ReadonlyMap<string, string>;
  readonly json?: boolean;
}

interface FilesFlag {
  readonly stream: string | null;
  readonly dir: string;
}

interface SimulateFlag {
  readonly stream: string | null;
  readonly simulator: Simulation;
}

const HELP = `
Polls a broker as Lambda's event source mapping does, and runs the processor and the sink that
Lambda runs, in this process. Each definition of the pipeline gets an output of its own beneath
out/dev, which begins at the topics' beginning; with --out, one output is continued, and only by
the definition that began it. Query it while it runs:

  $ millpond query --out out/dev/activity-1a2b3c4d "FROM page_view_counts LIMIT 10"

Examples:
  $ millpond dev pipelines/activity.ts --simulate activity
  $ millpond dev shop.ts --bootstrap localhost:9092 --out out/shop
  $ millpond dev pipelines/medallion.ts --files sensor_files=incoming --simulate sensor_data=sensors
  $ millpond dev shop.ts --store aws            stores by MILLPOND_STATE_TABLE, MILLPOND_BUCKET
  $ millpond dev shop.ts --function shop-processor   polls for a function that is deployed

Login and stores come from the environment, as in Lambda: see docs/dev.md. Ctrl-C ends it.
`;

export function devCommand(): Command {
  return new Command("dev")
    .description("run a pipeline against a Kafka broker, and restart it when its file changes")
    .argument("<pipeline>", "the pipeline's file (.ts or .js)")
    .option("--bootstrap <h:p,…>", "brokers; MILLPOND_BOOTSTRAP or localhost:9092 by default")
    .option("--out <dir>", "directory of results and checkpoints")
    .addOption(
      new Option("--store <kind>", "where state and results are kept")
        .choices(["file", "aws"])
        .default("file"),
    )
    .addOption(
      new Option(
        "--simulate <simulator>",
        `send events: ${SIMULATIONS.join(", ")}; <stream>=<simulator> with several streams`,
      )
        .argParser(simulateFlag)
        .default([], "none"),
    )
    .addOption(
      new Option(
        "--files <dir>",
        "take JSON files that appear in a folder; <stream>=<dir> with several streams",
      )
        .argParser(filesFlag)
        .default([], "none"),
    )
    .addOption(
      new Option("--rate <n>", "simulated events a second")
        .argParser(whole(1, 100_000))
        .default(100),
    )
    .addOption(
      new Option("--partitions <n>", "of topics that are missing")
        .argParser(whole(1, 1000))
        .default(4),
    )
    .addOption(
      new Option("--pollers <n>", "members of the consumer group")
        .argParser(whole(1, 16))
        .default(1),
    )
    .addOption(
      new Option(
        "--function <name>",
        "invoke this deployed function instead, through Lambda's API",
      ).conflicts("files"),
    )
    .option(
      "--metrics-port <[host:]port>",
      "serve metrics to Prometheus, on 127.0.0.1 unless a host is given",
      metricsAddress,
    )
    .addOption(setOption())
    .option("--json", "notes and live numbers as JSON lines")
    .addHelpText("after", HELP)
    .action(async (file: string, flags: DevFlags) => {
      const { DevRun } = await import("./dev-run.js");
      await new DevRun(file, flags).run();
    });
}

function metricsAddress(value: string): MetricsAddress {
  const colon = value.lastIndexOf(":");
  const host = colon === -1 ? "127.0.0.1" : value.slice(0, colon).replace(/^\[(.*)\]$/, "$1");
  const port = Number(value.slice(colon + 1));
  const isPort = /\d$/.test(value) && Number.isInteger(port) && port >= 0 && port <= 65_535;
  if (isPort && host !== "") return { host, port };
  throw new InvalidArgumentError("expected a port, or <host>:<port>.");
}

function simulateFlag(value: string, before: readonly SimulateFlag[]): readonly SimulateFlag[] {
  const [first, second] = value.split("=");
  const name = second ?? first;
  const simulator = SIMULATIONS.find((known) => known === name);
  if (simulator === undefined) {
    throw new InvalidArgumentError(`expected one of ${SIMULATIONS.join(", ")}.`);
  }
  return [...before, { stream: second === undefined ? null : first!, simulator }];
}

function filesFlag(value: string, before: readonly FilesFlag[]): readonly FilesFlag[] {
  const [, stream = null, dir = ""] = /^(?:(\w+)=)?(.+)$/s.exec(value) ?? [];
  if (statSync(dir, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new InvalidArgumentError(`"${dir}" is no folder; make it first.`);
  }
  if (before.some((other) => other.stream === stream)) {
    throw new InvalidArgumentError("a stream takes files of one folder.");
  }
  return [...before, { stream, dir }];
}
