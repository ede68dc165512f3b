/** Which case a seed belongs to, and how one seed is run and reported. */
import type { FaultCounts } from "../../lib/testing/faults.js";
import { runSchedule, type ScheduleResult } from "../../lib/testing/schedule.js";
import { checkResult, type KnownCase, knownCase } from "./oracle.js";
import { s3Objects } from "./s3.js";

/** The truth about a case takes as long as some twenty schedules: so many share one. */
export const SEEDS_PER_CASE = 250;

/** Each so-manieth runs over the real S3 store: it takes twice as long. */
const SEEDS_PER_S3 = 20;

/** In each so-manieth case records go that nobody has read: what is left has a truth of its own. */
const CASES_PER_LOSS = 50;

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
  #known: KnownCase | null = null;

  async run(seed: number, trace?: (line: string) => void): Promise<ScheduleResult | null> {
    const { tally } = this;
    tally.schedules += 1;
    try {
      const known = await this.#case(caseNumber(seed));
      const objects = seed % SEEDS_PER_S3 === 0 ? { objectsOver: s3Objects } : {};
      const result = await runSchedule(known.prepared, {
        seed,
        losesUnread: known.number % CASES_PER_LOSS === CASES_PER_LOSS / 2,
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

export const replayCommand = (seed: number) => `npm run simulate -- --seed ${seed} --trace`;
