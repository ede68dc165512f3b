/** The truth about a case. */
import {
  type ScheduleResult,
  type SimulationCase,
  simulationCase,
} from "../../lib/testing/schedule.js";
import { feedName, PreparedLog } from "../../lib/testing/simulated-topic.js";
import { checkResult as checkAgainst, type Truth, truthOf } from "../../lib/testing/truth.js";
import { caseOf, START_MS } from "./cases.js";

export interface KnownCase {
  readonly number: number;
  readonly prepared: SimulationCase;
  /**
   * By the order in which objects came in, for that is the order of their records, and by the
   * records that were gone before anyone read them.
   */
  readonly truths: Map<string, Truth>;
}

const NO_REFERENCES = { data: new Map(), hashes: new Map() };

export async function knownCase(number: number): Promise<KnownCase> {
  const { logs, ...pipelines } = caseOf(number);
  const prepared = await simulationCase({
    ...pipelines,
    references: NO_REFERENCES,
    logs: logs.map((log) => new PreparedLog(log)),
    startMs: START_MS + 86_400_000,
  });
  return { number, prepared, truths: new Map() };
}

/** Throws `Violation` with what a run's tables or accounting lack or have too much. */
export async function checkResult(
  { number, prepared, truths }: KnownCase,
  result: ScheduleResult,
): Promise<void> {
  const { ingested: order, unread } = result;
  const name = JSON.stringify([order, ...unread]);
  const truth = truths.get(name) ?? (await truthOf(without(prepared, unread), number, order));
  truths.set(name, truth);
  checkAgainst(truth, result);
}

/** The same case, had those records never been written. */
function without(prepared: SimulationCase, unread: ScheduleResult["unread"]): SimulationCase {
  if (unread.size === 0) return prepared;
  const logs = prepared.logs.map(({ log }) => {
    const gone = new Set(unread.get(feedName(log)));
    return new PreparedLog({
      ...log,
      records: log.records.filter(({ offset }) => !gone.has(offset)),
    });
  });
  return { ...prepared, logs };
}
