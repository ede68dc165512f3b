/** A random pipeline over random streams, and its logs: small, but of every kind. */
import { createHash } from "node:crypto";
import { aggregateColumn } from "../../../lib/define/aggregates.js";
import type {
  AggregateFunction,
  AggregateNode,
  ColumnNode,
  ExprNode,
  FieldNode,
  MapFunction,
  Pipeline,
  ReferenceNode,
  StepNode,
  StreamNode,
  TableNode,
  TimestampFormat,
  WindowNode,
} from "../../../lib/define/definition.js";
import { DefinitionError } from "../../../lib/define/definition-error.js";
import { checkPredicate } from "../../../lib/define/expression-types.js";
import { fromJson, toJson } from "../../../lib/define/json.js";
import { afterStep, resultColumns, type Scope, streamScope } from "../../../lib/define/scope.js";
import type { Random } from "./random.js";
import { CHOICES, Expressions, literal, randomScalar } from "./random-expressions.js";
import { type RandomRecord, randomLog, randomPlan } from "./random-records.js";

export interface RandomCase {
  readonly pipeline: Pipeline;
  /** By topic, then by partition. */
  readonly logs: ReadonlyMap<string, readonly (readonly RandomRecord[])[]>;
}

const DAY_MS = 86_400_000;
/** Midnight at the end of a month, and the time before 1970, where a remainder is negative. */
const STARTS = ["2026-02-28T23:58:00Z", "2026-02-28T23:58:00Z", "1969-12-31T23:58:00Z"];
const KEPT = ["at", "who", "id"];

const randomFormat = (random: Random): TimestampFormat => {
  const kind = random.pick(["iso", "iso", "epoch_ms", "epoch_s", "epoch_us"] as const);
  return kind === "iso" && random.chance(0.3) ? { kind, withoutOffset: "utc" } : { kind };
};

function randomField(random: Random, i: number, startMs: number): FieldNode {
  const type = random.pick([
    randomScalar(random),
    randomScalar(random),
    { kind: "string" },
  ] as const);
  const name = `${random.pick(["a", "Total", "b_"])}${i}`;
  const key = random.pick([name, `two words ${i}`, `é${i}`, `a.b/~${i}`]);
  const under = random.chance(0.3)
    ? random.pick([["body"], ["body", "deep er"], ["body", "deep er", "est"], ["other"]])
    : [];
  const isList = random.chance(0.15);
  const isOneOf = !isList && type.kind === "string" && random.chance(0.3);
  const hasDefault = !isList && random.chance(0.2);
  const fallback = isOneOf ? random.pick(CHOICES) : literal(random, type, startMs);
  return {
    name,
    type: isList ? { kind: "list", element: type } : type,
    path: [...under, key],
    nullable: random.chance(0.4),
    ...(hasDefault && { default: fallback }),
    ...(isOneOf && { oneOf: CHOICES }),
    ...(type.kind === "timestamp" && { format: randomFormat(random) }),
    checks: [],
  };
}

/** Most values pass: a record fails for being small, or for one value of many. */
function randomCheck(random: Random, field: FieldNode, startMs: number): ExprNode[] {
  const { name, type } = field;
  if (type.kind === "list" || type.kind === "topK" || type.kind === "bytes") return [];
  if (!random.chance(0.25)) return [];
  const column: ExprNode = { op: "column", name };
  const columns = new Map([[name, field]]);
  const value = field.oneOf?.[0] ?? literal(random, type, startMs);
  if (!random.chance(0.3)) return [{ op: "ne", args: [column, { op: "literal", type, value }] }];
  const check = accepted(() => {
    const node = new Expressions(random, columns, startMs).of("boolean", 1);
    checkPredicate(node, columns, "check");
    return node;
  });
  return check === undefined ? [] : [check];
}

function randomStream(random: Random, name: string, startMs: number): StreamNode {
  const fields = Array.from({ length: random.between(1, 5) }, (_, i) =>
    randomField(random, i, startMs),
  ).map((field) => ({ ...field, checks: randomCheck(random, field, startMs) }));
  const plain = { nullable: false, checks: [] };
  const own: FieldNode[] = [
    { name: "id", type: { kind: "bigint" }, path: ["id"], ...plain },
    { name: "who", type: { kind: "string" }, path: ["who"], ...plain },
    {
      name: "at",
      type: { kind: "timestamp" },
      path: ["at"],
      format: randomFormat(random),
      ...plain,
    },
  ];
  const dedup = random.pick(["none", "none", "default", 0, 500, 10_000] as const);
  return {
    name,
    fields: [...fields, ...own],
    key: "who",
    eventTime: "at",
    latenessMs: random.pick([0, 1, 700, 5_000, 60_000, 60_000]),
    maxAheadMs: random.pick([3_600_000, 60_000, 5_000]),
    idleAfterMs: 60_000,
    maxRecordBytes: random.pick([100_000, 100_000, 120]),
    ...(dedup !== "none" && {
      dedup: dedup === "default" ? { id: "id" } : { id: "id", withinMs: dedup },
    }),
  };
}

/** Undefined when the definition's own rules refuse it: an operator over types it does not take. */
function accepted<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof DefinitionError) return undefined;
    throw error;
  }
}

/** What a definition's `map` steps run: some rows go, one column is computed. */
const trebled: MapFunction = (row) =>
  (row.id as bigint) % 5n === 3n
    ? null
    : {
        who: row.who,
        id: row.id,
        at: row.at,
        trebled: (row.id as bigint) * 3n,
        said: (row.id as bigint) % 2n === 0n ? null : `${String(row.who)}!`,
      };
const TREBLED: readonly ColumnNode[] = [
  { name: "who", type: { kind: "string" }, nullable: false },
  { name: "id", type: { kind: "bigint" }, nullable: false },
  { name: "at", type: { kind: "timestamp" }, nullable: false },
  { name: "trebled", type: { kind: "bigint" }, nullable: false },
  { name: "said", type: { kind: "string" }, nullable: true },
];
const TREBLED_HASH = createHash("sha256").update(trebled.toString()).digest("hex");

class TableMaker {
  private scope: Scope;
  private readonly steps: StepNode[] = [];

  constructor(
    private readonly random: Random,
    private readonly stream: StreamNode,
    private readonly references: readonly ReferenceNode[],
    private readonly startMs: number,
  ) {
    this.scope = streamScope(stream);
  }

  table(name: string): TableNode {
    const { random, stream } = this;
    for (let i = random.below(4); i > 0; i--) this.addStep(i);
    const isRows = random.chance(0.2);
    const shape = isRows ? ({ kind: "rows" } as const) : this.windowed();
    const columns = resultColumns(shape, this.scope, stream);
    return {
      name,
      stream: stream.name,
      steps: this.steps,
      shape,
      emit: random.chance(0.3) ? { kind: "updates", everyMs: 1000 } : { kind: "final" },
      reviseForMs: random.chance(0.4) ? random.pick([0, 1, 10_000]) : DAY_MS,
      columns,
    };
  }

  private expressions(): Expressions {
    return new Expressions(this.random, this.scope.columns, this.startMs);
  }

  private addStep(i: number): void {
    const references = new Map(this.references.map((node) => [node.name, node]));
    const step = this.step(i);
    const scope = step && accepted(() => afterStep(step, this.scope, references));
    if (step === undefined || scope === undefined) return;
    this.steps.push(step);
    this.scope = scope;
  }

  private step(i: number): StepNode | undefined {
    const { random } = this;
    const kinds = ["filter", "filter", "derive", "derive", "select", "enrich", "enrich", "map"];
    switch (random.pick(kinds)) {
      case "filter": {
        const predicate = accepted(() => this.expressions().of("boolean", 2));
        return predicate && { kind: "filter", predicate };
      }
      case "derive": {
        const kind = random.pick(["number", "string", "timestamp", "boolean"] as const);
        const expr = accepted(() => this.expressions().of(kind, 2));
        return (
          expr && { kind: "derive", columns: [{ name: random.pick(["d1", "d2", "a0"]), expr }] }
        );
      }
      case "select": {
        const names = [...this.scope.columns.keys()];
        const left = names.filter((name) => KEPT.includes(name) || random.chance(0.7));
        const renamed = (name: string) =>
          KEPT.includes(name) || random.chance(0.8) ? name : `${name}_${i}`;
        return { kind: "select", columns: left.map((from) => ({ name: renamed(from), from })) };
      }
      case "enrich":
        return this.enrich(i);
      default:
        if (!random.chance(0.5)) return undefined;
        return { kind: "map", name: `map${i}`, sourceHash: TREBLED_HASH, output: TREBLED };
    }
  }

  private enrich(i: number): StepNode | undefined {
    const { random } = this;
    const reference = random.pick(this.references);
    const keys = reference.columns.filter(({ name }) => name.startsWith("key"));
    const on = keys.map(({ name: referenceColumn, type }) => {
      const alike = [...this.scope.columns.values()].filter((c) => c.type.kind === type.kind);
      return alike.length === 0 ? undefined : { column: random.pick(alike).name, referenceColumn };
    });
    const pairs = on.filter((pair) => pair !== undefined);
    if (pairs.length < keys.length) return undefined;
    const columns = random
      .some(reference.columns, 3)
      .map(({ name: from }) => ({ name: `${from}_of${i}`, from }));
    const join = random.pick(["left", "left", "inner"] as const);
    return { kind: "enrich", reference: reference.name, on: pairs, columns, join };
  }

  private windowed(): TableNode["shape"] {
    const { random } = this;
    const key = this.stream.key!;
    const maySession = this.scope.original.has(key);
    const window = randomWindow(random, maySession);
    const groupable = [...this.scope.columns.values()].filter(
      ({ name, type }) => name !== key && !["double", "list", "topK"].includes(type.kind),
    );
    const groups = random.chance(0.6) ? random.some(groupable, 2).map(({ name }) => name) : [];
    const groupBy = window.kind === "session" ? [key, ...groups.slice(0, 1)] : groups;
    const aggregates = Array.from({ length: random.between(1, 4) }, (_, i) =>
      accepted(() => this.aggregate(i)),
    ).filter((aggregate) => aggregate !== undefined);
    if (aggregates.length === 0) aggregates.push({ name: "r0", fn: "count" });
    return { kind: "windowed", window, groupBy, aggregates };
  }

  private aggregate(i: number): AggregateNode {
    const { random } = this;
    const fn = random.pick(AGGREGATES);
    const numeric = ["sum", "avg", "variance", "stddev", "quantile"].includes(fn);
    const kind = numeric
      ? "number"
      : random.pick(["number", "string", "timestamp", "boolean"] as const);
    const expressions = this.expressions();
    const node: AggregateNode = {
      name: `r${i}`,
      fn,
      ...(fn !== "count" && { arg: expressions.of(kind, random.pick([0, 1, 1])) }),
      ...(random.chance(0.3) && { filter: expressions.of("boolean", 1) }),
      ...(fn === "quantile" && { q: random.pick([0, 0.5, 0.95, 1]) }),
      ...(fn === "topK" && { k: random.between(1, 3) }),
    };
    aggregateColumn(node, this.scope.columns);
    return node;
  }
}

function randomWindow(random: Random, maySession: boolean): WindowNode {
  if (maySession && random.chance(0.35)) {
    return { kind: "session", gapMs: random.pick([1, 300, 700, 1_000, 2_000, 30_000]) };
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

export const AGGREGATES: readonly AggregateFunction[] = [
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

/** Enriches from some of the `references`, whose key columns are named `key…`. */
export function randomCase(random: Random, references: readonly ReferenceNode[]): RandomCase {
  const startMs = Date.parse(random.pick(STARTS));
  const topics = random.chance(0.3) ? ["events", "more"] : ["events"];
  const streams = topics.map((topic) => randomStream(random, topic, startMs));
  const tables = Array.from({ length: random.between(1, 3) }, (_, i) => {
    const stream = random.pick(streams);
    return accepted(() => new TableMaker(random, stream, references, startMs).table(`t${i}`));
  }).filter((table) => table !== undefined);
  const enriching = tables.flatMap(({ steps }) =>
    steps.flatMap((step) => (step.kind === "enrich" ? [step.reference] : [])),
  );
  const maps = tables.flatMap((table) =>
    table.steps.flatMap((step) => (step.kind === "map" ? [`${table.name}/${step.name}`] : [])),
  );
  const definition = {
    version: 1 as const,
    name: "random",
    parameters: [],
    streams,
    references: references.filter(({ name }) => enriching.includes(name)),
    tables,
    sinks: [{ kind: "duckdb" as const }],
  };
  const plan = randomPlan(random, startMs);
  const logs = streams.map((stream): [string, RandomRecord[][]] => [
    stream.name,
    Array.from({ length: random.pick([1, 1, 2, 3, 5]) }, (_, partition) =>
      randomLog(random, stream, partition, plan),
    ),
  ]);
  // Through JSON: the definition's own rules see all of it.
  const pipeline = fromJson(toJson(definition), new Map(maps.map((name) => [name, trebled])));
  return { pipeline, logs: new Map(logs) };
}
