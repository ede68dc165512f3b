/**
 * Results as a DuckDB that can only be read: a database attached read-only, views over files of the
 * lake, and everything else out of reach. Where the results are is left to whoever opens them.
 */
import type {
  DuckDBConnection,
  DuckDBPreparedStatement,
  DuckDBResult,
  DuckDBValue,
} from "@duckdb/node-api";
import { DuckDBInstance, StatementType } from "../duckdb-api.js";
import { MillpondError } from "../errors.js";
import type { FileAccess } from "../sinks/database-snapshot.js";
import { quoteName, quoteText } from "../sinks/duckdb-types.js";

/** Values by name (`$name`), or in order (`?`, `$1`). */
export type QueryParameters =
  | readonly ParameterValue[]
  | { readonly [name: string]: ParameterValue };
export type ParameterValue = string | number | boolean | null;

export interface ResultsOptions {
  /** A local DuckDB file, attached read-only. */
  readonly databaseFile: string | null;
  /** Added where the database has no table of the name. */
  readonly views: readonly { readonly name: string; readonly sql: string }[];
  /** Files that may be read beside the database: paths or URIs, exactly. */
  readonly allowedFiles: readonly string[];
  /** A folder that `writeParquet` may write to. */
  readonly writableDir?: string | undefined;
  /** What reading the files takes beside that, such as an extension and a secret. */
  readonly access?: Pick<FileAccess, "extensionDirectory" | "statements">;
  /** E.g. "1GB". */
  readonly memoryLimit?: string;
  /** What to do about a query that was stopped: the end of a sentence. */
  readonly timeoutAdvice?: string;
}

const MEMORY_LIMIT = "1GB";
const THREADS = "2";
const TIMEOUT_ADVICE = "narrow it, or give a longer --timeout <seconds>";

/**
 * Not for concurrent calls.
 *
 * @example
 * const results = await Results.open({ databaseFile, views: [], allowedFiles: [] });
 * const rows = await results.select("FROM page_views WHERE page = $page", { page: "/" });
 */
export class Results {
  readonly #instance: DuckDBInstance;
  readonly #connection: DuckDBConnection;
  readonly #timeoutAdvice: string;
  #isInterrupted = false;

  private constructor(
    instance: DuckDBInstance,
    connection: DuckDBConnection,
    timeoutAdvice: string,
  ) {
    this.#instance = instance;
    this.#connection = connection;
    this.#timeoutAdvice = timeoutAdvice;
  }

  /** @throws MillpondError STORAGE when the database can't be opened */
  static async open(options: ResultsOptions): Promise<Results> {
    const { access, memoryLimit = MEMORY_LIMIT, timeoutAdvice = TIMEOUT_ADVICE } = options;
    const instance = await DuckDBInstance.create(":memory:", {
      threads: THREADS,
      memory_limit: memoryLimit,
      autoinstall_known_extensions: "false",
      autoload_known_extensions: "false",
      ...(access === undefined ? {} : { extension_directory: access.extensionDirectory }),
    });
    const connection = await instance.connect();
    const results = new Results(instance, connection, timeoutAdvice);
    try {
      for (const sql of access?.statements ?? []) await connection.run(sql);
      if (options.databaseFile !== null) await results.#attach(options.databaseFile);
      const present = await results.tables();
      for (const { name, sql } of options.views) {
        if (present.includes(name)) continue;
        await connection.run(`CREATE TEMP VIEW ${quoteName(name)} AS ${sql}`);
      }
      await results.#allow(options.allowedFiles);
      await results.#lock(options.writableDir);
      return results;
    } catch (error) {
      results.close();
      throw error;
    }
  }

  /** Runs one SELECT or EXPLAIN; rows come in chunks. @throws MillpondError QUERY */
  async select(sql: string, parameters: QueryParameters = {}): Promise<DuckDBResult> {
    this.#isInterrupted = false;
    const prepared = await this.#prepare(sql, parameters);
    try {
      return await prepared.stream();
    } catch (error) {
      throw await this.explained(error);
    }
  }

  /** Writes a SELECT's rows into a file inside `writableDir`. @throws MillpondError QUERY */
  async writeParquet(sql: string, file: string, parameters: QueryParameters = {}): Promise<void> {
    this.#isInterrupted = false;
    (await this.#prepare(sql, parameters)).destroySync();
    if (explainedPart(sql) !== null) throw refused("an EXPLAIN has no Parquet form");
    try {
      // What is one SELECT by itself is one in brackets; the line end closes a comment.
      const select = withoutEnd(sql);
      const target = `${quoteText(file)} (FORMAT parquet, COMPRESSION zstd)`;
      const copy = await this.#connection.extractStatements(`COPY (\n${select}\n) TO ${target}`);
      if (copy.count !== 1) throw refused("it is more than one statement");
      const prepared = await copy.prepare(0);
      bind(prepared, parameters);
      await prepared.run();
    } catch (error) {
      throw await this.explained(error);
    }
  }

  /** Stops the query under way; it then says that it took too long. */
  interrupt(): void {
    this.#isInterrupted = true;
    this.#connection.interrupt();
  }

  close(): void {
    this.#connection.closeSync();
    this.#instance.closeSync();
  }

  /** Names of the tables and views that a query can read, ascending. */
  async tables(): Promise<string[]> {
    const reader = await this.#connection.runAndReadAll(
      "SELECT DISTINCT table_name FROM (SELECT table_name FROM duckdb_tables() WHERE " +
        "schema_name = 'main' UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal) " +
        "ORDER BY 1",
    );
    return reader.getRows().map(([name]) => String(name));
  }

  /** A DuckDB error as one of ours; one about a missing table names those that exist. */
  async explained(error: unknown): Promise<MillpondError> {
    if (error instanceof MillpondError) return error;
    if (this.#isInterrupted) {
      return new MillpondError(
        "QUERY",
        `the query took too long and was stopped: ${this.#timeoutAdvice}`,
        { cause: error },
      );
    }
    const message = error instanceof Error ? error.message.trim() : String(error);
    const isMissing = /Table with name/.test(message);
    const tables = isMissing ? ` Tables here: ${(await this.tables()).join(", ")}` : "";
    const isTooBig = /Out of Memory/i.test(message);
    const advice = isTooBig ? ": aggregate or filter earlier, or read fewer rows" : "";
    const text = message.split("\n\n")[0]!.replaceAll("\n", " ");
    const end = isMissing && !/[.?!]$/.test(text) ? "." : "";
    return new MillpondError("QUERY", `${text}${end}${advice}${tables}`, { cause: error });
  }

  async #prepare(sql: string, parameters: QueryParameters): Promise<DuckDBPreparedStatement> {
    try {
      const prepared = await this.#one(sql);
      if (prepared.statementType === StatementType.EXPLAIN) {
        // EXPLAIN ANALYZE runs what it explains, so that must be a SELECT itself.
        const explained = explainedPart(sql) ?? "";
        const inner = await this.#one(explained);
        await this.#refuseUnlessReading(inner, explained);
        inner.destroySync();
      } else await this.#refuseUnlessReading(prepared, sql);
      bind(prepared, parameters);
      return prepared;
    } catch (error) {
      throw await this.explained(error);
    }
  }

  async #one(sql: string): Promise<DuckDBPreparedStatement> {
    if (tokensOf(sql).every((token) => EMPTY.test(token))) throw refused("it is empty");
    const statements = await this.#connection.extractStatements(sql);
    if (statements.count > 1) throw refused(`it has ${statements.count} statements`);
    return statements.prepare(0);
  }

  /** A SELECT may call functions that do more than read, which no setting locks. */
  async #refuseUnlessReading(
    { statementType }: DuckDBPreparedStatement,
    sql: string,
  ): Promise<void> {
    if (statementType !== StatementType.SELECT) {
      throw refused(`it is ${StatementType[statementType]}`);
    }
    const reader = await this.#connection.runAndReadAll("SELECT json_serialize_sql($1::VARCHAR)", [
      sql,
    ]);
    const tree = String(reader.getRows()[0]?.[0]);
    // Some SELECTs (PIVOT) have no tree: then the word alone is enough.
    const hasTree = tree.startsWith('{"error":false');
    const found = hasTree ? ACTING_CALL.exec(tree) : ACTING_WORD.exec(sql);
    if (found !== null) throw refused(`"${found[1]}" does more than read`);
  }

  async #attach(file: string): Promise<void> {
    await this.#connection.run(`ATTACH ${quoteText(file)} AS results (READ_ONLY)`);
    await this.#connection.run("USE results");
  }

  async #allow(files: readonly string[]): Promise<void> {
    await this.#connection.run(`SET allowed_paths = [${files.map(quoteText).join(", ")}]`);
  }

  async #lock(writableDir: string | undefined): Promise<void> {
    const directories = writableDir === undefined ? [] : [`${writableDir}/`];
    const settings = [
      "SET TimeZone = 'UTC'",
      "SET temp_directory = ''",
      `SET allowed_directories = [${directories.map(quoteText).join(", ")}]`,
      "SET allow_community_extensions = false",
      "SET enable_external_access = false",
      "SET lock_configuration = true",
    ];
    for (const sql of settings) await this.#connection.run(sql);
  }
}

/**
 * Functions that change what later queries do or who sees them (logs and profiles, also in files,
 * the lack of which then fails every query), run SQL that only comes to be while they run, or read
 * memory by its address.
 */
const ACTING =
  "((?:enable|disable|verify)_\\w+|truncate_duckdb_logs|write_log|checkpoint|force_checkpoint|" +
  "query|query_table|json_execute_serialized_sql|arrow_scan|arrow_scan_dumb)";
/** In the tree that DuckDB makes of a statement, where quotes inside of text are escaped. */
const ACTING_CALL = new RegExp(`"function_name":"${ACTING}"`, "i");
const ACTING_WORD = new RegExp(`\\b${ACTING}\\b`, "i");

/** Quoted text, comments, and single characters: enough to tell what is SQL and what is text. */
const TOKEN =
  /'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\/\*[\s\S]*?\*\/|\$(\w*)\$[\s\S]*?\$\1\$|[\s\S]/g;
const BLANK = /^(\s|--|\/\*)/;
const EMPTY = /^(\s|;|--|\/\*)/;

function tokensOf(sql: string): string[] {
  return sql.match(TOKEN) ?? [];
}

/** The statement without the semicolon that ends it, and what comes after. */
function withoutEnd(sql: string): string {
  const tokens = tokensOf(sql);
  const end = tokens.indexOf(";");
  return end < 0 ? sql : tokens.slice(0, end).join("");
}

/** What an EXPLAIN explains; null when it is none. */
function explainedPart(sql: string): string | null {
  const tokens = tokensOf(sql);
  const statement = tokens.slice(tokens.findIndex((token) => !BLANK.test(token))).join("");
  const match = /^EXPLAIN\b\s*(ANALYZE\b\s*)?(\([^()]*\)\s*)?/i.exec(statement);
  return match === null ? null : statement.slice(match[0].length);
}

/** @throws MillpondError QUERY when names or their number are not those of the statement */
function bind(prepared: DuckDBPreparedStatement, parameters: QueryParameters): void {
  const given = new Map<string, ParameterValue>(
    Array.isArray(parameters)
      ? parameters.map((value, index) => [String(index + 1), value])
      : Object.entries(parameters),
  );
  const names = Array.from({ length: prepared.parameterCount }, (_, index) =>
    prepared.parameterName(index + 1),
  );
  const missing = names.filter((name) => !given.has(name));
  const extra = [...given.keys()].filter((name) => !names.includes(name));
  if (missing.length > 0 || extra.length > 0) {
    const list = (some: readonly string[]) => some.map((name) => `$${name}`).join(", ");
    const found = missing.length > 0 ? `${list(missing)} has no value` : `has no ${list(extra)}`;
    throw new MillpondError(
      "QUERY",
      `the query's parameters do not fit: it ${found}; it takes ` +
        `${names.length === 0 ? "none" : list(names)}`,
    );
  }
  for (const [index, name] of names.entries()) {
    bindOne(prepared, index + 1, given.get(name) ?? null);
  }
}

function bindOne(prepared: DuckDBPreparedStatement, index: number, value: ParameterValue): void {
  if (value === null) prepared.bindNull(index);
  else if (typeof value === "string") prepared.bindVarchar(index, value);
  else if (typeof value === "boolean") prepared.bindBoolean(index, value);
  else if (Number.isSafeInteger(value)) prepared.bindBigInt(index, BigInt(value));
  else prepared.bindDouble(index, value);
}

/** So that callers need not import DuckDB's types. */
export type { DuckDBResult, DuckDBValue };

function refused(found: string): MillpondError {
  return new MillpondError(
    "QUERY",
    `the query was refused because ${found}: results are read-only, give one SELECT`,
  );
}
