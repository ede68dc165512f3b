/** What a random pipeline's definition makes use of, so that a test can say what it has tried. */
import type {
  ExprNode,
  FieldNode,
  PipelineDefinition,
  StepNode,
  StreamNode,
  TableNode,
} from "../../../lib/define/definition.js";
import { AGGREGATES } from "./random-pipelines.js";

const OPERATORS =
  "eq ne lt lte gt gte and or not isNull isNotNull coalesce if in add sub mul div mod neg abs " +
  "round floor ceil lower upper trim length concat startsWith endsWith contains substring " +
  "toString toDouble toBigint truncate extract addMs diffMs listLength listContains";
const SCALARS = "string boolean int bigint double decimal timestamp".split(" ");
const REASONS =
  "malformed missing_field wrong_type out_of_range failed_check oversize event_time_in_future";

const each = (what: string, names: readonly string[]) => names.map((name) => `${what} ${name}`);

/** All that thousands of random pipelines must have met. */
export const ALL_FEATURES: readonly string[] = [
  ...each("operator", OPERATORS.split(" ")),
  ...each("aggregate", AGGREGATES),
  ...each("filtered aggregate", AGGREGATES),
  ...each("field", [...SCALARS, ...each("list of", SCALARS)]),
  ...each("field", ["nullable", "default", "oneOf", "check", "nested"]),
  ...each("event time in", ["iso", "epoch_s", "epoch_ms", "epoch_us", "iso without offset"]),
  ...each("step", ["filter", "derive", "select", "map", "left enrich", "inner enrich"]),
  ...each("window", ["tumbling", "tumbling with offset", "sliding", "sliding with offset"]),
  ...each("window", ["session", "none"]),
  ...each("grouped by", [...SCALARS.filter((kind) => kind !== "double"), "nothing"]),
  ...each("lateness", ["none", "some"]),
  ...each("dedup", ["none", "default", "within"]),
  ...each("emit", ["final", "updates"]),
  ...each("reviseFor", ["short", "long"]),
  ...each("streams", ["1", "2"]),
  ...each("partitions", ["1", "2", "3", "5"]),
  ...each("dead letter", REASONS.split(" ")),
  // Rows that are withdrawn again are too rare to wait for; equality-sessions.test.ts has them.
  ...each("met", ["late", "duplicate", "revision", "too late to revise"]),
];

export function* featuresOf({ streams, tables }: PipelineDefinition): Generator<string> {
  yield `streams ${streams.length}`;
  for (const stream of streams) yield* streamFeatures(stream);
  for (const table of tables) yield* tableFeatures(table);
}

function* streamFeatures(stream: StreamNode): Generator<string> {
  yield `lateness ${stream.latenessMs === 0 ? "none" : "some"}`;
  const { dedup } = stream;
  if (dedup === undefined) yield "dedup none";
  else yield `dedup ${dedup.withinMs === undefined ? "default" : "within"}`;
  for (const field of stream.fields) {
    if (field.name !== stream.eventTime) yield* fieldFeatures(field);
    else {
      const { kind, withoutOffset } = field.format ?? { kind: "iso" };
      yield `event time in ${kind}${withoutOffset === undefined ? "" : " without offset"}`;
    }
  }
}

function* fieldFeatures({ type, path, ...field }: FieldNode): Generator<string> {
  yield `field ${type.kind === "list" ? `list of ${type.element.kind}` : type.kind}`;
  if (path.length > 1) yield "field nested";
  if (field.nullable) yield "field nullable";
  if (field.default !== undefined) yield "field default";
  if (field.oneOf !== undefined) yield "field oneOf";
  if (field.checks.length > 0) yield "field check";
  for (const check of field.checks) yield* operatorsOf(check);
}

function* tableFeatures({ steps, shape, emit, reviseForMs, columns }: TableNode) {
  yield `emit ${emit.kind}`;
  yield `reviseFor ${reviseForMs < 3_600_000 ? "short" : "long"}`;
  for (const step of steps) yield* stepFeatures(step);
  if (shape.kind === "rows") {
    yield "window none";
    return;
  }
  const { window, groupBy, aggregates } = shape;
  if (window.kind === "session") yield "window session";
  else {
    const kind = window.everyMs === window.sizeMs ? "tumbling" : "sliding";
    yield `window ${kind}${window.offsetMs === 0 ? "" : " with offset"}`;
  }
  if (groupBy.length === 0) yield "grouped by nothing";
  for (const { name, type } of columns) {
    if (groupBy.includes(name)) yield `grouped by ${type.kind}`;
  }
  for (const { fn, arg, filter } of aggregates) {
    yield `aggregate ${fn}`;
    if (filter !== undefined) yield `filtered aggregate ${fn}`;
    for (const expression of [arg, filter]) {
      if (expression !== undefined) yield* operatorsOf(expression);
    }
  }
}

function* stepFeatures(step: StepNode): Generator<string> {
  yield `step ${step.kind === "enrich" ? `${step.join} enrich` : step.kind}`;
  if (step.kind === "filter") yield* operatorsOf(step.predicate);
  if (step.kind === "derive") for (const { expr } of step.columns) yield* operatorsOf(expr);
}

function* operatorsOf(node: ExprNode): Generator<string> {
  if (node.op === "column" || node.op === "literal") return;
  yield `operator ${node.op}`;
  for (const arg of node.args) yield* operatorsOf(arg);
}
