/**
 * Deterministic event streams for tests, benchmarks and first steps: the same options give the same
 * bytes. Records come in the order they arrive; disorder is made by dating an event before that.
 */
import { MillpondError } from "../../errors.js";
import { damaged } from "./faults.js";
import type { World, WorldOptions } from "./model.js";
import { Random } from "./random.js";
import { sensorWorld } from "./sensors.js";
import { visitWorld } from "./visits.js";

export const SIMULATIONS = ["sensors", "activity", "clickstream"] as const;
export type Simulation = (typeof SIMULATIONS)[number];

export interface SimulateOptions {
  /** Records, late and malformed ones among them; duplicates come on top. */
  readonly events: number;
  readonly seed: number;
  readonly partitions: number;
  /** Events per second of event time. */
  readonly ratePerSecond: number;
  /** When the first event happens. */
  readonly startMs: number;
  /** Probabilities, 0 to 1. */
  readonly late: number;
  readonly duplicates: number;
  readonly malformed: number;
  /** Events arrive up to this long after they happened; at most `LATENESS_MS`. */
  readonly outOfOrderMs: number;
}

export interface SimulatedRecord {
  /** As a Kafka key: the sensor's or user's id, of malformed records too. */
  readonly key: string;
  readonly partition: number;
  /** Without a line break. */
  readonly line: string | Uint8Array;
  readonly kind: "ok" | "late" | "duplicate" | "malformed";
}

/**
 * Late events are further than this behind their partition's newest event, others are not. By at
 * least a minute, so that no window of up to a minute takes them.
 */
export const LATENESS_MS = 120_000;
const LATE_MS_MIN = 180_000;
const LATE_MS_MAX = 600_000;
/** A duplicate follows within this time, and within this many records, which bounds the memory. */
const RESEND_MS_MAX = 60_000;
const RESEND_RECORDS_MAX = 50_000;

/**
 * Throws USAGE at once, before the first record is asked for, when a number is out of its range.
 * @example
 * for (const { partition, line } of simulate("activity", options)) files[partition].write(line);
 */
export function simulate(
  simulation: Simulation,
  options: SimulateOptions,
): Generator<SimulatedRecord, void, undefined> {
  checkOptions(options);
  return records(simulation, options);
}

function* records(
  simulation: Simulation,
  options: SimulateOptions,
): Generator<SimulatedRecord, void, undefined> {
  const random = new Random(options.seed);
  const world = worldOf(simulation, { ...options, random });
  const newestMs = new Float64Array(options.partitions).fill(-Infinity);
  const resend = new Map<number, SimulatedRecord[]>();
  const stepMs = 1000 / options.ratePerSecond;
  const resendSteps = Math.ceil(Math.min(RESEND_MS_MAX / stepMs, RESEND_RECORDS_MAX));
  for (let i = 0; i < options.events; i++) {
    const arrivalMs = options.startMs + i * stepMs;
    const { key, partition, head } = world.next(i, arrivalMs);
    // Late is late by its own partition's watermark, so a partition's first event never is.
    const newest = newestMs[partition]!;
    const late = newest > -Infinity && random.unit() < options.late;
    const timeMs = late
      ? newest - LATE_MS_MIN - random.below(LATE_MS_MAX - LATE_MS_MIN)
      : Math.floor(arrivalMs) - random.below(options.outOfOrderMs + 1);
    const line = `${head}${new Date(timeMs).toISOString()}"}`;
    if (random.unit() < options.malformed) {
      yield { key, partition, line: damaged(line, random), kind: "malformed" };
    } else {
      newestMs[partition] = Math.max(newest, timeMs);
      yield { key, partition, line, kind: late ? "late" : "ok" };
      if (!late && random.unit() < options.duplicates) {
        const at = i + 1 + random.below(resendSteps);
        const due = resend.get(at);
        const again = { key, partition, line, kind: "duplicate" } as const;
        if (due === undefined) resend.set(at, [again]);
        else due.push(again);
      }
    }
    const due = resend.get(i);
    if (due === undefined) continue;
    yield* due;
    resend.delete(i);
  }
  for (const step of [...resend.keys()].sort((a, b) => a - b)) yield* resend.get(step)!;
}

function worldOf(simulation: Simulation, options: WorldOptions): World {
  return simulation === "sensors" ? sensorWorld(options) : visitWorld(simulation, options);
}

const EVENTS_MAX = 10_000_000_000;
const PARTITIONS_MAX = 10_000;

function checkOptions(options: SimulateOptions): void {
  const { events, seed, partitions, ratePerSecond, startMs, outOfOrderMs } = options;
  expectRange("events", events, 0, EVENTS_MAX, "a whole number", Number.isInteger(events));
  const isSeed = Number.isSafeInteger(seed);
  expectRange("seed", seed, 0, Number.MAX_SAFE_INTEGER, "a whole number", isSeed);
  const isCount = Number.isInteger(partitions);
  expectRange("partitions", partitions, 1, PARTITIONS_MAX, "a whole number", isCount);
  expectRange("rate", ratePerSecond, 0.001, 1e9, "events per second", true);
  expectRange("start", startMs, 0, 4_102_444_800_000, "a time from 1970 to 2100", true);
  const span = `a duration of at most ${LATENESS_MS / 1000}s (later events would be late)`;
  expectRange("out-of-order", outOfOrderMs, 0, LATENESS_MS, span, Number.isInteger(outOfOrderMs));
  for (const name of ["late", "duplicates", "malformed"] as const) {
    expectRange(name, options[name], 0, 1, "a probability", true);
  }
}

function expectRange(
  name: string,
  found: number,
  min: number,
  max: number,
  what: string,
  rightKind: boolean,
): void {
  if (rightKind && found >= min && found <= max) return;
  throw new MillpondError(
    "USAGE",
    `simulate: ${name} is ${found}; give ${what} from ${min} to ${max}`,
  );
}
