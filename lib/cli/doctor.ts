/** `millpond doctor`: what a pipeline needs of this machine and its servers, one line a check. */
import { Command } from "commander";
import type { CheckResult } from "./doctor-checks.js";
import { setOption } from "./settings.js";

const HELP = `
Looks at this machine, and at the servers that the environment and the pipeline name. Variables are
those of .env.example; a file .env in the current directory is read, too.

Examples:
  $ millpond doctor
  $ millpond doctor pipelines/activity.ts --set servers=true
  $ millpond doctor --json

Exit code 1 when a check fails; a warning is none.
`;

interface Flags {
  readonly out: string;
  readonly set: ReadonlyMap<string, string>;
  readonly json?: boolean;
}

export function doctorCommand(): Command {
  return new Command("doctor")
    .description("check Node, DuckDB, disk, Kafka, PostgreSQL, AWS and Snowflake")
    .argument("[pipeline.ts]", "also check what this pipeline needs")
    .option("--out <dir>", "where results would go", ".")
    .addOption(setOption())
    .option("--json", "one JSON object a line")
    .addHelpText("after", HELP)
    .action(async (file: string | undefined, flags: Flags) => {
      const { runChecks } = await import("./doctor-checks.js");
      const { loadPipeline } = await import("../runtime/load-pipeline.js");
      const pipeline = file === undefined ? null : await loadPipeline(file, flags.set);
      const results = await runChecks({ env: process.env, out: flags.out, pipeline });
      process.stdout.write(flags.json === true ? jsonLines(results) : text(results));
      if (results.some(({ status }) => status === "fail")) process.exitCode = 1;
    });
}

const jsonLines = (results: readonly CheckResult[]): string =>
  results.map((result) => `${JSON.stringify(result)}\n`).join("");

function text(results: readonly CheckResult[]): string {
  const isColored = process.stdout.isTTY && (process.env.NO_COLOR ?? "") === "";
  const colors = { ok: 32, warn: 33, fail: 31 };
  const width = Math.max(...results.map(({ check }) => check.length));
  return results
    .map(({ check, status, found, advice }) => {
      const mark = status.padEnd(4);
      const shown = isColored ? `\x1b[${colors[status]}m${mark}\x1b[0m` : mark;
      const more = advice === undefined ? "" : `\n${" ".repeat(width + 8)}${advice}`;
      return `${shown}  ${check.padEnd(width)}  ${found}${more}\n`;
    })
    .join("");
}
