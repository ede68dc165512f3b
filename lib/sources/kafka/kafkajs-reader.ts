/**
 * Reads partitions at offsets of the caller's choice, without a consumer group. kafkajs can do it
 * but does not offer it: its clusters are taken from inside, which is safe for as long as its
 * version is pinned.
 */
import type { Kafka, KafkaMessage as KafkajsMessage } from "kafkajs";
import { MillpondError } from "../../errors.js";
import type { FetchedRange, KafkaReader, TopicPartitionOffset } from "./client.js";
import { toRecord } from "./kafkajs-consumer.js";

const BYTES_MAX = 4 * 1024 * 1024;
const PARTITION_BYTES_MAX = 1024 * 1024;
const READ_COMMITTED = 1;

interface FetchedPartition {
  readonly partition: number;
  readonly highWatermark: string;
  /** Absent in answers to old requests. */
  readonly lastStableOffset?: string;
  readonly abortedTransactions?: readonly AbortedTransaction[] | null;
  readonly messages: readonly RawMessage[];
}

interface AbortedTransaction {
  readonly producerId: string;
  readonly firstOffset: string;
}

type RawMessage = KafkajsMessage & {
  readonly isControlRecord: boolean;
  readonly batchContext?: { readonly producerId: string; readonly inTransaction: boolean };
};

interface Broker {
  fetch(request: object): Promise<{
    readonly responses: readonly {
      readonly topicName: string;
      readonly partitions: readonly FetchedPartition[];
    }[];
  }>;
}

interface Cluster {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  addMultipleTargetTopics(topics: readonly string[]): Promise<void>;
  refreshMetadata(): Promise<void>;
  findLeaderForPartitions(topic: string, partitions: readonly number[]): Record<string, number[]>;
  findBroker(options: { readonly nodeId: string }): Promise<Broker>;
}

export class KafkajsReader implements KafkaReader {
  readonly #cluster: Cluster;

  private constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  static async connect(kafka: Kafka): Promise<KafkajsReader> {
    const cluster = clusterOf(kafka);
    await cluster.connect();
    return new KafkajsReader(cluster);
  }

  async fetch(from: readonly TopicPartitionOffset[], waitMs: number): Promise<FetchedRange[]> {
    try {
      await this.#cluster.addMultipleTargetTopics([...new Set(from.map(({ topic }) => topic))]);
      return await this.#fetch(from, waitMs);
    } catch (error) {
      // Leaders may have moved: who asks again is told where.
      await this.#cluster.refreshMetadata().catch(() => undefined);
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#cluster.disconnect();
  }

  async #fetch(from: readonly TopicPartitionOffset[], waitMs: number): Promise<FetchedRange[]> {
    const byLeader = new Map<string, TopicPartitionOffset[]>();
    for (const at of from) {
      const leaders = this.#cluster.findLeaderForPartitions(at.topic, [at.partition]);
      for (const nodeId of Object.keys(leaders)) {
        byLeader.set(nodeId, [...(byLeader.get(nodeId) ?? []), at]);
      }
    }
    const ranges = [...byLeader].map(([nodeId, some]) => this.#fetchOf(nodeId, some, waitMs));
    return (await Promise.all(ranges)).flat();
  }

  async #fetchOf(
    nodeId: string,
    from: readonly TopicPartitionOffset[],
    waitMs: number,
  ): Promise<FetchedRange[]> {
    const broker = await this.#cluster.findBroker({ nodeId });
    const { responses } = await broker.fetch({
      maxWaitTime: waitMs,
      minBytes: 1,
      maxBytes: BYTES_MAX,
      isolationLevel: READ_COMMITTED,
      topics: from.map(({ topic, partition, offset }) => ({
        topic,
        partitions: [{ partition, fetchOffset: `${offset}`, maxBytes: PARTITION_BYTES_MAX }],
      })),
    });
    const found = responses.flatMap(({ topicName, partitions }) =>
      partitions.map((fetched) => [`${topicName}/${fetched.partition}`, fetched] as const),
    );
    const byName = new Map(found);
    const ranges = from.map((at) => {
      const fetched = byName.get(`${at.topic}/${at.partition}`);
      return fetched === undefined ? null : rangeOf(at, fetched);
    });
    const isAlone = from.length === 1;
    return Promise.all(
      ranges.map(async (range, index) => {
        const at = from[index]!;
        const isStuck = range === null || (range.nextOffset === at.offset && hasMore(range));
        if (!isStuck) return range;
        // The others took the whole answer, or compaction left a batch here that holds nothing.
        if (!isAlone) return (await this.#fetchOf(nodeId, [at], waitMs))[0]!;
        if (range !== null) return { ...range, nextOffset: at.offset + 1 };
        throw new MillpondError("INPUT", `no answer for ${at.topic}, partition ${at.partition}`);
      }),
    );
  }
}

const hasMore = ({ nextOffset, stableEnd }: FetchedRange): boolean => nextOffset < stableEnd;

function rangeOf(at: TopicPartitionOffset, fetched: FetchedPartition): FetchedRange {
  const { topic, partition, offset } = at;
  // A compressed batch comes whole, also where it begins before the offset asked for.
  const messages = fetched.messages.filter((message) => Number(message.offset) >= offset);
  const last = messages.at(-1);
  const stableEnd = Number(fetched.lastStableOffset ?? fetched.highWatermark);
  return {
    topic,
    partition,
    records: committed(messages, fetched.abortedTransactions ?? []).map(toRecord),
    nextOffset: last === undefined ? offset : Number(last.offset) + 1,
    stableEnd,
    highWatermark: Number(fetched.highWatermark),
  };
}

/**
 * Without control records and what was aborted: a producer's records from the first offset of an
 * aborted transaction to its end (a control record, whose key's second half is 0 for an abort).
 */
function committed(
  messages: readonly RawMessage[],
  aborted: readonly AbortedTransaction[],
): RawMessage[] {
  const waiting = aborted.toSorted((a, b) => Number(b.firstOffset) - Number(a.firstOffset));
  const open = new Set<string>();
  return messages.filter((message) => {
    while (waiting.length > 0 && Number(waiting.at(-1)!.firstOffset) <= Number(message.offset)) {
      open.add(waiting.pop()!.producerId);
    }
    const { producerId = "", inTransaction = false } = message.batchContext ?? {};
    if (message.isControlRecord) {
      if (message.key?.readInt16BE(2) === 0) open.delete(producerId);
      return false;
    }
    return !(inTransaction && open.has(producerId));
  });
}

/** Kafka#[private:createCluster]: what its producers and consumers are made with. */
function clusterOf(kafka: Kafka): Cluster {
  const symbol = Object.getOwnPropertySymbols(kafka).find(
    ({ description }) => description === "private:Kafka:createCluster",
  );
  const create = symbol === undefined ? undefined : Reflect.get(kafka, symbol);
  if (typeof create === "function") {
    const made: unknown = create({
      metadataMaxAge: 10_000,
      allowAutoTopicCreation: false,
      isolationLevel: READ_COMMITTED,
    });
    if (isCluster(made)) return made;
  }
  throw new MillpondError("INVARIANT", "this version of kafkajs is not the one Millpond pins");
}

function isCluster(made: unknown): made is Cluster {
  if (typeof made !== "object" || made === null) return false;
  const names = ["connect", "addMultipleTargetTopics", "findLeaderForPartitions", "findBroker"];
  return names.every((name) => typeof Reflect.get(made, name) === "function");
}
