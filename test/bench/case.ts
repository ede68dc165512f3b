/**
 * One benchmark case in a process of its own, so that CPU and memory are its alone:
 * `node case.js <case> <data> <out> <workers> <bronze>`. Prints one JSON line.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { PartitionFold } from "../../lib/engine/fold.js";
import { compileStream } from "../../lib/engine/program.js";
import type { Slice } from "../../lib/engine/slice.js";
import { runPipeline } from "../../lib/runtime/run-pipeline.js";
import { openFileSources } from "../../lib/sources/files/index.js";
import { envelopeOf, sliceOf } from "./envelope.js";
import { benchPipeline, REFERENCE, type Workload } from "./pipelines.js";
import { verifyAgainstReference } from "./reference.js";

const SLICE_RECORDS = 10_000;
/** Payloads are kept in memory: enough to be steady, little enough to fit. */
const ENVELOPE_SLICES = 60;

interface Figures {
  readonly events: number;
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
  readonly peakMegabytes: number;
  readonly agrees?: boolean;
}

const [name = "", data = "", out = "", workers = "1", bronze = "false"] = process.argv.slice(2);
process.stdout.write(`${JSON.stringify({ name, ...(await measure()) })}\n`);

function peak(): number {
  return Math.round(process.resourceUsage().maxRSS / 1024);
}

async function measure(): Promise<Figures> {
  if (name === "decode") return timed(decodeAll);
  if (name === "decode, envelope") return envelopes(false);
  if (name === "tumbling, envelope") return envelopes(true);
  return runAll(name as Workload);
}

/** The whole process counts, from its start: loading the program is part of the job. */
async function runAll(workload: Workload): Promise<Figures> {
  fs.rmSync(out, { recursive: true, force: true });
  const report = await runPipeline({
    pipeline: benchPipeline(workload, bronze === "true"),
    inputs: new Map([["events", path.join(data, "parts")]]),
    out,
    flush: true,
    batchSize: SLICE_RECORDS,
    workers: Number(workers),
    pipelineFile: path.join(import.meta.dirname, "worker-pipeline.js"),
    overrides: new Map([
      ["workload", workload],
      ["bronze", bronze],
    ]),
  });
  const { user, system } = process.cpuUsage();
  const wallSeconds = process.uptime();
  const peakMegabytes = peak();
  const verified = await verifyAgainstReference({
    outDir: out,
    dataDir: data,
    workload: REFERENCE[workload],
    table: "results",
    sumCents: "sum_amount * 100",
  });
  if (!verified.agrees) process.stderr.write(`${verified.report}\n`);
  const cpuSeconds = (user + system) / 1e6;
  const { records: events } = report;
  return { events, cpuSeconds, wallSeconds, peakMegabytes, agrees: verified.agrees };
}

async function timed(work: () => Promise<number>): Promise<Figures> {
  const cpu = process.cpuUsage();
  const started = performance.now();
  const events = await work();
  const { user, system } = process.cpuUsage(cpu);
  const wallSeconds = (performance.now() - started) / 1000;
  return { events, cpuSeconds: (user + system) / 1e6, wallSeconds, peakMegabytes: peak() };
}

function program() {
  const { definition } = benchPipeline("tumbling", false);
  const context = { functions: new Map(), references: new Map() };
  return compileStream(definition, "events", context);
}

/** Files to columns: reading, splitting and decoding. */
async function decodeAll(): Promise<number> {
  const { decoder } = program();
  let events = 0;
  for await (const slice of slices()) {
    decoder.decode(slice);
    events += slice.count;
  }
  return events;
}

async function* slices(): AsyncGenerator<Slice> {
  const { stream } = program();
  const input = { path: path.join(data, "parts"), stream, known: new Map<string, number>() };
  for (const source of (await openFileSources(input)).sources) {
    const reader = await source.open(0, null);
    for (;;) {
      const slice = await reader.read(SLICE_RECORDS);
      if (slice === null) break;
      yield slice;
    }
    await reader.close();
  }
}

/** Lambda's payload (base64 in JSON) to columns or, with `fold`, to state; without storage. */
async function envelopes(fold: boolean): Promise<Figures> {
  const payloads: string[] = [];
  for await (const slice of slices()) {
    if (payloads.push(envelopeOf(slice)) === ENVELOPE_SLICES) break;
  }
  const compiled = program();
  const partition = new PartitionFold(compiled, "events", 0);
  return timed(async () => {
    let events = 0;
    for (const payload of payloads) {
      const slice = sliceOf(payload);
      events += slice.count;
      if (fold) {
        partition.process(slice);
        partition.writeState(false);
        partition.saved();
      } else compiled.decoder.decode(slice);
    }
    return events;
  });
}
