/**
 * The sensors example as its page has it: produce, tail, dev, query. Its numbers are held against
 * SQL, written by hand, over the records as kcat reads them.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { makeSink } from "../../lib/handlers/sink.js";
import { loadReferences } from "../../lib/runtime/references.js";
import sensors from "../../pipelines/sensors.js";
import { setUpKafka, startKafka, type TestKafka } from "../servers/kafka.js";
import { kcatLines, missingKcat } from "../servers/kcat.js";
import { jsonLines, millpond, succeed, testDir, write } from "./support/cli.js";
import { DevProcess } from "./support/dev.js";
import { rowsOf } from "./support/outputs.js";

const missing = (await setUpKafka()) ?? (await missingKcat());
const dir = testDir("sensors");
const PIPELINE = path.resolve("pipelines/sensors.ts");
const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);

/** Events as the schema has them, by JSON.parse; the rest must be dead letters. */
function parse(text: Buffer): Record<string, unknown> | null {
  try {
    const found = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(text));
    const { reading_id, sensor_id, site, temperature, humidity, battery, status } = found;
    const isPercent = (n: unknown) => typeof n === "number" && n >= 0 && n <= 100;
    const isTemperature = typeof temperature === "number" && Math.abs(temperature) <= 80;
    const isEvent =
      [reading_id, sensor_id, site, found.device?.model].every((s) => typeof s === "string") &&
      ((temperature ?? null) === null || (isTemperature && temperature >= -60)) &&
      ((humidity ?? null) === null || isPercent(humidity)) &&
      Number.isInteger(battery) &&
      isPercent(battery) &&
      ["ok", "low_battery", "fault"].includes(status) &&
      typeof found.event_time === "string";
    const ms = Date.parse(found.event_time);
    return isEvent && !Number.isNaN(ms) ? { ...found, ms } : null;
  } catch {
    return null;
  }
}

const byText = (a: string, b: string): number => (a < b ? -1 : 1);

/** Design, section 3: the watermark before each event, then what becomes of it. */
const EVENTS_SQL = (file: string) => `
  WITH e AS (
    SELECT *, max(ms) OVER (PARTITION BY p ORDER BY o ROWS BETWEEN UNBOUNDED PRECEDING AND
      1 PRECEDING) - 120000 AS w FROM read_json('${file}', format = 'newline_delimited', columns = {
        p: 'INTEGER', o: 'BIGINT', ms: 'BIGINT', reading_id: 'VARCHAR', sensor_id: 'VARCHAR',
        site: 'VARCHAR', temperature: 'DOUBLE', status: 'VARCHAR'})
  ), seen AS (
    SELECT *, coalesce(ms < w - 300000, false) AS unchecked,
      row_number() OVER (PARTITION BY p, reading_id ORDER BY o) > 1 AS again FROM e
  )
  SELECT *, again AND NOT unchecked AS duplicate, ms // 300000 * 300000 AS start FROM seen`;

describe.skipIf(missing !== null)(`sensors${missing ? ` (skipped: ${missing})` : ""}`, () => {
  let kafka: TestKafka;
  const running: DevProcess[] = [];

  beforeAll(async () => {
    kafka = await startKafka();
  });
  afterEach(async () => {
    for (const dev of running.splice(0)) await dev.kill();
  });
  afterAll(async () => {
    await kafka?.stop();
  });

  test(`produced, tailed, processed and queried (seed ${SEED})`, async () => {
    const at = ["--bootstrap", kafka.bootstrap];
    const faults = ["--late", "0.02", "--duplicates", "0.02", "--malformed", "0.01"];
    const sent = succeed(
      ...["produce", "readings", "--simulate", "sensors", "--events", "12000", "--json"],
      ...["--seed", String(SEED), "--partitions", "3", ...faults, ...at],
    );
    const { sent: count } = JSON.parse(sent.stdout);
    for (const [partitions, message] of [
      ["5", "topic readings is there already and has 3 partitions, not 5"],
      ["0", "expected a whole number from 1 to 1000"],
    ] as const) {
      const more = ["--simulate", "sensors", "--events", "1", "--partitions", partitions, ...at];
      const refused = millpond("produce", "readings", ...more);
      expect([refused.status, refused.stderr]).toEqual([2, expect.stringContaining(message)]);
    }
    const out = path.join(dir, "out");
    const dev = new DevProcess([PIPELINE, "--out", out, ...at]);
    running.push(dev);
    await dev.caughtUp(count);
    expect(await dev.interrupt()).toBe(0);
    await flush(out);

    const format = ["-f", "%p\\t%o\\t%s\\n"];
    const file = path.join(dir, "events.ndjson");
    const dead = (await writeEvents(file, format)).toSorted(byText);
    const tailed = succeed(
      "tail",
      "readings",
      "--from",
      "beginning",
      "--json",
      ...at,
      ...["--pipeline", PIPELINE],
    );
    const lines = jsonLines(tailed.stdout);
    expect(lines).toHaveLength(count);
    const letters = lines.filter((line) => "deadLetter" in line);
    const places = (rows: readonly Record<string, unknown>[]) =>
      rows.map(({ partition, offset }) => `${partition}/${offset}`).sort(byText);
    expect(places(letters)).toEqual(dead);
    const rows = await rowsOf(out, 'SELECT "partition", "offset" FROM {db}.dead_letters');
    expect(places(rows)).toEqual(dead);

    // What is there, beside what SQL makes of the same records.
    const events = EVENTS_SQL(file);
    const pairs: readonly (readonly [string, string])[] = [
      [
        `SELECT epoch_ms(window_start) AS start, site, readings, sensors, missing, coldest, warmest
          FROM {db}.climate_5m`,
        `SELECT start, site, count(*) AS readings, count(DISTINCT sensor_id) AS sensors,
          count(*) FILTER (temperature IS NULL) AS missing, min(temperature) AS coldest,
          max(temperature) AS warmest FROM (${events}) WHERE status <> 'fault' AND NOT duplicate
          AND NOT unchecked AND start + 300000 > coalesce(w, 0) GROUP BY ALL`,
      ],
      [
        `SELECT building, room, count(*) AS readings, count(*) FILTER (late) AS late
          FROM {db}.clean_readings GROUP BY ALL`,
        `SELECT building, room, count(*) AS readings,
          count(*) FILTER (ms < coalesce(w, 0)) AS late FROM (${events}) LEFT JOIN
          read_csv('data/sensors/sensors.csv') USING (sensor_id)
          WHERE status <> 'fault' AND temperature IS NOT NULL AND NOT duplicate GROUP BY ALL`,
      ],
      [
        `SELECT duplicates, late FROM {db}.accounting WHERE name = 'climate_5m'`,
        `SELECT count(*) FILTER (duplicate) AS duplicates, count(*) FILTER (NOT duplicate AND
          (unchecked OR start + 300000 <= coalesce(w, 0))) AS late FROM (${events})
          WHERE status <> 'fault'`,
      ],
    ];
    for (const [found, expected] of pairs) {
      const order = "SELECT * FROM (?) ORDER BY ALL";
      const sorted = (sql: string) =>
        rowsOf(
          out,
          order.replace("?", () => sql),
        );
      const wanted = await sorted(expected);
      expect(wanted.length).toBeGreaterThan(0);
      expect(await sorted(found), found).toEqual(wanted);
    }
    expect(await keyViolations(out)).toEqual([]);

    // What the page shows.
    const joined = succeed("query", "--out", out, "--format", "json", JOIN);
    expect(JSON.parse(joined.stdout).length).toBeGreaterThan(0);
    // A definition of another shape is refused, with what changed.
    const changed = fs
      .readFileSync(PIPELINE, "utf8")
      .replace("../data", path.resolve("data"))
      .replace('"humidity", "battery",', '"battery",');
    const other = write(path.join(dir, "changed.ts"), changed);
    const refused = millpond("run", other, "--input", `readings=${file}`, "--out", out);
    expect(refused.status).toBe(4);
    expect(refused.stderr).toMatch(/clean_readings/);
  }, 240_000);

  /** As kcat reads them: events into a file, the places of the rest returned. */
  async function writeEvents(file: string, format: readonly string[]): Promise<string[]> {
    const dead: string[] = [];
    const events: string[] = [];
    for (const line of await kcatLines(kafka.bootstrap, "readings", format, "latin1")) {
      const [p, o, ...rest] = line.split("\t");
      const value = Buffer.from(rest.join("\t"), "latin1");
      const event = parse(value);
      if (event === null) dead.push(`${p}/${o}`);
      else events.push(JSON.stringify({ ...event, p: Number(p), o: Number(o) }));
    }
    fs.writeFileSync(file, events.map((line) => `${line}\n`).join(""));
    return dead;
  }
});

/** Windows that are open are published, too. */
async function flush(out: string): Promise<void> {
  const references = await loadReferences(sensors);
  const env = { MILLPOND_STORE: `file:${out}` };
  const sink = makeSink({ pipeline: sensors, env, references, write: () => undefined });
  const context = { getRemainingTimeInMillis: () => 60_000 };
  expect(await sink({ flush: true }, context)).toMatchObject({ outcome: "done", pending: 0 });
  await sink.close();
}

const JOIN = `SELECT c.building, c.room, round(avg(c.temperature), 1) AS celsius,
  count(*) AS readings
  FROM clean_readings c JOIN climate_5m w ON w.site = c.site
  AND w.window_start = time_bucket(INTERVAL '5 minutes', c.event_time)
  WHERE c.temperature > w.p95 GROUP BY ALL ORDER BY readings DESC`;

/** Tables whose declared key, which their comment names, does not identify a row. */
async function keyViolations(out: string): Promise<string[]> {
  const tables = await rowsOf(
    out,
    "SELECT table_name AS name, comment FROM duckdb_tables() WHERE comment IS NOT NULL",
  );
  expect(tables.length).toBeGreaterThanOrEqual(6);
  const bad: string[] = [];
  for (const { name, comment } of tables) {
    const key = String(comment).replace("one row per ", "").split(", ");
    const list = key.map((column) => `"${column}"`).join(", ");
    const sql = `SELECT 1 FROM {db}."${name}" GROUP BY ${list} HAVING count(*) > 1 LIMIT 1`;
    if ((await rowsOf(out, sql)).length > 0) bad.push(`${name} (${comment})`);
  }
  return bad;
}
