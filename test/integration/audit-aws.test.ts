/** The audit of a deployed pipeline's results: made by the handlers in S3, and read over S3. */
import { DuckDBInstance } from "@duckdb/node-api";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { audit } from "../../lib/audit/audit.js";
import { openBucket } from "../../lib/audit/bucket-place.js";
import { databaseAt } from "../../lib/cli/query-bucket.js";
import { definitionHash } from "../../lib/define/json.js";
import { makeProcessor } from "../../lib/handlers/processor.js";
import { makeSink } from "../../lib/handlers/sink.js";
import { minutes } from "../../lib/index.js";
import type { DatabaseStorage } from "../../lib/sinks/database-snapshot.js";
import { makeAwsResources } from "../servers/aws-resources.js";
import { type Ministack, setUpMinistack, startMinistack } from "../servers/ministack.js";
import { clickRecords, clicksPipeline } from "../unit/handlers/clicks.js";
import { kafkaEvent } from "../unit/handlers/kafka-support.js";

const missing = await setUpMinistack();
const title = missing === null ? "on MiniStack" : `on MiniStack (skipped: ${missing})`;
const context = { getRemainingTimeInMillis: () => 30_000 };
const write = () => undefined;

describe.skipIf(missing !== null)(title, () => {
  const before = { ...process.env };
  const pipeline = clicksPipeline();
  const { definition, functions } = pipeline;
  let aws: Ministack;
  let env: Record<string, string>;

  beforeAll(async () => {
    aws = await startMinistack();
    Object.assign(process.env, aws.env);
    const resources = await makeAwsResources(aws.env);
    const names = { MILLPOND_PREFIX: "some/where/", MILLPOND_PIPELINE: definition.name };
    env = { ...aws.env, ...resources, ...names };
    const partitions = [0, 1].map((partition) => ({
      topic: "clicks",
      partition,
      records: [...clickRecords(400, partition)],
    }));
    await makeProcessor({ pipeline, env, write })(kafkaEvent(partitions), context);
    const sink = makeSink({ pipeline, env, write });
    await sink({}, context);
    await sink.close();
  });
  afterAll(async () => {
    process.env = before;
    await aws?.stop();
  });

  async function audited(
    storage: Pick<DatabaseStorage, "uri" | "download" | "access">,
    hash = definitionHash(definition),
  ) {
    const place = await openBucket(storage, { definition, definitionHash: hash });
    try {
      const options = { definition, functions, references: new Map(), examples: 3 };
      return await audit(place, options);
    } finally {
      await place.close();
    }
  }
  const stored = () => databaseAt(`s3://${env.MILLPOND_BUCKET}/some/where`, definition.name);

  test("the published tables are equal, and what is open is left", async () => {
    const report = await audited(await stored());
    expect(report.tables.flatMap(({ differences }) => differences)).toEqual([]);
    expect(report).toMatchObject({ equal: true, records: 800, partitions: 2, skipped: [] });
    const [pages, visits, expensive] = ["pages", "visits", "expensive"].map(
      (name) => report.tables.find(({ table }) => table === name)!,
    );
    expect(pages.rows).toBeGreaterThan(0);
    expect(pages.open).toBeGreaterThan(0);
    expect(visits.open).toBeGreaterThan(0);
    expect(expensive.rows).toBeGreaterThan(0);
  });

  test("a row that was changed is found", async () => {
    const storage = await stored();
    const report = await audited({
      ...storage,
      async download(file) {
        const etag = await storage.download(file);
        const instance = await DuckDBInstance.create(file);
        const connection = await instance.connect();
        await connection.run("UPDATE pages SET views = views + 1 WHERE rowid = 0");
        connection.closeSync();
        instance.closeSync();
        return etag;
      },
    });
    expect(report.tables.filter(({ table }) => table === "pages")).toMatchObject([
      { place: "lake", different: 0 },
      { place: "database", different: 1 },
    ]);
  });

  test("another version's results are refused, not compared", async () => {
    const other = definitionHash(clicksPipeline({ lateness: minutes(2) }).definition);
    await expect(audited(await stored(), other)).rejects.toMatchObject({
      code: "OUTPUT",
      message: expect.stringContaining('was made by another version of pipeline "clicks-by-page"'),
    });
  });

  test("after a flush nothing is open, and all is equal", async () => {
    const sink = makeSink({ pipeline, env, write });
    await sink({ flush: true }, context);
    await sink.close();
    const report = await audited(await stored());
    expect(report).toMatchObject({ equal: true, skipped: [] });
    expect(report.tables.reduce((sum, { open }) => sum + open, 0)).toBe(0);
  });
});
