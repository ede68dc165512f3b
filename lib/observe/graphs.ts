/** Which metrics stand in one graph, for CloudWatch's dashboard and for Grafana's. */
import type { MetricName } from "./metrics.js";

export interface Graph {
  readonly title: string;
  /** What CloudWatch's numbers are; Grafana has units. */
  readonly cloudWatchUnit?: string;
  /** All of one unit and kind. */
  readonly metrics: readonly MetricName[];
}

/** @example GRAPHS.throughput.metrics.map((name) => metricDefinition(name).prometheus); */
export const GRAPHS = {
  throughput: {
    title: "Throughput",
    cloudWatchUnit: "records a minute",
    metrics: ["RecordsRead", "Events", "PublishedRows"],
  },
  watermarkLag: { title: "Watermark lag", cloudWatchUnit: "ms", metrics: ["WatermarkLagMs"] },
  eventToVisible: {
    title: "Event to visible",
    cloudWatchUnit: "ms, p99",
    metrics: ["EventToVisibleMs"],
  },
  outboxAge: { title: "Outbox age", cloudWatchUnit: "ms", metrics: ["OutboxAgeMs"] },
  outbox: {
    title: "Outbox (commits), publications",
    metrics: ["OutboxEntries", "PublicationsPending"],
  },
  late: { title: "Late, duplicates", metrics: ["LateEvents", "DuplicateEvents", "Redelivered"] },
  dead: { title: "Refused", metrics: ["DeadLetters", "ObjectsRejected"] },
  state: {
    title: "State of the largest partition",
    cloudWatchUnit: "bytes",
    metrics: ["StateBytes"],
  },
  failures: {
    title: "Conflicts, failures",
    metrics: ["CommitConflicts", "SliceErrors", "SinkErrors", "QueryErrors"],
  },
  durations: {
    title: "Durations",
    cloudWatchUnit: "ms, p99",
    metrics: ["SliceDurationMs", "SinkDurationMs", "QueryDurationMs"],
  },
  sent: { title: "Sent and ingested", metrics: ["RecordsProduced", "ObjectsIngested"] },
  commits: { title: "Commits and writes", metrics: ["SlicesCommitted", "StorageWrites"] },
} as const satisfies Record<string, Graph>;
