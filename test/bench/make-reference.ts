/**
 * The right answers by one batch query each, in DuckDB over the raw files (nothing in them is
 * late).
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { quoteText } from "../../lib/sinks/duckdb-types.js";

const COUNTS = (
  source: string,
) => `SELECT (ts_ms // 60000) * 60000 AS window_start, event_type, page,
  count(*) AS cnt, count(*) FILTER (event_type = 'page_view') AS pv,
  coalesce(sum(cents), 0)::BIGINT AS sum_cents, count(DISTINCT user_id) AS users
  FROM ${source} GROUP BY ALL`;

const UNIQUE = `(SELECT DISTINCT ON (event_id) * FROM ev ORDER BY event_id, ts_ms)`;

const SESSIONS = `WITH gaps AS (SELECT user_id, ts_ms, page, coalesce(ts_ms - lag(ts_ms)
    OVER (PARTITION BY user_id ORDER BY ts_ms) > 300000, false)::INT AS starts FROM ev),
  numbered AS (SELECT *, sum(starts) OVER (PARTITION BY user_id ORDER BY ts_ms
    ROWS UNBOUNDED PRECEDING) AS session FROM gaps)
  SELECT user_id, min(ts_ms) AS start_ms, max(ts_ms) AS end_ms, count(*) AS n,
    count(DISTINCT page) AS pages FROM numbered GROUP BY user_id, session`;

export async function writeReference(dir: string): Promise<void> {
  fs.mkdirSync(path.join(dir, "ref"), { recursive: true });
  const instance = await DuckDBInstance.create(":memory:", { threads: "2" });
  const connection = await instance.connect();
  const columns = `{event_id: 'VARCHAR', user_id: 'VARCHAR', event_type: 'VARCHAR',
    page: 'VARCHAR', amount: 'DECIMAL(12,2)', event_time: 'VARCHAR'}`;
  const files = quoteText(path.join(dir, "parts", "*.ndjson"));
  await connection.run(`SET TimeZone = 'UTC'; CREATE TABLE ev AS SELECT event_id, user_id,
    event_type, page, (amount * 100)::BIGINT AS cents,
    epoch_ms(try_cast(event_time AS TIMESTAMPTZ)) AS ts_ms
    FROM read_json(${files}, format = 'newline_delimited', ignore_errors = true,
      columns = ${columns})
    WHERE ts_ms IS NOT NULL AND regexp_matches(event_id, '-') AND user_id LIKE 'u%'
      AND event_type IS NOT NULL AND page IS NOT NULL`);
  for (const [name, sql] of [
    ["w1", COUNTS("ev")],
    ["w3", SESSIONS],
    ["w4", COUNTS(UNIQUE)],
  ] as const) {
    const target = quoteText(path.join(dir, "ref", `${name}.parquet`));
    await connection.run(`COPY (${sql}) TO ${target} (FORMAT parquet)`);
  }
  connection.closeSync();
  instance.closeSync();
}
