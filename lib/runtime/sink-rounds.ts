/**
 * From the partitions' outboxes to results, in rounds: the publisher takes a bounded step of what
 * waits, the sinks take what it published, until nothing is left or time runs out. Several at once,
 * in any processes, are harmless: who is overtaken begins again from what the other one stored.
 */
import { CheckpointCell } from "../commit/cell.js";
import { fromItem } from "../commit/checkpoint.js";
import { checkDefinition, PartitionCommitter } from "../commit/committer.js";
import type { CheckpointStore, ObjectStore } from "../commit/ports.js";
import { type PartitionFacts, Publisher } from "../commit/publisher.js";
import { referencedKeys, standingOf } from "../commit/publisher-state.js";
import type { PipelineDefinition, TableNode } from "../define/definition.js";
import type { StreamProgram } from "../engine/program.js";
import { MillpondError } from "../errors.js";
import type { Sink } from "../sinks/sink.js";
import { type AccountingRow, accountingRows, checkAccounting } from "./accounting.js";
import { awaitedFrom } from "./awaited.js";
import { nextStep, type StepBounds } from "./backlog.js";
import { goneSource } from "./gone-source.js";
import { metaOf } from "./partition-meta.js";
import { PartitionRun } from "./partition-run.js";
import { applySinks, type DownSinks, isLost, openSink, type RunSinks } from "./run-sinks.js";
import { partitionPrefix, publisherId } from "./runner.js";

/**
 * A step's rows are read one object at a time; its partials are in memory until it commits, and so
 * is what it publishes, at most as many bytes.
 */
const STEP: StepBounds = { bytesMax: 64 * 1024 * 1024, entriesMax: 2_000 };
/**
 * So many steps' bytes, or one step's number of publications, the publisher keeps for a sink that
 * is down; the rest waits in the partitions' outboxes, and when those are full, in Kafka.
 */
const WAITING_STEPS_MAX = 16;
/** Another one that is faster so often does the work: leave it to it. */
const CONFLICTS_MAX = 3;
/** A processor at work may move a partition while it is flushed. */
const FLUSH_ATTEMPTS_MAX = 5;
const READS_AT_ONCE = 16;
/** The database on S3 is made again, and written whole: not for each of a busy stream's records. */
const COMPLETE_EVERY_MS = 30_000;
/** Results that have not changed are looked at all the same: someone may have removed them. */
const LOOK_AGAIN_MS = 5 * 60_000;
const SWEEP_EVERY_MS = 60 * 60 * 1000;
const LAKE_SWEEP_EVERY_MS = 24 * 60 * 60 * 1000;
/** Left for the accounting, the database and the answer. */
const DEADLINE_MARGIN_MS = 10_000;

export interface SinkRoundsOptions {
  readonly definition: PipelineDefinition;
  readonly definitionHash: string;
  /** By stream. */
  readonly programs: ReadonlyMap<string, StreamProgram>;
  readonly checkpoints: CheckpointStore;
  readonly objects: ObjectStore;
  readonly sinks: RunSinks;
  /** Bounds of a round; by default what suits a Lambda. */
  readonly step?: StepBounds;
}

export interface RoundsRequest {
  /** Publish open windows as they stand. */
  readonly flush: boolean;
  /** Also do what is due by the clock: live tables of quiet partitions, sweeping. */
  readonly tick: boolean;
  /** How much time is left, ms. */
  readonly remainingMs: () => number;
}

export interface RoundsReport {
  /** "yielded": others kept being faster. "outOfTime": the next call goes on. */
  outcome: "done" | "yielded" | "outOfTime";
  rounds: number;
  publishedRows: number;
  /** The same by table. */
  readonly rowsByTable: Record<string, number>;
  conflicts: number;
  /** From a commit to its rows being visible, one a partition and round. */
  readonly commitToVisibleMs: number[];
  readonly roundMs: number[];
  /** Age of the oldest commit that was found waiting; 0 for none, null when none could be read. */
  oldestWaitingMs: number | null;
  /** Publications that a sink lacked when this ended. */
  pending: number;
  /** The same for each sink whose progress is known. */
  readonly pendingBySink: Record<string, number>;
}

/**
 * Not for concurrent calls.
 *
 * @example
 * const rounds = new SinkRounds({ definition, definitionHash, programs, checkpoints, … });
 * const report = await rounds.run({ flush: false, tick: true, remainingMs: () => 60_000 });
 */
export class SinkRounds {
  /** Of the call under way or the last one, however it ended. */
  report = newReport();
  readonly #options: SinkRoundsOptions;
  #publisher: Publisher;
  /** The last publication that each is known to have taken. */
  readonly #tookUpTo = new Map<Sink, number>();
  /** When a live table was last published, by this process's clock. */
  readonly #updatedAtMs = new Map<string, number>();
  #completed = "";
  #completedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: SinkRoundsOptions) {
    this.#options = options;
    this.#publisher = this.#newPublisher();
  }

  /** Throws what the stores and sinks throw, unless it came of another one being faster. */
  async run(request: RoundsRequest): Promise<RoundsReport> {
    const report = newReport();
    this.report = report;
    for (;;) {
      try {
        await this.#rounds(request, report);
        return report;
      } catch (error) {
        await this.#options.sinks.close();
        const loaded = this.#publisher.generation;
        this.#publisher = this.#newPublisher();
        if (!(await this.#wasOvertaken(error, loaded))) {
          await this.#noteBacklog(report);
          throw error;
        }
        report.conflicts += 1;
        if (report.conflicts < CONFLICTS_MAX) continue;
        report.outcome = "yielded";
        return report;
      }
    }
  }

  /** Gives back memory and temporary files. */
  async close(): Promise<void> {
    await this.#options.sinks.close();
  }

  async #rounds(request: RoundsRequest, report: RoundsReport): Promise<void> {
    const publisher = this.#publisher;
    await publisher.load();
    const down: DownSinks = new Map();
    await this.#openSinks(down);
    if (request.flush) await this.#flushPartitions();
    else if (request.tick) await this.#updateQuietPartitions();
    for (;;) {
      const started = performance.now();
      const facts = await this.#partitions();
      const bounds = this.#options.step ?? STEP;
      const step = nextStep(facts, publisher.state.taken, bounds);
      noteWaiting(report, facts, publisher.state.taken);
      const commits = newCommits(step.partitions, publisher.state.taken);
      if (isFull(publisher, this.#tookUpToMin(), bounds)) {
        await this.#applySinks(down);
        throwFirst(down);
      }
      const before = Math.max(0, ...this.#tookUpTo.values());
      const startedAtMs = Date.now();
      const due = this.#dueUpdates(startedAtMs);
      const flushesAll = request.flush && step.isLast;
      await publisher.round({
        partitions: step.partitions,
        flush: (table) => flushesAll || due.has(table),
        sinksTookUpTo: this.#tookUpToMin(),
        bytesMax: bounds.bytesMax,
        awaitedFrom: (table) => this.#awaitedFrom(table, step.partitions),
      });
      // A round that was overtaken or failed does not cost a live table its turn.
      for (const table of due) this.#updatedAtMs.set(table, startedAtMs);
      await this.#applySinks(down);
      noteRows(report, publisher, before);
      report.rounds += 1;
      report.commitToVisibleMs.push(...commits.map((atMs) => Date.now() - atMs));
      report.roundMs.push(performance.now() - started);
      const isLast = step.isLast && !publisher.isBehind;
      if (isLast || !hasTime(request, report)) {
        report.outcome = isLast ? "done" : "outOfTime";
        await this.#complete(publisher.state.sequence, isLast ? facts : null, request);
        break;
      }
    }
    report.pending = publisher.state.sequence - this.#tookUpToMin();
    this.#notePending(report);
    if (request.tick && report.outcome === "done") await this.#sweepIfDue();
    throwFirst(down);
  }

  /** Also finds out what each has taken; of one that is down, what it is known to have. */
  async #openSinks(down: DownSinks): Promise<void> {
    const { sinks } = this.#options;
    const publisher = this.#publisher;
    const { trimmedThrough } = publisher.state;
    for (const sink of sinks.own) {
      try {
        // Before anything is published: afterwards new results could seem to be among those taken.
        this.#tookUpTo.set(sink, await openSink(sink, publisher));
      } finally {
        if (!sinks.stayOpen) await sink.close();
      }
    }
    for (const sink of sinks.remote) {
      try {
        this.#tookUpTo.set(sink, await openSink(sink, publisher));
      } catch (error) {
        // Whether it has another output's results is only known once it was seen.
        const wasSeen = trimmedThrough > 0 || this.#tookUpTo.has(sink);
        if (isLost(error) || !wasSeen) throw error;
        this.#tookUpTo.set(sink, Math.max(trimmedThrough, this.#tookUpTo.get(sink) ?? 0));
        down.set(sink, error);
      }
    }
  }

  #applySinks(down: DownSinks): Promise<void> {
    return applySinks(this.#options.sinks, this.#publisher, down, (sink, sequence) => {
      this.#tookUpTo.set(sink, sequence);
    });
  }

  /** What every sink has taken; 0 without sinks. */
  #tookUpToMin(): number {
    return this.#tookUpTo.size === 0 ? 0 : Math.min(...this.#tookUpTo.values());
  }

  #notePending({ pendingBySink }: RoundsReport): void {
    const { sequence } = this.#publisher.state;
    for (const [{ name }, taken] of this.#tookUpTo) pendingBySink[name] = sequence - taken;
  }

  /** For the metrics of a failure; why it failed is known, and what else does is no news. */
  async #noteBacklog(report: RoundsReport): Promise<void> {
    try {
      await this.#publisher.load();
      noteWaiting(report, await this.#partitions(), this.#publisher.state.taken);
      this.#notePending(report);
    } catch {
      // Nothing is known of the backlog then.
    } finally {
      this.#publisher = this.#newPublisher();
    }
  }

  #newPublisher(): Publisher {
    const { checkpoints, objects, definition, definitionHash, programs } = this.#options;
    return new Publisher({
      checkpoints,
      objects,
      id: publisherId(definition.name),
      definitionHash,
      programs: [...programs.values()],
    });
  }

  /** A conflict says so itself; others come of what someone else has used up, or of an old view. */
  async #wasOvertaken(error: unknown, loadedGeneration: number): Promise<boolean> {
    if (error instanceof MillpondError && error.code === "CONFLICT") return true;
    const mayBe = error instanceof MillpondError && /^(STORAGE|INVARIANT|OUTPUT)$/.test(error.code);
    if (!mayBe) return false;
    const item = await this.#options.checkpoints.read(publisherId(this.#options.definition.name));
    return (item?.generation ?? 0) > loadedGeneration;
  }

  async #partitions(): Promise<PartitionFacts[]> {
    const { definition, definitionHash, checkpoints } = this.#options;
    const nowMs = Date.now();
    const found: PartitionFacts[] = [];
    for (const { name: stream, idleAfterMs } of definition.streams) {
      const ids = await checkpoints.list(partitionPrefix(definition.name, stream));
      for (let from = 0; from < ids.length; from += READS_AT_ONCE) {
        const some = ids.slice(from, from + READS_AT_ONCE);
        const items = await Promise.all(some.map((id) => checkpoints.read(id)));
        for (const [index, item] of items.entries()) {
          const id = some[index]!;
          const checkpoint = item === null ? null : fromItem(id, item);
          if (checkpoint === null) continue;
          // While a changed pipeline is deployed, its processor may be the first at a partition.
          checkDefinition(id, checkpoint, definitionHash);
          const idle = nowMs - metaOf(checkpoint).committedAtMs >= idleAfterMs;
          found.push({ id, stream, partition: Number(id.split("/").at(-1)), checkpoint, idle });
        }
      }
    }
    return found;
  }

  /** Partitions that are behind, repeat a batch, or are not seen yet still bring their windows. */
  #awaitedFrom(
    { stream: name, reviseForMs }: TableNode,
    partitions: readonly PartitionFacts[],
  ): number {
    const stream = this.#options.definition.streams.find((node) => node.name === name)!;
    const known = partitions.filter((facts) => facts.stream === name);
    return awaitedFrom({
      nowMs: Date.now(),
      startedAtMs: this.#publisher.state.startedAtMs[name],
      patienceMs: Math.max(stream.idleAfterMs, reviseForMs),
      partitions: known.map(({ checkpoint }) => {
        const { committedAtMs } = metaOf(checkpoint!);
        const { maxEventTime } = checkpoint!;
        const watermark = maxEventTime === null ? null : maxEventTime - stream.latenessMs;
        return { watermark, committedAtMs };
      }),
    });
  }

  /** Live tables whose time has come; what the processors handed over of them is published. */
  #dueUpdates(nowMs: number): ReadonlySet<string> {
    const due = new Set<string>();
    for (const { name, emit } of this.#options.definition.tables) {
      if (emit.kind !== "updates") continue;
      const sinceMs = nowMs - (this.#updatedAtMs.get(name) ?? Number.NEGATIVE_INFINITY);
      if (sinceMs >= emit.everyMs) due.add(name);
    }
    return due;
  }

  /** A processor hands live tables over with its commits; of what came since, nobody else would. */
  async #updateQuietPartitions(): Promise<void> {
    const { definition } = this.#options;
    const live = definition.tables.filter(({ emit }) => emit.kind === "updates");
    const nowMs = Date.now();
    for (const facts of live.length === 0 ? [] : await this.#partitions()) {
      const tables = live.filter(({ stream }) => stream === facts.stream);
      const everyMs = Math.max(
        ...tables.map(({ emit }) => (emit.kind === "updates" ? emit.everyMs : 0)),
      );
      const { committedAtMs, updated, flushed } = metaOf(facts.checkpoint!);
      if (tables.length === 0 || updated || flushed || nowMs - committedAtMs < everyMs) continue;
      const names = new Set(tables.map(({ name }) => name));
      await this.#movePartition(facts, (run) => run.publishUpdates(names));
    }
  }

  async #flushPartitions(): Promise<void> {
    for (const facts of await this.#partitions()) {
      await this.#movePartition(facts, (run) => run.flush());
    }
  }

  /** Commits in place of a processor, which notices by its next compare-and-swap. */
  async #movePartition(
    { id, stream, partition, checkpoint }: PartitionFacts,
    work: (run: PartitionRun) => Promise<void>,
  ): Promise<void> {
    const { checkpoints, objects, definitionHash, programs } = this.#options;
    const program = programs.get(stream)!;
    const { label } = metaOf(checkpoint!);
    const source = goneSource(stream, partition, label);
    const run = new PartitionRun({ program, source, checkpoints, objects, id, definitionHash });
    run.releaseUpTo = this.#publisher.state.taken[id] ?? 0;
    for (let attempt = 1; ; attempt++) {
      try {
        await run.loadState();
        return await work(run);
      } catch (error) {
        const isConflict = error instanceof MillpondError && error.code === "CONFLICT";
        if (!isConflict || attempt >= FLUSH_ATTEMPTS_MAX) throw error;
      } finally {
        await run.close();
      }
    }
  }

  /** `facts` null: a backlog is left, so the numbers do not add up yet. */
  async #complete(
    sequence: number,
    facts: readonly PartitionFacts[] | null,
    { flush, tick }: RoundsRequest,
  ): Promise<void> {
    const isDue = tick || flush || Date.now() - this.#completedAtMs >= COMPLETE_EVERY_MS;
    if (!isDue) return;
    const accounting = facts === null ? null : this.#accounting(facts, flush);
    const state = JSON.stringify([sequence, accounting]);
    const isRecent = Date.now() - this.#completedAtMs < LOOK_AGAIN_MS;
    if (state === this.#completed && isRecent && !flush) return;
    const isFlushed = facts?.every(({ checkpoint }) => metaOf(checkpoint!).flushed) ?? false;
    const standing = standingOf(this.#publisher.state, isFlushed);
    await this.#options.sinks.complete({ sequence, accounting, standing });
    this.#completed = state;
    this.#completedAtMs = Date.now();
  }

  /** Throws `MillpondError("INVARIANT")` when the sums of I2 do not hold. */
  #accounting(facts: readonly PartitionFacts[], flushed: boolean): AccountingRow[] {
    const { definition } = this.#options;
    const counters = facts.map(({ stream, checkpoint }) => ({
      stream,
      counters: metaOf(checkpoint!).counters,
    }));
    const published = this.#publisher.state;
    const rows = accountingRows(definition, counters, published);
    // What a processor did since its flush is open again.
    const allFlushed = flushed && facts.every(({ checkpoint }) => metaOf(checkpoint!).flushed);
    const storedRows = new Map<string, number>();
    checkAccounting({ definition, rows, published, flushed: allFlushed, storedRows });
    return rows;
  }

  /** Deletes what crashed and overtaken commits left; once an hour, by whoever is first. */
  async #sweepIfDue(): Promise<void> {
    const { definition, checkpoints, objects, definitionHash, sinks } = this.#options;
    const cell = new CheckpointCell(checkpoints, `${definition.name}/maintenance`);
    const item = await cell.read();
    const nowMs = Date.now();
    const before = sweepTimes(item?.attributes ?? {});
    if (nowMs - before.sweptAtMs < SWEEP_EVERY_MS) return;
    const lakeIsDue = nowMs - before.lakeSweptAtMs >= LAKE_SWEEP_EVERY_MS;
    const lakeSweptAtMs = lakeIsDue ? nowMs : before.lakeSweptAtMs;
    const claimed = await cell.swap({ sweptAtMs: nowMs, lakeSweptAtMs }, new Uint8Array());
    if (claimed.kind === "conflict") return;
    const referenced = async () => {
      const publisher = this.#newPublisher();
      await publisher.load();
      return referencedKeys(publisher.state);
    };
    for (const { id } of await this.#partitions()) {
      const committer = new PartitionCommitter({ checkpoints, objects, id, definitionHash });
      await committer.sweep(referenced);
    }
    await this.#publisher.sweep();
    if (lakeIsDue) await sinks.sweep();
  }
}

function newReport(): RoundsReport {
  return {
    outcome: "done",
    rounds: 0,
    publishedRows: 0,
    rowsByTable: {},
    conflicts: 0,
    commitToVisibleMs: [],
    roundMs: [],
    oldestWaitingMs: null,
    pending: 0,
    pendingBySink: {},
  };
}

/** Whether another round, as long as the longest so far, can be expected to end in time. */
function hasTime({ remainingMs }: RoundsRequest, { roundMs }: RoundsReport): boolean {
  return remainingMs() > 1.5 * Math.max(...roundMs) + DEADLINE_MARGIN_MS;
}

function noteWaiting(
  report: RoundsReport,
  partitions: readonly PartitionFacts[],
  taken: Readonly<Record<string, number>>,
): void {
  const agesMs = newCommits(partitions, taken).map((atMs) => Date.now() - atMs);
  report.oldestWaitingMs = Math.max(0, report.oldestWaitingMs ?? 0, ...agesMs);
}

/** Per partition with something new, when the oldest of it was committed. */
function newCommits(
  partitions: readonly PartitionFacts[],
  taken: Readonly<Record<string, number>>,
): number[] {
  return partitions.flatMap(({ id, checkpoint }) => {
    const isNew = ({ sequence }: { sequence: number }) => sequence > (taken[id] ?? 0);
    return checkpoint?.outbox.find(isNew)?.committedAtMs ?? [];
  });
}

/** What the sinks have taken behind `sequence`. */
function noteRows(report: RoundsReport, { state }: Publisher, sequence: number): void {
  for (const { sequence: own, table, rows } of state.publications) {
    if (own <= sequence) continue;
    report.publishedRows += rows;
    report.rowsByTable[table] = (report.rowsByTable[table] ?? 0) + rows;
  }
}

/** Whether so much waits for a sink that is down that nothing more is published (I6). */
function isFull({ state }: Publisher, tookUpTo: number, bounds: StepBounds): boolean {
  const waiting = state.publications.filter(({ sequence }) => sequence > tookUpTo);
  const bytes = waiting.reduce((sum, { place }) => sum + place.length, 0);
  return waiting.length >= bounds.entriesMax || bytes >= WAITING_STEPS_MAX * bounds.bytesMax;
}

function throwFirst(down: DownSinks): void {
  for (const error of down.values()) throw error;
}

function sweepTimes(attributes: Readonly<Record<string, unknown>>) {
  const { sweptAtMs, lakeSweptAtMs } = attributes;
  const time = (value: unknown) => (typeof value === "number" ? value : 0);
  return { sweptAtMs: time(sweptAtMs), lakeSweptAtMs: time(lakeSweptAtMs) };
}
