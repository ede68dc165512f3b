/** Input for `pipelines/medallion.ts` with every trouble, and what SQL makes of it. */
import * as fs from "node:fs";
import * as path from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { randomOf } from "../../contract/sinks-script.js";

export const PARTITIONS = 3;
/** Where records of files go. */
export const FILES_PARTITION = 1_000_000;
const BASE_MS = Date.UTC(2025, 5, 1);
const SITES = ["Hamburg", "LISBON", "Nairobi", "東京"];

export interface Line {
  readonly partition: number;
  readonly text: string;
}

/** One reading in ten has something wrong with it. */
function readingText(random: (below: number) => number, id: string, sensor: string, atMs: number) {
  const reading: Record<string, unknown> = {
    reading_id: id,
    sensor_id: sensor,
    site: SITES[random(SITES.length)],
    temperature: (random(1_000) - 300) / 10,
    humidity: random(101),
    battery: random(101),
    status: ["ok", "ok", "ok", "low_battery", "fault"][random(5)],
    event_time: new Date(atMs).toISOString(),
  };
  const dice = random(60);
  if (dice === 0) reading.temperature = null;
  if (dice === 1) reading.temperature = 1_000;
  if (dice === 2) reading.battery = "full";
  if (dice === 3) delete reading.humidity;
  if (dice === 4) reading.reading_id = "";
  if (dice === 5) reading.event_time = "yesterday";
  return JSON.stringify(reading);
}

/** Lines of one file; some are no JSON, unless they must all be. */
export function fileLines(seed: number, name: string, n: number, isAllJson = false): string[] {
  const random = randomOf(seed);
  return Array.from({ length: n }, (_, i) => {
    if (!isAllJson && random(50) === 0) return `{"reading_id":"${name}-${i}`;
    return readingText(random, `${name}-${i}`, `s${random(9)}`, BASE_MS + i * 1_000);
  });
}

/** Of three partitions: out of order, late by less than an hour, sent twice, or no JSON. */
export function topicLines(seed: number, n: number): Line[] {
  const random = randomOf(seed);
  const own: string[][] = [[], [], []];
  const lines: Line[] = [];
  for (let i = 0; i < n; i++) {
    const partition = random(PARTITIONS);
    const before = own[partition]!;
    const dice = random(100);
    const sensor = `s${partition}-${random(5)}`;
    const behindMs = dice < 12 ? 180_000 + random(1_000_000) : random(100_000);
    const again = before[Math.max(0, before.length - 1 - random(30))];
    const text =
      dice < 5 && again !== undefined
        ? again
        : dice < 7
          ? "no JSON at all"
          : readingText(random, `t-${i}`, sensor, BASE_MS + i * 300 - behindMs);
    before.push(text);
    lines.push({ partition, text });
  }
  return lines;
}

/** Rows of both tables as SQL makes them of the records, in the order they were sent. */
export async function expectedTables(dir: string, lines: readonly Line[]) {
  const file = path.join(dir, "records.ndjson");
  const offsets = new Map<number, number>();
  const records = lines.map(({ partition, text }) => {
    const offset = offsets.get(partition) ?? 0;
    offsets.set(partition, offset + 1);
    return JSON.stringify({ partition, offset, text });
  });
  fs.writeFileSync(file, `${records.join("\n")}\n`);
  const common = `
    WITH parsed AS (
      SELECT partition, "offset", TRY_CAST(text AS JSON) AS r, r->>'reading_id' AS reading_id,
        TRY_CAST(r->>'temperature' AS DOUBLE) AS temperature,
        TRY_CAST(r->>'humidity' AS DOUBLE) AS humidity,
        TRY_CAST(r->>'event_time' AS TIMESTAMPTZ) AS event_time
      FROM read_json('${file}', format = 'newline_delimited',
        columns = {partition: 'INT', "offset": 'BIGINT', text: 'VARCHAR'})),
    sound AS (
      SELECT * FROM parsed WHERE r IS NOT NULL AND reading_id <> '' AND event_time IS NOT NULL
        AND json_type(r->'battery') IN ('UBIGINT', 'BIGINT')
        AND coalesce(temperature BETWEEN -60 AND 80, true))`;
  const time = "epoch_ms(event_time)::VARCHAR AS at";
  return {
    bronze: await rows(`${common}
      SELECT "offset"::INT AS "offset", reading_id, r->>'site' AS site, temperature, humidity,
        ${time}
      FROM sound WHERE partition = ${FILES_PARTITION} AND temperature IS NOT NULL
        AND humidity IS NOT NULL ORDER BY "offset"`),
    silver: await rows(`${common}, seen AS (
        SELECT *, row_number() OVER (PARTITION BY partition, reading_id ORDER BY "offset") AS nth,
          event_time < max(event_time) OVER (PARTITION BY partition ORDER BY "offset"
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - INTERVAL 2 MINUTE AS late
        FROM sound WHERE partition < ${FILES_PARTITION})
      SELECT partition, "offset"::INT AS "offset", reading_id, lower(r->>'site') AS site,
        temperature, round(temperature * 18 + 320) / 10 + 0.0 AS fahrenheit, ${time},
        coalesce(late, false) AS late
      FROM seen WHERE nth = 1 AND temperature IS NOT NULL AND humidity IS NOT NULL
        AND (r->>'status') <> 'fault' ORDER BY partition, "offset"`),
    deadLetters: await rows(`${common}
      SELECT count(*)::INT AS n FROM parsed WHERE NOT EXISTS (FROM sound WHERE sound.partition =
        parsed.partition AND sound."offset" = parsed."offset") OR (partition = ${FILES_PARTITION}
        AND (temperature IS NULL OR humidity IS NULL))`),
  };
}

export type Rows = readonly Readonly<Record<string, unknown>>[];

async function rows(sql: string): Promise<Rows> {
  const instance = await DuckDBInstance.create(":memory:", { threads: "1" });
  const connection = await instance.connect();
  try {
    await connection.run("SET TimeZone = 'UTC'");
    return (await connection.runAndReadAll(sql)).getRowObjectsJson();
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}
