/**
 * The fault simulator over a user's own pipeline and records: whatever happens on the way, its
 * tables must be those that batch SQL makes of the records.
 */
import type { Pipeline } from "../define/definition.js";
import { type ErrorCode, MillpondError } from "../errors.js";
import { type LoadedReferences, loadReferences } from "../runtime/references.js";
import { type FaultCounts, type FaultKind, Violation } from "./faults.js";
import { FUZZ_START_MS, type FuzzGenerator, fuzzLogs, shownLog } from "./fuzz-records.js";
import { MapWatch } from "./map-watch.js";
import { runSchedule, simulationCase } from "./schedule.js";
import { checkResult, differencesFromSql, type Truth, truthOf } from "./truth.js";

const SCHEDULES = 100;
/** The truth about a log takes as long as several schedules: so many share one. */
const SCHEDULES_PER_LOG = 50;
const HOUR_MS = 3_600_000;

export interface FuzzOptions {
  /** How many; 100 by default, which takes some seconds. */
  readonly schedules?: number;
  /** Of the first schedule, the next ones count on; 0 by default. */
  readonly seed?: number;
  /** Is told the records and every step: for one schedule that failed. */
  readonly trace?: (line: string) => void;
}

/** What was run; nothing in it failed. */
export interface FuzzReport {
  readonly schedules: number;
  /** In all logs; each is run through 50 schedules. */
  readonly records: number;
  /** By table, what these records lead to, `late` and `dead_letters` too. */
  readonly rows: Readonly<Record<string, number>>;
  readonly steps: number;
  readonly simulatedHours: number;
  /** How often each kind of fault came. */
  readonly faults: Readonly<Partial<Record<FaultKind, number>>>;
  /**
   * Schedules in which a partition was away for longer than a table's `reviseFor`: what they ended
   * with depends on time, and was held against nothing.
   */
  readonly beyondRevise: number;
}

/** One at a time: a simulated world has the thread's clock and random numbers. */
let last: Promise<unknown> = Promise.resolve();

/**
 * Runs the pipeline through simulated schedules, each drawn from its seed: batches cut anywhere and
 * delivered again, processes killed, stores that fail, replies that are lost, clocks that jump.
 * Each must end with the very rows of an undisturbed run, and that one with those of batch SQL. Of
 * files only reference tables' are read; declared sinks are simulated.
 *
 * @throws MillpondError DEFINITION when a `map` fails or depends on more than its row, USAGE when
 *   the generator's records cannot be used, INVARIANT when results are wrong; each with its seed.
 * @example
 * await fuzzPipeline(activity, (random) =>
 *   Array.from({ length: 20 }, (_, i) => ({
 *     stream: "user_activity",
 *     partition: random.below(2),
 *     value: { event_id: `${i}`, page: random.pick(["/", "/a"]), … },
 *   })),
 * );
 */
export function fuzzPipeline(
  pipeline: Pipeline,
  generator: FuzzGenerator,
  options: FuzzOptions = {},
): Promise<FuzzReport> {
  const { schedules = SCHEDULES, seed = 0, trace } = options;
  const call = { stack: "" };
  Error.captureStackTrace(call, fuzzPipeline);
  const run = last.then(async () => {
    refuseNegative({ schedules, seed });
    const references = await loadReferences(pipeline);
    const fuzz = new Fuzz(pipeline, generator, references, trace);
    for (let i = 0; i < schedules; i++) await fuzz.run(seed + i);
    return fuzz.report();
  });
  last = run.catch(() => undefined);
  return run.catch((error: unknown) => {
    // A test's report shows the line that the stack names: here the caller's, not one of ours.
    if (error instanceof Error) error.stack = `${error}\n${framesOf(call)}`;
    throw error;
  });
}

/** Behind the line that names the error. */
const framesOf = ({ stack }: { readonly stack: string }) => stack.split("\n").slice(1).join("\n");

function refuseNegative(numbers: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(numbers)) {
    if (Number.isSafeInteger(value) && value >= 0) continue;
    throw new MillpondError("USAGE", `${name} is ${value}; give a whole number, 0 or more`);
  }
}

interface StreamSums {
  records: number;
  deadLetters: number;
  /** Of the last dead letter. */
  detail: string;
}

class Fuzz {
  readonly #watch: MapWatch;
  readonly #generator: FuzzGenerator;
  readonly #references: LoadedReferences;
  readonly #trace: ((line: string) => void) | undefined;
  readonly #sums = { schedules: 0, records: 0, steps: 0, simulatedHours: 0, beyondRevise: 0 };
  readonly #faults: FaultCounts = new Map();
  readonly #rows = new Map<string, number>();
  readonly #streams = new Map<string, StreamSums>();
  #log: { readonly number: number; readonly truth: Truth } | null = null;

  constructor(
    pipeline: Pipeline,
    generator: FuzzGenerator,
    references: LoadedReferences,
    trace: FuzzOptions["trace"],
  ) {
    this.#watch = new MapWatch(pipeline);
    this.#generator = generator;
    this.#references = references;
    this.#trace = trace;
  }

  async run(seed: number): Promise<void> {
    try {
      await this.#runSeed(seed);
      if (this.#watch.fault !== null) throw this.#watch.fault;
    } catch (error) {
      throw failure(this.#watch.pipeline.definition.name, seed, this.#watch.fault ?? error);
    }
  }

  report(): FuzzReport {
    for (const [stream, { records, deadLetters, detail }] of this.#streams) {
      if (deadLetters < records) continue;
      throw new MillpondError(
        "USAGE",
        `all ${records} records that the generator gave of stream "${stream}" are dead letters, ` +
          `so that nothing of it was tested; the last one: ${detail}`,
      );
    }
    return {
      ...this.#sums,
      rows: Object.fromEntries(this.#rows),
      faults: Object.fromEntries(this.#faults),
    };
  }

  async #runSeed(seed: number): Promise<void> {
    const truth = await this.#truth(Math.floor(seed / SCHEDULES_PER_LOG));
    const trace = this.#trace;
    const options = trace === undefined ? { seed } : { seed, trace };
    const result = await runSchedule(truth.prepared, options);
    const sums = this.#sums;
    sums.schedules += 1;
    sums.steps += result.steps;
    sums.simulatedHours += result.simulatedMs / HOUR_MS;
    if (result.beyondReviseEvents > 0) sums.beyondRevise += 1;
    for (const [kind, count] of result.faults) {
      this.#faults.set(kind, (this.#faults.get(kind) ?? 0) + count);
    }
    try {
      checkResult(truth, result);
    } catch (error) {
      // The same in more words: by row and column, and with the record that explains it.
      const text = await differencesFromSql(truth.prepared, result);
      if (!(error instanceof Violation) || text === "") throw error;
      throw new Violation(`after faults the tables are not those of an undisturbed run\n\n${text}`);
    }
  }

  async #truth(number: number): Promise<Truth> {
    if (this.#log?.number === number) return this.#log.truth;
    const { pipeline } = this.#watch;
    const logs = await fuzzLogs(pipeline.definition, this.#generator, number);
    if (this.#trace !== undefined) for (const { log } of logs) shownLog(log).forEach(this.#trace);
    this.#watch.forget();
    const prepared = await simulationCase({
      pipeline,
      changed: changed(pipeline),
      references: this.#references,
      logs,
      startMs: FUZZ_START_MS,
    });
    const truth = await truthOf(prepared, number);
    this.#count(truth);
    this.#log = { number, truth };
    return truth;
  }

  #count({ prepared, calm }: Truth): void {
    for (const { log } of prepared.logs) {
      const { length } = log.records;
      const sums = this.#streams.get(log.topic) ?? { records: 0, deadLetters: 0, detail: "" };
      sums.records += length;
      this.#streams.set(log.topic, sums);
      this.#sums.records += length;
    }
    for (const [table, rows] of calm.tables) {
      this.#rows.set(table, (this.#rows.get(table) ?? 0) + rows.length);
    }
    for (const { topic, reason, detail } of calm.tables.get("dead_letters") ?? []) {
      const sums = this.#streams.get(String(topic))!;
      sums.deadLetters += 1;
      sums.detail = `${reason}, ${detail}`;
    }
  }
}

/** The pipeline as somebody might change it, and deploy it by mistake: it must be refused. */
function changed(pipeline: Pipeline): Pipeline {
  const { definition } = pipeline;
  const [first, ...others] = definition.streams;
  const streams = [{ ...first!, latenessMs: first!.latenessMs + 1 }, ...others];
  return { ...pipeline, definition: { ...definition, streams } };
}

function failure(pipeline: string, seed: number, error: unknown): MillpondError {
  const message = error instanceof Error ? error.message : String(error);
  const isKnown = error instanceof MillpondError;
  const code: ErrorCode = isKnown ? error.code : "INVARIANT";
  // What is said here need not be said again as the cause.
  const isTold = isKnown || error instanceof Violation;
  const cause = isTold ? error.cause : error;
  const isOurs = isKnown ? "" : "\nIf no function of yours explains it, it is a bug: report it.";
  return new MillpondError(
    code,
    `pipeline "${pipeline}", seed ${seed}: ${message.trimEnd()}\n\n` +
      "To see it alone, step by step:\n" +
      `  fuzzPipeline(pipeline, generator, { seed: ${seed}, schedules: 1, trace: console.log })` +
      isOurs,
    cause === undefined ? undefined : { cause },
  );
}
