/**
 * What somebody would notice in the results, as sentences: each is computed by the SQL that is
 * shown with it, and left out where it would say nothing.
 */
import type { Results } from "../query/results.js";
import { quoteName } from "../sinks/duckdb-types.js";
import { type Answer, ask, numberOf, textOf, timeOf } from "./answer.js";
import { stepFor } from "./buckets.js";
import type { OrderPanel } from "./flow.js";
import {
  DAY_MS,
  durationText,
  HOUR_MS,
  keyText,
  numberText,
  percentText,
  timeText,
} from "./format.js";
import { type Html, html } from "./html.js";
import { type Measure, startStepSql, type WindowedFacts } from "./measures.js";
import { shownPeriod } from "./period.js";

export interface Insight {
  readonly text: Html;
  /** The table it is about, and more. */
  readonly of: string;
  readonly kind: "data" | "quality" | "warns";
  readonly answer: Answer;
}

type Maybe = Promise<Insight | null>;

/**
 * Of one windowed table. Tables of one stream often count the same, by longer and shorter windows:
 * `said` holds what has been said of another one, and is added to.
 */
export async function tableInsights(
  results: Results,
  facts: WindowedFacts,
  said: Set<string>,
): Promise<Insight[]> {
  const adding = facts.overlaps ? undefined : facts.measures.find(({ adds }) => adds);
  const other = facts.measures.find(({ adds, combine }) => !adds && combine !== "min");
  const isNew = (...about: readonly string[]) => {
    const subject = JSON.stringify([facts.table.stream, adding?.name, ...about]);
    return !said.has(subject) && said.add(subject).has(subject);
  };
  const byKey = adding !== undefined && isNew(facts.keyName);
  const found = [
    byKey ? await leader(results, facts, adding) : null,
    adding !== undefined && isNew() ? await outstanding(results, facts, adding) : null,
    byKey ? await growing(results, facts, adding) : null,
    facts.kind === "sessions" ? await longest(results, facts) : null,
    other === undefined ? null : await greatest(results, facts, other),
  ];
  return found.filter((insight) => insight !== null);
}

const strong = (text: string) => html`<strong>${text}</strong>`;
const keyOf = (value: Parameters<typeof textOf>[0]) => strong(keyText(textOf(value), 80));

/** Times the average key; less is no lead. */
const LEADS_MIN = 1.05;

async function leader(
  results: Results,
  { table, key, keyName }: WindowedFacts,
  { name }: Measure,
): Maybe {
  if (key === null) return null;
  const column = quoteName(name);
  const answer = await ask(
    results,
    `SELECT ${key} AS key, sum(${column}) AS ${column},\n  sum(sum(${column})) OVER () AS total, ` +
      `count(*) OVER () AS all_keys\nFROM ${quoteName(table.name)}\n` +
      "GROUP BY 1 ORDER BY 2 DESC NULLS LAST, 1 LIMIT 1",
  );
  const [found, value, total, keys] = answer.rows[0] ?? [];
  const [top, all] = [numberOf(value), numberOf(total)];
  if (!(numberOf(keys) > 1 && top >= (LEADS_MIN * all) / numberOf(keys))) return null;
  const share = percentText(top, all);
  return {
    text: html`${keyOf(found)} has the most ${name}: ${strong(numberText(top))} of
${numberText(all)}, ${share}, among ${numberText(numberOf(keys))} values of ${keyName}.`,
    of: table.name,
    kind: "data",
    answer,
  };
}

/** So many robust standard deviations from the median are no coincidence. */
const DEVIATIONS_MIN = 5;
const STEPS_MIN = 12;
/** Of the median: less is not worth a sentence. */
const NOTABLE = 0.05;
/** Of a normal distribution: a standard deviation in median absolute deviations. */
const DEVIATION_MADS = 1.4826;

/** The step farthest from the median; what is not in all of its steps at the ends is left out. */
async function outstanding(results: Results, facts: WindowedFacts, { name }: Measure): Maybe {
  const { table, start } = facts;
  const from = quoteName(table.name);
  const period = await shownPeriod(results, table.name, start);
  if (period === null) return null;
  const span = period.toMs - period.fromMs;
  const least = facts.everyMs ?? HOUR_MS;
  const isLong = span >= 14 * DAY_MS && DAY_MS % least === 0;
  const stepMs = isLong && span < 2_000 * DAY_MS ? DAY_MS : stepFor(span, least);
  const column = quoteName(name);
  const answer = await ask(
    results,
    `WITH steps AS (\n  SELECT ${startStepSql(facts, stepMs)} AS time,\n` +
      `    sum(${column})::DOUBLE AS value\n  FROM ${from}${period.where} GROUP BY 1\n` +
      "  QUALIFY row_number() OVER (ORDER BY time) > 1\n" +
      "    AND row_number() OVER (ORDER BY time DESC) > 1),\n" +
      "typical AS (\n  SELECT count(*) AS steps, median(value) AS typical,\n" +
      `    nullif(${DEVIATION_MADS} * mad(value), 0) AS deviation\n  FROM steps)\n` +
      "SELECT time, value, typical, (value - typical) / deviation AS deviations, steps,\n" +
      `  count(*) FILTER (abs(value - typical) >= ${DEVIATIONS_MIN} * deviation) OVER () AS ` +
      "outliers\nFROM steps, typical\nORDER BY abs(value - typical) DESC NULLS LAST, time LIMIT 1",
  );
  const [time, value, typical, deviations, steps, outliers] = answer.rows[0] ?? [];
  const [amount, median] = [numberOf(value), numberOf(typical)];
  if (!(numberOf(steps) >= STEPS_MIN) || !Number.isFinite(amount) || amount === median) return null;
  const at = strong(timeText(timeOf(time), stepMs));
  const each = durationText(stepMs).replace(/^1 /, "");
  const isOut = Math.abs(numberOf(deviations)) >= DEVIATIONS_MIN;
  const anEach = each === durationText(stepMs) ? each : `a ${each}`;
  const part = median === 0 ? "" : ` (${signedPercent(amount, median)})`;
  const count = numberOf(outliers);
  if (!isOut && Math.abs(amount - median) < NOTABLE * Math.abs(median)) return null;
  const how = isOut
    ? html` That is ${numberText(Math.abs(Math.round(numberOf(deviations))))} robust standard
 deviations away${count > 1 ? `, the farthest of ${count} such ${plural(each)}` : ""}.`
    : html` No step is an outlier.`;
  return {
    text: html`${at} is farthest from the usual: ${strong(numberText(amount))} ${name} against a
 median of ${numberText(median)} in ${anEach}${part}.${how}`,
    of: table.name,
    kind: isOut ? "warns" : "data",
    answer,
  };
}

/** "day" to "days"; "7 days" to "steps". */
const plural = (each: string): string => (/^[a-z]+$/.test(each) ? `${each}s` : "steps");

function signedPercent(value: number, base: number): string {
  const percent = (100 * (value - base)) / Math.abs(base);
  return `${percent > 0 ? "+" : "−"}${numberText(Math.abs(Math.round(percent)))}%`;
}

/** Growth below it is noise. */
const GROWTH_MIN = 1.1;
const EVENTS_MIN = 20;

/** Of several, the key that grew most from the first half of the time to the second. */
async function growing(results: Results, facts: WindowedFacts, { name }: Measure): Maybe {
  const { table, key, start } = facts;
  if (key === null) return null;
  const [column, time, from] = [quoteName(name), quoteName(start), quoteName(table.name)];
  const answer = await ask(
    results,
    "WITH halves AS (\n  SELECT make_timestamptz((epoch_us(min(" +
      `${time})) + epoch_us(max(${time}))) // 2) AS middle\n  FROM ${from}),\n` +
      `keys AS (\n  SELECT ${key} AS key,\n` +
      `    coalesce(sum(${column}) FILTER (${time} < middle), 0)::DOUBLE AS before,\n` +
      `    coalesce(sum(${column}) FILTER (${time} >= middle), 0)::DOUBLE AS after\n` +
      `  FROM ${from}, halves GROUP BY 1)\n` +
      "SELECT key, before, after, after / before AS growth, middle,\n" +
      "  (SELECT count(*) FROM keys) AS all_keys\nFROM keys, halves\n" +
      `WHERE before >= ${EVENTS_MIN} AND before + after >= ` +
      "(SELECT sum(before + after) / 100 FROM keys)\n" +
      "ORDER BY growth DESC, key LIMIT 1",
  );
  const [found, before, after, growth, middle, keys] = answer.rows[0] ?? [];
  if (!(numberOf(growth) >= GROWTH_MIN && numberOf(keys) > 1)) return null;
  return {
    text: html`${keyOf(found)} grew most: ${name} went from ${numberText(numberOf(before))} to
${strong(numberText(numberOf(after)))} (${signedPercent(numberOf(after), numberOf(before))}) from
the first half of the time to the second, which began at ${timeText(timeOf(middle), 60_000)}.`,
    of: table.name,
    kind: "data",
    answer,
  };
}

async function longest(results: Results, { table, key, start, end }: WindowedFacts): Maybe {
  const [from, begin, last] = [quoteName(table.name), quoteName(start), quoteName(end)];
  const answer = await ask(
    results,
    `SELECT ${key ?? "''"} AS key, ${begin}, epoch_ms(${last}) - epoch_ms(${begin}) AS ms,\n` +
      `  (SELECT median(epoch_ms(${last}) - epoch_ms(${begin})) FROM ${from}) AS median_ms,\n` +
      `  (SELECT count(*) FROM ${from}) AS sessions\n` +
      `FROM ${from} ORDER BY ms DESC, ${begin}, 1 LIMIT 1`,
  );
  const [found, began, ms, median, sessions] = answer.rows[0] ?? [];
  if (!(numberOf(ms) > 0 && numberOf(sessions) > 1)) return null;
  const typical = numberOf(median) > 0 ? `${durationText(numberOf(median))} or less` : "no time";
  return {
    text: html`The longest of ${numberText(numberOf(sessions))} sessions took
${strong(durationText(numberOf(ms)))}${key === null ? "" : html`, by ${keyOf(found)}`}, from
${timeText(timeOf(began), 60_000)}. Half of them took ${typical}.`,
    of: table.name,
    kind: "data",
    answer,
  };
}

async function greatest(results: Results, facts: WindowedFacts, { name }: Measure): Maybe {
  const { table, key, start, sizeMs } = facts;
  const column = quoteName(name);
  const answer = await ask(
    results,
    `SELECT ${key ?? "''"} AS key, ${quoteName(start)} AS start, ${column},\n` +
      `  (SELECT median(${column}) FROM ${quoteName(table.name)}) AS typical\n` +
      `FROM ${quoteName(table.name)} WHERE ${column} IS NOT NULL\n` +
      `ORDER BY ${column} DESC, start, 1 LIMIT 1`,
  );
  const [found, began, value, typical] = answer.rows[0] ?? [];
  const top = numberOf(value);
  if (!Number.isFinite(top) || !(top > numberOf(typical))) return null;
  const at = timeText(timeOf(began), sizeMs ?? 60_000);
  return {
    text: html`${name} was highest in the ${sizeMs === null ? "session" : "window"} of
${strong(at)}${key === null ? "" : html` for ${keyOf(found)}`}: ${strong(numberText(top))},
 against a median of ${numberText(numberOf(typical))}.`,
    of: table.name,
    kind: "data",
    answer,
  };
}

const COVERED_ENOUGH = 0.999;

/** Whether the lateness of a stream is enough for the order its events come in. */
export function orderInsight({ stream, within, all, answer }: OrderPanel): Insight {
  const beyond = all - within;
  const setting = durationText(stream.latenessMs);
  const enough = answer.rows.find((_, index) => {
    const upTo = answer.rows.slice(0, index + 1).reduce((sum, [, n]) => sum + numberOf(n), 0);
    return upTo >= COVERED_ENOUGH * all;
  });
  const enoughMs = numberOf(enough?.[3]);
  const most = Number.isFinite(enoughMs)
    ? `; 99.9% are at most ${durationText(enoughMs)} behind`
    : "";
  const isEnough = within >= COVERED_ENOUGH * all;
  const advice =
    beyond === 0
      ? html` Nothing came later than that.`
      : isEnough
        ? html` ${numberText(beyond)} came later.`
        : html` ${numberText(beyond)} came later${most}.`;
  return {
    text: html`The lateness of ${setting} covers ${strong(percentText(within, all))} of
${numberText(all)} events.${advice}`,
    of: `stream ${stream.name}, out-of-order events`,
    kind: isEnough ? "quality" : "warns",
    answer,
  };
}

/** Dead letters, duplicates, and columns that are often null. */
export function readingInsight(accounting: Answer, deadLetters: Answer | null): Insight | null {
  const streams = accounting.rows.filter(([kind]) => kind === "stream");
  const total = (name: string) => {
    const at = accounting.columns.indexOf(name);
    return streams.reduce((sum, row) => sum + (numberOf(row[at]) || 0), 0);
  };
  const [records, dead, duplicates] = ["records", "dead_letters", "duplicates"].map(total);
  if (!records) return null;
  const main = deadLetters?.rows[0];
  const reason =
    main === undefined
      ? null
      : html`, mostly ${strong(textOf(main[0]))} (${numberText(numberOf(main[1]))})`;
  const unread =
    dead === 0
      ? html`Every one of ${numberText(records)} records could be read`
      : html`${strong(numberText(dead!))} of ${numberText(records)} records
 (${percentText(dead!, records)}) are dead letters${reason}`;
  const again =
    duplicates === 0
      ? html`.`
      : html`; ${strong(numberText(duplicates!))} (${percentText(duplicates!, records)}) came twice
 and were counted once.`;
  return {
    text: html`${unread}${again}`,
    of: "accounting",
    kind: dead! > records / 100 ? "warns" : "quality",
    answer: accounting,
  };
}

const NULLS_MIN_PERCENT = 1;

/** The column of a table that is null most often; `columns` as the panel of columns asked. */
export function nullsInsight(table: string, columns: Answer): Insight | null {
  const nullable = columns.rows
    .filter((row) => numberOf(row[2]) >= NULLS_MIN_PERCENT)
    .sort((a, b) => numberOf(b[2]) - numberOf(a[2]));
  const [most, ...others] = nullable;
  if (most === undefined) return null;
  const more = others.length === 0 ? "" : `, and ${others.length} more columns are null at times`;
  return {
    text: html`${keyOf(most[0])} is null in ${strong(`${numberText(numberOf(most[2]))}%`)} of the
rows${others.length === 1 ? more.replace("columns are", "column is") : more}.`,
    of: table,
    kind: "quality",
    answer: columns,
  };
}
