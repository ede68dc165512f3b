/** A sink that was away: it takes the backlog in steps, in event-time order, within its time. */
import { expect, test } from "vitest";
import { definitionHash } from "../../lib/define/json.js";
import { compileStream } from "../../lib/engine/program.js";
import { makeProcessor } from "../../lib/handlers/processor.js";
import {
  count,
  duckdb,
  lake,
  minutes,
  pipeline,
  session,
  stream,
  string,
  timestamp,
  tumbling,
} from "../../lib/index.js";
import type { StepBounds } from "../../lib/runtime/backlog.js";
import { makeSinks, storePlaces } from "../../lib/runtime/run-sinks.js";
import { SinkRounds } from "../../lib/runtime/sink-rounds.js";
import { clickRecords } from "../unit/handlers/clicks.js";
import { kafkaEvent } from "../unit/handlers/kafka-support.js";
import { SinkBed, type SinkStores } from "./support/sink-stores.js";

const RECORDS = 1500;
const PARTITIONS = [0, 1, 2];
const clicks = stream("clicks", {
  schema: { id: string(), user: string(), page: string(), at: timestamp() },
  key: "user",
  eventTime: "at",
  lateness: minutes(1),
  dedup: "id",
});
const windowed = clicks.groupBy("page").window(tumbling(minutes(1)));
const definition = pipeline(
  "clicks",
  {
    // Whoever runs ahead of what was taken loses rows here.
    pages: windowed.aggregate({ views: count() }).reviseFor(minutes(1)),
    visits: clicks
      .groupBy("user")
      .window(session(minutes(2)))
      .aggregate({ views: count() }),
  },
  { sinks: [lake(), duckdb()] },
);

async function feed(stores: SinkStores): Promise<void> {
  const context = { getRemainingTimeInMillis: () => 60_000 };
  const processor = makeProcessor({
    pipeline: definition,
    stores,
    write: () => undefined,
    env: {},
  });
  for (const partition of PARTITIONS) {
    // Each in commits of another size, one partition after the other.
    const size = 50 + 30 * partition;
    const records = clickRecords(RECORDS, partition);
    for (let from = 0; from < RECORDS; from += size) {
      const batch = [...records.slice(from, from + size)];
      await processor(kafkaEvent([{ topic: "clicks", partition, records: batch }]), context);
    }
  }
}

function rounds(stores: SinkStores, step?: StepBounds): SinkRounds {
  const hash = definitionHash(definition.definition);
  const context = { functions: definition.functions, references: new Map() };
  const program = compileStream(definition.definition, "clicks", context);
  const places = storePlaces(stores, "clicks", process.env);
  return new SinkRounds({
    ...stores,
    ...(step === undefined ? {} : { step }),
    definition: definition.definition,
    definitionHash: hash,
    programs: new Map([["clicks", program]]),
    sinks: makeSinks(definition.definition, places, hash, {}),
  });
}

/** What a sink makes of it that takes everything at once. */
async function takenAtOnce(): Promise<Record<string, string[]>> {
  const bed = await SinkBed.create();
  await feed(bed.stores());
  const sink = rounds(bed.stores());
  const report = await sink.run({ flush: false, tick: false, remainingMs: () => 60_000 });
  expect(report).toMatchObject({ outcome: "done", rounds: 1 });
  await sink.close();
  const tables = await bed.dump("clicks");
  await bed.remove();
  return tables;
}

test("a backlog in small steps gives the same rows, each published once", async () => {
  const expected = await takenAtOnce();
  const bed = await SinkBed.create();
  await feed(bed.stores());
  const sink = rounds(bed.stores(), { bytesMax: 30_000, entriesMax: 4 });
  const report = await sink.run({ flush: false, tick: false, remainingMs: () => 60_000 });
  expect(report.outcome).toBe("done");
  expect(report.rounds).toBeGreaterThan(10);
  await sink.close();
  const tables = await bed.dump("clicks");
  expect(tables).toEqual(expected);
  expect(tables.pages!.length).toBeGreaterThan(50);
  for (const row of tables.pages!) expect(JSON.parse(row).revision).toBe(0);
  for (const row of tables.accounting!) expect(Number(JSON.parse(row).beyond_revise)).toBe(0);
  await bed.remove();
}, 120_000);

test("when time runs out it says so, and the next call goes on", async () => {
  const expected = await takenAtOnce();
  const bed = await SinkBed.create();
  await feed(bed.stores());
  let calls = 0;
  for (let outcome = ""; outcome !== "done"; calls++) {
    let left = 60_000;
    // Enough for two rounds.
    const remainingMs = () => (left -= 25_000);
    // A new one each time, as after days off: everything it knows is in the stores.
    const sink = rounds(bed.stores(), { bytesMax: 30_000, entriesMax: 6 });
    const report = await sink.run({ flush: false, tick: true, remainingMs });
    expect(report.rounds).toBeLessThanOrEqual(2);
    outcome = report.outcome;
    await sink.close();
  }
  expect(calls).toBeGreaterThan(5);
  expect(await bed.dump("clicks")).toEqual(expected);
  await bed.remove();
}, 120_000);
