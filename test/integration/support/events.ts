/**
 * Random events of one schema family as NDJSON lines: every field type, nulls, out of order, late,
 * duplicated and malformed records, several keys, ties in event time.
 */

import type { TimestampFormat } from "../../../lib/define/definition.js";
import {
  bigint,
  boolean,
  decimal,
  double,
  int,
  list,
  oneOf,
  seconds,
  stream,
  string,
  timestamp,
} from "../../../lib/index.js";
import type { Random } from "./random.js";

/** One random stream: what its definition and its data have in common. */
export interface StreamPlan {
  readonly topic: string;
  readonly key: "user" | "account";
  readonly format: TimestampFormat["kind"];
  readonly latenessMs: number;
  readonly dedup: "none" | "default" | "within";
  readonly dedupId: "id" | "sequence";
  readonly withinMs: number;
  /** Where event times begin, epoch ms. */
  readonly baseMs: number;
  /** Event times are multiples of it. */
  readonly tickMs: number;
  readonly keysPerPartition: number;
  readonly outOfOrder: number;
  readonly late: number;
  readonly duplicates: number;
  readonly malformed: number;
}

export function streamPlan(random: Random, topic: string): StreamPlan {
  return {
    topic,
    key: random.pick(["user", "account"]),
    format: random.pick(["iso", "iso", "epoch_s", "epoch_ms", "epoch_us"]),
    latenessMs: random.pick([0, 1, seconds(3), seconds(20), seconds(600)]),
    dedup: random.pick(["none", "default", "within"]),
    dedupId: random.pick(["id", "sequence"]),
    withinMs: random.pick([0, 1, seconds(2), seconds(30), seconds(3600)]),
    baseMs: Date.parse(random.pick(["2025-03-30T00:58:00Z", "1969-12-31T23:58:00Z"])),
    tickMs: random.pick([1, 250, 1000]),
    keysPerPartition: random.pick([1, 3, 20]),
    outOfOrder: random.pick([0, 0.1, 0.5]),
    late: random.pick([0, 0.02, 0.2]),
    duplicates: random.pick([0, 0.02, 0.2]),
    malformed: random.pick([0, 0.02, 0.2]),
  };
}

export const KINDS = ["view", "click", "buy"] as const;

export function eventStream(plan: StreamPlan) {
  const { dedup, dedupId: id, withinMs: within } = plan;
  return stream(plan.topic, {
    schema: {
      id: string(),
      sequence: bigint(),
      user: string(),
      account: bigint(),
      kind: oneOf(...KINDS),
      region: string().nullable(),
      level: int().nullable(),
      big: bigint(),
      huge: bigint().nullable(),
      price: decimal(12, 4).nullable(),
      score: double()
        .nullable()
        .check((x) => x.gte(-1000)),
      flag: boolean().default(false),
      tags: list(string()).nullable(),
      numbers: list(int()).nullable(),
      temp: double().at("payload.deep.temp").nullable(),
      seen: timestamp().nullable(),
      at: timestamp({ format: plan.format }),
    },
    key: plan.key,
    eventTime: "at",
    lateness: plan.latenessMs,
    maxRecordBytes: 4096,
    ...(dedup !== "none" && { dedup: dedup === "default" ? id : { id, within } }),
  });
}

export type EventStream = ReturnType<typeof eventStream>;

/** The lines of one partition, in log order. Keys belong to one partition. */
export function* partitionLines(
  random: Random,
  plan: StreamPlan,
  partition: number,
): Generator<string> {
  let clock = Math.floor(plan.baseMs / plan.tickMs) + random.below(2000);
  const recent: string[] = [];
  for (let sequence = 0; ; sequence++) {
    if (random.chance(plan.malformed)) {
      yield malformedLine(random, plan, partition);
      continue;
    }
    if (recent.length > 0 && random.chance(plan.duplicates)) {
      const reach = Math.min(recent.length, random.pick([1, 12, 200]));
      yield recent[recent.length - 1 - random.below(reach)];
      continue;
    }
    if (random.chance(0.6)) clock += Math.ceil((random.below(4) * 500) / plan.tickMs);
    if (random.chance(0.02)) clock += Math.ceil((random.below(120) * 1000) / plan.tickMs);
    let time = clock * plan.tickMs;
    if (random.chance(plan.outOfOrder)) time -= random.below(6) * plan.tickMs;
    if (random.chance(plan.late)) time -= random.below(90_000);
    const line = JSON.stringify(event(random, plan, partition, sequence, time));
    recent.push(line);
    if (recent.length > 200) recent.shift();
    yield line;
  }
}

function event(
  random: Random,
  plan: StreamPlan,
  partition: number,
  sequence: number,
  timeMs: number,
): Record<string, unknown> {
  const who = partition * 1000 + random.below(plan.keysPerPartition);
  const event: Record<string, unknown> = {
    id: `${partition}-${sequence}-é`,
    sequence: sequence * 7919,
    user: `user ${who}`,
    account: who * 1_000_000_007,
    kind: random.pick(KINDS),
    big: (random.next() - 0.5) * 4e15 - (((random.next() - 0.5) * 4e15) % 1),
    at: timeText(random, timeMs, plan.format),
  };
  event.big = Math.round(Number(event.big));
  const optional: Record<string, () => unknown> = {
    region: () => random.pick(["north", "south", "östlich", "", "西"]),
    level: () => random.pick([0, 1, -1, random.between(-5, 5), 2147483647, -2147483648]),
    price: () => random.pick([0, 0.0001, -99_999_999.9999, random.between(-1e6, 1e6) / 10_000]),
    score: () => random.pick([0, -0.5, random.between(-5000, 5000) / 10, random.next() * 500]),
    flag: () => random.chance(0.5),
    tags: () => Array.from({ length: random.below(4) }, () => random.pick(["a", "b", "ç"])),
    numbers: () => Array.from({ length: random.below(3) }, () => random.between(-3, 3)),
    payload: () => random.pick([{}, { deep: {} }, { deep: { temp: random.between(-40, 40) / 4 } }]),
    seen: () => isoText(random, timeMs - random.below(10_000_000)),
  };
  for (const [name, make] of Object.entries(optional)) {
    if (random.chance(0.85)) event[name] = name !== "payload" && random.chance(0.1) ? null : make();
  }
  if (event.flag === null) delete event.flag;
  return event;
}

function timeText(random: Random, timeMs: number, format: TimestampFormat["kind"]): unknown {
  switch (format) {
    case "iso":
      return isoText(random, timeMs);
    case "epoch_s":
      return timeMs / 1000;
    case "epoch_ms":
      return timeMs;
    case "epoch_us":
      return timeMs * 1000 + random.below(1000);
  }
}

/** The instant in UTC or at an offset, with or without a finer fraction. */
function isoText(random: Random, timeMs: number): string {
  const [offset, minutes] = random.pick([
    ["Z", 0],
    ["+02:00", 120],
    ["-05:30", -330],
  ] as const);
  const local = new Date(timeMs + minutes * 60_000).toISOString().slice(0, -1);
  return `${local}${random.pick(["", "", "999"])}${offset}`;
}

const DAMAGE: readonly ((event: Record<string, unknown>) => unknown)[] = [
  (event) => ({ ...event, at: undefined }),
  (event) => ({ ...event, at: null }),
  (event) => ({ ...event, at: "yesterday" }),
  (event) => ({ ...event, at: { nested: true } }),
  (event) => ({ ...event, level: 2 ** 31 }),
  (event) => ({ ...event, level: 1.5 }),
  (event) => ({ ...event, level: "1" }),
  (event) => ({ ...event, big: undefined }),
  (event) => ({ ...event, price: 123456789.5 }),
  (event) => ({ ...event, score: -5000 }),
  (event) => ({ ...event, kind: "steal" }),
  (event) => ({ ...event, tags: ["a", 1] }),
  (event) => ({ ...event, payload: 5 }),
  (event) => ({ ...event, user: null }),
  (event) => [event],
  () => "text",
  (event) => ({ ...event, padding: "x".repeat(5000) }),
];

function malformedLine(random: Random, plan: StreamPlan, partition: number): string {
  const timeMs = plan.baseMs + random.below(100_000);
  const good = event(random, plan, partition, 1_000_000 + random.below(1000), timeMs);
  if (random.chance(0.2)) return JSON.stringify(good).slice(0, -1 - random.below(40));
  if (random.chance(0.1)) {
    const future = Date.parse("2099-01-01T00:00:00Z");
    return JSON.stringify({ ...good, at: timeText(random, future, plan.format) });
  }
  return JSON.stringify(random.pick(DAMAGE)(good));
}
