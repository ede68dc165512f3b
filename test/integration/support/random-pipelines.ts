/** A random schema, a random pipeline over it, and random logs: small, but of every kind. */
import { aggregateColumn } from "../../../lib/define/aggregates.js";
import type {
  AggregateFunction,
  AggregateNode,
  ColumnNode,
  ColumnType,
  ExprNode,
  FieldNode,
  LiteralValue,
  Operator,
  Pipeline,
  ScalarType,
  StepNode,
  StreamNode,
  TableNode,
  WindowNode,
} from "../../../lib/define/definition.js";
import { expressionType } from "../../../lib/define/expression-types.js";
import type { Random } from "./random.js";

export interface RandomRecord {
  readonly value: string;
  readonly timestampMs: number;
}

export interface RandomCase {
  readonly pipeline: Pipeline;
  /** By partition. */
  readonly logs: readonly (readonly RandomRecord[])[];
}

const START_MS = Date.parse("2026-02-28T23:58:00Z");
const TOPIC = "events";
const CHOICES = ["red", "green", "blue"];
const TEXTS = ["", "a", "north", "östlich", "西", 'say "hi"', "a\nb", "1"];
const SCALARS: readonly ScalarType[] = [
  { kind: "string" },
  { kind: "boolean" },
  { kind: "int" },
  { kind: "bigint" },
  { kind: "double" },
  { kind: "decimal", precision: 9, scale: 2 },
  { kind: "timestamp" },
];

type Columns = ReadonlyMap<string, ColumnNode>;

const isNumber = ({ kind }: ColumnType): boolean =>
  kind === "int" || kind === "bigint" || kind === "double" || kind === "decimal";

/** A value of the type as a literal of the definition, which JSON writes alike. */
function literal(random: Random, type: ScalarType): LiteralValue {
  switch (type.kind) {
    case "string":
      return random.pick(TEXTS);
    case "boolean":
      return random.chance(0.5);
    case "int":
      return random.pick([0, 1, -1, 7, 2_147_483_647, random.between(-20, 20)]);
    case "bigint":
      return String(random.pick([0, 1, -3, 4_000_000_000, random.between(-1000, 1000)]));
    case "double":
      return random.pick([0, 0.5, -2.25, 1e6, random.between(-4000, 4000) / 64]);
    case "decimal":
      return (random.between(-5000, 5000) / 100).toFixed(type.scale);
    case "timestamp":
      return START_MS + random.between(-60_000, 240_000);
  }
}

function randomField(random: Random, i: number): FieldNode {
  const type = random.pick(SCALARS);
  const name = `${random.pick(["a", "Total", "two words", "é", "b_2"])}${i}`;
  const under = random.chance(0.2) ? random.pick([["body"], ["body", "deep er"]]) : [];
  const isOneOf = type.kind === "string" && random.chance(0.3);
  const isList = random.chance(0.1);
  const hasDefault = !isList && !isOneOf && random.chance(0.2);
  const check: ExprNode = {
    op: "gte",
    args: [
      { op: "column", name },
      { op: "literal", type, value: type.kind === "double" ? -10 : "-10" },
    ],
  };
  const isChecked = !isList && isNumber(type) && type.kind !== "int" && random.chance(0.3);
  return {
    name,
    type: isList ? { kind: "list", element: type } : type,
    path: [...under, name],
    nullable: random.chance(0.4),
    ...(hasDefault && { default: literal(random, type) }),
    ...(isOneOf && !isList && { oneOf: CHOICES }),
    ...(type.kind === "timestamp" && { format: { kind: "iso" as const } }),
    checks: isChecked ? [check] : [],
  };
}

function randomStream(random: Random): StreamNode {
  const fields = Array.from({ length: random.between(1, 5) }, (_, i) => randomField(random, i));
  const plain = { nullable: false, checks: [] };
  const time: FieldNode = {
    name: "at",
    type: { kind: "timestamp" },
    path: ["at"],
    format: { kind: random.pick(["iso", "epoch_ms", "epoch_s", "epoch_us"] as const) },
    ...plain,
  };
  const key: FieldNode = { name: "who", type: { kind: "string" }, path: ["who"], ...plain };
  const id: FieldNode = { name: "id", type: { kind: "bigint" }, path: ["id"], ...plain };
  const dedup = random.pick(["none", "none", "default", 0, 500, 10_000] as const);
  return {
    name: TOPIC,
    fields: [...fields, id, key, time],
    key: "who",
    eventTime: "at",
    latenessMs: random.pick([0, 0, 1, 700, 5_000, 60_000]),
    maxAheadMs: random.pick([3_600_000, 60_000, 5_000]),
    idleAfterMs: 60_000,
    maxRecordBytes: random.pick([100_000, 100_000, 120]),
    ...(dedup !== "none" && {
      dedup: dedup === "default" ? { id: "id" } : { id: "id", withinMs: dedup },
    }),
  };
}

const columnsOf = (random: Random, columns: Columns, fits: (type: ColumnType) => boolean) =>
  random.chance(0.1) ? [] : [...columns.values()].filter(({ type }) => fits(type));

const call = (op: Operator, ...args: readonly ExprNode[]): ExprNode => ({ op, args });

/** An expression whose type fits; a column where there is one, or more about columns. */
function expression(
  random: Random,
  columns: Columns,
  kind: "boolean" | "number" | "string" | "timestamp",
  depth: number,
): ExprNode {
  const fits = (type: ColumnType) => (kind === "number" ? isNumber(type) : type.kind === kind);
  const found = columnsOf(random, columns, fits);
  const leaf = (): ExprNode => {
    if (found.length > 0) return { op: "column", name: random.pick(found).name };
    const type = random.pick(SCALARS.filter(fits));
    return { op: "literal", type, value: literal(random, type) };
  };
  if (depth === 0) return leaf();
  const sub = (of: typeof kind) => expression(random, columns, of, depth - 1);
  const whole = (value: number): ExprNode => ({
    op: "literal",
    type: { kind: "bigint" },
    value: String(value),
  });
  switch (kind) {
    case "boolean":
      return random.pick<() => ExprNode>([
        leaf,
        () => comparison(random, sub(random.pick(["number", "string", "timestamp"])), columns),
        () => call("and", sub("boolean"), sub("boolean")),
        () => call("or", sub("boolean"), sub("boolean")),
        () => call("not", sub("boolean")),
        () => call(random.pick(["isNull", "isNotNull"]), sub("string")),
        () =>
          call(random.pick(["startsWith", "contains", "endsWith"]), sub("string"), sub("string")),
      ])();
    case "number":
      return random.pick<() => ExprNode>([
        leaf,
        leaf,
        () => call(random.pick(["add", "sub", "mul"]), leaf(), leaf()),
        () => call(random.pick(["div", "mod"]), leaf(), leaf()),
        () => call(random.pick(["neg", "abs", "floor", "ceil"]), leaf()),
        () => call("length", sub("string")),
        () => call("diffMs", sub("timestamp"), sub("timestamp")),
        () => ({
          ...call("extract", sub("timestamp")),
          unit: random.pick(["hour", "day"] as const),
        }),
      ])();
    case "string":
      return random.pick<() => ExprNode>([
        leaf,
        () => call("concat", sub("string"), sub("string")),
        () => call("coalesce", leaf(), { op: "literal", type: { kind: "string" }, value: "none" }),
        () => call("if", sub("boolean"), leaf(), leaf()),
        () => call("lower", leaf()),
      ])();
    case "timestamp":
      return random.pick<() => ExprNode>([
        leaf,
        () => ({ ...call("truncate", leaf()), unit: random.pick(["minute", "hour"] as const) }),
        () => call("addMs", leaf(), whole(random.between(-5000, 5000))),
      ])();
  }
}

function comparison(random: Random, left: ExprNode, columns: Columns): ExprNode {
  const { type, oneOf } = expressionType(left, columns);
  const scalar = SCALARS.find(({ kind }) => kind === type.kind) ?? { kind: "bigint" };
  const like = type.kind === "decimal" ? type : scalar;
  const value = oneOf === undefined ? literal(random, like) : random.pick(oneOf);
  const right: ExprNode = { op: "literal", type: like, value };
  return call(random.pick(["eq", "ne", "lt", "lte", "gt", "gte"]), left, right);
}

/** Null when the definition's own rules refuse it: an operator over types it does not take. */
function accepted<T>(make: () => T): T | null {
  try {
    return make();
  } catch {
    return null;
  }
}

function withStep(random: Random, columns: Columns): { step: StepNode; columns: Columns } | null {
  const kept = ["at", "who", "id"];
  switch (random.pick(["filter", "filter", "derive", "derive", "select"] as const)) {
    case "filter": {
      const predicate = expression(random, columns, "boolean", 2);
      if (expressionType(predicate, columns).type.kind !== "boolean") return null;
      return { step: { kind: "filter", predicate }, columns };
    }
    case "derive": {
      const name = random.pick(["d1", "d2", "a0"]);
      const expr = expression(
        random,
        columns,
        random.pick(["number", "string", "timestamp", "boolean"]),
        2,
      );
      const { type, nullable } = expressionType(expr, columns);
      const step: StepNode = { kind: "derive", columns: [{ name, expr }] };
      const others = [...columns].filter(([other]) => other !== name);
      return { step, columns: new Map([...others, [name, { name, type, nullable }]]) };
    }
    case "select": {
      const names = [...columns.keys()].filter((n) => kept.includes(n) || random.chance(0.7));
      const step: StepNode = {
        kind: "select",
        columns: names.map((name) => ({ name, from: name })),
      };
      return { step, columns: new Map(names.map((name) => [name, columns.get(name)!])) };
    }
  }
}

function randomWindow(random: Random): WindowNode {
  if (random.chance(0.3)) {
    return { kind: "session", gapMs: random.pick([1, 300, 2_000, 30_000]) };
  }
  const [sizeMs, everyMs] = random.pick([
    [1, 1],
    [1_000, 1_000],
    [10_000, 10_000],
    [60_000, 60_000],
    [10_000, 2_000],
    [7_000, 2_000],
    [60_000, 45_000],
  ] as const);
  return { kind: "sliding", sizeMs, everyMs, offsetMs: random.pick([0, 0, 1, -700, 3_500]) };
}

const AGGREGATES: readonly AggregateFunction[] = [
  "count",
  "sum",
  "avg",
  "min",
  "max",
  "first",
  "last",
  "variance",
  "stddev",
  "countDistinct",
  "approxCountDistinct",
  "quantile",
  "topK",
];

function randomAggregate(random: Random, columns: Columns, i: number): AggregateNode | null {
  const fn = random.pick(AGGREGATES);
  const numeric = ["sum", "avg", "variance", "stddev", "quantile"].includes(fn);
  const kind = numeric ? "number" : random.pick(["number", "string", "timestamp"] as const);
  const node: AggregateNode = {
    name: `r${i}`,
    fn,
    ...(fn !== "count" && { arg: expression(random, columns, kind, random.pick([0, 0, 1])) }),
    ...(random.chance(0.3) && { filter: expression(random, columns, "boolean", 1) }),
    ...(fn === "quantile" && { q: random.pick([0, 0.5, 0.95, 1]) }),
    ...(fn === "topK" && { k: random.between(1, 3) }),
  };
  return accepted(() => aggregateColumn(node, columns)) === null ? null : node;
}

function randomTable(random: Random, stream: StreamNode, name: string): TableNode | null {
  let columns: Columns = new Map(
    stream.fields.map((f) => [f.name, { ...f, nullable: f.nullable }]),
  );
  const steps: StepNode[] = [];
  for (let i = random.below(4); i > 0; i--) {
    const next = withStep(random, columns);
    if (next === null) continue;
    steps.push(next.step);
    columns = next.columns;
  }
  const node = { name, stream: stream.name, steps, reviseForMs: 86_400_000 };
  const emit = { kind: "final" } as const;
  const plain = ({ name: column, type, nullable }: ColumnNode) => ({
    name: column,
    type,
    nullable,
  });
  if (random.chance(0.2)) {
    return { ...node, emit, shape: { kind: "rows" }, columns: [...columns.values()].map(plain) };
  }
  const window = randomWindow(random);
  const groupable = [...columns.values()].filter(
    ({ name: column, type }) => column !== "who" && !["double", "list", "topK"].includes(type.kind),
  );
  const groups = random.chance(0.6) ? random.some(groupable, 2).map((c) => c.name) : [];
  const groupBy = window.kind === "session" ? ["who", ...groups.slice(0, 1)] : groups;
  const aggregates = Array.from({ length: random.between(1, 4) }, (_, i) =>
    randomAggregate(random, columns, i),
  ).filter((aggregate) => aggregate !== null);
  if (aggregates.length === 0) aggregates.push({ name: "r0", fn: "count" });
  return {
    ...node,
    emit,
    shape: { kind: "windowed", window, groupBy, aggregates },
    columns: [
      ...groupBy.map((column) => plain(columns.get(column)!)),
      ...aggregates.map((aggregate) => aggregateColumn(aggregate, columns)),
    ],
  };
}

interface LogPlan {
  readonly tickMs: number;
  readonly keys: number;
  readonly disorder: number;
  readonly late: number;
  readonly duplicates: number;
  readonly broken: number;
}

function randomLog(
  random: Random,
  stream: StreamNode,
  partition: number,
  plan: LogPlan,
): RandomRecord[] {
  let clock = START_MS + random.below(3_000);
  const records: RandomRecord[] = [];
  for (let count = random.pick([0, 5, 30, 90]); count > 0; count--) {
    if (records.length > 0 && random.chance(plan.duplicates)) {
      const back = random.below(Math.min(records.length, 20));
      records.push(records[records.length - 1 - back]);
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
    let value = JSON.stringify(event);
    if (random.chance(plan.broken)) value = broken(random, event, value);
    records.push({ value, timestampMs: clock + random.below(2_000) });
  }
  return records;
}

function randomEvent(random: Random, stream: StreamNode, timeMs: number): Record<string, unknown> {
  const event: Record<string, unknown> = {};
  for (const field of stream.fields) {
    if (["id", "who", "at"].includes(field.name)) continue;
    const isAbsent = (field.nullable || field.default !== undefined) && random.chance(0.2);
    if (isAbsent) continue;
    let parent = event;
    for (const key of field.path.slice(0, -1)) {
      const nested = { ...(parent[key] as object | undefined) };
      parent[key] = nested;
      parent = nested;
    }
    const isNull = field.nullable && random.chance(0.15);
    parent[field.path.at(-1)!] = isNull ? null : jsonValue(random, field);
  }
  const format = stream.fields.find(({ name }) => name === "at")?.format?.kind ?? "iso";
  event.at = {
    iso: new Date(timeMs).toISOString(),
    epoch_ms: timeMs,
    epoch_s: timeMs / 1000,
    epoch_us: timeMs * 1000 + random.below(1000),
  }[format];
  return event;
}

function jsonValue(random: Random, field: FieldNode): unknown {
  if (field.type.kind === "list") {
    const { element } = field.type;
    return Array.from({ length: random.below(3) }, () => scalarValue(random, element));
  }
  if (field.oneOf !== undefined) return random.pick(field.oneOf);
  const type = SCALARS.find(({ kind }) => kind === field.type.kind)!;
  return scalarValue(random, type);
}

function scalarValue(random: Random, type: ScalarType): unknown {
  const value = literal(random, type);
  if (type.kind === "timestamp") return new Date(Number(value)).toISOString();
  return type.kind === "bigint" || type.kind === "decimal" ? Number(value) : value;
}

const BREAKS: readonly ((event: Record<string, unknown>) => unknown)[] = [
  (event) => ({ ...event, at: undefined }),
  (event) => ({ ...event, at: null }),
  (event) => ({ ...event, at: true }),
  (event) => ({ ...event, at: "2199-01-01T00:00:00Z" }),
  (event) => ({ ...event, at: 7_226_582_400_000 }),
  (event) => ({ ...event, id: 0.5 }),
  (event) => ({ ...event, id: 1e19 }),
  (event) => ({ ...event, who: 5 }),
  (event) => ({ ...event, body: 5 }),
  (event) => ({ ...event, padding: "x".repeat(150) }),
  (event) => [event],
];

/** What an event is turned into, or how its text is damaged. */
function broken(random: Random, event: Record<string, unknown>, text: string): string {
  return random.pick<() => string>([
    () => JSON.stringify(random.pick(BREAKS)(event)),
    () => JSON.stringify(random.pick(BREAKS)(event)),
    () => text.slice(0, random.below(text.length)),
    () => text.replace("{", '{"who":"twice",'),
    () => text.replace(/}$/, ",}"),
    () => text.replace(/}$/, ',"z":NaN}'),
    () => text.replace(/}$/, ',"z":"NaN,}"}'),
    () => text.replace(/}$/, `,"z":${"[".repeat(130)}${"]".repeat(130)}}`),
    () => text.replace(/}$/, `,"z":${"[{},".repeat(100)}1${"]".repeat(100)}}`),
    () => `\uFEFF${text}`,
    () => ` ${text}\t`,
  ])();
}

export function randomCase(random: Random): RandomCase {
  const stream = randomStream(random);
  const tables: TableNode[] = [];
  for (let i = random.between(1, 3); i > 0; i--) {
    const table = accepted(() => randomTable(random, stream, `t${i}`));
    if (table !== null) tables.push(table);
  }
  const plan: LogPlan = {
    tickMs: random.pick([1, 100, 1_000]),
    keys: random.pick([1, 2, 6]),
    disorder: random.pick([0, 0.2, 0.6]),
    late: random.pick([0, 0.05, 0.3]),
    duplicates: random.pick([0, 0.05, 0.3]),
    broken: random.pick([0, 0.03, 0.2]),
  };
  const logs = Array.from({ length: random.pick([1, 1, 2, 3, 5]) }, (_, partition) =>
    randomLog(random, stream, partition, plan),
  );
  const definition = {
    version: 1 as const,
    name: "random",
    parameters: [],
    streams: [stream],
    references: [],
    tables,
    sinks: [{ kind: "duckdb" as const }],
  };
  return {
    pipeline: { kind: "pipeline", definition, functions: new Map(), file: undefined },
    logs,
  };
}
