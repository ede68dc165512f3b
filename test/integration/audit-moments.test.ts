/**
 * A deployed pipeline audited at any moment: in a backlog, while partitions are idle or far apart,
 * before and after flushes. What is published then is explained by what bronze has, always.
 */
import { expect, test } from "vitest";
import { type AuditReport, audit } from "../../lib/audit/audit.js";
import { openBucket } from "../../lib/audit/bucket-place.js";
import { definitionHash } from "../../lib/define/json.js";
import { compileStream } from "../../lib/engine/program.js";
import { makeProcessor } from "../../lib/handlers/processor.js";
import {
  count,
  countDistinct,
  double,
  duckdb,
  lake,
  minutes,
  type Pipeline,
  pipeline,
  seconds,
  session,
  sliding,
  stream,
  string,
  sum,
  timestamp,
  tumbling,
  updates,
} from "../../lib/index.js";
import { makeSinks, storePlaces } from "../../lib/runtime/run-sinks.js";
import { SinkRounds } from "../../lib/runtime/sink-rounds.js";
import { bucketDatabase } from "../../lib/stores/bucket-database.js";
import { clickRecords } from "../unit/handlers/clicks.js";
import { kafkaEvent } from "../unit/handlers/kafka-support.js";
import { Random, testRounds, testSeed } from "./support/random.js";
import { SinkBed, type SinkStores } from "./support/sink-stores.js";

const RECORDS = 240;
const STEPS = 8;
const context = { getRemainingTimeInMillis: () => 60_000 };

function clicksPipeline(idleAfter: number): Pipeline {
  const clicks = stream("clicks", {
    schema: { id: string(), user: string(), page: string(), cost: double(), at: timestamp() },
    key: "user",
    eventTime: "at",
    lateness: seconds(30),
    dedup: "id",
    idleAfter,
  });
  const pages = clicks.groupBy("page").window(tumbling(minutes(1)));
  return pipeline(
    "clicks",
    {
      pages: pages.aggregate({ views: count(), users: countDistinct("user"), cost: sum("cost") }),
      live: pages.aggregate({ views: count() }).emit(updates({ every: seconds(1) })),
      rolling: clicks
        .window(sliding(minutes(2), { every: minutes(1) }))
        .aggregate({ views: count() }),
      visits: clicks
        .groupBy("user")
        .window(session(minutes(1)))
        .aggregate({ views: count() }),
      expensive: clicks.filter((click) => click.cost.gt(80)).rows(),
    },
    { sinks: [lake(), duckdb({ tables: ["pages", "expensive"] })] },
  );
}

function sinkOf(of: Pipeline, stores: SinkStores, random: Random): SinkRounds {
  const { definition, functions } = of;
  const hash = definitionHash(definition);
  const program = compileStream(definition, "clicks", { functions, references: new Map() });
  const places = storePlaces(stores, definition.name, process.env);
  const step = { bytesMax: random.pick([500, 4_000, 100_000]), entriesMax: random.between(1, 6) };
  return new SinkRounds({
    ...stores,
    step,
    definition,
    definitionHash: hash,
    programs: new Map([["clicks", program]]),
    sinks: makeSinks(definition, places, hash, {}),
  });
}

async function audited(of: Pipeline, stores: SinkStores): Promise<AuditReport> {
  const { definition } = of;
  const place = stores.database(definition.name);
  if (place.kind !== "s3") throw new TypeError("not in the form of a bucket");
  const storage = bucketDatabase(place, stores.lake(definition.name).uri(""), process.env);
  const claim = { definition, definitionHash: definitionHash(definition) };
  const opened = await openBucket(storage, claim);
  try {
    return await audit(opened, { definition, references: new Map(), examples: 2 });
  } finally {
    await opened.close();
  }
}

const wrong = ({ tables }: AuditReport) => tables.flatMap(({ differences }) => differences);

async function checkOne(seed: number): Promise<void> {
  const random = new Random(seed);
  const of = clicksPipeline(random.pick([0, 60_000]));
  const bed = await SinkBed.create();
  const stores = bed.stores();
  const processor = makeProcessor({ pipeline: of, stores, write: () => undefined, env: {} });
  const logs = [0, 1, 2].map((partition) => [...clickRecords(RECORDS, partition)]);
  const turn = async (flush: boolean) => {
    let left = random.pick([60_000, 10_000, 40_000]);
    const remainingMs = () => {
      left -= 10_000;
      return flush ? 60_000 : left;
    };
    const sink = sinkOf(of, stores, random);
    await sink.run({ flush, tick: true, remainingMs });
    await sink.close();
  };
  for (let step = 0; step < STEPS; step++) {
    for (let batch = random.between(0, 4); batch > 0; batch--) {
      const partition = random.below(logs.length);
      const records = logs[partition]!.splice(0, random.between(1, 60));
      if (records.length === 0) continue;
      await processor(kafkaEvent([{ topic: "clicks", partition, records }]), context);
    }
    await turn(random.chance(0.2));
    if (step > 0 && random.chance(0.5)) continue;
    expect(wrong(await audited(of, stores)), `seed ${seed}, step ${step}`).toEqual([]);
  }
  await turn(true);
  await turn(true);
  const report = await audited(of, stores);
  expect(wrong(report), `seed ${seed}, flushed`).toEqual([]);
  expect(
    report.tables.every(({ open }) => open === 0),
    `seed ${seed}`,
  ).toBe(true);
  await bed.remove();
}

test("no moment of a deployed pipeline gives a false alarm", async () => {
  const seed = testSeed();
  for (let round = 0; round < testRounds(2); round++) await checkOne(seed + round);
});

test("open sessions of an idle partition that have grown since give none (seed 5014)", async () => {
  await checkOne(5014);
});
