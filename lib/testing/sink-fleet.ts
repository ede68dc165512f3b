/** The sink's invocations in a simulated world: late, out of turn, two at once, killed. */
import type { PipelineRuntime } from "../handlers/pipeline-runtime.js";
import type { StepBounds } from "../runtime/backlog.js";
import type { RunSinks } from "../runtime/run-sinks.js";
import { SinkRounds } from "../runtime/sink-rounds.js";
import type { Violation } from "./faults.js";
import { failureOf, unexplained } from "./judge.js";
import type { SimulatedStores } from "./simulated-stores.js";
import type { SimulatedProcess, World } from "./world.js";

const ENVIRONMENTS_MAX = 3;
const REMAINING_MS = 600_000;

interface SinkEnvironment {
  readonly process: SimulatedProcess;
  readonly rounds: SinkRounds;
  isRunning: boolean;
}

export interface SinkFleetOptions {
  readonly world: World;
  readonly stores: SimulatedStores;
  readonly runtime: PipelineRuntime;
  readonly changed: PipelineRuntime;
  /** The sinks as a process sees them. */
  readonly sinksOf: (process: SimulatedProcess) => RunSinks;
  readonly step: StepBounds;
}

export interface SinkCall {
  readonly flush: boolean;
  readonly tick: boolean;
}

export class SinkFleet {
  violation: Violation | null = null;
  /** Of calls that ended as they should. */
  done = 0;
  readonly #options: SinkFleetOptions;
  #environments: SinkEnvironment[] = [];

  constructor(options: SinkFleetOptions) {
    this.#options = options;
  }

  get isIdle(): boolean {
    return this.#environments.every(({ isRunning }) => !isRunning);
  }

  /** An event for the sink; left out while another one is at work, but for the odds of two. */
  async wake(call: SinkCall): Promise<void> {
    const { world } = this.#options;
    if (!this.isIdle && !world.strikes("two sinks at once")) return;
    const idle = this.#environments.filter(({ isRunning }) => !isRunning);
    const mayBeNew = this.#environments.length < ENVIRONMENTS_MAX;
    const isNew = idle.length === 0 || (mayBeNew && world.random.unit() < 0.1);
    if (isNew && !mayBeNew) return;
    const { runtime } = this.#options;
    const environment = isNew ? this.#newEnvironment(runtime) : world.random.pick(idle);
    await this.#run(environment, call, new Set());
  }

  async strike(): Promise<void> {
    const { world } = this.#options;
    const running = this.#environments.filter(({ isRunning }) => isRunning);
    if (running.length > 0 && world.strikes("sink killed")) this.#kill(world.random.pick(running));
    if (world.strikes("same definition deployed")) {
      for (const environment of this.#environments) {
        if (!environment.isRunning) this.#kill(environment);
      }
    }
    if (this.done > 0 && world.strikes("changed definition deployed")) {
      const environment = this.#newEnvironment(this.#options.changed);
      await this.#run(environment, { flush: true, tick: true }, new Set(["OUTPUT"]));
      this.#environments = this.#environments.filter((other) => other !== environment);
    }
    if (world.strikes("clock jumped") && this.#environments.length > 0) {
      world.random.pick(this.#environments).process.skewMs +=
        world.random.below(1_200_000) - 600_000;
    }
  }

  calm(): void {
    for (const { process } of this.#environments) process.isFrozen = false;
  }

  #newEnvironment(runtime: PipelineRuntime): SinkEnvironment {
    const { world, stores, step } = this.#options;
    const process = world.startProcess("sink");
    const sinks = this.#options.sinksOf(process);
    const rounds = new SinkRounds({ ...runtime, ...stores.of(process), sinks, step });
    const environment = { process, rounds, isRunning: false };
    this.#environments.push(environment);
    return environment;
  }

  async #run(
    environment: SinkEnvironment,
    call: SinkCall,
    expected: ReadonlySet<string>,
  ): Promise<void> {
    const { world } = this.#options;
    const { process, rounds } = environment;
    const remainingMs = world.strikes("sink out of time") ? 5_000 : REMAINING_MS;
    environment.isRunning = true;
    process.isAtWork = true;
    process.isFrozen = false;
    world.trace(`${process.name} is woken ${JSON.stringify(call)}`);
    const end = (how: string) => {
      world.trace(`${process.name} ends: ${how}`);
      environment.isRunning = false;
      process.isAtWork = false;
      process.isFrozen = true;
    };
    await world.enter(process, () => {
      rounds.run({ ...call, remainingMs: () => remainingMs }).then(
        ({ outcome }) => {
          if (outcome === "done") this.done += 1;
          end(outcome);
        },
        (error: unknown) => {
          const failure = failureOf(error);
          this.violation ??= unexplained(process.name, failure, expected);
          end(`${failure.code} ${failure.message}`);
        },
      );
    });
  }

  #kill(environment: SinkEnvironment): void {
    this.#options.world.kill(environment.process);
    this.#environments = this.#environments.filter((other) => other !== environment);
  }
}
