/** The processor behind its handler: each record once, whatever fails or comes again. */
import { describe, expect, it } from "vitest";
import { CheckpointCell } from "../../../lib/commit/cell.js";
import type { PartialBatchResponse } from "../../../lib/handlers/processor.js";
import { PARTITION_BOUNDS } from "../../../lib/runtime/partition-writer.js";
import type { FaultHook } from "../../../lib/stores/memory.js";
import { batches, clickRecords, clicksPipeline } from "./clicks.js";
import {
  context,
  Fault,
  faultAt,
  kafkaEvent,
  type MemoryStores,
  memoryStores,
  processorOver,
  type TestRecord,
  through,
} from "./kafka-support.js";
import { published } from "./published.js";

const pipeline = clicksPipeline();
const RECORDS = clickRecords(300);
const BATCH = 50;
const PARTITIONS = [0, 1];

const eventOf = (records: readonly TestRecord[], partition = 0) =>
  kafkaEvent([{ topic: "clicks", partition, records }]);

/** One event a batch, with both partitions in it. */
const EVENTS = batches(RECORDS, BATCH).map((records, i) =>
  kafkaEvent(
    PARTITIONS.map((partition) => ({
      topic: "clicks",
      partition,
      records: partition === 0 ? records : batches(clickRecords(300, 1), BATCH)[i]!,
    })),
    i % 2 === 0 ? "aws:kafka" : "SelfManagedKafka",
  ),
);

/** As an event source does: the same event until it is taken, at last in a new environment. */
async function deliver(stores: MemoryStores, events = EVENTS, attemptsMax = 1): Promise<void> {
  let processor = processorOver(pipeline, stores);
  for (const event of events) {
    for (let attempt = 1; ; attempt++) {
      try {
        await processor.handle(event, context);
        break;
      } catch (error) {
        if (attempt >= attemptsMax) throw error;
        if (attempt > 1) processor = processorOver(pipeline, stores);
      }
    }
  }
}

async function expected() {
  const stores = memoryStores();
  await deliver(stores);
  return published(pipeline, stores);
}

const EXPECTED = await expected();

const counting = faultAt(Number.POSITIVE_INFINITY, "before", false);
await deliver(through(memoryStores(), counting.hook));
const STEPS = counting.operations.length;

describe("what the processor takes", () => {
  it("adds up: every record is an event or a dead letter, late or counted", () => {
    expect(EXPECTED.records).toBe(2 * RECORDS.length);
    const { bronze, dead_letters, late, pages, visits, expensive } = EXPECTED.tables;
    expect(bronze).toHaveLength(600);
    const bad = RECORDS.filter(({ value }) => value === null || value?.includes("broken"));
    expect(dead_letters).toHaveLength(2 * bad.length);
    for (const rows of [late, pages, visits, expensive]) expect(rows!.length).toBeGreaterThan(9);
  });

  it("keeps keys, tombstones and offsets with gaps in bronze", () => {
    const rows = EXPECTED.tables.bronze!.map((row) => JSON.parse(row));
    for (const { offset, value, key, timestamp } of RECORDS) {
      const row = rows.find((one) => one.partition === 0 && one.offset === `${offset}n`);
      expect(row).toEqual({
        topic: "clicks",
        partition: 0,
        offset: `${offset}n`,
        timestamp,
        key: key ?? null,
        value: value ?? null,
      });
    }
  });

  it("is the same however the records are cut into batches", async () => {
    for (const size of [1, 7, 300]) {
      const stores = memoryStores();
      const events = batches(RECORDS, size).map((records) => eventOf(records));
      await deliver(stores, events);
      const others = batches(clickRecords(300, 1), size).map((records) => eventOf(records, 1));
      await deliver(stores, others);
      expect(await published(pipeline, stores), `batches of ${size}`).toEqual(EXPECTED);
    }
  });
});

describe("redelivery", () => {
  it("of every batch twice, and then of all, changes nothing and is counted", async () => {
    const stores = memoryStores();
    const processor = processorOver(pipeline, stores);
    for (const event of EVENTS) {
      await processor.handle(event, context);
      await processor.handle(event, context);
    }
    await deliver(stores);
    expect(processor.total("Redelivered")).toBe(600);
    expect(processor.total("RecordsRead")).toBe(600);
    expect(await published(pipeline, stores)).toEqual(EXPECTED);
  });

  it("of a batch that overlaps what was committed takes the rest only", async () => {
    const stores = memoryStores();
    const processor = processorOver(pipeline, stores);
    for (const [from, to] of [
      [0, 120],
      [60, 180],
      [10, 300],
    ]) {
      await processor.handle(eventOf(RECORDS.slice(from, to)), context);
    }
    await deliver(
      stores,
      batches(clickRecords(300, 1), 100).map((list) => eventOf(list, 1)),
    );
    expect(processor.total("RecordsRead")).toBe(300);
    expect(processor.total("Redelivered")).toBe(60 + 170);
    expect(await published(pipeline, stores)).toEqual(EXPECTED);
  });
});

describe("a store that fails", () => {
  for (const moment of ["before", "after"] as const) {
    it(`once, ${moment} any step, changes nothing`, async () => {
      for (let at = 0; at < STEPS; at++) {
        const stores = memoryStores();
        await deliver(through(stores, faultAt(at, moment, false).hook), EVENTS, 3);
        expect(await published(pipeline, stores), `step ${at} of ${STEPS}`).toEqual(EXPECTED);
      }
    });

    it(`for good, ${moment} any step (a killed process), changes nothing`, async () => {
      for (let at = 0; at < STEPS; at++) {
        const stores = memoryStores();
        await deliver(through(stores, faultAt(at, moment, true).hook)).catch(() => undefined);
        await deliver(stores);
        expect(await published(pipeline, stores), `step ${at} of ${STEPS}`).toEqual(EXPECTED);
      }
    });
  }

  it("for one partition fails that one after the others have committed", async () => {
    const stores = memoryStores();
    const faults: FaultHook = {
      before({ name, target }) {
        if (name === "putIfAbsent" && target.includes("/clicks/0/")) throw new Fault("disk full");
      },
    };
    const processor = processorOver(pipeline, through(stores, faults));
    await expect(processor.handle(EVENTS[0], context)).rejects.toThrow(
      /1 partition\(s\).*clicks-0 from offset 103: disk full/s,
    );
    const item = await stores.checkpoints.read("clicks-by-page/partitions/clicks/1");
    expect(item?.generation).toBe(1);
    await deliver(stores);
    expect(await published(pipeline, stores)).toEqual(EXPECTED);
  });
});

describe("several at once", () => {
  it("in one environment: two requests with the same records count them once", async () => {
    const stores = memoryStores();
    const processor = processorOver(pipeline, stores);
    for (const event of EVENTS) {
      await Promise.all([processor.handle(event, context), processor.handle(event, context)]);
    }
    expect(processor.total("CommitConflicts")).toBe(0);
    expect(await published(pipeline, stores)).toEqual(EXPECTED);
  });

  it("in one environment: a request that waits keeps its records", async () => {
    const stores = memoryStores();
    let goOn = () => {};
    const others = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    // All of partition 1 waits for its first read until partition 0 is through.
    const before: FaultHook["before"] = ({ name, target }) =>
      name === "read" && target.endsWith("/clicks/1") ? others : undefined;
    const { handle } = processorOver(pipeline, through(stores, { before }));
    const [first, ...rest] = batches(RECORDS, BATCH);
    await handle(eventOf(first!), context);
    const waiting = handle(eventOf(clickRecords(300, 1), 1), context);
    for (const records of rest) await handle(eventOf(records), context);
    goOn();
    await waiting;
    expect(await published(pipeline, stores)).toEqual(EXPECTED);
  });

  it("in several environments, each with all records, count them once", async () => {
    const stores = memoryStores();
    const processors = [1, 2, 3].map(() => processorOver(pipeline, stores));
    await Promise.all(
      processors.map(async ({ handle }) => {
        for (const event of EVENTS) await handle(event, context);
      }),
    );
    const total = (metric: string) =>
      processors.reduce((sum, processor) => sum + processor.total(metric), 0);
    expect(total("RecordsRead")).toBe(600);
    expect(total("CommitConflicts")).toBeGreaterThan(0);
    expect(await published(pipeline, stores)).toEqual(EXPECTED);
  });

  it("end as one, when one pauses before any step while the other takes it all", async () => {
    for (let at = 0; at < STEPS; at++) {
      const stores = memoryStores();
      let count = 0;
      const before = () => (count++ === at ? deliver(stores) : undefined);
      await deliver(through(stores, { before }));
      expect(await published(pipeline, stores), `step ${at} of ${STEPS}`).toEqual(EXPECTED);
    }
  });
});

describe("storage writes", () => {
  async function writesASlice(bronze: boolean, log: readonly TestRecord[]) {
    const writes: string[] = [];
    const faults: FaultHook = {
      before({ name }) {
        if (name === "putIfAbsent" || name === "compareAndSwap") writes.push(name);
      },
    };
    const stores = through(memoryStores(64 * 1024), faults);
    const processor = processorOver(clicksPipeline({ bronze }), stores);
    const counts: number[] = [];
    for (const records of batches(log, 20)) {
      const before = writes.length;
      await processor.handle(eventOf(records), context);
      counts.push(writes.length - before);
    }
    expect(processor.total("StorageWrites")).toBe(writes.length);
    return counts;
  }

  it("are two a slice with bronze: its object and the checkpoint", async () => {
    expect(new Set(await writesASlice(true, RECORDS))).toEqual(new Set([2]));
  });

  it("are two a slice without bronze where something leaves, else one", async () => {
    expect(new Set(await writesASlice(false, RECORDS))).toEqual(new Set([2]));
    const at = new Date(0).toISOString();
    const plain = RECORDS.map(({ offset }) => {
      const value = JSON.stringify({ id: `${offset}`, user: "u", page: "/", cost: 1, at });
      return { offset, timestamp: 0, value };
    });
    expect(new Set(await writesASlice(false, plain))).toEqual(new Set([1]));
  });

  it("reads nothing while warm", async () => {
    const reads: string[] = [];
    const faults: FaultHook = {
      before({ name }) {
        if (name === "read" || name === "get" || name === "list") reads.push(name);
      },
    };
    const processor = processorOver(pipeline, through(memoryStores(), faults));
    for (const records of batches(RECORDS, 30)) await processor.handle(eventOf(records), context);
    expect(reads).toEqual(["read"]);
  });
});

describe("a partial batch response", () => {
  it("is empty when all went well", async () => {
    const env = { MILLPOND_PARTIAL_BATCH: "true" };
    const { handle } = processorOver(pipeline, memoryStores(), env);
    expect(await handle(EVENTS[0], context)).toEqual({ batchItemFailures: [] });
  });

  it("names the first record that was not processed, and those before are committed", async () => {
    const stores = memoryStores();
    let puts = 0;
    const faults: FaultHook = {
      before({ name, target }) {
        if (name === "putIfAbsent" && target.includes("/clicks/1/outbox/") && ++puts > 1) {
          throw new Fault("no more");
        }
      },
    };
    const env = { MILLPOND_PARTIAL_BATCH: "true" };
    const { handle, lines } = processorOver(pipeline, through(stores, faults), env);
    const many = clickRecords(25_000, 1);
    const event = kafkaEvent([
      { topic: "clicks", partition: 0, records: RECORDS },
      { topic: "clicks", partition: 1, records: many },
    ]);
    const response: PartialBatchResponse | undefined = await handle(event, context);
    const { offset } = many[10_000]!;
    expect(response).toEqual({
      batchItemFailures: [{ itemIdentifier: { partition: "clicks-1", offset } }],
    });
    const item = await stores.checkpoints.read("clicks-by-page/partitions/clicks/1");
    expect(item?.attributes.nextOffset).toBe(many[9_999]!.offset + 1);
    expect(lines).toContainEqual(
      expect.objectContaining({ level: "error", partition: "clicks-1", offset }),
    );
  });
});

describe("the time that is left", () => {
  const many = clickRecords(30_000);
  const slices = batches(many, 10_000);

  it("ends an invocation before a slice that it might not finish", async () => {
    const stores = memoryStores();
    const env = { MILLPOND_PARTIAL_BATCH: "true" };
    const { handle } = processorOver(pipeline, stores, env);
    // The second slice has time enough, the third has not.
    const left = [1, 60_000, 100];
    const response = await handle(eventOf(many), { getRemainingTimeInMillis: () => left.shift()! });
    expect(response?.batchItemFailures).toEqual([
      { itemIdentifier: { partition: "clicks-0", offset: slices[2]![0]!.offset } },
    ]);
    const item = await stores.checkpoints.read("clicks-by-page/partitions/clicks/0");
    expect(item?.attributes.nextOffset).toBe(slices[1]!.at(-1)!.offset + 1);
  });

  it("is never too short for the first slice, so that a batch gets on", async () => {
    const { handle } = processorOver(pipeline, memoryStores());
    const hurried = { getRemainingTimeInMillis: () => 10 };
    for (let attempt = 0; attempt < 2; attempt++) {
      await expect(handle(eventOf(many), hurried)).rejects.toThrow(/longer timeout/);
    }
    // Slices that were committed before are passed by at once, but still count as begun.
    await handle(eventOf(many), context);
  });
});

describe("what is refused", () => {
  it("is a topic of no stream, with what there is", async () => {
    const { handle } = processorOver(pipeline, memoryStores());
    const event = kafkaEvent([{ topic: "nope", partition: 0, records: RECORDS }]);
    await expect(handle(event, context)).rejects.toThrow(
      /topic "nope" is of no stream of pipeline "clicks-by-page", whose topics are clicks/,
    );
  });

  it("but not a stream's topic of another name", async () => {
    const stores = memoryStores();
    const env = { MILLPOND_TOPICS: '{"clicks":"prod.clicks"}' };
    const { handle } = processorOver(pipeline, stores, env);
    await handle(kafkaEvent([{ topic: "prod.clicks", partition: 0, records: RECORDS }]), context);
    expect((await published(pipeline, stores)).records).toBe(300);
  });

  it.each(["[]", "no", '{"nope":"x"}', '{"clicks":5}', '{"clicks":""}'])(
    "is MILLPOND_TOPICS = %s",
    async (MILLPOND_TOPICS) => {
      const { handle } = processorOver(pipeline, memoryStores(), { MILLPOND_TOPICS });
      await expect(handle(EVENTS[0], context)).rejects.toThrow(/MILLPOND_TOPICS cannot be used/);
    },
  );

  it("is the checkpoint of a changed definition", async () => {
    const stores = memoryStores();
    await deliver(stores);
    const { handle } = processorOver(clicksPipeline({ lateness: 5 }), stores);
    await expect(handle(EVENTS[0], context)).rejects.toThrow(/a changed definition/);
  });

  const recreated = (records: TestRecord[], change: (record: TestRecord) => TestRecord) =>
    records.map((record) => change(record));

  it.each([
    [
      "with younger records below the checkpoint",
      recreated(RECORDS.slice(50, 60), (r) => ({ ...r, timestamp: r.timestamp! + 86_400_000 })),
      /timestamp .* later than of any record/,
    ],
    [
      "that begins before the first record ever taken",
      recreated(RECORDS.slice(0, 10), (r) => ({ ...r, offset: r.offset - 100 })),
      /below the first that was ever taken/,
    ],
    [
      "with another first record",
      recreated(RECORDS.slice(0, 10), (r) => ({ ...r, value: "{}" })),
      /another record at offset 103/,
    ],
    [
      "with another record where the checkpoint ends",
      recreated(RECORDS.slice(290), (r) => ({ ...r, value: `${r.value} ` })),
      /another record at offset \d+ than was taken there/,
    ],
  ])("is a topic made anew %s", async (_, records, message) => {
    const stores = memoryStores();
    await deliver(stores);
    const before = await stores.checkpoints.read("clicks-by-page/partitions/clicks/0");
    for (const processor of [processorOver(pipeline, stores), processorOver(pipeline, stores)]) {
      await expect(processor.handle(eventOf(records), context)).rejects.toThrow(message);
      await expect(processor.handle(eventOf(records), context)).rejects.toThrow(/made anew/);
    }
    const after = await stores.checkpoints.read("clicks-by-page/partitions/clicks/0");
    expect(after).toEqual(before);
  });
});

/** As the publisher's commit does. */
async function setTaken(stores: MemoryStores, taken: Record<string, number>): Promise<void> {
  const publisher = new CheckpointCell(stores.checkpoints, "clicks-by-page/publisher");
  await publisher.read();
  await publisher.swap({ taken }, new Uint8Array());
}

describe("the bound of state", () => {
  const records = clickRecords(1_500);
  const events = batches(records, 20).map((some) => eventOf(some));
  const over = async (stateBytesMax: number) => {
    const stores = memoryStores();
    const bounds = { ...PARTITION_BOUNDS, stateBytesMax };
    const { handle } = processorOver(pipeline, stores, {}, { bounds });
    for (const event of events) await handle(event, context);
    return published(pipeline, stores);
  };

  it("counts what is in it, not what has left it since it was last written whole", async () => {
    expect(await over(24_000)).toEqual(await over(PARTITION_BOUNDS.stateBytesMax));
  });

  it("refuses the records that would go beyond it", async () => {
    await expect(over(1_000)).rejects.toThrow(/state bytes, the limit is 1000/);
  });
});

describe("the outbox", () => {
  it("lets go what the publisher has taken, with one read in many commits", async () => {
    const stores = memoryStores();
    let looks = 0;
    const faults: FaultHook = {
      before: ({ name, target }) => {
        if (name === "read" && target.endsWith("/publisher")) looks += 1;
      },
    };
    const { handle, lines } = processorOver(pipeline, through(stores, faults));
    const id = "clicks-by-page/partitions/clicks/0";
    for (const [i, records] of batches(RECORDS, 5).entries()) {
      await handle(eventOf(records), context);
      // The publisher takes all there is, every tenth time.
      if (i % 10 === 9) await setTaken(stores, { [id]: i + 1 });
    }
    expect(looks).toBe(3);
    const lengths = lines.flatMap((line) => line.OutboxEntries as number[]);
    expect(lengths).toHaveLength(60);
    expect(Math.max(...lengths)).toBeLessThanOrEqual(32);
  });

  it.each([
    { what: "3000 commits", entries: 3000, bytes: 100 },
    { what: "20 GiB", entries: 20, bytes: 1024 ** 3 },
  ])("stops the processor at $what; nothing is lost once the sink works again", async (full) => {
    const stores = memoryStores();
    const { handle } = processorOver(pipeline, stores);
    const id = "clicks-by-page/partitions/clicks/0";
    await handle(eventOf(RECORDS.slice(0, 100)), context);
    const item = (await stores.checkpoints.read(id))!;
    // As if the sink had been down for so long.
    const [[, commitId, , ...times] = []] = item.attributes.outbox as unknown[][];
    const outbox = Array.from({ length: full.entries }, (_, i) => [
      i + 1,
      commitId,
      full.bytes,
      ...times,
    ]);
    const attributes = { ...item.attributes, outbox, nextOutboxSequence: full.entries + 1 };
    const next = { ...item, generation: 2, commitId: "full", attributes };
    await stores.checkpoints.compareAndSwap(id, next);
    for (let attempt = 0; attempt < 3; attempt++) {
      await expect(handle(eventOf(RECORDS.slice(100)), context)).rejects.toThrow(
        /commits of \d+ bytes .* the limits are 3000 commits .* Kafka keeps them/,
      );
    }
    expect((await stores.checkpoints.read(id))?.generation).toBe(2);
    await setTaken(stores, { [id]: full.entries });
    await handle(eventOf(RECORDS.slice(100)), context);
    expect((await stores.checkpoints.read(id))?.attributes.outbox).toHaveLength(1);
  });
});
