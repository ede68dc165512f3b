/**
 * The activity example end to end: a real broker and a real PostgreSQL, which is killed and comes
 * back. Tables, lake, database and the enriched topic are held against SQL over the records sent.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { withParameters } from "../../lib/define/parameters.js";
import { DevSession } from "../../lib/dev/session.js";
import { makeSink } from "../../lib/handlers/sink.js";
import { loadReferences, referenceFiles } from "../../lib/runtime/references.js";
import type { KafkaClient } from "../../lib/sources/kafka/client.js";
import { connectKafka } from "../../lib/sources/kafka/kafkajs-client.js";
import { simulate } from "../../lib/sources/simulate/simulate.js";
import { queryPsql } from "../contract/postgres-reader.js";
import { liveFiles } from "../contract/sinks-readers.js";
import { Workspace } from "../integration/support/check.js";
import { type ReferenceTables, referenceTables } from "../reference/reference.js";
import { readRows } from "../reference/rows.js";
import { setUpKafka, startKafka, type TestKafka } from "../servers/kafka.js";
import { missingKcat, readByKcat } from "../servers/kcat.js";
import { setUpPostgres, startPostgres, type TestPostgres } from "../servers/postgres.js";

const missing = (await setUpKafka()) ?? (await missingKcat()) ?? (await setUpPostgres());
const TOPIC = "user_activity";
const PARTITIONS = 3;
const EVENTS = 12_000;
const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);
const WAIT = { timeout: 90_000, interval: 250 };
/** Columns and the types that DuckDB reads psql's CSV with. */
const TABLES = {
  page_view_counts: { window_start: "TIMESTAMPTZ", page: "VARCHAR", views: "INT8", users: "INT8" },
  active_users: { window_start: "TIMESTAMPTZ", window_end: "TIMESTAMPTZ", users: "INT8" },
  user_sessions: {
    ...{ session_start: "TIMESTAMPTZ", session_end: "TIMESTAMPTZ", user_id: "VARCHAR" },
    ...{ events: "INT8", pages: "INT8" },
  },
} as const;

const title = `activity${missing === null ? "" : ` (${missing})`} (seed ${SEED})`;

describe.skipIf(missing !== null)(title, () => {
  let kafka: TestKafka;
  let postgres: TestPostgres;
  let client: KafkaClient;
  let workspace: Workspace;
  let expected: ReferenceTables;
  let out: string;
  const lines = linesByPartition();

  beforeAll(async () => {
    [kafka, postgres] = await Promise.all([startKafka(), startPostgres()]);
    client = await connectKafka({ brokers: [kafka.bootstrap], auth: { kind: "plaintext" } });
    workspace = await Workspace.create();
    out = workspace.newOutput();
    await workspace.write(TOPIC, lines);
  });
  afterAll(async () => {
    expected?.close();
    await client?.close();
    await Promise.all([kafka?.stop(), postgres?.stop()]);
    await workspace?.remove();
  });

  const pipeline = withParameters(new Map([["servers", "true"]]), async () => {
    return (await import("../../pipelines/activity.js")).default;
  });
  const env = () => ({ ...process.env, ...postgres.env, MILLPOND_BOOTSTRAP: kafka.bootstrap });

  async function begin(troubles: string[]): Promise<DevSession> {
    return DevSession.start({
      pipeline: await pipeline,
      env: env(),
      store: { kind: "file", out },
      partitions: PARTITIONS,
      pollers: 1,
      simulate: [],
      folders: [],
      onTrouble: (error) => troubles.push(String(error)),
    });
  }

  async function send(from: number, to: number): Promise<void> {
    const producer = await client.producer();
    for (const [partition, all] of lines.entries()) {
      const some = all.slice(Math.floor(from * all.length), Math.floor(to * all.length));
      await producer.send(
        TOPIC,
        some.map((value) => ({ key: null, value, partition })),
      );
    }
    await producer.close();
  }

  const psql = (sql: string) => queryPsql(postgres.env, sql);
  const count = async (table: string) =>
    Number((await psql(`SELECT json_build_array(count(*)) FROM ${table}`))[0]?.[0]);

  test("takes all, through a server that is killed and a second run", async () => {
    const troubles: string[] = [];
    const session = await begin(troubles);
    await send(0, 0.4);
    // Live: windows are there before anything closed them.
    const open = "SELECT json_build_array(count(*)) FROM page_view_counts WHERE revision >= 0";
    await expect
      .poll(async () => Number((await psql(open).catch(() => [["0"]]))[0]?.[0]), WAIT)
      .toBeGreaterThan(0);

    await postgres.kill();
    await send(0.4, 0.8);
    await expect
      .poll(() => troubles.some((trouble) => /not reached/.test(trouble)), WAIT)
      .toBe(true);
    // The others go on meanwhile.
    const sent = Math.floor(0.7 * lines.flat().length);
    const lake = path.join(out, "lake", "bronze");
    await expect.poll(async () => rowsIn(await liveFiles(lake)), WAIT).toBeGreaterThan(sent);
    await postgres.start();
    await session.stop();

    const second = await begin(troubles);
    await send(0.8, 1);
    const status = async () => (await second.status()).figures?.records;
    await expect.poll(status, WAIT).toBe(lines.flat().length);
    await second.stop();
    const references = await loadReferences(await pipeline);
    const sink = makeSink({
      pipeline: await pipeline,
      env: { ...env(), MILLPOND_STORE: `file:${out}` },
      references,
      write: () => undefined,
    });
    const context = { getRemainingTimeInMillis: () => 120_000 };
    expect(await sink({ flush: true }, context)).toMatchObject({ outcome: "done", pending: 0 });
    await sink.close();
    expect(troubles.filter((trouble) => !/not reached|PostgreSQL/.test(trouble))).toEqual([]);
    const files = referenceFiles(await pipeline);
    const input = { files: await workspace.files(await pipeline), references: files };
    expected = await referenceTables((await pipeline).definition, input);
  }, 240_000);

  test.each(Object.entries(TABLES))("PostgreSQL's %s is what SQL makes", async (table, columns) => {
    const names = Object.keys(columns);
    const rows = await psql(
      `SELECT json_build_array(${names.map((name) => `${name}::text`).join(", ")}) FROM ${table}`,
    );
    const file = path.join(workspace.dir, `${table}.json`);
    const asText = rows.map((row) => JSON.stringify(Object.fromEntries(zip(names, row))));
    fs.writeFileSync(file, asText.join("\n"));
    await expectSame(table, names, `read_json('${file}', columns = ${typesSql(columns)})`);
  });

  test("the enriched topic has each row once, in its record's partition and order", async () => {
    const records = await readByKcat(kafka.bootstrap, "enriched_activity");
    const rows = records.map(({ partition, payload, headers }) => {
      const [topic, source, offset] = (headers["millpond-source"] ?? "").split("/");
      expect([topic, source]).toEqual([TOPIC, String(partition)]);
      return JSON.stringify({ ...JSON.parse(payload ?? "{}"), partition, offset: Number(offset) });
    });
    const file = path.join(workspace.dir, "enriched.json");
    fs.writeFileSync(file, rows.join("\n"));
    const columns = {
      ...{ event_id: "VARCHAR", user_id: "VARCHAR", page: "VARCHAR", event_type: "VARCHAR" },
      ...{ amount: "DOUBLE", os: "VARCHAR", event_time: "TIMESTAMPTZ", platform: "VARCHAR" },
      ...{ is_purchase: "BOOLEAN", hour: "INT", late: "BOOLEAN" },
      ...{ partition: "INT", offset: "INT8" },
    };
    const source = `read_json('${file}', columns = ${typesSql(columns)})`;
    await expectSame("enriched_activity", Object.keys(columns), source);
  });

  test("the lake and the database have the same", async () => {
    await expected.connection.run(`ATTACH '${path.join(out, "results.duckdb")}' AS db (READ_ONLY)`);
    for (const [table, columns] of Object.entries(TABLES)) {
      await expectSame(table, Object.keys(columns), `db.main.${table}`);
    }
    expect(await count("late")).toBe((await expected.table("late")).filter(isWindowed).length);
    expect(await count("dead_letters")).toBe((await expected.table("dead_letters")).length);
    const enriched = await liveFiles(path.join(out, "lake", "enriched_activity"));
    expect(enriched.every(({ path: name }) => name.startsWith("event_date="))).toBe(true);
    expect(rowsIn(enriched)).toBe((await expected.table("enriched_activity")).length);
  });

  async function expectSame(table: string, names: readonly string[], source: string) {
    const list = names.map((name) => `"${name}"`).join(", ");
    const [ours, theirs] = [`SELECT ${list} FROM ${source}`, `SELECT ${list} FROM main.${table}`];
    const rows = (sql: string) => readRows(expected.connection, sql);
    expect(await rows(`(${ours}) EXCEPT ALL (${theirs}) LIMIT 5`), "too much").toEqual([]);
    expect(await rows(`(${theirs}) EXCEPT ALL (${ours}) LIMIT 5`), "missing").toEqual([]);
    expect((await rows(theirs)).length).toBeGreaterThan(0);
  }
});

/** Late, duplicated, malformed and out of order ones among them. */
function linesByPartition(): string[][] {
  const lines: string[][] = Array.from({ length: PARTITIONS }, () => []);
  const records = simulate("activity", {
    events: EVENTS,
    seed: SEED,
    partitions: PARTITIONS,
    ratePerSecond: 2,
    startMs: Date.UTC(2025, 0, 1, 22),
    late: 0.01,
    duplicates: 0.01,
    malformed: 0.005,
    outOfOrderMs: 90_000,
  });
  // As text: the reference reads files by lines of UTF-8.
  for (const { partition, line } of records) lines[partition]!.push(String(line));
  return lines;
}

const zip = (names: readonly string[], values: readonly unknown[]) =>
  names.map((name, index) => [name, values[index]] as const);

const typesSql = (columns: Readonly<Record<string, string>>): string =>
  `{${Object.entries(columns)
    .map(([name, type]) => `"${name}": '${type}'`)
    .join(", ")}}`;

const isWindowed = ({ table }: Readonly<Record<string, unknown>>) => table !== undefined;

function rowsIn(files: readonly { readonly stats: string }[]): number {
  return files.reduce((sum, { stats }) => sum + Number(JSON.parse(stats).numRecords), 0);
}
