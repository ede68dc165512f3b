/** `millpond inspect`: checkpoints, watermarks, open state and accounting of an output. */
import { Command } from "commander";
import { inspectText } from "./inspect-report.js";

const HELP = `
Examples:
  $ millpond inspect --out out/flights
  $ millpond inspect --out out/flights --json
`;

export function inspectCommand(): Command {
  return new Command("inspect")
    .description("show checkpoints, watermarks, open windows, accounting and state sizes")
    .requiredOption("--out <dir>", "directory that a run wrote to")
    .option("--json", "one JSON object")
    .addHelpText("after", HELP)
    .action(async (flags: { readonly out: string; readonly json?: boolean }) => {
      const { inspectData } = await import("../runtime/inspect-data.js");
      const report = await inspectData(flags.out);
      const text =
        flags.json === true
          ? `${JSON.stringify(report)}\n`
          : inspectText(report, {
              width: process.stdout.columns ?? 200,
              color: process.stdout.isTTY && (process.env.NO_COLOR ?? "") === "",
            });
      process.stdout.write(text);
    });
}
