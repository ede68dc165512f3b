/** A pipeline for `millpond dev`, events that give it every trouble, and what SQL makes of them. */
import * as fs from "node:fs";
import * as path from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import type { KafkaClient } from "../../../lib/sources/kafka/client.js";
import { rowsOf } from "./outputs.js";

export const PARTITIONS = 3;
export const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);
/** Event times begin here; the lateness of the pipeline is a minute. */
const BASE_MS = Date.UTC(2026, 0, 1);

export const pipelineText = (topic: string, every = 1): string => `
import * as m from "millpond";
const { count, countDistinct, minutes, pipeline, stream, string, timestamp, tumbling } = m;

const events = stream("${topic}", {
  schema: { id: string(), user: string(), page: string(), at: timestamp() },
  key: "user", eventTime: "at", lateness: minutes(1), dedup: "id",
});

export default pipeline("dev_test", {
  pages: events.groupBy("page").window(tumbling(minutes(${every})))
    .aggregate({ views: count(), users: countDistinct("user") }),
  all_events: events.rows(),
});
`;

/** mulberry32: small, and the same everywhere. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

export interface Line {
  readonly partition: number;
  readonly text: string;
}

/** Out of order, late, twice, or no JSON; each partition's last one closes all windows. */
export function makeLines(n: number): Line[] {
  const random = randomOf(SEED);
  const lines: Line[] = [];
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const own: string[] = [];
    for (let i = 0; i < n; i++) {
      const dice = random(100);
      if (dice < 5 && own.length > 0) own.push(own[Math.max(0, own.length - 1 - random(20))]!);
      else if (dice < 7) own.push(`{"id":"broken-${i}`);
      else {
        const behindMs = dice < 10 ? 300_000 + random(300_000) : random(50_000);
        const at = new Date(BASE_MS + i * 200 - behindMs).toISOString();
        const user = `u${partition}-${random(40)}`;
        own.push(JSON.stringify({ id: `${partition}-${i}`, user, page: `/${random(8)}`, at }));
      }
    }
    const at = new Date(BASE_MS + 7_200_000).toISOString();
    own.push(JSON.stringify({ id: `end-${partition}`, user: `u${partition}-0`, page: "/end", at }));
    lines.push(...own.map((text) => ({ partition, text })));
  }
  return lines;
}

/** The same from the lines by SQL alone, with the watermark of each event in its partition. */
export async function reference(dir: string, lines: readonly Line[]) {
  const file = path.join(dir, `reference-${Math.random()}.ndjson`);
  const text = lines.map((line, i) => `${JSON.stringify({ ...line, i })}\n`).join("");
  fs.writeFileSync(file, text);
  const instance = await DuckDBInstance.create(":memory:", { threads: "1" });
  const connection = await instance.connect();
  const rows = async (sql: string) => (await connection.runAndReadAll(sql)).getRowObjectsJson();
  try {
    await connection.run("SET TimeZone = 'UTC'");
    await connection.run(`
      CREATE TABLE events AS
      WITH decoded AS (
        SELECT partition, i, json->>'id' AS id, json->>'user' AS user, json->>'page' AS page,
          (json->>'at')::TIMESTAMPTZ AS happened
        FROM (SELECT *, TRY_CAST(text AS JSON) AS json FROM read_json('${file}',
          columns = {partition: 'INT', i: 'INT', text: 'VARCHAR'})) WHERE json IS NOT NULL),
      marked AS (
        SELECT *, max(happened) OVER (PARTITION BY partition ORDER BY i
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - INTERVAL 1 MINUTE AS watermark,
          row_number() OVER (PARTITION BY partition, id ORDER BY i) > 1 AS seen
        FROM decoded)
      -- An id is known for as long as the longest window.
      SELECT *, seen AND happened >= watermark - INTERVAL 1 MINUTE AS again,
        date_trunc('minute', happened) AS window_start,
        window_start + INTERVAL 1 MINUTE <= coalesce(watermark, '-infinity') AS late
      FROM marked`);
    return {
      pages: await rows(`SELECT window_start, page, count(*) AS views, count(DISTINCT user) AS users
        FROM events WHERE NOT again AND NOT late AND page <> '/end' GROUP BY ALL ORDER BY ALL`),
      counts: await rows(`SELECT count(*) FILTER (NOT again) AS "all_events",
        count(*) FILTER (NOT again AND late) AS late, (SELECT ${lines.length}) - count(*) AS dead
        FROM events`),
    };
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

export async function produce(
  client: KafkaClient,
  topic: string,
  lines: readonly { readonly partition: number; readonly text: string | Buffer }[],
): Promise<void> {
  const producer = await client.producer();
  for (let from = 0; from < lines.length; from += 1_000) {
    const messages = lines.slice(from, from + 1_000);
    await producer.send(
      topic,
      messages.map(({ partition, text }) => ({ key: `k${partition}`, value: text, partition })),
    );
  }
  await producer.close();
}

/** The same of an output's database. */
export async function results(out: string) {
  return {
    pages: await rowsOf(
      out,
      `SELECT window_start, page, views, users FROM {db}.pages WHERE page <> '/end' ORDER BY ALL`,
    ),
    counts: await rowsOf(
      out,
      `SELECT (SELECT count(*) FROM {db}.all_events) AS "all_events",
        (SELECT count(*) FROM {db}.late) AS late, (SELECT count(*) FROM {db}.dead_letters) AS dead`,
    ),
  };
}
