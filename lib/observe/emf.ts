/**
 * Metrics as CloudWatch's embedded metric format: one line of JSON on stdout an invocation, which
 * costs no call and no permission. Which metrics there are is in `metrics.ts`.
 */
import {
  METRIC_NAMESPACE,
  type MetricName,
  type MetricsOutput,
  metricDefinition,
  type Observation,
} from "./metrics.js";

/** A value, or one value an occurrence (e.g. one a slice). */
export type MetricValues = Partial<Record<MetricName, number | readonly number[]>>;

export interface MetricDimensions {
  readonly pipeline: string;
  readonly stream?: string;
}

/** CloudWatch takes at most so many values of a metric in one line. */
const VALUES_MAX = 100;

/** Writes a line; stdout unless a test listens. */
export type WriteLine = (line: string) => void;

export const stdoutLine: WriteLine = (line) => {
  process.stdout.write(`${line}\n`);
};

/**
 * Observations as lines, one a stream: counts are added up, of others each value is kept.
 *
 * @example
 * const metrics = emfOutput(stdoutLine);
 * metrics.write("clicks", [{ metric: "RecordsRead", value: 10_000 }], Date.now());
 */
export function emfOutput(write: WriteLine): MetricsOutput {
  return {
    write(pipeline, observations, atMs) {
      for (const [stream, values] of byStream(observations)) {
        const dimensions = { pipeline, ...(stream !== null && { stream }) };
        const line = emfLine(dimensions, values, atMs);
        if (line !== null) write(line);
      }
    },
  };
}

type GatheredValues = Partial<Record<MetricName, number | number[]>>;

function byStream(observations: readonly Observation[]): Map<string | null, GatheredValues> {
  const streams = new Map<string | null, GatheredValues>();
  for (const { metric, value, labels } of observations) {
    const { inCloudWatch, statistic } = metricDefinition(metric);
    if (!inCloudWatch) continue;
    const stream = labels?.stream ?? null;
    const values = streams.get(stream) ?? {};
    streams.set(stream, values);
    const before = values[metric];
    if (before === undefined) values[metric] = value;
    else if (typeof before === "number" && statistic === "Sum") values[metric] = before + value;
    else values[metric] = [before, value].flat();
  }
  return streams;
}

/**
 * One EMF document, without its line end; null when there is nothing to say. Of more than 100
 * values the 100 largest are kept: they are what maxima and percentiles are made of.
 *
 * @example
 * const line = emfLine({ pipeline: "clicks", stream: "user_activity" },
 *   { RecordsRead: 10_000, SliceDurationMs: [41, 38] }, Date.now());
 * if (line !== null) stdoutLine(line);
 */
export function emfLine(
  { pipeline, stream }: MetricDimensions,
  values: MetricValues,
  timestampMs: number,
): string | null {
  const entries = Object.entries(values).filter(([, value]) => isSaid(value)) as [
    MetricName,
    number | readonly number[],
  ][];
  if (entries.length === 0) return null;
  const metricsOf = (perStream: boolean) =>
    entries
      .map(([name]) => metricDefinition(name))
      .filter((definition) => definition.perStream || !perStream)
      .map(({ name, unit }) => ({ Name: name, Unit: unit }));
  const directives = [
    { Namespace: METRIC_NAMESPACE, Dimensions: [["Pipeline"]], Metrics: metricsOf(false) },
  ];
  const ofStream = stream === undefined ? [] : metricsOf(true);
  if (ofStream.length > 0) {
    const Dimensions = [["Pipeline", "Stream"]];
    directives.push({ Namespace: METRIC_NAMESPACE, Dimensions, Metrics: ofStream });
  }
  return JSON.stringify({
    _aws: { Timestamp: timestampMs, CloudWatchMetrics: directives },
    Pipeline: pipeline,
    ...(stream === undefined ? {} : { Stream: stream }),
    ...Object.fromEntries(entries.map(([name, value]) => [name, bounded(value)])),
  });
}

function isSaid(value: number | readonly number[] | undefined): boolean {
  if (typeof value === "number") return Number.isFinite(value);
  return value?.some((one) => Number.isFinite(one)) ?? false;
}

function bounded(value: number | readonly number[]): number | number[] {
  if (typeof value === "number") return round(value);
  const finite = value.filter((one) => Number.isFinite(one)).map(round);
  if (finite.length <= VALUES_MAX) return finite;
  return finite.sort((a, b) => b - a).slice(0, VALUES_MAX);
}

/** Tenths are enough, and short. */
const round = (value: number): number => Math.round(value * 10) / 10;
