/** What users write becomes the tree they meant; the README's pipeline is the example. */
import { expect, test } from "vitest";
import {
  avg,
  count,
  countDistinct,
  DefinitionError,
  days,
  decimal,
  definitionHash,
  double,
  duckdb,
  fromJson,
  int,
  lake,
  literal,
  minutes,
  oneOf,
  parameter,
  pipeline,
  quantile,
  reference,
  seconds,
  session,
  sliding,
  stream,
  string,
  sum,
  timestamp,
  toJson,
  topK,
  tumbling,
  updates,
  when,
  withParameters,
} from "../../../lib/index.js";

const activity = stream("user_activity", {
  schema: {
    event_id: string(),
    user_id: string(),
    event_type: oneOf("page_view", "click", "purchase"),
    page: string(),
    amount: double()
      .nullable()
      .check((x) => x.gte(0)),
    price: decimal(10, 2).default("0.00"),
    level: int(),
    event_time: timestamp().at("meta.time"),
  },
  key: "user_id",
  eventTime: "event_time",
  lateness: minutes(2),
  dedup: "event_id",
});

const sketch = () =>
  pipeline(
    "activity",
    {
      page_view_counts: activity
        .filter((e) => e.event_type.eq("page_view"))
        .groupBy("page")
        .window(tumbling(minutes(1)))
        .aggregate({ views: count() }),
      active_users: activity
        .window(sliding(minutes(5), { every: minutes(1) }))
        .aggregate({ users: countDistinct("user_id") }),
      user_sessions: activity
        .groupBy("user_id")
        .window(session(minutes(30)))
        .aggregate({ events: count(), pages: countDistinct("page") }),
      revenue: activity
        .derive((e) => ({ cents: e.price.mul(100), big: when(e.level.gt(3), "yes", "no") }))
        .groupBy("big")
        .window(tumbling(days(1)))
        .aggregate({
          total: sum("price"),
          cents: sum("cents", { where: (e) => e.page.eq("home") }),
          mean: avg((e) => e.amount.add(1)),
          p95: quantile("amount", 0.95),
          top: topK("page", 3),
        })
        .emit(updates({ every: seconds(5) })),
      clean: activity
        .select("user_id", "page")
        .map("short", (row) => ({ p: row.page.slice(0, 3) }), {
          p: string(),
        }),
    },
    { sinks: [lake(), duckdb({ tables: ["page_view_counts"] })] },
  );

test("the README's pipeline becomes a tree with typed result columns", () => {
  const { definition, functions, file } = sketch();
  expect(definition.tables[0]).toMatchObject({
    stream: "user_activity",
    columns: [
      { name: "page", type: { kind: "string" }, nullable: false },
      { name: "views", type: { kind: "bigint" }, nullable: false },
    ],
  });
  expect(definition.tables[3].columns.map(({ type }) => type)).toEqual([
    { kind: "string" },
    { kind: "decimal", precision: 18, scale: 2 },
    { kind: "decimal", precision: 18, scale: 2 },
    { kind: "double" },
    { kind: "double" },
    { kind: "topK", value: { kind: "string" } },
  ]);
  expect(definition.streams[0].fields.at(-1)?.path).toEqual(["meta", "time"]);
  expect([...functions.keys()]).toEqual(["clean/short"]);
  expect(file).toMatch(/pipeline\.test\.ts$/);
});

test("a definition survives JSON, with the same hash", () => {
  const { definition, functions } = sketch();
  const back = fromJson(toJson(definition), functions).definition;
  expect(back).toEqual(definition);
  expect(definitionHash(back)).toBe(definitionHash(definition));
});

test("JSON of another version or an unknown shape is refused", () => {
  expect(() => fromJson('{"version":2}')).toThrow(
    "has version 2, and this Millpond reads version 1",
  );
  const { definition } = sketch();
  const odd = toJson(definition).replace('"kind":"filter"', '"kind":"odd"');
  expect(() => fromJson(odd)).toThrow('a step has kind "odd"');
});

test("JSON of a definition that cannot work is refused, as when it is written", () => {
  const { definition, functions } = sketch();
  const json = toJson(definition);
  const read = (from: string, to: string) => {
    expect(json).toContain(from);
    return thrown(() => fromJson(json.replace(from, to), functions));
  };
  const message =
    'table "page_view_counts": eq compares column "event_type" with "pageview", which is none of ' +
    'its values; did you mean "page_view"? It has: page_view, click, purchase';
  const literal = '"op":"literal","type":{"kind":"string"},"value":';
  expect(read(`${literal}"page_view"`, `${literal}"pageview"`)).toMatchObject({
    code: "DEFINITION",
    message,
    column: "event_type",
  });
  const views = '"columns":[{"name":"page"';
  expect(read(views, '"columns":[{"name":"pages"').message).toContain(
    'table "page_view_counts": its columns are not what its steps give',
  );
  expect(read('"stream":"user_activity"', '"stream":"activity"').message).toContain(
    'table "page_view_counts": stream "activity" is not in the definition',
  );
  expect(read('"groupBy":["page"]', '"groupBy":["pag"]').message).toContain(
    'column "pag" does not exist',
  );
  expect(read('"eventTime":"event_time"', '"eventTime":"page"').message).toContain(
    'event time "page" in stream "user_activity" must be a timestamp',
  );
  expect(read('"op":"eq"', '"op":"gte2"').message).toContain('operator "gte2" is unknown');
});

test("a column that is not there is refused with file, table, column and a suggestion", () => {
  const wrong = {
    page_views: activity
      .groupBy("pagee" as "page")
      .window(tumbling(1))
      .aggregate({ n: count() }),
  };
  const error = thrown(() => pipeline("p", wrong));
  expect(error.message).toMatch(/pipeline\.test\.ts:\d+: table "page_views": column "pagee"/);
  expect(error.message).toContain(
    'does not exist in stream "user_activity"; did you mean "page"? It has: event_id,',
  );
  expect(error).toMatchObject({ code: "DEFINITION", table: "page_views", column: "pagee" });
});

const perMinute = activity.window(tumbling(minutes(1)));
const tables = {
  'takes the sum of column "page", which is string; give a number': () =>
    perMinute.aggregate({ s: sum("page" as "level") }),
  "need all events of a group in one partition": () =>
    activity.groupBy("page").window(session(5)).aggregate({ n: count() }),
  "clashes with the one that the product adds": () => perMinute.aggregate({ revision: count() }),
  "by which groups cannot be told apart": () =>
    activity
      .groupBy("amount" as "page")
      .window(tumbling(5))
      .aggregate({ n: count() }),
  "it has 0 aggregates": () => perMinute.aggregate({}),
  "which is there already": () =>
    activity.enrich(reference("r", { file: "r.csv", schema: { page: string() } }), {
      on: "page",
      select: ["page"],
    }),
  'quantile "q" has q = 2': () => perMinute.aggregate({ q: quantile("amount", 2) }),
  "eq cannot compare string with int": () => activity.filter((e) => e.page.eq(5 as never)),
  'eq compares column "event_type" with "pageview", which is none of its values; did you mean':
    () => activity.filter((e) => e.event_type.eq("pageview" as never)),
  'in compares column "event_type" with "buy"': () =>
    activity.filter((e) => e.event_type.in("click", "buy" as never)),
  'ne compares column "event_type" with "buy"': () =>
    activity.filter((e) => literal("buy").ne(e.event_type)),
  'eq compares column "kind" with "pageview"': () =>
    activity
      .select({ kind: "event_type" })
      .filter((e) => e.kind.eq("click").or(e.kind.eq("pageview" as never))),
  'gt compares column "event_type" with "z"': () =>
    perMinute.aggregate({ n: count({ where: (e) => e.event_type.gt("z" as never) }) }),
  'there are 0 columns in the schema of map "none"': () => activity.map("none", () => ({}), {}),
  "filter gave boolean, not an expression": () => activity.filter(() => true as never),
};
test.each(Object.entries(tables))("a table is refused: %s", (message, table) => {
  expect(thrown(() => pipeline("p", { t: table() })).message).toContain(message);
});

const time = { at: timestamp() };
const refused = {
  "is more than its size": () => sliding(5, { every: 6 }),
  "has 2000 panes": () => sliding(2000, { every: 1 }),
  "window size is 0": () => tumbling(0),
  "session gap is 0.5": () => session(0.5),
  "must be a timestamp that is neither nullable": () =>
    stream("s", {
      schema: { at: timestamp().nullable() as never },
      eventTime: "at" as never,
      lateness: 0,
    }),
  "has dedup but no key": () =>
    stream("s", { schema: { ...time, id: int() }, eventTime: "at", lateness: 0, dedup: "id" }),
  'lateness of stream "s" is -1': () =>
    stream("s", { schema: time, eventTime: "at", lateness: -1 }),
  'column "AT" is there twice': () =>
    stream("s", { schema: { ...time, AT: int() }, eventTime: "at", lateness: 0 }),
  "names that begin with __ are the product's own": () =>
    stream("s", { schema: { ...time, __t: int() }, eventTime: "at", lateness: 0 }),
  'the name "late" is the product\'s own': () => pipeline("p", { late: activity }),
  'sink lake lists table "x"': () =>
    pipeline("p", { t: activity }, { sinks: [lake({ tables: ["x"] })] }),
  "there are two sinks duckdb()": () =>
    pipeline("p", { t: activity }, { sinks: [duckdb(), lake(), duckdb({ tables: ["t"] })] }),
  'ne compares column "k" with "c", which is none of its values': () =>
    stream("s", {
      schema: { ...time, k: oneOf("a", "b").check((k) => k.ne("c" as never)) },
      eventTime: "at",
      lateness: 0,
    }),
  "default 0.005 does not fit": () => decimal(4, 2).default("0.005"),
  "decimal(19, 2) is impossible": () => decimal(19, 2),
  "has no tables": () => pipeline("p", {}),
};
test.each(Object.entries(refused))("refused: %s", (message, define) => {
  expect(thrown(define).message).toContain(message);
});

test("parameters take the run's values, and unknown names are refused", async () => {
  const load = async () => parameter("limit", 5);
  expect(await withParameters(new Map([["limit", "7"]]), load)).toBe(7);
  await expect(withParameters(new Map([["limits", "7"]]), load)).rejects.toThrow(
    'declares no parameter "limits"; did you mean "limit"?',
  );
  await expect(withParameters(new Map([["limit", "x"]]), load)).rejects.toThrow(
    "give a finite number",
  );
});

function thrown(work: () => unknown): DefinitionError {
  try {
    work();
  } catch (error) {
    if (error instanceof DefinitionError) return error;
    throw error;
  }
  throw new TypeError("nothing was refused");
}
