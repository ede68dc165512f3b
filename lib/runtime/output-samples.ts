/**
 * What an output directory says of its pipeline, as samples with the names that the metrics
 * endpoint has: for a monitor where nothing is served. Changes nothing in it.
 */
import * as fs from "node:fs";
import type { PublisherState } from "../commit/publisher-state.js";
import { type MetricName, metricDefinition } from "../observe/metrics.js";
import type { Sample } from "../observe/monitor/samples.js";
import { publisherState, type StoredPartition, storedPartitions } from "./inspect-data.js";
import { noResults, outputPaths, readManifest } from "./output.js";
import { partitionId } from "./runner.js";

/** Throws `MillpondError("OUTPUT")` when there are no results in `out`. */
export async function outputSamples(out: string): Promise<Sample[]> {
  const paths = outputPaths(out);
  const manifest = readManifest(paths);
  if (manifest === null || !fs.existsSync(paths.checkpoints)) throw noResults(out);
  const { name: pipeline, streams } = manifest.definition;
  const partitions = await storedPartitions(paths, manifest.definition);
  const published = await publisherState(paths, manifest);
  const nowMs = Date.now();
  const latenesses = new Map(streams.map((stream) => [stream.name, stream.latenessMs]));
  const waiting = partitions.flatMap((one) => waitingCommits(one, pipeline, published));
  const oldestMs = Math.min(nowMs, ...waiting.map(({ committedAtMs }) => committedAtMs));
  return [
    ...partitions.flatMap((partition) =>
      partitionSamples(partition, {
        pipeline,
        nowMs,
        latenessMs: latenesses.get(partition.stream) ?? 0,
        outboxEntries: waitingCommits(partition, pipeline, published).length,
      }),
    ),
    sample("OutboxAgeMs", (nowMs - oldestMs) / 1000, { pipeline }),
  ];
}

function waitingCommits(
  { stream, partition, checkpoint }: StoredPartition,
  pipeline: string,
  { taken }: PublisherState,
) {
  const upTo = taken[partitionId(pipeline, stream, partition)] ?? 0;
  return checkpoint.outbox.filter(({ sequence }) => sequence > upTo);
}

interface PartitionFacts {
  readonly pipeline: string;
  readonly nowMs: number;
  readonly latenessMs: number;
  readonly outboxEntries: number;
}

function partitionSamples(
  { stream, partition, checkpoint, meta: { counters } }: StoredPartition,
  { pipeline, nowMs, latenessMs, outboxEntries }: PartitionFacts,
): Sample[] {
  const labels = { pipeline, stream, partition: String(partition) };
  const { maxEventTime, stateBytes } = checkpoint;
  return [
    sample("RecordsRead", counters.records, labels),
    sample("Events", counters.events, labels),
    sample("DuplicateEvents", counters.duplicates, labels),
    ...Object.entries(counters.deadLetters).map(([reason, count]) =>
      sample("DeadLetters", count, { ...labels, reason }),
    ),
    ...Object.entries(counters.tables).map(([table, { late }]) =>
      sample("LateEvents", late, { ...labels, table }),
    ),
    sample("StateBytes", stateBytes, labels),
    sample("OutboxEntries", outboxEntries, labels),
    ...(maxEventTime === null
      ? []
      : [sample("WatermarkLagMs", (nowMs - maxEventTime + latenessMs) / 1000, labels)]),
  ];
}

/** The value is in Prometheus' unit. */
function sample(metric: MetricName, value: number, labels: Sample["labels"]): Sample {
  return { name: metricDefinition(metric).prometheus, value, labels };
}
