/** `millpond audit`: recomputes tables from the raw records in batch SQL, and compares. */
import { Command, InvalidArgumentError, Option } from "commander";
import type { AuditReport } from "../audit/audit.js";
import type { AuditPlace } from "../audit/published.js";
import type { Pipeline, PipelineDefinition } from "../define/definition.js";
import { definitionHash } from "../define/json.js";
import { MillpondError } from "../errors.js";
import { loadPipeline } from "../runtime/load-pipeline.js";
import { auditText } from "./audit-report.js";
import { setOption } from "./settings.js";

interface AuditFlags {
  readonly out?: string;
  readonly s3?: string;
  readonly table?: string;
  readonly from?: number;
  readonly to?: number;
  readonly limit: number;
  readonly set: ReadonlyMap<string, string>;
  readonly sql?: boolean;
  readonly json?: boolean;
}

const HELP = `
Every record that was read is in bronze. The audit turns the definition into batch SQL over it,
which nothing of the stream processor takes part in, runs that in DuckDB, and holds the published
tables against its result: each row must be equal (doubles within 1e-9 relative, sketches within
their stated error). What differs is shown side by side, with the offset that explains it.

Each copy is held against it: the lake, the DuckDB database, and PostgreSQL, when the pipeline has
that sink and DATABASE_URL or PGHOST names the server.

The pipeline's file is needed for tables that run a map function, and with --s3.

Exit codes: 0 equal, 1 not equal, others as for every command.

Examples:
  $ millpond audit --out out/flights
  $ millpond audit --out out/flights --table departures_hourly --from 2013-02-01 --to 2013-03-01
  $ millpond audit --out out/flights --sql > audit.sql
  $ millpond audit pipelines/flights.ts --s3 s3://my-bucket
`;

export function auditCommand(): Command {
  return new Command("audit")
    .description("prove published tables: recompute them from the raw records in batch SQL")
    .argument("[pipeline]", "the pipeline's file")
    .option("--out <dir>", "directory that a run wrote to")
    .option("--s3 <uri>", "bucket and prefix of a deployed stack, s3://bucket/prefix")
    .option("--table <name>", "only this table")
    .addOption(new Option("--from <time>", "only rows from this event time on").argParser(time))
    .addOption(new Option("--to <time>", "only rows before this event time").argParser(time))
    .addOption(
      new Option("--limit <n>", "differences that are shown, of each table")
        .argParser(count)
        .default(5),
    )
    .addOption(setOption("a parameter, as the run had it"))
    .option("--sql", "print the SQL instead of running it")
    .option("--json", "one JSON object")
    .addHelpText("after", HELP)
    .action(run);
}

async function run(file: string | undefined, flags: AuditFlags): Promise<void> {
  if ((flags.out === undefined) === (flags.s3 === undefined)) {
    const found = flags.out === undefined ? "neither" : "both";
    throw new MillpondError("USAGE", `found ${found} of --out and --s3: give one of them`);
  }
  const pipeline = file === undefined ? undefined : await loadPipeline(file, flags.set);
  const subject = await subjectOf(pipeline, flags);
  const { definition, references, functions } = subject;
  if (flags.sql === true) {
    const { sqlText } = await import("../audit/sql-text.js");
    const place = await subject.open();
    process.stdout.write(sqlText(definition, { bronze: place.bronze, references }, flags.table));
    await place.close();
    return;
  }
  const place = await subject.open(process.env);
  try {
    const { audit } = await import("../audit/audit.js");
    const startedAt = performance.now();
    const report = await audit(place, {
      definition,
      references,
      functions,
      table: flags.table,
      fromMs: flags.from,
      toMs: flags.to,
      examples: flags.limit,
    }).catch((cause: unknown) => {
      throw damaged(cause);
    });
    print(report, performance.now() - startedAt, flags);
    if (!report.equal) process.exitCode = 1;
  } finally {
    await place.close();
  }
}

/** Of what DuckDB says when a file of the results is gone, cut off or of other content. */
const FILE_FAULT = /^(IO|Invalid Input|Serialization) Error:|\bparquet\b/i;

function damaged(cause: unknown): unknown {
  if (cause instanceof MillpondError || !(cause instanceof Error)) return cause;
  if (!FILE_FAULT.test(cause.message)) return cause;
  return new MillpondError(
    "STORAGE",
    `published rows cannot be read: ${cause.message.trim().split("\n")[0]}. A file is gone or ` +
      "damaged: restore it, or process the input again into a new --out; --table audits another " +
      "table alone",
    { cause },
  );
}

interface Subject {
  readonly definition: PipelineDefinition;
  readonly references: ReadonlyMap<string, string>;
  readonly functions: Pipeline["functions"] | undefined;
  /** `env` says where servers are; without, they are not read. */
  open(env?: NodeJS.ProcessEnv): Promise<AuditPlace>;
}

async function subjectOf(pipeline: Pipeline | undefined, flags: AuditFlags): Promise<Subject> {
  if (flags.out !== undefined) return localSubject(pipeline, flags.out);
  if (pipeline === undefined) {
    throw new MillpondError(
      "USAGE",
      "with --s3 the audit needs the pipeline's file: millpond audit <pipeline.ts> --s3 …",
    );
  }
  const { loadReferences, referenceFiles } = await import("../runtime/references.js");
  const { openBucket } = await import("../audit/bucket-place.js");
  const { databaseAt } = await import("./query-bucket.js");
  const { definition, functions } = pipeline;
  const { hashes } = await loadReferences(pipeline);
  const claim = { definition, definitionHash: definitionHash(definition, hashes) };
  return {
    definition,
    functions,
    references: referenceFiles(pipeline),
    open: async (env) => openBucket(await databaseAt(flags.s3 ?? "", definition.name), claim, env),
  };
}

async function localSubject(pipeline: Pipeline | undefined, out: string): Promise<Subject> {
  const { noResults, outputPaths, readManifest } = await import("../runtime/output.js");
  const { keptReferences, loadReferences, referenceFiles } = await import(
    "../runtime/references.js"
  );
  const { openOutput } = await import("../audit/place.js");
  const paths = outputPaths(out);
  const manifest = readManifest(paths);
  if (manifest === null) throw noResults(out);
  const { definition } = manifest;
  const kept = keptReferences(definition, paths.references);
  const open = (env?: NodeJS.ProcessEnv) => openOutput(out, env);
  if (pipeline === undefined) {
    const lacks = definition.references.find(({ name }) => !kept.has(name));
    if (lacks === undefined) return { definition, references: kept, functions: undefined, open };
    throw new MillpondError(
      "USAGE",
      `${out} has no copy of reference table "${lacks.name}": give the pipeline's file`,
    );
  }
  const { hashes } = await loadReferences(pipeline);
  if (definitionHash(pipeline.definition, hashes) !== manifest.definitionHash) {
    throw new MillpondError(
      "OUTPUT",
      `${out} was not written by this version of pipeline "${pipeline.definition.name}", so its ` +
        "tables prove nothing about it: audit with the file that wrote them, or see what the " +
        "change would do with `millpond diff`",
    );
  }
  return { definition, references: referenceFiles(pipeline), functions: pipeline.functions, open };
}

function print(report: AuditReport, elapsedMs: number, flags: AuditFlags): void {
  const view = {
    width: process.stdout.columns ?? 100,
    color: process.stdout.isTTY && (process.env.NO_COLOR ?? "") === "",
  };
  process.stdout.write(
    flags.json === true ? `${JSON.stringify(report)}\n` : auditText(report, elapsedMs, view),
  );
}

const ISO = /^\d{4}-\d{2}-\d{2}([T ].*)?$/;

/** Without an offset it is UTC. */
function time(value: string): number {
  const hasOffset = /([zZ]|[+-]\d{2}:?\d{2})$/.test(value.slice(10));
  const ms = ISO.test(value)
    ? Date.parse(value.length > 10 && !hasOffset ? `${value}Z` : value)
    : Number.NaN;
  if (Number.isFinite(ms)) return ms;
  throw new InvalidArgumentError("expected a time as 2026-01-31 or 2026-01-31T12:00:00Z.");
}

const LIMIT_MAX = 1_000;

function count(value: string): number {
  const number = Number(value);
  if (Number.isInteger(number) && number >= 0 && number <= LIMIT_MAX) return number;
  throw new InvalidArgumentError(`expected a whole number from 0 to ${LIMIT_MAX}.`);
}
