/** Objects through the ingest handler: each once, whatever fails, comes again, or is at once. */
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { type IngestHandler, makeIngest } from "../../../lib/handlers/ingest.js";
import { INGEST_PARTITION } from "../../../lib/runtime/object-ingest.js";
import type { ObjectSource } from "../../../lib/sources/objects/object-source.js";
import { clickRecords, clicksPipeline } from "./clicks.js";
import {
  context,
  faultAt,
  kafkaEvent,
  type MemoryStores,
  memoryStores,
  processorOver,
  through,
} from "./kafka-support.js";
import { published } from "./published.js";

const pipeline = clicksPipeline();
const MODIFIED_MS = Date.UTC(2025, 0, 2);

/** A bucket in memory. */
class Bucket implements ObjectSource {
  readonly contents = new Map<string, { etag: string; content: Buffer }>();
  modifiedMs = MODIFIED_MS;
  reads = 0;
  onRead: ((read: number) => void) | null = null;

  put(key: string, content: string | Buffer): void {
    const etag = `${this.contents.get(key)?.etag ?? ""}x`;
    this.contents.set(key, { etag, content: Buffer.from(content) });
  }

  async describe(key: string) {
    const found = this.contents.get(key);
    if (found === undefined) return null;
    return { key, etag: found.etag, bytes: found.content.length, modifiedMs: this.modifiedMs };
  }

  async range({ key, etag }: { key: string; etag: string }, from: number, to: number) {
    this.onRead?.(++this.reads);
    const found = this.contents.get(key);
    return found?.etag === etag ? found.content.subarray(from, to) : null;
  }
}

const LINES = clickRecords(260).flatMap(({ value }) => value ?? []);
const ndjson = (lines: readonly string[]) => lines.map((line) => `${line}\n`).join("");

const OBJECTS = new Map<string, Buffer>([
  ["incoming/clicks/1.ndjson", Buffer.from(ndjson(LINES.slice(0, 100)))],
  ["incoming/clicks/a b/2.jsonl.gz", gzipSync(ndjson(LINES.slice(100, 180)))],
  ["incoming/clicks/3.json", Buffer.from(ndjson(LINES.slice(180)))],
  ["incoming/clicks/empty.ndjson", Buffer.alloc(0)],
]);
const KEYS = [...OBJECTS.keys()];

function fullBucket(): Bucket {
  const bucket = new Bucket();
  for (const [key, content] of OBJECTS) bucket.put(key, content);
  return bucket;
}

const created = (...keys: string[]) => ({
  Records: keys.map((key) => ({
    eventSource: "aws:s3",
    s3: { bucket: { name: "b" }, object: { key: encodeURIComponent(key).replaceAll("%20", "+") } },
  })),
});

interface TestIngest {
  readonly handle: IngestHandler;
  readonly lines: Record<string, unknown>[];
}

function ingestOver(stores: MemoryStores, incoming: ObjectSource, prefix = ""): TestIngest {
  const lines: Record<string, unknown>[] = [];
  const handle = makeIngest({
    pipeline,
    env: { MILLPOND_BUCKET: "b", MILLPOND_PREFIX: prefix },
    stores: { ...stores, incoming },
    write: (line) => lines.push(JSON.parse(line)),
  });
  return { handle, lines };
}

/** Each object's notification until it is taken, in a new environment after a failure. */
async function deliver(
  stores: MemoryStores,
  bucket: ObjectSource,
  keys: readonly string[] = KEYS,
  attemptsMax = 1,
): Promise<void> {
  let ingest = ingestOver(stores, bucket);
  for (const key of keys) {
    for (let attempt = 1; ; attempt++) {
      try {
        await ingest.handle(created(key), context);
        break;
      } catch (error) {
        if (attempt >= attemptsMax) throw error;
        ingest = ingestOver(stores, bucket);
      }
    }
  }
}

/** What the same records give as one Kafka partition: another way to the same numbers. */
async function expectedFor(lines: readonly string[]) {
  const stores = memoryStores();
  const records = lines.map((value, offset) => ({ offset, timestamp: MODIFIED_MS, value }));
  const { handle } = processorOver(pipeline, stores);
  await handle(kafkaEvent([{ topic: "clicks", partition: INGEST_PARTITION, records }]), context);
  return published(pipeline, stores);
}

/** White space between tokens may differ. */
function withoutText(tables: Record<string, string[]>): Record<string, unknown[]> {
  const parsed = (text: unknown) => (typeof text === "string" ? JSON.parse(text) : text);
  const entries = Object.entries(tables).map(([name, rows]) => {
    const values = rows.map((row) => JSON.parse(row));
    const texts = values.map((row) => ({
      ...row,
      payload: parsed(row.payload),
      value: parsed(row.value),
      raw: null,
    }));
    return [name, texts];
  });
  return Object.fromEntries(entries);
}

const EXPECTED = await expectedFor(LINES);

const counting = faultAt(Number.POSITIVE_INFINITY, "before", false);
await deliver(through(memoryStores(), counting.hook), fullBucket());
const STEPS = counting.operations.length;

describe("objects", () => {
  it("of every format give the tables of their records", async () => {
    const stores = memoryStores();
    const { handle, lines } = ingestOver(stores, fullBucket());
    const results = await handle(created(...KEYS), context);
    expect(results.map(({ outcome }) => outcome)).toMatchObject([
      { kind: "ingested", records: 100, warnings: [] },
      { kind: "ingested", records: 80 },
      { kind: "ingested", records: LINES.length - 180 },
      { kind: "ingested", records: 0 },
    ]);
    expect(lines).toMatchObject([{ ObjectsIngested: 4, ObjectsRejected: 0 }]);
    expect(await published(pipeline, stores)).toEqual(EXPECTED);
  });

  it("of one JSON array give the same events", async () => {
    const events = LINES.filter((line) => !line.includes("broken"));
    const expected = withoutText((await expectedFor(events)).tables);
    for (const indent of [0, 2]) {
      const bucket = new Bucket();
      const array = events.map((line) => JSON.parse(line));
      bucket.put("incoming/clicks/a.json.gz", gzipSync(JSON.stringify(array, null, indent)));
      const stores = memoryStores();
      await deliver(stores, bucket, [...bucket.contents.keys()]);
      const { tables } = await published(pipeline, stores);
      expect(withoutText(tables), `indented by ${indent}`).toEqual(expected);
    }
  });

  it("below a prefix are found there", async () => {
    const bucket = fullBucket();
    const stores = memoryStores();
    const { handle } = ingestOver(stores, bucket, "stage/");
    await handle(created(...KEYS.map((key) => `stage/${key}`)), context);
    expect(await published(pipeline, stores)).toEqual(EXPECTED);
  });

  it("that are notified again, in any order, count once", async () => {
    const stores = memoryStores();
    const bucket = fullBucket();
    await deliver(stores, bucket);
    const { handle } = ingestOver(stores, bucket);
    for (const key of [...KEYS, ...KEYS].reverse()) {
      expect(await handle(created(key), context)).toEqual([{ key, outcome: { kind: "already" } }]);
    }
    bucket.contents.clear();
    const [again] = await handle(created(KEYS[0]!), context);
    expect(again?.outcome).toEqual({ kind: "already" });
    expect(await published(pipeline, stores)).toEqual(EXPECTED);
  });

  it("go beside Kafka's partitions of the same stream", async () => {
    const stores = memoryStores();
    const records = clickRecords(100);
    const event = kafkaEvent([{ topic: "clicks", partition: 0, records }]);
    await processorOver(pipeline, stores).handle(event, context);
    await deliver(stores, fullBucket());
    expect((await published(pipeline, stores)).records).toBe(100 + LINES.length);
  });
});

describe("a store that fails", () => {
  for (const moment of ["before", "after"] as const) {
    it(`once, ${moment} any step, changes nothing`, async () => {
      for (let at = 0; at < STEPS; at++) {
        const stores = memoryStores();
        await deliver(through(stores, faultAt(at, moment, false).hook), fullBucket(), KEYS, 3);
        expect(await published(pipeline, stores), `step ${at} of ${STEPS}`).toEqual(EXPECTED);
      }
    });

    it(`for good, ${moment} any step (a killed process), changes nothing`, async () => {
      for (let at = 0; at < STEPS; at++) {
        const stores = memoryStores();
        const bucket = fullBucket();
        const dying = deliver(through(stores, faultAt(at, moment, true).hook), bucket);
        await dying.catch(() => undefined);
        // Of all objects again, as queues do.
        await deliver(stores, bucket);
        expect(await published(pipeline, stores), `step ${at} of ${STEPS}`).toEqual(EXPECTED);
      }
    });
  }

  it("is made up for by the next notification, of whatever object", async () => {
    for (let at = 0; at < STEPS; at++) {
      const stores = memoryStores();
      const bucket = fullBucket();
      const dying = deliver(
        through(stores, faultAt(at, "after", true).hook),
        bucket,
        KEYS.slice(0, 1),
      );
      await dying.catch(() => undefined);
      if ((await stores.checkpoints.list("clicks-by-page/partitions/")).length === 0) continue;
      await deliver(stores, bucket, KEYS.slice(1));
      expect(await published(pipeline, stores), `step ${at} of ${STEPS}`).toEqual(EXPECTED);
    }
  });
});

describe("several at once", () => {
  it("with the same objects count them once", async () => {
    const stores = memoryStores();
    const bucket = fullBucket();
    await Promise.all([1, 2, 3].map(() => deliver(stores, bucket)));
    expect(await published(pipeline, stores)).toEqual(EXPECTED);
  });

  it("in one environment take turns", async () => {
    const stores = memoryStores();
    const { handle } = ingestOver(stores, fullBucket());
    const all = [...KEYS, ...KEYS].map((key) => handle(created(key), context));
    const kinds = (await Promise.all(all)).flat().map(({ outcome }) => outcome.kind);
    expect(kinds).toEqual([...KEYS.map(() => "ingested"), ...KEYS.map(() => "already")]);
    expect(await published(pipeline, stores)).toEqual(EXPECTED);
  });

  it("end as one, when one pauses before any step while the other takes them all", async () => {
    for (let at = 0; at < STEPS; at++) {
      const stores = memoryStores();
      const bucket = fullBucket();
      let count = 0;
      const before = () => (count++ === at ? deliver(stores, bucket) : undefined);
      await deliver(through(stores, { before }), bucket);
      expect(await published(pipeline, stores), `step ${at} of ${STEPS}`).toEqual(EXPECTED);
    }
  });

  it("end as one, when the other takes them in another order", async () => {
    const expected = (await expectedFor(LINES)).records;
    for (let at = 0; at < STEPS; at++) {
      const stores = memoryStores();
      const bucket = fullBucket();
      let count = 0;
      const reversed = [...KEYS].reverse();
      const before = () => (count++ === at ? deliver(stores, bucket, reversed) : undefined);
      await deliver(through(stores, { before }), bucket);
      const { records, tables } = await published(pipeline, stores);
      expect(records, `step ${at} of ${STEPS}`).toBe(expected);
      const values = tables.bronze!.map((row) => JSON.parse(row).value).sort();
      expect(values, `step ${at} of ${STEPS}`).toEqual([...LINES].sort());
    }
  });
});

it("an object that was removed once another ingest had finished it is no dead letter", async () => {
  const [stores, bucket] = [memoryStores(), fullBucket()];
  const key = "incoming/clicks/1.ndjson";
  const isEntry = (name: string, target: string) =>
    name === "compareAndSwap" && target.includes("/ingested/");
  const cut = through(stores, {
    before({ name, target }) {
      if (isEntry(name, target)) throw new Error("cut off before the object is entered");
    },
  });
  await expect(ingestOver(cut, bucket).handle(created(key), context)).rejects.toThrow("cut off");

  // It found the object begun and not finished; then it is slow.
  const slow: ObjectSource = {
    async describe(given) {
      await deliver(stores, bucket, [key]);
      bucket.contents.delete(key);
      return bucket.describe(given);
    },
    range: (object, from, to) => bucket.range(object, from, to),
  };
  const [result] = await ingestOver(stores, slow).handle(created(key), context);
  expect(result?.outcome).toEqual({ kind: "already" });
  const { tables } = await published(pipeline, stores);
  expect(tables.dead_letters?.filter((row) => row.includes("replaced or deleted"))).toEqual([]);
});

it("an object that another ingest took, and that was removed then, was not gone", async () => {
  const [stores, bucket] = [memoryStores(), fullBucket()];
  const key = "incoming/clicks/1.ndjson";
  // It found nothing of the object in the ledger; then it is slow.
  const slow: ObjectSource = {
    async describe(given) {
      await deliver(stores, bucket, [key]);
      bucket.contents.delete(key);
      return bucket.describe(given);
    },
    range: (object, from, to) => bucket.range(object, from, to),
  };
  const [result] = await ingestOver(stores, slow).handle(created(key), context);
  expect(result?.outcome).toEqual({ kind: "already" });
});

describe("an object larger than an invocation's time", () => {
  const many = Array.from({ length: 35_000 }, (_, i) =>
    LINES[i % 100]!.replace(/"id":"/, `$&${i}-`),
  );
  const hurried = { getRemainingTimeInMillis: () => 100 };

  it.each([".ndjson", ".ndjson.gz"])("is taken over several (%s)", async (extension) => {
    const bucket = new Bucket();
    const key = `incoming/clicks/big${extension}`;
    const content = Buffer.from(ndjson(many));
    bucket.put(key, extension.endsWith(".gz") ? gzipSync(content) : content);
    const stores = memoryStores();
    let invocations = 1;
    for (; invocations < 10; invocations++) {
      const { handle } = ingestOver(stores, bucket);
      const result = await handle(created(key), hurried).catch((error: Error) => error.message);
      if (typeof result !== "string") break;
      expect(result).toMatch(new RegExp(`first ${invocations * 10_000} records`));
    }
    expect(invocations).toBe(4);
    expect(await published(pipeline, stores)).toEqual(await expectedFor(many));
  });

  it("is finished before another one is begun", async () => {
    const bucket = fullBucket();
    const key = "incoming/clicks/big.ndjson";
    bucket.put(key, ndjson(many));
    const stores = memoryStores();
    const { handle } = ingestOver(stores, bucket);
    await expect(handle(created(key), hurried)).rejects.toThrow(/first 10000 records/);
    await handle(created(KEYS[0]!), context);
    const { handle: other } = ingestOver(stores, bucket);
    expect(await other(created(key), context)).toEqual([{ key, outcome: { kind: "already" } }]);
    const expected = await expectedFor([...many, ...LINES.slice(0, 100)]);
    expect(await published(pipeline, stores)).toEqual(expected);
  });

  it("that is replaced keeps what was taken, and a dead letter tells of the rest", async () => {
    for (const replace of [
      (b: Bucket, k: string) => b.put(k, "{}"),
      (b: Bucket, k: string) => void b.contents.delete(k),
    ]) {
      const bucket = fullBucket();
      const key = "incoming/clicks/big.ndjson";
      bucket.put(key, ndjson(many));
      const stores = memoryStores();
      const { handle } = ingestOver(stores, bucket);
      await expect(handle(created(key), hurried)).rejects.toThrow();
      replace(bucket, key);
      await handle(created(KEYS[0]!), context);
      await handle(created(key), context);
      const { records, tables } = await published(pipeline, stores);
      expect(records).toBe(10_000 + 1 + 100);
      const letters = tables.dead_letters!.filter((row) => row.includes("was replaced or deleted"));
      expect(letters).toHaveLength(1);
      expect(letters[0]).toContain("after 10000 of its records");
    }
  });

  it("that is replaced gives one dead letter, whatever fails meanwhile", async () => {
    const key = "incoming/clicks/big.ndjson";
    const replacedHalfWay = async () => {
      const bucket = fullBucket();
      bucket.put(key, ndjson(many));
      const stores = memoryStores();
      await expect(ingestOver(stores, bucket).handle(created(key), hurried)).rejects.toThrow();
      bucket.put(key, "{}");
      return { bucket, stores };
    };
    for (const moment of ["before", "after"] as const) {
      for (let at = 0, reached = true; reached; at++) {
        const { bucket, stores } = await replacedHalfWay();
        const { hook, operations } = faultAt(at, moment, true);
        await deliver(through(stores, hook), bucket, [key]).catch(() => undefined);
        reached = operations.length > at;
        await deliver(stores, bucket, [key, KEYS[0]!]);
        const { records } = await published(pipeline, stores);
        expect(records, `step ${at}`).toBe(10_000 + 1 + 100);
      }
    }
  });

  it("keeps its records' timestamp when it is written again with the same content", async () => {
    const bucket = new Bucket();
    const key = "incoming/clicks/big.ndjson";
    bucket.put(key, ndjson(many));
    const stores = memoryStores();
    await expect(ingestOver(stores, bucket).handle(created(key), hurried)).rejects.toThrow();
    bucket.modifiedMs += 60_000;
    await deliver(stores, bucket, [key]);
    expect(await published(pipeline, stores)).toEqual(await expectedFor(many));
  });

  it("that is replaced while it is read is read anew, if nothing of it was taken", async () => {
    const bucket = new Bucket();
    const key = "incoming/clicks/1.ndjson";
    bucket.put(key, ndjson(LINES.slice(0, 100)));
    bucket.onRead = (read) => {
      if (read === 1) bucket.put(key, ndjson(LINES));
    };
    const stores = memoryStores();
    await deliver(stores, bucket, [key]);
    expect(await published(pipeline, stores)).toEqual(EXPECTED);
  });
});

describe("what is refused is counted, said, and does not come again", () => {
  async function refused(bucket: Bucket, key: string, event: unknown = created(key)) {
    const stores = memoryStores();
    const { handle, lines } = ingestOver(stores, bucket);
    const [result] = await handle(event, context);
    expect(result?.outcome.kind).toBe("rejected");
    expect(lines[0]).toMatchObject({ ObjectsRejected: 1, ObjectsIngested: 0 });
    expect(await stores.checkpoints.list("")).toEqual([]);
    return String(lines[1]?.message);
  }

  it("an object in no known format", async () => {
    const bucket = new Bucket();
    bucket.put("incoming/clicks/x.xml", "<x/>");
    expect(await refused(bucket, "incoming/clicks/x.xml")).toMatch(/must end in .ndjson, .jsonl/);
  });

  it("an object that is named .gz and is not", async () => {
    const bucket = new Bucket();
    bucket.put("incoming/clicks/x.json.gz", "{}");
    expect(await refused(bucket, "incoming/clicks/x.json.gz")).toMatch(/not start like a gzip/);
  });

  it.each(["incoming/nope/x.json", "incoming/clicks/", "incoming/x.json", "lake/clicks/x.json"])(
    "an object elsewhere: %s",
    async (key) => {
      const bucket = new Bucket();
      bucket.put(key, "{}");
      expect(await refused(bucket, key)).toMatch(/not below incoming\/<stream>\/.*: clicks/);
    },
  );

  it("an object of another bucket", async () => {
    const key = "incoming/clicks/x.json";
    const event = created(key);
    event.Records[0]!.s3.bucket.name = "other";
    expect(await refused(new Bucket(), key, event)).toMatch(/of bucket "other"/);
  });

  it("an object whose content changed after it was taken", async () => {
    const bucket = fullBucket();
    const stores = memoryStores();
    await deliver(stores, bucket);
    bucket.put(KEYS[0]!, ndjson(LINES));
    const { handle, lines } = ingestOver(stores, bucket);
    await handle(created(KEYS[0]!), context);
    expect(lines[0]).toMatchObject({ ObjectsRejected: 1 });
    expect(lines[1]?.message).toMatch(/its content has changed since/);
    expect(await published(pipeline, stores)).toEqual(EXPECTED);
  });
});

it("an object that was deleted before it was begun is passed by", async () => {
  const { handle } = ingestOver(memoryStores(), new Bucket());
  const [result] = await handle(created("incoming/clicks/x.json"), context);
  expect(result?.outcome).toEqual({ kind: "gone" });
});

it("a damaged .gz gives the records before the damage and a dead letter", async () => {
  const bucket = new Bucket();
  const key = "incoming/clicks/cut.ndjson.gz";
  const whole = gzipSync(ndjson(LINES), { level: 1 });
  bucket.put(key, whole.subarray(0, whole.length / 2));
  const stores = memoryStores();
  const { handle, lines } = ingestOver(stores, bucket);
  await handle(created(key), context);
  expect(lines).toContainEqual(expect.objectContaining({ level: "warn", object: key }));
  const { tables } = await published(pipeline, stores);
  const values = tables.bronze!.map((row) => JSON.parse(row));
  values.sort((a, b) => Number.parseInt(a.offset, 10) - Number.parseInt(b.offset, 10));
  const taken = values.map(({ value }) => value);
  expect(taken.length).toBeGreaterThan(20);
  expect(taken.slice(0, -1)).toEqual(LINES.slice(0, taken.length - 1));
  const cut = tables.dead_letters!.filter((row) => row.includes("inside its gzip stream"));
  expect(cut).toHaveLength(1);
});
