/** `millpond backfill`: a changed definition's tables, rebuilt from bronze and put in place. */
import { Command } from "commander";
import type { PartitionEnd } from "../audit/backfill-stack.js";
import { MillpondError } from "../errors.js";
import { loadPipeline } from "../runtime/load-pipeline.js";
import { watched } from "./progress.js";
import { accountingText } from "./run-report.js";
import { setOption } from "./settings.js";

interface BackfillFlags {
  readonly out?: string;
  readonly fromS3?: string;
  readonly s3?: string;
  readonly stateTable?: string;
  readonly flush: boolean;
  readonly set: ReadonlyMap<string, string>;
  readonly json?: boolean;
}

const HELP = `
Reads every record in bronze again with the new definition, beside the results that are there, and
holds the rebuilt tables against batch SQL (see millpond audit). Only then do they take the place of
the old ones, in one step; killed before that, the old ones stand. The next run with the new
definition goes on where reading had stopped: nothing is counted twice, and nothing is left out.

In AWS the new definition has a stack of its own, deployed with -c paused=true. Its tables are built
from the old stack's bronze; deployed without paused, it goes on where that ended. Killed, it is run
again and goes on. Credentials and region are the environment's.

Examples:
  $ millpond diff old.ts new.ts --out out/shop      what would change
  $ millpond backfill new.ts --out out/shop         change it
  $ millpond run new.ts --input events/ --out out/shop

  $ millpond backfill new.ts --from-s3 s3://old-bucket --s3 s3://new-bucket --state-table new-state
`;

const SLICE_RECORDS = 10_000;

export function backfillCommand(): Command {
  return new Command("backfill")
    .description("rebuild results from their raw records with a changed definition")
    .argument("<pipeline>", "the new definition's file")
    .option("--out <dir>", "directory that a run wrote to")
    .option("--from-s3 <uri>", "bucket and prefix of the old stack, s3://bucket/prefix")
    .option("--s3 <uri>", "bucket and prefix of the new stack")
    .option("--state-table <name>", "state table of the new stack")
    .option("--no-flush", "with --out: leave windows that are still open unpublished")
    .addOption(setOption())
    .option("--json", "progress and result as JSON lines")
    .addHelpText("after", HELP)
    .action(run);
}

async function run(file: string, flags: BackfillFlags): Promise<void> {
  const { out, fromS3, s3, stateTable } = flags;
  if (out !== undefined && (fromS3 ?? s3 ?? stateTable) === undefined) {
    return inOutput(file, out, flags);
  }
  if (out === undefined && fromS3 !== undefined && s3 !== undefined && stateTable !== undefined) {
    return inStack(file, { fromS3, s3, stateTable }, flags);
  }
  throw new MillpondError(
    "USAGE",
    "give --out <dir> for a local run's output; or --from-s3, --s3 and --state-table, all three, " +
      "for stacks in AWS",
  );
}

const number = (value: number) => value.toLocaleString("en-US");
const writeJson = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`);

async function inOutput(file: string, out: string, flags: BackfillFlags): Promise<void> {
  const { backfill } = await import("../audit/backfill.js");
  const pipeline = await loadPipeline(file, flags.set);
  const json = flags.json === true;
  const report = await watched(json, (watch) =>
    backfill({ pipeline, out, flush: flags.flush, batchSize: SLICE_RECORDS, ...watch }),
  );
  if (report.kind === "aborted") process.exitCode = 130;
  if (report.kind === "current") {
    if (json) writeJson({ kind: "current" });
    else process.stdout.write(`${out} is of this definition already; nothing was done\n`);
  }
  if (report.kind !== "done") return;
  const { accounting, records } = report.run;
  const rows = report.audit.tables.reduce((sum, table) => sum + table.rows, 0);
  if (json) return void writeJson({ kind: "rebuilt", records, rows, accounting });
  process.stdout.write(
    `${accountingText(accounting)}\nRebuilt from ${number(records)} records in bronze; all ` +
      `${number(rows)} rows are as batch SQL says.\n`,
  );
}

interface StackFlags {
  readonly fromS3: string;
  readonly s3: string;
  readonly stateTable: string;
}

async function inStack(file: string, stack: StackFlags, flags: BackfillFlags): Promise<void> {
  const { backfillStack } = await import("../audit/backfill-stack.js");
  const { bucketAt, databaseAt } = await import("./query-bucket.js");
  const { openStores } = await import("../stores/open-stores.js");
  const pipeline = await loadPipeline(file, flags.set);
  bucketAt("--from-s3", stack.fromS3);
  const { name, prefix } = bucketAt("--s3", stack.s3);
  const env = {
    ...process.env,
    MILLPOND_STORE: "aws",
    MILLPOND_STATE_TABLE: stack.stateTable,
    MILLPOND_BUCKET: name,
    MILLPOND_PREFIX: prefix,
  };
  const from = await databaseAt(stack.fromS3, undefined);
  const stores = await openStores(env);
  const json = flags.json === true;
  const report = await watched(json, (watch) =>
    backfillStack({ pipeline, from, stores, env, batchSize: SLICE_RECORDS, ...watch }),
  );
  if (report.kind === "aborted") {
    process.exitCode = 130;
    process.stderr.write("Stopped; run it again, and it goes on from here.\n");
  }
  if (report.kind === "current") {
    if (json) writeJson({ kind: "current" });
    else process.stdout.write("The new stack was filled before; nothing was done\n");
  }
  if (report.kind !== "done") return;
  const { audit, partitions } = report;
  const rows = audit?.tables.reduce((sum, table) => sum + table.rows, 0) ?? null;
  if (json) {
    return void writeJson({ kind: "rebuilt", records: audit?.records ?? null, rows, partitions });
  }
  const built =
    audit === null
      ? "What an earlier backfill had built is handed over."
      : `Rebuilt from ${number(audit.records)} records in bronze; all ${number(rows ?? 0)} rows ` +
        "are as batch SQL says.";
  process.stdout.write(`${built}\n${takeOverText(partitions)}`);
}

/** What Kafka must still have. */
function takeOverText(partitions: readonly PartitionEnd[]): string {
  const shown = partitions.slice(0, PARTITIONS_SHOWN).map((end) => {
    const { stream, partition, nextOffset, timestampMs } = end;
    const since = timestampMs === null ? "" : `  (after ${new Date(timestampMs).toISOString()})`;
    return `  ${stream}-${partition} from offset ${nextOffset}${since}\n`;
  });
  const left = partitions.length - shown.length;
  const rest = left > 0 ? `  and ${left} more: --json has all\n` : "";
  return `\nKafka goes on with, and must still have:\n${shown.join("")}${rest}`;
}

const PARTITIONS_SHOWN = 16;
