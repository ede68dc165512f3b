/** The truth about a case. */
import { simulationCase } from "../../lib/testing/schedule.js";
import { PreparedLog } from "../../lib/testing/simulated-topic.js";
import { type Truth, truthOf } from "../../lib/testing/truth.js";
import { caseOf, START_MS } from "./cases.js";

export { checkResult } from "../../lib/testing/truth.js";

export interface KnownCase extends Truth {
  readonly number: number;
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
  return { number, ...(await truthOf(prepared, number)) };
}
