/** What one invocation of the processor did, gathered over slices, as metrics a stream. */
import { emfLine, type MetricValues } from "../observe/emf.js";
import type { SliceOutcome } from "../runtime/slice-processor.js";

interface StreamFigures {
  readonly outcomes: SliceOutcome[];
}

export class ProcessorMetrics {
  readonly #pipeline: string;
  readonly #streams = new Map<string, StreamFigures>();

  constructor(pipeline: string) {
    this.#pipeline = pipeline;
  }

  add(stream: string, outcome: SliceOutcome): void {
    let figures = this.#streams.get(stream);
    if (figures === undefined) {
      figures = { outcomes: [] };
      this.#streams.set(stream, figures);
    }
    figures.outcomes.push(outcome);
  }

  /** EMF documents, one a stream. */
  lines(nowMs: number): string[] {
    return [...this.#streams].flatMap(([stream, { outcomes }]) => {
      const dimensions = { pipeline: this.#pipeline, stream };
      return emfLine(dimensions, valuesOf(outcomes, nowMs), nowMs) ?? [];
    });
  }
}

function valuesOf(outcomes: readonly SliceOutcome[], nowMs: number): MetricValues {
  const sum = (of: (outcome: SliceOutcome) => number) =>
    outcomes.reduce((total, outcome) => total + of(outcome), 0);
  const committed = outcomes.filter(({ counts }) => counts !== null);
  const watermarks = outcomes.flatMap(({ watermark }) => watermark ?? []);
  return {
    RecordsRead: sum(({ counts }) => counts?.records ?? 0),
    Events: sum(({ counts }) => counts?.events ?? 0),
    LateEvents: sum(({ counts }) => counts?.late ?? 0),
    DuplicateEvents: sum(({ counts }) => counts?.duplicates ?? 0),
    DeadLetters: sum(({ counts }) => counts?.deadLetters ?? 0),
    Redelivered: sum(({ redelivered }) => redelivered),
    SlicesCommitted: committed.length,
    CommitConflicts: sum(({ conflicts }) => conflicts),
    StorageWrites: sum(({ storageWrites }) => storageWrites),
    SliceDurationMs: committed.map(({ durationMs }) => durationMs),
    StateBytes: outcomes.map(({ stateBytes }) => stateBytes),
    OutboxEntries: outcomes.map(({ outboxEntries }) => outboxEntries),
    WatermarkLagMs: watermarks.map((watermark) => nowMs - watermark),
  };
}
