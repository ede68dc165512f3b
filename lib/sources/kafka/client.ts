/**
 * The port to Kafka: the little that Millpond needs of a client, so that the library behind it can
 * be swapped. Group work in AWS is Lambda's own; here it serves the local event source mapping.
 */

export interface KafkaHeader {
  readonly name: string;
  readonly value: Uint8Array;
}

/** One message as the broker keeps it. */
export interface KafkaRecord {
  readonly offset: number;
  /** Epoch ms. */
  readonly timestampMs: number;
  readonly timestampType: "CREATE_TIME" | "LOG_APPEND_TIME";
  readonly key: Buffer | null;
  /** Null is a tombstone. */
  readonly value: Buffer | null;
  readonly headers: readonly KafkaHeader[];
}

export interface KafkaMessage {
  readonly key: string | Buffer | null;
  readonly value: string | Buffer | null;
  /** By default the key decides, as with every client that hashes like Java's. */
  readonly partition?: number;
  /** By default the time of sending. */
  readonly timestampMs?: number;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface TopicPartition {
  readonly topic: string;
  readonly partition: number;
}

export interface TopicPartitionOffset extends TopicPartition {
  readonly offset: number;
}

export interface PartitionOffsets {
  readonly partition: number;
  /** Offset of the first record that is kept. */
  readonly low: number;
  /** Offset that the next record will get. */
  readonly high: number;
}

export interface FetchedRecords extends TopicPartition {
  /** Never empty; ascending offsets, gaps allowed. */
  readonly records: readonly KafkaRecord[];
  /** Where reading goes on after them; further than the last offset + 1 after control records. */
  readonly nextOffset: number;
  readonly highWatermark: number;
}

export interface ConsumeOptions {
  readonly group: string;
  readonly topics: readonly string[];
  /** Where a partition begins that the group has no offset of. */
  readonly startAt: "earliest" | "latest";
  /**
   * This member's partitions, after each rebalance. What was handed over before and is not
   * committed comes again from the committed offset, here or at another member.
   */
  onAssigned(partitions: readonly TopicPartition[]): void;
  /** Each partition's records in their order. Pause a partition to stop them. */
  onRecords(fetched: FetchedRecords): void;
  /** Something went wrong that the consumer goes on trying to get over. */
  onTrouble(error: Error): void;
}

export interface KafkaConsumer {
  pause(partition: TopicPartition): void;
  resume(partition: TopicPartition): void;
  /** Offsets are those of the next record to read. */
  commit(offsets: readonly TopicPartitionOffset[]): Promise<void>;
  close(): Promise<void>;
}

export interface KafkaProducer {
  /** Resolves when every in-sync replica has all of them, each once and in order. */
  send(topic: string, messages: readonly KafkaMessage[]): Promise<void>;
  close(): Promise<void>;
}

/** What a read at an offset found; only what is committed counts. */
export interface FetchedRange extends TopicPartition {
  /** May be empty, also before `stableEnd`. */
  readonly records: readonly KafkaRecord[];
  readonly nextOffset: number;
  /** Where the oldest transaction that is still open begins, else the end. */
  readonly stableEnd: number;
  readonly highWatermark: number;
}

/** Reads at offsets of one's own, without a consumer group. */
export interface KafkaReader {
  /**
   * What partitions hold from these offsets on, a few MB at most; waits up to `waitMs` for some of
   * it. Throws when an offset is not kept any more.
   */
  fetch(from: readonly TopicPartitionOffset[], waitMs: number): Promise<FetchedRange[]>;
  close(): Promise<void>;
}

/**
 * Transactions under one id, one after the other. What fails is over: `close`, and read what the
 * log holds. Throws CONFLICT once another one has begun under the same id.
 */
export interface KafkaTransactions {
  /**
   * The first one fences off whoever had the id, and waits until what that one left open is
   * committed or aborted.
   */
  begin(): Promise<void>;
  /** Resolves to the offset that the partition's next record gets. */
  send(partition: TopicPartition, messages: readonly KafkaMessage[]): Promise<number>;
  commit(): Promise<void>;
  /** Aborts what is open. */
  close(): Promise<void>;
}

export interface KafkaClient {
  /** False when there is such a topic already, whatever its partitions. */
  createTopic(topic: string, options: CreateTopicOptions): Promise<boolean>;
  /** Raises the number of partitions to `total`. */
  addPartitions(topic: string, total: number): Promise<void>;
  /** Offsets of every partition, ascending; null when there is no such topic. */
  offsets(topic: string): Promise<readonly PartitionOffsets[] | null>;
  /** Next offsets of a group by partition; partitions it never committed are absent. */
  committed(group: string, topic: string): Promise<ReadonlyMap<number, number>>;
  /** By partition, offsets of the first records at or after a time, epoch ms; the ends if none. */
  offsetsAt(topic: string, timestampMs: number): Promise<ReadonlyMap<number, number>>;
  producer(): Promise<KafkaProducer>;
  transactions(id: string): Promise<KafkaTransactions>;
  reader(): Promise<KafkaReader>;
  /** The brokers of the cluster. */
  brokers(): Promise<readonly { readonly id: number; readonly address: string }[]>;
  consume(options: ConsumeOptions): Promise<KafkaConsumer>;
  close(): Promise<void>;
}

export interface CreateTopicOptions {
  readonly partitions: number;
  /** The broker's default when absent. */
  readonly replicas?: number;
  readonly settings?: Readonly<Record<string, string>>;
}
