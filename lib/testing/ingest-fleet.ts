/**
 * The ingest's invocations in a simulated world: notifications that come twice, late, out of order,
 * several in one event; two invocations at once, killed between any two steps.
 */
import type { Pipeline } from "../define/definition.js";
import { type IngestedObject, type IngestHandler, makeIngest } from "../handlers/ingest.js";
import { INGEST_PARTITION } from "../runtime/object-ingest.js";
import type { PartitionBounds } from "../runtime/partition-writer.js";
import type { LoadedReferences } from "../runtime/references.js";
import { partitionId } from "../runtime/runner.js";
import { Violation } from "./faults.js";
import { failureOf, unexplained } from "./judge.js";
import { INCOMING_BUCKET, IncomingBucket, type IncomingObject } from "./simulated-objects.js";
import type { SimulatedStores } from "./simulated-stores.js";
import type { Interruption, SimulatedProcess, World } from "./world.js";

const INVOCATIONS_MAX = 4;
const REMAINING_MS = 60_000;
/** Too short to begin a second slice. */
const SHORT_MS = 1_000;
const EVENT_OBJECTS_MAX = 3;

interface IngestEnvironment {
  readonly process: SimulatedProcess;
  readonly handle: IngestHandler;
  readonly invocations: Set<IngestInvocation>;
}

interface IngestInvocation {
  readonly environment: IngestEnvironment;
  readonly notices: readonly Notice[];
  readonly mustFail: readonly string[];
}

/** An object's notifications, until one is answered for. */
interface Notice {
  readonly object: IncomingObject;
  isDone: boolean;
  /** The queue shows it to nobody else meanwhile, or so it says. */
  isBusy: boolean;
}

export interface IngestFleetOptions {
  readonly world: World;
  readonly stores: SimulatedStores;
  readonly pipeline: Pipeline;
  /** Of the same name, with another definition. */
  readonly changed: Pipeline;
  readonly references: LoadedReferences;
  /** Notified in this order, but for what happens. */
  readonly incoming: readonly IncomingObject[];
  /** Records of one commit. */
  readonly recordsMax: number;
  /** Of an environment that is made now. */
  readonly bounds: () => PartitionBounds;
}

export class IngestFleet {
  violation: Violation | null = null;
  readonly #options: IngestFleetOptions;
  readonly #prefix: string;
  readonly #bucket: IncomingBucket;
  readonly #notices: readonly Notice[];
  #environments: IngestEnvironment[] = [];

  constructor(options: IngestFleetOptions) {
    const { world, incoming } = options;
    this.#options = options;
    this.#prefix = incoming.length === 0 || world.random.unit() < 0.5 ? "" : "given/prefix/";
    this.#bucket = new IncomingBucket(world, this.#prefix);
    for (const object of incoming) this.#bucket.put(object);
    this.#notices = incoming.map((object) => ({ object, isDone: false, isBusy: false }));
  }

  get isIdle(): boolean {
    return this.#runningCount === 0;
  }

  /** But for invocations that are held up. */
  get #runningCount(): number {
    const moving = this.#environments.filter(({ process }) => !process.isHeld);
    return moving.reduce((sum, { invocations }) => sum + invocations.size, 0);
  }

  /** Every object was answered for. */
  get isDone(): boolean {
    return this.#notices.every(({ isDone }) => isDone);
  }

  /** Delivers a notification of one or more objects; false when there is none. */
  async deliver(): Promise<boolean> {
    const { world } = this.#options;
    const running = this.#runningCount;
    if (running > 0 && (running >= INVOCATIONS_MAX || !world.strikes("two ingests at once"))) {
      return false;
    }
    const open = this.#notices.filter(({ isDone, isBusy }) => !isDone && !isBusy);
    const isAgain = open.length < this.#notices.length && world.strikes("object notified again");
    const candidates = isAgain ? this.#notices : open;
    const isShuffled = candidates.length > 1 && world.strikes("objects notified out of order");
    const ordered = isShuffled ? world.random.shuffle([...candidates]) : candidates;
    const count = Math.min(ordered.length, 1 + world.random.below(EVENT_OBJECTS_MAX));
    if (count === 0) return false;
    const notices = ordered.slice(0, count);
    for (const notice of notices) notice.isBusy = true;
    await this.#invoke({ environment: this.#environment(), notices, mustFail: [] });
    return true;
  }

  async strike(): Promise<void> {
    const { world } = this.#options;
    if (this.#notices.length === 0) return;
    const all = this.#environments;
    if (all.length > 0 && world.strikes("ingest killed")) this.#kill(world.random.pick(all));
    if (all.length > 0 && world.strikes("clock jumped")) {
      world.random.pick(all).process.skewMs += world.random.below(1_200_000) - 600_000;
    }
    if (world.strikes("changed definition deployed")) await this.#deliverToChanged();
  }

  /** Others are told of its objects meanwhile; false for a process that is no ingest. */
  interrupted(process: SimulatedProcess, how: Interruption["how"]): boolean {
    const environment = this.#environments.find((own) => own.process === process);
    if (environment === undefined) return false;
    if (how === "killed") this.#kill(environment);
    else for (const { notices } of environment.invocations) this.#showAgain(notices);
    return true;
  }

  /** New environments take over; the old ones finish what they have. */
  deploy(): void {
    for (const { invocations, process } of this.#environments) {
      if (invocations.size === 0) this.#options.world.kill(process);
    }
    this.#environments = this.#environments.filter(({ invocations }) => invocations.size > 0);
  }

  calm(): void {
    for (const { process } of this.#environments) process.isFrozen = false;
  }

  #environment(): IngestEnvironment {
    const { world, pipeline } = this.#options;
    const { random } = world;
    const busy = this.#environments.filter(({ invocations }) => invocations.size > 0);
    if (busy.length > 0 && world.strikes("two requests in one environment")) {
      return random.pick(busy);
    }
    const idle = this.#environments.filter(({ invocations }) => invocations.size === 0);
    if (idle.length > 0 && random.unit() < 0.8) return random.pick(idle);
    const environment = this.#newEnvironment(pipeline);
    this.#environments.push(environment);
    return environment;
  }

  #newEnvironment(pipeline: Pipeline): IngestEnvironment {
    const { world, stores, references, recordsMax, bounds } = this.#options;
    const process = world.startProcess("ingest");
    const handle = makeIngest({
      pipeline,
      references,
      env: { MILLPOND_BUCKET: INCOMING_BUCKET, MILLPOND_PREFIX: this.#prefix },
      stores: { ...stores.of(process), incoming: this.#bucket.of(process) },
      write: () => undefined,
      metrics: { write: () => undefined },
      sliceRecordsMax: recordsMax,
      bounds: bounds(),
    });
    return { process, handle, invocations: new Set() };
  }

  async #invoke(invocation: IngestInvocation): Promise<void> {
    const { world } = this.#options;
    const { environment, notices } = invocation;
    const { process, handle, invocations } = environment;
    const remainingMs = world.strikes("ingest out of time") ? SHORT_MS : REMAINING_MS;
    invocations.add(invocation);
    process.isFrozen = false;
    const keys = notices.map(({ object }) => object.key);
    world.trace(`${process.name} is notified of ${keys.join(" ")}`);
    const context = { getRemainingTimeInMillis: () => remainingMs };
    await world.enter(process, () => {
      handle(this.#bucket.eventOf(keys), context).then(
        (results) => {
          this.#end(invocation, JSON.stringify(results));
          this.#answered(invocation, results);
        },
        (error: unknown) => {
          const failure = failureOf(error);
          this.#end(invocation, failure.message);
          this.violation ??= unexplained(process.name, failure, new Set(invocation.mustFail));
        },
      );
    });
  }

  #end(invocation: IngestInvocation, how: string): void {
    const { process, invocations } = invocation.environment;
    this.#options.world.trace(`${process.name} ends: ${how}`);
    invocations.delete(invocation);
    process.isFrozen = invocations.size === 0;
    if (invocation.mustFail.length > 0) return;
    this.#showAgain(invocation.notices);
  }

  #showAgain(notices: readonly Notice[]): void {
    for (const notice of notices) notice.isBusy = false;
  }

  /** Each object was taken whole, by this invocation or another one, and that is remembered. */
  #answered({ notices, mustFail }: IngestInvocation, results: readonly IngestedObject[]): void {
    if (mustFail.length > 0) {
      this.#violated(`an ingest took what it must refuse (${mustFail})`);
      return;
    }
    const ingested = this.#ingested();
    for (const notice of notices) {
      const { key } = notice.object;
      const found = results.find((result) => result.key === this.#prefix + key)?.outcome.kind;
      if (found !== "ingested" && found !== "already") this.#violated(`${key} was ${found}`);
      if (!ingested.has(key)) this.#violated(`${key} was answered for, and not remembered`);
      notice.isDone = true;
      // As somebody would who wants to keep the bucket tidy.
      const { world } = this.#options;
      if (world.strikes("object removed once ingested")) this.#bucket.remove(key);
    }
  }

  /** Objects that are entered as finished. */
  #ingested(): Set<unknown> {
    const { stores, pipeline } = this.#options;
    const ids = stores.ids(`${pipeline.definition.name}/ingested/`);
    return new Set(ids.map((id) => stores.item(id)?.attributes.object));
  }

  #kill(environment: IngestEnvironment): void {
    this.#options.world.kill(environment.process);
    for (const invocation of [...environment.invocations]) this.#end(invocation, "killed");
    this.#environments = this.#environments.filter((other) => other !== environment);
  }

  async #deliverToChanged(): Promise<void> {
    const { world, stores, changed } = this.#options;
    const notice = world.random.pick(this.#notices);
    const { name } = changed.definition;
    const isKnown = stores.item(partitionId(name, notice.object.stream, INGEST_PARTITION)) !== null;
    if (!isKnown) return;
    const environment = this.#newEnvironment(changed);
    this.#environments.push(environment);
    await this.#invoke({ environment, notices: [notice], mustFail: ["OUTPUT"] });
    this.#environments = this.#environments.filter((other) => other !== environment);
  }

  #violated(what: string): void {
    this.violation ??= new Violation(what);
  }
}
