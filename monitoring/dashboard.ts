/**
 * The Grafana dashboard, made from the product's metrics, graphs and alerts; `npm run dashboards`
 * writes it. What Prometheus gathers is in `prometheus/`.
 */
import type { Builder } from "@grafana/grafana-foundation-sdk/cog";
import * as common from "@grafana/grafana-foundation-sdk/common";
import * as dashboard from "@grafana/grafana-foundation-sdk/dashboard";
import * as prometheus from "@grafana/grafana-foundation-sdk/prometheus";
import * as stat from "@grafana/grafana-foundation-sdk/stat";
import * as timeseries from "@grafana/grafana-foundation-sdk/timeseries";
import { alertRule } from "../lib/observe/alerts.js";
import { GRAPHS, type Graph } from "../lib/observe/graphs.js";
import { type MetricDefinition, metricDefinition } from "../lib/observe/metrics.js";
import { LAG } from "../lib/observe/prometheus-rules.js";

const SOURCE = { type: "prometheus", uid: "$" + "{datasource}" };
const RATE = "[$__rate_interval]";
const OURS = 'pipeline=~"$pipeline"';
const OF_PARTITION = "max by (consumergroup, topic, partition)";
/** Of a graph without a pipeline in its labels. */
const OUR_GROUPS =
  "* on (consumergroup) group_left (pipeline) " +
  `max by (consumergroup, pipeline) (millpond_pipeline_info{${OURS}})`;

/** A third, a quarter, a whole of the 24 columns; heights in units of 30 pixels. */
const GRAPH = { span: 8, height: 8 } as const;
const NUMBER = { span: 4, height: 4 } as const;

interface Line {
  readonly expr: string;
  readonly legend: string;
}

/** @example JSON.stringify(grafanaDashboard(), null, 2); */
export function grafanaDashboard(): dashboard.Dashboard {
  const built = new dashboard.DashboardBuilder("Millpond")
    .uid("millpond")
    .description("Pipelines of Millpond: what they read, what is late or refused, how far behind.")
    .tags(["millpond", "kafka"])
    .time({ from: "now-1h", to: "now" })
    .refresh("10s")
    .timezone("browser")
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .editable()
    .withVariable(
      new dashboard.DatasourceVariableBuilder("datasource").label("Data source").type("prometheus"),
    )
    .withVariable(pipelineVariable());
  for (const [title, panels] of rows()) {
    built.withRow(new dashboard.RowBuilder(title));
    for (const panel of panels) built.withPanel(panel);
  }
  // Panels of a row that is folded are part of the row.
  const broker = new dashboard.RowBuilder("Broker internals, by the JMX exporter").collapsed(true);
  for (const panel of brokerPanels()) broker.withPanel(panel);
  return withIds(built.withRow(broker).build());
}

/** Links to a panel hold its number: it must not depend on who loads the dashboard. */
function withIds(made: dashboard.Dashboard): dashboard.Dashboard {
  let last = 0;
  const number = <T extends object>(panel: T): T => ({ ...panel, id: ++last });
  const panels = made.panels?.map((panel) => {
    const numbered = number(panel);
    if (!("panels" in numbered)) return numbered;
    return { ...numbered, panels: numbered.panels.map(number) };
  });
  return {
    ...made,
    templating: { list: made.templating.list?.map(onlyKnown) ?? [] },
    ...(panels !== undefined && { panels }),
  };
}

/** The SDK gives every variable what only variables of intervals have in Grafana's schema. */
function onlyKnown(variable: dashboard.VariableModel): dashboard.VariableModel {
  const { auto: _auto, auto_min: _min, auto_count: _count, ...known } = variable;
  return known;
}

type PanelBuilder = Builder<dashboard.Panel>;

function rows(): readonly (readonly [string, readonly PanelBuilder[]])[] {
  return [
    ["Now", numbers()],
    ["Flow", [graph(GRAPHS.throughput), lagGraph(), graph(GRAPHS.watermarkLag)]],
    ["Results", [graph(GRAPHS.eventToVisible), graph(GRAPHS.outboxAge), graph(GRAPHS.outbox)]],
    ["Quality", [graph(GRAPHS.late), graph(GRAPHS.dead), graph(GRAPHS.state)]],
    ["Work", [graph(GRAPHS.durations), graph(GRAPHS.commits), graph(GRAPHS.failures)]],
    ["Kafka", kafkaPanels()],
  ];
}

const LATE = "Share of events that were late, of the table with most of them.";

function numbers(): PanelBuilder[] {
  const records = `sum(rate(millpond_records_total{${OURS}}${RATE}))`;
  const dead = `round(sum(increase(millpond_dead_letters_total{${OURS}}[1h])))`;
  const late = `max(sum by (pipeline, table) (increase(millpond_late_events_total{${OURS}}[1h])))`;
  const events = `sum(increase(millpond_events_total{${OURS}}[1h]))`;
  const behind = `max(millpond_watermark_lag_seconds{${OURS}})`;
  const limits = {
    lag: { red: alertRule("ConsumerLag").threshold },
    dead: { red: alertRule("DeadLetters").threshold },
    late: { unit: "percentunit", red: alertRule("LateShare").threshold },
  };
  const ringing = 'sum(ALERTS{alertname=~"Millpond.*",alertstate="firing"}) or vector(0)';
  return [
    number("Alerts that ring", ringing, "Rules of Millpond that fire now.", { red: 1 }),
    number("Records a second", records, "Taken from Kafka, each once.", { unit: "cps" }),
    number("Not read", `sum(${ourLag()})`, "Records in Kafka that are not read.", limits.lag),
    number("Behind the clock", behind, "Clock minus the lowest watermark.", { unit: "s" }),
    number("Dead letters, 1 h", dead, "Records that can't be read as events.", limits.dead),
    number("Late, 1 h", `${late} / (${events} > 0) or vector(0)`, LATE, limits.late),
  ];
}

function kafkaPanels(): PanelBuilder[] {
  const perPartition = (metric: string) =>
    `${OF_PARTITION} (clamp_min(${metric}, 0)) ${OUR_GROUPS}`;
  const offset = `rate(kafka_topic_partition_current_offset${RATE})`;
  const written = `sum by (topic) (max by (topic, partition) (${offset}))`;
  return [
    plot("Written to topics", "Records that producers write, a second.", "cps", [
      { expr: written, legend: "{{topic}}" },
    ]),
    plot("Lag by partition", "Records of each partition that its group has not read.", "short", [
      { expr: perPartition("kafka_consumergroup_lag"), legend: "{{topic}} {{partition}}" },
    ]),
    plot("Brokers, partitions", "Brokers that answer, and partitions of each topic.", "short", [
      { expr: "max(kafka_brokers)", legend: "brokers" },
      { expr: "max by (topic) (kafka_topic_partitions)", legend: "{{topic}}" },
    ]),
  ];
}

/** Names as the exporter's configuration makes them, beside the test's broker. */
function brokerPanels(): PanelBuilder[] {
  return [
    plot("Messages in", "What brokers accept, a second.", "cps", [
      { expr: `sum by (topic) (rate(kafka_server_messages_in_total${RATE}))`, legend: "{{topic}}" },
    ]),
    plot("Under-replicated partitions", "Partitions with replicas that are behind.", "short", [
      { expr: "sum(kafka_server_under_replicated_partitions)", legend: "partitions" },
    ]),
    plot("Heap of the brokers", "Java heap in use.", "bytes", [
      { expr: 'sum by (instance) (jvm_memory_used_bytes{area="heap"})', legend: "{{instance}}" },
    ]),
  ];
}

function lagGraph(): PanelBuilder {
  return plot("Consumer lag", "Records in Kafka that the pipeline has not read.", "short", [
    { expr: ourLag(), legend: "{{pipeline}} {{topic}}" },
  ]);
}

const ourLag = (): string =>
  LAG.replace("(millpond_pipeline_info)", `(millpond_pipeline_info{${OURS}})`);

/** What handlers of the local runner don't observe would stay empty. */
const HERE = new Set(["processor", "sink", "producer"]);

function graph({ title, metrics }: Graph): PanelBuilder {
  const shown = metrics.map(metricDefinition).filter(({ source }) => HERE.has(source));
  const description = shown.map(({ help }) => help).join(" ");
  return plot(
    title,
    description,
    unitOf(shown[0]!),
    shown.flatMap((one) => linesOf(one, shown.length > 1)),
  );
}

function unitOf({ unit, statistic }: MetricDefinition): string {
  if (unit === "Bytes") return "bytes";
  if (unit === "Milliseconds") return "s";
  return statistic === "Sum" ? "cps" : "short";
}

function linesOf(
  { name, prometheus: metric, statistic, labels }: MetricDefinition,
  isNamed: boolean,
): Line[] {
  // The one that says most about what is wrong; partitions would be too many lines.
  const label = ["table", "reason", "sink", "stream"].find((one) => labels.some((l) => l === one));
  const by = label === undefined ? "pipeline" : `pipeline, ${label}`;
  const parts = ["{{pipeline}}", isNamed ? words(name) : "", label ? `{{${label}}}` : ""];
  const legend = parts.filter((part) => part !== "").join(" ");
  if (statistic === "Sum") {
    return [{ expr: `sum by (${by}) (rate(${metric}{${OURS}}${RATE}))`, legend }];
  }
  if (statistic === "Maximum") return [{ expr: `max by (${by}) (${metric}{${OURS}})`, legend }];
  const buckets = `sum by (le, ${by}) (rate(${metric}_bucket{${OURS}}${RATE}))`;
  return ["0.5", "0.99"].map((quantile) => ({
    expr: `histogram_quantile(${quantile}, ${buckets})`,
    legend: `${legend} p${Number(quantile) * 100}`,
  }));
}

/** "DeadLetters": "dead letters". */
const words = (name: string): string =>
  name
    .replace(/Ms$/, "")
    .replaceAll(/(?<=[a-z])[A-Z]/g, " $&")
    .toLowerCase();

function plot(title: string, description: string, unit: string, lines: readonly Line[]) {
  const panel = new timeseries.PanelBuilder()
    .title(title)
    .description(description)
    .datasource(SOURCE)
    .unit(unit)
    .min(0)
    .lineWidth(1)
    .fillOpacity(10)
    .showPoints(common.VisibilityMode.Never)
    .legend(
      new common.VizLegendOptionsBuilder()
        .showLegend(true)
        .displayMode(common.LegendDisplayMode.List)
        .placement(common.LegendPlacement.Bottom)
        .calcs(["lastNotNull"]),
    )
    .tooltip(new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Multi))
    .span(GRAPH.span)
    .height(GRAPH.height);
  for (const [index, line] of lines.entries()) panel.withTarget(target(line, index));
  return panel;
}

function number(
  title: string,
  expr: string,
  description: string,
  { unit = "short", red }: { readonly unit?: string; readonly red?: number },
) {
  const steps = [
    { value: null, color: "green" },
    ...(red === undefined ? [] : [{ value: red, color: "red" }]),
  ];
  return new stat.PanelBuilder()
    .title(title)
    .description(description)
    .datasource(SOURCE)
    .unit(unit)
    .thresholds(
      new dashboard.ThresholdsConfigBuilder().mode(dashboard.ThresholdsMode.Absolute).steps(steps),
    )
    .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(["lastNotNull"]))
    .withTarget(target({ expr, legend: title }, 0))
    .span(NUMBER.span)
    .height(NUMBER.height);
}

const target = ({ expr, legend }: Line, index: number) =>
  new prometheus.DataqueryBuilder()
    .expr(expr)
    .legendFormat(legend)
    .range()
    .refId(String.fromCharCode("A".charCodeAt(0) + index));

function pipelineVariable() {
  return new dashboard.QueryVariableBuilder("pipeline")
    .label("Pipeline")
    .datasource(SOURCE)
    .query("label_values(millpond_pipeline_info, pipeline)")
    .refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
    .sort(dashboard.VariableSort.AlphabeticalAsc)
    .multi(true)
    .includeAll(true)
    .allValue(".*");
}
