/** What a session tells Prometheus: what its handlers observe, and what the brokers say. */
import type { PipelineDefinition } from "../define/definition.js";
import { DEAD_LETTER_REASONS } from "../engine/slice.js";
import { KafkaMetrics, type KafkaTopicFacts } from "../observe/kafka-metrics.js";
import type { MetricName, Observation } from "../observe/metrics.js";
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

/** @example const { output, source } = await sessionMetrics({ definition, topics, group, client }); */
export async function sessionMetrics(options: SessionMetricsOptions): Promise<SessionMetrics> {
  const { definition, topics, group, client } = options;
  const output = new PrometheusMetrics();
  const { registry } = output;
  const look = async () => ({
    brokers: await client.brokers(),
    topics: await topicFacts(client, group, topics.keys()),
  });
  const kafka = new KafkaMetrics(registry, { pipeline: definition.name, group, look });
  output.write(definition.name, await zeros(options), Date.now());
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

/** A counter that first shows with a number has not grown, to Prometheus: all begin with 0. */
async function zeros({ definition, topics, client }: SessionMetricsOptions) {
  const found: Observation[] = [];
  for (const [topic, stream] of topics) {
    for (const { partition } of (await client.offsets(topic)) ?? []) {
      const labels = { stream, partition: String(partition) };
      const zero = (metric: MetricName, more = {}) =>
        found.push({ metric, value: 0, labels: { ...labels, ...more } });
      for (const metric of PARTITION_COUNTERS) zero(metric);
      for (const reason of DEAD_LETTER_REASONS) zero("DeadLetters", { reason });
      for (const table of definition.tables) {
        if (table.stream === stream && table.shape.kind === "windowed") {
          zero("LateEvents", { table: table.name });
        }
      }
    }
  }
  for (const { name } of definition.tables) {
    found.push({ metric: "PublishedRows", value: 0, labels: { table: name } });
  }
  found.push({ metric: "SinkErrors", value: 0 });
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
