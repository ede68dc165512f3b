/**
 * How far back windows must be kept, beyond `reviseFor`, because a partition may still bring more
 * of them. "Was away for longer than `reviseFor`" is meant by the clock as well: in a backlog, days
 * of event time pass in the seconds in which another partition's batch is repeated. Pure.
 */

export interface AwaitedFacts {
  readonly nowMs: number;
  /** When the first record of the stream was seen; undefined before. */
  readonly startedAtMs: number | undefined;
  /** By the clock; who has brought nothing for longer is awaited no more. */
  readonly patienceMs: number;
  readonly partitions: readonly {
    /** Event time that the partition has passed; null before its first event. */
    readonly watermark: number | null;
    readonly committedAtMs: number;
  }[];
}

/**
 * The event time that all partitions which are still awaited have passed (epoch ms): -Infinity
 * while one may come that nobody has seen yet, +Infinity when none is awaited.
 *
 * @example
 * const awaited = awaitedFrom({ nowMs, startedAtMs, patienceMs: 86_400_000, partitions });
 */
export function awaitedFrom(facts: AwaitedFacts): number {
  const { nowMs, startedAtMs, patienceMs, partitions } = facts;
  const isAwaited = (sinceMs: number) => nowMs - sinceMs < patienceMs;
  if (startedAtMs === undefined || isAwaited(startedAtMs)) return Number.NEGATIVE_INFINITY;
  const watermarks = partitions
    .filter(({ committedAtMs }) => isAwaited(committedAtMs))
    .map(({ watermark }) => watermark ?? Number.NEGATIVE_INFINITY);
  return Math.min(...watermarks);
}
