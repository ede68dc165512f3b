/** What the three worlds have in common: one event at a time, its text cut where the time goes. */
import type { Random } from "./random.js";

export interface SimulatedEvent {
  /** Of whom it tells: all events of a key are in one partition. */
  readonly key: string;
  readonly partition: number;
  /** The record up to its event time, which is the last field: `{"id":…,"event_time":"`. */
  readonly head: string;
}

export interface World {
  /** The event that happens at `timeMs`; `index` counts up from 0. */
  next(index: number, timeMs: number): SimulatedEvent;
}

export interface WorldOptions {
  readonly random: Random;
  readonly partitions: number;
  /** Events per second of event time. */
  readonly ratePerSecond: number;
}

/** 1234 cents as "12.34". */
export function moneyText(cents: number): string {
  const rest = cents % 100;
  return `${Math.floor(cents / 100)}.${rest < 10 ? "0" : ""}${rest}`;
}
