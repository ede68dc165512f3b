/** `pipeline()`: puts tables and sinks together, and refuses what cannot work. */
import { isDeepStrictEqual } from "node:util";
import type { MapFunction, Pipeline, ReferenceNode, SinkNode, StreamNode } from "./definition.js";
import { at, callerPlace, DefinitionError, suggestion } from "./definition-error.js";
import { checkName, checkTableNames } from "./names.js";
import { checkOptions } from "./options.js";
import { declaredParameters } from "./parameters.js";
import { resolveTable } from "./resolve.js";
import { Chain, type TableParts, TableShape } from "./stream.js";

/** Results as Parquet with a Delta log; `bronze` (default true) keeps every record as read. */
export const lake = (
  options: { readonly bronze?: boolean; readonly tables?: readonly string[] } = {},
): SinkNode =>
  at({ file: callerPlace() }, () => {
    checkOptions("lake", options, { bronze: true, tables: true });
    return { kind: "lake", bronze: true, ...options };
  });

/** Results in one DuckDB database. */
export const duckdb = (options: { readonly tables?: readonly string[] } = {}): SinkNode =>
  at({ file: callerPlace() }, () => {
    checkOptions("duckdb", options, { tables: true });
    return { kind: "duckdb", ...options };
  });

/**
 * Results as PostgreSQL tables, upserted by their keys; the server is named by the environment.
 * `schema` is "public" by default.
 */
export const postgres = (
  options: { readonly schema?: string; readonly tables?: readonly string[] } = {},
): SinkNode =>
  at({ file: callerPlace() }, () => {
    checkOptions("postgres", options, { schema: true, tables: true });
    const { schema = "public" } = options;
    if (typeof schema !== "string" || schema === "") {
      throw new DefinitionError('postgres: the schema is no name; give one, like "analytics"');
    }
    return { kind: "postgres", ...options, schema };
  });

/**
 * The rows of a row table as JSON records of a topic; brokers are named by the environment.
 *
 * @example kafka({ table: "enriched", topic: "enriched_activity" })
 */
export const kafka = (options: { readonly table: string; readonly topic: string }): SinkNode =>
  at({ file: callerPlace() }, () => {
    checkOptions("kafka", options, { table: true, topic: true });
    const { table, topic } = options;
    if (typeof topic !== "string" || !/^(?!\.{1,2}$)[\w.-]{1,230}$/.test(topic)) {
      throw new DefinitionError(
        `kafka: ${JSON.stringify(topic)} is no topic for a sink, which adds to its name; give ` +
          'one of at most 230 letters, digits, ".", "_" and "-"',
      );
    }
    return { kind: "kafka", topic, tables: [table] };
  });

/**
 * Results as Snowflake tables; account and credentials are in the environment. `bronze` (default
 * false) loads every record as read, too.
 */
export const snowflake = (
  options: { readonly bronze?: boolean; readonly tables?: readonly string[] } = {},
): SinkNode =>
  at({ file: callerPlace() }, () => {
    checkOptions("snowflake", options, { bronze: true, tables: true });
    return { kind: "snowflake", bronze: false, ...options };
  });

/** A chain of any columns counts as a row table. */
export type TableSource = TableShape | { readonly parts: TableParts; rows(): TableShape };

/** Throws a DefinitionError that names file, table and column if the pipeline cannot work. */
export function pipeline(
  name: string,
  tables: Readonly<Record<string, TableSource>>,
  options: { readonly sinks?: readonly SinkNode[] } = {},
): Pipeline {
  const place = callerPlace();
  return at({ file: place }, () => {
    checkName("pipeline", name.replaceAll("-", "_"));
    const names = Object.keys(tables);
    if (names.length === 0) throw new DefinitionError(`pipeline "${name}" has no tables`);
    checkTableNames(names);
    const shapes = Object.entries(tables).map(([table, source]) => shapeOf(table, source));
    const resolved = shapes.map(({ table, parts }) =>
      at({ table }, () => resolveTable(table, parts)),
    );
    const functions = new Map<string, MapFunction>();
    for (const { table, functions: own } of resolved) {
      for (const [step, fn] of own) functions.set(`${table.name}/${step}`, fn);
    }
    checkOptions(`pipeline "${name}"`, options, { sinks: true });
    const { sinks = [lake(), duckdb()] } = options;
    const rowTables = resolved.filter(({ table }) => table.shape.kind === "rows");
    checkSinks(
      sinks,
      names,
      rowTables.map(({ table }) => table.name),
    );
    const definition = {
      version: 1 as const,
      name,
      parameters: declaredParameters(),
      streams: collect<StreamNode>(
        "streams",
        shapes.map(({ parts }) => parts.stream),
      ),
      references: collect<ReferenceNode>(
        "references",
        shapes.flatMap(({ parts }) =>
          parts.steps.flatMap((step) => (step.kind === "enrich" ? [step.reference] : [])),
        ),
      ),
      tables: resolved.map(({ table }) => table),
      sinks,
    };
    const file = place?.replace(/:\d+$/, "");
    return { kind: "pipeline", definition: deepFreeze(definition), functions, file };
  });
}

function shapeOf(table: string, source: TableSource): { table: string; parts: TableParts } {
  if (source instanceof TableShape || source instanceof Chain)
    return { table, parts: source.parts };
  throw new DefinitionError(
    "it is no table; end it with .aggregate({ … }) after .window(…), or with .rows()",
    { table },
  );
}

/** Each once; two different ones of the same name are refused. */
function collect<T extends { readonly name: string }>(what: string, items: readonly T[]): T[] {
  const found = new Map<string, T>();
  for (const item of items) {
    const other = found.get(item.name);
    if (other !== undefined && !isDeepStrictEqual(other, item)) {
      throw new DefinitionError(`two different ${what} are named "${item.name}"; declare it once`);
    }
    found.set(item.name, item);
  }
  return [...found.values()];
}

function checkSinks(
  sinks: readonly SinkNode[],
  tables: readonly string[],
  rowTables: readonly string[],
): void {
  if (!Array.isArray(sinks) || sinks.some((sink) => typeof sink?.kind !== "string")) {
    throw new DefinitionError("the sinks are no list of sinks; give one, like [lake(), duckdb()]");
  }
  for (const kind of ["lake", "duckdb"]) {
    if (sinks.filter((sink) => sink.kind === kind).length < 2) continue;
    throw new DefinitionError(
      `there are two sinks ${kind}(), which would be one place; give one, with the tables of both`,
    );
  }
  for (const sink of sinks) {
    for (const table of sink.tables ?? []) {
      if (tables.includes(table)) continue;
      throw new DefinitionError(
        `sink ${sink.kind} lists table "${table}", which the pipeline does not have` +
          suggestion(table, tables),
        { table },
      );
    }
    if (sink.kind !== "kafka" || rowTables.includes(sink.tables[0])) continue;
    throw new DefinitionError(
      "sink kafka sends rows to the partitions they came from, which a window's row lacks; " +
        "give it a table without a window",
      { table: sink.tables[0] },
    );
  }
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  for (const child of Object.values(value)) deepFreeze(child);
  return Object.freeze(value);
}
