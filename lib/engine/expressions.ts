/**
 * Expressions over a batch: each operator of the definition is one loop over columns. Nulls are
 * SQL's: an operator with a null argument gives null, except where its own rule says otherwise.
 */
import type { ColumnNode, ExprNode, Operator } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import type { Batch, Column } from "./batch.js";
import { arithmetic, divide, modulo, signed, toWholeDouble } from "./expressions/arithmetic.js";
import { compare } from "./expressions/compare.js";
import { commonType, toBigint, toDouble, toText } from "./expressions/convert.js";
import { listContains, listLength } from "./expressions/lists.js";
import { branch, coalesce, isIn, junction, not, nullTest } from "./expressions/logic.js";
import { columnOperand, literalOperand, type Operand, spread } from "./expressions/operand.js";
import { changeCase, concat, search, substring, textLength, trim } from "./expressions/text.js";
import { addMs, diffMs, extract, truncate, type Unit } from "./expressions/time.js";

/** Computes an expression for every row of a batch. The result column has no name. */
export type Evaluator = (batch: Batch) => Column;

/**
 * Prepare an expression over columns of these names. Throws a DEFINITION error for a column that
 * is not there; a wrong type is found by `expressionType`, which runs when a pipeline is defined.
 *
 * @example
 * const view = { op: "literal", type: { kind: "string" }, value: "view" };
 * const isView = compileExpression(
 *   { op: "eq", args: [{ op: "column", name: "type" }, view] },
 *   columns,
 * );
 * const { valid, vector } = isView(batch); // boolean: 0 or 1 by row
 */
export function compileExpression(node: ExprNode, columns: readonly ColumnNode[]): Evaluator {
  const evaluate = compile(node, columns);
  return (batch) => {
    const { type, valid, vector } = spread(evaluate(batch), batch.rowCount);
    return { name: "", type, valid, vector };
  };
}

type Compiled = (batch: Batch) => Operand;

function compile(node: ExprNode, columns: readonly ColumnNode[]): Compiled {
  if (node.op === "literal") {
    const operand = literalOperand(node.type, node.value);
    return () => operand;
  }
  if (node.op === "column") return columnReader(node.name, columns);
  const args = node.args.map((arg) => compile(arg, columns));
  if (args.length === 0) throw missing(node.op, "an argument");
  const apply = operatorOf(node);
  return (batch) =>
    apply(
      args.map((arg) => arg(batch)),
      batch.rowCount,
    );
}

function columnReader(name: string, columns: readonly ColumnNode[]): Compiled {
  if (!columns.some((column) => column.name === name)) {
    const known = columns.map((column) => column.name).join(", ");
    throw new MillpondError(
      "DEFINITION",
      `an expression reads column "${name}"; there are: ${known}`,
    );
  }
  return (batch) => {
    const column = batch.columns.find((candidate) => candidate.name === name);
    if (column === undefined) throw new TypeError(`the batch lacks the declared column ${name}`);
    return columnOperand(column);
  };
}

function missing(op: Operator, what: string): MillpondError {
  return new MillpondError("DEFINITION", `the operator "${op}" lacks ${what}`);
}

type OperatorNode = Extract<ExprNode, { op: Operator }>;
type Apply = (args: readonly Operand[], count: number) => Operand;

function unary(run: (a: Operand, count: number) => Operand): Apply {
  return (args, count) => run(args[0]!, count);
}

function binary(run: (a: Operand, b: Operand, count: number) => Operand): Apply {
  return (args, count) => run(args[0]!, args[1]!, count);
}

function operatorOf(node: OperatorNode): Apply {
  const { op } = node;
  switch (op) {
    case "eq":
    case "ne":
    case "lt":
    case "lte":
    case "gt":
    case "gte":
      return binary((a, b, count) => compare(op, a, b, count));
    case "and":
      return (args, count) => junction(args, 0, count);
    case "or":
      return (args, count) => junction(args, 1, count);
    case "not":
      return unary(not);
    case "isNull":
      return unary((a, count) => nullTest(a, 1, count));
    case "isNotNull":
      return unary((a, count) => nullTest(a, 0, count));
    case "coalesce":
      return (args, count) => coalesce(commonType(args.map(({ type }) => type)), args, count);
    case "if":
      return ([condition, ...branches], count) =>
        branch(commonType(branches.map(({ type }) => type)), condition!, branches, count);
    case "in":
      return ([needle, ...choices], count) => isIn(needle!, choices, count);
    case "listLength":
      return unary(listLength);
    case "listContains":
      return binary(listContains);
    case "toString":
      return unary(toText);
    case "toDouble":
      return unary(toDouble);
    case "toBigint":
      return unary(toBigint);
    default:
      return textOrNumber(op, node.unit);
  }
}

function textOrNumber(
  op: Exclude<
    Operator,
    | ("eq" | "ne" | "lt" | "lte" | "gt" | "gte" | "and" | "or" | "not" | "isNull" | "isNotNull")
    | ("coalesce" | "if" | "in" | "listLength" | "listContains")
    | ("toString" | "toDouble" | "toBigint")
  >,
  unit: Unit | undefined,
): Apply {
  switch (op) {
    case "add":
    case "sub":
    case "mul":
      return binary((a, b, count) => arithmetic(op, a, b, count));
    case "div":
      return binary(divide);
    case "mod":
      return binary(modulo);
    case "neg":
    case "abs":
      return unary((a, count) => signed(op, a, count));
    case "round":
    case "floor":
    case "ceil":
      return unary((a, count) => toWholeDouble(op, a, count));
    case "lower":
    case "upper":
      return unary((a, count) => changeCase(op, a, count));
    case "trim":
      return unary(trim);
    case "length":
      return unary(textLength);
    case "concat":
      return concat;
    case "startsWith":
    case "endsWith":
    case "contains":
      return binary((a, b, count) => search(op, a, b, count));
    case "substring":
      return substring;
    case "truncate":
    case "extract": {
      if (unit === undefined) throw missing(op, "its unit");
      const apply = op === "truncate" ? truncate : extract;
      return unary((a, count) => apply(a, unit, count));
    }
    case "addMs":
      return binary(addMs);
    case "diffMs":
      return binary(diffMs);
  }
}
