/** Random pipelines over the random streams: every step, window and aggregate. */
import type { Pipeline, SinkNode, WindowNode } from "../../../lib/define/definition.js";
import {
  approxCountDistinct,
  avg,
  count,
  countDistinct,
  decimal,
  first,
  int,
  last,
  max,
  min,
  pipeline,
  quantile,
  reference,
  seconds,
  session,
  sliding,
  stddev,
  string,
  sum,
  topK,
  tumbling,
  updates,
  variance,
  when,
} from "../../../lib/index.js";
import { type EventStream, eventStream, type StreamPlan } from "./events.js";
import type { Random } from "./random.js";

/** Rows of the reference table: some levels of the events, not all. */
export const LEVELS_CSV = [
  "level,title,weight",
  "0,nothing,0.50",
  "1,first,1.25",
  "-1,minus,-3.00",
  '2,"two, or more",',
  "2147483647,most,99.99",
].join("\n");

const levels = (file: string) =>
  reference("levels", {
    file,
    schema: { level: int(), title: string(), weight: decimal(6, 2).nullable() },
  });

/** The steps before a table; all keep the key and the event time. */
function stepped(random: Random, events: EventStream, csv: string) {
  let chain = events;
  if (random.chance(0.4)) {
    chain = random.pick([
      chain.filter((e) => e.kind.ne("view")),
      chain.filter((e) => e.level.gte(0)),
      chain.filter((e) => e.region.isNotNull().and(e.flag.not())),
      chain.filter((e) => e.tags.listContains("a").or(e.score.gt(100))),
      chain.filter((e) => e.region.in("north", "西", "")),
      chain.filter((e) => e.temp.between(-5, 5).coalesce(true)),
      chain.filter((e) => e.price.lt("10.5").coalesce(false)),
    ]);
  }
  const derived = chain.derive((e) => ({
    area: e.region.coalesce("none").upper().concat("/", e.kind),
    parity: e.level.mod(2).toBigint(),
    cents: e.price.mul(100),
    heat: when(e.flag, e.temp, e.score),
    shifted: e.at.plus(1500).truncate("minute"),
    delay: e.at.minus(e.seen),
  }));
  const join = random.pick(["left", "inner"] as const);
  const enriched = derived.enrich(levels(csv), {
    on: "level",
    select: ["title", "weight"],
    join: random.chance(0.6) ? "left" : join,
  });
  return random.chance(0.3) ? enriched.filter((e) => e.title.ne("minus").coalesce(true)) : enriched;
}

type Prepared = ReturnType<typeof stepped>;

function aggregates(random: Random) {
  type C = Parameters<Parameters<Prepared["filter"]>[0]>[0];
  const where = random.pick([
    {},
    {},
    { where: (e: C) => e.kind.eq("buy") },
    { where: (e: C) => e.level.gt(0).or(e.flag) },
    { where: (e: C) => e.heat.isNull() },
  ]);
  const all = {
    n: count(where),
    sum_level: sum("level", where),
    sum_big: sum("big", where),
    sum_price: sum("price", where),
    sum_score: sum("score", where),
    sum_cents: sum("cents", where),
    avg_level: avg("level", where),
    avg_huge: avg("huge", where),
    avg_price: avg("price", where),
    avg_score: avg("score", where),
    min_level: min("level", where),
    min_huge: min("huge", where),
    min_price: min("price", where),
    min_region: min("region", where),
    min_at: min("at", where),
    max_big: max("big", where),
    max_score: max("score", where),
    max_area: max("area", where),
    max_seen: max("seen", where),
    max_weight: max("weight", where),
    first_region: first("region", where),
    first_huge: first("huge", where),
    first_id: first("id", where),
    first_flag: first("flag", where),
    last_id: last("id", where),
    last_price: last("price", where),
    last_temp: last("temp", where),
    last_title: last("title", where),
    last_seen: last("seen", where),
    variance_level: variance("parity", where),
    variance_score: variance("score", where),
    stddev_price: stddev("price", where),
    stddev_temp: stddev("temp", where),
    distinct_region: countDistinct("region", where),
    distinct_huge: countDistinct("huge", where),
    distinct_score: countDistinct("score", where),
    distinct_id: countDistinct("id", where),
    about_region: approxCountDistinct("region", where),
    about_id: approxCountDistinct("id", where),
    about_price: approxCountDistinct("price", where),
    median_score: quantile("score", 0.5, where),
    high_price: quantile("price", 0.95, where),
    low_temp: quantile("temp", 0, where),
    top_region: topK("region", 2, where),
    top_level: topK("level", 3, where),
    top_price: topK("price", 1, where),
    top_flag: topK("flag", 2, where),
    top_score: topK("score", 2, where),
    top_huge: topK("huge", 2, where),
    top_shifted: topK("shifted", 2, where),
    delay: max((e: C) => e.delay.add(1), where),
  };
  return Object.fromEntries(random.some(Object.entries(all), 8));
}

const GROUP_COLUMNS = [
  "user",
  "account",
  "kind",
  "region",
  "level",
  "flag",
  "price",
  "huge",
  "area",
  "parity",
  "title",
  "weight",
  "shifted",
] as const;

/** Sizes are in seconds: events are about half a second apart. */
const WINDOWS: readonly [size: number, every: number, offset: number][] = [
  [1, 1, 0],
  [5, 5, 0],
  [10, 10, 3],
  [60, 60, -7],
  [7, 7, 2.5],
  [5, 1, 0],
  [7, 2, 0],
  [10, 4, 1],
  [12, 8, -3],
  [60, 7, 0],
  [6, 3, 0.001],
];

function fixedWindow(random: Random): WindowNode {
  const [size, every, offset] = random.pick(WINDOWS);
  const options = { every: seconds(every), offset: seconds(offset) };
  return every === size && random.chance(0.5)
    ? tumbling(seconds(size), { offset: seconds(offset) })
    : sliding(seconds(size), options);
}

function randomTable(random: Random, chain: Prepared, plan: StreamPlan) {
  const kind = random.below(10);
  if (kind === 0) return chain.rows();
  if (kind === 1) return chain.select("at", "user", "tags", "numbers", "title", "cents").rows();
  if (kind === 2) return chain.select({ who: "account", what: "area", heat: "heat" }).rows();
  if (kind < 6) {
    const others = GROUP_COLUMNS.filter((name) => name !== plan.key);
    const keys = [plan.key, ...(random.chance(0.4) ? random.some(others, 2) : [])];
    const gap = random.pick([1, seconds(1), seconds(3), seconds(30), seconds(500)]);
    return chain
      .groupBy(...(random.chance(0.5) ? keys : keys.toReversed()))
      .window(session(gap))
      .aggregate(aggregates(random));
  }
  const window = fixedWindow(random);
  if (random.chance(0.2)) return chain.window(window).aggregate(aggregates(random));
  return chain
    .groupBy(...random.some(GROUP_COLUMNS, 3))
    .window(window)
    .aggregate(aggregates(random));
}

export interface PipelineOptions {
  /** At least one table a stream. */
  readonly tablesMax: number;
  readonly sinks: readonly SinkNode[];
  /** Whether windows may leave the state as soon as every partition has passed them. */
  readonly settles: boolean;
  /** Whether tables may be published while they change. */
  readonly updates: boolean;
}

export function randomPipeline(
  random: Random,
  plans: readonly StreamPlan[],
  csv: string,
  { tablesMax, sinks, settles, updates: live }: PipelineOptions,
): Pipeline {
  const tables = plans.flatMap((plan) => {
    const events = eventStream(plan);
    return Array.from({ length: random.between(1, tablesMax) }, (_, i) => {
      let table = randomTable(random, stepped(random, events, csv), plan);
      if (live && random.chance(0.2)) table = table.emit(updates({ every: 1 }));
      if (settles && random.chance(0.3)) table = table.reviseFor(random.pick([0, seconds(30)]));
      return [`${plan.topic}_${i}`, table] as const;
    });
  });
  return pipeline("equality", Object.fromEntries(tables), { sinks });
}
