/**
 * A session in a Snowflake account, through Snowflake's own driver: settings and key from the
 * environment, statements with a deadline, errors that hold no secrets. What is asked is the
 * sink's.
 */
import { createPrivateKey, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import type * as Driver from "snowflake-sdk";
import { MillpondError } from "../errors.js";
import { secretText } from "../stores/secrets.js";

type Env = Readonly<Record<string, string | undefined>>;

export interface SnowflakeSettings {
  readonly account: string;
  readonly user: string;
  /** PKCS #8, PEM. */
  readonly privateKey: string;
  readonly database: string;
  readonly schema: string;
  readonly role?: string;
  readonly warehouse?: string;
  /** Where the account is reached, when not at its usual address. */
  readonly accessUrl?: string;
}

/** How long the driver may try: it takes any 5xx for a passing one, for minutes. */
const LOGIN_MS_MAX = 60_000;
export const STATEMENT_MS_MAX = 300_000;
const CLOSE_MS_MAX = 10_000;
const LOGIN_RETRIES_MAX = 2;
/** Somebody else's round holds a lock for seconds; one who died holds it for five minutes. */
const LOCK_S_MAX = 60;

/**
 * Reads SNOWFLAKE_ACCOUNT, SNOWFLAKE_USER, SNOWFLAKE_DATABASE and SNOWFLAKE_SCHEMA; SNOWFLAKE_ROLE
 * and SNOWFLAKE_WAREHOUSE unless the user's defaults will do; SNOWFLAKE_ACCESS_URL for a private
 * link; and the key: SNOWFLAKE_PRIVATE_KEY (PEM), SNOWFLAKE_PRIVATE_KEY_PATH, or
 * MILLPOND_SNOWFLAKE_SECRET_ARN, with SNOWFLAKE_PRIVATE_KEY_PASSPHRASE if it is encrypted.
 *
 * @throws MillpondError USAGE when a variable is missing or the key is none, INPUT when the secret
 *   cannot be read
 * @example const settings = await snowflakeSettings(process.env);
 */
export async function snowflakeSettings(env: Env): Promise<SnowflakeSettings> {
  const optional = {
    ...(env.SNOWFLAKE_ROLE && { role: env.SNOWFLAKE_ROLE }),
    ...(env.SNOWFLAKE_WAREHOUSE && { warehouse: env.SNOWFLAKE_WAREHOUSE }),
    ...(env.SNOWFLAKE_ACCESS_URL && { accessUrl: env.SNOWFLAKE_ACCESS_URL }),
  };
  return {
    account: required(env, "SNOWFLAKE_ACCOUNT", "the account's identifier, as MYORG-MYACCOUNT"),
    user: required(env, "SNOWFLAKE_USER", "the user that Millpond logs in as"),
    database: required(env, "SNOWFLAKE_DATABASE", "the database of the result tables"),
    schema: required(env, "SNOWFLAKE_SCHEMA", "a schema of this pipeline's own"),
    privateKey: await privateKey(env),
    ...optional,
  };
}

function required(env: Env, name: string, what: string): string {
  const value = env[name];
  if (value !== undefined && value !== "") return value;
  throw new MillpondError("USAGE", `The snowflake sink needs ${name}: set it to ${what}.`);
}

async function privateKey(env: Env): Promise<string> {
  const [where, text] = await keyText(env);
  const passphrase = env.SNOWFLAKE_PRIVATE_KEY_PASSPHRASE;
  let key: KeyObject;
  try {
    // One line in many places where variables are set.
    const pem = text.replaceAll("\\n", "\n");
    key = createPrivateKey({ key: pem, format: "pem", ...(passphrase && { passphrase }) });
  } catch {
    // The cause may quote what it was given.
    throw new MillpondError(
      "USAGE",
      `${where} holds no private key that can be read: expected PEM, and ` +
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE if it is encrypted. Make one with `openssl genrsa 2048 " +
        "| openssl pkcs8 -topk8 -nocrypt`.",
    );
  }
  return key.export({ type: "pkcs8", format: "pem" }).toString();
}

async function keyText(env: Env): Promise<[where: string, text: string]> {
  const {
    SNOWFLAKE_PRIVATE_KEY: text,
    SNOWFLAKE_PRIVATE_KEY_PATH: file,
    MILLPOND_SNOWFLAKE_SECRET_ARN: arn,
  } = env;
  if (text) return ["SNOWFLAKE_PRIVATE_KEY", text];
  if (arn) return [`secret ${arn}`, await secretText(arn)];
  if (!file) {
    throw new MillpondError(
      "USAGE",
      "The snowflake sink logs in with a key pair: set SNOWFLAKE_PRIVATE_KEY_PATH to the private " +
        "key's file, or SNOWFLAKE_PRIVATE_KEY to its text.",
    );
  }
  try {
    return [file, readFileSync(file, "utf8")];
  } catch (cause) {
    throw new MillpondError(
      "USAGE",
      `SNOWFLAKE_PRIVATE_KEY_PATH: ${file} cannot be read. Check the path and its permissions.`,
      { cause },
    );
  }
}

/** A row, by column names; numbers beyond 2^53 have lost digits. */
export type SnowflakeRow = Readonly<Record<string, unknown>>;

interface Answer {
  readonly rows: readonly SnowflakeRow[];
  /** How many rows were changed. */
  readonly changed: number;
}

/**
 * One session; its statements come one after another.
 *
 * @example
 * const session = await SnowflakeSession.open(await snowflakeSettings(process.env), "clicks");
 * const [row] = await session.rows("SELECT SEQUENCE FROM MILLPOND_PROGRESS");
 * await session.close();
 */
export class SnowflakeSession {
  readonly #connection: Driver.Connection;
  readonly #statementMsMax: number;
  /** A statement got no answer in time. */
  #isSilent = false;

  private constructor(connection: Driver.Connection, statementMsMax: number) {
    this.#connection = connection;
    this.#statementMsMax = statementMsMax;
  }

  /** Throws MillpondError STORAGE when the account is not reached or refuses. */
  static async open(
    settings: SnowflakeSettings,
    pipeline: string,
    limits: { readonly loginMsMax?: number; readonly statementMsMax?: number } = {},
  ): Promise<SnowflakeSession> {
    const { loginMsMax = LOGIN_MS_MAX, statementMsMax = STATEMENT_MS_MAX } = limits;
    const driver = await loadDriver();
    const connection = driver.createConnection({
      ...settings,
      username: settings.user,
      authenticator: "SNOWFLAKE_JWT",
      application: "Millpond",
      sfRetryMaxLoginRetries: LOGIN_RETRIES_MAX,
    });
    const place = `account ${settings.account}`;
    try {
      await within(loginMsMax, place, (done) => connection.connect(done));
      const session = new SnowflakeSession(connection, statementMsMax);
      const seconds = Math.ceil(statementMsMax / 1000);
      await session.run(
        `ALTER SESSION SET TIMEZONE = 'UTC', LOCK_TIMEOUT = ${LOCK_S_MAX}, ` +
          `STATEMENT_TIMEOUT_IN_SECONDS = ${seconds}, QUERY_TAG = 'millpond ${pipeline}'`,
      );
      return session;
    } catch (error) {
      connection.destroy(() => undefined);
      throw error;
    }
  }

  /** How many rows were changed. */
  async run(sql: string): Promise<number> {
    return (await this.#execute(sql)).changed;
  }

  async rows(sql: string): Promise<readonly SnowflakeRow[]> {
    return (await this.#execute(sql)).rows;
  }

  /** All of it, or nothing if `work` says false or throws. Returns what `work` said. */
  async transaction(work: () => Promise<boolean>): Promise<boolean> {
    await this.run("BEGIN");
    try {
      const isWanted = await work();
      await this.run(isWanted ? "COMMIT" : "ROLLBACK");
      return isWanted;
    } catch (error) {
      // The first error is the one to tell. Without an answer the session's end ends it.
      if (!this.#isSilent) await this.run("ROLLBACK").catch(() => undefined);
      throw error;
    }
  }

  async close(): Promise<void> {
    const ended = within(CLOSE_MS_MAX, "the end of the session", (done) =>
      this.#connection.destroy(done),
    ).catch(() => undefined);
    if (!this.#isSilent) await ended;
  }

  async #execute(sqlText: string): Promise<Answer> {
    if (this.#isSilent) throw silent(this.#statementMsMax, firstWords(sqlText));
    const timedOut = () => {
      this.#isSilent = true;
    };
    return within<Answer>(
      this.#statementMsMax,
      firstWords(sqlText),
      (done) => {
        this.#connection.execute({
          sqlText,
          complete(error, statement, rows = []) {
            const changed = "getNumUpdatedRows" in statement ? statement.getNumUpdatedRows() : 0;
            done(error, { rows, changed: changed ?? 0 });
          },
        });
      },
      timedOut,
    );
  }
}

type DriverApi = Pick<typeof Driver, "createConnection" | "configure">;

/** It is loaded where it is used, and users who don't have the sink need not install it. */
async function loadDriver(): Promise<DriverApi> {
  let driver: DriverApi;
  try {
    // As Node has it, and as a bundle has it.
    const loaded: DriverApi & { readonly default?: DriverApi } = await import("snowflake-sdk");
    driver = loaded.default ?? loaded;
  } catch (cause) {
    if (!isMissing(cause)) throw cause;
    throw new MillpondError(
      "USAGE",
      "The snowflake sink needs Snowflake's driver, which is not installed: " +
        "npm install snowflake-sdk",
      { cause },
    );
  }
  // Else it writes snowflake.log wherever it runs, and says there what it was given.
  driver.configure({ logLevel: "OFF", additionalLogToConsole: false });
  return driver;
}

const isMissing = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "ERR_MODULE_NOT_FOUND";

type Done<T> = (error: Error | null | undefined, value: T) => void;

function within<T>(
  msMax: number,
  what: string,
  work: (done: Done<T>) => void,
  onTimeout = () => {},
): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      onTimeout();
      reject(silent(msMax, what));
    }, msMax);
    const done: Done<T> = (error, value) => {
      clearTimeout(timer);
      if (error) reject(snowflakeError(what, error));
      else resolve(value);
    };
    try {
      work(done);
    } catch (error) {
      clearTimeout(timer);
      reject(snowflakeError(what, error));
    }
  });
}

function silent(msMax: number, what: string): MillpondError {
  return new MillpondError(
    "STORAGE",
    `Snowflake (${what}) did not answer in ${msMax} ms. Check that it can be reached from here; ` +
      "what was not taken is taken when it answers again.",
  );
}

/** Without the cause: the driver's errors carry requests, with the session's token. */
function snowflakeError(what: string, error: unknown): MillpondError {
  const text = withoutSecrets(error instanceof Error ? error.message : String(error));
  const code = error instanceof Error && "code" in error ? ` ${String(error.code)}` : "";
  return new MillpondError(
    "STORAGE",
    `Snowflake (${what}), error${code}: ${text.trim().replace(/\.$/, "")}. ${advice(text)}`,
  );
}

function advice(text: string): string {
  if (/JWT|authenticat|password|not authorized to log|390\d{3}/i.test(text)) {
    return "Check SNOWFLAKE_ACCOUNT, SNOWFLAKE_USER, and that the user has this key's public half.";
  }
  if (/not authorized|insufficient privileges|does not exist/i.test(text)) {
    return "Check SNOWFLAKE_DATABASE, SNOWFLAKE_SCHEMA, SNOWFLAKE_WAREHOUSE and the role's grants.";
  }
  return "Running again continues where this stopped.";
}

const withoutSecrets = (text: string): string =>
  text
    .replace(/-----BEGIN[^-]*-----[\s\S]*?(-----END[^-]*-----|$)/g, "(key)")
    .replace(/Token="[^"]*"/g, "(token)")
    .replace(/\beyJ[\w-]+(\.[\w-]+)*/g, "(token)");

/** What a statement is about, for messages: values may be the user's. */
const firstWords = (sql: string): string => sql.split(/[\s(]+/, 3).join(" ");
