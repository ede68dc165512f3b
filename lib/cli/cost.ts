/** `millpond cost`: the monthly bill of a load in AWS, by part, and what else would cost. */
import { Command, InvalidArgumentError, Option } from "commander";
import type { Alternative } from "../aws/cost/alternatives.js";
import { type Bill, DEFAULT_LOAD, type Load } from "../aws/cost/bill.js";
import type { Price } from "../aws/cost/prices.js";
import { textTable } from "./text-table.js";

const HELP = `
List prices without free tiers. The break-even is of processing alone: Kafka, stored results and
monitoring cost the same whoever processes.

Examples:
  $ millpond cost --events-per-second 1000
  $ millpond cost --events-per-second 200 --hours-per-day 8 --kafka existing
  $ millpond cost --events-per-second 50000 --partitions 32 --kafka provisioned --json
`;

interface Flags extends Load {
  readonly json?: boolean;
}

export function costCommand(): Command {
  return new Command("cost")
    .description("the monthly bill of a load in AWS, by part")
    .requiredOption("--events-per-second <n>", "records a second, while there are any", number)
    .option("--event-bytes <n>", "bytes of a record's value", number, DEFAULT_LOAD.eventBytes)
    .option("--partitions <n>", "partitions of the topic", number, DEFAULT_LOAD.partitions)
    .addOption(
      new Option("--kafka <kind>", "existing costs nothing here")
        .choices(["serverless", "provisioned", "existing"])
        .default(DEFAULT_LOAD.kafka),
    )
    .option("--region <name>", "AWS region", DEFAULT_LOAD.region)
    .option(
      "--batch-window-seconds <n>",
      "how long Lambda gathers records",
      number,
      DEFAULT_LOAD.batchWindowSeconds,
    )
    .option(
      "--sink-window-seconds <n>",
      "how long the sink gathers commits",
      number,
      DEFAULT_LOAD.sinkWindowSeconds,
    )
    .option("--hours-per-day <n>", "hours a day with events", number, DEFAULT_LOAD.hoursPerDay)
    .option(
      "--retention-days <n>",
      "days that records are kept",
      number,
      DEFAULT_LOAD.retentionDays,
    )
    .option("--tables <n>", "tables of the pipeline", number, DEFAULT_LOAD.tables)
    .option(
      "--min-pollers <n>",
      "provisioned pollers; 0 is on-demand mode",
      number,
      DEFAULT_LOAD.minPollers,
    )
    .option("--json", "as one JSON object")
    .addHelpText("after", HELP)
    .action(async (flags: Flags) => {
      const report = await reportOf(flags);
      process.stdout.write(
        flags.json === true ? `${JSON.stringify(report)}\n` : reportText(report),
      );
    });
}

interface CostReport {
  readonly load: Load;
  readonly bill: Bill;
  readonly alternatives: readonly {
    readonly name: string;
    readonly size: string;
    readonly usdPerMonth: number;
    /** Null where Millpond costs less at any load. */
    readonly breakEvenEventsPerSecond: number | null;
  }[];
  readonly processingUsd: number;
  readonly prices: {
    readonly readFor: string;
    readonly list: readonly Price[];
  };
}

async function reportOf({ json: _, ...load }: Flags): Promise<CostReport> {
  const { billOf, pricesOf } = await import("../aws/cost/bill.js");
  const { ALTERNATIVES, breakEven, processingUsd } = await import("../aws/cost/alternatives.js");
  const { PRICE_LIST } = await import("../aws/cost/prices.js");
  const bill = billOf(load);
  const names = Object.keys(ALTERNATIVES) as Alternative[];
  return {
    load,
    bill,
    processingUsd: processingUsd(load),
    alternatives: names.map((name) => ({
      name,
      size: ALTERNATIVES[name].size(load.eventsPerSecond),
      usdPerMonth: ALTERNATIVES[name].usd(load),
      breakEvenEventsPerSecond: breakEven(load, name),
    })),
    prices: { readFor: PRICE_LIST.readFor, list: Object.values(pricesOf(load.region)) },
  };
}

function reportText({ load, bill, alternatives, processingUsd, prices }: CostReport): string {
  const view = { width: process.stdout.columns ?? 100, color: process.stdout.isTTY === true };
  const billTable = textTable(
    [
      { name: "part", isNumber: false },
      { name: "usd_month", isNumber: true },
      { name: "of", isNumber: false },
    ],
    [
      ...bill.parts.map(({ part, usdPerMonth, detail }) => [part, usd(usdPerMonth), detail]),
      ["total", usd(bill.usdPerMonth), `${usd(processingUsd)} of it processing`],
    ],
    view,
  );
  const others = textTable(
    [
      { name: "processing with", isNumber: false },
      { name: "usd_month", isNumber: true },
      { name: "millpond is cheaper up to", isNumber: true },
      { name: "size", isNumber: false },
    ],
    alternatives.map(({ name, usdPerMonth, size, breakEvenEventsPerSecond: upTo }) => [
      name,
      usd(usdPerMonth),
      breakEvenText(upTo),
      size,
    ]),
    view,
  );
  return (
    `${load.eventsPerSecond.toLocaleString("en-US")} events/s of ${load.eventBytes} bytes, ` +
    `${load.hoursPerDay} hours a day, ${load.region}\n${billTable}\n${others}\n` +
    priceNotes(prices, load.region)
  );
}

function priceNotes({ readFor, list }: CostReport["prices"], region: string): string {
  const dates = list.flatMap(({ dated }) => dated ?? []).sort();
  const undated = list.filter(({ dated, doubt }) => dated === null && doubt === undefined).length;
  const assumed = region === readFor ? "" : `, taken to be the same in ${region}`;
  const doubts = list.flatMap(({ usd, per, doubt, source }) =>
    doubt === undefined ? [] : [`  ${decimal(usd)} per ${per}: ${doubt} (${source})\n`],
  );
  return (
    `List prices of ${readFor}${assumed}: read in sources of ${dates[0]} to ` +
    `${dates.at(-1)}, and\n` +
    `${undated} in undated ones, not all of which name the region; each with its own in --json.\n` +
    `Not confirmed; check before relying on it:\n${doubts.join("")}`
  );
}

function breakEvenText(eventsPerSecond: number | null): string {
  if (eventsPerSecond === null) return "any load";
  if (eventsPerSecond === 0) return "no load";
  return `${Math.round(eventsPerSecond).toLocaleString("en-US")} events/s`;
}

const usd = (amount: number): string => amount.toFixed(2);
const decimal = (amount: number): string => amount.toFixed(12).replace(/0+$/, "");

function number(value: string): number {
  const found = value.trim() === "" ? Number.NaN : Number(value);
  if (Number.isFinite(found) && found >= 0) return found;
  throw new InvalidArgumentError("Give a number, 0 or more.");
}
