/**
 * One benchmark case in a process of its own, so that CPU and memory are its alone:
 * `node case.js <case> <data> <out> <workers> <bronze>`. Prints one JSON line. What only some cases
 * need is imported there: a run that is measured whole loads what \`millpond run\` loads.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import * as path from "node:path";
import { PartitionFold } from "../../lib/engine/fold.js";
import { compileStream } from "../../lib/engine/program.js";
import type { Slice } from "../../lib/engine/slice.js";
import { runPipeline } from "../../lib/runtime/run-pipeline.js";
import { openFileSources } from "../../lib/sources/files/index.js";
import { benchPipeline, COUNTS, REFERENCE, type Workload } from "./pipelines.js";

const SLICE_RECORDS = 10_000;
/** Payloads are kept in memory: enough to be steady, little enough to fit. */
const ENVELOPE_SLICES = 60;

interface Figures {
  readonly events: number;
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
  readonly peakMegabytes: number;
  readonly agrees?: boolean;
  /** Of one invocation with a full slice, from its payload to its answer. */
  readonly sliceMs?: { readonly p50: number; readonly p99: number };
}

const [name = "", data = "", out = "", workers = "1", bronze = "false"] = process.argv.slice(2);
if (name === "payloads") await writePayloads();
else process.stdout.write(`${JSON.stringify({ name, ...(await measure()) })}\n`);

function peak(): number {
  return Math.round(process.resourceUsage().maxRSS / 1024);
}

async function measure(): Promise<Figures> {
  if (name === "decode") return timed(decodeAll);
  if (name === "decode, envelope") return envelopes(false);
  if (name === "tumbling, envelope") return envelopes(true);
  if (name === "processor") return processor("counts");
  if (name === "processor, sums and distinct") return processor("tumbling");
  if (name === "lake" || name === "postgres") {
    const { sinkRows } = await import("./sinks.js");
    return { ...(await sinkRows(name, out)), peakMegabytes: peak() };
  }
  return runAll(name as Workload);
}

/** The whole process counts, from its start: loading the program is part of the job. */
async function runAll(workload: Workload): Promise<Figures> {
  // As the command line does; the handlers' cases run as Lambda runs them.
  await import("../../lib/cli/v8-flags.js");
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
  const cpuSeconds = (user + system) / 1e6;
  const { records: events } = report;
  const agrees = await agreesWithReference(workload);
  return { events, cpuSeconds, wallSeconds, peakMegabytes, agrees };
}

async function agreesWithReference(workload: Workload): Promise<boolean> {
  const { verifyAgainstReference } = await import("./reference.js");
  const { agrees, report } = await verifyAgainstReference({
    outDir: out,
    dataDir: data,
    workload: REFERENCE[workload],
    table: "results",
    sumCents: "sum_amount * 100",
    ...(workload === "counts" ? { columns: COUNTS } : {}),
  });
  if (!agrees) process.stderr.write(`${report}\n`);
  return agrees;
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
  const { envelopeOf, sliceOf } = await import("./envelope.js");
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

/** Every slice's payload as a line. */
async function writePayloads(): Promise<void> {
  const { envelopeOf } = await import("./envelope.js");
  for await (const slice of slices()) {
    if (!process.stdout.write(`${envelopeOf(slice)}\n`)) await once(process.stdout, "drain");
  }
}

/** Made by another process, so that neither its CPU time nor its garbage is counted here. */
async function* payloads(): AsyncGenerator<string> {
  const args = [import.meta.filename, "payloads", data];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  let parts: Buffer[] = [];
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, from)) {
      yield Buffer.concat([...parts, chunk.subarray(from, end)]).toString("utf8");
      parts = [];
      from = end + 1;
    }
    parts.push(chunk.subarray(from));
  }
}

/**
 * The handler as Lambda calls it: a payload is parsed, decoded, folded and committed to files, one
 * partition's slice after another's.
 */
async function processor(workload: Workload): Promise<Figures> {
  const { makeProcessor } = await import("../../lib/handlers/processor.js");
  const { eventPartitions } = await import("../../lib/sources/kafka-event.js");
  const { finishOutput } = await import("../integration/support/kafka-run.js");
  fs.rmSync(out, { recursive: true, force: true });
  const pipeline = benchPipeline(workload, bronze === "true");
  const env = { MILLPOND_STORE: `file:${out}` };
  const handle = makeProcessor({ pipeline, env, write: () => undefined });
  const context = { getRemainingTimeInMillis: () => 60_000 };
  const durations: number[] = [];
  const partitions = new Map<string, { topic: string; partition: number }>();
  let [events, cpuMicros] = [0, 0];
  for await (const payload of payloads()) {
    const cpu = process.cpuUsage();
    const started = performance.now();
    const event: unknown = JSON.parse(payload);
    await handle(event, context);
    durations.push(performance.now() - started);
    const { user, system } = process.cpuUsage(cpu);
    cpuMicros += user + system;
    for (const { name: topicPartition, topic, partition, records } of eventPartitions(event)) {
      events += records.length;
      partitions.set(topicPartition, { topic, partition });
    }
  }
  const peakMegabytes = peak();
  await finishOutput(pipeline, out, [...partitions.values()]);
  const sorted = durations.toSorted((a, b) => a - b);
  const at = (q: number) => Math.round(sorted[Math.floor(q * (sorted.length - 1))]! * 10) / 10;
  return {
    events,
    cpuSeconds: cpuMicros / 1e6,
    wallSeconds: durations.reduce((sum, ms) => sum + ms, 0) / 1000,
    peakMegabytes,
    agrees: await agreesWithReference(workload),
    sliceMs: { p50: at(0.5), p99: at(0.99) },
  };
}
