/**
 * An idempotent producer on kafkajs that gets over brokers that go away. kafkajs itself gives up
 * as soon as none answers; and what it would send again after that it could send twice, if one
 * broker had taken its part. So each partition is sent by itself, and again by itself.
 */
import type { ICustomPartitioner, Message, PartitionMetadata, Producer } from "kafkajs";
import { MillpondError } from "../../errors.js";
import type { KafkaMessage, KafkaProducer } from "./client.js";
import { persistently } from "./kafkajs-errors.js";

/** How long a broker may be away. */
const RETRY_MS_MAX = 30_000;

export interface KafkajsProducerOptions {
  /** Connected, and idempotent with one request in flight. */
  readonly producer: Producer;
  readonly partitionsOf: (topic: string) => Promise<readonly PartitionMetadata[]>;
  readonly createPartitioner: ICustomPartitioner;
}

export class KafkajsProducer implements KafkaProducer {
  readonly #options: KafkajsProducerOptions;
  readonly #partitioner: ReturnType<ICustomPartitioner>;
  /** Of each topic, as they were when it was first sent to. */
  readonly #partitions = new Map<string, readonly PartitionMetadata[]>();
  #hasFailed = false;

  constructor(options: KafkajsProducerOptions) {
    this.#options = options;
    this.#partitioner = options.createPartitioner();
  }

  async send(topic: string, messages: readonly KafkaMessage[]): Promise<void> {
    if (messages.length === 0) return;
    if (this.#hasFailed) throw afterFailure();
    const byPartition = await this.#divided(topic, messages);
    try {
      await Promise.all([...byPartition.values()].map((part) => this.#sendPart(topic, part)));
    } catch (error) {
      // A broker may have what it did not acknowledge, and would take the next for a repetition.
      this.#hasFailed = true;
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#options.producer.disconnect();
  }

  async #divided(
    topic: string,
    messages: readonly KafkaMessage[],
  ): Promise<ReadonlyMap<number, readonly Message[]>> {
    const partitions = this.#partitions.get(topic) ?? (await this.#options.partitionsOf(topic));
    this.#partitions.set(topic, partitions);
    const partitionMetadata = [...partitions];
    const byPartition = new Map<number, Message[]>();
    for (const one of messages) {
      const message = toKafkajs(one);
      const partition = this.#partitioner({ topic, partitionMetadata, message });
      const part = byPartition.get(partition);
      if (part === undefined) byPartition.set(partition, [{ ...message, partition }]);
      else part.push({ ...message, partition });
    }
    return byPartition;
  }

  /** The same again has the same sequence numbers, by which the broker knows it. */
  async #sendPart(topic: string, part: readonly Message[]): Promise<void> {
    const messages = [...part];
    const send = () => this.#options.producer.send({ topic, acks: -1, messages });
    await persistently(send, { forMs: RETRY_MS_MAX, unlessUnknownTopic: true });
  }
}

export function toKafkajs({ key, value, partition, timestampMs, headers }: KafkaMessage): Message {
  return {
    key,
    value,
    ...(partition !== undefined && { partition }),
    ...(timestampMs !== undefined && { timestamp: String(timestampMs) }),
    ...(headers !== undefined && { headers: { ...headers } }),
  };
}

function afterFailure(): MillpondError {
  return new MillpondError(
    "INPUT",
    "this producer failed before, and sending on could lose records: make a new one",
  );
}
