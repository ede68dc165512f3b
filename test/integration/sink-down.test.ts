/** What a round of the sinks reports while one of them is away: how old, how far behind, who. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { MillpondError } from "../../lib/errors.js";
import { pipelineRuntime } from "../../lib/handlers/pipeline-runtime.js";
import { makeProcessor } from "../../lib/handlers/processor.js";
import { minutes, pipeline, stream, string, timestamp } from "../../lib/index.js";
import type { RunSinks } from "../../lib/runtime/run-sinks.js";
import { SinkRounds } from "../../lib/runtime/sink-rounds.js";
import type { Sink } from "../../lib/sinks/sink.js";
import { kafkaEvent } from "../unit/handlers/kafka-support.js";
import { SinkBed } from "./support/sink-stores.js";

const remainingMs = () => 60_000;
const TICK = { flush: false, tick: true, remainingMs };
const orders = stream("orders", {
  schema: { id: string(), at: timestamp() },
  eventTime: "at",
  lateness: minutes(1),
});
const definition = pipeline("orders", { orders_seen: orders.rows() });

/** Takes what it is given, unless it is away. */
class FakeSink implements Sink {
  readonly name: string;
  taken = 0;
  rows = 0;
  isAway: "open" | "apply" | null = null;

  constructor(name: string) {
    this.name = name;
  }

  async open(): Promise<number> {
    if (this.isAway === "open") throw new MillpondError("STORAGE", `${this.name} is away`);
    return this.taken;
  }

  async apply(publications: Parameters<Sink["apply"]>[0], last: number): Promise<void> {
    if (this.isAway === "apply") throw new MillpondError("STORAGE", `${this.name} is away`);
    for await (const { batch } of publications) this.rows += batch.rowCount;
    this.taken = last;
  }

  async close(): Promise<void> {
    // Nothing is open.
  }
}

let bed: SinkBed;
beforeEach(async () => {
  bed = await SinkBed.create();
  vi.useFakeTimers({ toFake: ["Date"] });
});
afterEach(async () => {
  vi.useRealTimers();
  await bed.remove();
});

let sent = 0;
async function feed(count: number): Promise<void> {
  const stores = bed.stores();
  const write = () => undefined;
  const processor = makeProcessor({ pipeline: definition, stores, write, env: {} });
  const records = Array.from({ length: count }, () => {
    const at = new Date().toISOString();
    return { offset: sent++, timestamp: Date.now(), value: JSON.stringify({ id: `${sent}`, at }) };
  });
  const context = { getRemainingTimeInMillis: remainingMs };
  await processor(kafkaEvent([{ topic: "orders", partition: 0, records }]), context);
}

async function roundsWith(own: Sink, remote: Sink): Promise<SinkRounds> {
  const nothing = async () => undefined;
  const sinks: RunSinks = {
    own: [own],
    remote: [remote],
    stayOpen: false,
    complete: nothing,
    sweep: nothing,
    close: nothing,
  };
  const runtime = await pipelineRuntime(definition, {});
  return new SinkRounds({ ...runtime, ...bed.stores(), sinks });
}

test("who is away is behind; what nobody takes grows old; rows count once", async () => {
  const [near, far] = [new FakeSink("near"), new FakeSink("far")];
  const rounds = await roundsWith(near, far);
  await feed(10);
  const first = await rounds.run(TICK);
  expect(first).toMatchObject({ publishedRows: 20, pendingBySink: { near: 0, far: 0 } });
  expect(first.rowsByTable).toEqual({ orders_seen: 10, bronze: 10 });
  const had = far.taken;

  // A server fails while it takes, then can't be reached: the other sink goes on.
  for (const how of ["apply", "open"] as const) {
    far.isAway = how;
    await feed(5);
    await expect(rounds.run(TICK)).rejects.toThrow("far is away");
    const behind = { near: 0, far: near.taken - had };
    expect(behind.far).toBeGreaterThan(0);
    expect(rounds.report).toMatchObject({ publishedRows: 10, pendingBySink: behind });
  }

  // Where the output is can't be reached: nobody takes anything.
  near.isAway = "open";
  await feed(5);
  vi.setSystemTime(Date.now() + 20 * 60_000);
  await expect(rounds.run(TICK)).rejects.toThrow("near is away");
  expect(rounds.report).toMatchObject({ publishedRows: 0, oldestWaitingMs: 20 * 60_000 });
  expect(rounds.report.pendingBySink).toEqual({ near: 0, far: near.taken - had });

  near.isAway = null;
  far.isAway = null;
  const last = await rounds.run(TICK);
  expect(last).toMatchObject({ oldestWaitingMs: 20 * 60_000, pendingBySink: { near: 0, far: 0 } });
  expect([near.rows, far.rows]).toEqual([50, 50]);
});
