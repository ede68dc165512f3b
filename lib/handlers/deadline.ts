/** Whether a handler still has time for the next piece of work. Pure. */

/** Left for answering and for what takes longer than it did before. */
const DEADLINE_MARGIN_MS = 1_500;

/** What handlers use of Lambda's context. */
export interface InvocationContext {
  getRemainingTimeInMillis(): number;
}

/**
 * Whether a slice can be begun, when one has taken `sliceMs`. An invocation's first may always:
 * else a function whose time is too short would never get on.
 */
export function hasTime(facts: {
  remainingMs: number;
  sliceMs: number;
  isFirst: boolean;
}): boolean {
  return facts.isFirst || facts.remainingMs >= 2 * facts.sliceMs + DEADLINE_MARGIN_MS;
}
