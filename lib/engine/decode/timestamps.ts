/**
 * ISO-8601 timestamps from bytes to epoch milliseconds, without making a string. About ten times
 * as fast as `Date.parse`, and stricter: what is not a real moment is refused.
 */

/** Beyond this, ECMAScript has no dates. */
export const TIMESTAMP_MAX_MS = 8.64e15;

const MS_PER_DAY = 86_400_000;
const DAYS_IN_MONTH = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/** Reads timestamps; remembers the last calendar day, which neighbours mostly share. */
export class IsoReader {
  private bytes: Uint8Array = new Uint8Array(0);
  private pos = 0;
  private end = 0;
  private cachedDate = Number.NaN;
  private cachedDayMs = 0;
  /** The last date of `readUsual` as it was written, four, four and two bytes, and its day. */
  private usualStart = 0;
  private usualMiddle = 0;
  private usualEnd = 0;
  private usualDayMs = Number.NaN;
  private readonly offsetRequired: boolean;

  constructor(withoutOffset: "utc" | undefined) {
    this.offsetRequired = withoutOffset !== "utc";
  }

  /** Epoch ms (perhaps beyond TIMESTAMP_MAX_MS) of `bytes[start, end)`; NaN if it is none. */
  read(bytes: Uint8Array, start: number, end: number): number {
    this.bytes = bytes;
    this.pos = start;
    this.end = end;
    const dayMs = this.date();
    if (this.pos === end) return this.offsetRequired ? Number.NaN : dayMs;
    const separator = bytes[this.pos];
    if ((separator | 0x20) !== 0x74 && separator !== 0x20) return Number.NaN;
    this.pos += 1;
    const timeMs = this.time();
    return dayMs + timeMs - this.offsetMs();
  }

  /**
   * Epoch ms of the 24 bytes at `at`, if they are a moment as ECMAScript writes it
   * (`2026-01-15T10:00:00.000Z`); else NaN, which says nothing: `read` decides.
   * `view` is over `bytes`.
   */
  readUsual(bytes: Uint8Array, view: DataView, at: number): number {
    // 0x54 and 0x5a: T and Z.
    if (bytes[at + 10] !== 0x54 || bytes[at + 23] !== 0x5a) return Number.NaN;
    // XOR turns digits into their values and separators into 0. Adding 0x76 sets the high bit of
    // what is more than 9; adding 0x7f, of what is not 0.
    const hhm = view.getInt32(at + 11, true) ^ 0x303a3030;
    const mss = view.getInt32(at + 15, true) ^ 0x30303a30;
    const mmm = view.getInt32(at + 19, true) ^ 0x3030302e;
    const wrong = hhm | (hhm + 0x767f7676) | mss | (mss + 0x76767f76) | mmm | (mmm + 0x7676767f);
    if ((wrong & 0x80808080) !== 0) return Number.NaN;
    const hours = (hhm & 0xff) * 10 + ((hhm >> 8) & 0xff);
    const minutes = (hhm >> 24) * 10 + (mss & 0xff);
    const seconds = ((mss >> 16) & 0xff) * 10 + (mss >> 24);
    if (hours > 23 || minutes > 59 || seconds > 59) return Number.NaN;
    const fractionMs = ((mmm >> 8) & 0xff) * 100 + ((mmm >> 16) & 0xff) * 10 + (mmm >> 24);
    const timeMs = ((hours * 60 + minutes) * 60 + seconds) * 1_000 + fractionMs;
    return this.usualDate(bytes, view, at) + timeMs;
  }

  /** Start of the day of the ten bytes `2026-01-15`; NaN if they are none. */
  private usualDate(bytes: Uint8Array, view: DataView, at: number): number {
    const start = view.getInt32(at, true);
    const middle = view.getInt32(at + 4, true);
    const end = view.getInt16(at + 8, true);
    if (start !== this.usualStart || middle !== this.usualMiddle || end !== this.usualEnd) {
      this.bytes = bytes;
      this.pos = at;
      this.end = at + 10;
      const dayMs = this.date();
      this.usualDayMs = this.pos === at + 10 ? dayMs : Number.NaN;
      this.usualStart = start;
      this.usualMiddle = middle;
      this.usualEnd = end;
    }
    return this.usualDayMs;
  }

  private date(): number {
    const year = this.year();
    if (!this.skip(0x2d)) return Number.NaN;
    const month = this.digits(2);
    if (!this.skip(0x2d)) return Number.NaN;
    const day = this.digits(2);
    // Signed, so that year -1 and year 1 differ; a NaN part equals no cached date.
    const date = year * 10_000 + (year < 0 ? -1 : 1) * (month * 100 + day);
    if (date !== this.cachedDate) {
      this.cachedDayMs = startOfDayMs(year, month, day);
      this.cachedDate = date;
    }
    return this.cachedDayMs;
  }

  /** Four digits, or a sign and six; -000000 is not a year (ECMAScript). */
  private year(): number {
    const sign = this.pos < this.end ? this.bytes[this.pos] : -1;
    if (sign !== 0x2b && sign !== 0x2d) return this.digits(4);
    this.pos += 1;
    const year = this.digits(6);
    if (sign === 0x2b) return year;
    return year === 0 ? Number.NaN : -year;
  }

  private time(): number {
    const hours = this.digits(2);
    if (!(hours <= 23) || !this.skip(0x3a)) return Number.NaN;
    const minutes = this.digits(2);
    if (!(minutes <= 59)) return Number.NaN;
    const minuteMs = (hours * 60 + minutes) * 60_000;
    if (!this.skip(0x3a)) return minuteMs;
    const seconds = this.digits(2);
    if (!(seconds <= 59)) return Number.NaN;
    return minuteMs + seconds * 1_000 + this.fractionMs();
  }

  /** Floor, which is also the floor of the instant: the rest of it is whole milliseconds. */
  private fractionMs(): number {
    if (!this.skip(0x2e)) return 0;
    const { bytes, end } = this;
    const start = this.pos;
    let unitMs = 100;
    let fractionMs = 0;
    let pos = start;
    for (; pos < end; pos++) {
      const digit = bytes[pos] - 0x30;
      if (digit < 0 || digit > 9) break;
      if (pos - start < 3) fractionMs += digit * unitMs;
      unitMs /= 10;
    }
    this.pos = pos;
    return pos === start ? Number.NaN : fractionMs;
  }

  /** Z, ±HH, ±HHMM or ±HH:MM, to the end; without any, 0 if that is allowed, else NaN. */
  private offsetMs(): number {
    if (this.pos === this.end) return this.offsetRequired ? Number.NaN : 0;
    const sign = this.bytes[this.pos];
    this.pos += 1;
    if ((sign | 0x20) === 0x7a) return this.pos === this.end ? 0 : Number.NaN;
    if (sign !== 0x2b && sign !== 0x2d) return Number.NaN;
    const hours = this.digits(2);
    let minutes = 0;
    if (this.pos !== this.end) {
      this.skip(0x3a);
      minutes = this.digits(2);
    }
    if (!(hours <= 23 && minutes <= 59) || this.pos !== this.end) return Number.NaN;
    const offsetMs = (hours * 60 + minutes) * 60_000;
    return sign === 0x2d ? -offsetMs : offsetMs;
  }

  private skip(byte: number): boolean {
    if (this.pos >= this.end || this.bytes[this.pos] !== byte) return false;
    this.pos += 1;
    return true;
  }

  /** Exactly `count` digits, else NaN. */
  private digits(count: number): number {
    if (this.pos + count > this.end) return Number.NaN;
    let value = 0;
    for (let i = 0; i < count; i++) {
      const digit = this.bytes[this.pos + i] - 0x30;
      if (digit < 0 || digit > 9) return Number.NaN;
      value = value * 10 + digit;
    }
    this.pos += count;
    return value;
  }
}

function startOfDayMs(year: number, month: number, day: number): number {
  if (!(month >= 1 && month <= 12 && day >= 1)) return Number.NaN;
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
  const days = month === 2 && leap ? 29 : DAYS_IN_MONTH[month - 1];
  if (!(day <= days)) return Number.NaN;
  // Count years from March, so that a leap day comes last (Howard Hinnant, "days_from_civil").
  const marchYear = month > 2 ? year : year - 1;
  const era = Math.floor(marchYear / 400);
  const yearOfEra = marchYear - era * 400;
  const dayOfYear = Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1;
  const dayOfEra =
    yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return (era * 146_097 + dayOfEra - 719_468) * MS_PER_DAY;
}
