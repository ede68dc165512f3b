/**
 * `npm run bench`: CPU-seconds per million events, events per second and peak memory, on 4 files of
 * 1.25 million simulated events, each result checked row for row against DuckDB over the raw files.
 *
 * Options: --events n (default 5,000,000), --runs n (3), --workers n (1), --bronze, --data <dir>
 * (with parts/ and ref/, e.g. of the peer benchmark), --only <case>.
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { parseArgs } from "node:util";
import { MillpondError } from "../../lib/errors.js";
import { simulate } from "../../lib/sources/simulate/simulate.js";
import { writeSimulation } from "../../lib/sources/simulate/write-files.js";
import { writeReference } from "./make-reference.js";
import { WORKLOADS } from "./pipelines.js";

interface Measured {
  readonly name: string;
  readonly events: number;
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
  readonly peakMegabytes: number;
  readonly agrees?: boolean;
  readonly sliceMs?: { readonly p50: number; readonly p99: number };
}

const { values: flags } = parseArgs({
  options: {
    events: { type: "string", default: "5000000" },
    runs: { type: "string", default: "3" },
    workers: { type: "string", default: "1" },
    bronze: { type: "boolean", default: false },
    data: { type: "string" },
    only: { type: "string" },
  },
});

const SCRATCH = path.resolve(".cache", "bench");
const PARTITIONS = 4;

/** Of rows that are made as they are written; CPU is this process's, without the server's. */
const SINKS = ["lake", "postgres"];
const needsData = flags.only === undefined || !SINKS.includes(flags.only);
const data = flags.data ?? (needsData ? await simulated(Number(flags.events)) : "");
const cases = [
  "decode",
  "decode, envelope",
  ...WORKLOADS,
  "tumbling, envelope",
  "processor",
  "processor, sums and distinct",
  ...SINKS,
].filter((name) => flags.only === undefined || name === flags.only);
process.stdout.write(
  `${row("case", "CPU-s per million (min–max)", "events/s", "peak MB", "equal")}`,
);
for (const name of cases) {
  const runs = Array.from({ length: Number(flags.runs) }, () => runCase(name));
  process.stdout.write(summary(name, runs));
}

/** Data made once and kept: two hours of event time, all in order enough, nothing late. */
async function simulated(events: number): Promise<string> {
  const dir = path.join(SCRATCH, `activity-${events}`);
  if (fs.existsSync(path.join(dir, "ref", "w4.parquet"))) return dir;
  fs.rmSync(dir, { recursive: true, force: true });
  process.stderr.write(`simulating ${events} events …\n`);
  const records = simulate("activity", {
    events,
    seed: 1,
    partitions: PARTITIONS,
    ratePerSecond: events / 7200,
    startMs: Date.UTC(2025, 0, 1),
    late: 0,
    duplicates: 0.005,
    malformed: 0.001,
    outOfOrderMs: 90_000,
  });
  writeSimulation(path.join(dir, "parts"), PARTITIONS, records);
  await writeReference(dir);
  return dir;
}

function runCase(name: string): Measured {
  const script = path.join(import.meta.dirname, "case.js");
  const out = path.join(SCRATCH, "out");
  const args = [script, name, data, out, flags.workers, String(flags.bronze)];
  const child = spawnSync(process.execPath, args, { encoding: "utf8" });
  if (child.status !== 0) {
    throw new MillpondError("INVARIANT", `benchmark "${name}" failed:\n${child.stderr}`);
  }
  return JSON.parse(child.stdout) as Measured;
}

function summary(name: string, runs: readonly Measured[]): string {
  const cpu = sorted(runs.map(({ cpuSeconds, events }) => (cpuSeconds / events) * 1e6));
  const rate = sorted(runs.map(({ events, wallSeconds }) => events / wallSeconds));
  const peak = sorted(runs.map(({ peakMegabytes }) => peakMegabytes));
  const checked = runs.filter(({ agrees }) => agrees !== undefined);
  const equal = checked.length === 0 ? "" : checked.every(({ agrees }) => agrees) ? "yes" : "NO";
  return row(
    name,
    `${median(cpu).toFixed(2)} (${cpu[0]!.toFixed(2)}–${cpu.at(-1)!.toFixed(2)})`,
    Math.round(median(rate)).toLocaleString("en-US"),
    String(median(peak)),
    equal + slices(runs),
  );
}

/** Of the run in the middle by its p99. */
function slices(runs: readonly Measured[]): string {
  const byP99 = runs.flatMap(({ sliceMs }) => sliceMs ?? []).sort((a, b) => a.p99 - b.p99);
  const middle = byP99[byP99.length >> 1];
  return middle === undefined ? "" : `  a slice: p50 ${middle.p50} ms, p99 ${middle.p99} ms`;
}

function sorted(values: number[]): number[] {
  return values.sort((a, b) => a - b);
}

function median(values: readonly number[]): number {
  return values[values.length >> 1]!;
}

function row(name: string, cpu: string, rate: string, peak: string, equal: string): string {
  return `${name.padEnd(20)}${cpu.padStart(28)}${rate.padStart(12)}${peak.padStart(9)}  ${equal}\n`;
}
