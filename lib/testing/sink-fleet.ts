/**
 * The sink's invocations in a simulated world: woken by the state table's stream, by ticks and on
 * demand; late, out of turn, two at once, killed.
 */
import type { PipelineRuntime } from "../handlers/pipeline-runtime.js";
import { type SinkHandler, sinkHandler } from "../handlers/sink.js";
import type { StepBounds } from "../runtime/backlog.js";
import type { RunSinks } from "../runtime/run-sinks.js";
import { type RoundsReport, SinkRounds } from "../runtime/sink-rounds.js";
import { countFault, Violation } from "./faults.js";
import { failureOf, unexplained } from "./judge.js";
import type { SimulatedStores } from "./simulated-stores.js";
import type { Interruption, SimulatedProcess, World } from "./world.js";

const ENVIRONMENTS_MAX = 3;
const REMAINING_MS = 600_000;
/** As the mapping is deployed: a batch is tried twice, then a later one or the tick does. */
const NEWS_ATTEMPTS_MAX = 2;

interface SinkEnvironment {
  readonly process: SimulatedProcess;
  readonly handle: SinkHandler;
  readonly invocations: Set<SinkInvocation>;
}

interface SinkInvocation {
  readonly call: SinkCall;
  /** Codes that it has to fail with; none for the pipeline's own definition. */
  readonly mustFail: readonly string[];
}

/** Changes `[from, to)` of the checkpoints, as the state table's stream tells of them. */
interface News {
  readonly from: number;
  readonly to: number;
  readonly attempts: number;
}

type SinkCall =
  | { readonly kind: "tick" }
  | { readonly kind: "flush" }
  | { readonly kind: "news"; readonly news: News };

export interface SinkFleetOptions {
  readonly world: World;
  readonly stores: SimulatedStores;
  readonly runtime: PipelineRuntime;
  readonly changed: PipelineRuntime;
  /** The sinks as a process sees them. */
  readonly sinksOf: (process: SimulatedProcess) => RunSinks;
  readonly step: StepBounds;
}

export class SinkFleet {
  violation: Violation | null = null;
  /** Of calls that ended as they should. */
  done = 0;
  readonly #options: SinkFleetOptions;
  #environments: SinkEnvironment[] = [];
  #newsFrom = 0;
  /** To be tried again. */
  #failedNews: News[] = [];
  /** Changes before it may have been told to nobody. */
  #lostTo = 0;

  constructor(options: SinkFleetOptions) {
    this.#options = options;
  }

  /** But for invocations that are held up. */
  get isIdle(): boolean {
    return this.#environments.every(
      ({ process, invocations }) => process.isHeld || invocations.size === 0,
    );
  }

  /** Changes wait to be told. */
  get hasNews(): boolean {
    return this.#failedNews.length > 0 || this.#newsFrom < this.#options.stores.changes.length;
  }

  /** Whether each change from this one on was told to a sink that then got done. */
  hasHeardFrom(change: number): boolean {
    return !this.hasNews && change >= this.#lostTo;
  }

  /** Left out while another one is at work, but for the odds of two. */
  async wake(kind: SinkCall["kind"]): Promise<void> {
    const { world } = this.#options;
    if (!this.isIdle && !world.strikes("two sinks at once")) return;
    const environment = this.#environment();
    if (environment === null) return;
    if (kind !== "news") return this.#run(environment, { call: { kind }, mustFail: [] });
    if (!this.hasNews) return;
    const news = this.#takeNews();
    if (world.strikes("wake-up of the sink lost")) this.#lose(news);
    else await this.#run(environment, { call: { kind, news }, mustFail: [] });
  }

  async strike(): Promise<void> {
    const { world, stores, runtime } = this.#options;
    const running = this.#environments.filter(({ invocations }) => invocations.size > 0);
    if (running.length > 0 && world.strikes("sink killed")) this.#kill(world.random.pick(running));
    if (world.strikes("same definition deployed")) {
      for (const environment of this.#environments) {
        if (environment.invocations.size === 0) this.#kill(environment);
      }
    }
    // Before anything was committed there is nothing to tell it by.
    const isKnown = stores.ids(`${runtime.definition.name}/partitions/`).length > 0;
    if (isKnown && world.strikes("changed definition deployed")) {
      const environment = this.#newEnvironment(this.#options.changed);
      await this.#run(environment, { call: { kind: "flush" }, mustFail: ["OUTPUT"] });
      this.#environments = this.#environments.filter((other) => other !== environment);
    }
    if (world.strikes("clock jumped") && this.#environments.length > 0) {
      world.random.pick(this.#environments).process.skewMs +=
        world.random.below(1_200_000) - 600_000;
    }
  }

  /** Another one is woken; false for a process that is no sink. */
  async interrupted(process: SimulatedProcess, how: Interruption["how"]): Promise<boolean> {
    const environment = this.#environments.find((own) => own.process === process);
    if (environment === undefined) return false;
    if (how === "killed") this.#kill(environment);
    await this.wake("flush");
    return true;
  }

  calm(): void {
    for (const { process } of this.#environments) process.isFrozen = false;
  }

  /** An idle one, a new one, or one at work, whose requests take turns. */
  #environment(): SinkEnvironment | null {
    const { world, runtime } = this.#options;
    const busy = this.#environments.filter(({ invocations }) => invocations.size > 0);
    if (busy.length > 0 && world.strikes("two requests in one environment")) {
      return world.random.pick(busy);
    }
    const idle = this.#environments.filter(({ invocations }) => invocations.size === 0);
    const mayBeNew = this.#environments.length < ENVIRONMENTS_MAX;
    const isNew = idle.length === 0 || (mayBeNew && world.random.unit() < 0.1);
    if (isNew) return mayBeNew ? this.#newEnvironment(runtime) : null;
    return world.random.pick(idle);
  }

  #newEnvironment(runtime: PipelineRuntime): SinkEnvironment {
    const { world, stores, step } = this.#options;
    const process = world.startProcess("sink");
    const sinks = this.#options.sinksOf(process);
    const handle = sinkHandler({
      pipeline: runtime.definition.name,
      metrics: { write: () => undefined },
      open: async () => new SinkRounds({ ...runtime, ...stores.of(process), sinks, step }),
    });
    const environment = { process, handle, invocations: new Set<SinkInvocation>() };
    this.#environments.push(environment);
    return environment;
  }

  async #run(environment: SinkEnvironment, invocation: SinkInvocation): Promise<void> {
    const { world } = this.#options;
    const { process, handle, invocations } = environment;
    const { call } = invocation;
    const remainingMs = world.strikes("sink out of time") ? 5_000 : REMAINING_MS;
    invocations.add(invocation);
    process.isAtWork = true;
    process.isFrozen = false;
    world.trace(`${process.name} is woken ${JSON.stringify(call)}`);
    const context = { getRemainingTimeInMillis: () => remainingMs };
    await world.enter(process, () => {
      handle(this.#eventOf(call), context).then(
        (report) => {
          this.#end(environment, invocation, report?.outcome ?? "nothing");
          this.#answered(invocation, report);
        },
        (error: unknown) => {
          const failure = failureOf(error);
          this.#end(environment, invocation, `${failure.code} ${failure.message}`);
          const expected = new Set(invocation.mustFail);
          this.violation ??= unexplained(process.name, failure, expected);
          if (call.kind === "news") this.#failed(call.news);
        },
      );
    });
  }

  #end(environment: SinkEnvironment, invocation: SinkInvocation, how: string): void {
    const { process, invocations } = environment;
    this.#options.world.trace(`${process.name} ends: ${how}`);
    invocations.delete(invocation);
    process.isAtWork = invocations.size > 0;
    process.isFrozen = invocations.size === 0;
  }

  #answered({ call, mustFail }: SinkInvocation, report: RoundsReport | null): void {
    const { world } = this.#options;
    if (mustFail.length > 0) {
      this.violation ??= new Violation(`a sink took what it must refuse (${mustFail})`);
    }
    const isOfPartition = call.kind !== "news" || this.#tellsOfPartition(call.news);
    if ((report === null) === isOfPartition) {
      const found = report === null ? "slept on" : "was woken by";
      this.violation ??= new Violation(`a sink ${found} ${JSON.stringify(call)}`);
    }
    if (report === null) countFault(world.faults, "sink woken for nothing");
    if (report?.outcome === "yielded") countFault(world.faults, "sink gave way to another");
    if (report?.outcome === "done") this.done += 1;
    // What is left then is for the tick.
    else if (report !== null && call.kind === "news") this.#lose(call.news);
  }

  #takeNews(): News {
    const { world, stores } = this.#options;
    const again = this.#failedNews.shift();
    if (again !== undefined) return again;
    const from = this.#newsFrom;
    const waiting = stores.changes.length - from;
    const count = world.random.unit() < 0.5 ? waiting : 1 + world.random.below(waiting);
    this.#newsFrom = from + count;
    return { from, to: this.#newsFrom, attempts: 1 };
  }

  #failed(news: News): void {
    if (news.attempts >= NEWS_ATTEMPTS_MAX) this.#lose(news);
    else this.#failedNews.push({ ...news, attempts: news.attempts + 1 });
  }

  #lose({ to }: News): void {
    this.#lostTo = Math.max(this.#lostTo, to);
  }

  #tellsOfPartition({ from, to }: News): boolean {
    const { stores, runtime } = this.#options;
    const prefix = `${runtime.definition.name}/partitions/`;
    return stores.changes.slice(from, to).some((id) => id.startsWith(prefix));
  }

  /** What Lambda hands over: keys are how `DynamoDbCheckpointStore` divides an id. */
  #eventOf(call: SinkCall): unknown {
    if (call.kind === "flush") return { flush: true };
    if (call.kind === "tick") return { "detail-type": "Scheduled Event", detail: {} };
    const { from, to } = call.news;
    const records = this.#options.stores.changes.slice(from, to).map((id) => {
      const [pipeline = "", ...rest] = id.split("/");
      const Keys = { pipeline: { S: pipeline }, name: { S: rest.join("/") } };
      return { eventName: "MODIFY", eventSource: "aws:dynamodb", dynamodb: { Keys } };
    });
    return { Records: records };
  }

  #kill(environment: SinkEnvironment): void {
    this.#options.world.kill(environment.process);
    for (const { call } of environment.invocations) {
      if (call.kind === "news") this.#failed(call.news);
    }
    this.#environments = this.#environments.filter((other) => other !== environment);
  }
}
