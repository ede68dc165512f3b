/**
 * A stack's custom resources for Kafka: topics as they should be, and the brokers' addresses. What
 * the properties are is for the constructs; topics are never deleted, because they hold data.
 */
import { MillpondError } from "../errors.js";

export const TOPIC_RESOURCE = "Custom::MillpondTopic";
export const BROKERS_RESOURCE = "Custom::MillpondBrokers";

/** What CloudFormation sends (its user guide, "Custom resource request objects"). */
export interface CustomResourceEvent {
  readonly RequestType: "Create" | "Update" | "Delete";
  readonly ResponseURL: string;
  readonly StackId: string;
  readonly RequestId: string;
  readonly LogicalResourceId: string;
  readonly PhysicalResourceId?: string;
  readonly ResourceType: string;
  readonly ResourceProperties: Readonly<Record<string, unknown>>;
}

export interface TopicWanted {
  readonly topic: string;
  readonly partitions: number;
  /** The cluster's default when absent. */
  readonly replicas?: number;
  /** Kafka's own topic settings, e.g. `retention.ms`. */
  readonly settings: Readonly<Record<string, string>>;
}

/** How topics are made: by MSK's API, or by Kafka's protocol. */
export interface TopicAdmin {
  /** Null when there is no such topic. */
  partitions(topic: string): Promise<number | null>;
  create(wanted: TopicWanted): Promise<void>;
  grow(topic: string, partitions: number): Promise<void>;
  close(): Promise<void>;
}

export interface TopicsDependencies {
  openAdmin(): Promise<TopicAdmin>;
  bootstrapBrokers(): Promise<readonly string[]>;
  /** Answers CloudFormation. */
  respond(url: string, body: string): Promise<void>;
}

interface Outcome {
  readonly id: string;
  readonly data?: Readonly<Record<string, string>>;
}

/**
 * The handler of both resources; it answers CloudFormation whatever happens, because a stack that
 * gets no answer waits for an hour.
 * @example
 * export const handler = makeTopics({ openAdmin, bootstrapBrokers, respond });
 */
export function makeTopics(dependencies: TopicsDependencies) {
  return async (event: CustomResourceEvent): Promise<void> => {
    let outcome: Outcome | null = null;
    let reason = "";
    try {
      outcome = await carryOut(event, dependencies);
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
      console.error(JSON.stringify({ level: "ERROR", message: reason }));
    }
    const { StackId, RequestId, LogicalResourceId } = event;
    const body = JSON.stringify({
      Status: outcome === null ? "FAILED" : "SUCCESS",
      // CloudFormation takes 4 KB in all.
      Reason: reason.slice(0, 1_000),
      PhysicalResourceId: outcome?.id ?? event.PhysicalResourceId ?? RequestId,
      StackId,
      RequestId,
      LogicalResourceId,
      Data: outcome?.data ?? {},
    });
    await dependencies.respond(event.ResponseURL, body);
  };
}

async function carryOut(
  event: CustomResourceEvent,
  { openAdmin, bootstrapBrokers }: TopicsDependencies,
): Promise<Outcome> {
  const id = event.PhysicalResourceId ?? event.RequestId;
  if (event.RequestType === "Delete") return { id };
  if (event.ResourceType === BROKERS_RESOURCE) {
    return { id, data: { BootstrapServers: (await bootstrapBrokers()).join(",") } };
  }
  if (event.ResourceType !== TOPIC_RESOURCE) {
    throw new MillpondError(
      "USAGE",
      `resource type ${event.ResourceType} is unknown: ` +
        `expected ${TOPIC_RESOURCE} or ${BROKERS_RESOURCE}`,
    );
  }
  const wanted = topicWanted(event.ResourceProperties);
  const admin = await openAdmin();
  try {
    await ensureTopic(admin, wanted);
  } finally {
    await admin.close();
  }
  return { id: wanted.topic, data: { Topic: wanted.topic } };
}

async function ensureTopic(admin: TopicAdmin, wanted: TopicWanted): Promise<void> {
  const found = await admin.partitions(wanted.topic);
  const action = topicAction(wanted, found);
  if (action === "create") await admin.create(wanted);
  if (action === "grow") await admin.grow(wanted.topic, wanted.partitions);
}

/**
 * @param found partitions that the topic has, null when there is none
 * @throws MillpondError USAGE when partitions would have to go: Kafka can't, and they hold records
 */
export function topicAction(
  { topic, partitions }: TopicWanted,
  found: number | null,
): "create" | "grow" | "keep" {
  if (found === null) return "create";
  if (found === partitions) return "keep";
  if (found < partitions) return "grow";
  throw new MillpondError(
    "USAGE",
    `topic "${topic}" has ${found} partitions and ${partitions} are wanted: Kafka can't take ` +
      `partitions away. Ask for ${found}, or use a new topic`,
  );
}

/** CloudFormation turns every value into text. */
export function topicWanted(properties: Readonly<Record<string, unknown>>): TopicWanted {
  const { Topic: topic, Settings: settings = {} } = properties;
  if (typeof topic !== "string" || !/^[\w.-]{1,249}$/.test(topic)) {
    throw new MillpondError("USAGE", `"${String(topic)}" is no topic name: use letters . _ -`);
  }
  if (typeof settings !== "object" || settings === null) {
    throw new MillpondError("USAGE", `settings of topic "${topic}" are not an object of texts`);
  }
  const replicas = properties.Replicas;
  return {
    topic,
    partitions: positive(`partitions of topic "${topic}"`, properties.Partitions),
    ...(replicas !== undefined && { replicas: positive("replicas", replicas) }),
    settings: Object.fromEntries(Object.entries(settings).map(([key, at]) => [key, String(at)])),
  };
}

function positive(what: string, value: unknown): number {
  const number = Number(value);
  if (Number.isInteger(number) && number >= 1 && number <= 10_000) return number;
  throw new MillpondError("USAGE", `${what} are "${String(value)}": give 1 to 10000`);
}
