/**
 * A streaming run that is cut at random: into slices, commits and rounds; by restarts, flushes,
 * live updates, idle partitions, slow sinks and small rounds. Stores and sink are in memory.
 */
import { Publisher } from "../../../lib/commit/publisher.js";
import type { PublisherState } from "../../../lib/commit/publisher-state.js";
import type { Pipeline, PipelineDefinition } from "../../../lib/define/definition.js";
import type { Batch } from "../../../lib/engine/batch.js";
import { compileStream } from "../../../lib/engine/program.js";
import { valueAt } from "../../../lib/engine/row-values.js";
import type { StepContext } from "../../../lib/engine/steps.js";
import type { StreamCounters } from "../../../lib/runtime/accounting.js";
import { PartitionRun } from "../../../lib/runtime/partition-run.js";
import { partitionId, publisherId } from "../../../lib/runtime/runner.js";
import { isRevised, tableLayouts } from "../../../lib/sinks/layouts.js";
import type { TableLayout } from "../../../lib/sinks/sink.js";
import { MemoryCheckpointStore, MemoryObjectStore } from "../../../lib/stores/memory.js";
import { RecordQueue } from "../../../lib/testing/record-queue.js";
import type { Row } from "../../reference/rows.js";
import type { Random } from "./random.js";
import type { RandomCase } from "./random-pipelines.js";

const DEFINITION_HASH = "property";

/** A sink: of each key the latest revision, unless withdrawn; other rows as they come. */
class RowsInMemory {
  sequence = 0;
  readonly layouts: readonly TableLayout[];
  private readonly rows = new Map<string, Map<string, Row>>();

  constructor({ definition }: Pipeline) {
    this.layouts = tableLayouts(definition).filter(({ kind }) => kind !== "bronze");
    for (const { name } of this.layouts) this.rows.set(name, new Map());
  }

  add(table: string, batch: Batch): void {
    const layout = this.layouts.find(({ name }) => name === table)!;
    const rows = this.rows.get(table)!;
    for (let i = 0; i < batch.rowCount; i++) {
      const row = Object.fromEntries(batch.columns.map((c) => [c.name, valueAt(c, i)]));
      const key = isRevised(layout)
        ? layout.key.map((name) => `${typeof row[name]} ${String(row[name])}`).join("\u0000")
        : String(rows.size);
      const before = rows.get(key);
      if (before === undefined || Number(before.revision) < Number(row.revision))
        rows.set(key, row);
    }
  }

  of(table: string): Row[] {
    return this.all(table).filter(({ retracted }) => retracted !== true);
  }

  all(table: string): Row[] {
    return [...this.rows.get(table)!.values()];
  }
}

export class RandomRun {
  readonly sink: RowsInMemory;
  private readonly definition: PipelineDefinition;
  private readonly stores = {
    checkpoints: new MemoryCheckpointStore(),
    objects: new MemoryObjectStore(),
    definitionHash: DEFINITION_HASH,
  };
  private readonly programs: ReturnType<typeof compileStream>[];
  private readonly runs: PartitionRun[];
  private publisher: Publisher;
  private readonly habits;

  constructor(
    private readonly random: Random,
    { pipeline, logs }: RandomCase,
    context: StepContext,
  ) {
    const { definition } = pipeline;
    this.definition = definition;
    this.sink = new RowsInMemory(pipeline);
    this.programs = definition.streams.map(({ name }) => compileStream(definition, name, context));
    this.runs = [...logs].flatMap(([topic, partitions]) =>
      partitions.map((records, partition) => {
        const queue = new RecordQueue(topic, partition);
        for (const { value, timestampMs } of records) queue.push(value, null, timestampMs);
        return this.newRun(queue);
      }),
    );
    this.publisher = this.newPublisher();
    this.habits = {
      flushes: random.chance(0.5) ? 0.7 : 0,
      updates: random.chance(0.5) ? 0.3 : 0,
      idle: random.chance(0.4) ? 0.5 : 0,
      restarts: random.chance(0.5) ? 0.1 : 0,
      slowSink: random.chance(0.2) ? 0.5 : 0,
      bytesMax: random.pick([undefined, undefined, 1, 2_000]),
    };
  }

  get published(): PublisherState {
    return this.publisher.state;
  }

  get counters(): StreamCounters[] {
    return this.runs.flatMap(({ source, meta }) =>
      meta === null ? [] : [{ stream: source.topic, counters: meta.counters }],
    );
  }

  /** Reads everything, publishes everything. */
  async toTheEnd(): Promise<void> {
    const { random, runs, habits } = this;
    for (const run of runs) await run.open();
    await this.publisher.load();
    const reading = new Set(runs.keys());
    while (reading.size > 0) {
      const at = random.pick([...reading]);
      if (!(await runs[at]!.step(random.pick([1, 3, 5, 10, 20, 40, 1000])))) reading.delete(at);
      if (random.chance(0.05)) await this.restart(at);
      if (!random.chance(0.3)) continue;
      for (const run of runs) await run.settle();
      if (random.chance(habits.updates)) await this.update();
      await this.round(random.chance(habits.flushes));
      if (random.chance(habits.restarts)) {
        this.publisher = this.newPublisher();
        await this.publisher.load();
      }
    }
    do await this.round(true, true);
    while (this.publisher.isBehind);
  }

  /** What of the run a test may want to have met. */
  get met(): Set<string> {
    const met = new Set<string>();
    const { length: partitions } = this.runs.filter(
      ({ source }) => source.topic === this.definition.streams[0]!.name,
    );
    met.add(`partitions ${partitions}`);
    for (const { counters } of this.counters) {
      for (const reason of Object.keys(counters.deadLetters)) met.add(`dead letter ${reason}`);
      if (counters.duplicates > 0) met.add("met duplicate");
    }
    const { totals } = this.published;
    if (Object.values(totals).some(({ beyondReviseEvents }) => beyondReviseEvents > 0)) {
      met.add("met too late to revise");
    }
    for (const { name, kind } of this.sink.layouts) {
      const rows = this.sink.all(name);
      if (kind === "late" && rows.length > 0) met.add("met late");
      if (rows.some(({ revision }) => Number(revision) > 0)) met.add("met revision");
      if (rows.some(({ retracted }) => retracted === true)) met.add("met retraction");
    }
    return met;
  }

  private newRun(source: RecordQueue): PartitionRun {
    const program = this.programs.find(({ stream }) => stream.name === source.topic)!;
    const id = partitionId(this.definition.name, source.topic, source.partition);
    return new PartitionRun({ ...this.stores, program, source, id });
  }

  private newPublisher(): Publisher {
    const { stores, programs, definition } = this;
    return new Publisher({ ...stores, programs, id: publisherId(definition.name) });
  }

  private async restart(at: number): Promise<void> {
    const run = this.runs[at]!;
    await run.settle();
    await run.close();
    this.runs[at] = this.newRun(run.source as RecordQueue);
    await this.runs[at]!.open();
  }

  /** Some live tables are shown as they stand. */
  private async update(): Promise<void> {
    const live = this.definition.tables.filter(({ emit }) => emit.kind === "updates");
    const due = live.filter(() => this.random.chance(0.7)).map(({ name }) => name);
    for (const run of this.runs) await run.publishUpdates(new Set(due));
  }

  private async round(flush: boolean, last = false): Promise<void> {
    const { random, runs, sink, habits, publisher } = this;
    if (flush) for (const run of runs) await run.flush();
    const partitions = runs.map(({ id, source, checkpoint }) => ({
      id,
      stream: source.topic,
      partition: source.partition,
      checkpoint,
      idle: random.chance(habits.idle),
    }));
    const { bytesMax } = habits;
    const sinksTookUpTo = sink.sequence;
    const options = { partitions, flush: () => flush, sinksTookUpTo };
    await publisher.round({ ...options, ...(bytesMax !== undefined && { bytesMax }) });
    for (const run of runs) run.releaseUpTo = publisher.state.taken[run.id] ?? 0;
    if (!last && random.chance(habits.slowSink)) return;
    for (const entry of publisher.state.publications) {
      if (entry.sequence <= sink.sequence) continue;
      sink.add(entry.table, await publisher.batchOf(entry));
    }
    sink.sequence = publisher.state.sequence;
  }
}
