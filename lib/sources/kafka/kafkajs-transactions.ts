/**
 * Transactions on kafkajs: one at a time under a transactional id, which whoever takes it next
 * fences off. What failed or was fenced is over; the log decides what became of it.
 */
import type { Producer, Transaction } from "kafkajs";
import { MillpondError } from "../../errors.js";
import type { KafkaMessage, KafkaTransactions, TopicPartition } from "./client.js";
import { isFenced } from "./kafkajs-errors.js";
import { toKafkajs } from "./kafkajs-producer.js";

/** A broker ends what a dead producer left open after it; brokers allow 15 minutes at most. */
export const TRANSACTION_MS_MAX = 5 * 60_000;

export class KafkajsTransactions implements KafkaTransactions {
  readonly #producer: Producer;
  readonly #id: string;
  #transaction: Transaction | null = null;

  constructor(producer: Producer, id: string) {
    this.#producer = producer;
    this.#id = id;
  }

  async begin(): Promise<void> {
    this.#transaction = await this.#unfenced(() => this.#producer.transaction());
  }

  async send(
    { topic, partition }: TopicPartition,
    messages: readonly KafkaMessage[],
  ): Promise<number> {
    const [metadata] = await this.#unfenced(() =>
      this.#open().send({
        topic,
        acks: -1,
        messages: messages.map((message) => ({ ...toKafkajs(message), partition })),
      }),
    );
    return Number(metadata?.baseOffset ?? -1) + messages.length;
  }

  async commit(): Promise<void> {
    await this.#unfenced(() => this.#open().commit());
    this.#transaction = null;
  }

  async close(): Promise<void> {
    const transaction = this.#transaction;
    this.#transaction = null;
    try {
      // Readers of committed records would wait for the broker's timeout.
      if (transaction?.isActive() === true) await transaction.abort();
    } catch {
      // Whoever takes the id next ends it.
    }
    await this.#producer.disconnect();
  }

  #open(): Transaction {
    if (this.#transaction !== null) return this.#transaction;
    throw new MillpondError("INVARIANT", "no Kafka transaction was begun: a bug in Millpond");
  }

  async #unfenced<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      if (!isFenced(cause)) throw cause;
      throw new MillpondError(
        "CONFLICT",
        `another process has taken over Kafka's transactional id ${this.#id}: it does the work`,
        { cause },
      );
    }
  }
}
