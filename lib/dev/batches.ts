/** Which waiting records make the next invocation, and when it is due. Decisions only. */
import { EVENT_FRAME_BYTES, type LocatedRecord, PAYLOAD_BYTES_MAX } from "./kafka-event.js";

/** A record that waits for its invocation. */
export interface WaitingRecord extends LocatedRecord {
  /** At least its share of the payload. */
  readonly bytes: number;
  /** What to commit once it is done: where the group would read on. */
  readonly nextOffset: number;
}

/** The waiting records of one partition. */
export interface Waiting {
  readonly records: readonly WaitingRecord[];
  readonly bytes: number;
  /** When the first of them came, epoch ms. */
  readonly sinceMs: number;
}

export interface BatchLimits {
  readonly records: number;
  /** How long an invocation waits to be filled. */
  readonly windowMs: number;
}

const ROOM_BYTES = PAYLOAD_BYTES_MAX - EVENT_FRAME_BYTES;

/** When the next invocation is due: at once if it can be full, else at the window's end. */
export function dueAtMs(waiting: readonly Waiting[], limits: BatchLimits): number {
  let [records, bytes, sinceMs] = [0, 0, Infinity];
  for (const one of waiting) {
    if (one.records.length === 0) continue;
    records += one.records.length;
    bytes += one.bytes;
    sinceMs = Math.min(sinceMs, one.sinceMs);
  }
  const isFull = records >= limits.records || bytes >= ROOM_BYTES;
  return isFull ? Number.NEGATIVE_INFINITY : sinceMs + limits.windowMs;
}

/**
 * How many records of each partition go into the next invocation: those that waited longest
 * first, up to the limits, and at least one.
 */
export function batchCounts(waiting: readonly Waiting[], limits: BatchLimits): readonly number[] {
  const counts = waiting.map(() => 0);
  let [room, roomBytes] = [limits.records, ROOM_BYTES];
  const order = waiting.map((_, i) => i).sort((a, b) => waiting[a]!.sinceMs - waiting[b]!.sinceMs);
  for (const i of order) {
    for (const { bytes } of waiting[i]!.records) {
      const isFirst = room === limits.records;
      if (!isFirst && (room === 0 || bytes > roomBytes)) return counts;
      counts[i]!++;
      room--;
      roomBytes -= bytes;
    }
  }
  return counts;
}
