/** The one place with typing rules: what each operator takes, gives, and when it gives null. */

import type { ColumnNode, ColumnType, ExprNode, Operator } from "./definition.js";
import { DefinitionError, suggestion } from "./definition-error.js";

export interface TypedColumn {
  readonly type: ColumnType;
  readonly nullable: boolean;
  /** All that a `oneOf` column can be. */
  readonly oneOf?: readonly string[] | undefined;
}

/** A column that expressions can name. */
export interface NamedColumn extends ColumnNode, TypedColumn {}

type OperatorNode = Extract<ExprNode, { op: Operator }>;

const DECIMAL_PRECISION_MAX = 18;

/** The type of an expression over `columns`; throws a DefinitionError when it cannot work. */
export function expressionType(
  node: ExprNode,
  columns: ReadonlyMap<string, NamedColumn>,
): TypedColumn {
  if (node.op === "column") {
    const column = columns.get(node.name);
    if (column === undefined) throw unknownColumn(node.name, [...columns.keys()]);
    const { type, nullable, oneOf } = column;
    return oneOf === undefined ? { type, nullable } : { type, nullable, oneOf };
  }
  if (node.op === "literal") return { type: node.type, nullable: node.value === null };
  return operatorType(
    node,
    node.args.map((arg) => expressionType(arg, columns)),
  );
}

/** Refuses what is no boolean. */
export function checkPredicate(
  node: ExprNode,
  columns: ReadonlyMap<string, NamedColumn>,
  what: string,
): void {
  const { type } = expressionType(node, columns);
  if (type.kind !== "boolean") {
    throw new DefinitionError(`${what} gave ${typeName(type)}, not a boolean`);
  }
}

export const unknownColumn = (name: string, known: readonly string[], where = "here") =>
  new DefinitionError(`column "${name}" does not exist ${where}${suggestion(name, known)}`, {
    column: name,
  });

/** The type of one operator over arguments whose types are known. */
export function operatorType(node: OperatorNode, args: readonly TypedColumn[]): TypedColumn {
  checkCount(node.op, args.length);
  const types = args.map((arg) => arg.type);
  const nullable = args.some((arg) => arg.nullable);
  switch (node.op) {
    case "isNull":
    case "isNotNull":
      return { type: { kind: "boolean" }, nullable: false };
    case "coalesce":
      return { type: commonType(node.op, types), nullable: args.every((arg) => arg.nullable) };
    case "if":
      expect(node.op, types[0], "a boolean condition", (t) => t.kind === "boolean");
      return {
        type: commonType(node.op, types.slice(1)),
        nullable: args[1].nullable || args[2].nullable,
      };
    case "add":
    case "sub":
    case "mul":
    case "div":
    case "mod":
      return { type: arithmeticType(node.op, types[0], types[1]), nullable: true };
    default: {
      const type = plainType(node, types);
      checkValues(node, args);
      return { type, nullable: nullable || mayBeNull(node.op, types[0]) };
    }
  }
}

const COMPARING: readonly Operator[] = ["eq", "ne", "lt", "lte", "gt", "gte", "in"];

/** Refuses to compare a `oneOf` column with a text that it can never be. */
function checkValues({ op, args: nodes }: OperatorNode, args: readonly TypedColumn[]): void {
  if (!COMPARING.includes(op)) return;
  for (let i = 1; i < nodes.length; i++) {
    checkValue(op, nodes[0], args[0], nodes[i]);
    checkValue(op, nodes[i], args[i], nodes[0]);
  }
}

function checkValue(op: Operator, node: ExprNode, { oneOf }: TypedColumn, other: ExprNode): void {
  if (oneOf === undefined || node.op !== "column" || other.op !== "literal") return;
  if (typeof other.value !== "string" || oneOf.includes(other.value)) return;
  throw new DefinitionError(
    `${op} compares column "${node.name}" with "${other.value}", which is none of its ` +
      `values${suggestion(other.value, oneOf)}`,
    { column: node.name },
  );
}

/** Operators that give null for some non-null values. */
function mayBeNull(op: Operator, type: ColumnType): boolean {
  switch (op) {
    case "neg":
    case "abs":
      return type.kind === "bigint";
    case "toDouble":
      return type.kind === "string";
    case "toBigint":
      return type.kind !== "int" && type.kind !== "bigint" && type.kind !== "boolean";
    case "addMs":
      return true;
    default:
      return false;
  }
}

function plainType(node: Pick<OperatorNode, "op" | "unit">, types: readonly ColumnType[]) {
  const [first] = types;
  switch (node.op) {
    case "eq":
    case "ne":
    case "lt":
    case "lte":
    case "gt":
    case "gte":
    case "in":
      for (const other of types.slice(1)) checkComparable(node.op, first, other);
      return BOOLEAN;
    case "and":
    case "or":
    case "not":
      for (const type of types) expect(node.op, type, "booleans", (t) => t.kind === "boolean");
      return BOOLEAN;
    case "neg":
    case "abs":
      expect(node.op, first, "a number", isNumeric);
      return first.kind === "int" ? BIGINT : first;
    case "round":
    case "floor":
    case "ceil":
      expect(node.op, first, "a number", isNumeric);
      return DOUBLE;
    case "toString":
      expect(node.op, first, "a scalar", isScalar);
      return STRING;
    case "toDouble":
    case "toBigint":
      expect(
        node.op,
        first,
        "a number, string or boolean",
        (t) => isNumeric(t) || t.kind === "string" || t.kind === "boolean",
      );
      return node.op === "toDouble" ? DOUBLE : BIGINT;
    case "listLength":
    case "listContains":
      return listType(node.op, types);
    default:
      return textOrTimeType(node, types);
  }
}

function textOrTimeType(
  node: Pick<OperatorNode, "op" | "unit">,
  types: readonly ColumnType[],
): ColumnType {
  switch (node.op) {
    case "lower":
    case "upper":
    case "trim":
    case "length":
    case "concat":
    case "startsWith":
    case "endsWith":
    case "contains":
      for (const type of types) expect(node.op, type, "strings", (t) => t.kind === "string");
      if (node.op === "length") return BIGINT;
      return /With$|contains/.test(node.op) ? BOOLEAN : STRING;
    case "substring":
      expect(node.op, types[0], "a string", (t) => t.kind === "string");
      for (const type of types.slice(1)) expect(node.op, type, "whole numbers", isWhole);
      return STRING;
    case "truncate":
    case "extract":
      expect(node.op, types[0], "a timestamp", isTimestamp);
      checkUnit(node);
      return node.op === "truncate" ? TIMESTAMP : INT;
    case "addMs":
      expect(node.op, types[0], "a timestamp", isTimestamp);
      expect(node.op, types[1], "whole milliseconds", isWhole);
      return TIMESTAMP;
    case "diffMs":
      for (const type of types) expect(node.op, type, "timestamps", isTimestamp);
      return BIGINT;
    default:
      throw new DefinitionError(`operator "${node.op}" is unknown`);
  }
}

function listType(op: Operator, types: readonly ColumnType[]): ColumnType {
  const [list] = types;
  if (list.kind !== "list") throw wrongType(op, list, "a list");
  if (op === "listLength") return BIGINT;
  checkComparable(op, list.element, types[1]);
  return BOOLEAN;
}

function arithmeticType(op: "add" | "sub" | "mul" | "div" | "mod", a: ColumnType, b: ColumnType) {
  expect(op, a, "numbers", isNumeric);
  expect(op, b, "numbers", isNumeric);
  if (op === "div" || a.kind === "double" || b.kind === "double") return DOUBLE;
  if (isWhole(a) && isWhole(b)) return BIGINT;
  if (op === "mod") return DOUBLE;
  const scale = op === "mul" ? scaleOf(a) + scaleOf(b) : Math.max(scaleOf(a), scaleOf(b));
  if (scale > DECIMAL_PRECISION_MAX) {
    throw new DefinitionError(
      `${op} of ${typeName(a)} and ${typeName(b)} has ${scale} decimal places, more than ` +
        `${DECIMAL_PRECISION_MAX}; turn one into a double with .toDouble()`,
    );
  }
  return decimalType(scale);
}

/** The type that holds values of all `types`; numbers widen. */
function commonType(op: Operator, types: readonly ColumnType[]): ColumnType {
  const [first] = types;
  const odd = types.find((type) => !(isNumeric(type) && isNumeric(first)) && !same(type, first));
  if (odd !== undefined) {
    throw new DefinitionError(
      `${op} mixes ${typeName(first)} and ${typeName(odd)}; give values of one type`,
    );
  }
  if (types.every((type) => same(type, first))) return first;
  if (types.some((type) => type.kind === "double")) return DOUBLE;
  if (types.some((type) => type.kind === "decimal")) {
    return decimalType(Math.max(...types.map(scaleOf)));
  }
  return BIGINT;
}

function checkComparable(op: Operator, a: ColumnType, b: ColumnType): void {
  const scalars = isScalar(a) && isScalar(b);
  if (scalars && (a.kind === b.kind || (isNumeric(a) && isNumeric(b)))) return;
  throw new DefinitionError(
    `${op} cannot compare ${typeName(a)} with ${typeName(b)}; compare values of one type`,
  );
}

const UNITS = {
  truncate: ["minute", "hour", "day", "month", "year"],
  extract: ["minute", "hour", "day", "dayOfWeek", "month", "year"],
} as const;

function checkUnit({ op, unit }: Pick<OperatorNode, "op" | "unit">): void {
  const units: readonly string[] = op === "truncate" ? UNITS.truncate : UNITS.extract;
  if (unit !== undefined && units.includes(unit)) return;
  throw new DefinitionError(`${op} has no unit "${unit}"; use one of: ${units.join(", ")}`);
}

const COUNTS = new Map<Operator, readonly [number, number]>([
  ["and", [1, Number.POSITIVE_INFINITY]],
  ["or", [1, Number.POSITIVE_INFINITY]],
  ["in", [2, Number.POSITIVE_INFINITY]],
  ["coalesce", [2, Number.POSITIVE_INFINITY]],
  ["concat", [1, Number.POSITIVE_INFINITY]],
  ["if", [3, 3]],
  ["substring", [2, 3]],
]);
const UNARY: readonly Operator[] = [
  "not",
  "isNull",
  "isNotNull",
  "neg",
  "abs",
  "round",
  "floor",
  "ceil",
  "lower",
  "upper",
  "trim",
  "length",
  "toString",
  "toDouble",
  "toBigint",
  "truncate",
  "extract",
  "listLength",
];

function checkCount(op: Operator, count: number): void {
  const [least, most] = COUNTS.get(op) ?? (UNARY.includes(op) ? [1, 1] : [2, 2]);
  if (count >= least && count <= most) return;
  const wanted = least === most ? `${least}` : `at least ${least}`;
  throw new DefinitionError(`${op} has ${count} arguments, and takes ${wanted}`);
}

function expect(op: Operator, type: ColumnType, wanted: string, test: (t: ColumnType) => boolean) {
  if (!test(type)) throw wrongType(op, type, wanted);
}

const wrongType = (op: Operator, type: ColumnType, wanted: string) =>
  new DefinitionError(`${op} takes ${wanted}, and was given ${typeName(type)}`);

const BOOLEAN: ColumnType = { kind: "boolean" };
const INT: ColumnType = { kind: "int" };
const BIGINT: ColumnType = { kind: "bigint" };
const DOUBLE: ColumnType = { kind: "double" };
const STRING: ColumnType = { kind: "string" };
const TIMESTAMP: ColumnType = { kind: "timestamp" };
const decimalType = (scale: number): ColumnType => ({
  kind: "decimal",
  precision: DECIMAL_PRECISION_MAX,
  scale,
});

const isTimestamp = (type: ColumnType): boolean => type.kind === "timestamp";
const isWhole = (type: ColumnType): boolean => type.kind === "int" || type.kind === "bigint";
const scaleOf = (type: ColumnType): number => (type.kind === "decimal" ? type.scale : 0);
export const isNumeric = (type: ColumnType): boolean =>
  isWhole(type) || type.kind === "double" || type.kind === "decimal";
export const isScalar = (type: ColumnType): boolean =>
  type.kind !== "list" && type.kind !== "topK" && type.kind !== "bytes";

export function typeName(type: ColumnType): string {
  if (type.kind === "decimal") return `decimal(${type.precision},${type.scale})`;
  if (type.kind === "list") return `list(${typeName(type.element)})`;
  if (type.kind === "topK") return `topK(${typeName(type.value)})`;
  return type.kind;
}

const same = (a: ColumnType, b: ColumnType): boolean => typeName(a) === typeName(b);
