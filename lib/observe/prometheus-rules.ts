/**
 * The alerts as Prometheus' rules. `max by` over each partition, because Kafka's exporter and
 * `millpond dev` may both be scraped and then say the same thing twice.
 */
import type { AlertCondition, AlertRule } from "./alerts.js";

const OF_PARTITION = "max by (consumergroup, topic, partition)";
/** Adds the label `pipeline` to what has a consumer group. */
const WITH_PIPELINE =
  "* on (consumergroup) group_left (pipeline) " +
  "max by (consumergroup, pipeline) (millpond_pipeline_info)";

/** Records not read, by pipeline and topic. */
export const LAG =
  `sum by (pipeline, topic) (${OF_PARTITION} (clamp_min(kafka_consumergroup_lag, 0)) ` +
  `${WITH_PIPELINE})`;

/**
 * The value that is held against the threshold.
 *
 * @example
 * conditionValue({ kind: "increase", metric: "millpond_dead_letters_total", withinS: 300 });
 * // sum by (pipeline) (increase(millpond_dead_letters_total[300s]))
 */
export function conditionValue(condition: AlertCondition): string {
  switch (condition.kind) {
    case "level":
      return `max by (pipeline${condition.by ? `, ${condition.by}` : ""}) (${condition.metric})`;
    case "increase":
      return increase(condition.metric, condition.withinS);
    case "share": {
      const { part, whole, withinS } = condition;
      const worst = `max by (pipeline) (${increase(part, withinS, "pipeline, table")})`;
      return `${worst} / (${increase(whole, withinS)} > 0)`;
    }
    case "lag":
      return LAG;
    case "stalled": {
      const window = `[${condition.withinS}s]`;
      return (
        `count by (pipeline, topic) ((` +
        `${OF_PARTITION} (min_over_time(kafka_consumergroup_lag${window})) > 0 and ` +
        `${OF_PARTITION} (changes(kafka_consumergroup_current_offset${window})) == 0) ` +
        `${WITH_PIPELINE})`
      );
    }
    case "brokersAway":
      return "max(kafka_brokers) < bool 1";
    case "unreadable":
      return 'up{job="millpond"} < bool 1';
  }
}

const increase = (metric: string, withinS: number, by = "pipeline"): string =>
  `sum by (${by}) (increase(${metric}[${withinS}s]))`;

/** A rule file's content, before it becomes YAML. */
export function ruleFile(rules: readonly AlertRule[]): object {
  return {
    groups: [{ name: "millpond", rules: rules.map(prometheusRule) }],
  };
}

function prometheusRule({ name, severity, condition, threshold, forS, what, todo }: AlertRule) {
  const whose = /unreadable|brokersAway/.test(condition.kind) ? "" : "{{ $labels.pipeline }}: ";
  return {
    alert: `Millpond${name}`,
    expr: `${conditionValue(condition)} >= ${threshold}`,
    for: `${forS}s`,
    labels: { severity },
    annotations: { summary: `${whose}${what}`, description: `What to do: ${todo}` },
  };
}
