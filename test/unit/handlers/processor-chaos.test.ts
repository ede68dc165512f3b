/**
 * Everything at once, by chance: several environments, batches cut anywhere and delivered again,
 * zombies, a publisher that takes outboxes meanwhile, and stores that fail before and after.
 */
import { setImmediate } from "node:timers/promises";
import { expect, it } from "vitest";
import { fromItem } from "../../../lib/commit/checkpoint.js";
import { Publisher } from "../../../lib/commit/publisher.js";
import { definitionHash } from "../../../lib/define/json.js";
import { compileStream } from "../../../lib/engine/program.js";
import type { FaultHook } from "../../../lib/stores/memory.js";
import { Random, testRounds, testSeed } from "../../integration/support/random.js";
import { clickRecords, clicksPipeline } from "./clicks.js";
import {
  context,
  kafkaEvent,
  type MemoryStores,
  memoryStores,
  processorOver,
  type TestRecord,
  through,
} from "./kafka-support.js";
import { published } from "./published.js";

const pipeline = clicksPipeline();
const PARTITIONS = 3;

/** Fails, loses replies and takes its time. */
function chaos(random: Random, failing: number): FaultHook {
  const step = async () => {
    for (let turns = random.below(4); turns > 0; turns--) await setImmediate();
    if (random.chance(failing)) throw new Error("by chance");
  };
  return { before: step, after: step };
}

const eventOf = (partition: number, records: readonly TestRecord[]) =>
  kafkaEvent([{ topic: "clicks", partition, records }]);

/** An event source: at least once, in order; now and then a poller believed dead goes on. */
async function poll(
  random: Random,
  stores: MemoryStores,
  partition: number,
  records: readonly TestRecord[],
): Promise<void> {
  const newEnvironment = () => processorOver(pipeline, through(stores, chaos(random, 0.04))).handle;
  let environments = [newEnvironment(), newEnvironment()];
  const zombies: Promise<unknown>[] = [];
  for (let at = 0; at < records.length; ) {
    if (random.chance(0.1)) environments = [newEnvironment(), newEnvironment()];
    const batch = records.slice(at, at + 1 + random.below(60));
    const event = eventOf(partition, batch);
    const invocation = random.pick(environments)(event, context);
    if (random.chance(0.1)) {
      zombies.push(invocation.catch(() => undefined));
      continue;
    }
    const taken = await invocation.then(
      () => true,
      () => false,
    );
    if (taken && !random.chance(0.1)) at += batch.length;
    else if (random.chance(0.2)) at = Math.max(0, at - random.below(100));
  }
  await Promise.all(zombies);
}

/** Rounds as the sink makes them, once all partitions are there: then no row is revised. */
async function publishMeanwhile(random: Random, stores: MemoryStores, isDone: () => boolean) {
  const { definition, functions } = pipeline;
  const program = compileStream(definition, "clicks", { functions, references: new Map() });
  while (!isDone()) {
    await setImmediate();
    const publisher = new Publisher({
      ...through(stores, chaos(random, 0.02)),
      definitionHash: definitionHash(definition),
      id: `${definition.name}/publisher`,
      programs: [program],
    });
    const ids = await stores.checkpoints.list(`${definition.name}/partitions/`);
    if (ids.length < PARTITIONS) continue;
    const partitions = [];
    for (const [partition, id] of ids.entries()) {
      const checkpoint = fromItem(id, (await stores.checkpoints.read(id))!);
      partitions.push({ id, stream: "clicks", partition, checkpoint, idle: false });
    }
    try {
      await publisher.load();
      await publisher.round({ partitions, flush: () => false, sinksTookUpTo: 0 });
    } catch (error) {
      expect(String(error)).toMatch(/by chance|same time/);
    }
  }
}

it("ends as one undisturbed run", async () => {
  const seed = testSeed();
  const logs = Array.from({ length: PARTITIONS }, (_, partition) => clickRecords(900, partition));
  const undisturbed = memoryStores();
  const { handle } = processorOver(pipeline, undisturbed);
  for (const [partition, records] of logs.entries()) {
    await handle(eventOf(partition, records), context);
  }
  const expected = await published(pipeline, undisturbed);
  for (let round = 0; round < testRounds(10); round++) {
    const random = new Random(seed + round);
    const stores = memoryStores(random.pick([500, 4096, 64 * 1024]));
    let done = false;
    const publishing = publishMeanwhile(random, stores, () => done);
    await Promise.all(logs.map((records, partition) => poll(random, stores, partition, records)));
    done = true;
    await publishing;
    expect(await published(pipeline, stores), `seed ${seed + round}`).toEqual(expected);
  }
});
