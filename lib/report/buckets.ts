/** Steps of time that are neither too many for a chart nor finer than what a table has. */
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from "./format.js";

const STEPS_MAX = 80;

const STEPS_MS = [
  ...[1, 10, 100].map((n) => n),
  ...[1, 5, 10, 30].map((n) => n * SECOND_MS),
  ...[1, 5, 10, 15, 30].map((n) => n * MINUTE_MS),
  ...[1, 3, 6, 12].map((n) => n * HOUR_MS),
  ...[1, 7, 28, 91, 364].map((n) => n * DAY_MS),
];

/**
 * The step for a period: whole multiples of `leastMs` (a window's length), so that each of a
 * table's windows lies in one step.
 */
export function stepFor(spanMs: number, leastMs: number): number {
  const fits = (stepMs: number) => spanMs / stepMs < STEPS_MAX;
  if (fits(leastMs)) return leastMs;
  const step = STEPS_MS.find((ms) => ms % leastMs === 0 && fits(ms));
  if (step !== undefined) return step;
  // Windows of odd lengths, and periods of centuries.
  let multiple = leastMs;
  while (!fits(multiple)) multiple *= 2;
  return multiple;
}

/** SQL that gives the start of the step in which `column` lies; steps are aligned to `originMs`. */
export function stepSql(column: string, stepMs: number, originMs: number): string {
  const offset = ((originMs % stepMs) + stepMs) % stepMs;
  const origin = new Date(offset).toISOString().replace("T", " ").replace("Z", "+00");
  return `time_bucket(${intervalSql(stepMs)}, ${column}, TIMESTAMPTZ '${origin}')`;
}

const UNITS: readonly (readonly [number, string])[] = [
  [DAY_MS, "day"],
  [HOUR_MS, "hour"],
  [MINUTE_MS, "minute"],
  [SECOND_MS, "second"],
  [1, "millisecond"],
];

export function intervalSql(ms: number): string {
  const [unitMs, name] = UNITS.find(([size]) => ms % size === 0)!;
  return `INTERVAL '${ms / unitMs} ${name}'`;
}
