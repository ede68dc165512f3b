/** The reference itself, on streams small enough to work out by hand. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type {
  AggregateNode,
  ColumnNode,
  ColumnType,
  ExprNode,
  FieldNode,
  PipelineDefinition,
  StepNode,
  StreamNode,
  TableNode,
  WindowNode,
} from "../../lib/define/definition.js";
import { type ReferenceTables, referenceTables } from "./reference.js";
import type { Row } from "./rows.js";

const MINUTE_MS = 60_000;
const BASE_MS = Date.parse("2025-01-01T00:00:00Z");

const string: ColumnType = { kind: "string" };
const bigint: ColumnType = { kind: "bigint" };
const double: ColumnType = { kind: "double" };

const column = (name: string): ExprNode => ({ op: "column", name });
const text = (value: string): ExprNode => ({ op: "literal", type: { kind: "string" }, value });
const is = (name: string, value: string): ExprNode => ({
  op: "eq",
  args: [column(name), text(value)],
});

const field = (name: string, type: ColumnType, more: Partial<FieldNode> = {}): FieldNode => ({
  name,
  type,
  path: [name],
  nullable: false,
  checks: [],
  ...more,
});

/** Fields id, user, kind, at (epoch ms) and a nullable amount; lateness two minutes. */
const activity: StreamNode = {
  name: "activity",
  fields: [
    field("id", string),
    field("user", string),
    field("kind", string, { oneOf: ["view", "click"] }),
    field("amount", { kind: "decimal", precision: 9, scale: 2 }, { nullable: true }),
    field("at", { kind: "timestamp" }, { format: { kind: "epoch_ms" } }),
  ],
  key: "user",
  eventTime: "at",
  latenessMs: 2 * MINUTE_MS,
  maxAheadMs: 60 * MINUTE_MS,
  idleAfterMs: MINUTE_MS,
  maxRecordBytes: 1 << 20,
};

const deduplicated = (withinMs?: number): StreamNode => ({
  ...activity,
  dedup: withinMs === undefined ? { id: "id" } : { id: "id", withinMs },
});

const sliding = (size: number, every = size): Extract<WindowNode, { kind: "sliding" }> => ({
  kind: "sliding",
  sizeMs: size * MINUTE_MS,
  everyMs: every * MINUTE_MS,
  offsetMs: 0,
});
const session = (gap: number): WindowNode => ({ kind: "session", gapMs: gap * MINUTE_MS });

const COUNT: AggregateNode = { name: "n", fn: "count" };

function windowed(
  window: WindowNode,
  options: {
    groupBy?: string[];
    steps?: StepNode[];
    aggregates?: (AggregateNode & { type: ColumnType })[];
  } = {},
): TableNode {
  const { groupBy = [], steps = [] } = options;
  const aggregates = options.aggregates ?? [{ ...COUNT, type: bigint }];
  const columns: ColumnNode[] = [
    ...groupBy.map((name) => ({ name, type: string, nullable: false })),
    ...aggregates.map(({ name, type, fn }) => ({
      name,
      type,
      nullable: !["count", "topK"].includes(fn),
    })),
  ];
  return {
    name: "result",
    stream: "activity",
    steps,
    shape: { kind: "windowed", window, groupBy, aggregates },
    emit: { kind: "final" },
    reviseForMs: 24 * 60 * MINUTE_MS,
    columns,
  };
}

interface Event {
  readonly id?: string;
  readonly user?: string;
  readonly kind?: string;
  readonly amount?: number | null;
  /** Minutes after the base time. */
  readonly at: number;
}

let opened: ReferenceTables | undefined;
const folders: string[] = [];
afterEach(async () => {
  opened?.close();
  opened = undefined;
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

let ids = 0;
const line = (event: Event): string =>
  JSON.stringify({
    id: event.id ?? `unique-${ids++}`,
    user: event.user ?? "u",
    kind: event.kind ?? "view",
    amount: event.amount ?? null,
    at: BASE_MS + event.at * MINUTE_MS,
  });

/** The reference over partitions given as events or raw lines. */
async function over(
  stream: StreamNode,
  table: TableNode,
  ...partitions: (Event | string)[][]
): Promise<ReferenceTables> {
  const folder = await mkdtemp(join(tmpdir(), "millpond-reference-"));
  folders.push(folder);
  const files = partitions.map((_, partition) => ({
    path: join(folder, `part-${partition}.ndjson`),
    topic: stream.name,
    partition,
  }));
  for (const [i, events] of partitions.entries()) {
    const lines = events.map((event) => (typeof event === "string" ? event : line(event)));
    await writeFile(files[i].path, lines.join("\n"));
  }
  const definition: PipelineDefinition = {
    version: 1,
    name: "tiny",
    parameters: [],
    streams: [stream],
    references: [
      {
        name: "people",
        path: "people.csv",
        format: "csv",
        columns: ["login", "name"].map((name) => ({ name, type: string, nullable: false })),
      },
    ],
    tables: [table],
    sinks: [],
  };
  const people = join(folder, "people.csv");
  await writeFile(people, "login,name\nu,Ursula\nw,Walter\n");
  opened = await referenceTables(definition, { files, references: new Map([["people", people]]) });
  return opened;
}

const minutesOf = (value: unknown): number => (Number(value) - BASE_MS) / MINUTE_MS;

/** Window or session starts, ends and counts in minutes: [start, end, n]. */
async function spans(tables: ReferenceTables): Promise<[number, number, number][]> {
  const rows = await tables.table("result");
  return rows
    .map((row): [number, number, number] => [
      minutesOf(row.window_start ?? row.session_start),
      minutesOf(row.window_end ?? row.session_end),
      Number(row.n),
    ])
    .sort((a, b) => a[0] - b[0]);
}

async function lateRows(tables: ReferenceTables): Promise<[offset: number, watermark: number][]> {
  const rows = await tables.table("late");
  return rows
    .map((row): [number, number] => [Number(row.offset), minutesOf(row.watermark)])
    .sort((a, b) => a[0] - b[0]);
}

const numbers = async (
  tables: ReferenceTables,
): Promise<{ filtered: number; counted: number; late: number; duplicates: number }> => {
  const { table: _, ...rest } = (await tables.accounting()).tables[0];
  return rest;
};

describe("windows", () => {
  test("an event is late once the watermark before it reached its window's end", async () => {
    // Before offset 2 the watermark is 3 - 2 = 1, so [0, 1) is closed; before offset 1 it was -2.
    const tables = await over(activity, windowed(sliding(1)), [
      { at: 0 },
      { at: 3 },
      { at: 0.5 },
      { at: 1.5 },
    ]);
    expect(await spans(tables)).toEqual([
      [0, 1, 1],
      [1, 2, 1],
      [3, 4, 1],
    ]);
    expect(await lateRows(tables)).toEqual([[2, 1]]);
    expect(await numbers(tables)).toEqual({ filtered: 0, counted: 3, late: 1, duplicates: 0 });
  });

  test("an event does not move the watermark that judges itself", async () => {
    const tables = await over(activity, windowed(sliding(1)), [{ at: 0 }, { at: 100 }]);
    expect(await lateRows(tables)).toEqual([]);
  });

  test("each partition has a watermark of its own", async () => {
    const tables = await over(activity, windowed(sliding(1)), [{ at: 100 }], [{ at: 0 }]);
    expect(await spans(tables)).toEqual([
      [0, 1, 1],
      [100, 101, 1],
    ]);
  });

  test("a late event moves the watermark no further, a filtered one does move it", async () => {
    const table = windowed(sliding(1), {
      steps: [{ kind: "filter", predicate: is("kind", "view") }],
    });
    const tables = await over(activity, table, [
      { at: 0 },
      { at: 10, kind: "click" },
      { at: 0.5 },
      { at: 8 },
    ]);
    expect(await lateRows(tables)).toEqual([[2, 8]]);
    expect(await numbers(tables)).toEqual({ filtered: 1, counted: 2, late: 1, duplicates: 0 });
  });

  test("a sliding window's event counts only in its windows that are still open", async () => {
    // Before offset 1 the watermark is 5: of minute 4's windows [2,5) [3,6) [4,7) one is shut.
    const tables = await over(activity, windowed(sliding(3, 1)), [{ at: 7 }, { at: 4 }]);
    expect(await spans(tables)).toEqual([
      [3, 6, 1],
      [4, 7, 1],
      [5, 8, 1],
      [6, 9, 1],
      [7, 10, 1],
    ]);
    expect(await numbers(tables)).toEqual({ filtered: 0, counted: 2, late: 0, duplicates: 0 });
  });

  test("windows are aligned to the epoch plus the offset, before 1970 too", async () => {
    const before1970 = -BASE_MS / MINUTE_MS - 1; // one minute before the epoch
    const window = { ...sliding(5), offsetMs: MINUTE_MS };
    const rows = await (await over(activity, windowed(window), [{ at: before1970 }])).table(
      "result",
    );
    expect(rows).toEqual([{ window_start: -4 * MINUTE_MS, window_end: MINUTE_MS, n: 1n }]);
  });
});

describe("sessions", () => {
  const byUser = (gap: number): TableNode => windowed(session(gap), { groupBy: ["user"] });

  test("events exactly the gap apart are one session, a millisecond more makes two", async () => {
    const tables = await over(activity, byUser(5), [
      { at: 0 },
      { at: 5 },
      { at: 10 + 1 / MINUTE_MS },
    ]);
    expect(await spans(tables)).toEqual([
      [0, 5, 2],
      [10 + 1 / MINUTE_MS, 10 + 1 / MINUTE_MS, 1],
    ]);
  });

  test("an event out of order bridges two sessions", async () => {
    const tables = await over({ ...activity, latenessMs: 10 * MINUTE_MS }, byUser(3), [
      { at: 0 },
      { at: 6 },
      { at: 3 },
    ]);
    expect(await spans(tables)).toEqual([[0, 6, 3]]);
  });

  test("an event older than the watermark is late even next to an open session", async () => {
    const tables = await over(activity, byUser(5), [{ at: 0 }, { at: 3 }, { at: 0.9 }, { at: 1 }]);
    expect(await lateRows(tables)).toEqual([[2, 1]]);
    expect(await spans(tables)).toEqual([[0, 3, 3]]);
  });

  test("sessions of different users do not mix", async () => {
    const tables = await over(activity, byUser(5), [
      { at: 0, user: "a" },
      { at: 1, user: "b" },
      { at: 2, user: "a" },
    ]);
    expect(await spans(tables)).toEqual([
      [0, 2, 2],
      [1, 1, 1],
    ]);
  });
});

describe("dedup", () => {
  test("a duplicate of a duplicate is found although the first is out of reach", async () => {
    // At offset 4 the watermark is 8: the reach of 5 takes in the copy at 4, not the one at 0.
    const tables = await over(deduplicated(5 * MINUTE_MS), windowed(sliding(60)), [
      { id: "x", at: 0 },
      { at: 6 },
      { id: "x", at: 4 },
      { at: 10 },
      { id: "x", at: 9 },
    ]);
    expect(await numbers(tables)).toEqual({ filtered: 0, counted: 3, late: 0, duplicates: 2 });
  });

  test("an id seen only before the reach counts again", async () => {
    const tables = await over(deduplicated(5 * MINUTE_MS), windowed(sliding(60)), [
      { id: "x", at: 0 },
      { at: 8 },
      { id: "x", at: 8 },
    ]);
    expect(await numbers(tables)).toEqual({ filtered: 0, counted: 3, late: 0, duplicates: 0 });
  });

  test("an event older than the reach cannot be checked and is late, its window open", async () => {
    const tables = await over(deduplicated(5 * MINUTE_MS), windowed(sliding(60)), [
      { at: 20 },
      { id: "x", at: 12.9 },
      { id: "x", at: 13 },
    ]);
    expect(await lateRows(tables)).toEqual([[1, 18]]);
    expect(await numbers(tables)).toEqual({ filtered: 0, counted: 2, late: 1, duplicates: 0 });
  });

  test("by default ids are remembered for the longest window", async () => {
    const tables = await over(deduplicated(), windowed(sliding(10)), [
      { id: "x", at: 0 },
      { at: 12 },
      { id: "x", at: 3 },
    ]);
    expect(await numbers(tables)).toEqual({ filtered: 0, counted: 2, late: 0, duplicates: 1 });
  });

  test("the same id in two partitions is no duplicate", async () => {
    const event = { id: "x", at: 0 };
    const tables = await over(deduplicated(), windowed(sliding(10)), [event], [event]);
    expect(await spans(tables)).toEqual([[0, 10, 2]]);
  });
});

describe("row tables", () => {
  const rowsTable: TableNode = {
    ...windowed(sliding(1)),
    shape: { kind: "rows" },
    columns: [{ name: "user", type: string, nullable: false }],
  };

  test("late events stay, marked, and duplicates go", async () => {
    const tables = await over(deduplicated(), rowsTable, [
      { id: "x", at: 0, user: "a" },
      { at: 4, user: "b" },
      { id: "x", at: 0, user: "c" },
      { at: 1.99, user: "d" },
      { at: 2, user: "e" },
    ]);
    // Without windows ids are remembered for the lateness: at minute 0 they just reach back to 0.
    const rows = await tables.table("result");
    rows.sort((a, b) => Number(a.offset) - Number(b.offset));
    expect(rows.map(({ offset, user, late }) => [offset, user, late])).toEqual([
      [0n, "a", false],
      [1n, "b", false],
      [3n, "d", true],
      [4n, "e", false],
    ]);
    expect(await tables.table("late")).toEqual([]);
    expect(await numbers(tables)).toEqual({ filtered: 0, counted: 3, late: 1, duplicates: 1 });
  });
});

describe("aggregates", () => {
  const amount = column("amount");
  const decimal: ColumnType = { kind: "decimal", precision: 18, scale: 2 };
  const of = (
    name: string,
    fn: AggregateNode["fn"],
    type: ColumnType,
    more: Partial<AggregateNode> = {},
  ): AggregateNode & { type: ColumnType } => ({ name, fn, type, arg: amount, ...more });

  async function aggregated(events: Event[]): Promise<Row> {
    const table = windowed(sliding(60), {
      aggregates: [
        { name: "n", fn: "count", type: bigint },
        { name: "views", fn: "count", filter: is("kind", "view"), type: bigint },
        of("sum", "sum", decimal),
        of("avg", "avg", double),
        of("min", "min", decimal),
        of("max", "max", decimal),
        of("first", "first", decimal),
        of("last", "last", decimal),
        of("variance", "variance", double),
        of("distinct", "countDistinct", bigint),
        of("median", "quantile", double, { q: 0.5 }),
        of(
          "top",
          "topK",
          { kind: "topK", value: { kind: "decimal", precision: 9, scale: 2 } },
          { k: 2 },
        ),
      ],
    });
    const [row] = await (await over(activity, table, events)).table("result");
    return row;
  }

  test("of a few amounts, with nulls left out and ties by value", async () => {
    const row = await aggregated([
      { at: 2, amount: null },
      { at: 3, amount: 4 },
      { at: 1, amount: 2.5, kind: "click" },
      { at: 3, amount: 1 },
      { at: 1, amount: 2.5 },
    ]);
    const { window_start: _, window_end: __, ...values } = row;
    expect(values).toEqual({
      n: 5n,
      views: 4n,
      sum: 1000n,
      avg: 2.5,
      min: 100n,
      max: 400n,
      first: 250n,
      last: 100n,
      variance: 1.5,
      distinct: 3n,
      median: 2.5,
      top: [
        { value: 250n, count: 2n },
        { value: 100n, count: 1n },
      ],
    });
  });

  test("of nothing but nulls", async () => {
    const row = await aggregated([{ at: 0 }, { at: 1 }]);
    expect(row).toMatchObject({ n: 2n, sum: null, avg: null, first: null, median: null, top: [] });
  });

  test("a sum that leaves its type is null", async () => {
    const arg: ExprNode = { op: "literal", type: { kind: "bigint" }, value: "9000000000000000000" };
    const aggregates = [{ name: "units", fn: "sum", type: bigint, arg } as const];
    const table = windowed(sliding(1), { aggregates });
    const rows = await (await over(activity, table, [{ at: 0 }, { at: 0 }, { at: 1 }])).table(
      "result",
    );
    expect(rows.map(({ units }) => units)).toEqual([null, 9_000_000_000_000_000_000n]);
  });

  test("of a number that does not fit the decimal it widens to", async () => {
    const huge: ExprNode = {
      op: "literal",
      type: { kind: "bigint" },
      value: "9000000000000000000",
    };
    const arg: ExprNode = { op: "coalesce", args: [huge, amount] };
    const type: ColumnType = { kind: "decimal", precision: 18, scale: 2 };
    const table = windowed(sliding(1), { aggregates: [{ name: "top", fn: "max", type, arg }] });
    const rows = await (await over(activity, table, [{ at: 0, amount: 2.5 }])).table("result");
    expect(rows.map(({ top }) => top)).toEqual([250n]);
  });
});

describe("steps", () => {
  const number = (value: number): ExprNode => ({ op: "literal", type: { kind: "int" }, value });
  const amount = column("amount");

  test("a product beyond its type is null, compared with a constant too", async () => {
    const decimal: ColumnType = { kind: "decimal", precision: 18, scale: 9 };
    const factor: ExprNode = { op: "literal", type: decimal, value: "999999999.999999999" };
    const product: ExprNode = { op: "mul", args: [amount, factor] };
    const steps: StepNode[] = [
      { kind: "filter", predicate: { op: "gte", args: [product, number(1)] } },
    ];
    const events = [
      { at: 0, amount: 1_000_000 },
      { at: 0, amount: 0.01 },
    ];
    const tables = await over(activity, windowed(sliding(1), { steps }), events);
    expect(await numbers(tables)).toMatchObject({ filtered: 1, counted: 1 });
  });
  const minute: ExprNode = { op: "extract", unit: "minute", args: [column("at")] };
  const derived: [name: string, type: ColumnType, expr: ExprNode, value: unknown][] = [
    ["whole", bigint, { op: "add", args: [minute, number(2)] }, 3n],
    [
      "product",
      { kind: "decimal", precision: 18, scale: 4 },
      {
        op: "mul",
        args: [amount, amount],
      },
      15_625n,
    ],
    [
      "text",
      string,
      {
        op: "toString",
        args: [{ op: "literal", type: { kind: "decimal", precision: 2, scale: 2 }, value: "0.25" }],
      },
      "0.25",
    ],
    ["quotient", double, { op: "div", args: [amount, number(2)] }, 0.625],
    ["nothing", double, { op: "div", args: [amount, number(0)] }, null],
    ["rest", bigint, { op: "mod", args: [{ op: "neg", args: [minute] }, number(7)] }, -1n],
    [
      "overflow",
      bigint,
      {
        op: "mul",
        args: [
          { op: "literal", type: { kind: "bigint" }, value: "9223372036854775807" },
          number(2),
        ],
      },
      null,
    ],
    [
      "hour",
      { kind: "timestamp" },
      { op: "truncate", unit: "hour", args: [column("at")] },
      BASE_MS + 60 * MINUTE_MS,
    ],
    ["iso", string, { op: "toString", args: [column("at")] }, "2025-01-01T01:01:00.000Z"],
    ["weekday", { kind: "int" }, { op: "extract", unit: "dayOfWeek", args: [column("at")] }, 3],
    [
      "kleene",
      { kind: "boolean" },
      {
        op: "or",
        args: [
          { op: "eq", args: [{ op: "literal", type: { kind: "string" }, value: null }, text("x")] },
          is("user", "u"),
        ],
      },
      true,
    ],
  ];

  test("derived columns follow SQL's nulls, and whole and decimal numbers stay exact", async () => {
    const table: TableNode = {
      ...windowed(sliding(1)),
      steps: [{ kind: "derive", columns: derived.map(([name, , expr]) => ({ name, expr })) }],
      shape: { kind: "rows" },
      columns: derived.map(([name, type]) => ({ name, type, nullable: true })),
    };
    const tables = await over(activity, table, [{ at: 61, amount: 1.25 }]);
    const [row] = await tables.table("result");
    expect(row).toMatchObject(
      Object.fromEntries(derived.map(([name, , , value]) => [name, value])),
    );
  });

  test.each([
    [
      "left",
      [
        ["u", "Ursula"],
        ["v", null],
      ],
    ],
    ["inner", [["u", "Ursula"]]],
  ] as const)("a %s join with a reference table, after a select", async (join, expected) => {
    const table: TableNode = {
      ...windowed(sliding(1)),
      steps: [
        { kind: "select", columns: [{ name: "who", from: "user" }] },
        {
          kind: "enrich",
          reference: "people",
          on: [{ column: "who", referenceColumn: "login" }],
          columns: [{ name: "title", from: "name" }],
          join,
        },
      ],
      shape: { kind: "rows" },
      columns: [
        { name: "who", type: string, nullable: false },
        { name: "title", type: string, nullable: true },
      ],
    };
    const tables = await over(activity, table, [{ at: 0 }, { at: 1, user: "v" }]);
    const rows = await tables.table("result");
    rows.sort((a, b) => Number(a.offset) - Number(b.offset));
    expect(rows.map(({ who, title }) => [who, title])).toEqual(expected);
    expect((await numbers(tables)).filtered).toBe(2 - expected.length);
  });
});

describe("decoding", () => {
  test("a bad record is a dead letter with its reason and moves no watermark", async () => {
    const good = { id: "a", user: "u", kind: "view", amount: 1.25, at: BASE_MS };
    const tables = await over(activity, windowed(sliding(1)), [
      JSON.stringify(good),
      "{nonsense",
      "[1]",
      "",
      JSON.stringify({ ...good, user: null }),
      JSON.stringify({ ...good, id: 7, at: BASE_MS + 50 * MINUTE_MS }),
      JSON.stringify({ ...good, kind: "hover" }),
      JSON.stringify({ ...good, amount: 1.255 }),
      JSON.stringify({ ...good, at: "2025-01-01" }),
      JSON.stringify({ ...good, at: Date.now() + 120 * MINUTE_MS }),
      `{"id":"a","id":"b","user":"u","kind":"view","amount":1,"at":${BASE_MS}}`,
      `{"user":"u","extra":[1e400],"kind":"view","at":${BASE_MS}.9,"\\u0069d":"a"}\r`,
    ]);
    const letters = await tables.table("dead_letters");
    expect(letters.map(({ offset, reason }) => [Number(offset), reason])).toEqual([
      [1, "malformed"],
      [2, "malformed"],
      [3, "missing_field"],
      [4, "wrong_type"],
      [5, "out_of_range"],
      [6, "out_of_range"],
      [7, "wrong_type"],
      [8, "event_time_in_future"],
      [9, "malformed"],
    ]);
    expect(await spans(tables)).toEqual([[0, 1, 2]]);
    expect((await tables.accounting()).streams).toEqual([
      { stream: "activity", records: 11, events: 2, deadLetters: 9 },
    ]);
  });

  test.each([
    ["2025-01-01T00:00:00Z", 0],
    ["2025-01-01T05:30:00.0019999+05:30", 1],
    ["2024-12-31 19:00-0500", 0],
    ["1969-12-31T23:59:59.9999Z", -1 - BASE_MS],
    ["2025-02-29T00:00:00Z", undefined],
    ["2025-01-01T24:00:00Z", undefined],
    ["2025-01-01T00:00:60Z", undefined],
    ["2025-01-01T00:00:00", undefined],
    ["2025-01-01", undefined],
  ])("ISO time %s", async (written, msAfterBase) => {
    const fields = activity.fields.map((f) =>
      f.name === "at" ? { ...f, format: { kind: "iso" } as const } : f,
    );
    const record = JSON.stringify({ id: "a", user: "u", kind: "view", at: written });
    const table: TableNode = {
      ...windowed(sliding(1)),
      shape: { kind: "rows" },
      columns: [{ name: "at", type: { kind: "timestamp" }, nullable: false }],
    };
    const rows = await (await over({ ...activity, fields }, table, [record])).table("result");
    expect(rows.map((row) => Number(row.at) - BASE_MS)).toEqual(
      msAfterBase === undefined ? [] : [msAfterBase],
    );
  });
});
