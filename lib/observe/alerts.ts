/**
 * What should wake someone, once: CloudWatch's alarms take their texts and thresholds from here,
 * `prometheus-rules.ts` and `monitor/` the conditions too.
 */

/** In terms of what the metrics endpoint serves; seconds and bytes. */
export type AlertCondition =
  /** The largest value of a gauge. */
  | { readonly kind: "level"; readonly metric: string; readonly by?: "sink" }
  /** How much a counter grew in so long. */
  | { readonly kind: "increase"; readonly metric: string; readonly withinS: number }
  /** Growth of one counter, of the table that it is largest of, as a share of another's. */
  | {
      readonly kind: "share";
      readonly part: string;
      readonly whole: string;
      readonly withinS: number;
    }
  /** Records in Kafka that the pipeline's consumer group has not read. */
  | { readonly kind: "lag" }
  /** Partitions with such records where the group has not moved in so long. */
  | { readonly kind: "stalled"; readonly withinS: number }
  /** No broker answers. */
  | { readonly kind: "brokersAway" }
  /** The metrics themselves can't be read. */
  | { readonly kind: "unreadable" };

export interface AlertRule {
  readonly name: string;
  readonly severity: "critical" | "warning";
  readonly condition: AlertCondition;
  /** It rings at this value and above. */
  readonly threshold: number;
  /** For so long before it rings. */
  readonly forS: number;
  readonly what: string;
  readonly todo: string;
}

const MINUTE = 60;
const MEGABYTE = 1024 * 1024;

/** @example ALERTS.find(({ name }) => name === "DeadLetters")?.threshold; // 1000 in 5 minutes */
export const ALERTS = [
  {
    name: "MetricsUnreadable",
    severity: "critical",
    condition: { kind: "unreadable" },
    threshold: 1,
    forS: 2 * MINUTE,
    what: "The pipeline's metrics can't be read: it may not run at all.",
    todo: "see whether its process runs; if it does, whether its metrics port is reached.",
  },
  {
    name: "KafkaUnreachable",
    severity: "critical",
    condition: { kind: "brokersAway" },
    threshold: 1,
    forS: 2 * MINUTE,
    what: "No Kafka broker answers.",
    todo: "see whether the brokers run and the login is right; reading goes on by itself.",
  },
  {
    name: "PipelineStalled",
    severity: "critical",
    condition: { kind: "stalled", withinS: 5 * MINUTE },
    threshold: 1,
    forS: 2 * MINUTE,
    what: "Records wait in Kafka and nothing of their partition is processed.",
    todo: "read the processor's last error: a changed definition and a lost topic say so by name.",
  },
  {
    name: "ConsumerLag",
    severity: "warning",
    condition: { kind: "lag" },
    threshold: 1_000_000,
    forS: 10 * MINUTE,
    what: "Records wait in Kafka longer and longer.",
    todo:
      "look at the processor's errors first; without any, add partitions before a quiet hour " +
      "or use provisioned pollers.",
  },
  {
    name: "DeadLetters",
    severity: "warning",
    condition: {
      kind: "increase",
      metric: "millpond_dead_letters_total",
      withinS: 5 * MINUTE,
    },
    threshold: 1_000,
    forS: 0,
    what: "Many records can't be read as events.",
    todo: "count dead_letters by reason and detail in SQL, and ask whoever sends them.",
  },
  {
    name: "LateShare",
    severity: "warning",
    condition: {
      kind: "share",
      part: "millpond_late_events_total",
      whole: "millpond_events_total",
      withinS: 15 * MINUTE,
    },
    threshold: 0.05,
    forS: 5 * MINUTE,
    what: "Many events come too late for their windows.",
    todo: "look at table late for who sends them; or raise the stream's lateness.",
  },
  {
    name: "OutboxAge",
    severity: "critical",
    condition: { kind: "level", metric: "millpond_outbox_age_seconds" },
    threshold: 15 * MINUTE,
    forS: 5 * MINUTE,
    what: "The sink does not take what the processor has committed.",
    todo: "read the sink's log for its last error; nothing is lost, and it catches up by itself.",
  },
  {
    name: "SinkBehind",
    severity: "warning",
    condition: { kind: "level", metric: "millpond_publications_pending", by: "sink" },
    threshold: 1,
    forS: 15 * MINUTE,
    what: "A sink lacks results that were published.",
    todo: "see whether its server runs and takes writes; it gets what it lacks by itself.",
  },
  {
    name: "StateBytes",
    severity: "warning",
    condition: { kind: "level", metric: "millpond_state_bytes" },
    threshold: 200 * MEGABYTE,
    forS: 10 * MINUTE,
    what: "A partition's state is near its bound, at which it stops taking records.",
    todo: "shorten windows, lateness or dedup's within, group by fewer keys, or add partitions.",
  },
  {
    name: "ProcessorErrors",
    severity: "critical",
    condition: {
      kind: "increase",
      metric: "millpond_slice_errors_total",
      withinS: 5 * MINUTE,
    },
    threshold: 1,
    forS: 10 * MINUTE,
    what: "The processor has failed for 15 minutes; Kafka keeps the records.",
    todo: "read its log: a changed definition, a lost topic and a full outbox say so by name.",
  },
  {
    name: "SinkErrors",
    severity: "critical",
    condition: { kind: "increase", metric: "millpond_sink_errors_total", withinS: 5 * MINUTE },
    threshold: 1,
    forS: 10 * MINUTE,
    what: "The sink has failed for 15 minutes; results stand still.",
    todo: "read its log; when it is out of memory or time, give it more.",
  },
] as const satisfies readonly AlertRule[];

export type AlertName = (typeof ALERTS)[number]["name"];

/** What an alert says and from when on it rings. */
export function alertRule(name: AlertName): AlertRule {
  const found = ALERTS.find((rule) => rule.name === name);
  if (found === undefined) throw new TypeError(`no alert ${name}`);
  return found;
}
