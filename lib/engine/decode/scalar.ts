/** Reads the scanner's last token as one scalar type, by that type's rules. */
import type { FieldNode, ScalarType, TimestampFormat } from "../../define/definition.js";
import type { RowValue } from "../batch.js";
import { EXACT, Scaled, TOO_LARGE, toDouble } from "./numbers.js";
import { FALSE, NUMBER, type Scanner, STRING, TRUE } from "./scan.js";
import type { TextArea } from "./text-area.js";
import { IsoReader, TIMESTAMP_MAX_MS } from "./timestamps.js";

/** What became of a field in a record. */
export const MISSING = 0;
export const VALUE = 1;
export const NULL_VALUE = 2;
export const WRONG_TYPE = 3;
export const OUT_OF_RANGE = 4;

const INT_MAX = 2 ** 31 - 1;
const BIGINT_MAX = 2n ** 63n - 1n;

/** floor(value × 10^scale) is epoch milliseconds. */
const EPOCH_SCALE = { epoch_s: 3, epoch_ms: 0, epoch_us: -3 } as const;

/** The part of a field that concerns one value of it. */
export type ScalarRules = Pick<FieldNode, "oneOf" | "format">;

/** `read` leaves the value in the fields below: which of them, depends on the type. */
export class ScalarReader {
  readonly kind: ScalarType["kind"];
  /** For messages: "an int", "one of …". */
  readonly expectation: string;
  /** int, double, timestamp and boolean; also bigint and decimal if `integer.small`. */
  number = 0;
  /** bigint and decimal, unscaled. */
  readonly integer = new Scaled();
  /** string: `textBytes[textStart, textEnd)`, in the slice or (`appended`) in the text area. */
  textBytes: Uint8Array = new Uint8Array(0);
  textStart = 0;
  textEnd = 0;
  appended: boolean = false;

  private readonly scale: number;
  private readonly limit: bigint;
  /** The same for what has at most 15 digits: exact where it has no more itself. */
  private readonly smallLimit: number;
  readonly iso: IsoReader | null;
  private readonly oneOf: readonly Uint8Array[] | null;
  private readonly texts: TextArea;

  constructor(type: ScalarType, rules: ScalarRules, texts: TextArea) {
    const format = rules.format ?? { kind: "iso" };
    this.kind = type.kind;
    this.texts = texts;
    this.expectation = expectation(type, rules, format);
    const epochScale = format.kind === "iso" ? 0 : EPOCH_SCALE[format.kind];
    this.scale = type.kind === "decimal" ? type.scale : epochScale;
    this.limit = type.kind === "decimal" ? 10n ** BigInt(type.precision) - 1n : BIGINT_MAX;
    this.smallLimit = Number(this.limit);
    this.iso =
      type.kind === "timestamp" && format.kind === "iso"
        ? new IsoReader(format.withoutOffset)
        : null;
    this.oneOf = rules.oneOf?.map((value) => Buffer.from(value)) ?? null;
  }

  /** Returns VALUE, WRONG_TYPE or OUT_OF_RANGE. */
  read(scanner: Scanner): number {
    switch (this.kind) {
      case "string":
        if (!this.readText(scanner)) return WRONG_TYPE;
        return this.allows(this.textBytes, this.textStart, this.textEnd) ? VALUE : OUT_OF_RANGE;
      case "double":
        if (scanner.kind !== NUMBER) return WRONG_TYPE;
        this.number = toDouble(scanner);
        return Number.isFinite(this.number) ? VALUE : OUT_OF_RANGE;
      case "timestamp":
        return this.readTimestamp(scanner);
      case "boolean":
        this.number = scanner.kind === TRUE ? 1 : 0;
        return scanner.kind === TRUE || scanner.kind === FALSE ? VALUE : WRONG_TYPE;
      case "int":
      case "bigint":
      case "decimal":
        return this.readInteger(scanner);
    }
  }

  /** The value just read, as it stands in a list. */
  value(): RowValue {
    switch (this.kind) {
      case "string":
        return Buffer.from(this.textBytes.subarray(this.textStart, this.textEnd)).toString();
      case "boolean":
        return this.number === 1;
      case "bigint":
      case "decimal":
        return this.integer.small ? BigInt(this.number) : this.integer.bigint;
      default:
        return this.number;
    }
  }

  private readText(scanner: Scanner): boolean {
    if (scanner.kind !== STRING) return false;
    this.appended = scanner.escaped;
    if (scanner.escaped) {
      const text = resolveEscapes(scanner);
      // JSON can say half a surrogate pair; UTF-8, and so every table, cannot.
      if (/\p{Surrogate}/u.test(text)) scanner.fail("lone surrogate in a string", scanner.start);
      this.textStart = this.texts.append(text);
      this.textEnd = this.texts.used;
      this.textBytes = this.texts.bytes;
    } else {
      this.textStart = scanner.start;
      this.textEnd = scanner.stop;
      this.textBytes = scanner.bytes;
    }
    return true;
  }

  /** Whether the string `bytes[start, stop)` is one of the allowed, if not all are. */
  allows(bytes: Uint8Array, start: number, stop: number): boolean {
    const { oneOf } = this;
    if (oneOf === null) return true;
    for (let i = 0; i < oneOf.length; i++) {
      const value = oneOf[i];
      if (value.length !== stop - start) continue;
      let at = 0;
      while (at < value.length && bytes[start + at] === value[at]) at += 1;
      if (at === value.length) return true;
    }
    return false;
  }

  private readTimestamp(scanner: Scanner): number {
    if (this.iso !== null) {
      if (!this.readText(scanner)) return WRONG_TYPE;
      this.number = this.iso.read(this.textBytes, this.textStart, this.textEnd);
      if (Number.isNaN(this.number)) return WRONG_TYPE;
    } else {
      if (scanner.kind !== NUMBER) return WRONG_TYPE;
      if (this.integer.read(scanner, this.scale) === TOO_LARGE) return OUT_OF_RANGE;
      this.number = this.integer.small ? this.integer.number : Number(this.integer.bigint);
    }
    return Math.abs(this.number) <= TIMESTAMP_MAX_MS ? VALUE : OUT_OF_RANGE;
  }

  private readInteger(scanner: Scanner): number {
    if (scanner.kind !== NUMBER) return WRONG_TYPE;
    const { integer, kind } = this;
    const exactness = integer.read(scanner, this.scale);
    if (exactness === TOO_LARGE) return OUT_OF_RANGE;
    if (exactness !== EXACT) return kind === "decimal" ? OUT_OF_RANGE : WRONG_TYPE;
    this.number = integer.small ? integer.number : Number(integer.bigint);
    if (kind === "int") {
      return this.number >= -INT_MAX - 1 && this.number <= INT_MAX ? VALUE : OUT_OF_RANGE;
    }
    const { limit } = this;
    if (integer.small) return Math.abs(this.number) <= this.smallLimit ? VALUE : OUT_OF_RANGE;
    const value = integer.bigint;
    const least = kind === "bigint" ? -limit - 1n : -limit;
    return value >= least && value <= limit ? VALUE : OUT_OF_RANGE;
  }
}

/** The last string, its escapes resolved. The scanner has checked it, so this cannot fail. */
export function resolveEscapes(scanner: Scanner): string {
  const text: unknown = JSON.parse(scanner.text(scanner.start - 1, scanner.stop + 1));
  return String(text);
}

function expectation(type: ScalarType, rules: ScalarRules, format: TimestampFormat): string {
  if (rules.oneOf !== undefined) {
    return `one of ${rules.oneOf.map((value) => JSON.stringify(value)).join(", ")}`;
  }
  switch (type.kind) {
    case "string":
      return "a string";
    case "boolean":
      return "true or false";
    case "int":
      return "a whole number of 32 bits";
    case "bigint":
      return "a whole number of 64 bits";
    case "double":
      return "a number";
    case "decimal":
      return `a number with at most ${type.precision} digits, ${type.scale} after the point`;
    case "timestamp":
      if (format.kind !== "iso") return `a timestamp as a number (${format.kind})`;
      return format.withoutOffset === "utc"
        ? "an ISO-8601 timestamp"
        : "an ISO-8601 timestamp with an offset";
  }
}
