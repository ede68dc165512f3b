/** What kafkajs throws: which of it passes by itself, and what it means for whoever reads it. */
import { setTimeout as sleep } from "node:timers/promises";
import type { KafkaJSProtocolError } from "kafkajs";
import { MillpondError } from "../../errors.js";

const ADVICE: Readonly<Record<string, string>> = {
  UNKNOWN_TOPIC_OR_PARTITION: "there is no such topic: create it, or check its name",
  TOPIC_AUTHORIZATION_FAILED: "allow this user or role to use the topic",
  GROUP_AUTHORIZATION_FAILED: "allow this user or role to use the consumer group",
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "allow this user or role to use the transactional id",
  CLUSTER_AUTHORIZATION_FAILED: "allow this user or role to use the cluster",
  SASL_AUTHENTICATION_FAILED: "check MILLPOND_KAFKA_AUTH and the user or role",
  UNSUPPORTED_SASL_MECHANISM: "these brokers have another login: change MILLPOND_KAFKA_AUTH",
  MESSAGE_TOO_LARGE: "raise the topic's max.message.bytes, or send smaller messages",
  INVALID_PARTITIONS: "a topic's partitions can only be raised",
  INVALID_REPLICATION_FACTOR: "give at most as many replicas as there are brokers",
  GROUP_LOAD_IN_PROGRESS: "the broker has just started: this goes on by itself",
};

const TOO_LARGE: readonly string[] = ["MESSAGE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"];

/** A client's error as one of ours: what was tried, where, what came back, what to do. */
export function kafkaError(what: string, brokers: readonly string[], cause: unknown) {
  if (cause instanceof MillpondError) return cause;
  const found = cause instanceof Error ? cause.message : String(cause);
  const type = protocolErrorOf(cause)?.type;
  const advice =
    ADVICE[type ?? ""] ?? "check that the brokers run and that this login may use them";
  return new MillpondError(
    TOO_LARGE.includes(type ?? "") ? "LIMIT" : "INPUT",
    `Kafka at ${brokers.join(",")}: cannot ${what}: ${found.replace(/\.$/, "")}; ${advice}`,
    { cause },
  );
}

const CAUSES_MAX = 5;

/** The error and what it wraps, outermost first. */
function causesOf(error: unknown): Error[] {
  const causes: Error[] = [];
  for (let at = error; at instanceof Error && causes.length < CAUSES_MAX; at = at.cause) {
    causes.push(at);
  }
  return causes;
}

function protocolErrorOf(error: unknown): { type: string; retriable: boolean } | undefined {
  for (const at of causesOf(error)) {
    if (isProtocolError(at)) return { type: at.type, retriable: at.retriable };
    const isLogin = at.name === "KafkaJSSASLAuthenticationError";
    if (isLogin) return { type: "SASL_AUTHENTICATION_FAILED", retriable: false };
  }
  return undefined;
}

function isProtocolError(error: Error): error is KafkaJSProtocolError {
  return "type" in error && typeof error.type === "string";
}

const PASSING: readonly string[] = [
  "KafkaJSConnectionError",
  "KafkaJSConnectionClosedError",
  "KafkaJSRequestTimeoutError",
  "KafkaJSBrokerNotFound",
  "KafkaJSLockTimeout",
];

/** Whether no broker was reached, or one says that trying again may help. */
function isPassing(error: unknown): boolean {
  const protocolError = protocolErrorOf(error);
  if (protocolError !== undefined) return protocolError.retriable;
  return causesOf(error).some(({ name }) => PASSING.includes(name));
}

/** kafkajs takes it for passing; but a topic that is missing is mostly one that nobody made. */
function isUnknownTopic(error: unknown): boolean {
  return protocolErrorOf(error)?.type === "UNKNOWN_TOPIC_OR_PARTITION";
}

/** What a producer meets whose transaction another one ended, by what it was doing just then. */
const FENCED: readonly string[] = [
  "INVALID_PRODUCER_EPOCH",
  "INVALID_PRODUCER_ID_MAPPING",
  "INVALID_TXN_STATE",
  "CONCURRENT_TRANSACTIONS",
];
/** PRODUCER_FENCED, which kafkajs does not know. */
const FENCED_CODE = 90;

/** Whether another producer has begun under the same transactional id. */
export function isFenced(error: unknown): boolean {
  const type = protocolErrorOf(error)?.type;
  if (type !== undefined && FENCED.includes(type)) return true;
  return causesOf(error).some((at) => "code" in at && at.code === FENCED_CODE);
}

const RETRY_EVERY_MS = 500;

/**
 * Tries again what failed in passing, where kafkajs gives up: for one, as soon as no broker at all
 * is reached. Whether it may be done twice is for the caller to know.
 */
export async function persistently<T>(
  work: () => Promise<T>,
  options: { readonly forMs: number; readonly unlessUnknownTopic: boolean },
): Promise<T> {
  const giveUpAt = performance.now() + options.forMs;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const isFinal = !isPassing(error) || (options.unlessUnknownTopic && isUnknownTopic(error));
      if (isFinal || performance.now() >= giveUpAt) throw error;
      await sleep(RETRY_EVERY_MS);
    }
  }
}
