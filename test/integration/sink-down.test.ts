/** A remote sink that is down: the others go on, so much waits for it, and it catches up. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { MillpondError } from "../../lib/errors.js";
import { pipelineRuntime } from "../../lib/handlers/pipeline-runtime.js";
import { makeProcessor } from "../../lib/handlers/processor.js";
import type { StepBounds } from "../../lib/runtime/backlog.js";
import { makeSinks, storePlaces } from "../../lib/runtime/run-sinks.js";
import { SinkRounds } from "../../lib/runtime/sink-rounds.js";
import type { Publication, Sink } from "../../lib/sinks/sink.js";
import { clickRecords, clicksPipeline } from "../unit/handlers/clicks.js";
import { kafkaEvent } from "../unit/handlers/kafka-support.js";
import { SinkBed } from "./support/sink-stores.js";

const BATCH = 100;
const context = { getRemainingTimeInMillis: () => 60_000 };
const request = { flush: false, tick: true, remainingMs: () => 60_000 };
const pipeline = clicksPipeline();

/** What it took stays when it is down, as with a server. */
class Remote implements Sink {
  readonly name = "remote";
  isDown = false;
  readonly taken: number[] = [];
  progress = 0;

  async open(): Promise<number> {
    this.#answer();
    return this.progress;
  }

  async apply(publications: AsyncIterable<Publication>, lastSequence: number): Promise<void> {
    this.#answer();
    for await (const { sequence } of publications) this.taken.push(sequence);
    this.progress = lastSequence;
  }

  async close(): Promise<void> {}

  #answer(): void {
    if (this.isDown) throw new MillpondError("STORAGE", "the server is down");
  }
}

let bed: SinkBed;
let remote: Remote;
beforeEach(async () => {
  bed = await SinkBed.create();
  remote = new Remote();
});
afterEach(() => bed.remove());

async function feed(batch: number): Promise<void> {
  const stores = bed.stores();
  const processor = makeProcessor({ pipeline, stores, write: () => undefined, env: {} });
  const records = [...clickRecords((batch + 1) * BATCH, 0).slice(batch * BATCH)];
  await processor(kafkaEvent([{ topic: "clicks", partition: 0, records }]), context);
}

async function rounds(step?: StepBounds): Promise<SinkRounds> {
  const stores = bed.stores();
  const runtime = await pipelineRuntime(pipeline, {});
  const { definition, definitionHash } = runtime;
  const own = makeSinks(definition, storePlaces(stores, "clicks", {}), definitionHash, {});
  const sinks = { ...own, remote: [remote] };
  return new SinkRounds({ ...runtime, ...stores, sinks, ...(step !== undefined && { step }) });
}

const rows = async (): Promise<number> =>
  Object.values(await bed.dump("clicks")).reduce((sum, table) => sum + table.length, 0);

test("others go on while it is down; it catches up, without gap or repetition", async () => {
  const sink = await rounds();
  await feed(0);
  await sink.run(request);
  const before = await rows();
  remote.isDown = true;
  for (let batch = 1; batch < 6; batch++) {
    await feed(batch);
    await expect(sink.run(request)).rejects.toThrow("the server is down");
  }
  expect(await rows()).toBeGreaterThan(before);
  expect(sink.report.pendingBySink).toMatchObject({ lake: 0 });
  expect(sink.report.pendingBySink.remote).toBeGreaterThan(0);
  remote.isDown = false;
  expect(await sink.run(request)).toMatchObject({ outcome: "done", pending: 0 });
  await sink.close();
  expect(remote.taken).toEqual(Array.from({ length: remote.progress }, (_, i) => i + 1));
});

test("only so much is kept for it: then nothing is published until it is back", async () => {
  const step = { bytesMax: 64 * 1024, entriesMax: 3 };
  const sink = await rounds(step);
  await feed(0);
  await sink.run(request);
  remote.isDown = true;
  const waiting: number[] = [];
  for (let batch = 1; batch < 12; batch++) {
    await feed(batch);
    await expect(sink.run(request)).rejects.toThrow("the server is down");
    waiting.push(sink.report.pendingBySink.remote ?? 0);
  }
  // What one round publishes may come on top.
  expect(waiting.at(-1)).toBe(waiting.at(-3));
  remote.isDown = false;
  expect(await sink.run(request)).toMatchObject({ outcome: "done", pending: 0 });
  await sink.close();
  expect(remote.taken).toEqual(Array.from({ length: remote.progress }, (_, i) => i + 1));
});

test("one that was never seen keeps everything back, and one of another output", async () => {
  remote.isDown = true;
  const sink = await rounds();
  await feed(0);
  await expect(sink.run(request)).rejects.toThrow("the server is down");
  expect(sink.report.rounds).toBe(0);
  remote.isDown = false;
  remote.progress = 7;
  await expect(sink.run(request)).rejects.toMatchObject({
    code: "INVARIANT",
    message: expect.stringMatching(/has taken publication 7.*results of another output/),
  });
  expect(sink.report.rounds).toBe(0);
  await sink.close();
});
