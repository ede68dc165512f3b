/** What can go wrong in a simulated run, how often, and how often it did. */
import type { Random } from "../sources/simulate/random.js";

/** Kinds of fault that any schedule may have, by the words that reports use. */
export const FAULT_KINDS = [
  "store call failed",
  "store down for a while",
  "write applied, reply lost",
  "write applied after the caller gave up",
  "write repeated by the client",
  "conditional put answered 409",
  "reply late",
  "call stalled",
  "processor killed",
  "processor timed out",
  "processor out of memory",
  "sink killed",
  "wake-up of the sink lost",
  "two requests in one environment",
  "two invocations on one partition",
  "batch delivered again after success",
  "batch delivered again after failure",
  "rebalance to an older offset",
  "partition added late",
  "retention cut what was read",
  "compaction took what was read",
  "topic made anew",
  "changed definition deployed",
  "same definition deployed",
  "clock jumped",
  "clock skewed",
  "bounds are tight",
  "long idle",
  "two sinks at once",
  "sink out of time",
  "flush on demand",
  "server of a sink down for a while",
  "ingest killed",
  "ingest out of time",
  "two ingests at once",
  "object notified again",
  "objects notified out of order",
  "object removed once ingested",
] as const;

/** Only in schedules that ask for it: what was never read is in no result, the truth is another. */
export const LOSS_KIND = "retention removed unread records" as const;

/** What nobody draws: it comes of the others, and is counted when it does. */
export const SEEN_KINDS = [
  "conditional put answered 412",
  "records stayed in Kafka at a bound",
  "processor answered when nobody waited any more",
  "thawed environment had a stale copy",
  "sink woken for nothing",
  "sink gave way to another",
] as const;

export type DrawnKind = (typeof FAULT_KINDS)[number] | typeof LOSS_KIND;
export type FaultKind = DrawnKind | (typeof SEEN_KINDS)[number];

export type FaultCounts = Map<FaultKind, number>;

/** Odds by kind; what is not named never happens. */
export type FaultOdds = ReadonlyMap<DrawnKind, number>;

export const NO_FAULTS: FaultOdds = new Map();

/** Odds that suit each kind: store calls are many, deployments are few. */
const USUAL_ODDS: Readonly<Record<DrawnKind, number>> = {
  "store call failed": 0.05,
  "store down for a while": 0.003,
  "write applied, reply lost": 0.05,
  "write applied after the caller gave up": 0.04,
  "write repeated by the client": 0.04,
  "conditional put answered 409": 0.1,
  "reply late": 0.3,
  "call stalled": 0.03,
  "processor killed": 0.05,
  "processor timed out": 0.05,
  "processor out of memory": 0.05,
  "sink killed": 0.05,
  "wake-up of the sink lost": 0.05,
  "two requests in one environment": 0.4,
  "two invocations on one partition": 0.15,
  "batch delivered again after success": 0.15,
  "batch delivered again after failure": 0.5,
  "rebalance to an older offset": 0.05,
  "partition added late": 0.5,
  "retention cut what was read": 0.1,
  "compaction took what was read": 0.1,
  "topic made anew": 0.05,
  "changed definition deployed": 0.03,
  "same definition deployed": 0.03,
  "clock jumped": 0.03,
  "clock skewed": 0.3,
  "bounds are tight": 0.15,
  "long idle": 0.03,
  "two sinks at once": 0.5,
  "sink out of time": 0.2,
  "flush on demand": 0.1,
  "server of a sink down for a while": 0.3,
  "ingest killed": 0.1,
  "ingest out of time": 0.3,
  "two ingests at once": 0.5,
  "object notified again": 0.3,
  "objects notified out of order": 0.4,
  "object removed once ingested": 0.5,
  "retention removed unread records": 0.3,
};

/**
 * A random subset of the kinds, each with odds of its own: runs with few kinds go deep where runs
 * with all of them would only make noise (swarm testing, Groce et al. 2012).
 */
export function swarmOdds(random: Random): FaultOdds {
  const share = 0.2 + random.unit() * 0.7;
  const chosen = FAULT_KINDS.filter(() => random.unit() < share);
  return new Map(chosen.map((kind) => [kind, USUAL_ODDS[kind] * (0.3 + 2 * random.unit() ** 2)]));
}

/** The same, and records that nobody has read may be gone. */
export function withLosses(odds: FaultOdds): FaultOdds {
  return new Map([...odds, [LOSS_KIND, USUAL_ODDS[LOSS_KIND]]]);
}

export function countFault(counts: FaultCounts, kind: FaultKind): void {
  counts.set(kind, (counts.get(kind) ?? 0) + 1);
}

/** Text that each simulated failure carries, by which it is told from a real one. */
export const FAULT_MARK = "simulated fault";

export class SimulatedFault extends Error {
  constructor(what: string) {
    super(`${FAULT_MARK}: ${what}`);
  }
}

/** An invariant does not hold: what a simulation is run to find. */
export class Violation extends Error {
  override readonly name = "Violation";
}
