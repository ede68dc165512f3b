/** Which case a seed belongs to, and how one seed is run and reported. */
import type { FaultCounts } from "../../lib/testing/faults.js";
import { runSchedule, type ScheduleResult } from "../../lib/testing/schedule.js";
import { checkResult, type KnownCase, knownCase } from "./oracle.js";
import { s3Objects } from "./s3.js";

/** The truth about a case takes as long as some twenty schedules: so many share one. */
export const SEEDS_PER_CASE = 250;

/** Each so-manieth runs over the real S3 store: it takes twice as long. */
const SEEDS_PER_S3 = 20;

/**
 * In each so-manieth case, from the 25th on, records go that nobody has read: each rest has a truth
 * of its own, which takes longer than the schedules.
 */
const CASES_PER_LOSS = 50;
const FIRST_LOSS_CASE = 25;

const hasLosses = (number: number) => number % CASES_PER_LOSS === FIRST_LOSS_CASE;

export const caseNumber = (seed: number) => Math.floor(seed / SEEDS_PER_CASE);

export interface Tally {
  schedules: number;
  steps: number;
  simulatedMs: number;
  readonly faults: FaultCounts;
  readonly failures: { readonly seed: number; readonly message: string }[];
}

export const emptyTally = (): Tally => ({
  schedules: 0,
  steps: 0,
  simulatedMs: 0,
  faults: new Map(),
  failures: [],
});

export function addTally(sum: Tally, more: Tally): void {
  sum.schedules += more.schedules;
  sum.steps += more.steps;
  sum.simulatedMs += more.simulatedMs;
  for (const [kind, count] of more.faults)
    sum.faults.set(kind, (sum.faults.get(kind) ?? 0) + count);
  sum.failures.push(...more.failures);
}

/** Runs seeds in order and keeps the case of the last one. */
export class SeedRunner {
  tally = emptyTally();
  readonly #losesAlways: boolean;
  #known: KnownCase | null = null;

  /** With `losses`, records that nobody has read go in every case. */
  constructor({ losses = false } = {}) {
    this.#losesAlways = losses;
  }

  async run(seed: number, trace?: (line: string) => void): Promise<ScheduleResult | null> {
    const { tally } = this;
    tally.schedules += 1;
    try {
      const known = await this.#case(caseNumber(seed));
      const objects = seed % SEEDS_PER_S3 === 0 ? { objectsOver: s3Objects } : {};
      const result = await runSchedule(known.prepared, {
        seed,
        losesUnread: this.#losesAlways || hasLosses(known.number),
        ...objects,
        ...(trace && { trace }),
      });
      for (const [kind, count] of result.faults) {
        tally.faults.set(kind, (tally.faults.get(kind) ?? 0) + count);
      }
      tally.steps += result.steps;
      tally.simulatedMs += result.simulatedMs;
      await checkResult(known, result);
      return result;
    } catch (error) {
      const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
      tally.failures.push({ seed, message });
      return null;
    }
  }

  /** What was run since it was last taken. */
  takeTally(): Tally {
    const { tally } = this;
    this.tally = emptyTally();
    return tally;
  }

  async #case(number: number): Promise<KnownCase> {
    if (this.#known?.number !== number) this.#known = await knownCase(number);
    return this.#known;
  }
}

export const replayCommand = (seed: number, losses = false) =>
  `npm run simulate -- --seed ${seed}${losses ? " --losses" : ""} --trace`;
