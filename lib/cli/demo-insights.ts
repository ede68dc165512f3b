/** What the demo shows of its results: a few questions, their SQL, their answers. */

import * as path from "node:path";
import { DuckDBInstance } from "../duckdb-api.js";
import { quoteText } from "../sinks/duckdb-types.js";
import { textTable } from "./text-table.js";

interface Insight {
  readonly question: string;
  readonly sql: string;
}

const INSIGHTS: readonly Insight[] = [
  {
    question: "Which airlines leave late most often?",
    sql: `SELECT airline, sum(flights) AS flights,
       round(100 * sum(late_departures) / sum(flights), 1) AS late_percent
FROM flights.carriers_daily GROUP BY airline HAVING sum(flights) > 5000
ORDER BY late_percent DESC LIMIT 5`,
  },
  {
    question: "Does rain delay flights? (flights joined with the weather of their hour)",
    sql: `SELECT CASE WHEN precip = 0 THEN '1 dry' WHEN precip < 0.1 THEN '2 light rain'
            ELSE '3 heavy rain' END AS weather,
       sum(d.flights) AS flights, round(sum(delay_avg * (d.flights - cancelled)) /
       sum(d.flights - cancelled), 1) AS delay_avg_minutes,
       round(100 * sum(cancelled) / sum(d.flights), 1) AS cancelled_percent
FROM flights.departures_hourly d
JOIN weather.weather_hourly w ON w.origin = d.origin AND w.event_time = d.window_start
GROUP BY 1 ORDER BY 1`,
  },
  {
    question:
      "The longest rain of the year at each airport (sessions), and how flights fared in it",
    sql: `SELECT s.origin, strftime(session_start, '%d %b %H:%M') AS "from", wet_hours,
       round(rain, 2) AS inches, sum(d.cancelled) AS cancelled, sum(d.flights) AS flights
FROM (FROM weather.rain_spells QUALIFY 1 =
        row_number() OVER (PARTITION BY origin ORDER BY wet_hours DESC, session_start)) s
JOIN flights.departures_hourly d ON d.origin = s.origin
 AND d.window_start BETWEEN s.session_start AND s.session_end
GROUP BY ALL ORDER BY s.origin`,
  },
  {
    question: "Flights that left so late that their windows had closed (kept in the table late)",
    sql: `SELECT "table", count(*) AS events,
       round(max(epoch(watermark - event_time)) / 3600, 1) AS hours_behind_watermark_max
FROM flights.late GROUP BY ALL ORDER BY 2 DESC`,
  },
];

export async function showInsights(flightsDir: string, weatherDir: string): Promise<void> {
  const instance = await DuckDBInstance.create(":memory:", { threads: "2" });
  try {
    const connection = await instance.connect();
    await connection.run("SET TimeZone='UTC'");
    for (const [name, dir] of [
      ["flights", flightsDir],
      ["weather", weatherDir],
    ] as const) {
      const file = quoteText(path.resolve(dir, "results.duckdb"));
      await connection.run(`ATTACH ${file} AS ${name} (READ_ONLY)`);
    }
    for (const { question, sql } of INSIGHTS) {
      const reader = await connection.runAndReadAll(sql);
      process.stdout.write(`\n${question}\n${dim(sql)}\n`);
      process.stdout.write(resultText(reader.columnNames(), reader.getRowsJson()));
    }
  } finally {
    instance.closeSync();
  }
}

const NUMBER = /^-?\d[\d.]*%?$/;

function colored(): boolean {
  return process.stdout.isTTY === true && (process.env.NO_COLOR ?? "") === "";
}

function dim(sql: string): string {
  const text = `  ${sql.replaceAll("\n", "\n  ")}`;
  return colored() ? `\x1b[2m${text}\x1b[0m` : text;
}

function resultText(names: readonly string[], rows: readonly (readonly unknown[])[]): string {
  const cells = rows.map((row) => row.map((cell) => (cell === null ? null : String(cell))));
  const columns = names.map((name, c) => ({
    name,
    isNumber: cells.every((row) => row[c] === null || NUMBER.test(row[c] ?? "")),
  }));
  return textTable(columns, cells, { width: process.stdout.columns ?? 100, color: colored() });
}
