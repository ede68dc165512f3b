/** Aggregates: what a group of events becomes. An argument is a column's name or an expression. */

import type { AggregateFunction, AggregateNode, ColumnNode, ColumnType } from "./definition.js";
import { DefinitionError } from "./definition-error.js";
import { expressionType, isNumeric, isScalar, typeName } from "./expression-types.js";
import {
  type BooleanExpr,
  type Columns,
  type Expression,
  type Exprs,
  evaluated,
  expressionsOver,
  type Kind,
  type NumericKind,
  predicate,
  type ScalarKind,
} from "./expressions.js";
import { checkOptions } from "./options.js";

declare const OVER: unique symbol;

/** An aggregate over events with (at least) the columns `C`. */
export interface Aggregate<C> {
  readonly [OVER]?: (columns: C) => void;
  readonly parts: AggregateParts;
}

interface AggregateParts {
  readonly fn: AggregateFunction;
  readonly argument?: unknown;
  readonly options?: unknown;
  readonly q?: number;
  readonly k?: number;
}

export interface AggregateOptions<C> {
  /** Only events for which this is true take part. */
  readonly where?: (e: Exprs<C>) => BooleanExpr;
}

type NamesOf<C, K extends Kind> = {
  [P in keyof C]: C[P] extends { readonly kind: infer A } ? ([A] extends [K] ? P : never) : never;
}[keyof C];
/** A column's name, or an expression over the columns. */
type Argument<C, K extends Kind> = NamesOf<C, K> | ((e: Exprs<C>) => Expression<K>);
type OrderedKind = NumericKind | "timestamp" | "string";

/** How many events. */
export const count = <C = Columns>(options?: AggregateOptions<C>): Aggregate<C> => ({
  parts: { fn: "count", options },
});

const unary =
  <K extends Kind>(fn: AggregateFunction) =>
  <C = Columns>(argument: Argument<C, K>, options?: AggregateOptions<C>): Aggregate<C> => ({
    parts: { fn, argument, options },
  });

export const sum = unary<NumericKind>("sum");
export const avg = unary<NumericKind>("avg");
export const min = unary<OrderedKind>("min");
export const max = unary<OrderedKind>("max");
/** Of the event with the earliest event time. */
export const first = unary<ScalarKind>("first");
export const last = unary<ScalarKind>("last");
/** Of the sample: null below two values. */
export const variance = unary<NumericKind>("variance");
export const stddev = unary<NumericKind>("stddev");
export const countDistinct = unary<ScalarKind>("countDistinct");
/** HyperLogLog. */
export const approxCountDistinct = unary<ScalarKind>("approxCountDistinct");

/** DDSketch: `q` in [0, 1]. */
export const quantile = <C = Columns>(
  argument: Argument<C, NumericKind>,
  q: number,
  options?: AggregateOptions<C>,
): Aggregate<C> => ({ parts: { fn: "quantile", argument, q, options } });

/** The `k` most frequent values. */
export const topK = <C = Columns>(
  argument: Argument<C, ScalarKind>,
  k: number,
  options?: AggregateOptions<C>,
): Aggregate<C> => ({ parts: { fn: "topK", argument, k, options } });

const TOP_K_MAX = 1_000;

/** Evaluates an aggregate's callbacks over the table's columns. */
export function aggregateNode(
  name: string,
  aggregate: { readonly parts: AggregateParts },
  columns: ReadonlyMap<string, ColumnNode>,
  where: string,
): AggregateNode {
  if (typeof aggregate?.parts?.fn !== "string") {
    throw new DefinitionError(`"${name}" is no aggregate; use one, like count()`, { column: name });
  }
  const { fn, argument, options, q, k } = aggregate.parts;
  const filter = options === undefined ? undefined : whereOf(`${fn} of "${name}"`, options);
  const e = expressionsOver(columns, where) as Readonly<Record<string, unknown>>;
  const call = (given: unknown): unknown => (typeof given === "function" ? given(e) : given);
  const argumentValue = typeof argument === "string" ? e[argument] : call(argument);
  const node: AggregateNode = {
    name,
    fn,
    ...(fn !== "count" && { arg: evaluated(argumentValue, `${fn} of "${name}"`).node }),
    ...(filter !== undefined && { filter: predicate(call(filter), `where of "${name}"`) }),
    ...(q !== undefined && { q }),
    ...(k !== undefined && { k }),
  };
  if (fn === "quantile" && !(typeof q === "number" && q >= 0 && q <= 1)) {
    throw new DefinitionError(`quantile "${name}" has q = ${q}; give a number from 0 to 1`);
  }
  if (fn === "topK" && !(Number.isInteger(k) && k! >= 1 && k! <= TOP_K_MAX)) {
    throw new DefinitionError(
      `topK "${name}" has k = ${k}; give a whole number, 1 to ${TOP_K_MAX}`,
    );
  }
  return node;
}

function whereOf(what: string, options: unknown): unknown {
  checkOptions(what, options, { where: true });
  return "where" in options ? options.where : undefined;
}

/** The result column of an aggregate. */
export function aggregateColumn(
  node: AggregateNode,
  columns: ReadonlyMap<string, ColumnNode>,
): ColumnNode {
  const { name, fn } = node;
  if (node.arg === undefined) return { name, type: { kind: "bigint" }, nullable: false };
  const { type } = expressionType(node.arg, columns);
  checkArgument(node, type);
  switch (fn) {
    case "countDistinct":
    case "approxCountDistinct":
      return { name, type: { kind: "bigint" }, nullable: false };
    case "sum":
      return { name, type: sumType(type), nullable: true };
    case "min":
    case "max":
    case "first":
    case "last":
      return { name, type, nullable: true };
    case "topK":
      if (!isScalar(type)) throw new DefinitionError(`topK of ${typeName(type)}`);
      return { name, type: { kind: "topK", value: type as never }, nullable: true };
    default:
      return { name, type: { kind: "double" }, nullable: true };
  }
}

function sumType(type: ColumnType): ColumnType {
  if (type.kind === "decimal") return { kind: "decimal", precision: 18, scale: type.scale };
  return type.kind === "double" ? type : { kind: "bigint" };
}

function checkArgument({ name, fn, arg }: AggregateNode, type: ColumnType): void {
  const ordered = isNumeric(type) || type.kind === "timestamp" || type.kind === "string";
  const [fits, wanted] = ["sum", "avg", "variance", "stddev", "quantile"].includes(fn)
    ? [isNumeric(type), "a number"]
    : fn === "min" || fn === "max"
      ? [ordered, "a number, timestamp or string"]
      : [isScalar(type), "a scalar"];
  if (fits) return;
  const what = arg?.op === "column" ? `column "${arg.name}"` : "an expression";
  throw new DefinitionError(
    `aggregate "${name}" takes the ${fn} of ${what}, which is ${typeName(type)}; give ${wanted}`,
    { column: arg?.op === "column" ? arg.name : name },
  );
}
