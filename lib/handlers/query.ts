/**
 * The query handler: SQL in, rows as JSON, CSV or Parquet out, over a pipeline's database in the
 * bucket and the lake's files that it names. It can only read: see `lib/query/results.ts`. Who may
 * ask is decided before it, by IAM on the function and its URL.
 */
import { randomUUID } from "node:crypto";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { Writable } from "node:stream";
import { type ErrorCode, MillpondError } from "../errors.js";
import { emfOutput, stdoutLine, type WriteLine } from "../observe/emf.js";
import { writeCsv, writeJson } from "../query/output.js";
import type { ParameterValue, QueryParameters, Results } from "../query/results.js";
import { openSnapshotResults, type SnapshotResults } from "../query/snapshot-results.js";
import { bucketDatabase } from "../stores/bucket-database.js";
import { makeDirectory } from "../stores/make-directory.js";
import { openStores, type Stores } from "../stores/open-stores.js";
import type { InvocationContext } from "./deadline.js";
import type { Environment } from "./pipeline-runtime.js";

const SQL_CHARS_MAX = 100_000;
const PARAMETERS_MAX = 100;
const PARAMETER_CHARS_MAX = 100_000;
/** Lambda's answer is at most 6 MB, as the JSON that the body is a string of. */
const ANSWER_BYTES_MAX = 5_800_000;
/** Parquet travels as base64. */
const PARQUET_BYTES_MAX = Math.floor((ANSWER_BYTES_MAX * 3) / 4);
/** Left for answering, once a query was stopped. */
const DEADLINE_MARGIN_MS = 1_500;
/** What Node and DuckDB's own structures take of the function's memory. */
const OTHER_MEMORY_MB = 256;
const MEMORY_LIMIT_MB_MIN = 128;
const TEMP_PREFIX = "millpond-queries-";
const ANSWERS = "answers";
/** No environment lives as long. */
const TEMP_AGE_MS_MAX = 24 * 60 * 60 * 1000;

export interface QueryOptions {
  /** `MILLPOND_*`; the process's environment by default. */
  readonly env?: Environment;
  /** Instead of those that `env` names. */
  readonly stores?: Pick<Stores, "lake" | "database">;
  /** Takes metrics (EMF) and log lines; stdout by default. */
  readonly write?: WriteLine;
}

/** What a function URL sends back; a direct invocation gets the same. */
export interface QueryResponse {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly isBase64Encoded: boolean;
}

export type QueryHandler = ((
  event: unknown,
  context: InvocationContext,
) => Promise<QueryResponse>) & { close(): Promise<void> };

interface Request {
  readonly sql: string;
  readonly parameters: QueryParameters;
  readonly format: "json" | "csv" | "parquet";
}

/**
 * The handler. It takes a function URL's event (a POST whose body is JSON) or the JSON itself:
 * `{"sql": "…", "parameters": {"page": "/"}, "format": "json" | "csv" | "parquet"}`. A refused
 * query is an answer with status 400, one that is too large 413, never a thrown error.
 *
 * @example
 * export const handler = makeQuery({});
 */
export function makeQuery(options: QueryOptions = {}): QueryHandler {
  const queries = new Queries(options);
  return Object.assign(
    (event: unknown, context: InvocationContext) => queries.answer(event, context),
    { close: () => queries.close() },
  );
}

class Queries {
  readonly #options: QueryOptions;
  readonly #write: WriteLine;
  readonly #env: Environment;
  /** The database's copy, and what `writeParquet` may write to. */
  readonly #tempDir = path.join(tmpdir(), `${TEMP_PREFIX}${randomUUID()}`);
  #stores: Promise<Pick<Stores, "lake" | "database">> | null = null;
  #opened: SnapshotResults | null = null;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: QueryOptions) {
    this.#options = options;
    this.#write = options.write ?? stdoutLine;
    this.#env = options.env ?? process.env;
  }

  /** One after the other: a connection runs one query. */
  answer(event: unknown, context: InvocationContext): Promise<QueryResponse> {
    const turn = this.#last.then(() => this.#answer(event, context));
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#letGo();
    await fs.rm(this.#tempDir, { recursive: true, force: true });
  }

  async #answer(event: unknown, context: InvocationContext): Promise<QueryResponse> {
    const started = performance.now();
    let response: QueryResponse;
    try {
      response = await this.#query(requestOf(event), context);
    } catch (error) {
      if (!(error instanceof MillpondError)) this.#write(logLine(error));
      response = failure(error);
    }
    const pipeline = this.#env.MILLPOND_PIPELINE ?? "unknown";
    const observations = [
      { metric: "QueryDurationMs", value: performance.now() - started },
      { metric: "QueryErrors", value: response.statusCode === 200 ? 0 : 1 },
    ] as const;
    emfOutput(this.#write).write(pipeline, observations, Date.now());
    return response;
  }

  async #query(request: Request, context: InvocationContext): Promise<QueryResponse> {
    const { results, close } = await this.#open();
    const timeMs = Math.max(0, context.getRemainingTimeInMillis() - DEADLINE_MARGIN_MS);
    const timer = setTimeout(() => results.interrupt(), timeMs);
    try {
      return await this.#run(results, request);
    } catch (error) {
      throw await results.explained(error);
    } finally {
      clearTimeout(timer);
      await close();
    }
  }

  async #run(results: Results, request: Request): Promise<QueryResponse> {
    const { sql, parameters, format } = request;
    if (format === "parquet") {
      const file = path.join(this.#tempDir, ANSWERS, `${randomUUID()}.parquet`);
      try {
        await results.writeParquet(sql, file, parameters);
        return await parquetResponse(file);
      } finally {
        await fs.rm(file, { force: true });
      }
    }
    const rows = await results.select(sql, parameters);
    const answer = new Answer();
    if (format === "json") await writeJson(rows, answer);
    else await writeCsv(rows, answer);
    const type = format === "json" ? "application/json" : "text/csv; charset=utf-8";
    return ok(type, answer.text, false);
  }

  /** The results that are in place now; `close` gives back what is not kept for the next query. */
  async #open(): Promise<{ results: Results; close(): Promise<void> }> {
    this.#stores ??= removeOldTemp().then(() => this.#options.stores ?? openStores(this.#env));
    const stores = await this.#stores.catch((error: unknown) => {
      this.#stores = null;
      throw error;
    });
    const writableDir = path.join(this.#tempDir, ANSWERS);
    makeDirectory(writableDir);
    const pipeline = pipelineName(this.#env);
    const place = stores.database(pipeline);
    if (place.kind === "file") {
      // A directory's sink must be able to open the file in between.
      const { openLocalResults } = await import("../query/local-results.js");
      const results = await openLocalResults(path.dirname(place.file), writableDir);
      return { results, close: async () => results.close() };
    }
    const storage = bucketDatabase(place, stores.lake(pipeline).uri(""), this.#env);
    const kept = this.#opened;
    if (kept !== null && !isStale(kept, await storage.etag())) return { ...kept, close: keepOpen };
    await this.#letGo();
    const opened = await openSnapshotResults(storage, {
      tempDir: this.#tempDir,
      writableDir,
      memoryLimit: memoryLimit(this.#env),
      timeoutAdvice: "narrow it, or give the query function a longer timeout",
    });
    this.#opened = opened;
    return { results: opened.results, close: keepOpen };
  }

  async #letGo(): Promise<void> {
    const opened = this.#opened;
    this.#opened = null;
    await opened?.close();
  }
}

/** What invocations that were cut off left in the same environment. */
async function removeOldTemp(): Promise<void> {
  for (const name of await fs.readdir(tmpdir())) {
    if (!name.startsWith(TEMP_PREFIX)) continue;
    const dir = path.join(tmpdir(), name);
    const modifiedMs = (await fs.stat(dir).catch(() => null))?.mtimeMs ?? Date.now();
    if (Date.now() - modifiedMs > TEMP_AGE_MS_MAX)
      await fs.rm(dir, { recursive: true, force: true });
  }
}

const keepOpen = async () => undefined;

/** Credentials are replaced well before they end: a query must not meet that. */
const EXPIRY_MARGIN_MS = 5 * 60 * 1000;

function isStale(opened: SnapshotResults, etag: string | null): boolean {
  const expires = opened.expiresAtMs ?? Number.POSITIVE_INFINITY;
  return opened.etag !== etag || Date.now() > expires - EXPIRY_MARGIN_MS;
}

function memoryLimit(env: Environment): string {
  const functionMb = Number(env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE ?? Number.NaN);
  if (!Number.isFinite(functionMb)) return "1GB";
  return `${Math.max(MEMORY_LIMIT_MB_MIN, functionMb - OTHER_MEMORY_MB)}MB`;
}

function pipelineName({ MILLPOND_PIPELINE: name = "" }: Environment): string {
  if (/^[\w-]+$/.test(name)) return name;
  throw new MillpondError(
    "USAGE",
    `MILLPOND_PIPELINE is "${name}", expected the name of the pipeline to query. Set it`,
  );
}

/** @throws MillpondError QUERY when it is no request */
export function requestOf(event: unknown): Request {
  const fields = isObject(event) && "requestContext" in event ? bodyOf(event) : event;
  if (!isObject(fields)) throw noRequest("it is no JSON object");
  const { sql, parameters = {}, format = "json" } = fields;
  if (typeof sql !== "string") throw noRequest('"sql" is no text');
  if (sql.length > SQL_CHARS_MAX) throw noRequest(`"sql" is longer than ${SQL_CHARS_MAX}`);
  if (format !== "json" && format !== "csv" && format !== "parquet") {
    throw noRequest(`"format" is ${JSON.stringify(format)}`);
  }
  return { sql, parameters: parametersOf(parameters), format };
}

function bodyOf(event: Readonly<Record<string, unknown>>): unknown {
  const { body = "", isBase64Encoded } = event;
  if (typeof body !== "string") throw noRequest("it has no body");
  const text = isBase64Encoded === true ? Buffer.from(body, "base64").toString("utf8") : body;
  try {
    return JSON.parse(text);
  } catch {
    throw noRequest("its body is not JSON");
  }
}

function parametersOf(found: unknown): QueryParameters {
  const entries = isObject(found) || Array.isArray(found) ? Object.entries(found) : null;
  if (entries === null) throw noRequest('"parameters" is neither an object nor an array');
  if (entries.length > PARAMETERS_MAX) throw noRequest(`more than ${PARAMETERS_MAX} "parameters"`);
  const values = entries.map(([name, value]): [string, ParameterValue] => {
    if (isParameter(value)) return [name, value];
    throw noRequest(`parameter "${name}" is no plain value, or longer than ${PARAMETER_CHARS_MAX}`);
  });
  return Array.isArray(found) ? values.map(([, value]) => value) : Object.fromEntries(values);
}

function isParameter(value: unknown): value is ParameterValue {
  if (typeof value === "string") return value.length <= PARAMETER_CHARS_MAX;
  return value === null || typeof value === "boolean" || typeof value === "number";
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function noRequest(found: string): MillpondError {
  return new MillpondError(
    "QUERY",
    `the request was refused because ${found}: expected {"sql": "SELECT …", "parameters": ` +
      '{"name": value}, "format": "json", "csv" or "parquet"}',
  );
}

/** Takes text up to what Lambda can send back. */
class Answer extends Writable {
  text = "";
  #bytes = 0;

  constructor() {
    super({ decodeStrings: false });
    // The writer gets the error as well.
    this.on("error", () => undefined);
  }

  override _write(chunk: string, _encoding: string, done: (error?: Error) => void): void {
    this.#bytes += Buffer.byteLength(JSON.stringify(chunk));
    if (this.#bytes > ANSWER_BYTES_MAX) {
      done(tooLarge("ask for Parquet, which is smaller, or read the lake's files themselves"));
      return;
    }
    this.text += chunk;
    done();
  }
}

async function parquetResponse(file: string): Promise<QueryResponse> {
  const { size } = await fs.stat(file);
  if (size > PARQUET_BYTES_MAX) throw tooLarge("or read the lake's files themselves");
  const body = (await fs.readFile(file)).toString("base64");
  return ok("application/vnd.apache.parquet", body, true);
}

function tooLarge(otherwise: string): MillpondError {
  return new MillpondError(
    "LIMIT",
    `the answer is larger than the ${ANSWER_BYTES_MAX} bytes that Lambda can send back: ` +
      `aggregate, name fewer columns, add a LIMIT, ${otherwise}`,
  );
}

function ok(type: string, body: string, isBase64Encoded: boolean): QueryResponse {
  return { statusCode: 200, headers: { "content-type": type }, body, isBase64Encoded };
}

const STATUS: Readonly<Partial<Record<ErrorCode, number>>> = {
  QUERY: 400,
  LIMIT: 413,
  USAGE: 404,
  STORAGE: 503,
  CONFLICT: 503,
};

function failure(error: unknown): QueryResponse {
  const isOurs = error instanceof MillpondError;
  const code = isOurs ? error.code : "UNEXPECTED";
  const message = isOurs ? error.message : "the query function failed; its log says why";
  return {
    statusCode: isOurs ? (STATUS[error.code] ?? 500) : 500,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ error: { code, message } }),
    isBase64Encoded: false,
  };
}

function logLine(error: unknown): string {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return JSON.stringify({ level: "error", code: "UNEXPECTED", message });
}
