/**
 * Every metric of the product, once: what handlers write, what the dashboard and alarms read.
 * How a metric travels is left to `emf.ts`.
 */

export const METRIC_NAMESPACE = "Millpond";

export type MetricUnit = "Count" | "Milliseconds" | "Bytes";
/** How values of one minute become one point of a graph. */
export type MetricStatistic = "Sum" | "Maximum" | "p99";
export type MetricSource = "processor" | "sink" | "producer" | "ingest" | "query";

export interface MetricDefinition {
  readonly name: string;
  readonly source: MetricSource;
  readonly unit: MetricUnit;
  readonly statistic: MetricStatistic;
  /** Also with the dimensions [Pipeline, Stream], not only [Pipeline]. */
  readonly perStream: boolean;
  /** One sentence for the person who looks at the graph. */
  readonly help: string;
}

function metric<Name extends string>(
  source: MetricSource,
  name: Name,
  unit: MetricUnit,
  statistic: MetricStatistic,
  help: string,
): MetricDefinition & { readonly name: Name } {
  const perStream = source === "processor" || source === "producer";
  return { name, source, unit, statistic, perStream, help };
}

/**
 * The dimension sets are [Pipeline] and, where `perStream` says so, [Pipeline, Stream].
 *
 * @example
 * METRICS.filter(({ source }) => source === "sink").map(({ name, statistic }) => …);
 */
export const METRICS = [
  metric("processor", "RecordsRead", "Count", "Sum", "Records taken from Kafka, each once."),
  metric("processor", "Events", "Count", "Sum", "Records that decoded into events."),
  metric("processor", "LateEvents", "Count", "Sum", "Rows of table late: per event and table."),
  metric("processor", "DuplicateEvents", "Count", "Sum", "Events whose id had been seen before."),
  metric("processor", "DeadLetters", "Count", "Sum", "Records that are in dead_letters."),
  metric("processor", "Redelivered", "Count", "Sum", "Records that came again and were skipped."),
  metric("processor", "SlicesCommitted", "Count", "Sum", "Checkpoints moved forward."),
  metric("processor", "CommitConflicts", "Count", "Sum", "Slices redone: someone else was faster."),
  metric("processor", "SliceDurationMs", "Milliseconds", "p99", "From a slice to its commit."),
  metric("processor", "StateBytes", "Bytes", "Maximum", "State of the largest partition."),
  metric("processor", "OutboxEntries", "Count", "Maximum", "Commits that the sink has not taken."),
  metric("processor", "WatermarkLagMs", "Milliseconds", "Maximum", "Clock minus the watermark."),
  metric("processor", "StorageWrites", "Count", "Sum", "Objects and items written by commits."),
  metric("sink", "PublishedRows", "Count", "Sum", "Rows that the sinks have taken."),
  metric("sink", "EventToVisibleMs", "Milliseconds", "p99", "From an event's commit to its row."),
  metric("sink", "OutboxAgeMs", "Milliseconds", "Maximum", "Age of the oldest commit not taken."),
  metric(
    "sink",
    "PublicationsPending",
    "Count",
    "Maximum",
    "Publications that a sink still lacks.",
  ),
  metric("sink", "SinkDurationMs", "Milliseconds", "p99", "Length of one round of the sink."),
  metric("sink", "SinkErrors", "Count", "Sum", "Rounds that failed; the next one goes on."),
  metric("producer", "RecordsProduced", "Count", "Sum", "Records that Kafka has acknowledged."),
  metric("ingest", "ObjectsIngested", "Count", "Sum", "Objects taken whole, each once."),
  metric("ingest", "ObjectsRejected", "Count", "Sum", "Objects refused: changed, or no format."),
  metric("query", "QueryDurationMs", "Milliseconds", "p99", "From a query to its answer."),
  metric("query", "QueryErrors", "Count", "Sum", "Queries refused or failed."),
] as const;

export type MetricName = (typeof METRICS)[number]["name"];

const BY_NAME = new Map<string, MetricDefinition>(METRICS.map((entry) => [entry.name, entry]));

export function metricDefinition(name: MetricName): MetricDefinition {
  const found = BY_NAME.get(name);
  if (found === undefined) throw new TypeError(`no metric ${name}`);
  return found;
}
