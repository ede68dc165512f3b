/**
 * A JSON scanner over bytes: walks one record, validates all of RFC 8259's grammar, and leaves the
 * last token's kind, place and (for a number) digits in its fields. It allocates nothing.
 */
import type { DeadLetterReason } from "../slice.js";

export const NULL = 0;
export const FALSE = 1;
export const TRUE = 2;
export const NUMBER = 3;
export const STRING = 4;
export const ARRAY = 5;
export const OBJECT = 6;

/** Deeper records are refused: the scanner recurses once a level. */
export const DEPTH_LEVELS_MAX = 128;
/** Whole numbers of so many decimal digits are exact in a double. */
export const EXACT_DIGITS = 15;

/** Exponents saturate here; far beyond any type's range, and safe to add to a record's length. */
const EXPONENT_MAX = 1_000_000_000;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** The same, four in a word; and the high bit of each byte. */
const QUOTES = 0x22222222;
const BACKSLASHES = 0x5c5c5c5c;
const HIGH_BITS = 0x80808080;

const ESCAPABLE = new Set([...'"\\/bfnrt'].map((char) => char.charCodeAt(0)));

/** Why a whole record is refused. Thrown within the decoder only; one instance is reused. */
export class BadRecord extends Error {
  reason: DeadLetterReason = "malformed";
  detail = "";
}

export class Scanner {
  bytes: Uint8Array = new Uint8Array(0);
  /** Over `bytes`. */
  view: DataView = new DataView(new ArrayBuffer(0));
  pos = 0;
  end = 0;
  /** A byte of 0x80 or above was seen, so the record must be checked for valid UTF-8. */
  sawNonAscii: boolean = false;

  /** The last token: `bytes[start, stop)`, a string's without its quotes. */
  kind = NULL;
  start = 0;
  stop = 0;
  /** The last string holds a backslash. */
  escaped: boolean = false;
  /** The last number is ±mantissa × 10^exponent, if `digits` (significant ones) <= EXACT_DIGITS. */
  negative: boolean = false;
  mantissa = 0;
  digits = 0;
  exponent = 0;

  private recordStart = 0;
  private readonly badRecord = new BadRecord();

  /** Stand at the start of the record `bytes[start, end)`, after its byte order mark if any. */
  open(bytes: Uint8Array, start: number, end: number): void {
    if (bytes !== this.bytes) {
      this.bytes = bytes;
      this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    }
    this.recordStart = start;
    this.end = end;
    this.sawNonAscii = false;
    const bom =
      end - start >= 3 &&
      bytes[start] === 0xef &&
      bytes[start + 1] === 0xbb &&
      bytes[start + 2] === 0xbf;
    this.pos = bom ? start + 3 : start;
  }

  fail(what: string, at: number): never {
    return this.refuse("malformed", `${what} at byte ${at - this.recordStart}`);
  }

  refuse(reason: DeadLetterReason, detail: string): never {
    this.badRecord.reason = reason;
    this.badRecord.detail = detail;
    throw this.badRecord;
  }

  checkDepth(levels: number): void {
    if (levels > DEPTH_LEVELS_MAX) {
      this.refuse("oversize", `nested deeper than ${DEPTH_LEVELS_MAX} levels`);
    }
  }

  /** Skip white space and return the byte there, or -1 at the record's end. */
  peek(): number {
    const { bytes, end } = this;
    let pos = this.pos;
    while (pos < end) {
      const byte = bytes[pos];
      if (byte > 0x20 || (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09)) {
        this.pos = pos;
        return byte;
      }
      pos += 1;
    }
    this.pos = pos;
    return -1;
  }

  /** Skip white space and the byte `wanted`, which must be there. */
  expect(wanted: number): void {
    if (this.peek() !== wanted) this.unexpected(`expected '${String.fromCharCode(wanted)}'`);
    this.pos += 1;
  }

  unexpected(expected: string): never {
    if (this.pos >= this.end) return this.fail(`${expected}, found the end`, this.pos);
    const byte = this.bytes[this.pos];
    const printable = byte > 0x20 && byte < 0x7f;
    const found = printable ? `'${String.fromCharCode(byte)}'` : `byte 0x${byte.toString(16)}`;
    return this.fail(`${expected}, found ${found}`, this.pos);
  }

  /** Scan any value; `levels` is how many arrays and objects it is in. */
  value(levels: number): void {
    const byte = this.peek();
    if (byte === QUOTE) this.string();
    else if (byte === 0x2d || (byte >= 0x30 && byte <= 0x39)) this.number();
    else if (byte === 0x7b) this.object(levels + 1);
    else if (byte === 0x5b) this.array(levels + 1);
    else if (byte === 0x6e) this.word("null", NULL);
    else if (byte === 0x74) this.word("true", TRUE);
    else if (byte === 0x66) this.word("false", FALSE);
    else this.unexpected("expected a value");
  }

  /** Scan the string whose opening quote is at `pos`. */
  string(): void {
    const { bytes, end } = this;
    let pos = this.pos + 1;
    this.kind = STRING;
    this.start = pos;
    this.escaped = false;
    for (;;) {
      pos = this.skipPlain(pos);
      if (pos >= end) break;
      const byte = bytes[pos];
      if (byte === QUOTE) {
        this.stop = pos;
        this.pos = pos + 1;
        return;
      }
      if (byte === BACKSLASH) pos = this.escape(pos);
      else if (byte < 0x20) {
        this.fail(`control character 0x${byte.toString(16)} in a string`, pos);
      } else {
        this.sawNonAscii = true;
        while (pos < end && bytes[pos] >= 0x80) pos += 1;
      }
    }
    this.fail("string without an end", this.start - 1);
  }

  /**
   * The first byte from `at` on that is a quote, a backslash, a control character or not ASCII;
   * perhaps beyond the record's end. Four bytes at a time: strings are most of a record.
   */
  skipPlain(at: number): number {
    const { bytes, view } = this;
    const wordsEnd = bytes.length - 4;
    let pos = at;
    for (; pos <= wordsEnd; pos += 4) {
      const word = view.getInt32(pos, true);
      // Subtracting borrows into the high bit of a byte below 0x20, or of one that XOR made 0.
      // Only bytes above such a byte may be marked wrongly, and the lowest mark is what counts.
      const marks =
        word |
        (word - 0x20202020) |
        ((word ^ QUOTES) - 0x01010101) |
        ((word ^ BACKSLASHES) - 0x01010101);
      const lowest = marks & HIGH_BITS & -(marks & HIGH_BITS);
      if (lowest !== 0) return pos + ((31 - Math.clz32(lowest)) >> 3);
    }
    while (pos < bytes.length && isPlain(bytes[pos])) pos += 1;
    return pos;
  }

  /** Check the escape at `at`; returns the position after it. */
  private escape(at: number): number {
    this.escaped = true;
    const byte = at + 1 < this.end ? this.bytes[at + 1] : -1;
    if (ESCAPABLE.has(byte)) return at + 2;
    if (byte !== 0x75 || at + 6 > this.end) return this.fail("bad escape in a string", at);
    for (let i = at + 2; i < at + 6; i++) {
      if (!isHexDigit(this.bytes[i])) this.fail("bad \\u escape in a string", at);
    }
    return at + 6;
  }

  private number(): void {
    const { bytes, end } = this;
    const start = this.pos;
    let pos = start;
    this.negative = bytes[pos] === 0x2d;
    if (this.negative) pos += 1;
    this.mantissa = 0;
    this.digits = 0;
    const wholeStart = pos;
    pos = this.digitRun(pos);
    if (pos - wholeStart > 1 && bytes[wholeStart] === 0x30) {
      this.fail("number with a leading zero", start);
    }
    let exponent = 0;
    if (pos < end && bytes[pos] === 0x2e) {
      const fractionStart = pos + 1;
      pos = this.digitRun(fractionStart);
      exponent = fractionStart - pos;
    }
    this.exponent = exponent;
    // 0x65 and 0x45: e and E.
    if (pos < end && (bytes[pos] | 0x20) === 0x65) pos = this.powerOfTen(pos + 1);
    this.kind = NUMBER;
    this.start = start;
    this.stop = pos;
    this.pos = pos;
  }

  /** Take one digit or more into the mantissa. */
  private digitRun(from: number): number {
    const { bytes, end } = this;
    let { mantissa, digits } = this;
    let pos = from;
    for (; pos < end; pos++) {
      const digit = bytes[pos] - 0x30;
      if (digit < 0 || digit > 9) break;
      mantissa = mantissa * 10 + digit;
      if (mantissa !== 0) digits += 1;
    }
    this.mantissa = mantissa;
    this.digits = digits;
    if (pos === from) this.missingDigit(pos);
    return pos;
  }

  private powerOfTen(from: number): number {
    const { bytes, end } = this;
    const sign = from < end ? bytes[from] : -1;
    const first = sign === 0x2b || sign === 0x2d ? from + 1 : from;
    let pos = first;
    let power = 0;
    for (; pos < end; pos++) {
      const digit = bytes[pos] - 0x30;
      if (digit < 0 || digit > 9) break;
      power = Math.min(power * 10 + digit, EXPONENT_MAX);
    }
    if (pos === first) this.missingDigit(pos);
    this.exponent += sign === 0x2d ? -power : power;
    return pos;
  }

  private missingDigit(at: number): never {
    this.pos = at;
    return this.unexpected("expected a digit");
  }

  private word(word: string, kind: number): void {
    const start = this.pos;
    for (let i = 0; i < word.length; i++) {
      if (start + i >= this.end || this.bytes[start + i] !== word.charCodeAt(i)) {
        this.fail("expected a value, found an unknown word", start);
      }
    }
    this.kind = kind;
    this.start = start;
    this.stop = start + word.length;
    this.pos = this.stop;
  }

  private object(levels: number): void {
    this.checkDepth(levels);
    const start = this.pos;
    this.pos += 1;
    if (this.peek() === 0x7d) {
      this.pos += 1;
    } else {
      do {
        if (this.peek() !== QUOTE) this.unexpected("expected a key in quotes");
        this.string();
        this.expect(0x3a);
        this.value(levels);
      } while (this.another(0x7d));
    }
    this.close(OBJECT, start);
  }

  private array(levels: number): void {
    this.checkDepth(levels);
    const start = this.pos;
    this.pos += 1;
    if (this.peek() === 0x5d) {
      this.pos += 1;
    } else {
      do this.value(levels);
      while (this.another(0x5d));
    }
    this.close(ARRAY, start);
  }

  /** After a member: skip a comma (true) or the closing byte (false). */
  another(closing: number): boolean {
    const byte = this.peek();
    if (byte !== 0x2c && byte !== closing) {
      this.unexpected(`expected ',' or '${String.fromCharCode(closing)}'`);
    }
    this.pos += 1;
    return byte === 0x2c;
  }

  /** The array or object from `start` to here is the last token. */
  close(kind: number, start: number): void {
    this.kind = kind;
    this.start = start;
    this.stop = this.pos;
  }

  /** The last token as written, for messages and slow paths. */
  text(start: number, stop: number): string {
    const { buffer, byteOffset } = this.bytes;
    return Buffer.from(buffer, byteOffset + start, stop - start).toString("utf8");
  }
}

function isPlain(byte: number): boolean {
  return byte >= 0x20 && byte < 0x80 && byte !== QUOTE && byte !== BACKSLASH;
}

function isHexDigit(byte: number): boolean {
  const lower = byte | 0x20;
  return (byte >= 0x30 && byte <= 0x39) || (lower >= 0x61 && lower <= 0x66);
}
