/** Random values and expressions of every type and operator, over whatever columns there are. */
import type {
  ColumnType,
  ExprNode,
  LiteralValue,
  Operator,
  ScalarType,
} from "../../../lib/define/definition.js";
import {
  expressionType,
  isNumeric,
  type NamedColumn,
} from "../../../lib/define/expression-types.js";
import type { Random } from "./random.js";

export const CHOICES = ["red", "green", "blue"];
export const TEXTS = ["", "a", "north", "östlich", "西", 'say "hi"', "a\nb", "1", " x "];
const UNITS = ["minute", "hour", "day", "month", "year"] as const;

export type Columns = ReadonlyMap<string, NamedColumn>;
export type ResultKind = "boolean" | "number" | "string" | "timestamp";

export function randomScalar(random: Random): ScalarType {
  const kinds = ["string", "boolean", "int", "bigint", "double", "decimal", "timestamp"] as const;
  const kind = random.pick(kinds);
  if (kind !== "decimal") return { kind };
  const [precision, scale] = random.pick([
    [9, 2],
    [9, 2],
    [4, 0],
    [5, 5],
    [18, 3],
    [15, 9],
  ] as const);
  return { kind, precision, scale };
}

/** A value of the type as a literal of the definition, which JSON writes alike. */
export function literal(random: Random, type: ScalarType, aroundMs: number): LiteralValue {
  switch (type.kind) {
    case "string":
      return random.pick(TEXTS);
    case "boolean":
      return random.chance(0.5);
    case "int":
      return random.pick([0, 1, -1, 7, 2_147_483_647, -2_147_483_648, random.between(-20, 20)]);
    case "bigint":
      return random.pick(["0", "1", "-3", "4000000000", String(random.between(-1000, 1000))]);
    case "double":
      return random.pick([0, 0.5, -2.25, 1e6, random.between(-4000, 4000) / 64]);
    case "decimal": {
      const { precision, scale } = type;
      const most = 10 ** Math.min(precision, 9) - 1;
      const unscaled = random.pick([
        random.between(-most, most),
        random.below(Math.min(most, 500)),
      ]);
      return decimalText(unscaled, scale);
    }
    case "timestamp":
      return aroundMs + random.between(-60_000, 240_000);
  }
}

function decimalText(unscaled: number, scale: number): string {
  const digits = String(Math.abs(unscaled)).padStart(scale + 1, "0");
  const [whole, fraction] = [digits.slice(0, digits.length - scale), digits.slice(-scale)];
  return `${unscaled < 0 ? "-" : ""}${whole}${scale === 0 ? "" : `.${fraction}`}`;
}

const call = (op: Operator, ...args: readonly ExprNode[]): ExprNode => ({ op, args });
const fitsKind = (kind: ResultKind) => (type: ColumnType) =>
  kind === "number" ? isNumeric(type) : type.kind === kind;

/** Makes expressions over the columns; what it makes the definition's own rules may refuse. */
export class Expressions {
  constructor(
    private readonly random: Random,
    private readonly columns: Columns,
    private readonly aroundMs: number,
  ) {}

  /** Of that kind: a column if there is one, or up to so many operators deep. */
  of(kind: ResultKind, depth: number): ExprNode {
    if (depth === 0) return this.leaf(kind);
    switch (kind) {
      case "boolean":
        return this.boolean(depth);
      case "number":
        return this.number(depth);
      case "string":
        return this.string(depth);
      case "timestamp":
        return this.timestamp(depth);
    }
  }

  private leaf(kind: ResultKind): ExprNode {
    const found = this.columnsThat(fitsKind(kind));
    if (found.length > 0 && !this.random.chance(0.1)) {
      return { op: "column", name: this.random.pick(found).name };
    }
    let type = randomScalar(this.random);
    while (!fitsKind(kind)(type)) type = randomScalar(this.random);
    return this.literal(type);
  }

  private literal(type: ScalarType): ExprNode {
    return { op: "literal", type, value: literal(this.random, type, this.aroundMs) };
  }

  private whole(low: number, high: number): ExprNode {
    const value = String(this.random.between(low, high));
    return { op: "literal", type: { kind: "bigint" }, value };
  }

  private columnsThat(fits: (type: ColumnType) => boolean): NamedColumn[] {
    return [...this.columns.values()].filter(({ type }) => fits(type));
  }

  private any(): ResultKind {
    return this.random.pick(["boolean", "number", "string", "timestamp"]);
  }

  private boolean(depth: number): ExprNode {
    const sub = (kind: ResultKind) => this.of(kind, depth - 1);
    return this.random.pick<() => ExprNode>([
      () => this.leaf("boolean"),
      () => this.comparison(sub(this.random.pick(["number", "string", "timestamp"]))),
      () => this.comparison(sub(this.random.pick(["number", "string", "timestamp"]))),
      () => this.isIn(),
      () => this.listContains(),
      () => call("and", sub("boolean"), sub("boolean"), this.leaf("boolean")),
      () => call("or", sub("boolean"), sub("boolean")),
      () => call("not", sub("boolean")),
      () => call(this.random.pick(["isNull", "isNotNull"]), sub(this.any())),
      () => call("coalesce", sub("boolean"), this.leaf("boolean")),
      () => {
        const op = this.random.pick(["startsWith", "contains", "endsWith"] as const);
        return call(op, sub("string"), sub("string"));
      },
    ])();
  }

  private number(depth: number): ExprNode {
    const leaf = () => this.leaf("number");
    const sub = (kind: ResultKind) => this.of(kind, depth - 1);
    const units = [...UNITS, "dayOfWeek"] as const;
    return this.random.pick<() => ExprNode>([
      leaf,
      () => call(this.random.pick(["add", "sub", "mul"]), leaf(), leaf()),
      () => call(this.random.pick(["add", "sub", "mul"]), leaf(), leaf()),
      () => call(this.random.pick(["div", "mod"]), leaf(), leaf()),
      () => call(this.random.pick(["neg", "abs"]), leaf()),
      () => call(this.random.pick(["floor", "ceil", "round"]), leaf()),
      () => call(this.random.pick(["coalesce", "if"]), leaf(), leaf()),
      () => call("if", sub("boolean"), leaf(), leaf()),
      () => call("length", sub("string")),
      () => this.listLength(),
      () => call("toBigint", this.leaf(this.random.pick(["number", "string", "boolean"]))),
      () => call("toDouble", this.leaf(this.random.pick(["number", "string", "boolean"]))),
      () => call("diffMs", sub("timestamp"), sub("timestamp")),
      () => ({ ...call("extract", sub("timestamp")), unit: this.random.pick(units) }),
    ])();
  }

  private string(depth: number): ExprNode {
    const leaf = () => this.leaf("string");
    const sub = (kind: ResultKind) => this.of(kind, depth - 1);
    return this.random.pick<() => ExprNode>([
      leaf,
      () => call("concat", sub("string"), sub("string")),
      () => call("coalesce", leaf(), leaf(), leaf()),
      () => call("if", sub("boolean"), leaf(), leaf()),
      () => call(this.random.pick(["lower", "upper", "trim"]), leaf()),
      () => call("substring", sub("string"), this.whole(-3, 4)),
      () => call("substring", sub("string"), this.whole(1, 3), this.whole(0, 4)),
      () => this.toText(depth),
    ])();
  }

  private timestamp(depth: number): ExprNode {
    const leaf = () => this.leaf("timestamp");
    return this.random.pick<() => ExprNode>([
      leaf,
      () => ({ ...call("truncate", leaf()), unit: this.random.pick(UNITS) }),
      () => call("addMs", leaf(), this.whole(-5000, 5000)),
      () => call("coalesce", leaf(), leaf()),
      () => call("if", this.of("boolean", depth - 1), leaf(), leaf()),
    ])();
  }

  /** With a literal of its own type mostly, else with something of its kind. */
  private comparison(left: ExprNode): ExprNode {
    const op = this.random.pick(["eq", "ne", "lt", "lte", "gt", "gte"] as const);
    const { type, oneOf } = expressionType(left, this.columns);
    if (type.kind === "list" || type.kind === "topK" || type.kind === "bytes") return left;
    if (this.random.chance(0.2)) {
      const kind = isNumeric(type) ? "number" : (type.kind as ResultKind);
      return call(op, left, this.leaf(kind));
    }
    if (oneOf === undefined) return call(op, left, this.literal(type));
    return call(op, left, { op: "literal", type, value: this.random.pick(oneOf) });
  }

  private isIn(): ExprNode {
    const left = this.leaf(this.random.pick(["number", "string", "timestamp"]));
    const { type, oneOf } = expressionType(left, this.columns);
    if (type.kind === "list" || type.kind === "topK" || type.kind === "bytes") return left;
    const one = (): ExprNode =>
      oneOf === undefined
        ? this.literal(type)
        : { op: "literal", type, value: this.random.pick(oneOf) };
    return call("in", left, one(), one());
  }

  private listContains(): ExprNode {
    const lists = this.columnsThat(({ kind }) => kind === "list");
    if (lists.length === 0) return this.leaf("boolean");
    const { name, type } = this.random.pick(lists);
    const element: ScalarType = type.kind === "list" ? type.element : { kind: "string" };
    return call("listContains", { op: "column", name }, this.literal(element));
  }

  private listLength(): ExprNode {
    const lists = this.columnsThat(({ kind }) => kind === "list");
    if (lists.length === 0) return this.leaf("number");
    return call("listLength", { op: "column", name: this.random.pick(lists).name });
  }

  /** Of a double is what SQL cannot say (`audit` refuses it). */
  private toText(depth: number): ExprNode {
    const value = this.of(this.any(), depth - 1);
    const { type } = expressionType(value, this.columns);
    return type.kind === "double" ? this.leaf("string") : call("toString", value);
  }
}
