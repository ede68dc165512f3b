/** The time that a chart shows: all of a table's, or without the few rows that are far from it. */
import type { Results } from "../query/results.js";
import { quoteName } from "../sinks/duckdb-types.js";
import { ask, numberOf, timeOf } from "./answer.js";
import { numberText, percentText, timeText } from "./format.js";

export interface Period {
  /** Epoch ms of the first and the last row that is drawn. */
  readonly fromMs: number;
  readonly toMs: number;
  /** SQL that leaves out what is not drawn; empty if nothing is. */
  readonly where: string;
  /** Says what is not drawn; empty if nothing is. */
  readonly note: string;
}

/** A clock that was wrong once must not squeeze everything else into one point. */
const FAR = 10;

/** Null for a table without rows. */
export async function shownPeriod(
  results: Results,
  table: string,
  timeColumn: string,
): Promise<Period | null> {
  const [time, from] = [quoteName(timeColumn), quoteName(table)];
  const found = await ask(
    results,
    `SELECT min(${time}), max(${time}), quantile_disc(${time}, 0.01), ` +
      `quantile_disc(${time}, 0.99) FROM ${from}`,
  );
  const [first, last, low, high] = found.rows[0]!.map(timeOf);
  if (!Number.isFinite(first) || !Number.isFinite(last)) return null;
  const bulkMs = high! - low!;
  if (!(bulkMs > 0) || last! - first! < FAR * bulkMs) {
    return { fromMs: first!, toMs: last!, where: "", note: "" };
  }
  const [fromMs, toMs] = [low! - bulkMs, high! + bulkMs];
  const bounds = [fromMs, toMs].map((ms) => `TIMESTAMPTZ '${sqlTime(ms)}'`);
  const where = `\nWHERE ${time} BETWEEN ${bounds.join(" AND ")}`;
  const inside = await ask(
    results,
    `SELECT count(*) FILTER (${where.trim().replace("WHERE ", "")}), count(*) FROM ${from}`,
  );
  const [shown, all] = inside.rows[0]!.map(numberOf);
  const note =
    ` Not drawn: ${numberText(all! - shown!)} of ${numberText(all!)} rows ` +
    `(${percentText(all! - shown!, all!)}) before ${timeText(fromMs, 60_000)} or after ` +
    `${timeText(toMs, 60_000)}.`;
  return { fromMs: Math.max(first!, fromMs), toMs: Math.min(last!, toMs), where, note };
}

/** Years beyond four digits and before Christ are written otherwise in SQL: they are not met. */
const sqlTime = (ms: number): string =>
  new Date(ms).toISOString().replace("T", " ").replace("Z", "+00");
