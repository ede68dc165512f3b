/**
 * `npm run simulate -- --seeds 1..100000 --minutes 10`: simulated schedules on all cores, with what
 * was run, which faults came, and how to see a failing seed again; `--seed 17 --trace` shows it.
 */
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { FAULT_KINDS, LOSS_KIND, SEEN_KINDS } from "../../lib/testing/faults.js";
import {
  addTally,
  caseNumber,
  emptyTally,
  replayCommand,
  SEEDS_PER_CASE,
  SeedRunner,
  type Tally,
} from "./seeds.js";

/** So often a worker tells what it has done. */
const SEEDS_PER_MESSAGE = 25;
const SHOW_EVERY_MS = 10_000;

interface Share {
  readonly first: number;
  readonly last: number;
  readonly index: number;
  readonly workers: number;
  readonly untilMs: number;
  /** So many seeds of a case, then the next one. */
  readonly ofEachCase: number;
  readonly losses: boolean;
  /** Not 0 when all are to stop. */
  readonly stop: Int32Array;
}

/** Every so-manieth case is a worker's; it tells of each case when it is through. */
async function work(share: Share): Promise<void> {
  const { first, last, index, workers, untilMs, ofEachCase, losses, stop } = share;
  const port = parentPort!;
  // Simulated failures are many; where one comes from is for a replay to show.
  Error.stackTraceLimit = 0;
  const runner = new SeedRunner({ losses });
  for (let number = caseNumber(first); number <= caseNumber(last); number++) {
    if (number % workers !== index) continue;
    const from = Math.max(first, number * SEEDS_PER_CASE);
    const to = Math.min(last, number * SEEDS_PER_CASE + ofEachCase - 1);
    for (let seed = from; seed <= to; seed++) {
      const held = await runner.run(seed);
      const isOver = Date.now() >= untilMs || Atomics.load(stop, 0) !== 0;
      if (held === null || isOver || seed === to || seed % SEEDS_PER_MESSAGE === 0) {
        port.postMessage(runner.takeTally());
      }
      if (isOver) return;
    }
  }
}

const USAGE = `npm run simulate -- [options]
  --seeds 1..100000     which seeds
  --minutes 10          when to stop
  --of-each-case ${SEEDS_PER_CASE}    of the seeds that share a case: fewer see more cases
  --losses              retention takes unread records in all cases, not in one of 50
  --workers 4           threads; as many as there are cores, unless told
  --violations 5        how many end the run
  --seed 17 [--trace]   one seed again, step by step`;

const OPTIONS = {
  seeds: { type: "string", default: "1..100000" },
  minutes: { type: "string", default: "10" },
  workers: { type: "string", default: String(availableParallelism()) },
  violations: { type: "string", default: "5" },
  "of-each-case": { type: "string", default: String(SEEDS_PER_CASE) },
  losses: { type: "boolean", default: false },
  seed: { type: "string" },
  trace: { type: "boolean", default: false },
} as const;

/** Null where they are none. */
function flags() {
  try {
    const { values } = parseArgs({ options: OPTIONS });
    const { seeds: _, trace: __, losses: ___, ...numbers } = values;
    for (const [name, text] of Object.entries(numbers)) {
      const isNumber = name === "minutes" ? /^\d+(\.\d+)?$/ : /^\d+$/;
      if (!isNumber.test(text)) throw new TypeError(`--${name} ${text} is no number`);
    }
    return values;
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    return null;
  }
}

async function main(): Promise<number> {
  const values = flags();
  if (values === null) {
    console.error(USAGE);
    return 2;
  }
  // A trace is long: whoever reads it, such as head, may have seen enough.
  process.stdout.on("error", () => process.exit());
  const { losses } = values;
  if (values.seed !== undefined) return replay(Number(values.seed), values.trace, losses);
  const [first, last] = values.seeds.split("..").map(Number);
  if (!Number.isSafeInteger(first) || !Number.isSafeInteger(last)) {
    console.error(`--seeds ${values.seeds} is no range; expected for example 1..100000`);
    return 2;
  }
  // The product's code is large, and no part of it hot: less compiling saves a sixth.
  setFlagsFromString("--always-sparkplug");
  if (process.versions.node.startsWith("20.")) setFlagsFromString("--interrupt-budget=1000000");
  const started = performance.now();
  const tally = await onWorkers({
    first: first!,
    last: last!,
    workers: Number(values.workers),
    untilMs: Date.now() + Number(values.minutes) * 60_000,
    ofEachCase: Number(values["of-each-case"]),
    losses,
    violationsMax: Number(values.violations),
  });
  report(tally, performance.now() - started);
  return tally.failures.length === 0 ? 0 : 1;
}

async function replay(seed: number, showsTrace: boolean, losses: boolean): Promise<number> {
  const runner = new SeedRunner({ losses });
  const result = await runner.run(seed, showsTrace ? (line) => console.log(line) : undefined);
  for (const { message } of runner.tally.failures) console.log(`seed ${seed}: ${message}`);
  if (result !== null) console.log(`seed ${seed}: holds, in ${result.steps} steps`);
  return result === null ? 1 : 0;
}

async function onWorkers(
  options: Omit<Share, "index" | "stop"> & { readonly violationsMax: number },
): Promise<Tally> {
  const tally = emptyTally();
  let shownMs = performance.now();
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const all = Array.from({ length: options.workers }, (_, index) => {
    const share: Share = { ...options, index, stop };
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: share });
    worker.on("message", (part: Tally) => {
      addTally(tally, part);
      for (const failure of part.failures) console.log(shownFailure(failure, options.losses));
      if (tally.failures.length >= options.violationsMax) Atomics.store(stop, 0, 1);
      if (performance.now() - shownMs < SHOW_EVERY_MS) return;
      shownMs = performance.now();
      console.log(`${tally.schedules} schedules, ${tally.failures.length} violations`);
    });
    return worker;
  });
  await Promise.all(all.map((worker) => ended(worker)));
  return tally;
}

function ended(worker: Worker): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.on("error", reject);
    worker.on("exit", () => resolve());
  });
}

const shownFailure = ({ seed, message }: Tally["failures"][number], losses: boolean) =>
  `seed ${seed}: ${message}\n  to see it: ${replayCommand(seed, losses)}`;

function report({ schedules, steps, simulatedMs, faults, failures }: Tally, ms: number): void {
  const seconds = ms / 1000;
  console.log(
    `${schedules} schedules in ${seconds.toFixed(0)} s (${(schedules / seconds).toFixed(0)} a ` +
      `second), ${steps} steps, ${(simulatedMs / 3_600_000).toFixed(0)} simulated hours`,
  );
  for (const kind of [...FAULT_KINDS, LOSS_KIND, ...SEEN_KINDS]) {
    console.log(`${String(faults.get(kind) ?? 0).padStart(12)}  ${kind}`);
  }
  console.log(failures.length === 0 ? "no violation" : `${failures.length} violations`);
}

if (isMainThread) process.exitCode = await main();
else await work(workerData as Share);
