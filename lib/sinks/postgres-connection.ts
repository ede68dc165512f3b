/**
 * A connection to the PostgreSQL server that the environment names, with its failures told as what
 * was found and what to do. What is asked of the server is for others.
 */
import { userInfo } from "node:os";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import pg from "pg";
import { from as copyFrom } from "pg-copy-streams";
import { type ErrorCode, MillpondError } from "../errors.js";
import { secretText } from "../stores/secrets.js";

type Env = Readonly<Record<string, string | undefined>>;

const CONNECT_MS_MAX = 10_000;
/** The server ends a statement after so much; the answer is waited for a little longer. */
const STATEMENT_MS_MAX = 120_000;
const ANSWER_MS_MAX = STATEMENT_MS_MAX + 10_000;
/** A process that was frozen in a transaction holds locks no longer. */
const IDLE_MS_MAX = 120_000;
const PORT = 5432;

export type PostgresRow = Readonly<Record<string, unknown>>;

/**
 * How to connect: `MILLPOND_POSTGRES_SECRET_ARN` (a secret as RDS makes it, over TLS unless
 * `PGSSLMODE` says otherwise), else `DATABASE_URL`, else `PGHOST`, `PGPORT`, `PGUSER`,
 * `PGPASSWORD`, `PGDATABASE`, `PGSSLMODE`, with psql's defaults. What a secret does not say, these
 * do.
 *
 * @throws MillpondError USAGE when a variable is wrong, INPUT when the secret is not to be had
 * @example const config = await postgresSettings(process.env);
 */
export async function postgresSettings(env: Env): Promise<pg.ClientConfig> {
  const arn = env.MILLPOND_POSTGRES_SECRET_ARN;
  if (arn !== undefined) return secretSettings(arn, await secretText(arn), env);
  const url = env.DATABASE_URL;
  if (url === undefined) return variableSettings(env);
  if (/^postgres(ql)?:\/\//.test(url) && URL.canParse(url)) return { connectionString: url };
  throw new MillpondError(
    "USAGE",
    "DATABASE_URL is no address of a database: give postgresql://user:password@host:5432/database",
  );
}

function variableSettings(env: Env): pg.ClientConfig {
  const { PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE } = env;
  const port = PGPORT === undefined ? PORT : Number(PGPORT);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new MillpondError("USAGE", `PGPORT is "${PGPORT}": give a port, such as ${PORT}`);
  }
  const user = PGUSER ?? userInfo().username;
  return {
    host: PGHOST ?? "localhost",
    port,
    user,
    database: PGDATABASE ?? user,
    ...(PGPASSWORD === undefined ? {} : { password: PGPASSWORD }),
    ssl: tls(PGSSLMODE ?? "disable"),
  };
}

/** As `pg` understands it: every mode but the first and last checks the certificate. */
function tls(mode: string): pg.ClientConfig["ssl"] {
  if (mode === "disable") return false;
  if (mode === "no-verify") return { rejectUnauthorized: false };
  if (/^(prefer|require|verify-ca|verify-full)$/.test(mode)) return true;
  throw new MillpondError(
    "USAGE",
    `PGSSLMODE is "${mode}": give disable, verify-full, or no-verify (TLS, any certificate)`,
  );
}

function secretSettings(arn: string, text: string, env: Env): pg.ClientConfig {
  const secret = parseSecret(text);
  const { username, password, host, port, dbname } = secret;
  if (username === undefined || password === undefined) {
    throw new MillpondError(
      "INPUT",
      `secret ${arn} does not hold {"username": "…", "password": "…"}: give one that RDS makes, ` +
        "or of that form",
    );
  }
  return variableSettings({
    ...env,
    PGSSLMODE: env.PGSSLMODE ?? "verify-full",
    PGUSER: username,
    PGPASSWORD: password,
    PGHOST: host ?? env.PGHOST,
    PGPORT: port ?? env.PGPORT,
    PGDATABASE: dbname ?? env.PGDATABASE,
  });
}

/** Empty when it is no object; errors of the parser would quote the secret. */
function parseSecret(text: string): Readonly<Record<string, string | undefined>> {
  try {
    const found: unknown = JSON.parse(text);
    if (typeof found !== "object" || found === null) return {};
    return Object.fromEntries(Object.entries(found).map(([name, value]) => [name, `${value}`]));
  } catch {
    return {};
  }
}

/** An address may name files, such as `sslrootcert`, which are read here. */
function clientOf(config: pg.ClientConfig): pg.Client {
  try {
    return new pg.Client(config);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new MillpondError(
      "USAGE",
      `DATABASE_URL cannot be used (${code ?? "malformed"}): check its parameters, and the files ` +
        "that they name",
      { cause },
    );
  }
}

export class PostgresConnection {
  /** `host:port/database`. */
  readonly place: string;
  readonly #client: pg.Client;
  #isLost = false;

  private constructor(client: pg.Client) {
    this.#client = client;
    this.place = `${client.host}:${client.port}/${client.database}`;
    // Without a listener, a server that goes away would end the process.
    client.on("error", () => {
      this.#isLost = true;
    });
    client.on("end", () => {
      this.#isLost = true;
    });
  }

  /**
   * @throws MillpondError USAGE or INPUT when the environment or the server's answer to the login
   *   is wrong, STORAGE when the server is not reached
   */
  static async open(env: Env, applicationName: string): Promise<PostgresConnection> {
    const client = clientOf({
      ...(await postgresSettings(env)),
      application_name: applicationName,
      connectionTimeoutMillis: CONNECT_MS_MAX,
      query_timeout: ANSWER_MS_MAX,
      keepAlive: true,
    });
    const connection = new PostgresConnection(client);
    try {
      await client.connect();
      return connection;
    } catch (cause) {
      await connection.close();
      throw explained(cause, connection.place);
    }
  }

  /** False once the server or the network ended it. */
  get isAlive(): boolean {
    return !this.#isLost;
  }

  async query(sql: string, values: readonly unknown[] = []): Promise<readonly PostgresRow[]> {
    try {
      const { rows } = await this.#client.query<PostgresRow>(sql, [...values]);
      return rows;
    } catch (cause) {
      throw explained(cause, this.place);
    }
  }

  /** `sql` is a COPY … FROM STDIN, which these bytes are for. */
  async copy(sql: string, blocks: readonly Buffer[]): Promise<void> {
    try {
      const copy = this.#client.query(copyFrom(sql));
      await pipeline(Readable.from(blocks), copy, { signal: AbortSignal.timeout(ANSWER_MS_MAX) });
    } catch (cause) {
      throw explained(cause, this.place);
    }
  }

  /** Also against a server that lets commits go before they are on its disk. */
  async begin(): Promise<void> {
    await this.query("BEGIN ISOLATION LEVEL READ COMMITTED");
    await this.query(
      `SELECT set_config('statement_timeout', '${STATEMENT_MS_MAX}', true),
        set_config('idle_in_transaction_session_timeout', '${IDLE_MS_MAX}', true),
        set_config('work_mem', '64MB', true),
        CASE WHEN current_setting('synchronous_commit') = 'off'
          THEN set_config('synchronous_commit', 'on', true) END`,
    );
  }

  /** Undoes what the transaction did; a connection that can't is closed, which does the same. */
  async rollback(): Promise<void> {
    try {
      await this.#client.query("ROLLBACK");
    } catch {
      await this.close();
    }
  }

  async close(): Promise<void> {
    if (this.#isLost) return;
    this.#isLost = true;
    await this.#client.end().catch(() => undefined);
  }
}

/** What the server's answers mean for who set it up; by class or code of its "Error Codes". */
const ADVICE: readonly (readonly [RegExp, ErrorCode, string])[] = [
  [/^28/, "USAGE", "check the user and password that the environment gives"],
  [/^3D000/, "USAGE", "create the database, or name another"],
  [/^42501/, "OUTPUT", "grant the user what it lacks (CREATE on the schema, TEMP on the database)"],
  [/^54000/, "LIMIT", "PostgreSQL's index takes keys of at most 2,700 bytes: group by less text"],
  [/^53100/, "STORAGE", "make room on the server's disk; results wait until then"],
  [/^53300/, "STORAGE", "raise the server's max_connections, or use a pooler; results wait"],
  [/^(57014|55P03|40)/, "STORAGE", "something else held the tables for too long; this is retried"],
  [/^2BP01/, "OUTPUT", "drop what reads that table, and create it again afterwards"],
  [/^23/, "INVARIANT", "Millpond's tables are changed by nobody else; what was changed?"],
];

function explained(cause: unknown, place: string): MillpondError {
  const found = cause instanceof Error ? cause.message : String(cause);
  const code = cause instanceof pg.DatabaseError ? (cause.code ?? "") : "";
  const known = ADVICE.find(([codes]) => codes.test(code));
  if (known !== undefined) {
    return new MillpondError(known[1], `PostgreSQL at ${place}: ${found}: ${known[2]}`, { cause });
  }
  if (code !== "" && !/^(08|57P)/.test(code)) {
    return new MillpondError("STORAGE", `PostgreSQL at ${place} refused (${code}): ${found}`, {
      cause,
    });
  }
  return new MillpondError(
    "STORAGE",
    `PostgreSQL at ${place} is not reached: ${found || codeOf(cause)}. Is it up, and do ` +
      "DATABASE_URL or PGHOST and PGPORT name it? Results wait until it is back",
    { cause },
  );
}

/** Of an error without words, as Node makes them of a host's several addresses. */
function codeOf(cause: unknown): string {
  return typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : "";
}

/** Until the transaction ends, nobody else makes or moves the schema's tables. */
export async function lockSchema(connection: PostgresConnection, schema: string): Promise<void> {
  await connection.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [
    `millpond ${schema}`,
  ]);
}
