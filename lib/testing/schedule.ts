/**
 * One simulated run of a pipeline from its topics to its tables, through whatever the seed brings,
 * then calm, to the end. The handlers of processor, ingest and sink are real, with all that
 * is below them; whether the tables are right is for the caller, who knows the truth.
 */
import { isDeepStrictEqual } from "node:util";
import { numberInKey } from "../commit/decisions.js";
import type { Pipeline, PipelineDefinition } from "../define/definition.js";
import { type PipelineRuntime, pipelineRuntime } from "../handlers/pipeline-runtime.js";
import type { AccountingRow } from "../runtime/accounting.js";
import type { StepBounds } from "../runtime/backlog.js";
import { PARTITION_BOUNDS, type PartitionBounds } from "../runtime/partition-writer.js";
import type { LoadedReferences } from "../runtime/references.js";
import type { RunSinks } from "../runtime/run-sinks.js";
import { partitionId, publisherId } from "../runtime/runner.js";
import { tableLayouts } from "../sinks/layouts.js";
import type { Random } from "../sources/simulate/random.js";
import { type FaultCounts, type FaultOdds, swarmOdds, Violation, withLosses } from "./faults.js";
import { IngestFleet } from "./ingest-fleet.js";
import { ProtocolMonitor } from "./monitor.js";
import { ProcessorFleet } from "./processor-fleet.js";
import type { IncomingObject } from "./simulated-objects.js";
import {
  type SimulatedResults,
  type SimulatedRow,
  SimulatedTables,
  sinksOf,
} from "./simulated-sink.js";
import { type ObjectsOver, SimulatedStores } from "./simulated-stores.js";
import { PartitionFeed, type PreparedLog } from "./simulated-topic.js";
import { SinkFleet } from "./sink-fleet.js";
import { type Interruption, inWorld, type SimulatedProcess, World } from "./world.js";

/** Of disturbance; then the world is calm. */
const CHAOS_STEPS_MAX = 3_000;
/** A calm world gets done within it, or something hangs. */
const CALM_STEPS_MAX = 50_000;
const HOUR_MS = 3_600_000;
/** Partitions that are full are delivered to in vain. */
const TIGHT_STEPS_MAX = 500;
const TIGHT_BOUNDS: readonly PartitionBounds[] = [
  { ...PARTITION_BOUNDS, waitingEntriesMax: 1 },
  { ...PARTITION_BOUNDS, waitingEntriesMax: 3 },
  { ...PARTITION_BOUNDS, stateBytesMax: 300 },
  { ...PARTITION_BOUNDS, stateBytesMax: 1_500 },
];
/** Of a round of publishing. */
const ONE_BY_ONE = { bytesMax: 1, entriesMax: 1 };
const FEW = { bytesMax: 4_000, entriesMax: 3 };
const ALL = { bytesMax: 1 << 26, entriesMax: 2_000 };

/** A pipeline made ready, once, for many runs over the same logs. */
export interface SimulationCase {
  readonly pipeline: Pipeline;
  readonly runtime: PipelineRuntime;
  /** Another definition of the same name, which must be refused. */
  readonly changed: Pipeline;
  readonly changedRuntime: PipelineRuntime;
  readonly references: LoadedReferences;
  readonly logs: readonly PreparedLog[];
  /** Files of the same streams' records; none by default. */
  readonly incoming?: readonly IncomingObject[];
  readonly startMs: number;
}

export interface ScheduleOptions {
  readonly seed: number;
  /** Drawn from the seed if left out. */
  readonly odds?: FaultOdds;
  /** Records that nobody has read may be gone; which, the result says. */
  readonly losesUnread?: boolean;
  /** A process is stopped at one call. */
  readonly interruption?: Interruption;
  readonly trace?: (line: string) => void;
  /** Keys of the objects in the order in which they are notified; that of the case if left out. */
  readonly order?: readonly string[];
  /** In place of the simulated object store, over the same objects. */
  readonly objectsOver?: ObjectsOver;
  /** Sinks of other kinds beside the simulated ones. */
  readonly moreSinks?: MoreSinks;
}

export type MoreSinks = (world: World, process: SimulatedProcess, sinks: RunSinks) => RunSinks;

export interface ScheduleResult {
  /** Rows by table as they stand at the end, everything published; unordered. */
  readonly tables: ReadonlyMap<string, readonly SimulatedRow[]>;
  readonly accounting: readonly AccountingRow[];
  /** Keys of the objects that were taken in, in the order of their records. */
  readonly ingested: readonly string[];
  /** Offsets of the records that were gone before anyone read them, by `feedName`. */
  readonly unread: ReadonlyMap<string, readonly number[]>;
  /** Counted events that came after `reviseFor`: those are in no row. */
  readonly beyondReviseEvents: number;
  readonly faults: FaultCounts;
  /** To stores and sinks. */
  readonly calls: number;
  readonly steps: number;
  readonly simulatedMs: number;
}

export async function simulationCase(
  options: Omit<SimulationCase, "runtime" | "changedRuntime">,
): Promise<SimulationCase> {
  const { pipeline, changed, references } = options;
  const runtime = await pipelineRuntime(pipeline, {}, references);
  const changedRuntime = await pipelineRuntime(changed, {}, references);
  return { ...options, runtime, changedRuntime };
}

/**
 * Runs the schedule of one seed. Throws `Violation` when an invariant did not hold on the way. One
 * at a time in a thread, for the clock and random numbers are the world's meanwhile.
 *
 * @example
 * const { tables } = await runSchedule(prepared, { seed: 17 });
 */
export async function runSchedule(
  prepared: SimulationCase,
  options: ScheduleOptions,
): Promise<ScheduleResult> {
  const world = new World({
    seed: options.seed,
    startMs: prepared.startMs,
    odds: new Map(),
    ...(options.trace === undefined ? {} : { trace: options.trace }),
    ...(options.interruption === undefined ? {} : { interruption: options.interruption }),
  });
  const own = swarmOdds(world.random);
  const odds = options.odds ?? own;
  world.odds = options.losesUnread === true ? withLosses(odds) : odds;
  return inWorld(world, () => new Schedule(world, prepared, options).run());
}

const recordsOf = ({ logs }: SimulationCase) =>
  Math.max(...logs.map(({ log }) => log.records.length));

function simulatedResults(random: Random, definition: PipelineDefinition): SimulatedResults {
  const layouts = tableLayouts(definition);
  const tables = (length: number) => Array.from({ length }, () => new SimulatedTables(layouts));
  return {
    own: tables(random.pick([1, 1, 2])),
    servers: tables(random.pick([0, 0, 1, 2])),
    stayOpen: random.unit() < 0.5,
    accounting: null,
  };
}

const inOrder = (objects: readonly IncomingObject[], order: readonly string[] | undefined) =>
  order?.map((key) => objects.find((object) => object.key === key)!) ?? objects;

class Schedule {
  readonly #world: World;
  readonly #prepared: SimulationCase;
  readonly #stores: SimulatedStores;
  readonly #isTight: boolean;
  readonly #monitor: ProtocolMonitor;
  readonly #results: SimulatedResults;
  readonly #feeds: readonly PartitionFeed[];
  readonly #processors: ProcessorFleet;
  readonly #ingests: IngestFleet;
  readonly #step: StepBounds;
  readonly #sinks: SinkFleet;
  #held: SimulatedProcess | null = null;

  constructor(world: World, prepared: SimulationCase, options: ScheduleOptions) {
    const { random } = world;
    const { pipeline, changed, references, runtime, changedRuntime } = prepared;
    this.#world = world;
    this.#prepared = prepared;
    // Small ones make state move to objects, and the publisher's too.
    const payloadBytesMax = random.pick([64, 500, 4_096, 64 * 1024]);
    this.#stores = new SimulatedStores(world, {
      payloadBytesMax,
      objectsOver: options.objectsOver,
    });
    this.#results = simulatedResults(random, runtime.definition);
    this.#isTight = world.strikes("bounds are tight");
    const bounds = this.#isTight ? random.pick(TIGHT_BOUNDS) : PARTITION_BOUNDS;
    this.#monitor = new ProtocolMonitor({
      bounds,
      stores: this.#stores,
      results: this.#results,
      pipeline: runtime.definition.name,
      definitionHash: runtime.definitionHash,
    });
    this.#stores.monitor = this.#monitor;
    this.#feeds = prepared.logs.map((log) => new PartitionFeed(log));
    for (const feed of this.#feeds) feed.isThere = !world.strikes("partition added late");
    const shared = { world, stores: this.#stores, bounds: () => this.#monitor.bounds };
    this.#processors = new ProcessorFleet({
      ...shared,
      pipeline,
      changed,
      references,
      feeds: this.#feeds,
      partialBatch: random.unit() < 0.5,
      recordsMax: Math.ceil(recordsOf(prepared) / random.pick([1, 3, 3, 6, 25])),
    });
    this.#ingests = new IngestFleet({
      ...shared,
      pipeline,
      changed,
      references,
      incoming: inOrder(prepared.incoming ?? [], options.order),
      recordsMax: random.pick([1, 2, 5, 1_000]),
    });
    this.#step = random.pick([ONE_BY_ONE, FEW, ALL, ALL, ALL, ALL]);
    this.#sinks = new SinkFleet({
      ...shared,
      runtime,
      changed: changedRuntime,
      sinksOf: (process) => {
        const sinks = sinksOf(world, process, this.#results);
        return options.moreSinks?.(world, process, sinks) ?? sinks;
      },
      step: this.#step,
    });
  }

  async run(): Promise<ScheduleResult> {
    const world = this.#world;
    const stepsMax = this.#isTight ? TIGHT_STEPS_MAX : CHAOS_STEPS_MAX;
    while (!this.#isDone && world.steps < stepsMax) await this.#disturbed();
    this.#strikeServers();
    world.calm();
    world.trace("calm");
    this.#processors.calm();
    this.#ingests.calm();
    this.#sinks.calm();
    if (this.#isTight) this.#makeRoom();
    if (world.random.unit() < 0.3) this.#processors.redeliverAll();
    await this.#untilDone();
    if (world.random.unit() < 0.3) await this.#tellAll();
    const through = await this.#publishWithoutServers();
    await this.#publishAll();
    const last = this.#monitor.published?.sequence;
    this.#check(through === null || through === last, "publishing waited for a server");
    const { own, servers } = this.#results;
    const simulatedMs = world.nowMs - world.startMs;
    // Not every time: it takes as long as all the rest.
    const isInterrupted = world.interruption !== null;
    if (world.random.unit() < 0.1 || isInterrupted) await this.#publishNothing();
    if (world.random.unit() < 0.15 || isInterrupted) await this.#sweep();
    const tables = [...own, ...servers].map((store) => store.tables());
    const [first, ...others] = tables;
    for (const other of others) {
      this.#check(isDeepStrictEqual(other, first), "two sinks differ");
    }
    const totals = Object.values(this.#monitor.published?.totals ?? {});
    return {
      tables: first!,
      accounting: this.#results.accounting ?? [],
      ingested: this.#monitor.ingested,
      unread: this.#unread(),
      beyondReviseEvents: totals.reduce((sum, total) => sum + total.beyondReviseEvents, 0),
      faults: world.faults,
      calls: world.calls,
      steps: world.steps,
      simulatedMs,
    };
  }

  /** A bound of state is lifted by a new version; the outbox gets room by the sinks alone. */
  #makeRoom(): void {
    const { stateBytesMax } = PARTITION_BOUNDS;
    this.#monitor.bounds = { ...this.#monitor.bounds, stateBytesMax };
    this.#processors.deploy();
    this.#ingests.deploy();
    for (const server of this.#results.servers) server.isDown = false;
  }

  /** Nothing is left to deliver. */
  get #isDone(): boolean {
    return this.#processors.isDone && this.#ingests.isDone;
  }

  async #deliver(): Promise<boolean> {
    const isIngest = this.#world.random.unit() < 0.5 && (await this.#ingests.deliver());
    return isIngest || (await this.#processors.deliver());
  }

  async #disturbed(): Promise<void> {
    const world = this.#world;
    const chance = world.random.unit();
    if (chance < 0.12) await this.#deliver();
    else if (chance < 0.132) {
      const isFlush = world.strikes("flush on demand");
      const other = world.random.unit() < 0.3 ? "tick" : "news";
      await this.#sinks.wake(isFlush ? "flush" : other);
    } else if (chance < 0.145) this.#passTime();
    else if (chance < 0.175) {
      await this.#processors.strike();
      await this.#ingests.strike();
      this.#strikeServers();
      await this.#sinks.strike();
    } else if (!(await world.step())) await this.#deliver();
    await this.#seeToInterrupted();
    this.#throwIfViolated();
  }

  async #seeToInterrupted(): Promise<void> {
    const { interrupted, interruption } = this.#world;
    if (interrupted === null || interruption === null) return;
    const { how } = interruption;
    this.#world.interrupted = null;
    const isKnown =
      this.#processors.interrupted(interrupted, how) ||
      this.#ingests.interrupted(interrupted, how) ||
      (await this.#sinks.interrupted(interrupted, how));
    this.#check(isKnown, `${interrupted.name} is nobody's`);
    if (interruption.how === "held") this.#held = interrupted;
  }

  #passTime(): void {
    const world = this.#world;
    world.nowMs += world.random.pick([1_000, 5_000, 20_000, 90_000]);
    if (!world.strikes("long idle")) return;
    world.nowMs += world.random.below(2 * HOUR_MS);
    const feed = world.random.pick(this.#feeds);
    feed.quietUntilStep = world.steps + world.random.below(100);
  }

  /** Delivers the rest; zombies, late writes and sinks come to their ends meanwhile. */
  async #untilDone(): Promise<void> {
    const limit = this.#world.steps + CALM_STEPS_MAX;
    for (;;) {
      const isMoving = await this.#world.step();
      await this.#seeToInterrupted();
      this.#throwIfViolated();
      const isDelivering = this.#world.random.unit() < 0.2 && (await this.#deliver());
      if (this.#isTight && this.#world.random.unit() < 0.05) await this.#sinks.wake("tick");
      const isIdle = this.#processors.isIdle && this.#ingests.isIdle && this.#sinks.isIdle;
      if (this.#isDone && isIdle && !isMoving && !isDelivering) {
        if (this.#held === null) return;
        // Everyone else is through: now it goes on as if nothing had happened.
        this.#world.trace(`${this.#held.name} goes on`);
        this.#held.isHeld = false;
        this.#held = null;
      }
      this.#check(this.#world.steps < limit, "a calm world does not come to an end");
    }
  }

  /** The state table's stream alone makes sinks take all there is. */
  async #tellAll(): Promise<void> {
    const { changes } = this.#stores;
    while (this.#sinks.hasNews) {
      await this.#sinks.wake("news");
      await this.#untilDone();
    }
    for (const id of this.#stores.ids(`${this.#prepared.runtime.definition.name}/partitions/`)) {
      if (!this.#sinks.hasHeardFrom(changes.lastIndexOf(id))) continue;
      const waiting = this.#monitor.waiting(id);
      this.#check(waiting === 0, `${waiting} entries of ${id} wait although sinks were told`);
    }
  }

  #strikeServers(): void {
    for (const server of this.#results.servers) {
      if (server.isDown) server.isDown = this.#world.random.unit() < 0.8;
      else server.isDown = this.#world.strikes("server of a sink down for a while");
    }
  }

  /**
   * Sinks that are up have everything that fits; what waits for the others is kept. The last
   * publication, when all of it fits.
   */
  async #publishWithoutServers(): Promise<number | null> {
    const down = this.#results.servers.filter(({ isDown }) => isDown);
    // Before a sink has seen the server, nothing is published: it may be another output's.
    const wasSeen = (this.#monitor.published?.trimmedThrough ?? 0) > 0;
    if (down.length === 0 || !wasSeen) {
      for (const server of down) server.isDown = false;
      return null;
    }
    await this.#sinks.wake("flush");
    await this.#untilDone();
    const { sequence } = this.#monitor.published!;
    for (const tables of [...this.#results.own, ...this.#results.servers]) {
      this.#check(tables.isDown || tables.sequence === sequence, "a sink waits for another one");
    }
    for (const server of down) server.isDown = false;
    return this.#step === ALL ? sequence : null;
  }

  async #publishAll(): Promise<void> {
    const before = this.#sinks.done;
    await this.#sinks.wake("flush");
    await this.#untilDone();
    this.#check(this.#sinks.done > before, "a sink in a calm world did not get done");
  }

  async #publishNothing(): Promise<void> {
    const before = this.#monitor.published?.sequence;
    await this.#publishAll();
    this.#check(before === this.#monitor.published?.sequence, "a second flush published again");
  }

  /** What no commit counted went before anyone answered for it: nothing else is passed over. */
  #unread(): Map<string, readonly number[]> {
    const unread = new Map<string, readonly number[]>();
    const { name: pipeline } = this.#prepared.runtime.definition;
    for (const { name, log, removedUnread } of this.#feeds) {
      const id = partitionId(pipeline, log.topic, log.partition);
      const passed = this.#monitor.passedOver(id, log.records);
      const isGone = passed.every((index) => removedUnread.has(index));
      this.#check(isGone, `${name}: records were passed over that were there`);
      if (passed.length > 0)
        unread.set(
          name,
          passed.map((index) => log.records[index]!.offset),
        );
    }
    return unread;
  }

  /** What crashed commits left is found, and nothing else is touched (the monitor sees to that). */
  async #sweep(): Promise<void> {
    const { calls, interruption } = this.#world;
    await this.#sweepOnce();
    // Whoever is stopped in it may leave something for the next one.
    if (interruption !== null && interruption.call > calls) await this.#sweepOnce();
    for (const key of this.#stores.objects.keys()) {
      if (this.#monitor.isNamed(key)) continue;
      const decided = this.#decidedNumber(key);
      this.#check(numberInKey(key) > decided, `${key} is garbage, but was not swept`);
    }
  }

  async #sweepOnce(): Promise<void> {
    this.#world.nowMs += 3 * HOUR_MS;
    await this.#sinks.wake("tick");
    await this.#untilDone();
  }

  /** Objects up to this number belong to decided commits; later ones may be on their way. */
  #decidedNumber(key: string): number {
    const owner = key.split("/").slice(0, -2).join("/");
    const item = this.#stores.item(owner);
    if (owner === publisherId(this.#prepared.runtime.definition.name)) return item!.generation;
    if (key.split("/").at(-2) === "state") return item?.generation ?? 0;
    const { nextOutboxSequence } = item?.attributes ?? {};
    return typeof nextOutboxSequence === "number" ? nextOutboxSequence - 1 : 0;
  }

  #throwIfViolated(): void {
    const { violation: ofSinks } = this.#sinks;
    const violation = this.#processors.violation ?? this.#ingests.violation ?? ofSinks;
    if (violation !== null) throw violation;
  }

  #check(holds: boolean, otherwise: string): void {
    if (!holds) throw new Violation(otherwise);
  }
}
