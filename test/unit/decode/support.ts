/** Slices, streams and a slow, clear decode of single records, to hold the decoder against. */
import type { ColumnType, FieldNode, StreamNode } from "../../../lib/define/definition.js";
import type { DeadLetterReason, Slice } from "../../../lib/engine/slice.js";

export function field(
  name: string,
  type: ColumnType | "string" | "boolean" | "int" | "bigint" | "double" | "timestamp",
  more: Partial<FieldNode> = {},
): FieldNode {
  const full = typeof type === "string" ? { kind: type } : type;
  return { name, type: full, path: [name], nullable: false, checks: [], ...more };
}

/** A stream of these fields and an event time `t` in epoch milliseconds. */
export function streamOf(fields: readonly FieldNode[], more: Partial<StreamNode> = {}): StreamNode {
  return {
    name: "s",
    fields: [...fields, field("t", "timestamp", { format: { kind: "epoch_ms" } })],
    eventTime: "t",
    latenessMs: 0,
    maxAheadMs: 3_600_000,
    idleAfterMs: 60_000,
    maxRecordBytes: 1_000_000,
    ...more,
  };
}

export function sliceOf(
  records: readonly (string | Uint8Array | null)[],
  more: Partial<Slice> = {},
): Slice {
  const values = records.map((record) => (record === null ? null : Buffer.from(record)));
  const starts = new Int32Array(values.length);
  const ends = new Int32Array(values.length);
  // Something before the first record, so that wrong addresses show.
  const parts: Buffer[] = [Buffer.from('{"')];
  let at = 2;
  values.forEach((value, i) => {
    starts[i] = value === null ? -1 : at;
    at += value?.length ?? 0;
    ends[i] = value === null ? -1 : at;
    if (value !== null) parts.push(value);
  });
  return {
    topic: "s",
    partition: 0,
    count: values.length,
    bytes: new Uint8Array(Buffer.concat(parts)),
    starts,
    ends,
    offsets: Float64Array.from(values, (_, i) => i),
    timestamps: new Float64Array(values.length).fill(Number.NaN),
    faults: new Map(),
    ...more,
  };
}

export type Verdict = { values: unknown[] } | { reason: DeadLetterReason };

class Refused extends Error {
  readonly reason: DeadLetterReason;
  constructor(reason: DeadLetterReason) {
    super(reason);
    this.reason = reason;
  }
}

/** A number as it was written: `JSON.parse` alone would round it. */
class NumberText {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** What a record must become, by `JSON.parse` and strings. Knows no lists of repeated keys. */
export function referenceDecode(fields: readonly FieldNode[], record: string): Verdict {
  let root: unknown;
  try {
    JSON.parse(record);
    // Numbers become marked strings; a number is outside of strings wherever JSON is valid.
    const marked = record.replace(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/gs, (token) =>
      token.startsWith('"') ? token : `{"\\u0000number":"${token}"}`,
    );
    root = JSON.parse(marked, (_, value) =>
      typeof value === "object" && value !== null && "\u0000number" in value
        ? new NumberText(String(value["\u0000number"]))
        : value,
    );
  } catch {
    return { reason: "malformed" };
  }
  if (!isObject(root)) return { reason: "malformed" };
  const values: unknown[] = [];
  const reasons: DeadLetterReason[] = [];
  for (const node of fields) {
    try {
      values.push(referenceField(node, root));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      reasons.push(error.reason);
    }
  }
  if (reasons.includes("malformed")) return { reason: "malformed" };
  return reasons.length > 0 ? { reason: reasons[0] } : { values };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof NumberText)
  );
}

function referenceField(node: FieldNode, root: Record<string, unknown>): unknown {
  let value: unknown = root;
  for (const key of node.path) {
    if (value === undefined || value === null) break;
    if (!isObject(value)) throw new Refused("wrong_type");
    value = Object.hasOwn(value, key) ? value[key] : undefined;
    if (value === null && key !== node.path.at(-1)) value = undefined;
  }
  if (value === undefined && node.default !== undefined) return node.default;
  if (value === null && !node.nullable && node.default !== undefined) return node.default;
  if (value === undefined || value === null) {
    if (node.nullable) return null;
    throw new Refused("missing_field");
  }
  if (node.type.kind !== "list") return referenceScalar(node.type, node, value);
  if (!Array.isArray(value)) throw new Refused("wrong_type");
  const { element } = node.type;
  return value.map((item) => referenceScalar(element, node, item));
}

function referenceScalar(type: ColumnType, node: FieldNode, value: unknown): unknown {
  if (type.kind === "string") {
    if (typeof value !== "string") throw new Refused("wrong_type");
    if (/\p{Surrogate}/u.test(value)) throw new Refused("malformed");
    if (node.oneOf !== undefined && !node.oneOf.includes(value)) throw new Refused("out_of_range");
    return value;
  }
  if (type.kind === "boolean") {
    if (typeof value !== "boolean") throw new Refused("wrong_type");
    return value;
  }
  if (!(value instanceof NumberText)) throw new Refused("wrong_type");
  if (type.kind === "double") {
    const double = Number(value.text);
    if (!Number.isFinite(double)) throw new Refused("out_of_range");
    return double;
  }
  const format = node.format?.kind ?? "iso";
  const shift = { iso: 0, epoch_ms: 0, epoch_s: 3, epoch_us: -3 }[format];
  const scale = type.kind === "decimal" ? type.scale : shift;
  const { floor, exact } = scaledFloor(value.text, scale);
  if (type.kind === "timestamp") {
    if (floor > 8_640_000_000_000_000n || floor < -8_640_000_000_000_000n) {
      throw new Refused("out_of_range");
    }
    return Number(floor);
  }
  if (!exact) {
    // Far beyond 64 bits counts as out of range, fraction or not.
    const huge = floor >= 10n ** 19n || floor < -(10n ** 19n);
    throw new Refused(type.kind === "decimal" || huge ? "out_of_range" : "wrong_type");
  }
  const limit =
    type.kind === "decimal"
      ? 10n ** BigInt(type.precision)
      : type.kind === "int"
        ? 2n ** 31n
        : 2n ** 63n;
  const least = type.kind === "decimal" ? 1n - limit : -limit;
  if (floor < least || floor >= limit) throw new Refused("out_of_range");
  return type.kind === "int" ? Number(floor) : floor;
}

/** floor(text × 10^scale) by one fraction of BigInts. */
function scaledFloor(text: string, scale: number): { floor: bigint; exact: boolean } {
  const [, sign, whole, fraction = "", exponent = "0"] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text) ?? [];
  // Beyond 5,000 nothing changes any more for the short numbers of a test.
  const bounded = Math.max(-5_000, Math.min(5_000, Number(exponent)));
  const power = bounded - fraction.length + scale;
  const digits = BigInt(`${whole}${fraction}`) * (sign === "-" ? -1n : 1n);
  if (power >= 0) return { floor: digits * 10n ** BigInt(power), exact: true };
  const divisor = 10n ** BigInt(-power);
  const rest = ((digits % divisor) + divisor) % divisor;
  return { floor: (digits - rest) / divisor, exact: rest === 0n };
}

const ISO = new RegExp(
  String.raw`^(\d{4}|[+-]\d{6})-(\d\d)-(\d\d)[Tt ]` +
    String.raw`(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?([Zz]|[+-]\d\d(?::?\d\d)?)$`,
);

/** Epoch ms of a timestamp with an offset, or why there are none, by `Date`'s own calendar. */
export function referenceIso(text: string): number | DeadLetterReason {
  const match = ISO.exec(text);
  if (match === null || match[1] === "-000000") return "wrong_type";
  const [year, month, day, hours, minutes] = match.slice(1, 6).map(Number);
  const seconds = Number(match[6] ?? 0);
  // Any 400 years are alike, so a year within Date's range tells whether the day exists.
  const alike = new Date(Date.UTC(2000 + (((year % 400) + 400) % 400), month - 1, day));
  const exists = month >= 1 && alike.getUTCMonth() === month - 1 && alike.getUTCDate() === day;
  if (!exists || hours > 23 || minutes > 59 || seconds > 59) return "wrong_type";
  const offset = match[8].replace(":", "");
  const offsetHours = Number(offset.slice(1, 3) || 0);
  const offsetMinutes = Number(offset.slice(3, 5) || 0);
  if (offsetHours > 23 || offsetMinutes > 59) return "wrong_type";
  const cycles = (year - alike.getUTCFullYear()) / 400;
  const dayMs = alike.getTime() + cycles * 146_097 * 86_400_000;
  const fractionMs = Number((match[7] ?? "").padEnd(3, "0").slice(0, 3));
  const localMs = dayMs + ((hours * 60 + minutes) * 60 + seconds) * 1_000 + fractionMs;
  const ahead = (offset.startsWith("-") ? -1 : 1) * (offsetHours * 60 + offsetMinutes) * 60_000;
  const instantMs = localMs - ahead;
  return Math.abs(instantMs) <= 8.64e15 ? instantMs : "out_of_range";
}
