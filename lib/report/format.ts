/** Numbers, times and durations as people read them. All times are UTC. */

const INTEGER = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const DECIMAL = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 4 });
const COMPACT = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const COMPACT_FROM = 10_000;
const COMPACT_MAX = 1e15;

/** E.g. 1,234 and 12.35; very large and very small ones with an exponent. */
export function numberText(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "not a number" : String(value);
  const size = Math.abs(value);
  if (size >= COMPACT_MAX || (size > 0 && size < 1e-4)) return value.toExponential(2);
  return Number.isInteger(value) || size >= 1000 ? INTEGER.format(value) : DECIMAL.format(value);
}

/** For axes: 12.5K, 1.5e300. */
export function tickText(value: number): string {
  const size = Math.abs(value);
  if (size >= COMPACT_MAX)
    return value
      .toExponential()
      .replace(/(\.\d)\d*e\+/, "$1e")
      .replace("e+", "e");
  return size >= COMPACT_FROM ? COMPACT.format(value) : numberText(value);
}

/** A part of a whole: 0.12%, 36%, "<0.01%". */
export function percentText(part: number, whole: number): string {
  if (whole === 0) return "0%";
  const percent = (100 * part) / whole;
  if (part > 0 && percent < 0.01) return "<0.01%";
  if (part < whole && percent > 99.99) return ">99.99%";
  return `${Number(percent.toFixed(percent < 1 || percent > 99 ? 2 : 1))}%`;
}

export const SECOND_MS = 1_000;
export const MINUTE_MS = 60 * SECOND_MS;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;

/** "90 min" and "7 d": for names of ranges. */
export function shortDuration(ms: number): string {
  const units = [
    [DAY_MS, "d"],
    [HOUR_MS, "h"],
    [MINUTE_MS, "min"],
    [SECOND_MS, "s"],
  ] as const;
  const [unitMs, name] = units.find(([size]) => ms !== 0 && ms % size === 0) ?? [1, "ms"];
  return ms === 0 ? "0 s" : `${INTEGER.format(ms / unitMs)} ${name}`;
}

const UNITS: readonly (readonly [number, string])[] = [
  [365 * DAY_MS, "year"],
  [DAY_MS, "day"],
  [HOUR_MS, "hour"],
  [MINUTE_MS, "minute"],
  [SECOND_MS, "second"],
  [1, "millisecond"],
];

/** At most two units: "2 days 4 hours", "90 milliseconds". */
export function durationText(ms: number): string {
  let rest = Math.abs(Math.round(ms));
  const words: string[] = [];
  for (const [unitMs, name] of UNITS) {
    const count = Math.floor(rest / unitMs);
    rest %= unitMs;
    if (count > 0) words.push(`${INTEGER.format(count)} ${name}${count === 1 ? "" : "s"}`);
    else if (words.length > 0) break;
    if (words.length === 2) break;
  }
  return words.length === 0 ? "0 seconds" : words.join(" ");
}

/** "2013-01-01", with as much of the time as a step of `stepMs` needs. */
export function timeText(epochMs: number, stepMs = 1): string {
  const date = new Date(epochMs);
  if (Number.isNaN(date.getTime())) return String(epochMs);
  const iso = date.toISOString();
  const day = iso.slice(0, iso.indexOf("T"));
  if (stepMs % DAY_MS === 0 && epochMs % DAY_MS === 0) return day;
  const time = iso.slice(iso.indexOf("T") + 1, -1);
  if (stepMs % MINUTE_MS === 0) return `${day} ${time.slice(0, 5)}`;
  return `${day} ${stepMs % SECOND_MS === 0 ? time.slice(0, 8) : time}`;
}

const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

/** A label on the axis of a period, as short as can be told apart. */
export function axisTimeText(
  epochMs: number,
  { spanMs, stepMs }: { readonly spanMs: number; readonly stepMs: number },
): string {
  const date = new Date(epochMs);
  if (Number.isNaN(date.getTime())) return "";
  const month = MONTHS[date.getUTCMonth()]!;
  const clock = date.toISOString().split("T")[1]!;
  if (spanMs > 3 * 365 * DAY_MS) return String(date.getUTCFullYear());
  if (spanMs > 120 * DAY_MS) return `${month} ${date.getUTCFullYear()}`;
  if (spanMs > 4 * DAY_MS) return `${date.getUTCDate()} ${month}`;
  if (stepMs % DAY_MS === 0) return `${date.getUTCDate()} ${month}`;
  if (spanMs > DAY_MS) return `${date.getUTCDate()} ${month} ${clock.slice(0, 5)}`;
  return stepMs % MINUTE_MS === 0 ? clock.slice(0, 5) : clock.slice(0, 8);
}

const TEXT_CHARS_MAX = 160;

/** Long text is cut; an empty one and one of blanks are shown as such. */
export function keyText(text: string, charsMax = TEXT_CHARS_MAX): string {
  if (text.trim() === "") return text === "" ? "(empty)" : "(blank)";
  return text.length > charsMax ? `${text.slice(0, charsMax - 1)}…` : text;
}
