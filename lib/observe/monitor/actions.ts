/** How an alert reaches someone: a webhook, or an SNS topic. */
import { setTimeout as sleep } from "node:timers/promises";
import { MillpondError } from "../../errors.js";
import type { AlertRule } from "../alerts.js";
import { type Address, addressOf } from "./address.js";
import type { AlertInstance } from "./alert-state.js";

/** What a webhook gets, as JSON; `text` is what chats show. */
export interface AlertMessage {
  readonly text: string;
  readonly alert: string;
  readonly status: "firing" | "resolved";
  readonly severity: AlertRule["severity"];
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  readonly threshold: number;
  /** Since when it is so, ISO 8601. */
  readonly since: string;
  readonly what: string;
  readonly todo: string;
}

export interface AlertAction {
  readonly name: string;
  /** Throws `MillpondError("STORAGE")` when the message did not arrive. */
  send(message: AlertMessage): Promise<void>;
}

const SEND_MS_MAX = 10_000;
const TRIES_MAX = 3;
const RETRY_FIRST_MS = 500;
/** SNS's own limit, and no line breaks. */
const SUBJECT_CHARS_MAX = 100;

export function alertMessage(rule: AlertRule, instance: AlertInstance): AlertMessage {
  const { name: alert, severity, threshold, what, todo } = rule;
  const { labels, value, sinceMs } = instance;
  const status = instance.status === "resolved" ? "resolved" : "firing";
  const whose = Object.values(labels).join(" ");
  const news = status === "firing" ? `${what} What to do: ${todo}` : `It is over: ${what}`;
  const text = `[${status}] ${alert}${whose === "" ? "" : ` ${whose}`}: ${news}`;
  const since = new Date(sinceMs).toISOString();
  return { text, alert, status, severity, labels, value, threshold, since, what, todo };
}

/**
 * POSTs the message as JSON; any 2xx is an arrival. Tries three times, except for what a further
 * try can't mend (4xx). The address may hold a secret: messages name its host alone.
 *
 * @example webhookAction("https://hooks.example.com/T0/B0/secret");
 */
export function webhookAction(address: string): AlertAction {
  const { url, headers } = addressOf(address, "the webhook");
  const send = async (message: AlertMessage) => {
    for (let tries = 1; ; tries++) {
      const found = await post({ url, headers }, message);
      if (found === null) return;
      if (found.isFinal || tries >= TRIES_MAX) throw notSent(`webhook at ${url.host}`, found.what);
      await sleep(RETRY_FIRST_MS * 2 ** (tries - 1));
    }
  };
  return { name: "webhook", send };
}

/** Null when it arrived. */
async function post(
  { url, headers }: Address,
  message: AlertMessage,
): Promise<{ readonly what: string; readonly isFinal: boolean } | null> {
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(message),
      // Where it leads, nobody has chosen.
      redirect: "manual",
      signal: AbortSignal.timeout(SEND_MS_MAX),
    });
    await response.body?.cancel();
    if (response.ok) return null;
    const isFinal = response.status >= 300 && response.status < 500 && response.status !== 429;
    return { what: `status ${response.status}`, isFinal };
  } catch (error) {
    const isTimeout = error instanceof Error && error.name === "TimeoutError";
    const what = isTimeout ? `no answer in ${SEND_MS_MAX / 1000} s` : "it is not reached";
    return { what, isFinal: false };
  }
}

/**
 * Publishes to a topic; region, endpoint and credentials are the AWS SDK's own variables.
 *
 * @example await snsAction("arn:aws:sns:eu-central-1:123456789012:alerts");
 */
export async function snsAction(topicArn: string): Promise<AlertAction> {
  const region = /^arn:aws[\w-]*:sns:([\w-]+):\d{12}:[\w.-]{1,256}$/.exec(topicArn)?.[1];
  if (region === undefined) {
    throw new MillpondError(
      "USAGE",
      `"${topicArn}" is no SNS topic: expected arn:aws:sns:<region>:<account>:<name>`,
    );
  }
  const { PublishCommand, SNSClient } = await import("@aws-sdk/client-sns");
  const client = new SNSClient({
    region,
    maxAttempts: TRIES_MAX,
    requestHandler: { connectionTimeout: SEND_MS_MAX, requestTimeout: SEND_MS_MAX },
  });
  const send = async (message: AlertMessage) => {
    const Subject = `Millpond ${message.status}: ${message.alert}`.slice(0, SUBJECT_CHARS_MAX);
    const Message = `${message.text}\n\n${JSON.stringify(message, null, 2)}\n`;
    try {
      await client.send(new PublishCommand({ TopicArn: topicArn, Subject, Message }));
    } catch (cause) {
      throw notSent(topicArn, cause instanceof Error ? cause.message : String(cause), cause);
    }
  };
  return { name: "sns", send };
}

function notSent(whom: string, found: string, cause?: unknown): MillpondError {
  return new MillpondError(
    "STORAGE",
    `an alert did not reach ${whom}: ${found}; it is sent again at the next look`,
    { cause },
  );
}
