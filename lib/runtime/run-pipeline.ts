/**
 * `millpond run`: a pipeline over input files, to the end of the input, into an output directory.
 */
import { setImmediate } from "node:timers/promises";
import { CheckpointCell } from "../commit/cell.js";
import { fromItem } from "../commit/checkpoint.js";
import type { CheckpointStore, ObjectStore } from "../commit/ports.js";
import { Publisher } from "../commit/publisher.js";
import { referencedKeys, standingOf } from "../commit/publisher-state.js";
import { RecentObjects } from "../commit/recent-objects.js";
import { type Pipeline, type PipelineDefinition, takesBronze } from "../define/definition.js";
import { definitionHash as hashOf } from "../define/json.js";
import { compileStream, type StreamProgram } from "../engine/program.js";
import { MillpondError } from "../errors.js";
import { openFileSources } from "../sources/files/index.js";
import { ReplayClock } from "../sources/paced.js";
import type { PartitionSource } from "../sources/source.js";
import { FileCheckpointStore, FileObjectStore } from "../stores/files.js";
import {
  type AccountingRow,
  accountingRows,
  checkAccounting,
  type StreamCounters,
} from "./accounting.js";
import { goneSource } from "./gone-source.js";
import { checkOutput, claimOutput, lockOutput, type OutputPaths, outputPaths } from "./output.js";
import { metaOf, type PartitionMeta } from "./partition-meta.js";
import { keepReferences, type LoadedReferences, loadReferences } from "./references.js";
import { applySinks, type DownSinks, localPlaces, makeSinks, type RunSinks } from "./run-sinks.js";
import {
  LocalRunner,
  type PartitionProgress,
  partitionId,
  partitionPrefix,
  publisherId,
  type Runner,
} from "./runner.js";
import { startWorkers } from "./workers.js";

/** Sinks take publications in steps of about this many staged bytes; the rest waits on disk. */
const SINK_STEP_BYTES = 64 * 1024 * 1024;

/**
 * Outboxes kept in memory beside what DuckDB needs to write bronze, so that a local run stays under
 * 512 MB: measured, five million events (docs/performance.md).
 */
const RECENT_BYTES_WITH_BRONZE = 32 * 1024 * 1024;

export interface RunOptions {
  readonly pipeline: Pipeline;
  /** Path of the input; with several streams, one path each by stream name. */
  readonly inputs: ReadonlyMap<string, string>;
  readonly out: string;
  readonly flush: boolean;
  readonly batchSize: number;
  /** More than 1: worker threads, which load the pipeline from `pipelineFile` again. */
  readonly workers: number;
  readonly pipelineFile?: string;
  readonly overrides?: ReadonlyMap<string, string>;
  /**
   * A replay: event time passes so many times as fast as the clock, and results are shown as they
   * come. In one thread.
   */
  readonly speed?: number;
  /** How long partitions work before results move on, in this thread; a second by default. */
  readonly turnMs?: number;
  readonly onProgress?: (progress: RunProgress) => void;
  /** Ends the run after the current slices; what was committed stays. */
  readonly signal?: AbortSignal;
}

export interface RunProgress {
  readonly phase: "reading" | "publishing" | "done";
  readonly records: number;
  readonly events: number;
  /** Rows of table `late`: an event has one for each table that it came too late for. */
  readonly lateRows: number;
  readonly deadLetters: number;
  readonly bytesRead: number;
  readonly bytesTotal: number;
  /** Lowest watermark over partitions, epoch ms; null before the first event. */
  readonly watermark: number | null;
}

export interface RunReport {
  readonly out: string;
  readonly accounting: readonly AccountingRow[];
  /** New in this run. */
  readonly records: number;
  readonly warnings: readonly string[];
  readonly aborted: boolean;
}

export async function runPipeline(options: RunOptions): Promise<RunReport> {
  const paths = outputPaths(options.out);
  const { definition } = options.pipeline;
  const references = await loadReferences(options.pipeline);
  const definitionHash = hashOf(definition, references.hashes);
  checkOutput(paths, definition, definitionHash);
  // An input that cannot be read must not leave a claimed directory behind.
  for (const stream of definition.streams) {
    const input = options.inputs.get(stream.name);
    if (input === undefined) continue;
    await openFileSources({ path: input, stream, known: new Map() });
  }
  const lock = await lockOutput(paths);
  try {
    claimOutput(paths, definition, definitionHash);
    keepReferences(options.pipeline, paths.references);
    const place = localPlace(paths, definition, definitionHash);
    const resolved = { ...options, out: paths.dir };
    return await new Run(resolved, place, references, definitionHash).execute();
  } finally {
    lock.release();
  }
}

/** What a run reads instead of files. */
export interface StreamSource {
  readonly stream: string;
  readonly source: PartitionSource;
}

/** What a run writes to. */
export interface RunPlace {
  readonly checkpoints: CheckpointStore;
  readonly objects: ObjectStore;
  readonly sinks: RunSinks;
}

/** Data in an output's directory. */
export function localPlace(
  paths: OutputPaths,
  definition: PipelineDefinition,
  definitionHash: string,
): RunPlace {
  return {
    checkpoints: new FileCheckpointStore(paths.checkpoints),
    objects: new FileObjectStore(paths.objects),
    sinks: makeSinks(definition, localPlaces(paths), definitionHash, process.env),
  };
}

/** Of a run into data that nobody else works on, from other sources than files. */
export function runSources(
  options: Omit<RunOptions, "inputs" | "workers">,
  place: RunPlace,
  references: LoadedReferences,
  definitionHash: string,
  sources: readonly StreamSource[],
): Promise<RunReport> {
  const complete = { ...options, inputs: new Map(), workers: 1 };
  return new Run(complete, place, references, definitionHash, sources).execute();
}

class Run {
  private readonly options: RunOptions;
  private readonly sources: readonly StreamSource[] | undefined;
  private readonly definition: PipelineDefinition;
  private readonly definitionHash: string;
  private readonly programs: ReadonlyMap<string, StreamProgram>;
  private readonly checkpoints: CheckpointStore;
  private readonly objects: ObjectStore;
  private readonly publisher: Publisher;
  private readonly sinks: RunSinks;
  private runners: Runner[] = [];
  private sinksTookUpTo = 0;
  private readonly warnings: string[] = [];
  private readonly startedAt = performance.now();
  private readonly updatedAt = new Map<string, number>();

  constructor(
    options: RunOptions,
    place: RunPlace,
    references: LoadedReferences,
    definitionHash: string,
    sources?: readonly StreamSource[],
  ) {
    this.options = options;
    this.sources = sources;
    this.definition = options.pipeline.definition;
    this.definitionHash = definitionHash;
    const context = { functions: options.pipeline.functions, references: references.data };
    this.programs = new Map(
      this.definition.streams.map(({ name }) => [
        name,
        compileStream(this.definition, name, context),
      ]),
    );
    this.checkpoints = place.checkpoints;
    const hasBronze = this.definition.sinks.some(takesBronze);
    const bytesMax = hasBronze ? RECENT_BYTES_WITH_BRONZE : undefined;
    this.objects = new RecentObjects(place.objects, bytesMax);
    this.publisher = new Publisher({
      checkpoints: this.checkpoints,
      objects: this.objects,
      id: publisherId(this.definition.name),
      definitionHash,
      programs: [...this.programs.values()],
    });
    this.sinks = place.sinks;
  }

  async execute(): Promise<RunReport> {
    const partitions = this.sources ?? (await this.partitions());
    await this.publisher.load();
    await this.publisher.sweep();
    await this.sinks.sweep();
    // Results of another output, or of a state that is lost, are to be refused before anything is
    // published: later the new publications would have the numbers of those that sinks have.
    await this.takeSinks();
    this.runners = await this.startRunners(partitions);
    try {
      const recordsBefore = sumOfRecords(await this.storedCounters());
      const aborted = await this.read();
      if (this.options.flush && !aborted) {
        for (const runner of this.runners) await runner.flush(this.publisher.state.taken);
      }
      await this.publish(this.options.flush && !aborted);
      const accounting = await this.finish(aborted);
      this.report("done");
      const records = sumOfRecords(await this.storedCounters()) - recordsBefore;
      return { out: this.options.out, accounting, records, warnings: this.allWarnings(), aborted };
    } finally {
      for (const runner of this.runners) await runner.close();
      await this.sinks.close();
    }
  }

  /** Reads to the end of the input; true if the run was asked to stop before. */
  private async read(): Promise<boolean> {
    let running = this.runners;
    while (running.length > 0) {
      // Work on buffered input never leaves the microtask queue, and signals wait outside it.
      await setImmediate();
      if (this.options.signal?.aborted) return true;
      const { taken } = this.publisher.state;
      const turns = await Promise.all(running.map((runner) => runner.turn(taken)));
      running = running.filter((_, i) => !turns[i]!.ended);
      await this.publishUpdates();
      await this.round(() => false);
      const isShown = this.options.speed !== undefined && this.stagedBytes() > 0;
      if (isShown || this.stagedBytes() > SINK_STEP_BYTES) await this.takeSinks();
      this.report("reading");
    }
    return false;
  }

  /** Live tables (`updates`) whose time has come are published as they stand. */
  private async publishUpdates(): Promise<void> {
    const now = performance.now();
    const due = new Set<string>();
    for (const { name, emit } of this.definition.tables) {
      if (emit.kind !== "updates") continue;
      if (now - (this.updatedAt.get(name) ?? this.startedAt) < emit.everyMs) continue;
      this.updatedAt.set(name, now);
      due.add(name);
    }
    if (due.size === 0) return;
    for (const runner of this.runners) await runner.publishUpdates(due);
    await this.round((table) => due.has(table));
    await this.takeSinks();
  }

  private async publish(flush: boolean): Promise<void> {
    this.report("publishing");
    await this.round(() => flush);
    await this.takeSinks();
    await this.round(() => flush);
  }

  private async round(flush: (table: string) => boolean): Promise<void> {
    const partitions = this.progress().map(({ facts }) => facts);
    await this.publisher.round({ partitions, flush, sinksTookUpTo: this.sinksTookUpTo });
  }

  private async takeSinks(): Promise<void> {
    const down: DownSinks = new Map();
    await applySinks(this.sinks, this.publisher, down);
    for (const error of down.values()) throw error;
    this.sinksTookUpTo = this.publisher.state.sequence;
  }

  private async finish(aborted: boolean): Promise<AccountingRow[]> {
    const partitions = await this.storedCounters();
    const published = this.publisher.state;
    const rows = accountingRows(this.definition, partitions, published);
    const flushed = this.options.flush && !aborted;
    const standing = standingOf(published, flushed);
    const sequence = this.sinksTookUpTo;
    const storedRows = await this.sinks.complete({ sequence, accounting: rows, standing });
    checkAccounting({ definition: this.definition, rows, published, flushed, storedRows });
    return rows;
  }

  /** Counters of every partition this output knows, also of files that are gone by now. */
  private async storedCounters() {
    const counters = [];
    for (const { name: stream } of this.definition.streams) {
      for (const id of await this.checkpoints.list(partitionPrefix(this.definition.name, stream))) {
        const item = await this.checkpoints.read(id);
        if (item === null) continue;
        const checkpoint = fromItem(id, item);
        // While a backfill is at work, a processor may have begun a partition that bronze lacks.
        if (checkpoint.definitionHash !== this.definitionHash) continue;
        counters.push({ stream, counters: metaOf(checkpoint).counters });
      }
    }
    return counters;
  }

  private async partitions(): Promise<{ stream: string; source: PartitionSource }[]> {
    const found: { stream: string; source: PartitionSource }[] = [];
    for (const stream of this.definition.streams) {
      const input = this.options.inputs.get(stream.name);
      if (input === undefined) {
        throw new MillpondError(
          "USAGE",
          `no input for stream "${stream.name}": give --input ${stream.name}=<path>`,
        );
      }
      const id = `${this.definition.name}/files/${stream.name}`;
      const cell = new CheckpointCell(this.checkpoints, id);
      const stored = (await cell.read())?.attributes.partitions;
      const known = new Map(Object.entries((stored ?? {}) as Record<string, number>));
      const { sources, missing } = await openFileSources({ path: input, stream, known });
      for (const name of missing) {
        this.warnings.push(`${name} was read before and is gone; its results stay`);
        const source = goneSource(stream.name, known.get(name)!, name);
        found.push({ stream: stream.name, source });
      }
      if (sources.length === 0) this.warnings.push(`${input} holds no files to read`);
      const all = Object.fromEntries([
        ...known,
        ...sources.map(({ label, partition }) => [label, partition]),
      ]);
      if (Object.keys(all).length > known.size) {
        await cell.swap({ partitions: all }, new Uint8Array());
      }
      found.push(...sources.map((source) => ({ stream: stream.name, source })));
    }
    return found;
  }

  private async startRunners(
    partitions: readonly { stream: string; source: PartitionSource }[],
  ): Promise<Runner[]> {
    const { options } = this;
    const local = new LocalRunner({
      checkpoints: this.checkpoints,
      objects: this.objects,
      pipeline: this.definition.name,
      definitionHash: this.definitionHash,
      partitions: partitions.map(({ stream, source }) => ({
        program: this.programs.get(stream)!,
        source,
      })),
      batchSize: options.batchSize,
      ...(options.turnMs === undefined ? {} : { turnMs: options.turnMs }),
      clock: options.speed === undefined ? undefined : new ReplayClock(options.speed),
      onSlice: () => this.report("reading"),
    });
    await local.sweep(async () => referencedKeys(this.publisher.state));
    const workers = Math.min(options.workers, partitions.length);
    if (workers <= 1) return [local];
    return startWorkers({
      workers,
      pipelineFile: options.pipelineFile!,
      overrides: options.overrides ?? new Map(),
      out: this.options.out,
      inputs: options.inputs,
      batchSize: options.batchSize,
      definitionHash: this.definitionHash,
      partitions: partitions.map(({ stream, source }) => ({
        stream,
        partition: source.partition,
        id: partitionId(this.definition.name, stream, source.partition),
        label: source.label,
      })),
    });
  }

  private progress(): PartitionProgress[] {
    return this.runners.flatMap((runner) => runner.progress());
  }

  private stagedBytes(): number {
    return this.publisher.state.publications
      .filter(({ sequence }) => sequence > this.sinksTookUpTo)
      .reduce((sum, { place }) => sum + place.length, 0);
  }

  private totals(): Omit<RunProgress, "phase"> {
    const all = this.progress();
    const counters = all.map(({ facts: { checkpoint } }) =>
      checkpoint === null ? undefined : metaOf(checkpoint).counters,
    );
    const sum = (of: (i: number) => number): number =>
      all.reduce((total, _, i) => total + of(i), 0);
    const watermarks = all.map(({ facts }) => facts.checkpoint?.maxEventTime ?? null);
    const known = watermarks.filter((time) => time !== null);
    const lateness = Math.max(0, ...this.definition.streams.map(({ latenessMs }) => latenessMs));
    return {
      records: sum((i) => counters[i]?.records ?? 0),
      events: sum((i) => counters[i]?.events ?? 0),
      lateRows: sum((i) => lateRowsIn(counters[i])),
      deadLetters: sum((i) => (counters[i] ? counters[i].records - counters[i].events : 0)),
      bytesRead: sum((i) => all[i]!.bytesRead),
      bytesTotal: sum((i) => all[i]!.bytesTotal),
      watermark: known.length === 0 ? null : Math.min(...known) - lateness,
    };
  }

  private report(phase: RunProgress["phase"]): void {
    this.options.onProgress?.({ phase, ...this.totals() });
  }

  private allWarnings(): string[] {
    return [...this.warnings, ...this.progress().flatMap(({ warnings }) => warnings)];
  }
}

function sumOfRecords(partitions: readonly StreamCounters[]): number {
  return partitions.reduce((sum, { counters }) => sum + counters.records, 0);
}

function lateRowsIn(counters: PartitionMeta["counters"] | undefined): number {
  return Object.values(counters?.tables ?? {}).reduce((sum, { late }) => sum + late, 0);
}
