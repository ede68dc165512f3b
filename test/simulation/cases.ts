/**
 * What simulations are run over: small random logs with everything in them that results depend on,
 * and pipelines with every kind of table. A case is a function of its number.
 */
import type { Pipeline } from "../../lib/define/definition.js";
import {
  avg,
  count,
  countDistinct,
  double,
  first,
  hours,
  int,
  lake,
  last,
  minutes,
  pipeline,
  quantile,
  seconds,
  session,
  sliding,
  stream,
  string,
  sum,
  timestamp,
  topK,
  tumbling,
  updates,
} from "../../lib/index.js";
import { INGEST_PARTITION } from "../../lib/runtime/object-ingest.js";
import { Random } from "../../lib/sources/simulate/random.js";
import type { IncomingObject } from "../../lib/testing/simulated-objects.js";
import type { SimulatedLog, SimulatedRecord } from "../../lib/testing/simulated-topic.js";

export const START_MS = Date.UTC(2025, 5, 1, 12);
const BRIEF_REVISE_MS = minutes(90);

export interface Case {
  readonly pipeline: Pipeline;
  /** The same name, another definition. */
  readonly changed: Pipeline;
  readonly logs: readonly SimulatedLog[];
  readonly incoming: readonly IncomingObject[];
}

interface StreamOptions {
  readonly name: string;
  readonly latenessMs: number;
  readonly dedup: "id" | { readonly id: "id"; readonly within: number } | null;
  readonly idleAfterMs: number;
}

function clicks({ name, latenessMs, dedup, idleAfterMs }: StreamOptions) {
  return stream(name, {
    schema: {
      id: string(),
      user: string(),
      page: string(),
      cost: double().nullable(),
      n: int(),
      at: timestamp(),
    },
    key: "user",
    eventTime: "at",
    lateness: latenessMs,
    idleAfter: idleAfterMs,
    ...(dedup !== null && { dedup }),
  });
}

type Clicks = ReturnType<typeof clicks>;
type Tables = Parameters<typeof pipeline>[1];

/** Kinds of table; a case has some of them. */
const TABLES: Readonly<Record<string, (events: Clicks) => Tables[string]>> = {
  pages: (events) =>
    events
      .groupBy("page")
      .window(tumbling(seconds(30)))
      .aggregate({ views: count(), cost: sum("cost"), users: countDistinct("user") }),
  totals: (events) =>
    events
      .filter((event) => event.n.gt(1))
      .window(tumbling(minutes(1)))
      .aggregate({ events: count(), mean: avg("cost"), middle: quantile("cost", 0.5) }),
  trend: (events) =>
    events
      .groupBy("page")
      .window(sliding(minutes(1), { every: seconds(20) }))
      .aggregate({ views: count(), top: topK("user", 2) }),
  visits: (events) =>
    events
      .groupBy("user")
      .window(session(seconds(25)))
      .aggregate({ views: count(), from: first("page"), to: last("page"), cost: sum("cost") }),
  expensive: (events) => events.filter((event) => event.cost.gte(50)).rows(),
  live: (events) =>
    events
      .groupBy("page")
      .window(tumbling(seconds(45)))
      .aggregate({ views: count(), n: sum("n") })
      .emit(updates({ every: seconds(2) })),
  live_visits: (events) =>
    events
      .groupBy("user")
      .window(session(seconds(40)))
      .aggregate({ views: count() })
      .emit(updates({ every: seconds(5) })),
};

interface Size {
  readonly tables: number;
  readonly partitions: number;
  /** Of a topic. */
  readonly records: number;
}

/** Most are small: what goes wrong does so in small ones too, and many more of them are run. */
function sizeOf(random: Random): Size {
  const chance = random.unit();
  const few = random.pick([1, 2]);
  if (chance < 0.86) return { tables: 1, partitions: few, records: 2 + random.below(4) };
  const tables = random.pick([1, 2, 3]);
  const partitions = random.pick([1, 2, 3]);
  if (chance < 0.98) return { tables, partitions, records: 6 + random.below(7) };
  return { tables, partitions, records: chance < 0.999 ? 12 + random.below(13) : 200 };
}

/** Windows that leave while the log goes on; its events are hours apart then. */
const brief = (events: Clicks) =>
  events
    .groupBy("page")
    .window(tumbling(minutes(5)))
    .aggregate({ views: count() })
    .reviseFor(BRIEF_REVISE_MS);

export function caseOf(number: number): Case {
  const random = new Random(number * 7919 + 13);
  const names = Object.keys(TABLES);
  const size = sizeOf(random);
  const chosen = random.shuffle([...names]).slice(0, size.tables);
  const isBrief = random.unit() < 0.1;
  const streams = random.unit() < 0.1 ? ["clicks", "taps"] : ["clicks"];
  const options = streams.map((name) => streamOptions(random, name));
  const hasBronze = random.unit() < 0.5;
  const build = (latenessMs: number) => {
    const tables = options.flatMap((option, index) => {
      const events = clicks({ ...option, latenessMs: option.latenessMs + latenessMs });
      const own = chosen
        .filter((_, i) => index === 0 || i === 0)
        .map((name) => [`${option.name}_${name}`, TABLES[name]!(events)] as const);
      return isBrief ? [...own, [`${option.name}_brief`, brief(events)] as const] : own;
    });
    return pipeline("simulated", Object.fromEntries(tables), {
      sinks: [lake({ bronze: hasBronze })],
    });
  };
  // With one alone no window would leave before its records come.
  const partitions = isBrief ? Math.max(2, size.partitions) : size.partitions;
  const logs = options.flatMap((option) =>
    Array.from({ length: option.name === "taps" ? 1 : partitions }, (_, partition) =>
      randomLog(random, option, partition, Math.ceil(size.records / partitions), isBrief),
    ),
  );
  // Each order that they come in has a truth of its own, so there are few of them.
  const objects = random.unit() < 0.06 ? random.pick([1, 2, 2, 3]) : 0;
  const incoming = randomObjects(random, options[0]!, objects, isBrief);
  return { pipeline: build(0), changed: build(1), logs, incoming };
}

function streamOptions(random: Random, name: string): StreamOptions {
  const within = random.pick([seconds(5), minutes(2)]);
  return {
    name,
    latenessMs: random.pick([0, seconds(5), seconds(30)]),
    dedup: random.pick<StreamOptions["dedup"]>([null, "id", { id: "id", within }]),
    idleAfterMs: random.pick([seconds(10), seconds(60)]),
  };
}

/** Late events, duplicates, dead letters, tombstones, keys now and then, offset gaps. */
function randomLog(
  random: Random,
  { name: topic }: StreamOptions,
  partition: number,
  count: number,
  isBrief: boolean,
): SimulatedLog {
  let offset = random.pick([0, 0, 17, 5_000_000_000]);
  let timeMs = START_MS + random.below(40_000);
  const pace = isBrief ? hours(1) : random.pick([500, 2_000, 6_000]);
  const records: SimulatedRecord[] = [];
  for (let i = 0; i < count; i++) {
    timeMs += random.below(pace);
    if (random.unit() < 0.02) timeMs += random.below(120_000);
    const value = recordValue(random, partition, i, timeMs, records);
    const timestampMs = timeMs + 5_000;
    const key = random.unit() < 0.5 ? { key: `u${partition}` } : {};
    records.push({ offset, timestampMs, value, ...key });
    offset += random.unit() < 0.1 ? 1 + random.below(50) : 1;
  }
  return { topic, partition, records };
}

/** A log that comes in files: lines without offsets, keys and tombstones. */
function randomObjects(
  random: Random,
  options: StreamOptions,
  count: number,
  isBrief: boolean,
): IncomingObject[] {
  const { records } = randomLog(random, options, INGEST_PARTITION, count * 5, isBrief);
  const { name: stream } = options;
  return Array.from({ length: count }, (_, i) => {
    const own = records.slice(i * 5, i * 5 + 1 + random.below(5));
    const lines = own.map(({ value }) => String(value));
    // A .json that begins with a bracket is one array of records.
    const extensions = lines[0]!.startsWith("[") ? ["ndjson"] : ["ndjson", "jsonl", "json"];
    return {
      stream,
      key: `incoming/${stream}/part ${i}.${random.pick(extensions)}`,
      modifiedMs: own.at(-1)!.timestampMs,
      lines,
    };
  });
}

function recordValue(
  random: Random,
  partition: number,
  index: number,
  timeMs: number,
  before: readonly SimulatedRecord[],
): SimulatedRecord["value"] {
  const chance = random.unit();
  if (chance < 0.03) return null;
  if (chance < 0.06) return random.pick(["{broken", "[1]", '{"id":1}', "{}"]);
  if (chance < 0.2 && before.length > 0) {
    return before[Math.max(0, before.length - 1 - random.below(12))]!.value;
  }
  const lateMs = random.unit() < 0.15 ? random.below(90_000) : random.below(8_000);
  const event = {
    id: `${partition}-${index}`,
    user: `u${partition}-${random.below(3)}`,
    page: `/${random.below(4)}`,
    // Thirds do not add up exactly, so the order of adding shows.
    cost: random.unit() < 0.1 ? null : random.below(300) / 3,
    n: random.below(5),
    at: new Date(timeMs - lateMs).toISOString(),
  };
  return JSON.stringify(event);
}
