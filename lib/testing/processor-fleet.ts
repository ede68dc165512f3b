/**
 * The event source mapping and the processors it invokes, in a simulated world: environments that
 * are made, reused, frozen, replaced and killed; batches that come again; zombies.
 */
import type { CheckpointItem } from "../commit/ports.js";
import type { Pipeline } from "../define/definition.js";
import { makeProcessor, type ProcessorHandler } from "../handlers/processor.js";
import type { PartitionBounds } from "../runtime/partition-writer.js";
import type { LoadedReferences } from "../runtime/references.js";
import { partitionId } from "../runtime/runner.js";
import { countFault, LOSS_KIND, Violation } from "./faults.js";
import { type Failure, failureOf, unexplained } from "./judge.js";
import type { SimulatedStores } from "./simulated-stores.js";
import { type Delivery, kafkaEvent, type PartitionFeed } from "./simulated-topic.js";
import type { Interruption, SimulatedProcess, World } from "./world.js";

const INVOCATIONS_MAX = 6;
const REMAINING_MS = 60_000;

/** A Lambda environment with a handler in it. */
interface Environment {
  readonly process: SimulatedProcess;
  readonly handle: ProcessorHandler;
  readonly invocations: Set<Invocation>;
  /** What the handler has logged of failures since it was last looked at. */
  readonly failures: Failure[];
  /** Codes that some invocation here had to fail with. */
  readonly expected: Set<string>;
}

interface Invocation {
  readonly environment: Environment;
  readonly deliveries: readonly Delivery[];
  /** The poller waits no longer: what it answers is not heard. */
  isAbandoned: boolean;
  /** Codes that it has to fail with; none for records that are to be taken. */
  readonly mustFail: readonly string[];
  /** Codes that it may fail with besides. */
  readonly mayFail: Set<string>;
}

export interface FleetOptions {
  readonly world: World;
  readonly stores: SimulatedStores;
  readonly pipeline: Pipeline;
  /** Of the same name, with another definition. */
  readonly changed: Pipeline;
  readonly references: LoadedReferences;
  readonly feeds: readonly PartitionFeed[];
  readonly partialBatch: boolean;
  /** Records of a partition in one invocation, at most. */
  readonly recordsMax: number;
  /** Of an environment that is made now. */
  readonly bounds: () => PartitionBounds;
}

export class ProcessorFleet {
  violation: Violation | null = null;
  readonly #options: FleetOptions;
  #environments: Environment[] = [];
  readonly #invocations = new Set<Invocation>();

  constructor(options: FleetOptions) {
    this.#options = options;
  }

  /** But for invocations that are held up. */
  get isIdle(): boolean {
    return [...this.#invocations].every(({ environment }) => environment.process.isHeld);
  }

  /** Nothing is left to deliver. */
  get isDone(): boolean {
    return this.#options.feeds.every(({ isDone, isBusy }) => isDone && !isBusy);
  }

  /** Delivers a batch of one or more partitions; false when there is none. */
  async deliver(): Promise<boolean> {
    const { world, recordsMax } = this.#options;
    const { random } = world;
    const open = this.#options.feeds.filter(
      (feed) => feed.isThere && !feed.isDone && !feed.isBusy && feed.quietUntilStep <= world.steps,
    );
    if (open.length === 0 || this.#invocations.size >= INVOCATIONS_MAX) return false;
    const count = 1 + random.below(Math.min(open.length, 3));
    const chosen = random.shuffle(open).slice(0, count);
    const deliveries = chosen.map((feed) => feed.take(recordsMax, random));
    const records = new Map(
      deliveries.map(({ feed, from, to }) => [feed.name, feed.envelopesOf(from, to)]),
    );
    await this.#invoke(this.#environment(), kafkaEvent(records), deliveries, []);
    return true;
  }

  /** What may befall processors and their mapping, each by its odds. */
  async strike(): Promise<void> {
    const { world } = this.#options;
    if (world.strikes("processor killed")) this.#kill(this.#anyEnvironment());
    if (world.strikes("processor timed out")) this.#kill(this.#busyEnvironment());
    if (world.strikes("processor out of memory")) this.#kill(this.#busyEnvironment());
    if (world.strikes("two invocations on one partition")) this.#abandon();
    if (world.strikes("rebalance to an older offset")) this.#rebalance();
    if (world.strikes("retention cut what was read")) this.#retain();
    if (world.mayStrike(LOSS_KIND)) this.#removeUnread();
    if (world.strikes("compaction took what was read")) {
      world.random.pick(this.#options.feeds).compact(world.random);
    }
    if (world.strikes("same definition deployed")) this.deploy();
    if (world.strikes("topic made anew")) await this.#deliverOtherTopic();
    if (world.strikes("changed definition deployed")) await this.#deliverToChanged();
    if (world.strikes("clock jumped")) this.#jump();
    if (world.random.unit() < 0.4) {
      const absent = this.#options.feeds.find(({ isThere }) => !isThere);
      if (absent !== undefined) absent.isThere = true;
    }
  }

  /** From here on everything comes, and everyone goes on. */
  calm(): void {
    for (const feed of this.#options.feeds) {
      feed.isThere = true;
      feed.quietUntilStep = 0;
    }
    for (const { process } of this.#environments) process.isFrozen = false;
  }

  /** Its poller no longer waits for it; false for a process that is no processor. */
  interrupted(process: SimulatedProcess, how: Interruption["how"]): boolean {
    const environment = this.#environments.find((own) => own.process === process);
    if (environment === undefined) return false;
    if (how === "killed") this.#kill(environment);
    else for (const invocation of environment.invocations) this.#giveUpOn(invocation);
    return true;
  }

  /** Delivers everything there is once more. */
  redeliverAll(): void {
    for (const feed of this.#options.feeds) feed.position = feed.floor;
  }

  #environment(): Environment {
    const { world } = this.#options;
    const { random } = world;
    const idle = this.#environments.filter(({ invocations }) => invocations.size === 0);
    const busy = this.#environments.filter(({ invocations }) => invocations.size > 0);
    if (busy.length > 0 && world.strikes("two requests in one environment")) {
      return random.pick(busy);
    }
    if (idle.length > 0 && random.unit() < 0.9) return random.pick(idle);
    const environment = this.#newEnvironment(this.#options.pipeline);
    this.#environments.push(environment);
    return environment;
  }

  #newEnvironment(pipeline: Pipeline): Environment {
    const { world, stores, references, partialBatch, bounds } = this.#options;
    const process = world.startProcess("processor");
    const failures: Failure[] = [];
    const handle = makeProcessor({
      pipeline,
      references,
      stores: stores.of(process),
      env: partialBatch ? { MILLPOND_PARTIAL_BATCH: "true" } : {},
      write: (line) => failures.push(loggedFailure(line)),
      metrics: { write: () => undefined },
      bounds: bounds(),
    });
    return { process, handle, invocations: new Set(), failures, expected: new Set() };
  }

  async #invoke(
    environment: Environment,
    event: unknown,
    deliveries: readonly Delivery[],
    mustFail: readonly string[],
  ): Promise<void> {
    const { world } = this.#options;
    const mayFail = new Set<string>();
    const invocation = { environment, deliveries, isAbandoned: false, mustFail, mayFail };
    this.#invocations.add(invocation);
    environment.invocations.add(invocation);
    for (const code of mustFail) environment.expected.add(code);
    environment.process.isFrozen = false;
    world.trace(`${environment.process.name} takes ${describe(deliveries)}`);
    const context = { getRemainingTimeInMillis: () => REMAINING_MS };
    await world.enter(environment.process, () => {
      environment.handle(event, context).then(
        (response) => this.#answered(invocation, response),
        (error: unknown) => this.#failed(invocation, error),
      );
    });
  }

  #failed(invocation: Invocation, error: unknown): void {
    const { process } = invocation.environment;
    this.#options.world.trace(`${process.name} fails: ${failureOf(error).message}`);
    this.#judge(invocation, [...invocation.environment.failures, failureOf(error)]);
    if (!this.#end(invocation)) return;
    for (const { feed, to } of invocation.deliveries) {
      const again = this.#options.world.strikes("batch delivered again after failure");
      feed.retryTo = again ? to : null;
    }
  }

  #answered(invocation: Invocation, response: unknown): void {
    const { environment, deliveries, mustFail } = invocation;
    this.#options.world.trace(`${environment.process.name} answers ${JSON.stringify(response)}`);
    this.#judge(invocation, environment.failures);
    const failedAt = reportedOffsets(response);
    if (mustFail.length > 0 && failedAt.size === 0) {
      this.#violated(`${environment.process.name} took what it must refuse (${mustFail})`);
    }
    const isHeard = this.#end(invocation);
    if (!isHeard) {
      countFault(this.#options.world.faults, "processor answered when nobody waited any more");
    }
    for (const delivery of deliveries) {
      const done = this.#doneOf(delivery, failedAt.get(delivery.feed.name));
      if (done > delivery.from) this.#checkDurable(delivery.feed, done);
      if (!isHeard) continue;
      const { feed } = delivery;
      feed.acknowledged = Math.max(feed.acknowledged, done);
      if (this.#options.world.strikes("batch delivered again after success")) continue;
      feed.position = done;
    }
  }

  /** Index behind the last record that is done, as the answer says. */
  #doneOf({ feed, from, to }: Delivery, failedOffset: number | undefined): number {
    if (failedOffset === undefined) return to;
    const { records } = feed.log;
    for (let index = from; index < to; index++) {
      if (records[index]!.offset === failedOffset) return index;
    }
    this.#violated(`offset ${failedOffset} of ${feed.name} was reported, but not delivered`);
    return from;
  }

  /** What was answered for is committed. */
  #checkDurable({ log, name }: PartitionFeed, done: number): void {
    const id = partitionId(this.#options.pipeline.definition.name, log.topic, log.partition);
    const nextOffset = nextOffsetOf(this.#options.stores.item(id));
    const { offset } = log.records[done - 1]!;
    if (nextOffset > offset) return;
    this.#violated(
      `${name}: offset ${offset} was answered for, the checkpoint is at ${nextOffset}`,
    );
  }

  #judge(invocation: Invocation, failures: readonly Failure[]): void {
    const { process, invocations } = invocation.environment;
    // What is logged may be another one's at work here.
    const all = [invocation, ...invocations].flatMap(({ mayFail }) => [...mayFail]);
    const expected = new Set([...invocation.environment.expected, ...all]);
    for (const failure of failures) {
      const violation = unexplained(process.name, failure, expected);
      if (violation !== null) this.violation ??= violation;
      if (failure.code === "LIMIT") {
        countFault(this.#options.world.faults, "records stayed in Kafka at a bound");
      }
    }
    invocation.environment.failures.length = 0;
  }

  /** Whether the mapping still listens. */
  #end(invocation: Invocation): boolean {
    const { environment, deliveries, isAbandoned } = invocation;
    this.#invocations.delete(invocation);
    environment.invocations.delete(invocation);
    if (environment.invocations.size === 0) environment.process.isFrozen = true;
    if (isAbandoned) return false;
    for (const { feed } of deliveries) feed.isBusy = false;
    return true;
  }

  #anyEnvironment(): Environment | undefined {
    if (this.#environments.length === 0) return undefined;
    return this.#options.world.random.pick(this.#environments);
  }

  #busyEnvironment(): Environment | undefined {
    const busy = this.#environments.filter(({ invocations }) => invocations.size > 0);
    return busy.length === 0 ? undefined : this.#options.world.random.pick(busy);
  }

  #kill(environment: Environment | undefined): void {
    if (environment === undefined) return;
    this.#options.world.kill(environment.process);
    for (const invocation of [...environment.invocations]) this.#end(invocation);
    this.#environments = this.#environments.filter((other) => other !== environment);
  }

  /** The poller gives up waiting, or its group gives the partitions to another one. */
  #abandon(): void {
    const { world } = this.#options;
    const heard = [...this.#invocations].filter(({ isAbandoned }) => !isAbandoned);
    if (heard.length > 0) this.#giveUpOn(world.random.pick(heard));
  }

  #giveUpOn(invocation: Invocation): void {
    this.#options.world.trace(`${invocation.environment.process.name} is a zombie`);
    invocation.isAbandoned = true;
    for (const { feed } of invocation.deliveries) feed.isBusy = false;
  }

  #rebalance(): void {
    const { random } = this.#options.world;
    const feed = random.pick(this.#options.feeds);
    if (feed.isBusy) return;
    feed.position = Math.max(feed.floor, feed.position - random.below(40));
    feed.retryTo = null;
  }

  #retain(): void {
    const { random } = this.#options.world;
    const feed = random.pick(this.#options.feeds);
    if (feed.isBusy) return;
    feed.floor = Math.max(feed.floor, random.below(feed.acknowledged + 1));
    feed.position = Math.max(feed.position, feed.floor);
    feed.retryTo = null;
  }

  /** Whoever still has such records comes too late with them if others begin behind them. */
  #removeUnread(): void {
    const { random, faults } = this.#options.world;
    const feed = random.pick(this.#options.feeds);
    if (!feed.removeUnread(random)) return;
    countFault(faults, LOSS_KIND);
    for (const { deliveries, mayFail } of this.#invocations) {
      const hasRemoved = deliveries.some((delivery) => {
        return delivery.feed === feed && delivery.from < feed.floor;
      });
      if (hasRemoved) mayFail.add("INPUT");
    }
  }

  /** New environments take over; the old ones finish what they have. */
  deploy(): void {
    for (const environment of this.#environments) {
      if (environment.invocations.size === 0) this.#options.world.kill(environment.process);
    }
    this.#environments = [];
  }

  #jump(): void {
    const { random } = this.#options.world;
    const environment = this.#anyEnvironment();
    if (environment !== undefined) environment.process.skewMs += random.below(1_200_000) - 600_000;
  }

  /** A partition that has a checkpoint, with its next offset. */
  #known(): { feed: PartitionFeed; nextOffset: number } | null {
    const { world, feeds, pipeline, stores } = this.#options;
    const feed = world.random.pick(feeds);
    const { topic, partition } = feed.log;
    const item = stores.item(partitionId(pipeline.definition.name, topic, partition));
    return item === null ? null : { feed, nextOffset: nextOffsetOf(item) };
  }

  async #deliverOtherTopic(): Promise<void> {
    const known = this.#known();
    if (known === null) return;
    const { feed, nextOffset } = known;
    const { random } = this.#options.world;
    const first = feed.log.records[0]!.offset;
    const from = random.unit() < 0.5 ? 0 : first + random.below(nextOffset - first);
    const envelopes = feed.otherEnvelopes(from, 1 + random.below(Math.min(5, nextOffset - from)));
    const event = kafkaEvent(new Map([[feed.name, envelopes]]));
    await this.#invoke(this.#environment(), event, [], ["INPUT"]);
  }

  async #deliverToChanged(): Promise<void> {
    const known = this.#known();
    if (known === null) return;
    const { log, name } = known.feed;
    const from = this.#options.world.random.below(log.records.length);
    const envelopes = known.feed.envelopesOf(from, log.records.length).slice(0, 5);
    const event = kafkaEvent(new Map([[name, envelopes]]));
    const environment = this.#newEnvironment(this.#options.changed);
    await this.#invoke(environment, event, [], ["OUTPUT"]);
  }

  #violated(what: string): void {
    this.violation ??= new Violation(what);
  }
}

const describe = (deliveries: readonly Delivery[]) =>
  deliveries.map(({ feed, from, to }) => `${feed.name}[${from}, ${to})`).join(" ") || "others";

function nextOffsetOf(item: CheckpointItem | null): number {
  const { nextOffset } = item?.attributes ?? {};
  return typeof nextOffset === "number" ? nextOffset : 0;
}

function loggedFailure(line: string): Failure {
  const { code, message } = JSON.parse(line) as { code?: unknown; message?: unknown };
  return { code: String(code), message: String(message) };
}

/** First failed offset by partition, of a partial batch response. */
function reportedOffsets(response: unknown): Map<string, number> {
  const offsets = new Map<string, number>();
  if (typeof response !== "object" || response === null) return offsets;
  const { batchItemFailures = [] } = response as {
    batchItemFailures?: readonly { itemIdentifier: { partition: string; offset: number } }[];
  };
  for (const { itemIdentifier } of batchItemFailures) {
    offsets.set(itemIdentifier.partition, itemIdentifier.offset);
  }
  return offsets;
}
