/**
 * A topic's offsets and a consumer group's lag under the names and labels of the Kafka exporter
 * (github.com/danielqsj/kafka_exporter 1.9), so that one dashboard and one set of rules fits both.
 */
import { Gauge, type Registry } from "prom-client";

/** What one look at the brokers found. */
export interface KafkaFacts {
  readonly brokers: readonly { readonly id: number; readonly address: string }[];
  readonly topics: readonly KafkaTopicFacts[];
}

export interface KafkaTopicFacts {
  readonly topic: string;
  readonly partitions: readonly {
    readonly partition: number;
    readonly low: number;
    readonly high: number;
    /** Where the group reads on; null before its first commit. */
    readonly committed: number | null;
  }[];
}

/** A scrape is not kept waiting by brokers that are away. */
const LOOK_MS_MAX = 4_000;
const LOOK_AWAY_MS_MAX = 500;

export interface KafkaMetricsOptions {
  readonly pipeline: string;
  readonly group: string;
  readonly look: () => Promise<KafkaFacts>;
}

/** The families, and which pipeline the group is of. */
export class KafkaMetrics {
  readonly #options: KafkaMetricsOptions;
  readonly #gauges: Readonly<Record<GaugeName, Gauge>>;
  #looking: Promise<KafkaFacts | null> | null = null;
  #wereAway = false;

  constructor(registry: Registry, options: KafkaMetricsOptions) {
    this.#options = options;
    const gauges = Object.entries(GAUGES).map(([name, [help, ...labelNames]]) => {
      return [name, new Gauge({ name, help, labelNames, registers: [registry] })] as const;
    });
    // Object.entries forgets what the keys are.
    this.#gauges = Object.fromEntries(gauges) as Record<GaugeName, Gauge>;
    const { pipeline, group: consumergroup } = options;
    this.#gauges.millpond_pipeline_info.set({ pipeline, consumergroup }, 1);
  }

  /**
   * Looks at the brokers; before each scrape. When they do not answer in time, `kafka_brokers` is 0
   * and the others are left out: old offsets would look like a pipeline that stands still.
   */
  async refresh(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
    });
    // Brokers that were away are not waited for again: how long it takes is known.
    const facts = await inTime(this.#looking, this.#wereAway ? LOOK_AWAY_MS_MAX : LOOK_MS_MAX);
    this.#wereAway = facts === null;
    const { millpond_pipeline_info: _constant, kafka_brokers, ...found } = this.#gauges;
    for (const gauge of Object.values(found)) gauge.reset();
    kafka_brokers.set(facts?.brokers.length ?? 0);
    if (facts !== null) this.#show(facts);
  }

  async #look(): Promise<KafkaFacts | null> {
    try {
      return await this.#options.look();
    } catch {
      // Whoever works with the brokers says what is wrong with them.
      return null;
    }
  }

  #show({ brokers, topics }: KafkaFacts): void {
    const gauges = this.#gauges;
    const { group: consumergroup } = this.#options;
    for (const { id, address } of brokers) gauges.kafka_broker_info.set({ id, address }, 1);
    for (const { topic, partitions } of topics) {
      gauges.kafka_topic_partitions.set({ topic }, partitions.length);
      for (const { partition, low, high, committed } of partitions) {
        const at = { topic, partition: String(partition) };
        gauges.kafka_topic_partition_current_offset.set(at, high);
        gauges.kafka_topic_partition_oldest_offset.set(at, low);
        // Until it commits, a group stands at the beginning (where the exporter says -1).
        const current = committed ?? low;
        gauges.kafka_consumergroup_current_offset.set({ consumergroup, ...at }, current);
        gauges.kafka_consumergroup_lag.set({ consumergroup, ...at }, Math.max(0, high - current));
      }
    }
  }
}

/** Help texts are the exporter's own; after them the labels. */
const GAUGES = {
  millpond_pipeline_info: [
    "Which consumer group is of which pipeline.",
    "pipeline",
    "consumergroup",
  ],
  kafka_brokers: ["Number of Brokers in the Kafka Cluster."],
  kafka_broker_info: ["Information about the Kafka Broker.", "id", "address"],
  kafka_topic_partitions: ["Number of partitions for this Topic", "topic"],
  kafka_topic_partition_current_offset: [
    "Current Offset of a Broker at Topic/Partition",
    "topic",
    "partition",
  ],
  kafka_topic_partition_oldest_offset: [
    "Oldest Offset of a Broker at Topic/Partition",
    "topic",
    "partition",
  ],
  kafka_consumergroup_current_offset: [
    "Current Offset of a ConsumerGroup at Topic/Partition",
    "consumergroup",
    "topic",
    "partition",
  ],
  kafka_consumergroup_lag: [
    "Current Approximate Lag of a ConsumerGroup at Topic/Partition",
    "consumergroup",
    "topic",
    "partition",
  ],
} as const satisfies Record<string, readonly [help: string, ...labels: string[]]>;

type GaugeName = keyof typeof GAUGES;

async function inTime(
  facts: Promise<KafkaFacts | null>,
  waitMsMax: number,
): Promise<KafkaFacts | null> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), waitMsMax);
  });
  try {
    return await Promise.race([facts, tooLate]);
  } finally {
    clearTimeout(timer);
  }
}
