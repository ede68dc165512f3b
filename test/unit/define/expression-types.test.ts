/** The typing rules, operator by operator, and that any expression survives JSON. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { ColumnNode, ColumnType, ExprNode, Operator } from "../../../lib/define/definition.js";
import { expressionType, typeName } from "../../../lib/define/expression-types.js";
import { fromJson, pipeline, stream, timestamp, toJson } from "../../../lib/index.js";

const types: Record<string, ColumnType> = {
  s: { kind: "string" },
  b: { kind: "boolean" },
  i: { kind: "int" },
  l: { kind: "bigint" },
  d: { kind: "double" },
  m: { kind: "decimal", precision: 10, scale: 2 },
  w: { kind: "decimal", precision: 18, scale: 17 },
  t: { kind: "timestamp" },
};
const columns = new Map<string, ColumnNode>(
  Object.entries(types).map(([name, type]) => [name, { name, type, nullable: false }]),
);
const call = (op: Operator, ...names: string[]): ExprNode => ({
  op,
  args: names.map((name) => ({ op: "column", name })),
});

test.each([
  [call("add", "i", "i"), "bigint?"],
  [call("mul", "i", "d"), "double?"],
  [call("add", "m", "i"), "decimal(18,2)?"],
  [call("mul", "m", "m"), "decimal(18,4)?"],
  [call("div", "i", "i"), "double?"],
  [call("mod", "m", "i"), "double?"],
  [call("neg", "i"), "bigint"],
  [call("abs", "l"), "bigint?"],
  [call("round", "m"), "double"],
  [call("eq", "i", "m"), "boolean"],
  [call("coalesce", "i", "d"), "double"],
  [call("if", "b", "m", "l"), "decimal(18,2)"],
  [call("diffMs", "t", "t"), "bigint"],
  [call("addMs", "t", "i"), "timestamp?"],
  [call("toDouble", "s"), "double?"],
] as const)("%j is %s", (node, expected) => {
  const { type, nullable } = expressionType(node, columns);
  expect(`${typeName(type)}${nullable ? "?" : ""}`).toBe(expected);
});

test.each([
  [call("mul", "w", "m"), "has 19 decimal places, more than 18"],
  [call("add", "s", "i"), "add takes numbers, and was given string"],
  [call("eq", "t", "i"), "eq cannot compare timestamp with int"],
  [call("if", "i", "i", "i"), "if takes a boolean condition, and was given int"],
  [call("coalesce", "s", "i"), "coalesce mixes string and int"],
  [call("truncate", "t"), 'truncate has no unit "undefined"'],
  [call("not", "b", "b"), "not has 2 arguments, and takes 1"],
  [call("lower", "ss"), 'column "ss" does not exist here; did you mean "s"?'],
] as const)("%j is refused: %s", (node, message) => {
  expect(() => expressionType(node, columns)).toThrow(message);
});

test("any literals in a filter survive JSON", () => {
  const s = stream("s", { schema: { at: timestamp() }, eventTime: "at", lateness: 0 });
  const seed = Number(process.env.SEED ?? 20261121);
  const instant = fc.date({ noInvalidDate: true });
  fc.assert(
    fc.property(fc.array(instant, { minLength: 1 }), (instants) => {
      const { definition } = pipeline("p", { t: s.filter((e) => e.at.in(...instants)) });
      expect(fromJson(toJson(definition)).definition).toEqual(definition);
    }),
    { seed, numRuns: 50 },
  );
});
