/** `millpond report`: what an output holds, as one HTML file with charts, numbers and their SQL. */
import { spawn } from "node:child_process";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import { Command } from "commander";

const HELP = `
The file needs nothing else, neither a network nor the results: send it, print it, keep it. It shows
every table over time and by key, how late and out of order events came, what could not be read, and
that the numbers add up. Each picture has its SQL beside it, which runs in \`millpond query\`.

Examples:
  $ millpond report --out out/flights --open
  $ millpond report --out out/flights --file flights.html
`;

interface ReportFlags {
  readonly out: string;
  readonly file?: string;
  readonly open?: boolean;
}

export function reportCommand(): Command {
  return new Command("report")
    .description("make an HTML report of results: insights, charts, data quality")
    .requiredOption("--out <dir>", "directory that a run wrote to")
    .option("--file <path>", "the HTML file to write (default: report.html in --out)")
    .option("--open", "show it in the browser")
    .addHelpText("after", HELP)
    .action(report);
}

async function report(flags: ReportFlags): Promise<void> {
  const { writeReport } = await import("../report/report.js");
  const file = flags.file ?? path.join(flags.out, "report.html");
  await writeReport({ out: flags.out, file });
  process.stdout.write(`The report is ${file}\n`);
  if (flags.open === true) await openInBrowser(file);
}

const OPENERS: Readonly<Partial<Record<NodeJS.Platform, readonly string[]>>> = {
  darwin: ["open"],
  win32: ["rundll32", "url.dll,FileProtocolHandler"],
};

/** A machine without a browser is no error: the file is there, and is named. */
async function openInBrowser(file: string): Promise<void> {
  const [program, ...args] = OPENERS[process.platform] ?? ["xdg-open"];
  const { href } = pathToFileURL(path.resolve(file));
  await new Promise<void>((resolve) => {
    const child = spawn(program!, [...args, href], { stdio: "ignore", detached: true });
    child.once("error", () => {
      process.stderr.write(`warning: ${program} cannot be run; open ${href} in a browser\n`);
      resolve();
    });
    child.once("spawn", () => {
      child.unref();
      resolve();
    });
  });
}
