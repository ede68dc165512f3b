/**
 * Typed expressions, as callbacks get them: `e.page.eq("home")`. They only build `ExprNode`s; the
 * rules are in `expression-types.ts`, and are applied as each expression is built.
 */

import type { ColumnType, ExprNode, Operator, ScalarType } from "./definition.js";
import { DefinitionError } from "./definition-error.js";
import {
  isNumeric,
  type NamedColumn,
  operatorType,
  type TypedColumn,
  typeName,
  unknownColumn,
} from "./expression-types.js";

export type NumericKind = "int" | "bigint" | "double" | "decimal";
export type ScalarKind = ScalarType["kind"];
export type Kind = ScalarKind | "list";

/** A column as TypeScript sees it: its kind, and its value as `map` gets it. */
export interface Col<K extends Kind = Kind, V = unknown> {
  readonly kind: K;
  readonly value: V;
}
export type Columns = { readonly [name: string]: Col };

declare const KIND: unique symbol;

/** An expression of one kind. */
export interface Expression<K extends Kind = Kind> {
  readonly [KIND]: K;
  readonly node: ExprNode;
  isNull(): BooleanExpr;
  isNotNull(): BooleanExpr;
}

interface Comparable<K extends Kind, V> extends Expression<K> {
  eq(other: V): BooleanExpr;
  ne(other: V): BooleanExpr;
  in(...others: V[]): BooleanExpr;
}

interface Ordered<K extends Kind, V> extends Comparable<K, V> {
  lt(other: V): BooleanExpr;
  lte(other: V): BooleanExpr;
  gt(other: V): BooleanExpr;
  gte(other: V): BooleanExpr;
  /** Both ends included. */
  between(low: V, high: V): BooleanExpr;
}

type Text = string | Expression<"string">;
type Numeric = number | bigint | string | Expression<NumericKind>;
type Number_<K> = "decimal" extends K ? Numeric : Exclude<Numeric, string>;
type Truth = boolean | Expression<"boolean">;
type Instant = Date | Expression<"timestamp">;
type Whole = number | bigint | Expression<"int" | "bigint">;

export interface StringExpr<V extends string = string>
  extends Ordered<"string", V | Expression<"string">> {
  coalesce(...others: Text[]): StringExpr;
  lower(): StringExpr;
  upper(): StringExpr;
  trim(): StringExpr;
  /** In characters (code points). */
  length(): NumericExpr<"bigint">;
  concat(...others: Text[]): StringExpr;
  startsWith(other: Text): BooleanExpr;
  endsWith(other: Text): BooleanExpr;
  contains(other: Text): BooleanExpr;
  /** The first character has position 1. */
  substring(start: Whole, length?: Whole): StringExpr;
  /** Null where the text is not a number. */
  toDouble(): NumericExpr<"double">;
  toBigint(): NumericExpr<"bigint">;
}

type Result<K> = K extends "int" ? "bigint" : K;

export interface NumericExpr<K extends NumericKind = NumericKind> extends Ordered<K, Number_<K>> {
  coalesce(...others: Number_<K>[]): NumericExpr;
  add(other: Number_<K>): NumericExpr;
  sub(other: Number_<K>): NumericExpr;
  mul(other: Number_<K>): NumericExpr;
  /** Null where `other` is zero. */
  div(other: Number_<K>): NumericExpr<"double">;
  mod(other: Number_<K>): NumericExpr;
  neg(): NumericExpr<Extract<Result<K>, NumericKind>>;
  abs(): NumericExpr<Extract<Result<K>, NumericKind>>;
  round(): NumericExpr<"double">;
  floor(): NumericExpr<"double">;
  ceil(): NumericExpr<"double">;
  toText(): StringExpr;
  toDouble(): NumericExpr<"double">;
  toBigint(): NumericExpr<"bigint">;
}

export interface BooleanExpr extends Comparable<"boolean", Truth> {
  and(...others: Truth[]): BooleanExpr;
  or(...others: Truth[]): BooleanExpr;
  not(): BooleanExpr;
  coalesce(...others: Truth[]): BooleanExpr;
  toText(): StringExpr;
}

export interface TimestampExpr extends Ordered<"timestamp", Instant> {
  coalesce(...others: Instant[]): TimestampExpr;
  /** In UTC, as `extract` too. */
  truncate(unit: "minute" | "hour" | "day" | "month" | "year"): TimestampExpr;
  /** dayOfWeek: Sunday is 0. */
  extract(unit: "minute" | "hour" | "day" | "dayOfWeek" | "month" | "year"): NumericExpr<"int">;
  plus(durationMs: Whole): TimestampExpr;
  /** This minus `other`, in milliseconds. */
  minus(other: Instant): NumericExpr<"bigint">;
  toText(): StringExpr;
}

export interface ListExpr extends Expression<"list"> {
  listLength(): NumericExpr<"bigint">;
  listContains(value: Value): BooleanExpr;
}

export type Value = string | number | bigint | boolean | Date | Expression;

/** The expression interface of a kind. */
export type ExprOf<K, V = unknown> = [K] extends ["string"]
  ? StringExpr<Extract<NonNullable<V>, string> extends never ? string : Extract<V, string>>
  : [K] extends ["boolean"]
    ? BooleanExpr
    : [K] extends ["timestamp"]
      ? TimestampExpr
      : [K] extends [NumericKind]
        ? NumericExpr<K>
        : ListExpr;

/** One expression per column. */
export type Exprs<C> = {
  readonly [P in keyof C]: C[P] extends Col<infer K, infer V> ? ExprOf<K, V> : never;
};

/**
 * All kinds in one class; the interfaces above show each kind's methods, `typeOf` refuses the rest.
 */
class AnyExpression {
  readonly node: ExprNode;
  readonly typed: TypedColumn;

  constructor(node: ExprNode, typed: TypedColumn) {
    this.node = node;
    this.typed = typed;
  }

  #apply(op: Operator, others: readonly Value[] = [], unit?: string): AnyExpression {
    const args = [this, ...others.map((other) => operand(other, this.typed.type))];
    return build(op, args, unit);
  }

  eq = (other: Value) => this.#apply("eq", [other]);
  ne = (other: Value) => this.#apply("ne", [other]);
  lt = (other: Value) => this.#apply("lt", [other]);
  lte = (other: Value) => this.#apply("lte", [other]);
  gt = (other: Value) => this.#apply("gt", [other]);
  gte = (other: Value) => this.#apply("gte", [other]);
  in = (...others: Value[]) => this.#apply("in", others);
  between = (low: Value, high: Value) => build("and", [this.gte(low), this.lte(high)]);
  and = (...others: Value[]) => this.#apply("and", others);
  or = (...others: Value[]) => this.#apply("or", others);
  not = () => this.#apply("not");
  isNull = () => this.#apply("isNull");
  isNotNull = () => this.#apply("isNotNull");
  coalesce = (...others: Value[]) => this.#apply("coalesce", others);
  add = (other: Value) => this.#apply("add", [other]);
  sub = (other: Value) => this.#apply("sub", [other]);
  mul = (other: Value) => this.#apply("mul", [other]);
  div = (other: Value) => this.#apply("div", [other]);
  mod = (other: Value) => this.#apply("mod", [other]);
  neg = () => this.#apply("neg");
  abs = () => this.#apply("abs");
  round = () => this.#apply("round");
  floor = () => this.#apply("floor");
  ceil = () => this.#apply("ceil");
  lower = () => this.#apply("lower");
  upper = () => this.#apply("upper");
  trim = () => this.#apply("trim");
  length = () => this.#apply("length");
  concat = (...others: Value[]) => this.#apply("concat", others);
  startsWith = (other: Value) => this.#apply("startsWith", [other]);
  endsWith = (other: Value) => this.#apply("endsWith", [other]);
  contains = (other: Value) => this.#apply("contains", [other]);
  toText = () => this.#apply("toString");
  toDouble = () => this.#apply("toDouble");
  toBigint = () => this.#apply("toBigint");
  truncate = (unit: string) => this.#apply("truncate", [], unit);
  extract = (unit: string) => this.#apply("extract", [], unit);
  plus = (durationMs: Value) => build("addMs", [this, operand(durationMs, { kind: "bigint" })]);
  minus = (other: Value) => this.#apply("diffMs", [other]);
  listLength = () => this.#apply("listLength");
  listContains = (value: Value) => {
    const { type } = this.typed;
    return build("listContains", [
      this,
      operand(value, type.kind === "list" ? type.element : type),
    ]);
  };
  substring = (start: Value, length?: Value) => {
    const numbers = length === undefined ? [start] : [start, length];
    return build("substring", [this, ...numbers.map((n) => operand(n, { kind: "bigint" }))]);
  };
}

function build(op: Operator, args: readonly AnyExpression[], unit?: string): AnyExpression {
  const node = { op, args: args.map((arg) => arg.node), ...(unit !== undefined && { unit }) };
  const typed = operatorType(
    node as Extract<ExprNode, { op: Operator }>,
    args.map((a) => a.typed),
  );
  return new AnyExpression(Object.freeze(node) as ExprNode, typed);
}

function operand(value: unknown, like: ColumnType): AnyExpression {
  if (value instanceof AnyExpression) return value;
  const node = literalNode(value, like);
  return new AnyExpression(node, { type: node.type, nullable: false });
}

type LiteralNode = Extract<ExprNode, { op: "literal" }>;

/** A plain value as a literal that goes with a column of type `like`. */
export function literalNode(value: unknown, like?: ColumnType): LiteralNode {
  const kind = like === undefined ? undefined : like.kind;
  if (value instanceof Date && Number.isFinite(value.getTime())) {
    return { op: "literal", type: { kind: "timestamp" }, value: value.getTime() };
  }
  if (typeof value === "boolean") return { op: "literal", type: { kind: "boolean" }, value };
  if (kind === "decimal" && /^(string|number|bigint)$/.test(typeof value)) {
    return decimalLiteral(String(value));
  }
  if (typeof value === "string") return { op: "literal", type: { kind: "string" }, value };
  if (typeof value === "bigint" && BigInt.asIntN(64, value) === value) {
    return { op: "literal", type: { kind: "bigint" }, value: String(value) };
  }
  if (typeof value === "number" && Number.isFinite(value)) {
    if (kind === "double" || !Number.isSafeInteger(value)) {
      return { op: "literal", type: { kind: "double" }, value: value + 0 };
    }
    if ((value | 0) === value) return { op: "literal", type: { kind: "int" }, value: value + 0 };
    return { op: "literal", type: { kind: "bigint" }, value: String(value) };
  }
  throw new DefinitionError(
    `${String(value)} (${value === null ? "null" : typeof value}) cannot be a value in an ` +
      "expression; give a string, boolean, finite number, 64-bit bigint, Date or expression",
  );
}

function decimalLiteral(text: string): LiteralNode {
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
  const digits = match === null ? "" : `${match[2]}${match[3] ?? ""}`.replace(/^0+(?=\d)/, "");
  const scale = match?.[3]?.length ?? 0;
  if (match === null || digits.length > 18 || scale > 18) {
    throw new DefinitionError(
      `"${text}" is no decimal of at most 18 digits; write it in full, like "12.50"`,
    );
  }
  const precision = Math.max(digits.length, scale, 1);
  return { op: "literal", type: { kind: "decimal", precision, scale }, value: text };
}

/** `a` where the condition is true, else `b`. */
export function when<K extends Kind>(
  condition: BooleanExpr,
  a: Expression<K>,
  b: Expression<K> | PlainOf<K>,
): ExprOf<K>;
export function when<K extends Kind>(
  condition: BooleanExpr,
  a: PlainOf<K>,
  b: Expression<K>,
): ExprOf<K>;
export function when(condition: BooleanExpr, a: string, b: string): StringExpr;
export function when(condition: BooleanExpr, a: number, b: number): NumericExpr<"int" | "double">;
export function when(condition: unknown, a: unknown, b: unknown): unknown {
  const like = [a, b].find((value) => value instanceof AnyExpression)?.typed.type;
  const args = [a, b].map((value) => operand(value, like ?? literalNode(value).type));
  return build("if", [operand(condition, { kind: "boolean" }), ...args]);
}

type PlainOf<K> = K extends "string"
  ? string
  : K extends "boolean"
    ? boolean
    : K extends "timestamp"
      ? Date
      : K extends NumericKind
        ? number | bigint
        : never;

/** A constant, for where an expression is needed. */
export function literal(value: string): StringExpr;
export function literal(value: boolean): BooleanExpr;
export function literal(value: Date): TimestampExpr;
export function literal(value: bigint): NumericExpr<"bigint">;
export function literal(value: number): NumericExpr<"int" | "bigint" | "double">;
export function literal(value: unknown): unknown {
  return operand(value, literalNode(value).type);
}

/** The columns a callback sees; a name that is not there is refused with a suggestion. */
export function expressionsOver(columns: ReadonlyMap<string, NamedColumn>, where: string): object {
  return new Proxy(Object.freeze({}), {
    get(_, name) {
      if (typeof name !== "string") return undefined;
      const column = columns.get(name);
      if (column === undefined) throw unknownColumn(name, [...columns.keys()], where);
      return columnExpression(column);
    },
  });
}

export const columnExpression = (column: NamedColumn): unknown =>
  new AnyExpression({ op: "column", name: column.name }, column);

/** What a callback returned, as a node and its type. */
export function evaluated(result: unknown, what: string): TypedColumn & { node: ExprNode } {
  if (result instanceof AnyExpression) return { node: result.node, ...result.typed };
  throw new DefinitionError(
    `${what} gave ${typeof result}, not an expression; build it from the columns, ` +
      'like (e) => e.page.eq("home")',
  );
}

/** What a predicate's callback returned: a boolean expression. */
export function predicate(result: unknown, what: string): ExprNode {
  const { node, type } = evaluated(result, what);
  if (type.kind === "boolean") return node;
  throw new DefinitionError(`${what} gave ${typeName(type)}, not a boolean`);
}

export { isNumeric };
