/** The live numbers of a pipeline, read from where its handlers keep their progress. */
import { fromItem } from "../commit/checkpoint.js";
import type { CheckpointStore, ObjectStore } from "../commit/ports.js";
import { Publisher } from "../commit/publisher.js";
import type { PipelineRuntime } from "../handlers/pipeline-runtime.js";
import { metaOf } from "../runtime/partition-meta.js";
import { partitionPrefix, publisherId } from "../runtime/runner.js";

export interface Figures {
  /** Committed by the processor since the pipeline began. */
  readonly records: number;
  readonly events: number;
  /** Rows of table `late`: an event has one for each table that it came too late for. */
  readonly lateRows: number;
  readonly duplicates: number;
  readonly deadLetters: number;
  /** Lowest of all partitions with events, epoch ms; null before the first event. */
  readonly watermark: number | null;
  /** Rows published of each table, revisions among them. */
  readonly tables: Readonly<Record<string, number>>;
}

export async function readFigures(
  { definition, definitionHash, programs }: PipelineRuntime,
  stores: { readonly checkpoints: CheckpointStore; readonly objects: ObjectStore },
): Promise<Figures> {
  const sums = { records: 0, events: 0, lateRows: 0, duplicates: 0 };
  let watermark: number | null = null;
  for (const { name: stream, latenessMs } of definition.streams) {
    for (const id of await stores.checkpoints.list(partitionPrefix(definition.name, stream))) {
      const item = await stores.checkpoints.read(id);
      if (item === null) continue;
      const checkpoint = fromItem(id, item);
      const { counters } = metaOf(checkpoint);
      sums.records += counters.records;
      sums.events += counters.events;
      sums.duplicates += counters.duplicates;
      for (const { late } of Object.values(counters.tables)) sums.lateRows += late;
      if (checkpoint.maxEventTime === null) continue;
      watermark = Math.min(watermark ?? Infinity, checkpoint.maxEventTime - latenessMs);
    }
  }
  const publisher = new Publisher({
    ...stores,
    id: publisherId(definition.name),
    definitionHash,
    programs: [...programs.values()],
  });
  await publisher.load();
  const { totals } = publisher.state;
  const tables = definition.tables.map(({ name }) => [name, totals[name]?.publishedRows ?? 0]);
  const deadLetters = sums.records - sums.events;
  return { ...sums, deadLetters, watermark, tables: Object.fromEntries(tables) };
}
