/**
 * One slice as a table's operator sees it: after the table's steps, with the verdicts per event.
 */
import type { Batch } from "./batch.js";

/** Verdicts on an event that hold for every table of its stream. */
export const FRESH = 0;
export const DUPLICATE = 1;
/** Older than dedup can check: late everywhere (DESIGN, section 3). */
export const UNCHECKABLE = 2;

/** Arrays "by event" are indexed by decoded event; "by row" by row of `batch`. */
export interface TableInput {
  readonly batch: Batch;
  /** Rows that passed the table's filters. */
  readonly rows: Int32Array;
  readonly count: number;
  /** Event of each row of the batch; null when row and event are the same. */
  readonly eventOf: Int32Array | null;
  /** By event: event time, epoch ms. */
  readonly times: Float64Array;
  /** By event: the watermark before it, epoch ms; -Infinity at first. */
  readonly watermarks: Float64Array;
  /** By event: `FRESH`, `DUPLICATE` or `UNCHECKABLE`. */
  readonly verdicts: Uint8Array;
}

/** The part of I2 that belongs to a windowed table; `events` passed its filters. */
export interface TableCounters {
  events: number;
  counted: number;
  late: number;
  duplicates: number;
}

export const noCounts = (): TableCounters => ({ events: 0, counted: 0, late: 0, duplicates: 0 });

/** Takes note of a late event: (event index). */
export type LateSink = (event: number) => void;

/** A partial that left an operator. `start` is the window's start (epoch ms), 0 for sessions. */
export interface Partial {
  readonly kind: "window" | "sessions";
  readonly start: number;
  /** Published as it stands; a later one of this partition replaces it. */
  readonly open: boolean;
  readonly groups: number;
  readonly bytes: Uint8Array;
}
