/**
 * What other services cost for the same load, and up to which load Millpond costs less. Their sizes
 * come from CPU measured side by side (docs/performance.md).
 */
import {
  Amounts,
  billOf,
  HOURS,
  KAFKA_PART,
  type Load,
  MILLION,
  MONITORING_PART,
  pricesOf,
  STORAGE_PART,
} from "./bill.js";

export type Alternative = "Managed Flink" | "EMR Serverless" | "Glue streaming";

/** CPU-seconds a million events of the same pipeline, measured side by side. */
const FLINK_CPU_SECONDS_PER_MILLION = 6.7;
const SPARK_CPU_SECONDS_PER_MILLION = 15;
/** A cluster that is busier than this falls behind at a peak. */
const BUSY_MAX = 0.7;

const vcpus = (eventsPerSecond: number, secondsPerMillion: number): number =>
  Math.ceil(((eventsPerSecond / MILLION) * secondsPerMillion) / BUSY_MAX);

/** Each at the smallest size that carries the load; they run all day, also without events. */
export const ALTERNATIVES: Readonly<
  Record<Alternative, { size(eventsPerSecond: number): string; usd(load: Load): number }>
> = {
  "Managed Flink": {
    size: (rate) => `${flinkKpus(rate)} KPU and 1 to orchestrate`,
    usd({ eventsPerSecond, region }) {
      const amounts = new Amounts(pricesOf(region));
      const kpus = flinkKpus(eventsPerSecond);
      return (
        amounts.usd("flinkKpuHour", (kpus + 1) * HOURS) + amounts.usd("flinkGbMonth", kpus * 50)
      );
    },
  },
  "EMR Serverless": {
    size: (rate) => `${sparkVcpus(rate) + 1} vCPU with 4 GB each, driver included`,
    usd({ eventsPerSecond, region }) {
      const amounts = new Amounts(pricesOf(region));
      const cpus = sparkVcpus(eventsPerSecond) + 1;
      return amounts.usd("emrVcpuHour", cpus * HOURS) + amounts.usd("emrGbHour", cpus * 4 * HOURS);
    },
  },
  "Glue streaming": {
    size: (rate) => `${glueWorkers(rate)} workers G.025X`,
    usd({ eventsPerSecond, region }) {
      const amounts = new Amounts(pricesOf(region));
      return amounts.usd("glueDpuHour", glueWorkers(eventsPerSecond) * 0.25 * HOURS);
    },
  },
};

const flinkKpus = (rate: number): number => Math.max(1, vcpus(rate, FLINK_CPU_SECONDS_PER_MILLION));
const sparkVcpus = (rate: number): number =>
  Math.max(1, vcpus(rate, SPARK_CPU_SECONDS_PER_MILLION));
/** Two vCPUs each, and one of them drives. */
const glueWorkers = (rate: number): number => Math.max(2, 1 + Math.ceil(sparkVcpus(rate) / 2));

const RATE_MAX = 1_000_000;
const RATE_MIN = 0.01;

/** What costs the same whoever processes the records. */
const SHARED_PARTS: readonly string[] = [KAFKA_PART, STORAGE_PART, MONITORING_PART];

/** Ours without Kafka, kept results and monitoring: what the alternatives would replace. */
export function processingUsd(load: Load): number {
  return billOf(load)
    .parts.filter(({ part }) => !SHARED_PARTS.includes(part))
    .reduce((sum, { usdPerMonth }) => sum + usdPerMonth, 0);
}

/**
 * The load, in events a second, up to which Millpond costs less: 0 when it does at none, null when
 * at any. The alternatives' own sinks and state storage are not even counted.
 */
export function breakEven(load: Load, alternative: Alternative): number | null {
  const isCheaper = (eventsPerSecond: number): boolean => {
    const at = { ...load, eventsPerSecond };
    return processingUsd(at) <= ALTERNATIVES[alternative].usd(at);
  };
  // Costs step up with sizes: the first rate, on a fine scale, at which it turns.
  let low = RATE_MIN;
  for (let rate = RATE_MIN; rate <= RATE_MAX; rate *= 1.05) {
    if (!isCheaper(rate)) return rate === RATE_MIN ? 0 : bisect(low, rate, isCheaper);
    low = rate;
  }
  return null;
}

function bisect(low: number, high: number, holds: (rate: number) => boolean): number {
  let [below, above] = [low, high];
  while (above - below > Math.max(0.01, below * 0.001)) {
    const middle = (below + above) / 2;
    if (holds(middle)) below = middle;
    else above = middle;
  }
  return below;
}
