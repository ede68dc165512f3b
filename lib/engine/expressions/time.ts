/** Timestamps by arithmetic in UTC on the proleptic Gregorian calendar: no Date per row. */
import type { ExprNode, Operator } from "../../define/definition.js";
import { MillpondError } from "../../errors.js";
import {
  BIGINT,
  INT,
  mapNumbers,
  mapWhole,
  numbersOf,
  type Operand,
  TIMESTAMP,
  wholeReader,
} from "./operand.js";

export type Unit = NonNullable<Extract<ExprNode, { op: Operator }>["unit"]>;

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
/** The range of a JavaScript Date: 100 million days on both sides of the epoch. */
const INSTANT_MS_MAX = 8_640_000_000_000_000;

export function truncate(operand: Operand, unit: Unit, count: number): Operand {
  const ms = numbersOf(operand);
  const start = truncator(unit);
  return mapNumbers(TIMESTAMP, [operand], count, (row) => start(ms[row * operand.step]!));
}

function truncator(unit: Unit): (ms: number) => number {
  switch (unit) {
    case "minute":
      return (ms) => Math.floor(ms / MINUTE_MS) * MINUTE_MS;
    case "hour":
      return (ms) => Math.floor(ms / HOUR_MS) * HOUR_MS;
    case "day":
      return (ms) => Math.floor(ms / DAY_MS) * DAY_MS;
    case "month":
      return (ms) => {
        const day = Math.floor(ms / DAY_MS);
        return (day - dayOfMonth(day) + 1) * DAY_MS;
      };
    case "year":
      return (ms) => {
        const day = Math.floor(ms / DAY_MS);
        return firstDayOfYear(yearOf(day)) * DAY_MS;
      };
    case "dayOfWeek":
      throw new MillpondError(
        "DEFINITION",
        'truncate("dayOfWeek") has no meaning; use "day" here, or extract("dayOfWeek")',
      );
  }
}

export function extract(operand: Operand, unit: Unit, count: number): Operand {
  const ms = numbersOf(operand);
  const part = extractor(unit);
  return mapNumbers(INT, [operand], count, (row) => part(ms[row * operand.step]!));
}

function extractor(unit: Unit): (ms: number) => number {
  const inDay = (ms: number): number => ms - Math.floor(ms / DAY_MS) * DAY_MS;
  switch (unit) {
    case "minute":
      return (ms) => Math.floor(inDay(ms) / MINUTE_MS) % 60;
    case "hour":
      return (ms) => Math.floor(inDay(ms) / HOUR_MS);
    case "day":
      return (ms) => dayOfMonth(Math.floor(ms / DAY_MS));
    case "dayOfWeek":
      // The epoch was a Thursday; Sunday is 0.
      return (ms) => (((Math.floor(ms / DAY_MS) + 4) % 7) + 7) % 7;
    case "month":
      return (ms) => monthOf(Math.floor(ms / DAY_MS));
    case "year":
      return (ms) => yearOf(Math.floor(ms / DAY_MS));
  }
}

// Days to dates as in Howard Hinnant's "chrono-compatible low-level date algorithms": years start
// in March, so that the leap day is the last of its year.
interface MarchDate {
  readonly year: number;
  readonly dayOfYear: number;
}

function marchDate(day: number): MarchDate {
  const shifted = day + 719_468;
  const era = Math.floor(shifted / 146_097);
  const dayOfEra = shifted - era * 146_097;
  const leapDays =
    Math.floor(dayOfEra / 1460) - Math.floor(dayOfEra / 36_524) + Math.floor(dayOfEra / 146_096);
  const yearOfEra = Math.floor((dayOfEra - leapDays) / 365);
  const before = 365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100);
  return { year: yearOfEra + era * 400, dayOfYear: dayOfEra - before };
}

const marchMonth = (dayOfYear: number): number => Math.floor((5 * dayOfYear + 2) / 153);

function dayOfMonth(day: number): number {
  const { dayOfYear } = marchDate(day);
  return dayOfYear - Math.floor((153 * marchMonth(dayOfYear) + 2) / 5) + 1;
}

function monthOf(day: number): number {
  const month = marchMonth(marchDate(day).dayOfYear);
  return month < 10 ? month + 3 : month - 9;
}

function yearOf(day: number): number {
  const { year, dayOfYear } = marchDate(day);
  return dayOfYear >= 306 ? year + 1 : year;
}

function firstDayOfYear(year: number): number {
  const y = year - 1;
  return 365 * y + Math.floor(y / 4) - Math.floor(y / 100) + Math.floor(y / 400) - 719_162;
}

/** Beyond the range of timestamps is null. */
export function addMs(time: Operand, ms: Operand, count: number): Operand {
  const times = numbersOf(time);
  const more = wholeReader(ms, 0);
  return mapNumbers(TIMESTAMP, [time, ms], count, (row) => {
    const sum = Number(BigInt(times[row * time.step]!) + more(row));
    return Math.abs(sum) <= INSTANT_MS_MAX ? sum : null;
  });
}

export function diffMs(a: Operand, b: Operand, count: number): Operand {
  const x = wholeReader(a, 0);
  const y = wholeReader(b, 0);
  return mapWhole(BIGINT, [a, b], count, (row) => x(row) - y(row));
}
