/**
 * Results as tables of a PostgreSQL schema, which is one pipeline's: rows and progress change in
 * one transaction, under a lock on the progress row. What the tables look like is
 * `postgres-schema.ts`'s business, what rows look like on the way `postgres-rows.ts`'s.
 */
import { MillpondError } from "../errors.js";
import { checkedColumns } from "./batch-columns.js";
import { isRevised, revisionColumns } from "./layouts.js";
import { lockSchema, PostgresConnection, type PostgresRow } from "./postgres-connection.js";
import { takeStaged } from "./postgres-replace.js";
import { CopyRows } from "./postgres-rows.js";
import {
  type FoundTable,
  nameList,
  PROGRESS,
  postgresType,
  quoteName,
  tableStatements,
} from "./postgres-schema.js";
import { beyondLast, type Publication, type Sink, type TableLayout } from "./sink.js";
import { checkOutput } from "./sink-output.js";

export interface PostgresSinkOptions {
  /** Where the server is; see `postgresSettings`. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly pipeline: string;
  readonly schema: string;
  readonly layouts: readonly TableLayout[];
}

/** The oldest that is still supported, and the first that takes nulls in unique keys as equal. */
const SERVER_VERSION_MIN = 150_000;
/** Rows wait in memory, as they will be sent, up to so much over all tables. */
const BUFFERED_BYTES_MAX = 16 * 1024 * 1024;
/** A transaction ends after so much, at the end of a publication. */
const TRANSACTION_BYTES_MAX = 64 * 1024 * 1024;

/**
 * @throws MillpondError (from its methods) OUTPUT when the schema is another pipeline's or its
 *   tables cannot be migrated, STORAGE when the server fails or is not reached, USAGE when it does
 *   not let the user in
 * @example
 * const sink = postgresSink({ env: process.env, pipeline: "clicks", schema: "public", layouts });
 * const taken = await sink.open();
 * await sink.apply(publications, lastSequence);
 * await sink.close();
 */
export function postgresSink(options: PostgresSinkOptions): Sink {
  return new PostgresSchema(options);
}

class PostgresSchema implements Sink {
  readonly name = "postgres";
  readonly #options: PostgresSinkOptions;
  readonly #layouts: ReadonlyMap<string, TableLayout>;
  #connection: PostgresConnection | null = null;
  #output: string | null = null;

  constructor(options: PostgresSinkOptions) {
    this.#options = options;
    this.#layouts = new Map(options.layouts.map((layout) => [layout.name, layout]));
  }

  async open(output?: string): Promise<number> {
    this.#output = output ?? this.#output;
    const kept = this.#connection;
    if (kept?.isAlive) {
      // A connection that was idle for long may be gone without a word: then there is another.
      const sequence = await this.#sequence(kept).catch(() => null);
      if (sequence !== null) return sequence;
    }
    await this.close();
    const { env, pipeline } = this.#options;
    const connection = await PostgresConnection.open(env, `millpond ${pipeline}`);
    try {
      await inTransaction(connection, () => claim(connection, this.#options, this.#output));
      const sequence = await this.#sequence(connection);
      this.#connection = connection;
      return sequence;
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  async apply(publications: AsyncIterable<Publication>, lastSequence: number): Promise<void> {
    if (this.#connection === null) {
      throw new MillpondError("USAGE", "The PostgreSQL sink is not open: call open() first.");
    }
    let pass = await this.#begin(this.#connection);
    try {
      for await (const publication of publications) {
        const { sequence, table, batch } = publication;
        const layout = this.#layouts.get(table);
        if (layout === undefined || sequence <= pass.taken || batch.rowCount === 0) continue;
        if (sequence > lastSequence) throw beyondLast(sequence, lastSequence);
        await pass.add(layout, publication);
        if (pass.isLong) pass = await this.#begin(await this.#commit(pass, sequence));
      }
    } catch (error) {
      await pass.connection.rollback();
      throw error;
    }
    await this.#commit(pass, lastSequence);
  }

  async close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = null;
    await connection?.close();
  }

  async #begin(connection: PostgresConnection): Promise<Pass> {
    await connection.begin();
    try {
      const taken = await this.#sequence(connection, "FOR UPDATE");
      return new Pass(connection, this.#options.schema, taken);
    } catch (error) {
      await connection.rollback();
      throw error;
    }
  }

  /**
   * Up to `sequence`, and progress with it. Without an answer it may have come to pass or not: the
   * progress row tells. Returns the connection to go on with.
   */
  async #commit(pass: Pass, sequence: number): Promise<PostgresConnection> {
    const { connection } = pass;
    try {
      await pass.flush();
      await connection.query(
        `UPDATE ${this.#progressTable()} SET sequence = greatest(sequence, $1),
          output = coalesce(output, $2), updated_at = now()`,
        [sequence, this.#output],
      );
    } catch (error) {
      await connection.rollback();
      throw error;
    }
    try {
      await connection.query("COMMIT");
      return connection;
    } catch (error) {
      await this.close();
      const taken = await this.open().catch(() => 0);
      if (taken < sequence || this.#connection === null) throw error;
      return this.#connection;
    }
  }

  #progressTable(): string {
    return `${quoteName(this.#options.schema)}.${PROGRESS}`;
  }

  async #sequence(connection: PostgresConnection, lock = ""): Promise<number> {
    const [row] = await connection.query(
      `SELECT sequence, output FROM ${this.#progressTable()} ${lock}`,
    );
    if (row !== undefined) {
      const kept = row.output === null ? null : String(row.output);
      checkOutput(`schema "${this.#options.schema}" of ${connection.place}`, kept, this.#output);
      return Number(row.sequence);
    }
    throw new MillpondError(
      "OUTPUT",
      `${this.#progressTable()} lost its row, which says what its tables hold. Restore it, or ` +
        "drop the schema and process the input again into a new output",
    );
  }
}

/** One transaction's rows. */
class Pass {
  readonly connection: PostgresConnection;
  /** What the sink had taken before it. */
  readonly taken: number;
  readonly #schema: string;
  readonly #writers = new Map<string, TableWriter>();
  #sentBytes = 0;

  constructor(connection: PostgresConnection, schema: string, taken: number) {
    this.connection = connection;
    this.#schema = schema;
    this.taken = taken;
  }

  /** It is time to commit: what follows would make the loss of a connection dear. */
  get isLong(): boolean {
    return this.#sentBytes >= TRANSACTION_BYTES_MAX;
  }

  async add(layout: TableLayout, publication: Publication): Promise<void> {
    const writer = this.#writers.get(layout.name) ?? this.#writer(layout);
    this.#writers.set(layout.name, writer);
    writer.append(publication);
    if (this.#bufferedBytes() >= BUFFERED_BYTES_MAX) await this.flush();
  }

  async flush(): Promise<void> {
    this.#sentBytes += this.#bufferedBytes();
    for (const writer of this.#writers.values()) await writer.flush();
  }

  #bufferedBytes(): number {
    return [...this.#writers.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  #writer(layout: TableLayout): TableWriter {
    const table = `${quoteName(this.#schema)}.${quoteName(layout.name)}`;
    const stage = `pg_temp.millpond_stage_${this.#writers.size}`;
    return isRevised(layout)
      ? new MergingWriter(this.connection, layout, table, stage)
      : new AppendingWriter(this.connection, layout, table);
  }
}

/** Rows of one table in one transaction. */
interface TableWriter {
  readonly byteLength: number;
  append(publication: Publication): void;
  /** Sends what was appended; what follows in this transaction sees it. */
  flush(): Promise<void>;
}

/** Of rows that supersede nothing. That they come once is the progress row's doing. */
class AppendingWriter implements TableWriter {
  readonly #connection: PostgresConnection;
  readonly #layout: TableLayout;
  readonly #copySql: string;
  #rows: CopyRows | null = null;

  constructor(connection: PostgresConnection, layout: TableLayout, table: string) {
    this.#connection = connection;
    this.#layout = layout;
    this.#copySql = copySql(table, layout.columns);
  }

  get byteLength(): number {
    return this.#rows?.byteLength ?? 0;
  }

  append({ batch }: Publication): void {
    this.#rows ??= new CopyRows();
    const { name, columns } = this.#layout;
    this.#rows.append(checkedColumns(name, columns, batch), batch.rowCount);
  }

  async flush(): Promise<void> {
    const rows = this.#rows;
    this.#rows = null;
    if (rows !== null) await this.#connection.copy(this.#copySql, rows.finish());
  }
}

/** Of rows that may supersede others: they go to a temporary table, and from there by key. */
class MergingWriter implements TableWriter {
  readonly #connection: PostgresConnection;
  readonly #layout: TableLayout;
  readonly #table: string;
  readonly #stage: string;
  #rows: CopyRows | null = null;
  #isStageMade = false;

  constructor(connection: PostgresConnection, layout: TableLayout, table: string, stage: string) {
    this.#connection = connection;
    this.#layout = layout;
    this.#table = table;
    this.#stage = stage;
  }

  get byteLength(): number {
    return this.#rows?.byteLength ?? 0;
  }

  append({ batch }: Publication): void {
    this.#rows ??= new CopyRows();
    const columns = checkedColumns(this.#layout.name, revisionColumns(this.#layout), batch);
    this.#rows.append(columns, batch.rowCount);
  }

  async flush(): Promise<void> {
    const rows = this.#rows;
    this.#rows = null;
    if (rows === null) return;
    await this.#emptyStage();
    const columns = revisionColumns(this.#layout);
    await this.#connection.copy(copySql(this.#stage, columns), rows.finish());
    await this.#merge();
  }

  async #emptyStage(): Promise<void> {
    if (this.#isStageMade) {
      await this.#connection.query(`TRUNCATE ${this.#stage}`);
      return;
    }
    const columns = revisionColumns(this.#layout).map(({ name, type }) => {
      const collation = type.kind === "string" ? ' COLLATE "C"' : "";
      return `${quoteName(name)} ${postgresType(type)}${collation}`;
    });
    await this.#connection.query(
      `CREATE TEMPORARY TABLE ${this.#stage} (${columns.join(", ")}) ON COMMIT DROP`,
    );
    this.#isStageMade = true;
  }

  /** Of each key the highest revision takes the place of what the table has, or withdraws it. */
  async #merge(): Promise<void> {
    const { columns, key } = this.#layout;
    const keys = nameList(key);
    // The later of two equal revisions counts, as it would across two calls.
    const latest =
      `SELECT DISTINCT ON (${keys}) * FROM ${this.#stage} ` +
      `ORDER BY ${keys}, revision DESC, ctid DESC`;
    const sameKey = columns
      .filter(({ name }) => key.includes(name))
      .map(({ name, nullable }) => sameValue(quoteName(name), nullable));
    await this.#connection.query(
      `DELETE FROM ${this.#table} AS target USING (${latest}) AS latest
        WHERE latest.retracted AND target.revision <= latest.revision AND ${sameKey.join(" AND ")}`,
    );
    const names = nameList(columns.map(({ name }) => name));
    const values = columns
      .filter(({ name }) => !key.includes(name))
      .map(({ name }) => `${quoteName(name)} = EXCLUDED.${quoteName(name)}`);
    await this.#connection.query(
      `INSERT INTO ${this.#table} AS target (${names})
        SELECT ${names} FROM (${latest}) AS latest WHERE NOT retracted
        ON CONFLICT (${keys}) DO UPDATE SET ${values.join(", ")}
        WHERE target.revision <= EXCLUDED.revision`,
    );
  }
}

/** An index finds equal values; that nulls are alike has to be said. */
function sameValue(column: string, nullable: boolean): string {
  const [target, latest] = [`target.${column}`, `latest.${column}`];
  return nullable ? `${target} IS NOT DISTINCT FROM ${latest}` : `${target} = ${latest}`;
}

function copySql(table: string, columns: TableLayout["columns"]): string {
  const names = nameList(columns.map(({ name }) => name));
  return `COPY ${table} (${names}) FROM STDIN (FORMAT binary)`;
}

async function inTransaction(
  connection: PostgresConnection,
  work: () => Promise<void>,
): Promise<void> {
  await connection.begin();
  try {
    await work();
    await connection.query("COMMIT");
  } catch (error) {
    await connection.rollback();
    throw error;
  }
}

/**
 * Makes or migrates what is missing in a free or an own schema, once what a backfill has rebuilt
 * for this output is in place; refuses any other.
 */
async function claim(
  connection: PostgresConnection,
  { pipeline, schema, layouts }: PostgresSinkOptions,
  output: string | null,
): Promise<void> {
  await lockSchema(connection, schema);
  await checkServer(connection);
  if (output !== null) await takeStaged(connection, { pipeline, schema }, output);
  const own = await ownTables(connection, { pipeline, schema }, output);
  const found = await foundTables(connection, schema);
  for (const layout of layouts) {
    const existing = found.get(layout.name) ?? null;
    const isOwn = own.has(layout.name);
    if (isOwn && existing === null) throw removedTable(schema, layout.name);
    if (!isOwn && existing !== null) throw foreign(schema, layout.name);
    for (const sql of tableStatements(schema, layout, existing)) await connection.query(sql);
  }
  const names = [...new Set([...own, ...layouts.map(({ name }) => name)])];
  if (names.length === own.size) return;
  await connection.query(`UPDATE ${quoteName(schema)}.${PROGRESS} SET tables = $1`, [names]);
}

async function checkServer(connection: PostgresConnection): Promise<void> {
  const [server] = await connection.query(
    `SELECT current_setting('server_version_num')::int AS version,
      current_setting('server_version') AS version_text,
      current_setting('server_encoding') AS encoding`,
  );
  if (Number(server?.version) < SERVER_VERSION_MIN) {
    throw new MillpondError(
      "OUTPUT",
      `PostgreSQL at ${connection.place} has version ${server?.version_text}; 15 is the oldest ` +
        "that Millpond writes to: upgrade it",
    );
  }
  if (server?.encoding === "UTF8") return;
  throw new MillpondError(
    "OUTPUT",
    `the database ${connection.place} keeps text as ${server?.encoding}, which not every text ` +
      "fits: create one with ENCODING 'UTF8'",
  );
}

/** The tables that this pipeline made before; the schema and the progress row are there then. */
async function ownTables(
  connection: PostgresConnection,
  { pipeline, schema }: { readonly pipeline: string; readonly schema: string },
  output: string | null,
): Promise<ReadonlySet<string>> {
  const progress = `${quoteName(schema)}.${PROGRESS}`;
  const [there] = await connection.query(
    "SELECT to_regnamespace($1) IS NOT NULL AS schema, to_regclass($2) IS NOT NULL AS progress",
    [quoteName(schema), progress],
  );
  if (there?.schema !== true) await connection.query(`CREATE SCHEMA ${quoteName(schema)}`);
  if (there?.progress !== true) {
    await connection.query(
      `CREATE TABLE ${progress} (pipeline text PRIMARY KEY, sequence bigint NOT NULL,
        tables text[] NOT NULL, updated_at timestamp with time zone NOT NULL DEFAULT now(),
        output text)`,
    );
    await connection.query(`INSERT INTO ${progress} VALUES ($1, 0, '{}')`, [pipeline]);
  }
  const [row] = await connection.query(`SELECT pipeline, output, tables FROM ${progress}`);
  if (row?.pipeline === pipeline) {
    // Before any is altered: another output's tables are not this one's to migrate.
    const kept = row.output === null ? null : String(row.output);
    checkOutput(`schema "${schema}" of ${connection.place}`, kept, output);
    return new Set(textsOf(row.tables));
  }
  const owner = `it belongs to pipeline "${String(row?.pipeline)}", not "${pipeline}"`;
  throw new MillpondError(
    "OUTPUT",
    `schema "${schema}" of ${connection.place} is taken: ${owner}. Give this pipeline another ` +
      'one, postgres({ schema: "…" })',
  );
}

const textsOf = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);

/** Everything in the schema that has columns, views too. */
async function foundTables(
  connection: PostgresConnection,
  schema: string,
): Promise<ReadonlyMap<string, FoundTable>> {
  const rows = await connection.query(
    `SELECT c.relname AS name,
      (SELECT json_agg(json_build_object('name', a.attname, 'notNull', a.attnotnull,
          'type', format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum)
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
        AS columns,
      (SELECT json_agg((SELECT json_agg(a.attname) FROM pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey)))
        FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indpred IS NULL)
        AS keys
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')`,
    [schema],
  );
  return new Map(rows.map((row) => [String(row.name), tableOf(row)]));
}

function tableOf({ columns, keys }: PostgresRow): FoundTable {
  const found = (columns ?? []) as FoundTable["columns"];
  return { columns: found, keys: (keys ?? []) as FoundTable["keys"] };
}

function foreign(schema: string, table: string): MillpondError {
  return new MillpondError(
    "OUTPUT",
    `schema "${schema}" has a "${table}" that Millpond did not make. Rename it, or give the ` +
      'pipeline another schema, postgres({ schema: "…" })',
  );
}

function removedTable(schema: string, table: string): MillpondError {
  return new MillpondError(
    "OUTPUT",
    `table "${table}" was removed from schema "${schema}", and its rows are not kept elsewhere. ` +
      "Restore it, or drop the schema and process the input again into a new output",
  );
}
