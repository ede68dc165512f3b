/** Random logs of a random schema: what JSON can say of each field, disorder, and damage. */
import type { FieldNode, ScalarType, StreamNode } from "../../../lib/define/definition.js";
import type { Random } from "./random.js";
import { literal } from "./random-expressions.js";

export interface RandomRecord {
  /** Null: a tombstone. */
  readonly value: string | Uint8Array | null;
  /** NaN: the broker gave none. */
  readonly timestampMs: number;
}

export interface LogPlan {
  readonly startMs: number;
  readonly tickMs: number;
  readonly keys: number;
  readonly disorder: number;
  readonly late: number;
  readonly duplicates: number;
  readonly broken: number;
}

export const randomPlan = (random: Random, startMs: number): LogPlan => ({
  startMs,
  tickMs: random.pick([1, 100, 1_000]),
  keys: random.pick([1, 2, 6]),
  disorder: random.pick([0, 0.2, 0.6]),
  late: random.pick([0, 0.05, 0.3]),
  duplicates: random.pick([0, 0.05, 0.3]),
  broken: random.pick([0, 0.03, 0.2]),
});

export function randomLog(
  random: Random,
  stream: StreamNode,
  partition: number,
  plan: LogPlan,
): RandomRecord[] {
  let clock = plan.startMs + random.below(3_000);
  const records: RandomRecord[] = [];
  for (let count = random.pick([0, 5, 30, 90]); count > 0; count--) {
    if (records.length > 0 && random.chance(plan.duplicates)) {
      const back = random.below(Math.min(records.length, 20));
      records.push(records[records.length - 1 - back]!);
      continue;
    }
    clock += Math.ceil(random.below(1500) / plan.tickMs) * plan.tickMs;
    if (random.chance(0.03)) clock += random.below(90_000);
    let time = clock;
    if (random.chance(plan.disorder)) time -= random.below(5) * plan.tickMs;
    if (random.chance(plan.late)) time -= random.below(70_000);
    const event = randomEvent(random, stream, time);
    Object.assign(event, {
      id: partition * 1000 + records.length,
      who: `p${partition}-${random.below(plan.keys)}`,
    });
    const value = random.chance(plan.broken)
      ? broken(random, stream, event)
      : toText(event, random.chance(0.05));
    // A Kafka timestamp is never before 1970.
    const timestampMs = random.chance(0.01) ? Number.NaN : Math.max(0, clock) + random.below(2_000);
    records.push({ value, timestampMs });
  }
  return records;
}

/** Text that stands in the JSON as it is: numbers as no JavaScript value can say them. */
class Raw {
  constructor(readonly text: string) {}
}

/** As JSON; `spaced` in a form that no serializer chooses. */
function toText(value: unknown, spaced = false): string {
  if (value instanceof Raw) return value.text;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const [comma, colon] = spaced ? [" ,\n", "\t: "] : [",", ":"];
  if (Array.isArray(value)) return `[${value.map((item) => toText(item, spaced)).join(comma)}]`;
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .map(([key, member]) => `${JSON.stringify(key)}${colon}${toText(member, spaced)}`);
  if (spaced) members.reverse();
  return `{${members.join(comma)}}`;
}

type Event = Record<string, unknown>;

function randomEvent(random: Random, stream: StreamNode, timeMs: number): Event {
  const event: Event = {};
  for (const field of stream.fields) {
    if (["id", "who", "at"].includes(field.name)) continue;
    const isAbsent = (field.nullable || field.default !== undefined) && random.chance(0.2);
    if (isAbsent) continue;
    const mayBeNull = field.nullable || field.default !== undefined;
    const isNull = mayBeNull && random.chance(0.15);
    put(event, field.path, isNull ? null : fieldValue(random, field, timeMs));
  }
  const at = stream.fields.find(({ name }) => name === "at")!;
  return Object.assign(event, { at: instant(random, at, timeMs) });
}

function put(event: Event, path: readonly string[], value: unknown): void {
  let parent = event;
  for (const key of path.slice(0, -1)) {
    const nested = { ...(parent[key] as object | undefined) };
    parent[key] = nested;
    parent = nested;
  }
  parent[path.at(-1)!] = value;
}

function fieldValue(random: Random, field: FieldNode, aroundMs: number): unknown {
  const { type } = field;
  if (type.kind === "list") {
    const { element } = type;
    return Array.from({ length: random.below(3) }, () => scalar(random, field, element, aroundMs));
  }
  if (field.oneOf !== undefined) return random.pick(field.oneOf);
  if (type.kind === "topK" || type.kind === "bytes") throw new TypeError("no type of a field");
  return scalar(random, field, type, aroundMs);
}

function scalar(random: Random, field: FieldNode, type: ScalarType, aroundMs: number): unknown {
  const value = literal(random, type, aroundMs);
  switch (type.kind) {
    case "timestamp":
      return instant(random, field, Number(value));
    case "bigint":
      return new Raw(random.chance(0.05) ? "-9223372036854775808" : String(value));
    case "int":
      return random.chance(0.1) ? new Raw(`${value}.0`) : value;
    case "decimal":
      return new Raw(random.chance(0.1) ? `${value}e0` : String(value));
    default:
      return value;
  }
}

/** A moment as the field's format has it; of ISO any form, of which some lack an offset. */
function instant(random: Random, field: FieldNode, timeMs: number): unknown {
  const { kind, withoutOffset } = field.format ?? { kind: "iso" };
  if (kind === "epoch_ms") return timeMs;
  if (kind === "epoch_s") return new Raw(secondsText(timeMs));
  if (kind === "epoch_us") return timeMs * 1000 + random.below(1000);
  const usual = new Date(timeMs).toISOString();
  const shifted = (ms: number) => new Date(timeMs + ms).toISOString().slice(0, -1);
  return random.pick([
    usual,
    usual,
    `${usual.slice(0, -1)}999Z`,
    `${shifted(19_800_000)}+05:30`,
    `${shifted(-10_800_000)}-03`,
    usual.replace("T", " "),
    ...(withoutOffset === "utc" ? [usual.slice(0, -1)] : []),
  ]);
}

/** No division: that of a negative time would be rounded, and then floored to another one. */
function secondsText(timeMs: number): string {
  const digits = String(Math.abs(timeMs)).padStart(4, "0");
  return `${timeMs < 0 ? "-" : ""}${digits.slice(0, -3)}.${digits.slice(-3)}`;
}

const BREAKS: readonly ((event: Event) => unknown)[] = [
  (event) => ({ ...event, at: undefined }),
  (event) => ({ ...event, at: null }),
  (event) => ({ ...event, at: true }),
  (event) => ({ ...event, at: "2199-01-01T00:00:00Z" }),
  (event) => ({ ...event, at: "2026-02-30T00:00:00Z" }),
  (event) => ({ ...event, at: 7_226_582_400_000 }),
  (event) => ({ ...event, id: 0.5 }),
  (event) => ({ ...event, id: 1e19 }),
  (event) => ({ ...event, who: 5 }),
  (event) => ({ ...event, body: 5 }),
  (event) => ({ ...event, padding: "x".repeat(150) }),
  (event) => [event],
];
const ODD_VALUES: readonly unknown[] = [
  null,
  true,
  "x",
  "-1",
  -1,
  0.25,
  new Raw("1e3"),
  new Raw("-0"),
  new Raw("123456789012"),
  new Raw("99999999999999999999"),
  new Raw("1e400"),
  [],
  [null],
  ["x", 1],
  {},
  "2026-03-01",
  "2026-03-01T00:00:00",
  "0001-01-01T00:00:00Z",
  "\u0000",
];

/** What an event is turned into, or how its text is damaged. */
function broken(random: Random, stream: StreamNode, event: Event): RandomRecord["value"] {
  const text = toText(event);
  const odd = () => {
    const { path } = random.pick(stream.fields);
    put(event, path, random.pick(ODD_VALUES));
    return toText(event);
  };
  return random.pick<() => RandomRecord["value"]>([
    odd,
    odd,
    odd,
    () => toText(random.pick(BREAKS)(event)),
    () => toText(random.pick(BREAKS)(event)),
    () => text.slice(0, random.below(text.length)),
    () => text.replace("{", '{"who":"twice",'),
    () => text.replace(/}$/, ",}"),
    () => text.replace(/}$/, ',"z":NaN}'),
    () => text.replace(/}$/, ',"z":"NaN,}"}'),
    () => text.replace(/}$/, `,"z":${"[".repeat(130)}${"]".repeat(130)}}`),
    () => text.replace(/}$/, `,"z":${"[{},".repeat(100)}1${"]".repeat(100)}}`),
    () => `\uFEFF${text}`,
    () => ` ${text}\t`,
    () => null,
    () => Buffer.concat([Buffer.from(text.slice(0, 8)), Buffer.from([0xff]), Buffer.from("}")]),
  ])();
}
