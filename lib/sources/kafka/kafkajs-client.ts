/**
 * The Kafka port on kafkajs: logins, topics, offsets. What sends and what reads
 * with a group is beside it.
 */
import type {
  Admin,
  ICustomPartitioner,
  Kafka,
  KafkaConfig,
  PartitionMetadata,
  SASLOptions,
} from "kafkajs";
import type {
  ConsumeOptions,
  CreateTopicOptions,
  KafkaClient,
  KafkaConsumer,
  KafkaProducer,
  KafkaReader,
  KafkaTransactions,
  PartitionOffsets,
} from "./client.js";
import { lz4Decompress, snappyDecompress, zstdDecompress } from "./codecs.js";
import { startConsumer } from "./kafkajs-consumer.js";
import { kafkaError, persistently } from "./kafkajs-errors.js";
import { KafkajsProducer } from "./kafkajs-producer.js";
import { KafkajsReader } from "./kafkajs-reader.js";
import { KafkajsTransactions, TRANSACTION_MS_MAX } from "./kafkajs-transactions.js";
import type { KafkaAuth, KafkaSettings } from "./settings.js";

const CONNECT_MS_MAX = 5_000;
/** A broker answers a login or request by then, or another attempt is better. */
const REQUEST_MS_MAX = 30_000;
/** Brokers that restart answer within seconds; who waits for an answer wants to know by then. */
const ASK_MS_MAX = 8_000;
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
  readonly #createPartitioner: ICustomPartitioner;
  #admin: Promise<Admin> | null = null;

  constructor(kafka: Kafka, brokers: readonly string[], createPartitioner: ICustomPartitioner) {
    this.#kafka = kafka;
    this.#brokers = brokers;
    this.#createPartitioner = createPartitioner;
  }

  async createTopic(topic: string, options: CreateTopicOptions): Promise<boolean> {
    const { partitions, replicas, settings = {} } = options;
    const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }));
    const topics = [
      {
        topic,
        numPartitions: partitions,
        ...(replicas !== undefined && { replicationFactor: replicas }),
        configEntries,
      },
    ];
    // Other brokers hear of a new topic a moment later.
    return this.#ask(
      `create topic ${topic}`,
      (admin) => admin.createTopics({ waitForLeaders: true, topics }),
      false,
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

  async brokers(): ReturnType<KafkaClient["brokers"]> {
    const cluster = await this.#ask("list the brokers", (admin) => admin.describeCluster());
    return cluster.brokers.map(({ nodeId, host, port }) => ({
      id: nodeId,
      address: `${host}:${port}`,
    }));
  }

  async producer(): Promise<KafkaProducer> {
    const producer = this.#kafka.producer({
      createPartitioner: this.#createPartitioner,
      // Acknowledged by all in-sync replicas, and each message once in its partition's order.
      idempotent: true,
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
    });
    await this.#explained("connect a producer", () => producer.connect());
    const kafkajsProducer = new KafkajsProducer({
      producer,
      createPartitioner: this.#createPartitioner,
      partitionsOf: (topic) => this.#partitionsOf(topic),
    });
    return {
      send: (topic, messages) =>
        this.#explained(`write to topic ${topic}`, () => kafkajsProducer.send(topic, messages)),
      close: () => kafkajsProducer.close(),
    };
  }

  async offsetsAt(topic: string, timestampMs: number): Promise<ReadonlyMap<number, number>> {
    const found = await this.#ask(`find a time in topic ${topic}`, (admin) =>
      admin.fetchTopicOffsetsByTimestamp(topic, timestampMs),
    );
    return new Map(found.map(({ partition, offset }) => [partition, Number(offset)]));
  }

  async transactions(id: string): Promise<KafkaTransactions> {
    const producer = this.#kafka.producer({
      createPartitioner: this.#createPartitioner,
      idempotent: false,
      transactionalId: id,
      transactionTimeout: TRANSACTION_MS_MAX,
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
    });
    await this.#explained("connect a producer", () => producer.connect());
    const transactions = new KafkajsTransactions(producer, id);
    const what = `write in a transaction of ${id}`;
    return {
      begin: () => this.#explained(what, () => transactions.begin()),
      send: (to, messages) =>
        this.#explained(`write to topic ${to.topic}`, () => transactions.send(to, messages)),
      commit: () => this.#explained(what, () => transactions.commit()),
      close: () => transactions.close(),
    };
  }

  async reader(): Promise<KafkaReader> {
    const connect = () => KafkajsReader.connect(this.#kafka);
    const reader = await this.#explained("connect", connect);
    return {
      fetch: (from, waitMs) => {
        const what = `read ${[...new Set(from.map(({ topic }) => topic))].join(", ")}`;
        return this.#explained(what, () => reader.fetch(from, waitMs));
      },
      close: () => reader.close(),
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

  async #partitionsOf(topic: string): Promise<readonly PartitionMetadata[]> {
    const metadata = await this.#ask(`read the partitions of topic ${topic}`, (admin) =>
      admin.fetchTopicMetadata({ topics: [topic] }),
    );
    return metadata.topics.flatMap(({ partitions }) => partitions);
  }

  #ask<T>(
    what: string,
    question: (admin: Admin) => Promise<T>,
    unlessUnknownTopic = true,
  ): Promise<T> {
    const ask = async () => question(await this.#connectedAdmin());
    const options = { forMs: ASK_MS_MAX, unlessUnknownTopic };
    return this.#explained(what, () => persistently(ask, options));
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
