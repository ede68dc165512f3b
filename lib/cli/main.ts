/** The command line: its commands, its exit codes, and how errors are shown. */
import { existsSync, readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { type ErrorCode, MillpondError } from "../errors.js";
import { auditCommand } from "./audit.js";
import { backfillCommand } from "./backfill.js";
import { costCommand } from "./cost.js";
import { demoCommand } from "./demo.js";
import { devCommand } from "./dev.js";
import { diffCommand } from "./diff.js";
import { doctorCommand } from "./doctor.js";
import { inspectCommand } from "./inspect.js";
import { monitorCommand } from "./monitor.js";
import { produceCommand } from "./produce.js";
import { queryCommand } from "./query.js";
import { readCommand } from "./read.js";
import { reportCommand } from "./report.js";
import { runCommand } from "./run.js";
import { simulateCommand } from "./simulate.js";
import { tailCommand } from "./tail.js";

const EXIT_CODES: Readonly<Record<ErrorCode, number>> = {
  USAGE: 2,
  DEFINITION: 2,
  INPUT: 3,
  OUTPUT: 4,
  CONFLICT: 4,
  STORAGE: 5,
  LIMIT: 5,
  INVARIANT: 6,
  QUERY: 7,
};

/** As `sysexits.h` has it for an internal error. */
const UNEXPECTED = 70;

const HELP = `
Examples:
  $ millpond demo
  $ millpond run pipelines/flights.ts --input data/nycflights13/flights --out out/flights
  $ millpond query --out out/flights "SELECT * FROM accounting"
  $ millpond inspect --out out/flights
  $ millpond audit --out out/flights

Exit codes:
  0    done
  1    audit and diff: what they compare is not equal; doctor: a check failed
  2    wrong command line, or a pipeline definition that cannot work
  3    the input cannot be read
  4    the output belongs to something else, or another run writes to it
  5    storage failed, or a limit was reached
  6    numbers that must add up do not
  7    the query was refused or failed
  8    an alert of monitor --once rings
  70   unexpected error (a bug: report it)
  130  stopped by Ctrl-C

MILLPOND_DEBUG=1 shows errors with their causes and stack traces.
`;

/** Runs one command line; sets `process.exitCode` and never throws. */
export async function main(argv: readonly string[]): Promise<void> {
  const json = argv.includes("--json");
  surviveClosedPipes();
  try {
    loadVariables();
    await program(json).parseAsync(argv.map(unlikeAnOption));
  } catch (error) {
    if (error instanceof CommanderError) {
      // Commander has printed its own message by now.
      process.exitCode = error.exitCode === 0 ? 0 : EXIT_CODES.USAGE;
      return;
    }
    process.stderr.write(errorText(error, json));
    process.exitCode = error instanceof MillpondError ? EXIT_CODES[error.code] : UNEXPECTED;
  }
}

/** Of a file `.env` in the current directory; what the environment has already stays. */
function loadVariables(): void {
  if (existsSync(".env")) process.loadEnvFile(".env");
}

/** SQL may begin with a comment, "-- …", which is no option: a space before it changes nothing. */
function unlikeAnOption(argument: string): string {
  return /^--(\s|[^\n]*\n)/.test(argument) ? ` ${argument}` : argument;
}

function program(json: boolean): Command {
  const root = new Command("millpond")
    .description("Event-time stream processing: event logs in, exact windowed tables out.")
    .version(version(), "-V, --version", "print the version")
    .helpCommand(false)
    .addHelpText("after", HELP)
    .exitOverride()
    .configureOutput({
      outputError: (text, write) =>
        write(json ? jsonError("USAGE", text.trim().replace(/^error: /, "")) : text),
    });
  const commands = [
    runCommand(),
    queryCommand(),
    readCommand(),
    inspectCommand(),
    auditCommand(),
    diffCommand(),
    backfillCommand(),
    reportCommand(),
    simulateCommand(),
    produceCommand(),
    tailCommand(),
    demoCommand(),
    costCommand(),
    devCommand(),
    doctorCommand(),
    monitorCommand(),
  ];
  for (const command of commands) root.addCommand(command.copyInheritedSettings(root));
  return root;
}

/** What stderr shows for an error: one line, or one JSON object. */
export function errorText(error: unknown, json: boolean): string {
  const isOurs = error instanceof MillpondError;
  const found = error instanceof Error ? error.message : String(error);
  const message = isOurs ? found : `unexpected error: ${found} (MILLPOND_DEBUG=1 shows where)`;
  const text = json
    ? jsonError(isOurs ? error.code : "UNEXPECTED", message)
    : `error: ${message}\n`;
  return process.env.MILLPOND_DEBUG === "1" ? `${text}${stackText(error)}` : text;
}

function jsonError(code: string, message: string): string {
  return `${JSON.stringify({ kind: "error", code, message })}\n`;
}

function stackText(error: unknown): string {
  if (!(error instanceof Error)) return "";
  const cause = error.cause === undefined ? "" : `caused by: ${stackText(error.cause)}`;
  return `${error.stack ?? error.message}\n${cause}`;
}

/** `millpond query … | head` closes our output early: that is no error. */
function surviveClosedPipes(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(process.exitCode ?? 0);
      throw error;
    });
  }
}

function version(): string {
  // Beside the sources it is two folders up, beside `dist/lib/cli` three.
  for (const up of ["../../package.json", "../../../package.json"]) {
    try {
      const found: { version: string } = JSON.parse(
        readFileSync(new URL(up, import.meta.url), "utf8"),
      );
      return found.version;
    } catch {
      // Not here: the other place.
    }
  }
  return "unknown";
}
