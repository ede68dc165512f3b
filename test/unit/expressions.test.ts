/** Every operator against the same expression in DuckDB's SQL, over random rows with nulls. */
import { DuckDBInstance } from "@duckdb/node-api";
import { describe, expect, it } from "vitest";
import type {
  ColumnNode,
  ColumnType,
  ExprNode,
  LiteralValue,
  Operator,
  ScalarType,
} from "../../lib/define/definition.js";
import type { Batch, RowValue } from "../../lib/engine/batch.js";
import { compileExpression } from "../../lib/engine/expressions.js";
import { columnFromValues, valueAt } from "../../lib/engine/row-values.js";

const ROWS = 400;
const seed = Number(process.env.EXPRESSION_SEED ?? Math.floor(Math.random() * 2 ** 31));

/** mulberry32 */
let state = seed;
function random(): number {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const below = (n: number): number => Math.floor(random() * n);
const pick = <T>(values: readonly T[]): T => values[below(values.length)] as T;

const WORDS = [
  "",
  "a",
  "view",
  "View",
  "VIEW",
  "viewer",
  "zé",
  "É",
  "ß",
  "Ωσς",
  "日本語",
  "😀b",
  " x ",
];
const spaced = (): string =>
  pick([
    pick(WORDS),
    pick(WORDS) + pick(WORDS),
    "\u00a0y\u2003",
    "\t t ",
    "\u{10400}\u0101",
    "\u0130",
    "\u1f80\u1fb3",
  ]);
const I64 = 2n ** 63n;
const wide = (): bigint =>
  pick([0n, 1n, -1n, I64 - 1n, -I64, 2n ** 53n + 1n, BigInt(below(2000) - 1000)]);
const double = (): number =>
  pick([
    0,
    -0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    0.49999999999999994,
    1e16,
    1e-7,
    123456.789,
    random() * 10,
  ]);
const decimal = (digits: number) => (): bigint =>
  pick([0n, 50n, -50n, 150n, 10n ** BigInt(digits) - 1n, BigInt(below(20000) - 10000)]);
const int = (): number => pick([0, 1, -1, 2 ** 31 - 1, -(2 ** 31), below(20) - 10]);
const instant = (): number =>
  pick([0, -1, 951782399999, 951782400000, Math.floor((random() - 0.3) * 8e12), -62135596800000]);
const NUMBER_TEXTS = ["12", " 7 ", "-3.5", "2.5", "abc", "", "1e3x", "9223372036854775808", "+4"];

const T = {
  string: { kind: "string" },
  boolean: { kind: "boolean" },
  int: { kind: "int" },
  bigint: { kind: "bigint" },
  double: { kind: "double" },
  timestamp: { kind: "timestamp" },
} as const satisfies Record<string, ScalarType>;
const money: ScalarType = { kind: "decimal", precision: 9, scale: 2 };
const fine: ScalarType = { kind: "decimal", precision: 18, scale: 4 };

const COLUMNS: readonly { node: ColumnNode; sql: string; make: () => RowValue }[] = [
  ...["s", "t"].map((name) => column(name, T.string, "VARCHAR", spaced)),
  column("digits", T.string, "VARCHAR", () => pick(NUMBER_TEXTS)),
  ...["i", "j"].map((name) => column(name, T.int, "INTEGER", int)),
  ...["b", "c"].map((name) => column(name, T.bigint, "BIGINT", wide)),
  ...["d", "e"].map((name) => column(name, T.double, "DOUBLE", double)),
  column("m", money, "DECIMAL(9,2)", decimal(9)),
  column("n", fine, "DECIMAL(18,4)", decimal(18)),
  ...["p", "q", "r"].map((name) => column(name, T.boolean, "BOOLEAN", () => random() < 0.5)),
  ...["x", "y"].map((name) => column(name, T.timestamp, "TIMESTAMPTZ", instant)),
  column("ss", { kind: "list", element: T.string }, "VARCHAR[]", () => [pick(WORDS), null, "a"]),
  column("ii", { kind: "list", element: T.int }, "INTEGER[]", () => [int(), int()].slice(below(3))),
];

function column(name: string, type: ColumnType, sql: string, make: () => RowValue) {
  return { node: { name, type, nullable: true }, sql, make };
}

function sqlLiteral(value: RowValue, type: ColumnType): string {
  if (value === null) return "NULL";
  if (type.kind === "list") {
    const items = (value as readonly RowValue[]).map((item) => sqlLiteral(item, type.element));
    return `[${items.join(", ")}]`;
  }
  if (type.kind === "string") return `'${String(value)}'`;
  if (type.kind === "timestamp") return `make_timestamptz(${value}::BIGINT * 1000)`;
  if (type.kind === "decimal") return `${value}::HUGEINT::DECIMAL(38,0) / 1e${type.scale}`;
  if (type.kind === "double") return `'${Object.is(value, -0) ? "-0.0" : value}'::DOUBLE`;
  return String(value);
}

/** Unscaled integers go in as text with a point: a division would make doubles of them. */
function sqlValue(value: RowValue, type: ColumnType): string {
  if (type.kind !== "decimal" || value === null) return sqlLiteral(value, type);
  const digits = String(value)
    .replace("-", "")
    .padStart(type.scale + 1, "0");
  const at = digits.length - type.scale;
  return `'${Number(value) < 0 ? "-" : ""}${digits.slice(0, at)}.${digits.slice(at)}'`;
}

const col = (name: string): ExprNode => ({ op: "column", name });
const lit = (type: ScalarType, value: LiteralValue): ExprNode => ({ op: "literal", type, value });
type Unit = "minute" | "hour" | "day" | "dayOfWeek" | "month" | "year";

/** `f("add", "i", "j")`: strings are column names. */
function f(op: Operator, ...args: (string | ExprNode)[]): ExprNode {
  return { op, args: args.map((arg) => (typeof arg === "string" ? col(arg) : arg)) };
}
const unit = (op: "truncate" | "extract", of: Unit): ExprNode => ({
  op,
  args: [col("x")],
  unit: of,
});

const str = (value: string | null): ExprNode => lit(T.string, value);
const big = (value: string | null): ExprNode => lit(T.bigint, value);
const whole = (value: number | null): ExprNode => lit(T.int, value);

const COMPARE = { eq: "=", ne: "<>", lt: "<", lte: "<=", gt: ">", gte: ">=" } as const;
const PAIRS = ["st", "ij", "ib", "bc", "de", "id", "bd", "mn", "im", "bm", "nd", "pq", "xy"];

const comparisons = Object.entries(COMPARE).flatMap(([op, sign]) => [
  ...PAIRS.map(([a, b]) => [f(op as Operator, a as string, b as string), `${a} ${sign} ${b}`]),
  [f(op as Operator, "s", str("view")), `s ${sign} 'view'`],
  [f(op as Operator, str("view"), "s"), `'view' ${sign} s`],
  [f(op as Operator, "s", str(null)), `s ${sign} NULL`],
  [f(op as Operator, "d", lit(T.double, 1.5)), `d ${sign} 1.5::DOUBLE`],
  [f(op as Operator, "b", big("9223372036854775807")), `b ${sign} 9223372036854775807`],
  [f(op as Operator, "m", lit(money, "-0.50")), `m ${sign} -0.50`],
  [f(op as Operator, "x", lit(T.timestamp, 951782400000)), `x ${sign} '2000-02-29T00:00:00Z'`],
]) as [ExprNode, string][];

const huge = (sql: string): string => `TRY_CAST(TRY(${sql}) AS BIGINT)`;
const dec = (sql: string, scale: number): string => `TRY_CAST(TRY(${sql}) AS DECIMAL(18,${scale}))`;
const D38 = (name: string, scale: number): string => `${name}::DECIMAL(38,${scale})`;

const arithmetic: [ExprNode, string][] = [
  ...(["bc", "ij", "ib"] as const).flatMap(([a, b]): [ExprNode, string][] => [
    [f("add", a as string, b as string), huge(`${a}::HUGEINT + ${b}::HUGEINT`)],
    [f("sub", a as string, b as string), huge(`${a}::HUGEINT - ${b}::HUGEINT`)],
    [f("mul", a as string, b as string), huge(`${a}::HUGEINT * ${b}::HUGEINT`)],
    [f("mod", a as string, b as string), huge(`${a}::HUGEINT % nullif(${b}, 0)::HUGEINT`)],
    [f("div", a as string, b as string), `${a}::DOUBLE / nullif(${b}::DOUBLE, 0)`],
  ]),
  [f("add", "d", "e"), "d + e"],
  [f("sub", "i", "d"), "i::DOUBLE - d"],
  [f("mul", "d", "b"), "d * b::DOUBLE"],
  [f("mul", "d", lit(T.double, 2)), "d * 2::DOUBLE"],
  [f("div", "d", "e"), "d / nullif(e, 0)"],
  [f("mod", "d", "e"), "d % nullif(e, 0)"],
  [f("add", "m", "n"), dec(`${D38("m", 4)} + ${D38("n", 4)}`, 4)],
  [f("sub", "m", "i"), dec(`${D38("m", 2)} - ${D38("i", 2)}`, 2)],
  [f("mul", "m", "n"), dec("m::DECIMAL(19,2) * n::DECIMAL(19,4)", 6)],
  [f("mul", "m", "d"), "m::DOUBLE * d"],
  [f("div", "n", "m"), "n::DOUBLE / nullif(m::DOUBLE, 0)"],
  [f("neg", "b"), huge("-(b::HUGEINT)")],
  [f("neg", "i"), "-(i::BIGINT)"],
  [f("neg", "d"), "-d"],
  [f("abs", "b"), huge("abs(b::HUGEINT)")],
  [f("abs", "m"), "abs(m)"],
  [f("abs", "d"), "abs(d)"],
  ...(["round", "floor", "ceil"] as const).flatMap((op): [ExprNode, string][] => [
    [f(op, "d"), `${op}(d)`],
    [f(op, "m"), `${op}(m)::DOUBLE`],
    [f(op, "n"), `${op}(n)::DOUBLE`],
    [f(op, "i"), `${op}(i)::DOUBLE`],
  ]),
];

const logic: [ExprNode, string][] = [
  [f("and", "p", "q", "r"), "p AND q AND r"],
  [f("or", "p", "q", "r"), "p OR q OR r"],
  [f("and", "p", lit(T.boolean, null)), "p AND NULL"],
  [f("or", lit(T.boolean, true), "q"), "true OR q"],
  [f("not", "p"), "NOT p"],
  [f("isNull", "s"), "s IS NULL"],
  [f("isNotNull", "d"), "d IS NOT NULL"],
  [f("coalesce", "s", "t", str("none")), "coalesce(s, t, 'none')"],
  [f("coalesce", "i", "b"), "coalesce(i::BIGINT, b)"],
  [f("coalesce", "m", "n"), "coalesce(m::DECIMAL(18,4), n)"],
  [f("coalesce", "i", "d"), "coalesce(i::DOUBLE, d)"],
  [f("coalesce", "x", "y"), "coalesce(x, y)"],
  [f("coalesce", "p", lit(T.boolean, false)), "coalesce(p, false)"],
  [f("if", "p", "s", str("other")), "CASE WHEN p THEN s ELSE 'other' END"],
  [f("if", "p", "i", "d"), "CASE WHEN p THEN i::DOUBLE ELSE d END"],
  [f("if", "p", "b", big(null)), "CASE WHEN p THEN b END"],
  [f("in", "s", str("a"), str("view")), "s IN ('a', 'view')"],
  [f("in", "s", str("a"), str(null)), "s IN ('a', NULL)"],
  [f("in", "i", whole(1), whole(-1)), "i IN (1, -1)"],
  [f("in", "b", big("-1"), big("9007199254740993")), "b IN (-1, 9007199254740993)"],
  [f("listLength", "ii"), "len(ii)"],
  [f("listContains", "ss", "s"), "list_contains(ss, s)"],
  [f("listContains", "ii", whole(1)), "list_contains(ii, 1)"],
  ...["i", "b", "d", "m"].map((a): [ExprNode, string] => [
    f("listContains", "ii", a),
    `CASE WHEN ii IS NOT NULL AND ${a} IS NOT NULL THEN ${a} IN (ii[1], ii[2]) IS TRUE END`,
  ]),
];

const text: [ExprNode, string][] = [
  [f("lower", "s"), "lower(s)"],
  [f("upper", "s"), "upper(s)"],
  [f("trim", "s"), "trim(s)"],
  [f("length", "s"), "length(s)"],
  [f("concat", "s", str("-"), "t"), "s || '-' || t"],
  ...(["startsWith", "endsWith", "contains"] as const).flatMap((op): [ExprNode, string][] => {
    const name = { startsWith: "starts_with", endsWith: "ends_with", contains: "contains" }[op];
    return [
      [f(op, "s", "t"), `${name}(s, t)`],
      [f(op, "s", str("view")), `${name}(s, 'view')`],
      [f(op, "s", str("")), `${name}(s, '')`],
    ];
  }),
  ...[-3, -1, 0, 1, 2, 9].flatMap((start) =>
    [-2, -1, 0, 1, 2, 50].map((length): [ExprNode, string] => [
      f("substring", "s", whole(start), whole(length)),
      `substring(s, ${start}, ${length})`,
    ]),
  ),
  ...[-3, -1, 0, 1, 9].map((start): [ExprNode, string] => [
    f("substring", "s", whole(start)),
    `substring(s, ${start})`,
  ]),
  [f("substring", "s", "i", whole(2)), "substring(s, i, 2)"],
];

const conversions: [ExprNode, string][] = [
  ...["i", "b", "m", "n", "d", "p"].map((a): [ExprNode, string] => [
    f("toString", a),
    `${a}::VARCHAR`,
  ]),
  [f("toString", "x"), "strftime(x, '%Y-%m-%dT%H:%M:%S.%gZ')"],
  ...["i", "b", "m", "n", "digits", "p"].map((a): [ExprNode, string] => [
    f("toDouble", a),
    `TRY_CAST(${a} AS DOUBLE)`,
  ]),
  ...["i", "d", "m", "n", "digits", "p"].map((a): [ExprNode, string] => [
    f("toBigint", a),
    `TRY_CAST(${a} AS BIGINT)`,
  ]),
];

const times: [ExprNode, string][] = [
  ...(["minute", "hour", "day", "month", "year"] as const).flatMap((of): [ExprNode, string][] => [
    [unit("truncate", of), `date_trunc('${of}', x)`],
    [unit("extract", of), `date_part('${of}', x)::INTEGER`],
  ]),
  [unit("extract", "dayOfWeek"), "date_part('dayofweek', x)::INTEGER"],
  [f("addMs", "x", whole(90_000)), "x + INTERVAL 90 SECOND"],
  [f("addMs", "x", "i"), "x + to_milliseconds(i)"],
  [f("diffMs", "x", "y"), "epoch_ms(x) - epoch_ms(y)"],
];

const rows = Array.from({ length: ROWS }, () =>
  COLUMNS.map(({ make }) => (random() < 0.15 ? null : make())),
);
const batch: Batch = {
  rowCount: ROWS,
  columns: COLUMNS.map(({ node }, c) =>
    columnFromValues(
      node,
      rows.map((row) => row[c]),
    ),
  ),
};
const nodes = COLUMNS.map(({ node }) => node);

const instance = await DuckDBInstance.create(":memory:");
const db = await instance.connect();
await db.run("SET TimeZone = 'UTC'");
const declared = COLUMNS.map(({ node, sql }) => `${node.name} ${sql}`).join(", ");
await db.run(`CREATE TABLE r (k INTEGER, ${declared})`);
const tuples = rows.map((row, k) =>
  [k, ...row.map((value, c) => sqlValue(value, (nodes[c] as ColumnNode).type))].join(", "),
);
await db.run(`INSERT INTO r VALUES ${tuples.map((tuple) => `(${tuple})`).join(", ")}`);

async function expected(sql: string, type: ColumnType): Promise<unknown[]> {
  const shape = type.kind === "timestamp" ? `epoch_ms(${sql})::DOUBLE` : `(${sql})`;
  const asText = type.kind === "decimal" || type.kind === "bigint" ? `${shape}::VARCHAR` : shape;
  const reader = await db.runAndReadAll(`SELECT ${asText} FROM r ORDER BY k`);
  return reader.getRowsJS().map(([value]) => value);
}

function shown(value: RowValue, type: ColumnType): unknown {
  if (type.kind !== "decimal" || value === null) {
    return typeof value === "bigint" ? String(value) : value;
  }
  return sqlValue(value, type).slice(1, -1);
}

describe(`expressions give what DuckDB gives (EXPRESSION_SEED=${seed})`, () => {
  const cases = [...comparisons, ...arithmetic, ...logic, ...text, ...conversions, ...times];
  it.each(cases.map(([node, sql]) => ({ node, sql })))("$sql", async ({ node, sql }) => {
    const result = compileExpression(node, nodes)(batch);
    const found = rows.map((_, row) => shown(valueAt(result, row), result.type));
    const wanted = await expected(sql, result.type);
    const wrong = found.findIndex((value, row) => !sameResult(value, wanted[row]));
    const at = wrong < 0 ? undefined : rows[wrong];
    expect(wrong < 0 ? null : { at, found: found[wrong], wanted: wanted[wrong] }).toBeNull();
  });
});

/** Zeros are one value whatever their sign. */
function sameResult(a: unknown, b: unknown): boolean {
  return a === b || Object.is(a, b);
}

describe("beyond DuckDB", () => {
  const evaluate = (node: ExprNode): RowValue => {
    const one = { rowCount: 1, columns: [] };
    return valueAt(compileExpression(node, [])(one), 0);
  };

  it("gives null for a timestamp beyond what JavaScript can hold", () => {
    expect(evaluate(f("addMs", lit(T.timestamp, 8.64e15), whole(0)))).toBe(8.64e15);
    expect(evaluate(f("addMs", lit(T.timestamp, 8.64e15), whole(1)))).toBeNull();
    expect(evaluate(f("addMs", lit(T.timestamp, 0), big(String(I64 - 1n))))).toBeNull();
  });

  it("agrees with Date over the whole range of timestamps", () => {
    for (let i = 0; i < 2000; i++) {
      const ms = Math.floor((random() * 2 - 1) * 8.64e15);
      const date = new Date(ms);
      const part = (of: Unit): RowValue =>
        evaluate({ op: "extract", args: [lit(T.timestamp, ms)], unit: of });
      const found = [part("year"), part("month"), part("day"), part("dayOfWeek"), part("hour")];
      const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
      const rest = [date.getUTCDate(), date.getUTCDay(), date.getUTCHours()];
      expect(found, `ms ${ms}, seed ${seed}`).toEqual([year, month + 1, ...rest]);
    }
  });

  it("names the columns there are when one is missing", () => {
    expect(() => compileExpression(col("nope"), nodes)).toThrow(/column "nope"; there are: s, t/);
  });
});
