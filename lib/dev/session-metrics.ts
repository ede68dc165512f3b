/** What a session tells Prometheus: what its handlers observe, and what the brokers say. */
import type { PipelineDefinition } from "../define/definition.js";
import { DEAD_LETTER_REASONS } from "../engine/slice.js";
import { KafkaMetrics, type KafkaTopicFacts } from "../observe/kafka-metrics.js";
import type { Observation } from "../observe/metrics.js";
import type { MetricsSource } from "../observe/metrics-endpoint.js";
import { PrometheusMetrics } from "../observe/prometheus.js";
import type { KafkaClient } from "../sources/kafka/client.js";

export interface SessionMetricsOptions {
  readonly definition: PipelineDefinition;
  /** Streams by topic. */
  readonly topics: ReadonlyMap<string, string>;
  readonly group: string;
  readonly client: KafkaClient;
}

export interface SessionMetrics {
  /** Where handlers write to. */
  readonly output: PrometheusMetrics;
  readonly source: MetricsSource;
}

/** @example const { output, source } = await sessionMetrics({ definition, topics, … }); */
export async function sessionMetrics(options: SessionMetricsOptions): Promise<SessionMetrics> {
  const { definition, topics, group, client } = options;
  const output = new PrometheusMetrics();
  const { registry } = output;
  const look = async () => ({
    brokers: await client.brokers(),
    topics: await topicFacts(client, group, topics.keys()),
  });
  const kafka = new KafkaMetrics(registry, { pipeline: definition.name, group, look });
  output.begin(definition.name, await firstSeries(options));
  return { output, source: { registry, refresh: () => kafka.refresh() } };
}

async function topicFacts(
  client: KafkaClient,
  group: string,
  topics: Iterable<string>,
): Promise<KafkaTopicFacts[]> {
  const found: KafkaTopicFacts[] = [];
  for (const topic of topics) {
    const committed = await client.committed(group, topic);
    const partitions = (await client.offsets(topic)) ?? [];
    found.push({
      topic,
      partitions: partitions.map(({ partition, low, high }) => {
        return { partition, low, high, committed: committed.get(partition) ?? null };
      }),
    });
  }
  return found;
}

async function firstSeries({ definition, topics, client }: SessionMetricsOptions) {
  const found: Omit<Observation, "value">[] = [];
  for (const [topic, stream] of topics) {
    found.push({ metric: "SliceDurationMs", labels: { stream } });
    for (const { partition } of (await client.offsets(topic)) ?? []) {
      const labels = { stream, partition: String(partition) };
      for (const metric of PARTITION_COUNTERS) found.push({ metric, labels });
      for (const reason of DEAD_LETTER_REASONS) {
        found.push({ metric: "DeadLetters", labels: { ...labels, reason } });
      }
      for (const { name: table, stream: of, shape } of definition.tables) {
        if (of !== stream || shape.kind !== "windowed") continue;
        found.push({ metric: "LateEvents", labels: { ...labels, table } });
      }
    }
  }
  for (const { name: table } of definition.tables) {
    found.push({ metric: "PublishedRows", labels: { table } });
  }
  for (const metric of SINK_METRICS) found.push({ metric });
  return found;
}

const PARTITION_COUNTERS = [
  "RecordsRead",
  "Events",
  "DuplicateEvents",
  "Redelivered",
  "SlicesCommitted",
  "CommitConflicts",
  "SliceErrors",
  "StorageWrites",
] as const;

const SINK_METRICS = ["SinkErrors", "SinkDurationMs", "EventToVisibleMs"] as const;
