/**
 * A pipeline's tables in PostgreSQL, copied into the audit's DuckDB as of one transaction, some
 * thousand rows at a time. Only the types' texts travel, in which every value is exact.
 */
import type { DuckDBAppender, DuckDBConnection } from "@duckdb/node-api";
import type { ColumnNode, ColumnType } from "../define/definition.js";
import { columnDefinitions, duckdbType, quoteName } from "../sinks/duckdb-types.js";
import { PostgresConnection, type PostgresRow } from "../sinks/postgres-connection.js";
import { PROGRESS, quoteName as postgresName } from "../sinks/postgres-schema.js";
import type { TableLayout } from "../sinks/sink.js";
import type { Published, PublishedCopy, Unread } from "./published.js";

type Env = Readonly<Record<string, string | undefined>>;

/** One of them names a server; else the sink's default would be somebody's local one. */
const NAMING = ["MILLPOND_POSTGRES_SECRET_ARN", "DATABASE_URL", "PGHOST"];
const FETCHED_ROWS = 5_000;

/** Whether it says where the server is, so that an audit reads it. */
export const namesServer = (env: Env): boolean =>
  NAMING.some((variable) => (env[variable] ?? "") !== "");

export interface PostgresPlace {
  readonly env: Env;
  readonly pipeline: string;
  readonly schema: string;
  readonly layouts: readonly TableLayout[];
}

/**
 * @returns why not, where the schema is not of this output or of another publication
 * @throws MillpondError as `PostgresConnection` does, where a server is named and fails
 * @example const copy = await copyPostgres(connection, { env, … }, { output, sequence: 17 }, "p0");
 */
export async function copyPostgres(
  into: DuckDBConnection,
  place: PostgresPlace,
  published: Published,
  duckdbSchema: string,
): Promise<PublishedCopy | Unread> {
  const { env, pipeline, schema, layouts } = place;
  const name = `PostgreSQL schema ${schema}`;
  if (!namesServer(env)) {
    return { place: name, reason: "the environment names no server: set DATABASE_URL or PGHOST" };
  }
  const postgres = await PostgresConnection.open(env, `millpond audit ${pipeline}`);
  try {
    await postgres.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    await postgres.query("SET LOCAL TimeZone = 'UTC'; SET LOCAL extra_float_digits = 1");
    const reason = await whyNot(postgres, place, published);
    if (reason !== null) return { place: name, reason };
    const tables = new Map<string, string>();
    const there = await tablesIn(postgres, schema);
    await into.run(`CREATE SCHEMA ${quoteName(duckdbSchema)}`);
    for (const layout of layouts) {
      const relation = `${quoteName(duckdbSchema)}.${quoteName(layout.name)}`;
      await into.run(`CREATE TABLE ${relation} (${columnDefinitions(layout.columns)})`);
      tables.set(layout.name, relation);
      if (there.has(layout.name)) await copyTable(postgres, into, schema, layout, duckdbSchema);
    }
    return { place: name, tables, accounting: { kind: "none" } };
  } finally {
    await postgres.close();
  }
}

async function whyNot(
  postgres: PostgresConnection,
  { pipeline, schema }: PostgresPlace,
  { output, sequence }: Published,
): Promise<string | null> {
  const progress = `${postgresName(schema)}.${PROGRESS}`;
  const [there] = await postgres.query("SELECT to_regclass($1) IS NOT NULL AS ok", [progress]);
  if (there?.ok !== true) return "it has no results of Millpond's";
  const [row] = await postgres.query(`SELECT pipeline, sequence, output FROM ${progress}`);
  if (row === undefined) return "it lost its row of progress";
  if (row.pipeline !== pipeline) return `it has the results of pipeline "${row.pipeline}"`;
  if (output !== null && row.output !== null && row.output !== output) {
    return "it has the results of another output";
  }
  const stands = Number(row.sequence);
  if (stands === sequence) return null;
  const than =
    stands < sequence ? "behind: it was down, or is being written" : "ahead: audit again";
  return `it stands at publication ${stands}, the others at ${sequence}; it is ${than}`;
}

async function tablesIn(postgres: PostgresConnection, schema: string): Promise<Set<string>> {
  const rows = await postgres.query("SELECT tablename FROM pg_tables WHERE schemaname = $1", [
    schema,
  ]);
  return new Set(rows.map(({ tablename }) => String(tablename)));
}

async function copyTable(
  postgres: PostgresConnection,
  into: DuckDBConnection,
  schema: string,
  { name, columns }: TableLayout,
  duckdbSchema: string,
): Promise<void> {
  const stage = `${quoteName(duckdbSchema)}.millpond_stage`;
  const texts = columns.map((column, i) => `${textSql(column)} AS c${i}`).join(", ");
  const from = `${postgresName(schema)}.${postgresName(name)}`;
  await postgres.query(`DECLARE millpond_rows NO SCROLL CURSOR FOR SELECT ${texts} FROM ${from}`);
  await into.run(`CREATE TABLE ${stage} (${columns.map((_, i) => `c${i} VARCHAR`).join(", ")})`);
  const appender = await into.createAppender("millpond_stage", duckdbSchema);
  for (;;) {
    const rows = await postgres.query(`FETCH ${FETCHED_ROWS} FROM millpond_rows`);
    if (rows.length === 0) break;
    for (const row of rows) append(appender, row, columns);
    appender.flushSync();
  }
  appender.closeSync();
  await postgres.query("CLOSE millpond_rows");
  const values = columns.map(({ type }, i) => valueSql(`c${i}`, type)).join(", ");
  const table = `${quoteName(duckdbSchema)}.${quoteName(name)}`;
  await into.run(`INSERT INTO ${table} SELECT ${values} FROM ${stage}`);
  await into.run(`DROP TABLE ${stage}`);
}

function append(appender: DuckDBAppender, row: PostgresRow, columns: readonly ColumnNode[]): void {
  for (const [i, { type }] of columns.entries()) {
    const text = row[`c${i}`];
    if (typeof text !== "string") appender.appendNull();
    else appender.appendVarchar(unstored(text, type.kind === "string" ? "\0" : "\\u0000"));
  }
  appender.endRow();
}

/** The other way of `storableText`, by which the sink keeps U+0000: `zero`, as JSON has it too. */
const unstored = (text: string, zero: string): string =>
  text.replace(/␀([0␀])/g, (_, found: string) => (found === "0" ? zero : "␀"));

/** A value as text in PostgreSQL; elements of lists as texts in JSON. */
function textSql({ name, type }: ColumnNode): string {
  const column = postgresName(name);
  switch (type.kind) {
    case "timestamp":
      return `CASE WHEN isfinite(${column})
        THEN (extract(epoch FROM ${column}) * 1000000)::bigint::text END`;
    case "bytes":
      return `encode(${column}, 'hex')`;
    case "list":
      return `to_json(${column}::text[])::text`;
    case "topK":
      return `CASE WHEN ${column} IS NOT NULL THEN (SELECT coalesce(json_agg(json_build_object(
          'value', e->>'value', 'count', e->>'count') ORDER BY n), '[]')
        FROM jsonb_array_elements(${column}) WITH ORDINALITY AS entries(e, n))::text END`;
    default:
      return `${column}::text`;
  }
}

/** The value that such a text stands for, in DuckDB. */
function valueSql(text: string, type: ColumnType): string {
  switch (type.kind) {
    case "timestamp":
      return `make_timestamptz(${text}::BIGINT)`;
    case "bytes":
      return `unhex(${text})`;
    case "list":
      return `from_json(${text}, '["VARCHAR"]')::${duckdbType(type)}`;
    case "topK": {
      const entries = `from_json(${text}, '[{"value":"VARCHAR","count":"VARCHAR"}]')`;
      return `${entries}::${duckdbType(type)}`;
    }
    default:
      return `${text}::${duckdbType(type)}`;
  }
}
