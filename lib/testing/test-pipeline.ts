/**
 * A pipeline in a test: records in, tables out, both clocks under the test's control. It runs the
 * engine, the commit protocol and the publisher over stores in memory; Kafka, files and AWS are
 * left out.
 */
import { Publisher } from "../commit/publisher.js";
import type { Pipeline, StreamNode } from "../define/definition.js";
import { definitionHash } from "../define/json.js";
import { compileStream, type StreamProgram } from "../engine/program.js";
import { MillpondError } from "../errors.js";
import { type AccountingRow, accountingRows, checkAccounting } from "../runtime/accounting.js";
import { PartitionRun } from "../runtime/partition-run.js";
import { loadReferences } from "../runtime/references.js";
import { partitionId, publisherId } from "../runtime/runner.js";
import { MemoryCheckpointStore, MemoryObjectStore } from "../stores/memory.js";
import { RecordQueue, type TestRecord } from "./record-queue.js";
import { type TestRow, TestTables } from "./test-tables.js";

const SLICE_RECORDS = 10_000;

export interface TestPipelineOptions {
  /** What the clock shows at first; the real time by default. */
  readonly startAt?: Date | string;
}

export interface SendOptions {
  /** 0 by default. */
  readonly partition?: number;
  /** The records' Kafka key; none by default. */
  readonly key?: string;
  /** The records' Kafka timestamp; what the clock shows by default. */
  readonly timestamp?: Date | string;
}

interface Partition {
  readonly stream: StreamNode;
  readonly program: StreamProgram;
  readonly queue: RecordQueue;
  run: PartitionRun;
  lastRecordAtMs: number;
}

/**
 * Starts a pipeline with nothing read.
 *
 * @throws MillpondError INPUT when a reference table cannot be read
 * @example
 * const test = await testPipeline(activity);
 * await test.send("user_activity", { event_id: "1", page: "/", … });
 * await test.advanceEventTime("user_activity", "2026-01-01T00:05:00Z");
 * expect(test.rows("page_views")).toEqual([{ page: "/", views: 1, … }]);
 */
export async function testPipeline(
  pipeline: Pipeline,
  options: TestPipelineOptions = {},
): Promise<TestPipeline> {
  const references = await loadReferences(pipeline);
  const hash = definitionHash(pipeline.definition, references.hashes);
  const context = { functions: pipeline.functions, references: references.data };
  const programs = new Map(
    pipeline.definition.streams.map(({ name }) => [
      name,
      compileStream(pipeline.definition, name, context),
    ]),
  );
  const nowMs = timeOf(options.startAt ?? new Date());
  const started = new TestPipeline(pipeline, programs, hash, nowMs);
  await started.restart();
  return started;
}

/** Not for concurrent calls: await each. */
export class TestPipeline {
  readonly #pipeline: Pipeline;
  readonly #programs: ReadonlyMap<string, StreamProgram>;
  readonly #hash: string;
  readonly #checkpoints = new MemoryCheckpointStore();
  readonly #objects = new MemoryObjectStore();
  readonly #partitions = new Map<string, Partition>();
  readonly #tables: TestTables;
  /** When each live table was last published, by the clock. */
  readonly #updatedAtMs = new Map<string, number>();
  #publisher: Publisher;
  #nowMs: number;
  #tookUpTo = 0;

  /** See `testPipeline`. */
  constructor(
    pipeline: Pipeline,
    programs: ReadonlyMap<string, StreamProgram>,
    hash: string,
    nowMs: number,
  ) {
    this.#pipeline = pipeline;
    this.#programs = programs;
    this.#hash = hash;
    this.#nowMs = nowMs;
    this.#tables = new TestTables(pipeline.definition);
    this.#publisher = this.#newPublisher();
  }

  /** What the clock shows. */
  get now(): Date {
    return new Date(this.#nowMs);
  }

  /** Reads one record, or several in their order, into a partition, and publishes what is due. */
  async send(
    stream: string,
    records: TestRecord | readonly TestRecord[],
    options: SendOptions = {},
  ): Promise<void> {
    const partition = await this.#partition(stream, options.partition ?? 0);
    const timestampMs = options.timestamp === undefined ? this.#nowMs : timeOf(options.timestamp);
    for (const record of Array.isArray(records) ? records : [records]) {
      partition.queue.push(record, options.key ?? null, timestampMs);
    }
    partition.lastRecordAtMs = this.#nowMs;
    while (await partition.run.step(SLICE_RECORDS));
    await this.#publish();
  }

  /**
   * As if an event of that time had been read from every partition that was sent to (or from the
   * one named), which no table counts: the watermark moves to it minus the lateness.
   */
  async advanceEventTime(
    stream: string,
    to: Date | string,
    options: { readonly partition?: number } = {},
  ): Promise<void> {
    const { partition } = options;
    this.#program(stream);
    const moved =
      partition === undefined
        ? [...this.#partitions.values()].filter((one) => one.stream.name === stream)
        : [await this.#partition(stream, partition)];
    for (const { run } of moved) await run.advanceTo(timeOf(to));
    await this.#publish();
  }

  /** Moves the clock: partitions fall idle, live tables (`updates`) are due. */
  async advanceClock(milliseconds: number): Promise<void> {
    if (!(milliseconds >= 0)) {
      throw new MillpondError(
        "USAGE",
        `a clock does not move by ${milliseconds} ms; give 0 or more`,
      );
    }
    this.#nowMs += milliseconds;
    await this.#publish();
  }

  /** Publishes open windows as they stand, as at the end of an input; later events revise them. */
  async flush(): Promise<void> {
    for (const { run } of this.#runs()) await run.flush();
    await this.#round(() => true);
  }

  /** As a new process: what is in memory goes, and what was committed is read again. */
  async restart(): Promise<void> {
    for (const partition of this.#partitions.values()) {
      await partition.run.close();
      partition.run = this.#newRun(partition.program, partition.queue);
      await partition.run.open();
    }
    this.#publisher = this.#newPublisher();
    await this.#publisher.load();
  }

  /** A table as a sink shows it: of each window and group the row that counts, by key. */
  rows(table: string): readonly TestRow[] {
    return this.#tables.rows(table);
  }

  /** Every row that a table was given, in order, with `revision` and `retracted`. */
  changes(table: string): readonly TestRow[] {
    return this.#tables.changes(table);
  }

  /** Events that came too late, one row for each table that refused them. */
  late(): readonly TestRow[] {
    return this.rows("late");
  }

  /** Records that are no events, with the reason. */
  deadLetters(): readonly TestRow[] {
    return this.rows("dead_letters");
  }

  /** The lowest watermark of a stream's partitions; null before the first event. */
  watermark(stream: string): Date | null {
    this.#program(stream);
    const all = this.#runs().filter(({ stream: { name } }) => name === stream);
    const lowest = Math.min(...all.map(({ run }) => run.watermark));
    return Number.isFinite(lowest) ? new Date(lowest) : null;
  }

  /**
   * The sums of every stream and table, checked.
   *
   * @throws MillpondError INVARIANT when records are missing from them
   */
  accounting(): readonly AccountingRow[] {
    const { definition } = this.#pipeline;
    const counters = this.#runs().flatMap(({ stream, run }) =>
      run.meta === null ? [] : [{ stream: stream.name, counters: run.meta.counters }],
    );
    const published = this.#publisher.state;
    const rows = accountingRows(definition, counters, published);
    const flushed = this.#runs().every(({ run }) => run.meta?.flushed ?? true);
    checkAccounting({ definition, rows, published, flushed, storedRows: new Map() });
    return rows;
  }

  async #publish(): Promise<void> {
    const due = this.#dueUpdates();
    if (due.size > 0) {
      for (const { run } of this.#runs()) await run.publishUpdates(due);
    }
    await this.#round((table) => due.has(table));
  }

  #dueUpdates(): ReadonlySet<string> {
    const due = new Set<string>();
    for (const { name, emit } of this.#pipeline.definition.tables) {
      if (emit.kind !== "updates") continue;
      const sinceMs = this.#nowMs - (this.#updatedAtMs.get(name) ?? Number.NEGATIVE_INFINITY);
      if (sinceMs < emit.everyMs) continue;
      due.add(name);
      this.#updatedAtMs.set(name, this.#nowMs);
    }
    return due;
  }

  async #round(flush: (table: string) => boolean): Promise<void> {
    const partitions = this.#runs().map(({ stream, run, queue, lastRecordAtMs }) => ({
      id: run.id,
      stream: stream.name,
      partition: queue.partition,
      checkpoint: run.checkpoint,
      idle: this.#nowMs - lastRecordAtMs >= stream.idleAfterMs,
    }));
    const publisher = this.#publisher;
    await publisher.round({ partitions, flush, sinksTookUpTo: this.#tookUpTo });
    for (const publication of publisher.state.publications) {
      if (publication.sequence <= this.#tookUpTo) continue;
      this.#tables.add(publication.table, await publisher.batchOf(publication));
    }
    this.#tookUpTo = publisher.state.sequence;
    for (const { run } of this.#runs()) run.releaseUpTo = publisher.state.taken[run.id] ?? 0;
  }

  #runs(): Partition[] {
    return [...this.#partitions.values()];
  }

  async #partition(stream: string, partition: number): Promise<Partition> {
    const id = partitionId(this.#pipeline.definition.name, stream, partition);
    const known = this.#partitions.get(id);
    if (known !== undefined) return known;
    const program = this.#program(stream);
    if (!Number.isSafeInteger(partition) || partition < 0) {
      throw new MillpondError("USAGE", `${partition} is no partition; give 0, 1, …`);
    }
    const queue = new RecordQueue(stream, partition);
    const run = this.#newRun(program, queue);
    await run.open();
    const added = { stream: program.stream, program, queue, run, lastRecordAtMs: this.#nowMs };
    this.#partitions.set(id, added);
    return added;
  }

  #program(stream: string): StreamProgram {
    const program = this.#programs.get(stream);
    if (program !== undefined) return program;
    const names = [...this.#programs.keys()].join(", ");
    throw new MillpondError("USAGE", `the pipeline has no stream "${stream}"; it has ${names}`);
  }

  #newRun(program: StreamProgram, source: RecordQueue): PartitionRun {
    const id = partitionId(this.#pipeline.definition.name, source.topic, source.partition);
    return new PartitionRun({
      program,
      source,
      id,
      checkpoints: this.#checkpoints,
      objects: this.#objects,
      definitionHash: this.#hash,
    });
  }

  #newPublisher(): Publisher {
    return new Publisher({
      checkpoints: this.#checkpoints,
      objects: this.#objects,
      id: publisherId(this.#pipeline.definition.name),
      definitionHash: this.#hash,
      programs: [...this.#programs.values()],
    });
  }
}

/** Epoch ms. Throws MillpondError USAGE for what is no time. */
export function timeOf(time: Date | string): number {
  const found = typeof time === "string" ? Date.parse(time) : time.getTime();
  if (Number.isFinite(found)) return found;
  throw new MillpondError("USAGE", `${time} is no time; give a Date or ISO-8601 text`);
}
