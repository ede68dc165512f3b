/**
 * The alerts' conditions over what was seen at successive looks: the same that Prometheus computes
 * from `prometheus-rules.ts`, without Prometheus. Pure.
 */
import type { AlertCondition } from "../alerts.js";
import type { Sample } from "./samples.js";

export interface Look {
  readonly atMs: number;
  /** Null when they could not be read. */
  readonly samples: readonly Sample[] | null;
}

/** What is held against a threshold, for each pipeline, sink or topic. */
export interface Measured {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

type Key = (sample: Sample) => Readonly<Record<string, string>>;

const LAG = "kafka_consumergroup_lag";
const OFFSET = "kafka_consumergroup_current_offset";
const INFO = "millpond_pipeline_info";
const BROKERS = "kafka_brokers";

/** The metrics that a condition is about. */
export function metricsOf(condition: AlertCondition): readonly string[] {
  switch (condition.kind) {
    case "level":
    case "increase":
      return [condition.metric];
    case "share":
      return [condition.part, condition.whole];
    case "lag":
      return [LAG, INFO];
    case "stalled":
      return [LAG, OFFSET, INFO];
    case "brokersAway":
      return [BROKERS];
    case "unreadable":
      return [];
  }
}

/**
 * Looks come oldest first, the last one is now. Null when the last look says nothing about it.
 *
 * @example
 * measure({ kind: "increase", metric: "millpond_dead_letters_total", withinS: 300 }, looks);
 */
export function measure(
  condition: AlertCondition,
  looks: readonly Look[],
): readonly Measured[] | null {
  const last = looks.at(-1);
  if (condition.kind === "unreadable") return [{ labels: {}, value: last?.samples ? 0 : 1 }];
  if (last === undefined || last.samples === null) return null;
  const { samples } = last;
  switch (condition.kind) {
    case "level": {
      const { by, metric } = condition;
      const key: Key = ({ labels }) =>
        pick(labels, by === undefined ? ["pipeline"] : ["pipeline", by]);
      return grouped(named(samples, metric), key, Math.max);
    }
    case "increase":
      return increases(condition.metric, within(looks, condition.withinS));
    case "share":
      return shares(condition, within(looks, condition.withinS));
    case "lag":
      if (!tellsOfLag(samples)) return null;
      return grouped(lags(samples), ({ labels }) => pick(labels, ["pipeline", "topic"]), add);
    case "stalled":
      return tellsOfLag(samples) ? stalled(within(looks, condition.withinS)) : null;
    case "brokersAway": {
      const brokers = named(samples, BROKERS).map(({ value }) => value);
      return brokers.length === 0 ? [] : [{ labels: {}, value: Math.max(...brokers) < 1 ? 1 : 0 }];
    }
  }
}

const add = (a: number, b: number): number => a + b;

const named = (samples: readonly Sample[], name: string): Sample[] =>
  samples.filter((sample) => sample.name === name);

/** While brokers are away nobody knows: what stood still may still do so. */
const tellsOfLag = (samples: readonly Sample[]): boolean => named(samples, LAG).length > 0;

function pick(labels: Sample["labels"], names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, labels[name] ?? ""]));
}

function grouped(
  samples: readonly Sample[],
  key: Key,
  join: (a: number, b: number) => number,
): Measured[] {
  const found = new Map<string, Measured>();
  for (const sample of samples) {
    const labels = key(sample);
    const id = JSON.stringify(labels);
    const before = found.get(id);
    const value = before === undefined ? sample.value : join(before.value, sample.value);
    found.set(id, { labels, value });
  }
  return [...found.values()];
}

/** Looks of so long until now, and the one before them, from which they grew. */
function within(looks: readonly Look[], seconds: number): readonly Look[] {
  const sinceMs = looks.at(-1)!.atMs - seconds * 1000;
  const before = looks.findLastIndex(({ atMs }) => atMs <= sinceMs);
  return looks.slice(Math.max(0, before)).filter(({ samples }) => samples !== null);
}

/** A counter that is smaller than before began anew from 0. */
function increases(
  metric: string,
  looks: readonly Look[],
  by: readonly string[] = ["pipeline"],
): Measured[] {
  const grown: Sample[] = [];
  let before: Map<string, number> | null = null;
  for (const { samples } of looks) {
    const now = new Map<string, number>();
    for (const sample of named(samples ?? [], metric)) {
      const id = JSON.stringify(sample.labels);
      const last = before?.get(id) ?? 0;
      now.set(id, sample.value);
      const value = sample.value < last ? sample.value : sample.value - last;
      grown.push({ ...sample, value: before === null ? 0 : value });
    }
    before = now;
  }
  return grouped(grown, ({ labels }) => pick(labels, by), add);
}

/** Of the table that has most of it. */
function shares(
  { part, whole }: { readonly part: string; readonly whole: string },
  looks: readonly Look[],
): Measured[] {
  const parts = new Map<string | undefined, number>();
  for (const { labels, value } of increases(part, looks, ["pipeline", "table"])) {
    parts.set(labels.pipeline, Math.max(value, parts.get(labels.pipeline) ?? 0));
  }
  return increases(whole, looks)
    .filter(({ value }) => value > 0)
    .map(({ labels, value }) => ({ labels, value: (parts.get(labels.pipeline) ?? 0) / value }));
}

/** Of each partition with a pipeline; several exporters may tell of the same one. */
function lags(samples: readonly Sample[]): Sample[] {
  const pipelines = new Map(
    named(samples, INFO).map(({ labels }) => [labels.consumergroup, labels.pipeline]),
  );
  const known = named(samples, LAG).flatMap((sample) => {
    const pipeline = pipelines.get(sample.labels.consumergroup);
    const value = Math.max(0, sample.value);
    return pipeline === undefined
      ? []
      : [{ ...sample, value, labels: { ...sample.labels, pipeline } }];
  });
  const key: Key = ({ labels }) =>
    pick(labels, ["pipeline", "consumergroup", "topic", "partition"]);
  return grouped(known, key, Math.max).map((one) => ({ ...one, name: LAG }));
}

/** Partitions that had records waiting at every look, and whose offset was the same at all. */
function stalled(looks: readonly Look[]): Measured[] {
  if (looks.length < 2) return [];
  const place = ({ consumergroup, topic, partition }: Sample["labels"]) =>
    JSON.stringify([consumergroup, topic, partition]);
  const offsets = looks.map(({ samples }) => {
    return new Map(named(samples ?? [], OFFSET).map(({ labels, value }) => [place(labels), value]));
  });
  const waiting = looks.map(({ samples }) => {
    return new Map(lags(samples ?? []).map((one) => [place(one.labels), one.value]));
  });
  const still = lags(looks.at(-1)!.samples ?? []).filter(({ labels }) => {
    const at = place(labels);
    const first = offsets[0]!.get(at);
    return (
      first !== undefined &&
      offsets.every((offset) => offset.get(at) === first) &&
      waiting.every((lag) => (lag.get(at) ?? 0) > 0)
    );
  });
  const ones = still.map((sample) => ({ ...sample, value: 1 }));
  return grouped(ones, ({ labels }) => pick(labels, ["pipeline", "topic"]), add);
}
