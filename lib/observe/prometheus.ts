/**
 * Metrics as Prometheus reads them: observations gathered in a registry of their own. Which metrics
 * there are is in `metrics.ts`; serving the text is left to `metrics-endpoint.ts`.
 */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import {
  METRICS,
  type MetricDefinition,
  type MetricLabel,
  type MetricName,
  type MetricsOutput,
  type Observation,
} from "./metrics.js";

/** From a warm slice to a commit that waits for a throttled table, in seconds. */
const SECONDS_BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900];
/** Lines for labels of partitions and tables; beyond it, further label values are left out. */
const SERIES_MAX = 10_000;

type Labels = Readonly<Record<string, string>>;

/**
 * @example
 * const metrics = new PrometheusMetrics();
 * metrics.write("clicks", [{ metric: "RecordsRead", value: 100, labels }], Date.now());
 * const text = await metrics.registry.metrics();
 */
export class PrometheusMetrics implements MetricsOutput {
  readonly registry = new Registry();
  readonly #families = new Map<MetricName, Family>(
    METRICS.map((definition) => [definition.name, newFamily(definition, this.registry)]),
  );
  readonly #series = new Set<string>();

  write(pipeline: string, observations: readonly Observation[], atMs: number): void {
    for (const { metric, value, labels } of observations) {
      if (Number.isFinite(value)) this.#seriesOf(pipeline, metric, labels)?.observe(value, atMs);
    }
  }

  /** Shows these with 0: what first shows with a number has not grown, to Prometheus. */
  begin(pipeline: string, series: readonly Omit<Observation, "value">[]): void {
    for (const { metric, labels } of series) this.#seriesOf(pipeline, metric, labels)?.begin();
  }

  /** Null when there are too many. */
  #seriesOf(pipeline: string, metric: MetricName, all: Observation["labels"] = {}): Series | null {
    const family = this.#families.get(metric)!;
    const labels: Record<string, string> = { pipeline };
    for (const name of family.labels) labels[name] = all[name] ?? "";
    return this.#isRoom(metric, labels) ? family.series(labels) : null;
  }

  #isRoom(metric: MetricName, labels: Labels): boolean {
    const key = `${metric} ${JSON.stringify(labels)}`;
    if (this.#series.has(key)) return true;
    if (this.#series.size >= SERIES_MAX) return false;
    this.#series.add(key);
    return true;
  }
}

interface Family {
  readonly labels: readonly MetricLabel[];
  series(labels: Labels): Series;
}

interface Series {
  observe(value: number, atMs: number): void;
  begin(): void;
}

function newFamily(definition: MetricDefinition, registry: Registry): Family {
  const { prometheus: name, statistic, isAge, labels, help } = definition;
  const options = { name, help, labelNames: ["pipeline", ...labels], registers: [registry] };
  // Prometheus wants base units.
  const scale = definition.unit === "Milliseconds" ? 0.001 : 1;
  if (statistic === "Sum") {
    const counter = new Counter(options);
    const add = (at: Labels, value: number) => counter.inc(at, value * scale);
    return {
      labels,
      series: (at) => ({ observe: (value) => add(at, value), begin: () => add(at, 0) }),
    };
  }
  if (statistic === "p99") {
    const histogram = new Histogram({ ...options, buckets: SECONDS_BUCKETS });
    return {
      labels,
      series: (at) => ({
        observe: (value) => histogram.observe(at, value * scale),
        begin: () => histogram.zero(at),
      }),
    };
  }
  if (isAge) return ageFamily(options, labels);
  const gauge = new Gauge(options);
  const set = (at: Labels, value: number) => gauge.set(at, value * scale);
  return {
    labels,
    series: (at) => ({ observe: (value) => set(at, value), begin: () => set(at, 0) }),
  };
}

/** What was n seconds old goes on growing older when nothing more is heard of it. */
function ageFamily(
  options: ConstructorParameters<typeof Gauge<string>>[0],
  labels: readonly MetricLabel[],
): Family {
  const bornAtMs = new Map<string, { readonly at: Labels; readonly ms: number | null }>();
  new Gauge({
    ...options,
    collect() {
      const nowMs = Date.now();
      for (const { at, ms } of bornAtMs.values()) {
        this.set(at, ms === null ? 0 : (nowMs - ms) / 1000);
      }
    },
  });
  const keep = (at: Labels, ms: number | null) => bornAtMs.set(JSON.stringify(at), { at, ms });
  return {
    labels,
    series: (at) => ({
      observe: (value, atMs) => keep(at, value === 0 ? null : atMs - value),
      begin: () => keep(at, null),
    }),
  };
}
