/**
 * What a load costs a month, by part. Pure arithmetic over a load, the list prices, and figures
 * measured on this engine.
 */
import { MillpondError } from "../../errors.js";
import { PRICE_LIST, type PriceName, type Prices } from "./prices.js";

export type KafkaPricing = "serverless" | "provisioned" | "existing";

export interface Load {
  readonly eventsPerSecond: number;
  /** Of a record's value. */
  readonly eventBytes: number;
  readonly partitions: number;
  readonly kafka: KafkaPricing;
  readonly region: string;
  readonly batchWindowSeconds: number;
  readonly sinkWindowSeconds: number;
  /** Hours a day with events; the rest costs nothing but storage and what is always on. */
  readonly hoursPerDay: number;
  /** Of records in Kafka and of bronze in the lake. */
  readonly retentionDays: number;
  /** Tables of the pipeline, bronze included. */
  readonly tables: number;
  /** Pollers always on; 0 is on-demand mode. */
  readonly minPollers: number;
}

export const DEFAULT_LOAD: Omit<Load, "eventsPerSecond"> = {
  eventBytes: 200,
  partitions: 4,
  kafka: "serverless",
  region: "us-east-1",
  batchWindowSeconds: 5,
  sinkWindowSeconds: 15,
  hoursPerDay: 24,
  retentionDays: 30,
  tables: 4,
  minPollers: 0,
};

export interface BillPart {
  readonly part: string;
  /** How the amount comes about. */
  readonly detail: string;
  readonly usdPerMonth: number;
}

export interface Bill {
  readonly parts: readonly BillPart[];
  readonly usdPerMonth: number;
}

/**
 * Measured (docs/performance.md) or set by the stack. CPU-seconds are of one vCPU, which a Lambda
 * has at 1,769 MB.
 */
const ENGINE = {
  processorGb: 1_769 / 1_024,
  sinkGb: 3_008 / 1_024,
  sinkScratchGb: 1.5,
  /** Two writes, one after the other, and what an invocation costs around them. */
  sliceSeconds: 0.06,
  processorCpuSecondsPerMillion: 2,
  sinkRoundSeconds: 1.5,
  sinkCpuSecondsPerMillion: 4,
  batchRecords: 10_000,
  payloadBytes: 6 * 1024 * 1024,
  /** Of a record in Lambda's event, beside its value in base64. */
  envelopeBytes: 180,
  checkpointKb: 8,
  checkpointGb: 0.01,
  /** Requests of a round: Parquet files, Delta commits, the database; reads of the same. */
  putsPerTable: 2,
  putsPerRound: 3,
  getsPerRound: 10,
  /** Bronze, compressed, beside the tables made of it. */
  lakeBytesPerEventByte: 0.3,
  customMetrics: 40,
  alarms: 11,
  logBytesPerInvocation: 1_000,
} as const;

/** In a month. */
export const HOURS = 730;
export const MILLION = 1e6;
const GB = 1024 ** 3;

/** @throws MillpondError USAGE for a region without prices here, or a load that is none */
export function pricesOf(region: string): Prices {
  const known = Object.entries(PRICE_LIST.regions).find(([name]) => name === region);
  if (known !== undefined) return known[1];
  throw new MillpondError(
    "USAGE",
    `no prices for region "${region}": known are ${Object.keys(PRICE_LIST.regions).join(", ")}`,
  );
}

/** How often what runs, a month. */
export interface Activity {
  readonly activeSeconds: number;
  readonly events: number;
  readonly slices: number;
  readonly sinkRounds: number;
}

export function activityOf(load: Load): Activity {
  const activeSeconds = HOURS * 3600 * (load.hoursPerDay / 24);
  const events = load.eventsPerSecond * activeSeconds;
  const recordBytes = (load.eventBytes * 4) / 3 + ENGINE.envelopeBytes;
  const batch = Math.min(ENGINE.batchRecords, ENGINE.payloadBytes / recordBytes);
  // A slice a partition and window, more when batches fill up, but none without an event.
  const windows = load.partitions / load.batchWindowSeconds;
  const slices = Math.min(load.eventsPerSecond, Math.max(windows, load.eventsPerSecond / batch));
  const rounds = Math.min(slices, 1 / load.sinkWindowSeconds);
  return {
    activeSeconds,
    events,
    slices: slices * activeSeconds,
    sinkRounds: rounds * activeSeconds,
  };
}

/**
 * @example
 * const bill = billOf({ ...DEFAULT_LOAD, eventsPerSecond: 1_000 });
 * bill.parts.map(({ part, usdPerMonth }) => `${part}: ${usdPerMonth}`);
 */
export function billOf(load: Load): Bill {
  checkLoad(load);
  const prices = pricesOf(load.region);
  const activity = activityOf(load);
  const amounts = new Amounts(prices);
  const parts = [
    ...lambdaParts(activity, amounts),
    ...storageParts(load, activity, amounts),
    ...kafkaParts(load, activity, amounts),
    ...alwaysOnParts(load, activity, amounts),
  ].filter(({ usdPerMonth }) => usdPerMonth > 0);
  return { parts, usdPerMonth: parts.reduce((sum, { usdPerMonth }) => sum + usdPerMonth, 0) };
}

/** Parts that every way of processing the same topic has. */
export const KAFKA_PART = "MSK";
export const STORAGE_PART = "S3 storage";
export const MONITORING_PART = "CloudWatch";

function checkLoad(load: Load): void {
  const positive = ["eventsPerSecond", "eventBytes", "partitions", "batchWindowSeconds"] as const;
  for (const name of [...positive, "sinkWindowSeconds", "tables"] as const) {
    if (load[name] > 0 && Number.isFinite(load[name])) continue;
    throw new MillpondError("USAGE", `${name} is ${load[name]}: give a number above 0`);
  }
  if (load.hoursPerDay >= 0 && load.hoursPerDay <= 24) return;
  throw new MillpondError("USAGE", `hoursPerDay is ${load.hoursPerDay}: give 0 to 24`);
}

/** Quantities times list prices. */
export class Amounts {
  private readonly prices: Prices;

  constructor(prices: Prices) {
    this.prices = prices;
  }

  usd(name: PriceName, quantity: number): number {
    return this.prices[name].usd * quantity;
  }
}

function lambdaParts(activity: Activity, amounts: Amounts): BillPart[] {
  const { events, slices, sinkRounds } = activity;
  const ticks = HOURS * 60;
  const requests = slices + sinkRounds + ticks;
  const processorSeconds =
    slices * ENGINE.sliceSeconds + (events / MILLION) * ENGINE.processorCpuSecondsPerMillion;
  const sinkSeconds =
    sinkRounds * ENGINE.sinkRoundSeconds +
    ticks * 0.2 +
    (events / MILLION) * ENGINE.sinkCpuSecondsPerMillion;
  const gbSeconds = processorSeconds * ENGINE.processorGb + sinkSeconds * ENGINE.sinkGb;
  return [
    {
      part: "Lambda requests",
      detail: `${count(slices)} slices, ${count(sinkRounds)} sink rounds, ${count(ticks)} ticks`,
      usdPerMonth: amounts.usd("lambdaRequests", requests / MILLION),
    },
    {
      part: "Lambda duration",
      detail: `${count(processorSeconds)} s processor, ${count(sinkSeconds)} s sink`,
      usdPerMonth:
        amounts.usd("lambdaArmGbSecond", gbSeconds) +
        amounts.usd("lambdaScratchGbSecond", sinkSeconds * ENGINE.sinkScratchGb),
    },
  ];
}

function storageParts(load: Load, activity: Activity, amounts: Amounts): BillPart[] {
  const { events, slices, sinkRounds } = activity;
  const commits = slices + sinkRounds;
  const writes = commits * ENGINE.checkpointKb;
  // A consistent read is a unit for 4 KB: the sink reads every partition.
  const reads = sinkRounds * load.partitions * (ENGINE.checkpointKb / 4);
  const puts = slices + sinkRounds * (ENGINE.putsPerRound + load.tables * ENGINE.putsPerTable);
  const gets = slices + sinkRounds * ENGINE.getsPerRound;
  const lakeGb =
    ((events * load.eventBytes * ENGINE.lakeBytesPerEventByte) / GB) * (load.retentionDays / 30);
  return [
    {
      part: "DynamoDB",
      detail: `${count(writes)} write units, ${count(reads)} read units; its stream is free`,
      usdPerMonth:
        amounts.usd("dynamodbWrites", writes / MILLION) +
        amounts.usd("dynamodbReads", reads / MILLION) +
        amounts.usd("dynamodbGbMonth", ENGINE.checkpointGb) +
        amounts.usd("dynamodbBackupGbMonth", ENGINE.checkpointGb),
    },
    {
      part: "S3 requests",
      detail: `${count(puts)} writes, ${count(gets)} reads`,
      usdPerMonth: amounts.usd("s3Puts", puts / MILLION) + amounts.usd("s3Gets", gets / MILLION),
    },
    {
      part: STORAGE_PART,
      detail: `${lakeGb.toFixed(1)} GB of lake after ${load.retentionDays} days`,
      usdPerMonth: amounts.usd("s3GbMonth", lakeGb),
    },
  ];
}

function kafkaParts(load: Load, { events }: Activity, amounts: Amounts): BillPart[] {
  const gb = (events * load.eventBytes) / GB;
  const kept = (gb / 30) * load.retentionDays;
  if (load.kafka === "existing") return [];
  if (load.kafka === "serverless") {
    return [
      {
        part: KAFKA_PART,
        detail: `serverless, ${load.partitions} partitions, ${gb.toFixed(1)} GB in and out`,
        usdPerMonth:
          amounts.usd("mskServerlessClusterHour", HOURS) +
          amounts.usd("mskServerlessPartitionHour", HOURS * load.partitions) +
          amounts.usd("mskServerlessGbIn", gb) +
          amounts.usd("mskServerlessGbOut", gb) +
          amounts.usd("mskServerlessGbMonth", kept),
      },
    ];
  }
  // A small broker's baseline network carries about 2 MB/s of writes with three copies.
  const isSmall = load.eventsPerSecond * load.eventBytes < 2e6;
  return [
    {
      part: KAFKA_PART,
      detail: `3 brokers, kafka.${isSmall ? "t3.small" : "m7g.large"}, three copies of all`,
      usdPerMonth:
        amounts.usd(isSmall ? "mskSmallBrokerHour" : "mskLargeBrokerHour", HOURS * 3) +
        amounts.usd("mskGbMonth", Math.max(300, kept * 3)),
    },
  ];
}

/** Zones that the network has: three brokers are in three. */
const zonesOf = (kafka: KafkaPricing): number => (kafka === "provisioned" ? 3 : 2);
/** At 5 MB/s each. Up to ten slower ones share a unit: this is the most that they cost. */
const POLLERS_PER_UNIT = 4;

function alwaysOnParts(load: Load, activity: Activity, amounts: Amounts): BillPart[] {
  const zones = zonesOf(load.kafka);
  const hasEndpoints = load.minPollers === 0 && load.kafka !== "existing";
  const gb = (activity.events * load.eventBytes) / GB;
  const units = Math.ceil(load.minPollers / POLLERS_PER_UNIT);
  const logGb = ((activity.slices + activity.sinkRounds) * ENGINE.logBytesPerInvocation) / GB;
  return [
    {
      part: "Event pollers",
      detail: `at most ${units} units for ${load.minPollers} pollers, always on`,
      usdPerMonth: amounts.usd("eventPollerUnitHour", units * HOURS),
    },
    {
      part: "VPC endpoints",
      detail: `Lambda and STS in ${zones} zones, for on-demand pollers`,
      usdPerMonth: hasEndpoints
        ? amounts.usd("endpointHour", 2 * zones * HOURS) + amounts.usd("endpointGb", gb)
        : 0,
    },
    {
      part: MONITORING_PART,
      detail: `${ENGINE.customMetrics} metrics, ${ENGINE.alarms} alarms, a dashboard, logs`,
      usdPerMonth:
        amounts.usd("metricMonth", ENGINE.customMetrics) +
        amounts.usd("alarmMonth", ENGINE.alarms) +
        amounts.usd("dashboardMonth", 1) +
        amounts.usd("logsGb", logGb),
    },
    {
      part: "KMS",
      detail: "a key; the bucket's own key keeps requests few",
      usdPerMonth:
        amounts.usd("keyMonth", 1) + amounts.usd("keyRequests", activity.sinkRounds / MILLION),
    },
  ];
}

const count = (value: number): string => Math.round(value).toLocaleString("en-US");
