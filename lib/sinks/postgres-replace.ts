/**
 * A schema's tables replaced by rebuilt ones in one transaction: those are filled in a schema
 * beside it, and whoever opens the sink of their output puts them in place.
 */
import { createHash } from "node:crypto";
import type { PipelineDefinition } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { lockSchema, PostgresConnection, type PostgresRow } from "./postgres-connection.js";
import { NAME_BYTES_MAX, nameList, PROGRESS, quoteName } from "./postgres-schema.js";
import type { TableLayout } from "./sink.js";
import { checkOutput } from "./sink-output.js";

/** Where the rebuilt tables of `schema` are filled. */
export function stagingSchema(schema: string): string {
  const name = `${schema}_backfill`;
  if (Buffer.byteLength(name) <= NAME_BYTES_MAX) return name;
  return `backfill_${createHash("md5").update(schema).digest("hex")}`;
}

/** A comment on the schema in which tables are rebuilt: no other is ever dropped. */
const MARK = /^tables that a Millpond backfill rebuilds for (\S+) in the place of (\S+)$/;
const NO_OUTPUT = "nothing";

const markOf = (output: string, replaced: string | null): string =>
  `tables that a Millpond backfill rebuilds for ${output} in the place of ${replaced ?? NO_OUTPUT}`;

/** The definition with its PostgreSQL tables where they are filled. */
export function staged(definition: PipelineDefinition): PipelineDefinition {
  const sinks = definition.sinks.map((node) =>
    node.kind === "postgres" ? { ...node, schema: stagingSchema(node.schema) } : node,
  );
  return { ...definition, sinks };
}

export interface ReplaceOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly pipeline: string;
  readonly schema: string;
  /** What the tables will be. */
  readonly layouts: readonly TableLayout[];
  /** The only output whose tables may be replaced; null for any of the pipeline. */
  readonly output: string | null;
}

/** What tables in a schema beside it are rebuilt for. */
export interface Staged {
  readonly output: string;
  /** Whose tables they will replace; null for no output's. */
  readonly replaced: string | null;
}

interface Progress {
  readonly pipeline: string;
  readonly output: string | null;
  readonly tables: readonly string[];
}

/**
 * Before tables are rebuilt: whether they could be put in place, as things are. Returns the output
 * that they would replace, null where there is none.
 *
 * @throws MillpondError OUTPUT when the schema is not this output's, or others' views read it
 */
export async function checkReplacement(options: ReplaceOptions): Promise<string | null> {
  const { env, pipeline, schema, layouts, output } = options;
  const connection = await PostgresConnection.open(env, `millpond ${pipeline} backfill`);
  try {
    const before = await progressOf(connection, schema);
    if (before !== null) {
      refuseOther(connection, schema, pipeline, before);
      checkOutput(`schema "${schema}" of ${connection.place}`, before.output, output);
    }
    const own = before?.tables ?? [];
    await refuseForeign(connection, schema, layouts, own);
    await refuseReaders(connection, schema, own);
    await refuseRowSecurity(connection, schema, own);
    await stagedIn(connection, stagingSchema(schema));
    return before?.output ?? null;
  } finally {
    await connection.close();
  }
}

/**
 * The schema to fill the tables in, empty, unless it has been made for this `output` before: what
 * is in it then is not kept elsewhere.
 */
export async function makeStaging(
  { env, pipeline, schema }: Pick<ReplaceOptions, "env" | "pipeline" | "schema">,
  { output, replaced }: Staged,
): Promise<void> {
  const connection = await PostgresConnection.open(env, `millpond ${pipeline} backfill`);
  const staging = stagingSchema(schema);
  const name = quoteName(staging);
  try {
    await connection.begin();
    await lockSchema(connection, staging);
    if ((await stagedIn(connection, staging))?.output !== output) {
      await connection.query(`DROP SCHEMA IF EXISTS ${name} CASCADE`);
      await connection.query(`CREATE SCHEMA ${name}`);
      const [comment] = await connection.query(
        "SELECT format('COMMENT ON SCHEMA %I IS %L', $1::text, $2::text) AS sql",
        [staging, markOf(output, replaced)],
      );
      await connection.query(String(comment!.sql));
    }
    await connection.query("COMMIT");
  } finally {
    // Also ends a transaction that failed.
    await connection.close();
  }
}

/** Null without that schema. */
async function stagedIn(connection: PostgresConnection, staging: string): Promise<Staged | null> {
  const [found] = await connection.query(
    "SELECT obj_description(oid, 'pg_namespace') AS mark FROM pg_namespace WHERE nspname = $1",
    [staging],
  );
  if (found === undefined) return null;
  const [, output, replaced] = MARK.exec(String(found.mark)) ?? [];
  if (output !== undefined && replaced !== undefined) {
    return { output, replaced: replaced === NO_OUTPUT ? null : replaced };
  }
  throw new MillpondError(
    "OUTPUT",
    `schema "${staging}" of ${connection.place}, in which tables are rebuilt, is there and not ` +
      "Millpond's: rename it",
  );
}

/**
 * Puts tables that were rebuilt for `output` in the place of those in `schema`, which keep their
 * privileges; nothing if there are none. In the caller's transaction.
 */
export async function takeStaged(
  connection: PostgresConnection,
  { pipeline, schema }: Pick<ReplaceOptions, "pipeline" | "schema">,
  output: string,
): Promise<void> {
  const staging = stagingSchema(schema);
  const rebuilt = await progressOf(connection, staging);
  if (rebuilt === null || rebuilt.output !== output) return;
  refuseOther(connection, staging, pipeline, rebuilt);
  // A sink that is about to commit its first rows is waited for.
  const before = await progressOf(connection, schema, "FOR UPDATE");
  if (before !== null) refuseOther(connection, schema, pipeline, before);
  const replacedNow = before?.output ?? null;
  const mark = await stagedIn(connection, staging);
  if (replacedNow !== null && replacedNow !== mark?.replaced) {
    throw takenMeanwhile(connection, schema, staging);
  }
  const grants = before === null ? [] : await grantsOf(connection, schema);
  const replaced = before === null ? [] : [...before.tables, PROGRESS];
  const place = quoteName(schema);
  if (replaced.length > 0) {
    const names = replaced.map((name) => `${place}.${quoteName(name)}`);
    await connection.query(`DROP TABLE ${names.join(", ")}`);
  }
  const moved = [...rebuilt.tables, PROGRESS];
  await connection.query(`CREATE SCHEMA IF NOT EXISTS ${place}`);
  for (const name of moved) {
    const from = `${quoteName(staging)}.${quoteName(name)}`;
    await connection.query(`ALTER TABLE ${from} SET SCHEMA ${place}`);
  }
  await grantAgain(connection, schema, grants);
  await connection.query(`DROP SCHEMA ${quoteName(staging)}`);
}

/** Null where there is no such schema, or it is not Millpond's. */
async function progressOf(
  connection: PostgresConnection,
  schema: string,
  lock = "",
): Promise<Progress | null> {
  const table = `${quoteName(schema)}.${PROGRESS}`;
  const [there] = await connection.query("SELECT to_regclass($1) IS NOT NULL AS there", [table]);
  if (there?.there !== true) return null;
  const [row] = await connection.query(`SELECT pipeline, output, tables FROM ${table} ${lock}`);
  if (row === undefined) return null;
  return {
    pipeline: String(row.pipeline),
    output: row.output === null ? null : String(row.output),
    tables: Array.isArray(row.tables) ? row.tables.map(String) : [],
  };
}

function refuseOther(
  connection: PostgresConnection,
  schema: string,
  pipeline: string,
  found: Progress,
): void {
  if (found.pipeline === pipeline) return;
  throw new MillpondError(
    "OUTPUT",
    `schema "${schema}" of ${connection.place} is taken: it belongs to pipeline ` +
      `"${found.pipeline}", not "${pipeline}". Give this pipeline another one, ` +
      'postgres({ schema: "…" })',
  );
}

const takenMeanwhile = (
  connection: PostgresConnection,
  schema: string,
  staging: string,
): MillpondError =>
  new MillpondError(
    "OUTPUT",
    `schema "${schema}" of ${connection.place} was taken by another output of this pipeline ` +
      `after the backfill had begun. Its tables stay, and the rebuilt ones are in "${staging}": ` +
      "rename that output's schema, and the next run, sink or backfill puts them in place",
  );

async function refuseForeign(
  connection: PostgresConnection,
  schema: string,
  layouts: readonly TableLayout[],
  own: readonly string[],
): Promise<void> {
  const [found] = await connection.query(
    `SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = ANY ($2) AND NOT c.relname = ANY ($3)`,
    [schema, layouts.map(({ name }) => name), own],
  );
  if (found === undefined) return;
  throw new MillpondError(
    "OUTPUT",
    `schema "${schema}" has a "${String(found.name)}" that Millpond did not make. Rename it, or ` +
      'give the pipeline another schema, postgres({ schema: "…" })',
  );
}

/** Views, foreign keys and the like would keep the tables from being dropped. */
async function refuseReaders(
  connection: PostgresConnection,
  schema: string,
  own: readonly string[],
): Promise<void> {
  const readers = await connection.query(
    `SELECT DISTINCT r.ev_class::regclass::text AS reader
    FROM pg_depend d JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
      JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid
      JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.oid <> r.ev_class
    UNION
    SELECT format('constraint %I of %s', k.conname, k.conrelid::regclass)
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE k.contype = 'f' AND n.nspname = $1 AND c.relname = ANY ($2) ORDER BY 1`,
    [schema, own],
  );
  if (readers.length === 0) return;
  const names = readers.map(({ reader }) => String(reader)).join(", ");
  throw new MillpondError(
    "OUTPUT",
    `tables in schema "${schema}" of ${connection.place} are read by ${names}, so that they ` +
      "cannot be replaced: drop those, and create them again when the backfill is done",
  );
}

/** Readers keep their privileges: then they would see rows that policies had kept from them. */
async function refuseRowSecurity(
  connection: PostgresConnection,
  schema: string,
  own: readonly string[],
): Promise<void> {
  const [found] = await connection.query(
    `SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relrowsecurity ORDER BY 1`,
    [schema, own],
  );
  if (found === undefined) return;
  throw new MillpondError(
    "OUTPUT",
    `table "${String(found.name)}" in schema "${schema}" of ${connection.place} has row ` +
      "security, which the rebuilt one would not have: revoke its readers' privileges and " +
      "disable row security, and set both again when the backfill is done",
  );
}

/** Whom the tables, or columns of them, were shown to, except for their owner. */
function grantsOf(connection: PostgresConnection, schema: string): Promise<readonly PostgresRow[]> {
  return connection.query(
    `SELECT c.relname AS table, g."column", a.privilege_type AS privilege,
      a.is_grantable AS grantable,
      CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END AS grantee
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
      LATERAL (SELECT NULL AS "column", c.relacl AS acl UNION ALL
        SELECT attname, attacl FROM pg_attribute
        WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS g,
      aclexplode(g.acl) a
    WHERE n.nspname = $1 AND c.relkind = 'r' AND a.grantee <> c.relowner`,
    [schema],
  );
}

/** Of tables and columns that are there no more, nothing. */
async function grantAgain(
  connection: PostgresConnection,
  schema: string,
  grants: readonly PostgresRow[],
): Promise<void> {
  const columns = await connection.query(
    `SELECT c.relname AS table, attname AS "column" FROM pg_attribute
      JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relkind = 'r' AND attnum > 0 AND NOT attisdropped`,
    [schema],
  );
  for (const grant of grants) {
    const isThere = columns.some(
      ({ table, column }) =>
        table === grant.table && (grant.column === null || column === grant.column),
    );
    if (isThere) await connection.query(grantSql(schema, grant));
  }
}

function grantSql(schema: string, grant: PostgresRow): string {
  const { table, column, privilege, grantee, grantable } = grant;
  const to = grantee === null ? "PUBLIC" : quoteName(String(grantee));
  const option = grantable === true ? " WITH GRANT OPTION" : "";
  // The privilege is a keyword of PostgreSQL's own list.
  const of = column === null ? "" : ` (${quoteName(String(column))})`;
  const what = `${String(privilege)}${of} ON ${quoteName(schema)}.${nameList([String(table)])}`;
  return `GRANT ${what} TO ${to}${option}`;
}
