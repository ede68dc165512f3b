/**
 * Every metric of the product, once: what handlers observe, what CloudWatch's and Grafana's
 * dashboards and alerts read. How a metric travels is left to `emf.ts` and `prometheus.ts`.
 */

export const METRIC_NAMESPACE = "Millpond";

export type MetricUnit = "Count" | "Milliseconds" | "Bytes";
/** How values of one minute become one point of a graph. */
export type MetricStatistic = "Sum" | "Maximum" | "p99";
export type MetricSource = "processor" | "sink" | "producer" | "ingest" | "query";
/** Bounded by the definition and the topic; there is no other label but `pipeline`. */
export type MetricLabel = "stream" | "partition" | "table" | "reason" | "sink";

export interface MetricDefinition {
  readonly name: string;
  readonly source: MetricSource;
  readonly unit: MetricUnit;
  /** In Prometheus a sum is a counter, a maximum a gauge, a p99 a histogram. */
  readonly statistic: MetricStatistic;
  /** In CloudWatch: also with the dimensions [Pipeline, Stream], not only [Pipeline]. */
  readonly perStream: boolean;
  /** False where AWS has a metric of its own for it. */
  readonly inCloudWatch: boolean;
  /** A gauge that grows with the clock until the next observation, unless it is 0. */
  readonly isAge: boolean;
  /** Its name in Prometheus, in base units: seconds where `unit` is milliseconds. */
  readonly prometheus: string;
  /** In Prometheus, beside `pipeline`. */
  readonly labels: readonly MetricLabel[];
  /** One sentence for the person who looks at the graph. */
  readonly help: string;
}

type Named<Name extends string> = MetricDefinition & { readonly name: Name };
type Place = readonly [MetricSource, ...MetricLabel[]];

function define<Name extends string>(
  name: Name,
  prometheus: string,
  [source, ...labels]: Place,
  rest: Pick<MetricDefinition, "unit" | "statistic" | "help"> &
    Partial<Pick<MetricDefinition, "isAge" | "inCloudWatch">>,
): Named<Name> {
  const perStream = source === "processor" || source === "producer";
  const usual = { isAge: false, inCloudWatch: true };
  return { name, prometheus, source, labels, perStream, ...usual, ...rest };
}

function counter<Name extends string>(name: Name, prometheus: string, at: Place, help: string) {
  return define(name, prometheus, at, { unit: "Count", statistic: "Sum", help });
}

function gauge<Name extends string>(
  name: Name,
  prometheus: string,
  at: Place,
  help: string,
  unit: MetricUnit = "Count",
) {
  return define(name, prometheus, at, { unit, statistic: "Maximum", help });
}

function age<Name extends string>(name: Name, prometheus: string, at: Place, help: string) {
  const kind = { unit: "Milliseconds", statistic: "Maximum", isAge: true } as const;
  return define(name, prometheus, at, { ...kind, help });
}

function duration<Name extends string>(name: Name, prometheus: string, at: Place, help: string) {
  return define(name, prometheus, at, { unit: "Milliseconds", statistic: "p99", help });
}

const PARTITION = ["processor", "stream", "partition"] as const;
const SINK_BY_NAME = ["sink", "sink"] as const;

/**
 * In CloudWatch the dimension sets are [Pipeline] and, where `perStream` says so,
 * [Pipeline, Stream]; in Prometheus the labels are `pipeline` and `labels`.
 *
 * @example
 * METRICS.filter(({ source }) => source === "sink").map(({ name, statistic }) => …);
 */
export const METRICS = [
  counter(
    "RecordsRead",
    "millpond_records_total",
    PARTITION,
    "Records taken from Kafka, each once.",
  ),
  counter("Events", "millpond_events_total", PARTITION, "Records that decoded into events."),
  counter(
    "LateEvents",
    "millpond_late_events_total",
    [...PARTITION, "table"],
    "Rows of table late: per event and table.",
  ),
  counter(
    "DuplicateEvents",
    "millpond_duplicate_events_total",
    PARTITION,
    "Events whose id had been seen before.",
  ),
  counter(
    "DeadLetters",
    "millpond_dead_letters_total",
    [...PARTITION, "reason"],
    "Records that are in dead_letters.",
  ),
  counter(
    "Redelivered",
    "millpond_redelivered_records_total",
    PARTITION,
    "Records that came again and were skipped.",
  ),
  counter("SlicesCommitted", "millpond_commits_total", PARTITION, "Checkpoints moved forward."),
  counter(
    "CommitConflicts",
    "millpond_commit_conflicts_total",
    PARTITION,
    "Slices redone: someone else was faster.",
  ),
  // In AWS, Lambda's own `Errors`.
  define("SliceErrors", "millpond_slice_errors_total", PARTITION, {
    unit: "Count",
    statistic: "Sum",
    inCloudWatch: false,
    help: "Slices that failed; their records stay in Kafka and come again.",
  }),
  duration(
    "SliceDurationMs",
    "millpond_slice_duration_seconds",
    ["processor", "stream"],
    "From a slice to its commit.",
  ),
  gauge(
    "StateBytes",
    "millpond_state_bytes",
    PARTITION,
    "State of the largest partition.",
    "Bytes",
  ),
  gauge(
    "OutboxEntries",
    "millpond_outbox_entries",
    PARTITION,
    "Commits that the sink has not taken.",
  ),
  age("WatermarkLagMs", "millpond_watermark_lag_seconds", PARTITION, "Clock minus the watermark."),
  counter(
    "StorageWrites",
    "millpond_storage_writes_total",
    PARTITION,
    "Objects and items written by commits.",
  ),
  counter(
    "PublishedRows",
    "millpond_published_rows_total",
    ["sink", "table"],
    "Rows that the sinks have taken.",
  ),
  duration(
    "EventToVisibleMs",
    "millpond_event_to_visible_seconds",
    ["sink"],
    "From an event's commit to its row.",
  ),
  age(
    "OutboxAgeMs",
    "millpond_outbox_age_seconds",
    ["sink"],
    "Age of the oldest commit not taken.",
  ),
  gauge(
    "PublicationsPending",
    "millpond_publications_pending",
    SINK_BY_NAME,
    "Publications that a sink still lacks.",
  ),
  duration(
    "SinkDurationMs",
    "millpond_sink_duration_seconds",
    ["sink"],
    "Length of one round of the sink.",
  ),
  counter(
    "SinkErrors",
    "millpond_sink_errors_total",
    ["sink"],
    "Rounds that failed; the next one goes on.",
  ),
  counter(
    "RecordsProduced",
    "millpond_produced_records_total",
    ["producer", "stream"],
    "Records that Kafka has acknowledged.",
  ),
  counter(
    "ObjectsIngested",
    "millpond_objects_ingested_total",
    ["ingest"],
    "Objects taken whole, each once.",
  ),
  counter(
    "ObjectsRejected",
    "millpond_objects_rejected_total",
    ["ingest"],
    "Objects refused: changed, or no format.",
  ),
  duration(
    "QueryDurationMs",
    "millpond_query_duration_seconds",
    ["query"],
    "From a query to its answer.",
  ),
  counter("QueryErrors", "millpond_query_errors_total", ["query"], "Queries refused or failed."),
] as const;

export type MetricName = (typeof METRICS)[number]["name"];

const BY_NAME = new Map<string, MetricDefinition>(METRICS.map((entry) => [entry.name, entry]));

export function metricDefinition(name: MetricName): MetricDefinition {
  const found = BY_NAME.get(name);
  if (found === undefined) throw new TypeError(`no metric ${name}`);
  return found;
}

/** One thing that a handler saw. Labels that a metric does not have are left out on its way. */
export interface Observation {
  readonly metric: MetricName;
  /** In the metric's unit. */
  readonly value: number;
  readonly labels?: Readonly<Partial<Record<MetricLabel, string>>>;
}

/** Takes what one invocation of a handler saw, all at once: CloudWatch or Prometheus. */
export interface MetricsOutput {
  write(pipeline: string, observations: readonly Observation[], atMs: number): void;
}
