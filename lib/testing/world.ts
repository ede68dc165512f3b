/**
 * A world in one thread: a virtual clock, simulated processes, and a scheduler that owns every call
 * they make to the outside. Which call goes on next, and how it ends, is drawn from one seed, so
 * that a run can be repeated byte for byte. What the calls do is left to the stores.
 */
import { nextTick } from "node:process";
import { setTimeout } from "node:timers/promises";
import { Random } from "../sources/simulate/random.js";
import {
  countFault,
  type DrawnKind,
  type FaultCounts,
  type FaultOdds,
  NO_FAULTS,
  SimulatedFault,
  Violation,
} from "./faults.js";

/** Of a stalled call: at most so many steps of the world. */
const STALL_STEPS_MAX = 400;
const DOWN_STEPS_MAX = 30;
const LATENCY_MS_MAX = 40;

/** A process: what a Lambda environment is. Killed, nothing of it goes on. */
export class SimulatedProcess {
  readonly name: string;
  isAlive = true;
  /** Checkpoints it has looked at since it was last thawed. */
  readonly looked = new Set<string>();
  /** Held up in the middle of its work: nothing of it goes on until it is released. */
  isHeld = false;
  #isFrozen = false;
  /** It works, with DuckDB for example: it goes on until it calls to the outside, or is through. */
  isAtWork = false;
  /** Its clock less the world's. */
  skewMs: number;

  constructor(name: string, skewMs: number) {
    this.name = name;
    this.skewMs = skewMs;
  }

  /** Between invocations, nothing goes on either; what it had asked for may be answered later. */
  get isFrozen(): boolean {
    return this.#isFrozen;
  }

  set isFrozen(isFrozen: boolean) {
    if (this.#isFrozen && !isFrozen) this.looked.clear();
    this.#isFrozen = isFrozen;
  }
}

export interface CallOptions<T> {
  /** For traces. */
  readonly what: string;
  readonly isWrite: boolean;
  readonly apply: () => T | Promise<T>;
}

interface Call {
  readonly number: number;
  readonly process: SimulatedProcess;
  readonly what: string;
  readonly isWrite: boolean;
  readonly apply: () => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  /** Not before this step of the world. */
  fromStep: number;
  isApplied: boolean;
  reply: unknown;
  /** What it failed with, where the process was interrupted before it heard of it. */
  error?: unknown;
}

/** At one call of a run its process is stopped: killed, or held up until others are through. */
export interface Interruption {
  /** Its number; a run's first call is 1. With 0 it is none. */
  readonly call: number;
  /** The process does not hear of it. `late`: a write is applied once the process is dead. */
  readonly when: "before" | "late" | "after";
  readonly how: "killed" | "held";
}

/** A write that arrives although its caller has given up, or is dead. */
interface LateWrite {
  readonly what: string;
  readonly apply: () => unknown;
}

export interface WorldOptions {
  readonly seed: number;
  readonly startMs: number;
  readonly odds: FaultOdds;
  readonly trace?: (line: string) => void;
  readonly interruption?: Interruption;
}

/**
 * @example
 * const world = new World({ seed: 1, startMs: 0, odds: NO_FAULTS });
 * const process = world.startProcess("processor");
 * await world.enter(process, () => void work(stores.of(process)));
 * while (await world.step());
 */
export class World {
  readonly random: Random;
  readonly faults: FaultCounts = new Map();
  readonly startMs: number;
  odds: FaultOdds;
  nowMs: number;
  steps = 0;
  /** Made so far. */
  calls = 0;
  /** Whose call is the one of the interruption, until someone has seen to it. */
  interrupted: SimulatedProcess | null = null;
  readonly interruption: Interruption | null;
  readonly #trace: ((line: string) => void) | undefined;
  #calls: Call[] = [];
  #late: LateWrite[] = [];
  #current: SimulatedProcess | null = null;
  #downUntilStep = 0;
  #processes = 0;

  constructor({ seed, startMs, odds, trace, interruption }: WorldOptions) {
    this.random = new Random(seed);
    this.startMs = startMs;
    this.nowMs = startMs;
    this.odds = odds;
    this.#trace = trace;
    this.interruption = interruption ?? null;
  }

  /** Whether a fault happens here and now; counted if so. */
  strikes(kind: DrawnKind): boolean {
    const strikes = this.mayStrike(kind);
    if (strikes) countFault(this.faults, kind);
    return strikes;
  }

  /** The same, for who counts it himself once it has happened. */
  mayStrike(kind: DrawnKind): boolean {
    const odds = this.odds.get(kind);
    return odds !== undefined && this.random.unit() < odds;
  }

  /** From here on nothing fails any more; what was stalled goes on. */
  calm(): void {
    this.odds = NO_FAULTS;
    this.#downUntilStep = 0;
    for (const call of this.#calls) call.fromStep = 0;
  }

  trace(line: string): void {
    const ms = Math.round(this.nowMs - this.startMs);
    this.#trace?.(`${String(this.steps).padStart(5)} ${ms} ms ${line}`.trimEnd());
  }

  startProcess(role: string): SimulatedProcess {
    const skewMs = this.strikes("clock skewed") ? this.random.below(600_000) - 300_000 : 0;
    return new SimulatedProcess(`${role} ${++this.#processes}`, skewMs);
  }

  /** Writes that were on their way may arrive all the same. */
  kill(process: SimulatedProcess): void {
    this.trace(`${process.name} is killed`);
    process.isAlive = false;
    const own = this.#calls.filter((call) => call.process === process);
    this.#calls = this.#calls.filter((call) => call.process !== process);
    for (const { number, isWrite, isApplied, what, apply } of own) {
      if (isWrite && !isApplied && this.#arrivesLate(number)) this.#late.push({ what, apply });
    }
  }

  #arrivesLate(number: number): boolean {
    const { interruption } = this;
    if (interruption === null) return this.random.unit() < 0.3;
    return interruption.call === number && interruption.when === "late";
  }

  /** What a process sees as the time. */
  processNowMs(): number {
    return Math.floor(this.nowMs + (this.#current?.skewMs ?? 0));
  }

  /** A call to the outside: it waits until the scheduler lets it happen. */
  call<T>(process: SimulatedProcess, { what, isWrite, apply }: CallOptions<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (!process.isAlive) return;
      const number = ++this.calls;
      this.#interrupt(process, number, "before");
      this.#interrupt(process, number, "late");
      const fromStep = this.strikes("call stalled")
        ? this.steps + 1 + this.random.below(STALL_STEPS_MAX)
        : 0;
      this.#calls.push({
        number,
        process,
        what,
        isWrite,
        apply,
        // The scheduler gives back what `apply` gave, so the type is right.
        resolve: resolve as (value: unknown) => void,
        reject,
        fromStep,
        isApplied: false,
        reply: undefined,
      });
    });
  }

  /** Runs `work` as the process, up to where all of it waits for the scheduler. */
  async enter(process: SimulatedProcess, work: () => void): Promise<void> {
    this.#current = process;
    work();
    // All promises that can go on have done so before the loop turns.
    await new Promise<void>((resolve) => nextTick(resolve));
    while (process.isAtWork && !this.#calls.some((call) => call.process === process)) {
      await setTimeout(1);
    }
    this.#current = null;
  }

  /** Lets one thing happen; false when nothing can. */
  async step(): Promise<boolean> {
    this.steps++;
    if (this.#late.length > 0 && this.random.unit() < 0.05) return await this.#applyLate();
    const waiting = this.#calls.filter(({ process }) => !process.isFrozen && !process.isHeld);
    const ready = waiting.filter(({ fromStep }) => fromStep <= this.steps);
    if (ready.length > 0) {
      await this.#advance(this.random.pick(ready));
      return true;
    }
    if (waiting.length > 0) {
      this.random.pick(waiting).fromStep = 0;
      return true;
    }
    return this.#late.length > 0 && (await this.#applyLate());
  }

  async #applyLate(): Promise<boolean> {
    const [write] = this.#late.splice(this.random.below(this.#late.length), 1);
    this.trace(`late: ${write!.what}`);
    try {
      await write!.apply();
    } catch (error) {
      // Nobody hears of it any more.
      if (error instanceof Violation) throw error;
    }
    return true;
  }

  async #advance(call: Call): Promise<void> {
    this.nowMs += this.random.unit() * LATENCY_MS_MAX;
    if (call.isApplied) return this.#answer(call, () => call.resolve(call.reply), "reply");
    if (call.error !== undefined) return this.#answer(call, () => call.reject(call.error), "fails");
    const isDown = this.steps < this.#downUntilStep;
    if (!isDown && this.strikes("store down for a while")) {
      this.#downUntilStep = this.steps + this.random.below(DOWN_STEPS_MAX);
    }
    if (isDown || this.strikes("store call failed")) {
      return this.#answer(call, () => call.reject(new SimulatedFault("unavailable")), "fails");
    }
    if (call.isWrite && this.strikes("write applied after the caller gave up")) {
      this.#late.push(call);
      return this.#answer(call, () => call.reject(new SimulatedFault("timed out")), "times out");
    }
    try {
      call.reply = await call.apply();
    } catch (error) {
      if (error instanceof Violation) throw error;
      if (this.#interrupt(call.process, call.number, "after")) {
        call.error = error;
        return;
      }
      return this.#answer(call, () => call.reject(error), "fails in earnest");
    }
    if (this.#interrupt(call.process, call.number, "after")) {
      call.isApplied = true;
      return;
    }
    if (call.isWrite && this.strikes("write applied, reply lost")) {
      const fault = new SimulatedFault("the reply was lost");
      return this.#answer(call, () => call.reject(fault), "is applied, its reply lost");
    }
    if (call.isWrite && this.strikes("write repeated by the client")) {
      call.reply = await call.apply();
    }
    if (this.strikes("reply late")) {
      call.isApplied = true;
      this.trace(`${call.process.name}: ${call.what} is applied`);
      return;
    }
    return this.#answer(call, () => call.resolve(call.reply), "");
  }

  #interrupt(process: SimulatedProcess, number: number, when: Interruption["when"]): boolean {
    const { interruption } = this;
    if (interruption?.call !== number || interruption.when !== when) return false;
    this.trace(`${process.name} is ${interruption.how} ${when} its call`);
    process.isHeld = true;
    this.interrupted = process;
    return true;
  }

  #answer(call: Call, settle: () => void, how: string): Promise<void> {
    this.trace(`${call.process.name}: ${call.what} ${how}`);
    this.#calls.splice(this.#calls.indexOf(call), 1);
    return this.enter(call.process, settle);
  }
}

/**
 * Runs `work` with the world's clock and random numbers in place of the machine's: time and ids are
 * then functions of the seed. One at a time in a thread.
 */
export async function inWorld<T>(world: World, work: () => Promise<T>): Promise<T> {
  const { now } = Date;
  const { getRandomValues, randomUUID } = crypto;
  const { random } = Math;
  // A test with fake timers has one of its own.
  const ownNow = Object.getOwnPropertyDescriptor(performance, "now");
  Date.now = () => world.processNowMs();
  // It goes neither back nor by the wall.
  performance.now = () => world.nowMs - world.startMs;
  Math.random = () => world.random.unit();
  crypto.getRandomValues = (array) => {
    if (array === null) return array;
    const { buffer, byteOffset, byteLength } = array;
    const bytes = new Uint8Array(buffer, byteOffset, byteLength);
    for (let i = 0; i < bytes.length; i++) bytes[i] = world.random.bits() & 255;
    return array;
  };
  const hex = () => world.random.bits().toString(16).padStart(8, "0");
  const pair = () => `${hex().slice(0, 4)}-${hex().slice(0, 4)}` as const;
  crypto.randomUUID = () => `${hex()}-${pair()}-${hex().slice(4)}-${hex()}${hex().slice(4)}`;
  try {
    return await work();
  } finally {
    crypto.randomUUID = randomUUID;
    Date.now = now;
    Math.random = random;
    crypto.getRandomValues = getRandomValues;
    if (ownNow === undefined) Reflect.deleteProperty(performance, "now");
    else Object.defineProperty(performance, "now", ownNow);
  }
}
