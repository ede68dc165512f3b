/** `millpond backfill`: a changed definition's tables, rebuilt from bronze and put in place. */
import { Command } from "commander";
import { loadPipeline } from "../runtime/load-pipeline.js";
import { watched } from "./progress.js";
import { accountingText } from "./run-report.js";
import { setOption } from "./settings.js";

interface BackfillFlags {
  readonly out: string;
  readonly flush: boolean;
  readonly set: ReadonlyMap<string, string>;
  readonly json?: boolean;
}

const HELP = `
Reads every record in bronze again with the new definition, beside the results that are there, and
holds the rebuilt tables against batch SQL (see millpond audit). Only then do they take the place of
the old ones, in one step; killed before that, the old ones stand. The next run with the new
definition goes on where reading had stopped: nothing is counted twice, and nothing is left out.

Examples:
  $ millpond diff old.ts new.ts --out out/shop      what would change
  $ millpond backfill new.ts --out out/shop         change it
  $ millpond run new.ts --input events/ --out out/shop
`;

const SLICE_RECORDS = 10_000;

export function backfillCommand(): Command {
  return new Command("backfill")
    .description("rebuild an output from its raw records with a changed definition")
    .argument("<pipeline>", "the new definition's file")
    .requiredOption("--out <dir>", "directory that a run wrote to")
    .option("--no-flush", "leave windows that are still open unpublished")
    .addOption(setOption())
    .option("--json", "progress and result as JSON lines")
    .addHelpText("after", HELP)
    .action(run);
}

async function run(file: string, flags: BackfillFlags): Promise<void> {
  const { backfill } = await import("../audit/backfill.js");
  const pipeline = await loadPipeline(file, flags.set);
  const json = flags.json === true;
  const report = await watched(json, (watch) =>
    backfill({
      pipeline,
      out: flags.out,
      flush: flags.flush,
      batchSize: SLICE_RECORDS,
      ...watch,
    }),
  );
  if (report.kind === "aborted") process.exitCode = 130;
  if (report.kind === "current") {
    const text = `${flags.out} is of this definition already; nothing was done`;
    process.stdout.write(json ? `${JSON.stringify({ kind: "current" })}\n` : `${text}\n`);
  }
  if (report.kind !== "done") return;
  const { accounting, records } = report.run;
  const rows = report.audit.tables.reduce((sum, table) => sum + table.rows, 0);
  const number = (value: number) => value.toLocaleString("en-US");
  process.stdout.write(
    json
      ? `${JSON.stringify({ kind: "rebuilt", records, rows, accounting })}\n`
      : `${accountingText(accounting)}\nRebuilt from ${number(records)} records in bronze; all ` +
          `${number(rows)} rows are as batch SQL says.\n`,
  );
}
