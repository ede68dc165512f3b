/** The audit's own reading of expressions as DuckDB SQL, kept apart from the engine's. */
import type { ColumnType, ExprNode, Operator, ScalarType } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { quoteName } from "../sinks/duckdb-types.js";
import { literalSql, workingType } from "./sql-types.js";

export interface TypedSql {
  readonly sql: string;
  readonly type: ColumnType;
}

type OperatorNode = Extract<ExprNode, { op: Operator }>;

const INSTANT_MS_MAX = 8_640_000_000_000_000n;
const BIGINT: ScalarType = { kind: "bigint" };
const DOUBLE: ScalarType = { kind: "double" };
const BOOLEAN: ScalarType = { kind: "boolean" };
const STRING: ScalarType = { kind: "string" };
const TIMESTAMP: ScalarType = { kind: "timestamp" };

const COMPARISONS = { eq: "=", ne: "<>", lt: "<", lte: "<=", gt: ">", gte: ">=" } as const;
const ARITHMETIC = { add: "+", sub: "-", mul: "*" } as const;
const TEXT_FUNCTIONS = {
  startsWith: ["starts_with", BOOLEAN],
  endsWith: ["ends_with", BOOLEAN],
  contains: ["contains", BOOLEAN],
  lower: ["lower", STRING],
  upper: ["upper", STRING],
  trim: ["trim", STRING],
  substring: ["substring", STRING],
  length: ["length", BIGINT],
  listLength: ["len", BIGINT],
  listContains: ["list_contains", BOOLEAN],
} as const;

export function expressionSql(node: ExprNode, columns: ReadonlyMap<string, ColumnType>): TypedSql {
  if (node.op === "column") {
    const type = columns.get(node.name);
    if (type === undefined) throw unsupported(`column "${node.name}", which is not there`);
    return { sql: quoteName(node.name), type };
  }
  if (node.op === "literal") return { sql: literalSql(node.value, node.type), type: node.type };
  const args = node.args.map((arg) => expressionSql(arg, columns));
  return logicSql(node, args) ?? textSql(node, args) ?? numberSql(node, args);
}

/** Numbers of several types widen, where those that do not fit a decimal are null. */
function logicSql(node: OperatorNode, args: readonly TypedSql[]): TypedSql | undefined {
  const sqls = args.map((arg) => arg.sql);
  const [a, b] = sqls;
  switch (node.op) {
    case "eq":
    case "ne":
    case "lt":
    case "lte":
    case "gt":
    case "gte":
      return { sql: `(${a} ${COMPARISONS[node.op]} ${b})`, type: BOOLEAN };
    case "and":
      return { sql: `(${sqls.join(" AND ")})`, type: BOOLEAN };
    case "or":
      return { sql: `(${sqls.join(" OR ")})`, type: BOOLEAN };
    case "not":
      return { sql: `(NOT ${a})`, type: BOOLEAN };
    case "isNull":
      return { sql: `(${a} IS NULL)`, type: BOOLEAN };
    case "isNotNull":
      return { sql: `(${a} IS NOT NULL)`, type: BOOLEAN };
    case "in":
      return { sql: `(${a} IN (${sqls.slice(1).join(", ")}))`, type: BOOLEAN };
    case "coalesce": {
      const type = commonType(args.map((arg) => arg.type));
      const casts = sqls.map((sql) => `TRY_CAST(${sql} AS ${workingType(type)})`);
      return { sql: `coalesce(${casts.join(", ")})`, type };
    }
    case "if": {
      const type = commonType([args[1].type, args[2].type]);
      const as = workingType(type);
      const branches = `THEN TRY_CAST(${b} AS ${as}) ELSE TRY_CAST(${sqls[2]} AS ${as})`;
      return { sql: `(CASE WHEN ${a} ${branches} END)`, type };
    }
    default:
      return undefined;
  }
}

function textSql(node: OperatorNode, args: readonly TypedSql[]): TypedSql | undefined {
  const sqls = args.map((arg) => arg.sql);
  switch (node.op) {
    case "startsWith":
    case "endsWith":
    case "contains":
    case "lower":
    case "upper":
    case "trim":
    case "substring":
    case "length":
    case "listLength":
    case "listContains": {
      const [name, type] = TEXT_FUNCTIONS[node.op];
      return { sql: `CAST(${name}(${sqls.join(", ")}) AS ${workingType(type)})`, type };
    }
    case "concat":
      return { sql: `(${sqls.join(" || ")})`, type: STRING };
    case "toString":
      return { sql: toTextSql(args[0]), type: STRING };
    default:
      return undefined;
  }
}

function toTextSql({ sql, type }: TypedSql): string {
  if (type.kind === "timestamp") return `strftime(epoch_ms(${sql}), '%Y-%m-%dT%H:%M:%S.%gZ')`;
  if (type.kind === "double") throw unsupported("toString of a double");
  // Of DECIMAL(2,2) DuckDB writes .25.
  if (type.kind === "decimal") return `CAST(CAST(${sql} AS DECIMAL(38,${type.scale})) AS VARCHAR)`;
  return `CAST(${sql} AS VARCHAR)`;
}

function numberSql(node: OperatorNode, args: readonly TypedSql[]): TypedSql {
  const [first, second] = args;
  const a = first.sql;
  switch (node.op) {
    case "add":
    case "sub":
    case "mul":
      return arithmeticSql(node.op, first, second);
    case "div":
      return { sql: `(${asDouble(first)} / nullif(${asDouble(second)}, 0))`, type: DOUBLE };
    case "mod":
      if (isWhole(first.type) && isWhole(second.type)) {
        return { sql: asBigint(`${a}::HUGEINT % nullif(${second.sql}::HUGEINT, 0)`), type: BIGINT };
      }
      return { sql: `(${asDouble(first)} % nullif(${asDouble(second)}, 0))`, type: DOUBLE };
    case "neg":
      return keepType(first, (x) => `-(${x})`);
    case "abs":
      return keepType(first, (x) => `abs(${x})`);
    case "round":
    case "floor":
    case "ceil":
      return { sql: `CAST(${node.op}(${a}) AS DOUBLE)`, type: DOUBLE };
    case "toDouble":
      return { sql: `TRY_CAST(${a} AS DOUBLE)`, type: DOUBLE };
    case "toBigint":
      return { sql: `TRY_CAST(${a} AS BIGINT)`, type: BIGINT };
    default:
      return timeSql(node, first, second);
  }
}

function timeSql(node: OperatorNode, first: TypedSql, second: TypedSql): TypedSql {
  switch (node.op) {
    case "addMs": {
      const sum = asBigint(`${first.sql}::HUGEINT + ${second.sql}::HUGEINT`);
      const inRange = `abs(${sum}) <= ${INSTANT_MS_MAX}`;
      return { sql: `(CASE WHEN ${inRange} THEN ${sum} END)`, type: TIMESTAMP };
    }
    case "diffMs":
      return { sql: `(${first.sql} - ${second.sql})`, type: BIGINT };
    case "truncate":
      return { sql: `epoch_ms(${truncated(node, first.sql)}::TIMESTAMP)`, type: TIMESTAMP };
    case "extract":
      return {
        sql: `CAST(date_part('${node.unit?.toLowerCase()}', epoch_ms(${first.sql})) AS INTEGER)`,
        type: { kind: "int" },
      };
    default:
      throw unsupported(`operator "${node.op}"`);
  }
}

const truncated = (node: OperatorNode, sql: string): string =>
  `date_trunc('${node.unit}', epoch_ms(${sql}))`;

function arithmeticSql(op: keyof typeof ARITHMETIC, a: TypedSql, b: TypedSql): TypedSql {
  const sign = ARITHMETIC[op];
  if (a.type.kind === "double" || b.type.kind === "double") {
    return { sql: `(${asDouble(a)} ${sign} ${asDouble(b)})`, type: DOUBLE };
  }
  if (isWhole(a.type) && isWhole(b.type)) {
    return { sql: asBigint(`${a.sql}::HUGEINT ${sign} ${b.sql}::HUGEINT`), type: BIGINT };
  }
  const scales = [scaleOf(a.type), scaleOf(b.type)];
  const scale = op === "mul" ? scales[0] + scales[1] : Math.max(...scales);
  const operands = [a, b].map(({ sql }, i) => {
    const precision = op === "mul" ? 19 : 38;
    return `CAST(${sql} AS DECIMAL(${precision},${op === "mul" ? scales[i] : scale}))`;
  });
  const type: ScalarType = { kind: "decimal", precision: 18, scale };
  const result = `${operands[0]} ${sign} ${operands[1]}`;
  return { sql: fitting(result, type), type };
}

/** neg and abs: an int becomes a bigint, as -(-2^31) needs one; beyond 64 bits is null. */
function keepType({ sql, type }: TypedSql, apply: (sql: string) => string): TypedSql {
  if (isWhole(type)) return { sql: asBigint(apply(`${sql}::HUGEINT`)), type: BIGINT };
  return { sql: `(${apply(sql)})`, type };
}

const isWhole = (type: ColumnType): boolean => type.kind === "int" || type.kind === "bigint";
const scaleOf = (type: ColumnType): number => (type.kind === "decimal" ? type.scale : 0);
const asDouble = ({ sql }: TypedSql): string => `CAST(${sql} AS DOUBLE)`;
const asBigint = (sql: string): string => fitting(sql, BIGINT);
/**
 * Null when it does not fit. No TRY_CAST: DuckDB 1.5 drops one that is compared with a constant,
 * and what should be null is compared.
 */
const fitting = (sql: string, type: ScalarType): string =>
  `TRY(CAST(${sql} AS ${workingType(type)}))`;

function commonType(types: readonly ColumnType[]): ColumnType {
  const kinds = new Set(types.map((type) => type.kind));
  if (kinds.size === 1 && !kinds.has("decimal")) return types[0];
  if (kinds.has("double")) return DOUBLE;
  if (kinds.has("decimal")) {
    return { kind: "decimal", precision: 18, scale: Math.max(...types.map(scaleOf)) };
  }
  return BIGINT;
}

const unsupported = (what: string): MillpondError =>
  new MillpondError(
    "USAGE",
    `SQL cannot say ${what} as the engine does: audit tables without it (--table)`,
  );
