/** Runs a pipeline's batch steps in DuckDB, the user's functions (`map`) among them. */
import type { DuckDBAppender, DuckDBConnection, DuckDBValue } from "@duckdb/node-api";
import type { ColumnType, MapFunction } from "../define/definition.js";
import { DuckDBDecimalValue, DuckDBListValue } from "../duckdb-api.js";
import { MillpondError } from "../errors.js";
import { duckdbType, quoteName } from "../sinks/duckdb-types.js";
import type { BatchStep } from "./batch-sql.js";
import { workingType } from "./sql-types.js";
import { CARRIED, type MapRun } from "./steps-sql.js";

const APPENDER_FLUSH_ROWS = 100_000;

/**
 * Leaves the tables in schemas `main` and `work` of the connection's database. `functions`: a
 * pipeline's map functions by `${table}/${step}`.
 *
 * @throws MillpondError QUERY when DuckDB fails, USAGE when a map function is missing
 * @example
 * await runBatch(connection, batchSteps(definition, { bronze, references }), pipeline.functions);
 */
export async function runBatch(
  connection: DuckDBConnection,
  steps: readonly BatchStep[],
  functions: ReadonlyMap<string, MapFunction>,
): Promise<void> {
  for (const step of steps) {
    try {
      if (step.kind === "sql") await connection.run(step.sql);
      else await runMap(connection, step, functions.get(`${step.table}/${step.name}`));
    } catch (cause) {
      if (cause instanceof MillpondError) throw cause;
      const found = cause instanceof Error ? cause.message.trim() : String(cause);
      throw new MillpondError(
        "QUERY",
        `the recomputation failed in DuckDB: ${found.split("\n")[0]}; --sql shows its statements`,
        { cause },
      );
    }
  }
}

async function runMap(
  connection: DuckDBConnection,
  { table, name, from, input, output, into }: MapRun,
  map: MapFunction | undefined,
): Promise<void> {
  if (map === undefined) {
    throw new MillpondError(
      "USAGE",
      `table "${table}" runs the function of map "${name}", which only the pipeline's file has: ` +
        "give that file",
    );
  }
  const columns = output.map((column) => `${quoteName(column.name)} ${workingType(column.type)}`);
  const carried = CARRIED.map(([column, type]) => `${column} ${type}`);
  await connection.run(`CREATE TABLE ${into} (${[...carried, ...columns].join(", ")})`);
  const [schema, relation] = into.split(".").map((part) => part.replaceAll('"', ""));
  const appender = await connection.createAppender(relation!, schema);
  const names = [...CARRIED.map(([column]) => column), ...[...input.keys()].map(quoteName)];
  const result = await connection.stream(`SELECT ${names.join(", ")} FROM (${from})`);
  let rows = 0;
  for (;;) {
    const chunk = await result.fetchChunk();
    if (chunk === null || chunk.rowCount === 0) break;
    for (const values of chunk.getRows()) {
      const entries = [...input.keys()].map((column, i) => [
        column,
        plain(values[CARRIED.length + i]!, input.get(column)!),
      ]);
      const mapped = map(Object.fromEntries(entries));
      if (mapped === null) continue;
      CARRIED.forEach(([, type], i) => {
        append(appender, values[i]!, CARRIED_TYPES[type]!);
      });
      for (const column of output) {
        append(appender, working(mapped[column.name] ?? null, column.type), workingOf(column.type));
      }
      appender.endRow();
      if (++rows % APPENDER_FLUSH_ROWS === 0) appender.flushSync();
    }
  }
  appender.closeSync();
}

const CARRIED_TYPES: Readonly<Record<string, ColumnType>> = {
  INTEGER: { kind: "int" },
  BIGINT: { kind: "bigint" },
  BOOLEAN: { kind: "boolean" },
};

/** A value as `map` functions see it: times are epoch ms, decimals whole numbers of their scale. */
function plain(value: DuckDBValue, type: ColumnType): unknown {
  if (value === null) return null;
  if (value instanceof DuckDBDecimalValue) return value.value;
  if (value instanceof DuckDBListValue) {
    const element: ColumnType = type.kind === "list" ? type.element : { kind: "string" };
    return value.items.map((item) => plain(item, element));
  }
  return type.kind === "timestamp" ? Number(value) : value;
}

/** What a function returned, as DuckDB takes it. */
function working(value: unknown, type: ColumnType): DuckDBValue {
  if (value === null) return null;
  switch (type.kind) {
    case "timestamp":
      return BigInt(value instanceof Date ? value.getTime() : Number(value));
    case "decimal":
      return new DuckDBDecimalValue(BigInt(String(value)), type.precision, type.scale);
    case "list":
      return new DuckDBListValue(
        Array.isArray(value) ? value.map((item) => working(item, type.element)) : [],
      );
    case "bigint":
      return BigInt(String(value));
    case "boolean":
      return value === true;
    case "string":
      return String(value);
    default:
      return Number(value);
  }
}

function workingOf(type: ColumnType): ColumnType {
  if (type.kind === "timestamp") return { kind: "bigint" };
  if (type.kind === "list" && type.element.kind === "timestamp") {
    return { kind: "list", element: { kind: "bigint" } };
  }
  return type;
}

function append(appender: DuckDBAppender, value: DuckDBValue, type: ColumnType): void {
  if (value === null) appender.appendNull();
  else appender.appendValue(value, duckdbType(type));
}
