/** Asks a deployed query function: a signed POST to its URL, and the answer as rows. */
import { Sha256 } from "@aws-crypto/sha256-js";
import { defaultProvider } from "@aws-sdk/credential-provider-node";
import { SignatureV4 } from "@smithy/signature-v4";
import { type ErrorCode, MillpondError } from "../errors.js";
import { writeText } from "../query/output.js";
import type { ParameterValue } from "../query/results.js";
import type { QueryFormat } from "./query.js";
import { writeObjects } from "./query-output.js";

export interface EndpointQuery {
  readonly endpoint: string;
  readonly region?: string;
  readonly sql: string;
  readonly param?: Readonly<Record<string, ParameterValue>>;
  readonly format: QueryFormat;
  /** Rows of a table that are shown. */
  readonly limit: number;
  /** Seconds. */
  readonly timeout: number;
}

export interface EndpointAnswer {
  write(target: NodeJS.WritableStream): Promise<void>;
}

/**
 * Signs with the credentials that the AWS CLI would use. Throws `MillpondError`: "USAGE" for a URL
 * or region that can't be, "QUERY" for what the function refused, "STORAGE" when it can't be
 * reached or may not be asked.
 */
export async function queryEndpoint(query: EndpointQuery): Promise<EndpointAnswer> {
  const { sql, param = {}, format, limit, timeout } = query;
  const asked = format === "table" ? "json" : format;
  const body = JSON.stringify({ sql, parameters: param, format: asked });
  const { isOk, status, bytes } = await post(await signed(query, body), timeout);
  if (!isOk) throw refusal(status, bytes.toString("utf8"));
  return {
    write: async (target) => {
      if (format !== "table") return writeText(target, bytes);
      const rows: Record<string, unknown>[] = JSON.parse(bytes.toString("utf8"));
      return writeObjects(rows, target, limit);
    },
  };
}

interface SignedRequest {
  readonly url: URL;
  readonly headers: Record<string, string>;
  readonly body: string;
}

async function signed(query: EndpointQuery, body: string): Promise<SignedRequest> {
  const url = parseUrl(query.endpoint);
  const signer = new SignatureV4({
    service: "lambda",
    region: regionOf(url, query.region),
    credentials: defaultProvider(),
    sha256: Sha256,
  });
  const request = {
    method: "POST",
    protocol: url.protocol,
    hostname: url.hostname,
    path: url.pathname,
    query: {},
    headers: { host: url.host, "content-type": "application/json" },
    body,
  };
  try {
    const { headers } = await signer.sign(request);
    return { url, headers, body };
  } catch (cause) {
    throw new MillpondError(
      "STORAGE",
      "cannot sign the request: found no AWS credentials; give them as for the AWS CLI (a " +
        "profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)",
      { cause },
    );
  }
}

function parseUrl(endpoint: string): URL {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : null;
  const isLocal = url !== null && /^(localhost|127\.0\.0\.1|\[::1\])$/.test(url.hostname);
  // A query and its rows are not for everybody on the way.
  if (url?.protocol === "https:" || (url?.protocol === "http:" && isLocal)) return url;
  throw new MillpondError(
    "USAGE",
    `--endpoint is "${endpoint}", expected the https:// URL of a query function, as the stack's ` +
      "outputs show it",
  );
}

function regionOf(url: URL, given: string | undefined): string {
  const inUrl = /\.lambda-url\.([a-z0-9-]+)\.on\.aws$/.exec(url.hostname)?.[1];
  const region = given ?? inUrl ?? process.env.AWS_REGION ?? process.env.AWS_DEFAULT_REGION;
  if (region !== undefined) return region;
  throw new MillpondError(
    "USAGE",
    `the region of ${url.host} is not in its name: give --region, or set AWS_REGION`,
  );
}

interface Answered {
  readonly isOk: boolean;
  readonly status: number;
  readonly bytes: Buffer;
}

/** The whole answer: its body, too, may come too late, or not at all. */
async function post({ url, headers, body }: SignedRequest, timeout: number): Promise<Answered> {
  const { host: _, ...own } = headers;
  try {
    const signal = AbortSignal.timeout(timeout * 1000);
    const request = { method: "POST", headers: own, body, signal, redirect: "error" } as const;
    const response = await fetch(url, request);
    const { ok: isOk, status } = response;
    return { isOk, status, bytes: Buffer.from(await response.arrayBuffer()) };
  } catch (cause) {
    if (cause instanceof Error && cause.name === "TimeoutError") {
      throw new MillpondError(
        "QUERY",
        `no answer within ${timeout} s: narrow the query, or give a longer --timeout <seconds>`,
        { cause },
      );
    }
    throw new MillpondError(
      "STORAGE",
      `cannot reach ${url.origin}: ${reasonOf(cause)}; check the URL and the network`,
      { cause },
    );
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}

const CODES: readonly ErrorCode[] = ["QUERY", "USAGE", "LIMIT", "STORAGE", "OUTPUT"];

function refusal(status: number, body: string): MillpondError {
  const { code, message } = errorIn(body);
  if (status === 403) {
    return new MillpondError(
      "STORAGE",
      "the query function may not be asked with these credentials: they need " +
        "lambda:InvokeFunctionUrl and lambda:InvokeFunction on it (PipelineQuery's grantInvoke)",
    );
  }
  const known = CODES.find((one) => one === code) ?? "STORAGE";
  return new MillpondError(known, message ?? `the query function answered with ${status}`);
}

function errorIn(body: string): { code?: unknown; message?: string } {
  try {
    const parsed: { error?: { code?: unknown; message?: unknown } } = JSON.parse(body);
    const { code, message } = parsed.error ?? {};
    return typeof message === "string" ? { code, message } : { code };
  } catch {
    return {};
  }
}
