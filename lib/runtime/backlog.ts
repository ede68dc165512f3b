/** How much of the partitions' outboxes one round of the publisher takes. Pure. */
import type { Checkpoint, OutboxEntry } from "../commit/checkpoint.js";
import type { PartitionFacts } from "../commit/publisher.js";

export interface StepBounds {
  readonly bytesMax: number;
  readonly entriesMax: number;
}

export interface BacklogStep {
  /** As the publisher should see the partitions in this round. */
  readonly partitions: readonly PartitionFacts[];
  /** The round takes everything there is. */
  readonly isLast: boolean;
}

/** A partition on its way through the backlog. */
interface Lane {
  readonly facts: PartitionFacts;
  readonly waiting: readonly OutboxEntry[];
  taken: number;
  /** Event time of what has been taken; -Infinity when that is unknown. */
  front: number;
}

/**
 * Takes entries up to the bounds, at least one, of whichever partition is furthest back in event
 * time. A partition whose entries do not all fit is shown as it was at the last one that does: so
 * its watermark does not run ahead of what was taken, and it holds the others back, idle or not.
 *
 * @example
 * const { partitions, isLast } = nextStep(facts, publisher.state.taken, bounds);
 * await publisher.round({ partitions, flush, sinksTookUpTo });
 */
export function nextStep(
  partitions: readonly PartitionFacts[],
  taken: Readonly<Record<string, number>>,
  { bytesMax, entriesMax }: StepBounds,
): BacklogStep {
  const lanes = partitions.map((facts) => laneOf(facts, taken[facts.id] ?? 0));
  let [bytes, entries] = [0, 0];
  for (;;) {
    const lane = furthestBack(lanes);
    if (lane === null) return { partitions, isLast: true };
    const next = lane.waiting[lane.taken]!;
    if (entries > 0 && (entries >= entriesMax || bytes + next.bytes > bytesMax)) break;
    bytes += next.bytes;
    entries += 1;
    lane.taken += 1;
    lane.front = next.maxEventTime ?? Number.NEGATIVE_INFINITY;
  }
  return { partitions: lanes.map(asTaken), isLast: false };
}

function laneOf(facts: PartitionFacts, takenTo: number): Lane {
  const outbox = facts.checkpoint?.outbox ?? [];
  const last = outbox.findLast(({ sequence }) => sequence <= takenTo);
  return {
    facts,
    waiting: outbox.filter(({ sequence }) => sequence > takenTo),
    taken: 0,
    front: last?.maxEventTime ?? Number.NEGATIVE_INFINITY,
  };
}

function furthestBack(lanes: readonly Lane[]): Lane | null {
  let found: Lane | null = null;
  for (const lane of lanes) {
    if (lane.taken === lane.waiting.length) continue;
    if (found === null || lane.front < found.front) found = lane;
  }
  return found;
}

function asTaken({ facts, waiting, taken, front }: Lane): PartitionFacts {
  if (taken === waiting.length || facts.checkpoint === null) return facts;
  const checkpoint: Checkpoint = {
    ...facts.checkpoint,
    outbox: waiting.slice(0, taken),
    maxEventTime: Number.isFinite(front) ? front : null,
  };
  return { ...facts, checkpoint, idle: false };
}
