/**
 * A backfill from stack to stack, cut off at any step of any store, beside functions that are at
 * work already, and refused: nothing is seen of it before all is there, and nothing counts twice.
 */
import { readFileSync } from "node:fs";
import { DuckDBInstance } from "@duckdb/node-api";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { backfillStack } from "../../lib/audit/backfill-stack.js";
import { openBronze } from "../../lib/audit/bucket-place.js";
import { rowsOf } from "../../lib/audit/rows.js";
import type { Pipeline } from "../../lib/define/definition.js";
import { makeProcessor } from "../../lib/handlers/processor.js";
import { makeSink } from "../../lib/handlers/sink.js";
import { count, duckdb, lake, minutes, pipeline, postgres, tumbling } from "../../lib/index.js";
import { bucketDatabase } from "../../lib/stores/bucket-database.js";
import { setUpPostgres, startPostgres, type TestPostgres } from "../servers/postgres.js";
import { batches, clickRecords, clicksPipeline, clicksStream } from "../unit/handlers/clicks.js";
import { kafkaEvent, type TestRecord } from "../unit/handlers/kafka-support.js";
import { Random, testRounds, testSeed } from "./support/random.js";
import { faultAt, SinkBed, type SinkStores } from "./support/sink-stores.js";

const context = { getRemainingTimeInMillis: () => 60_000 };
const NAME = "clicks-by-page";
const v1 = clicksPipeline();
const clicks = clicksStream();
const tables = {
  pages: clicks
    .groupBy("page")
    .window(tumbling(minutes(2)))
    .aggregate({ views: count() }),
  clean: clicks.rows(),
};
const v2 = pipeline(NAME, tables, { sinks: [lake(), duckdb()] });
const PARTITIONS = [0, 1];
const LOG = PARTITIONS.map((partition) => clickRecords(120, partition));
const EARLY = LOG.map((records, partition) => records.slice(0, 70 + 20 * partition));

let beds: SinkBed[];
beforeEach(() => {
  beds = [];
});
afterEach(async () => {
  for (const bed of beds) await bed.remove();
});

async function newBed(): Promise<SinkBed> {
  const bed = await SinkBed.create();
  beds.push(bed);
  return bed;
}

const write = () => undefined;
const topics = (logs: readonly (readonly TestRecord[])[]) =>
  logs.map((records, partition) => ({ topic: "clicks", partition, records }));

async function feed(of: Pipeline, stores: SinkStores, logs: readonly TestRecord[][]) {
  const processor = makeProcessor({ pipeline: of, env: {}, stores, write });
  for (const partition of topics(logs)) {
    for (const records of batches(partition.records, 30)) {
      await processor(kafkaEvent([{ ...partition, records }]), context);
    }
  }
}

async function tick(of: Pipeline, stores: SinkStores, event: object = {}) {
  const sink = makeSink({ pipeline: of, env: process.env, stores, write });
  try {
    return await sink(event, context);
  } finally {
    await sink.close();
  }
}

async function oldStack(logs = EARLY, of = v1): Promise<SinkBed> {
  const bed = await newBed();
  await feed(of, bed.stores(), logs);
  await tick(of, bed.stores());
  return bed;
}

function request(from: SinkBed, stores: SinkStores, of: Pipeline = v2) {
  const old = from.stores();
  const place = old.database(NAME);
  if (place.kind === "file") throw new Error("expected a database in a bucket");
  const database = bucketDatabase(place, old.lake(NAME).uri(""), process.env);
  return { pipeline: of, from: database, stores, env: process.env, batchSize: 25 };
}

/** What the new definition makes of all, by a stack that has read it from Kafka. */
async function truth(): Promise<Record<string, string[]>> {
  const bed = await newBed();
  await feed(v2, bed.stores(), LOG);
  return settled(bed);
}

async function settled(bed: SinkBed, of = v2): Promise<Record<string, string[]>> {
  expect(await tick(of, bed.stores(), { flush: true })).toMatchObject({ outcome: "done" });
  const tables = await bed.dump(NAME);
  // How often a row was revised depends on when it was published.
  return Object.fromEntries(
    Object.entries(tables).map(([name, rows]) => [
      name,
      rows.map((row) => row.replace(/,"revision":"?\d+"?/, "")),
    ]),
  );
}

/** A stack that nothing has reached yet has an accounting all the same: of no records. */
const isPublished = (bed: SinkBed) =>
  bed.dump(NAME).then(
    ({ accounting: _, ...tables }) => Object.values(tables).some((rows) => rows.length > 0),
    () => false,
  );

test("cut off at any step, nothing is seen of it, and the next one ends it", async () => {
  const seed = testSeed();
  const random = new Random(seed);
  const from = await oldStack();
  const expected = await truth();
  const whole = faultAt(Number.POSITIVE_INFINITY, "before", false);
  await backfillStack(request(from, (await newBed()).stores(whole.hook)));
  const { steps } = whole.state;
  const last = Array.from({ length: 30 }, (_, i) => steps - 1 - i);
  const points = [...Array.from({ length: testRounds(6) }, () => random.below(steps))];
  points.push(random.pick(last), random.pick(last), random.pick(last));
  for (const at of points) {
    const moment = random.pick(["before", "after"] as const);
    const about = `seed ${seed}, ${moment} step ${at} of ${steps}`;
    const bed = await newBed();
    const fault = faultAt(at, moment, true);
    const outcome = await backfillStack(request(from, bed.stores(fault.hook))).catch(
      (error: unknown) => error,
    );
    if (outcome instanceof Error) {
      const journal = await bed.stores().checkpoints.read(`${NAME}/backfill`);
      // The very last step may be done, and its reply lost.
      const isSeen = ["handOver", "done"].includes(String(journal?.attributes.phase));
      if (!isSeen) expect(await isPublished(bed), about).toBe(false);
      await tick(v2, bed.stores());
      if (!isSeen) expect(await isPublished(bed), about).toBe(false);
    } else expect(outcome, about).toMatchObject({ kind: "done" });
    expect((await backfillStack(request(from, bed.stores()))).kind, about).toMatch(/done|current/);
    await feed(v2, bed.stores(), LOG);
    expect(await settled(bed), about).toEqual(expected);
  }
}, 600_000);

const done = { kind: "done", audit: { equal: true } };

describe("functions of the new stack that are at work already", () => {
  test("are left alone, and the backfill is refused, when they came first", async () => {
    const [from, bed] = [await oldStack(), await newBed()];
    await feed(v2, bed.stores(), [LOG[0]!.slice(0, 10)]);
    await tick(v2, bed.stores());
    await expect(backfillStack(request(from, bed.stores()))).rejects.toMatchObject({
      code: "OUTPUT",
      message: expect.stringContaining("processor has begun by itself"),
    });
    await feed(v2, bed.stores(), LOG);
    expect(await settled(bed)).toEqual(await truth());
  });

  test("stop while it works, and go on by themselves when it is done", async () => {
    const [from, bed] = [await oldStack(), await newBed()];
    const seen: unknown[] = [];
    const hook = {
      async after(step: string) {
        if (!step.startsWith(`checkpoints.compareAndSwap ${NAME}/publisher`)) return;
        if (seen.length > 0) return;
        seen.push(await feed(v2, bed.stores(), LOG).catch((error: unknown) => error));
        seen.push(await tick(v2, bed.stores()));
      },
    };
    expect(await backfillStack(request(from, bed.stores(hook)))).toMatchObject(done);
    expect(seen).toMatchObject([{ code: "CONFLICT" }, { outcome: "yielded" }]);
    expect(String(seen[0])).toContain("is being filled by a backfill");
    await feed(v2, bed.stores(), LOG);
    expect(await settled(bed)).toEqual(await truth());
  });

  test("may have had a partition that bronze did not have", async () => {
    const [from, bed] = [await oldStack([EARLY[0]!]), await newBed()];
    const hook = {
      async before(step: string) {
        if (step !== `checkpoints.compareAndSwap ${NAME}/backfill`) return;
        await feed(v2, bed.stores(), [[], LOG[1]!.slice(0, 20)]).catch(() => undefined);
      },
    };
    expect(await backfillStack(request(from, bed.stores(hook)))).toMatchObject(done);
    await feed(v2, bed.stores(), LOG);
    expect(await settled(bed)).toEqual(await truth());
  });
});

test("two backfills at once end as one", async () => {
  const [from, bed] = [await oldStack(), await newBed()];
  const outcomes = await Promise.allSettled(
    [0, 1].map(() => backfillStack(request(from, bed.stores()))),
  );
  for (const outcome of outcomes) {
    if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ code: "CONFLICT" });
  }
  expect((await backfillStack(request(from, bed.stores()))).kind).toMatch(/done|current/);
  await feed(v2, bed.stores(), LOG);
  expect(await settled(bed)).toEqual(await truth());
});

test("the old stack may go on meanwhile", async () => {
  const [from, bed] = [await oldStack(), await newBed()];
  let commits = 0;
  const hook = {
    before(step: string) {
      if (!step.startsWith(`checkpoints.compareAndSwap ${NAME}/partitions/clicks/0`)) return;
      // The claim, 40 records; the rest is not to be.
      if (++commits > 2) throw new Error("killed");
    },
  };
  const first = { ...request(from, bed.stores(hook)), batchSize: 5 };
  await expect(backfillStack(first)).rejects.toThrow();
  expect(await isPublished(bed)).toBe(false);
  await feed(v1, from.stores(), LOG);
  await tick(v1, from.stores());
  const ends = LOG.map((records, partition) => ({
    stream: "clicks",
    partition,
    nextOffset: records.at(-1)!.offset + 1,
    timestampMs: records.at(-1)!.timestamp,
  }));
  expect(await backfillStack(request(from, bed.stores()))).toMatchObject({ partitions: ends });
  await feed(v2, bed.stores(), LOG);
  expect(await settled(bed)).toEqual(await truth());
});

test("a stack that another definition has filled is refused, and one without bronze", async () => {
  const [from, bed] = [await oldStack(), await newBed()];
  const refusal = (of: Pipeline) => backfillStack(request(from, bed.stores(), of));
  const noBronze = pipeline(NAME, { clean: clicks.rows() }, { sinks: [lake({ bronze: false })] });
  await expect(refusal(noBronze)).rejects.toMatchObject({ code: "OUTPUT" });
  expect(await refusal(v2)).toMatchObject(done);
  await expect(refusal(v1)).rejects.toMatchObject({
    code: "OUTPUT",
    message: expect.stringContaining("another version of the definition"),
  });
});

test("what Kafka removed too early is a gap in bronze, which the page's SQL shows", async () => {
  const [from, bed] = [await oldStack(), await newBed()];
  await backfillStack(request(from, bed.stores()));
  await feed(v2, bed.stores(), [LOG[0]!.slice(100), LOG[1]!]);
  await settled(bed);
  const place = await openBronze(request(bed, bed.stores()).from, v2.definition);
  const page = readFileSync(new URL("../../docs/audit.md", import.meta.url), "utf8");
  const query = /```sql\n(SELECT topic, "partition", "offset" AS first_of[^`]*)```/;
  const [, sql = ""] = query.exec(page) ?? [];
  const gaps = await rowsOf(place.connection, sql.replace("FROM bronze", `FROM ${place.bronze}`));
  await place.close();
  const gap = {
    topic: "clicks",
    partition: 0,
    first_of_kafka: String(LOG[0]![100]!.offset),
    before: String(LOG[0]![69]!.offset),
  };
  expect(gaps).toContainEqual(gap);
});

test.each([
  ["", "SELECT 1"],
  // Of before the newest publications, whose records make up for the number of those that lack.
  [
    " in a backlog",
    "UPDATE accounting SET records = 100; UPDATE millpond.standing SET is_accounted = false",
  ],
])("bronze that lacks records which were read is refused%s", async (_, sql) => {
  const [from, bed] = [await oldStack(), await newBed()];
  const whole = request(from, bed.stores());
  const lacking = {
    ...whole.from,
    async download(file: string) {
      const etag = await whole.from.download(file);
      const instance = await DuckDBInstance.create(file);
      const connection = await instance.connect();
      await connection.run(`CREATE TABLE less AS FROM bronze LIMIT 159; DROP VIEW bronze;
        ALTER TABLE less RENAME TO bronze; ${sql}`);
      connection.closeSync();
      instance.closeSync();
      return etag;
    },
  };
  await expect(backfillStack({ ...whole, from: lacking })).rejects.toMatchObject({
    code: "OUTPUT",
    message: expect.stringContaining("holds 159 of the 160 records"),
  });
  expect(await backfillStack(whole)).toMatchObject(done);
});

/** Stores of a process that dies before it notes in the journal for the `nth` time. */
function killedAt(nth: number, bed: SinkBed): SinkStores {
  let notes = 0;
  return bed.stores({
    before(step: string) {
      if (step === `checkpoints.compareAndSwap ${NAME}/backfill`) notes += 1;
      if (notes >= nth) throw new Error(`killed: ${step}`);
    },
  });
}

const missing = await setUpPostgres();
describe.skipIf(missing !== null)(
  `tables in PostgreSQL${missing === null ? "" : ` (${missing})`}`,
  () => {
    let server: TestPostgres;
    const before = { ...process.env };
    beforeAll(async () => {
      server = await startPostgres();
      Object.assign(process.env, server.env);
    });
    afterAll(async () => {
      process.env = before;
      await server?.stop();
    });

    const sinks = [lake(), duckdb(), postgres({ schema: "site" })];
    const old = pipeline(NAME, { pages: tables.pages }, { sinks });
    const changed = pipeline(NAME, tables, { sinks });
    const rowsIn = (table: string) =>
      server.query(`SELECT page FROM site.${table}`).then(({ rows }) => rows.length);
    const tablesOf = async (schema: string) => {
      const sql = `SELECT tablename FROM pg_tables WHERE schemaname = '${schema}'`;
      return (await server.query(sql)).rows.map(({ tablename }) => tablename);
    };

    test("come into place with what queries read, and the old stack's sink stops", async () => {
      const [from, bed] = [await oldStack(EARLY, old), await newBed()];
      // Killed when the publisher is handed over: the rest is the new stack's sink's.
      let isHandingOver = false;
      let isDead = false;
      const hook = {
        before(step: string) {
          if (isDead) throw new Error(`killed: ${step}`);
        },
        async after(step: string) {
          if (step === `checkpoints.compareAndSwap ${NAME}/backfill`) {
            const journal = await bed.stores().checkpoints.read(`${NAME}/backfill`);
            isHandingOver = journal?.attributes.phase === "handOver";
          }
          isDead ||= isHandingOver && step === `checkpoints.compareAndSwap ${NAME}/publisher`;
        },
      };
      const cut = backfillStack(request(from, bed.stores(hook), changed));
      await expect(cut).rejects.toThrow();
      expect(isDead).toBe(true);
      expect(await tablesOf("site")).not.toContain("clean");
      await feed(old, from.stores(), LOG);
      await tick(old, from.stores());

      await tick(changed, bed.stores());
      expect(await rowsIn("clean")).toBeGreaterThan(0);
      await expect(tick(old, from.stores())).rejects.toMatchObject({
        message: expect.stringContaining("holds the results of another output"),
      });
      expect((await backfillStack(request(from, bed.stores(), changed))).kind).toBe("done");
      await feed(changed, bed.stores(), LOG);
      const results = await settled(bed, changed);
      expect(results).toEqual(await truth());
      expect(await rowsIn("clean")).toBe(results.clean!.length);
      expect(await rowsIn("pages")).toBe(results.pages!.length);
    });

    test("stay away from those of an output that took the schema meanwhile", async () => {
      const sinks = [lake(), duckdb(), postgres({ schema: "wanted" })];
      const wanted = pipeline(NAME, tables, { sinks });
      const [from, bed] = [await oldStack(), await newBed()];
      let notes = 0;
      let other: SinkBed | null = null;
      const hook = {
        async before(step: string) {
          if (step !== `checkpoints.compareAndSwap ${NAME}/backfill` || ++notes !== 2) return;
          other = await oldStack([EARLY[0]!], wanted);
        },
      };
      const refused = { code: "OUTPUT", message: expect.stringContaining("was taken by another") };
      const request2 = request(from, bed.stores(hook), wanted);
      await expect(backfillStack(request2)).rejects.toMatchObject(refused);
      await expect(tick(wanted, bed.stores())).rejects.toMatchObject(refused);
      expect(await tick(wanted, other!.stores())).toMatchObject({ outcome: "done" });
      const rows = await server.query("SELECT DISTINCT partition FROM wanted.clean");
      expect(rows.rows).toEqual([{ partition: 0 }]);

      await server.query("ALTER SCHEMA wanted RENAME TO others");
      expect((await backfillStack(request(from, bed.stores(), wanted))).kind).toBe("done");
      await feed(wanted, bed.stores(), LOG);
      const results = await settled(bed, wanted);
      expect(results).toEqual(await truth());
      const { rows: placed } = await server.query("SELECT page FROM wanted.clean");
      expect(placed).toHaveLength(results.clean!.length);
    });

    test("of two that begin at once, the slower one leaves what the other filled", async () => {
      const sinks = [lake(), duckdb(), postgres({ schema: "twice" })];
      const twice = pipeline(NAME, tables, { sinks });
      const [from, bed] = [await oldStack(), await newBed()];
      const first = killedAt(2, bed);
      let journalReads = 0;
      let isFilled = false;
      // As late as it can be: before whatever the slower one changes.
      const fill = async () => {
        if (isFilled) return;
        isFilled = true;
        await expect(backfillStack(request(from, first, twice))).rejects.toThrow("killed");
      };
      const slower = bed.stores({
        async before(step: string) {
          if (step.startsWith("checkpoints.compareAndSwap")) await fill();
        },
        async after(step: string) {
          if (step !== `checkpoints.read ${NAME}/backfill`) return;
          if (++journalReads === 2) await fill();
        },
      });
      await expect(backfillStack(request(from, slower, twice))).rejects.toMatchObject({
        code: "CONFLICT",
      });
      expect(await backfillStack(request(from, bed.stores(), twice))).toMatchObject(done);
      await feed(twice, bed.stores(), LOG);
      expect(await settled(bed, twice)).toEqual(await truth());
    });

    test("cut off before there is a schema to fill, the next one makes it", async () => {
      const sinks = [lake(), duckdb(), postgres({ schema: "unmade" })];
      const unmade = pipeline(NAME, tables, { sinks });
      const [from, bed] = [await oldStack(), await newBed()];
      const hook = {
        before(step: string) {
          if (step.endsWith(`compareAndSwap ${NAME}/publisher`)) throw new Error("killed");
        },
      };
      const cut = backfillStack(request(from, bed.stores(hook), unmade));
      await expect(cut).rejects.toThrow("killed");
      expect(await tablesOf("unmade_backfill")).toEqual([]);
      expect(await backfillStack(request(from, bed.stores(), unmade))).toMatchObject(done);
      expect(await tablesOf("unmade")).toContain("clean");
    });
  },
);
