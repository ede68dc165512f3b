/**
 * The Kafka port on kafkajs: logins, topics, an idempotent producer, offsets. Reading with a group
 * is in `kafkajs-consumer.ts`.
 */
import type { Admin, Kafka, KafkaConfig, KafkaJSProtocolError, SASLOptions } from "kafkajs";
import { MillpondError } from "../../errors.js";
import type {
  ConsumeOptions,
  CreateTopicOptions,
  KafkaClient,
  KafkaConsumer,
  KafkaMessage,
  KafkaProducer,
  PartitionOffsets,
} from "./client.js";
import { lz4Decompress, snappyDecompress, zstdDecompress } from "./codecs.js";
import { startConsumer } from "./kafkajs-consumer.js";
import type { KafkaAuth, KafkaSettings } from "./settings.js";

const CONNECT_MS_MAX = 5_000;
/** A broker answers a login or request by then, or another attempt is better. */
const REQUEST_MS_MAX = 30_000;
const RETRY = { initialRetryTime: 100, maxRetryTime: 2_000, retries: 8 } as const;

/**
 * Connects when first used; nothing is sent by this call itself.
 * @throws MillpondError INPUT (from the client's methods) when Kafka refuses or is not reached
 * @example
 * const kafka = await connectKafka(await kafkaSettings(process.env));
 * await kafka.createTopic("clicks", { partitions: 4 });
 * await kafka.close();
 */
export async function connectKafka(settings: KafkaSettings): Promise<KafkaClient> {
  // Its CommonJS names are only found beneath `default` in a bundle, and nowhere else in types.
  const kafkajs = (await import("kafkajs")).default;
  const { Kafka, Partitioners, logLevel } = kafkajs;
  registerCodecs(kafkajs);
  const kafka = new Kafka({
    clientId: "millpond",
    brokers: [...settings.brokers],
    connectionTimeout: CONNECT_MS_MAX,
    requestTimeout: REQUEST_MS_MAX,
    retry: RETRY,
    // What matters reaches the caller as an error.
    logLevel: logLevel.NOTHING,
    ...(await security(settings.auth)),
  });
  return new KafkajsClient(kafka, settings.brokers, Partitioners.DefaultPartitioner);
}

/** For reading only; what we send is not compressed. */
function registerCodecs({ CompressionCodecs, CompressionTypes }: typeof import("kafkajs")): void {
  const codecs = [
    [CompressionTypes.Snappy, snappyDecompress],
    [CompressionTypes.LZ4, lz4Decompress],
    [CompressionTypes.ZSTD, zstdDecompress],
  ] as const;
  for (const [type, decompress] of codecs) {
    CompressionCodecs[type] = () => ({ decompress: async (bytes: Buffer) => decompress(bytes) });
  }
}

async function security(auth: KafkaAuth): Promise<Pick<KafkaConfig, "ssl" | "sasl">> {
  if (auth.kind === "plaintext") return {};
  if (auth.kind === "tls") return { ssl: true };
  if (auth.kind === "scram") {
    return { ssl: true, sasl: { mechanism: "scram-sha-512", ...(await auth.login()) } };
  }
  return { ssl: true, sasl: iamLogin(auth.region) };
}

function iamLogin(region: string): SASLOptions {
  return {
    mechanism: "oauthbearer",
    async oauthBearerProvider() {
      const { generateAuthToken } = await import("aws-msk-iam-sasl-signer-js");
      const { token } = await generateAuthToken({ region });
      return { value: token };
    },
  };
}

class KafkajsClient implements KafkaClient {
  readonly #kafka: Kafka;
  readonly #brokers: readonly string[];
  readonly #partitioner: Parameters<Kafka["producer"]>[0];
  #admin: Promise<Admin> | null = null;

  constructor(
    kafka: Kafka,
    brokers: readonly string[],
    createPartitioner: NonNullable<Parameters<Kafka["producer"]>[0]>["createPartitioner"],
  ) {
    this.#kafka = kafka;
    this.#brokers = brokers;
    this.#partitioner = createPartitioner === undefined ? {} : { createPartitioner };
  }

  async createTopic(topic: string, options: CreateTopicOptions): Promise<boolean> {
    const { partitions, replicas, settings = {} } = options;
    const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }));
    return this.#ask(`create topic ${topic}`, (admin) =>
      admin.createTopics({
        waitForLeaders: true,
        topics: [
          {
            topic,
            numPartitions: partitions,
            ...(replicas !== undefined && { replicationFactor: replicas }),
            configEntries,
          },
        ],
      }),
    );
  }

  async addPartitions(topic: string, total: number): Promise<void> {
    await this.#ask(`add partitions to topic ${topic}`, (admin) =>
      admin.createPartitions({ topicPartitions: [{ topic, count: total }] }),
    );
  }

  async offsets(topic: string): Promise<readonly PartitionOffsets[] | null> {
    const found = await this.#ask(`read the offsets of topic ${topic}`, async (admin) => {
      const topics = await admin.listTopics();
      return topics.includes(topic) ? admin.fetchTopicOffsets(topic) : null;
    });
    if (found === null) return null;
    return found
      .map(({ partition, low, high }) => ({ partition, low: Number(low), high: Number(high) }))
      .sort((a, b) => a.partition - b.partition);
  }

  async committed(group: string, topic: string): Promise<ReadonlyMap<number, number>> {
    const found = await this.#ask(`read the offsets of group ${group}`, (admin) =>
      admin.fetchOffsets({ groupId: group, topics: [topic] }),
    );
    const offsets = found.flatMap(({ partitions }) => partitions);
    // -1: this group never committed one.
    const known = offsets.filter(({ offset }) => Number(offset) >= 0);
    return new Map(known.map(({ partition, offset }) => [partition, Number(offset)]));
  }

  async producer(): Promise<KafkaProducer> {
    const producer = this.#kafka.producer({
      ...this.#partitioner,
      // Acknowledged by all in-sync replicas, and each message once in its partition's order.
      idempotent: true,
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
    });
    await this.#explained("connect a producer", () => producer.connect());
    return {
      send: (topic, messages) =>
        this.#explained(`write to topic ${topic}`, async () => {
          if (messages.length === 0) return;
          await producer.send({ topic, acks: -1, messages: messages.map(toKafkajs) });
        }),
      close: () => producer.disconnect(),
    };
  }

  async consume(options: ConsumeOptions): Promise<KafkaConsumer> {
    const { group, topics } = options;
    const what = `read ${topics.join(", ")} as group ${group}`;
    const onTrouble = (error: Error) => options.onTrouble(kafkaError(what, this.#brokers, error));
    const start = () => startConsumer(this.#kafka, { ...options, onTrouble });
    const consumer = await this.#explained(what, start);
    const commit: KafkaConsumer["commit"] = (offsets) =>
      this.#explained(`commit offsets of group ${group}`, () => consumer.commit(offsets));
    return { ...consumer, commit };
  }

  async close(): Promise<void> {
    const admin = this.#admin;
    this.#admin = null;
    if (admin !== null) await (await admin).disconnect();
  }

  #ask<T>(what: string, question: (admin: Admin) => Promise<T>): Promise<T> {
    return this.#explained(what, async () => question(await this.#connectedAdmin()));
  }

  async #connectedAdmin(): Promise<Admin> {
    this.#admin ??= (async () => {
      const admin = this.#kafka.admin();
      await admin.connect();
      return admin;
    })();
    try {
      return await this.#admin;
    } catch (error) {
      this.#admin = null;
      throw error;
    }
  }

  async #explained<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      throw kafkaError(what, this.#brokers, cause);
    }
  }
}

function toKafkajs({ key, value, partition, timestampMs, headers }: KafkaMessage) {
  return {
    key,
    value,
    ...(partition !== undefined && { partition }),
    ...(timestampMs !== undefined && { timestamp: String(timestampMs) }),
    ...(headers !== undefined && { headers: { ...headers } }),
  };
}

const ADVICE: Readonly<Record<string, string>> = {
  UNKNOWN_TOPIC_OR_PARTITION: "there is no such topic: create it, or check its name",
  TOPIC_AUTHORIZATION_FAILED: "allow this user or role to use the topic",
  GROUP_AUTHORIZATION_FAILED: "allow this user or role to use the consumer group",
  CLUSTER_AUTHORIZATION_FAILED: "allow this user or role to use the cluster",
  SASL_AUTHENTICATION_FAILED: "check MILLPOND_KAFKA_AUTH and the user or role",
  UNSUPPORTED_SASL_MECHANISM: "these brokers have another login: change MILLPOND_KAFKA_AUTH",
  MESSAGE_TOO_LARGE: "raise the topic's max.message.bytes, or send smaller messages",
  INVALID_PARTITIONS: "a topic's partitions can only be raised",
  INVALID_REPLICATION_FACTOR: "give at most as many replicas as there are brokers",
};

/** A client's error as one of ours: what was tried, where, what came back, what to do. */
export function kafkaError(what: string, brokers: readonly string[], cause: unknown) {
  if (cause instanceof MillpondError) return cause;
  const found = cause instanceof Error ? cause.message : String(cause);
  const type = protocolType(cause);
  const advice =
    ADVICE[type ?? ""] ?? "check that the brokers run and that this login may use them";
  return new MillpondError(
    "INPUT",
    `Kafka at ${brokers.join(",")}: cannot ${what}: ${found.replace(/\.$/, "")}; ${advice}`,
    { cause },
  );
}

/** The broker's error code by name; wrapped errors are looked into. */
function protocolType(error: unknown): string | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    if (isProtocolError(at)) return at.type;
    if (at.name === "KafkaJSSASLAuthenticationError") return "SASL_AUTHENTICATION_FAILED";
  }
  return undefined;
}

function isProtocolError(error: Error): error is KafkaJSProtocolError {
  return "type" in error && typeof error.type === "string";
}
