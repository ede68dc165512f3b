/** What AWS refuses, as errors that say what to do; and how long clients of it wait and try. */
import { setTimeout as delay } from "node:timers/promises";
import { MillpondError } from "../errors.js";

/**
 * A request is tried so often, with waits in between (the SDK's "standard" mode, with jitter) of
 * up to 0.1, 0.2, 0.4 and 0.8 s, or 0.5, 1, 2 and 4 s where AWS throttles it: time for a table or
 * bucket to scale.
 */
export const REQUEST_ATTEMPTS_MAX = 5;
export const RETRY_MODE = "standard";
export const CONNECT_TIMEOUT_MS = 2_000;
/** Requests of one client that are under way; the SDK has 50 sockets for them. */
export const REQUESTS_MAX = 32;

/** The name AWS or the SDK gave an error; "" when it has none. */
function awsErrorName(error: unknown): string {
  return error instanceof Error ? error.name : "";
}

/** The HTTP status of the reply that made this error; 0 when there was none. */
export function httpStatus(error: unknown): number {
  if (typeof error !== "object" || error === null || !("$metadata" in error)) return 0;
  const { $metadata: metadata } = error;
  if (typeof metadata !== "object" || metadata === null) return 0;
  return "httpStatusCode" in metadata ? Number(metadata.httpStatusCode) : 0;
}

/**
 * Do `work`; its failure becomes a MillpondError that names what was done and where.
 *
 * @example await explained("read item x", "table t", () => client.send(command));
 */
export async function explained<T>(
  doing: string,
  where: string,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof MillpondError) throw error;
    const name = awsErrorName(error);
    const message = error instanceof Error ? error.message.replace(/\.$/, "") : "";
    const found = message === "" || message === name ? name : `${name}: ${message}`;
    const advice = ADVICE.find(({ pattern }) => pattern.test(name))?.advice ?? OTHERWISE;
    throw new MillpondError(
      "STORAGE",
      `cannot ${doing} in ${where}: ${found}. What was committed is safe; ${advice}`,
      { cause: error },
    );
  }
}

const OTHERWISE = "the outcome is unknown and is resolved at the next attempt";

const ADVICE: readonly { readonly pattern: RegExp; readonly advice: string }[] = [
  {
    pattern: /AccessDenied|Forbidden|UnrecognizedClient|InvalidAccessKey|SignatureDoesNotMatch/,
    advice: "check the role's policy and the credentials",
  },
  {
    pattern: /CredentialsProvider|ExpiredToken/,
    advice: "give credentials that are valid, as for the AWS CLI",
  },
  {
    pattern: /ResourceNotFound|NoSuchBucket/,
    advice: "deploy the stack, or correct MILLPOND_STATE_TABLE or MILLPOND_BUCKET",
  },
  {
    pattern: /Throttl|ProvisionedThroughputExceeded|RequestLimitExceeded|SlowDown|TooManyRequests/,
    advice:
      "it stayed throttled through all attempts: raise the table's capacity or the account's " +
      "quota if that lasts",
  },
  {
    pattern: /Timeout|ECONN|EPIPE|ENOTFOUND|EAI_AGAIN|NetworkingError/,
    advice:
      "check the network: in a VPC the gateway endpoints of S3 and DynamoDB, elsewhere the " +
      "endpoint URL",
  },
];

/** How time passes between two attempts, ms. */
export type Wait = (ms: number) => Promise<void>;

export const realWait: Wait = (ms) => delay(ms);

const RETRY_BASE_MS = 100;
/** Refusals that speak of this transfer, not of the request. */
const BROKEN_TRANSFER = /^(BadDigest|IncompleteBody|RequestTimeout|XAmzContentSHA256Mismatch)$/;

/**
 * For what the SDK does not repeat by itself: a body that is a stream, a transfer that broke off or
 * arrived damaged, a 409 of S3's conditional writes. Refusals (other 4xx) are not repeated.
 */
export async function retried<T>(work: () => Promise<T>, wait: Wait): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (isRefusal(error) || attempt >= REQUEST_ATTEMPTS_MAX) throw error;
      await wait(RETRY_BASE_MS * 2 ** (attempt - 1) * Math.random());
    }
  }
}

function isRefusal(error: unknown): boolean {
  if (error instanceof MillpondError) return true;
  if (BROKEN_TRANSFER.test(awsErrorName(error))) return false;
  const status = httpStatus(error);
  return status >= 400 && status < 500 && status !== 409 && status !== 429;
}
