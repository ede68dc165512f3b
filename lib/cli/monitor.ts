/** `millpond monitor`: looks at a pipeline's metrics, and tells when something needs someone. */
import { Command, InvalidArgumentError, Option } from "commander";
import { MillpondError } from "../errors.js";
import { ALERTS } from "../observe/alerts.js";

export interface MonitorFlags {
  readonly metrics?: string;
  readonly out?: string;
  readonly webhook?: string;
  readonly sns?: string;
  readonly interval: number;
  readonly repeat: number;
  readonly threshold: ReadonlyMap<string, number>;
  readonly for: ReadonlyMap<string, number>;
  readonly state?: string;
  readonly once?: boolean;
  readonly json?: boolean;
}

const HELP = `
Alerts, each with the value from which it rings:
${ALERTS.map(({ name, threshold, forS, what }) => {
  const lasts = forS === 0 ? "" : ` for ${forS} s`;
  return `  ${name.padEnd(18)} ${`${threshold}${lasts}`.padEnd(20)} ${what}`;
}).join("\n")}

An alert is told once when it begins, again every --repeat minutes, and once when it is over. What
does not arrive is sent again at the next look. With --once it looks once, for cron: --state keeps
what it saw, and the exit code is 8 while an alert rings. SNS uses the AWS SDK's own variables.

Examples:
  $ millpond monitor --metrics http://127.0.0.1:9464/metrics
  $ MILLPOND_WEBHOOK=https://hooks.example.com/… millpond monitor --metrics http://…/metrics
  $ millpond monitor --out out/shop --threshold DeadLetters=10 --sns arn:aws:sns:…:alerts
  $ millpond monitor --out out/shop --once --state /var/lib/millpond/monitor.json
`;

export function monitorCommand(): Command {
  return new Command("monitor")
    .description("watch a pipeline's metrics, and tell by log, webhook or SNS what needs someone")
    .addOption(new Option("--metrics <url>", "where metrics are served").conflicts("out"))
    .option("--out <dir>", "or the output directory of a pipeline")
    .option("--webhook <url>", "POST alerts there as JSON; MILLPOND_WEBHOOK by default")
    .option("--sns <arn>", "publish alerts to this SNS topic")
    .addOption(new Option("--interval <s>", "between looks").argParser(seconds).default(15))
    .addOption(
      new Option("--repeat <min>", "until an alert that goes on is told again")
        .argParser(seconds)
        .default(60),
    )
    .addOption(
      new Option("--threshold <alert=n>", "ring from this value on")
        .argParser(setting)
        .default(new Map(), "as below"),
    )
    .addOption(
      new Option("--for <alert=s>", "ring when it has been so for so long")
        .argParser(setting)
        .default(new Map(), "as below"),
    )
    .option("--state <file>", "keep what was seen and told, for the next start")
    .option("--once", "look once; exit code 8 while an alert rings")
    .option("--json", "alerts as JSON lines")
    .addHelpText("after", HELP)
    .action(async (flags: MonitorFlags) => {
      if ((flags.metrics === undefined) === (flags.out === undefined)) {
        throw new MillpondError("USAGE", "give --metrics <url> or --out <dir>: what to look at");
      }
      if (flags.once === true && flags.state === undefined) {
        throw new MillpondError(
          "USAGE",
          "--once needs --state <file>: how much a counter grew is known from the look before",
        );
      }
      const { runMonitor } = await import("./monitor-run.js");
      await runMonitor(flags);
    });
}

function setting(value: string, before: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
  const [name = "", text = ""] = value.split("=");
  const number = Number(text);
  if (!ALERTS.some((rule) => rule.name === name)) {
    throw new InvalidArgumentError(
      `expected one of ${ALERTS.map((rule) => rule.name).join(", ")}, as <alert>=<number>.`,
    );
  }
  if (text.trim() === "" || !Number.isFinite(number) || number < 0) {
    throw new InvalidArgumentError(`expected ${name}=<number>.`);
  }
  return new Map([...before, [name, number]]);
}

const NUMBER_MAX = 86_400;

function seconds(value: string): number {
  const number = Number(value);
  if (value.trim() !== "" && number > 0 && number <= NUMBER_MAX) return number;
  throw new InvalidArgumentError(`expected a number above 0, at most ${NUMBER_MAX}.`);
}
