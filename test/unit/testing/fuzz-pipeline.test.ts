/** fuzzPipeline: what it runs, what it finds, and what it refuses. */
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import {
  avg,
  bigint,
  count,
  countDistinct,
  decimal,
  double,
  duckdb,
  first,
  int,
  kafka,
  lake,
  list,
  MillpondError,
  minutes,
  pipeline,
  postgres,
  quantile,
  reference,
  seconds,
  session,
  sliding,
  snowflake,
  stream,
  string,
  sum,
  timestamp,
  topK,
  tumbling,
  updates,
} from "millpond";
import {
  type FuzzGenerator,
  type FuzzRandom,
  type FuzzRecord,
  fuzzPipeline,
} from "millpond/testing";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { Random } from "../../../lib/sources/simulate/random.js";

/** Each log takes its truth, so that a few schedules of several are quicker than many. */
const OF_EACH_LOG = 50;

let dir = "";
beforeAll(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "millpond-fuzz-"));
});
afterAll(() => fs.rmSync(dir, { recursive: true, force: true }));

const orders = stream("orders", {
  schema: {
    id: string(),
    user: string(),
    shop: string().nullable(),
    price: decimal(9, 2),
    weight: double().nullable(),
    serial: bigint(),
    tags: list(string()),
    at: timestamp(),
  },
  key: "user",
  eventTime: "at",
  lateness: seconds(5),
  dedup: "id",
  idleAfter: seconds(10),
});
const RETURNS = {
  schema: { user: string(), n: int(), at: timestamp({ format: "epoch_ms" }) },
  eventTime: "at",
  lateness: 0,
} as const;
const returns = stream("returns", RETURNS);

const START_MS = Date.parse("2026-01-01T12:00:00Z");

function order(random: FuzzRandom, i: number, nowMs: number) {
  return {
    id: random.unit() < 0.1 ? `${i - 1}` : `${i}`,
    user: `user-${random.below(4)}`,
    shop: random.pick(["a", "b", "ä", null]),
    price: random.below(9_999) / 100,
    // Thirds do not add up exactly, so the order of adding shows.
    weight: random.pick([null, random.below(300) / 3]),
    serial: random.below(9),
    tags: ["x", "y", "z"].slice(random.below(4)),
    at: new Date(nowMs - random.below(40_000)).toISOString(),
  };
}

/** Two streams, with text, bytes, tombstones, and timestamps that make some too early. */
const someOrders: FuzzGenerator = function* (random) {
  let nowMs = START_MS;
  for (let i = 0; i < 24; i++) {
    nowMs += random.below(8_000);
    const one = order(random, i, nowMs);
    // No number of JavaScript's.
    const text = JSON.stringify(one).replace('"serial":', '"serial":115292150460684698');
    const value = random.pick([one, text, Buffer.from(text)]);
    const broken = random.pick([null, "{", Uint8Array.of(0xff, 0), { ...one, user: 7 }]);
    yield { stream: "orders", key: one.user, value: random.unit() < 0.1 ? broken : value };
    if (i % 3 !== 0) continue;
    const at = nowMs + (random.unit() < 0.1 ? 7_200_000 : 0);
    yield {
      stream: "returns",
      partition: random.below(2),
      value: { user: one.user, n: random.below(5), at },
      timestamp: new Date(nowMs),
    };
  }
};

test("a pipeline with each kind of table and sink holds", async () => {
  fs.writeFileSync(path.join(dir, "shops.csv"), "shop,city\na,Bern\nä,Århus\n");
  const shops = reference("shops", {
    file: path.join(dir, "shops.csv"),
    schema: { shop: string(), city: string() },
  });
  const all = pipeline(
    "shop",
    {
      sold: orders.rows(),
      by_shop: orders
        .groupBy("shop")
        .window(tumbling(seconds(30)))
        .aggregate({
          orders: count(),
          income: sum("price"),
          weight: sum("weight"),
          middle: quantile("weight", 0.5),
          serial: first("serial"),
        }),
      trend: orders
        .window(sliding(minutes(1), { every: seconds(20) }))
        .aggregate({ users: countDistinct("user"), best: topK("shop", 2), mean: avg("price") }),
      visits: orders
        .groupBy("user")
        .window(session(seconds(45)))
        .aggregate({ orders: count() })
        .emit(updates({ every: seconds(5) })),
      cities: orders
        .enrich(shops, { on: "shop", select: ["city"], join: "inner" })
        .groupBy("city")
        .window(tumbling(minutes(2)))
        .aggregate({ orders: count() })
        .reviseFor(minutes(1)),
      heavy: orders
        .map(
          "heavy",
          ({ user, weight, at }) => (weight === null ? null : { user, kg: weight, at }),
          {
            user: string(),
            kg: double(),
            at: timestamp(),
          },
        )
        .groupBy("user")
        .window(tumbling(minutes(1)))
        .aggregate({ kg: sum("kg") }),
      returned: returns.window(tumbling(minutes(1))).aggregate({ n: sum("n") }),
    },
    { sinks: [lake(), duckdb(), postgres(), kafka({ table: "sold", topic: "sold" }), snowflake()] },
  );
  const report = await fuzzPipeline(all, someOrders, { schedules: 20, seed: OF_EACH_LOG - 10 });
  expect(report).toMatchObject({ schedules: 20 });
  for (const [table, rows] of Object.entries(report.rows)) expect(rows, table).toBeGreaterThan(0);
  expect(Object.keys(report.rows)).toEqual([
    ...["sold", "by_shop", "trend", "visits", "cities", "heavy", "returned"],
    ...["late", "dead_letters", "bronze"],
  ]);
  expect(report.rows.bronze).toBe(report.records);
  expect(report.simulatedHours).toBeGreaterThan(0);
  expect(Object.keys(report.faults).length).toBeGreaterThan(10);
});

/** A table over a function that is to be looked at; readings come twice now and then. */
const mapped = (risk: (row: { user: string; n: number }) => number) =>
  pipeline("risks", {
    risks: returns
      .map("risk", (row) => ({ user: row.user, risk: risk(row), at: row.at }), {
        user: string(),
        risk: double(),
        at: timestamp(),
      })
      .groupBy("user")
      .window(tumbling(minutes(1)))
      .aggregate({ risk: sum("risk") }),
  });

const someReturns: FuzzGenerator = (random) =>
  Array.from({ length: 12 }, (_, i) => ({
    stream: "returns",
    partition: random.below(2),
    value: { user: `user-${random.below(2)}`, n: i, at: START_MS + i * 10_000 },
  }));

/** What this product does not do: lose a row with these seeds, or windows while a run goes on. */
const losing = vi.hoisted(() => ({
  seeds: new Set<number>(),
  windowsOf: null as "calm" | "disturbed" | null,
}));
vi.mock("../../../lib/testing/schedule.js", async (original) => {
  const own = await original<typeof import("../../../lib/testing/schedule.js")>();
  const runSchedule: typeof own.runSchedule = async (prepared, options) => {
    const result = await own.runSchedule(prepared, options);
    const kind = options.odds === undefined ? "disturbed" : "calm";
    if (losing.windowsOf === kind) return { ...result, beyondReviseEvents: 3 };
    if (kind === "calm" || !losing.seeds.has(options.seed)) return result;
    const rows = result.tables.get("risks")?.slice(1) ?? [];
    return { ...result, tables: new Map([...result.tables, ["risks", rows]]) };
  };
  return { ...own, runSchedule };
});

/** What the promise is rejected with. */
async function messageOf(fuzzed: Promise<unknown>): Promise<string> {
  const error = await fuzzed.then(
    () => null,
    (failure: unknown) => failure,
  );
  return error instanceof MillpondError ? `${error.code} ${error.message}` : `no error: ${error}`;
}

test("a function that depends on more than its row is found, whatever it is", async () => {
  let calls = 0;
  let last = 0;
  const seen = new Set<number>();
  const wrong: Record<string, (row: { n: number }) => number> = {
    chance: () => Math.random(),
    clock: () => Date.now(),
    calls: () => calls++,
    last: ({ n }) => {
      const gain = n - last;
      last = n;
      return gain;
    },
    seen: ({ n }) => (seen.has(n) ? 0 : seen.add(n).size),
  };
  for (const [name, risk] of Object.entries(wrong)) {
    const message = await messageOf(fuzzPipeline(mapped(risk), someReturns, { schedules: 1 }));
    expect(message, name).toMatch(
      /^DEFINITION pipeline "risks", seed 0: table "risks": map "risk" does not return the same/,
    );
    expect(message).toContain("fuzzPipeline(pipeline, generator, { seed: 0, schedules: 1,");
  }
});

test("a function that fails for a row is found, with the row", async () => {
  const wrong: readonly [risk: (n: number) => number, says: string][] = [
    [(n) => 1 / (n - 3), 'column "risk": a map function returned Infinity where double is'],
    [(n) => [1].at(n)!.valueOf(), "it threw TypeError: Cannot read properties of undefined"],
  ];
  for (const [risk, says] of wrong) {
    const message = await messageOf(
      fuzzPipeline(
        mapped(({ n }) => risk(n)),
        someReturns,
      ),
    );
    expect(message).toMatch(
      /map "risk" fails for\n {2}\{"at":1767\d+,"n":\d+,"user":"user-\d"\}\n/,
    );
    expect(message).toContain(says);
  }
});

test("wrong results are shown by row and column, and their seed shows them again", async () => {
  const right = mapped(({ n }) => n);
  losing.seeds.add(52);
  const all = await messageOf(fuzzPipeline(right, someReturns, { schedules: 6, seed: 48 }));
  expect(all).toMatch(
    /^INVARIANT pipeline "risks", seed 52: after faults the tables are not those/,
  );
  expect(all).toMatch(
    /risks: 1 difference.*\n\nwindow_start 2026-01-01T.*, user user-\d: is not published\n/,
  );
  expect(all).toContain("{ seed: 52, schedules: 1, trace: console.log }");
  const lines: string[] = [];
  const trace = (line: string) => lines.push(line);
  const alone = await messageOf(
    fuzzPipeline(right, someReturns, { seed: 52, schedules: 1, trace }),
  );
  expect(alone).toBe(all);
  expect(lines[0]).toMatch(/^returns-\d offset 0: \{"user":"user-\d","n":\d+,"at":1767\d+\}$/);
  expect(lines.length).toBeGreaterThan(50);
  losing.seeds.clear();
  await fuzzPipeline(right, someReturns, { seed: 52, schedules: 1 });
});

test("windows that are let go soon are compared where they can be", async () => {
  const brief = pipeline("brief", {
    returned: stream("returns", { ...RETURNS, idleAfter: 1 })
      .window(tumbling(seconds(10)))
      .aggregate({ n: sum("n") })
      .reviseFor(1),
  });
  const real = await fuzzPipeline(brief, someReturns, { schedules: 20 });
  expect(real.beyondRevise).toBeLessThan(20);

  losing.windowsOf = "disturbed";
  const { beyondRevise } = await fuzzPipeline(brief, someReturns, { schedules: 2 });
  expect(beyondRevise).toBe(2);
  const aDay = fuzzPipeline(
    mapped(({ n }) => n),
    someReturns,
  );
  expect(await messageOf(aDay)).toMatch(/^INVARIANT .*seed 0: 3 events came beyond reviseFor/);

  losing.windowsOf = "calm";
  const refused = await messageOf(fuzzPipeline(brief, someReturns));
  expect(refused).toMatch(/^DEFINITION .*: in an undisturbed run of \d+ s 3 events came beyond a/);
  losing.windowsOf = null;
});

test("what batch SQL says otherwise is shown, with the record that explains it", async () => {
  const file = path.join(dir, "users.csv");
  fs.writeFileSync(file, "user,kind\nuser-0,old\nuser-1,old\n");
  const users = reference("users", { file, schema: { user: string(), kind: string() } });
  const kinds = returns
    .enrich(users, { on: "user", select: ["kind"] })
    .groupBy("kind")
    .window(tumbling(minutes(10)))
    .aggregate({ n: count() });
  // The pipeline has read the file by then; batch SQL will.
  const changing: FuzzGenerator = (random) => {
    fs.writeFileSync(file, "user,kind\nuser-0,old\nuser-1,new\n");
    return someReturns(random);
  };
  const message = await messageOf(fuzzPipeline(pipeline("kinds", { kinds }), changing));
  expect(message).toMatch(/seed 0: an undisturbed run is not what batch SQL makes of its records/);
  expect(message).toContain("kind new: is not published");
  expect(message).toContain("kind old: differs\n  because of returns-");
});

test("a generator that cannot be used is refused, with what to do", async () => {
  const one = { stream: "orders", value: {} };
  const user = (partition: number) => ({ ...one, partition, value: { user: "u" } });
  let calls = 0;
  const wrong: readonly [FuzzGenerator, string][] = [
    [() => [], 'USAGE pipeline "shop", seed 0: the generator gave no records'],
    [() => [{ ...one, stream: "order" }], 'record 0 of the generator has stream "order"'],
    [() => [one, { ...one, partition: 0.5 }], "record 1 of the generator has partition 0.5"],
    [() => [{ ...one, value: { n: 1n } }], "give it as text"],
    [() => [{ ...one, timestamp: "noon" }], "noon is no time"],
    [() => [{ stream: "orders" } as FuzzRecord], "record 0 of the generator has no value"],
    [() => Promise.resolve([one]) as never, "the generator returned a promise"],
    [() => undefined as never, "the generator returned undefined"],
    [() => Array.from({ length: 10_001 }, () => one), "LIMIT pipeline"],
    [() => [{ ...one, value: { user: `${calls++}` } }], "the generator gave other records"],
    [() => Array.from({ length: ++calls }, () => one), "the generator gave other records"],
    [() => [{ ...one, value: { at: new Date() } }], "the generator gave other records"],
    [() => [user(0), user(1)], 'with user "u" in the partitions 0 and 1, but the stream declares'],
    [() => [JSON.parse("{")], "the generator threw SyntaxError"],
    [() => [one, one], 'all 2 records that the generator gave of stream "orders" are dead letters'],
  ];
  const sold = pipeline("shop", { sold: orders.rows() });
  for (const [generator, says] of wrong) {
    expect(await messageOf(fuzzPipeline(sold, generator, { schedules: 1 }))).toContain(says);
  }
  const fuzz = fuzzPipeline(sold, someOrders, { schedules: -1 });
  expect(await messageOf(fuzz)).toBe("USAGE schedules is -1; give a whole number, 0 or more");
});

test("chance and time that a generator takes from the machine are seeded too", async () => {
  const generator: FuzzGenerator = () => {
    const [id, shop] = [crypto.randomUUID(), Math.random() < 0.5 ? "a" : "b"];
    const at = new Date(Date.now()).toISOString();
    return [{ stream: "orders", value: { ...order(new Random(1), 1, START_MS), id, shop, at } }];
  };
  const { rows } = await fuzzPipeline(pipeline("shop", { sold: orders.rows() }), generator, {
    schedules: 1,
  });
  expect(rows.sold).toBe(1);
});

test("the same call gives the same report, and two at once wait for each other", async () => {
  const right = mapped(({ n }) => n);
  const fuzz = () => fuzzPipeline(right, someReturns, { schedules: 3, seed: 5 });
  const [first, second] = await Promise.all([fuzz(), fuzz()]);
  expect(second).toEqual(first);
});

test("a test's fake timers are left as they are", async () => {
  vi.useFakeTimers({ now: START_MS });
  try {
    const { schedules } = await fuzzPipeline(
      mapped(({ n }) => n),
      someReturns,
      { schedules: 2 },
    );
    expect(schedules).toBe(2);
    expect(Date.now()).toBe(START_MS);
    expect(performance.now()).toBe(0);
  } finally {
    vi.useRealTimers();
  }
});
