/** What one invocation of the processor did, gathered over slices, as observations. */
import { DEAD_LETTER_REASONS } from "../engine/slice.js";
import type { MetricName, Observation } from "../observe/metrics.js";
import type { SliceOutcome } from "../runtime/slice-processor.js";

interface SlicePlace {
  readonly stream: string;
  readonly partition: number;
}

export class ProcessorMetrics {
  readonly #observations: Observation[] = [];

  add(place: SlicePlace, outcome: SliceOutcome): void {
    this.#observations.push(...observationsOf(place, outcome, Date.now()));
  }

  /** A slice of this partition was not committed. */
  addFailure(place: SlicePlace): void {
    this.#observations.push({ metric: "SliceErrors", value: 1, labels: labelsOf(place) });
  }

  get observations(): readonly Observation[] {
    return this.#observations;
  }
}

const labelsOf = ({ stream, partition }: SlicePlace) => ({ stream, partition: String(partition) });

function observationsOf(place: SlicePlace, outcome: SliceOutcome, nowMs: number): Observation[] {
  const { counts, watermark } = outcome;
  const labels = labelsOf(place);
  const one = (metric: MetricName, value: number): Observation => ({ metric, value, labels });
  const late = Object.entries(counts?.late ?? {}).map(([table, value]) => {
    return { metric: "LateEvents", value, labels: { ...labels, table } } as const;
  });
  // All reasons, also of none: what first shows with a number has not grown, to Prometheus.
  const dead = DEAD_LETTER_REASONS.map((reason) => {
    const value = counts?.deadLetters[reason] ?? 0;
    return { metric: "DeadLetters", value, labels: { ...labels, reason } } as const;
  });
  return [
    one("RecordsRead", counts?.records ?? 0),
    one("Events", counts?.events ?? 0),
    one("DuplicateEvents", counts?.duplicates ?? 0),
    ...late,
    ...dead,
    one("Redelivered", outcome.redelivered),
    one("SlicesCommitted", counts === null ? 0 : 1),
    one("CommitConflicts", outcome.conflicts),
    one("StorageWrites", outcome.storageWrites),
    ...(counts === null ? [] : [one("SliceDurationMs", outcome.durationMs)]),
    one("StateBytes", outcome.stateBytes),
    one("OutboxEntries", outcome.outboxEntries),
    ...(watermark === null ? [] : [one("WatermarkLagMs", nowMs - watermark)]),
  ];
}
