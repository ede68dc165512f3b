/** Plain JavaScript has no compiler to refuse an option that nobody reads: the definition does. */
import { describe, expect, test } from "vitest";
import * as typed from "../../../lib/index.js";
import { MillpondError } from "../../../lib/index.js";

// As plain JavaScript sees the library.
// biome-ignore lint/suspicious/noExplicitAny: what has no types is what is tested.
const js: Record<string, (...given: any[]) => any> = Object.fromEntries(
  Object.entries(typed).filter(([, value]) => typeof value === "function"),
) as never;
const { count, duckdb, lake, minutes, pipeline, quantile, reference, session, sliding } = js;
const { stream, string, sum, timestamp, topK, tumbling, updates, int } = js;

const schema = { id: string!(), n: int!(), at: timestamp!() };
const options = { schema, key: "id", eventTime: "at", lateness: 0 };
const s = stream!("clicks", options);
const perMinute = s.window(tumbling!(minutes!(1)));
const table = (aggregate: unknown) => pipeline!("p", { t: perMinute.aggregate({ a: aggregate }) });
const places = reference!("places", { file: "p.csv", schema: { id: string!(), city: string!() } });

describe("an unknown option is refused where it is written, with the nearest known name", () => {
  test.each<[string, () => unknown]>([
    [
      'stream "clicks" has no option "latenes"; did you mean "lateness"?',
      () => stream!("clicks", { ...options, latenes: 5 }),
    ],
    [
      'dedup of stream "clicks" has no option "whithin"; did you mean "within"?',
      () => stream!("clicks", { ...options, dedup: { id: "id", whithin: 5 } }),
    ],
    [
      'pipeline "p" has no option "sink"; did you mean "sinks"?',
      () => pipeline!("p", { t: s }, { sink: [lake!()] }),
    ],
    ['lake has no option "bronse"; did you mean "bronze"?', () => lake!({ bronse: false })],
    ['duckdb has no option "table"; did you mean "tables"?', () => duckdb!({ table: ["t"] })],
    [
      'tumbling window has no option "ofset"; did you mean "offset"?',
      () => tumbling!(60_000, { ofset: 5 }),
    ],
    [
      'sliding window has no option "evry"; did you mean "every"?',
      () => sliding!(60_000, { evry: 5 }),
    ],
    ['updates has no option "evry"; did you mean "every"?', () => updates!({ evry: 5 })],
    [
      'table "t": count of "a" has no option "wher"; did you mean "where"?',
      () => table(count!({ wher: () => true })),
    ],
    ['table "t": sum of "a" has no option "fn"', () => table(sum!("n", { fn: "max" }))],
    ['table "t": quantile of "a" has no option "p"', () => table(quantile!("n", 0.5, { p: 1 }))],
    ['table "t": the options of topK of "a" are "id"', () => table(topK!("id", 3, "id"))],
    [
      'timestamp() has no option "formt"; did you mean "format"?',
      () => timestamp!({ formt: "epoch_s" }),
    ],
    [
      'reference "r" has no option "path". It has: file, schema',
      () => reference!("r", { path: "r.csv", schema }),
    ],
    [
      'enrich with reference "places" has no option "colums"',
      () => s.enrich(places, { on: "id", select: ["city"], colums: 1 }),
    ],
  ])("%s", (message, define) => {
    const error = refusal(define);
    expect(error.code).toBe("DEFINITION");
    expect(error.message).toMatch(/options\.test\.ts:\d+: /);
    expect(error.message).toContain(message);
  });
});

describe("an option of a wrong kind is refused", () => {
  test.each<[string, () => unknown]>([
    [
      'the options of stream "s" are undefined; give an object with schema, key',
      () => stream!("s"),
    ],
    ['stream "s" has no schema', () => stream!("s", { eventTime: "at", lateness: 0 })],
    ["the options of tumbling window are 5", () => tumbling!(60_000, 5)],
    ['timestamp() has no format "epoch"', () => timestamp!({ format: "epoch" })],
    ['has join "outer"; give "left"', () => s.enrich(places, { on: "id", join: "outer" })],
    ["the sinks are no list of sinks", () => pipeline!("p", { t: s }, { sinks: ["lake"] })],
    [
      'table "t": its emit is none',
      () => pipeline!("p", { t: perMinute.aggregate({ n: count!() }).emit(updates) }),
    ],
    [
      'table "t": its window is none',
      () => pipeline!("p", { t: s.window(undefined).aggregate({ n: count!() }) }),
    ],
    [
      'table "t": its window is none',
      () => pipeline!("p", { t: s.groupBy("id").window(session).aggregate({ n: count!() }) }),
    ],
  ])("%s", (message, define) => {
    const error = refusal(define);
    expect(error.message).toContain(message);
    expect(error.message).toMatch(/options\.test\.ts:\d+: /);
  });
});

test("options that are known, or undefined, are taken", () => {
  const window = tumbling!(60_000, { offset: undefined });
  expect(window).toEqual({ kind: "sliding", sizeMs: 60_000, everyMs: 60_000, offsetMs: 0 });
  const where = (e: { n: { gt(x: number): unknown } }) => e.n.gt(1);
  const defined = table(count!({ where }));
  expect(defined.definition.tables[0].shape.aggregates[0]).toMatchObject({
    fn: "count",
    filter: { op: "gt" },
  });
});

function refusal(define: () => unknown): MillpondError {
  try {
    define();
  } catch (error) {
    if (error instanceof MillpondError) return error;
    throw error;
  }
  throw new TypeError("nothing was refused");
}
