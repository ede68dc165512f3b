/**
 * The truth about a case: its tables by batch SQL over the whole logs, which nothing of the engine
 * takes part in. A calm run is held against it once, within the stated tolerances; disturbed runs
 * are held against the calm one, to the last bit.
 */
import { mkdtemp, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { PipelineDefinition, TableNode } from "../../lib/define/definition.js";
import { days } from "../../lib/index.js";
import { NO_FAULTS, Violation } from "../../lib/testing/faults.js";
import {
  runSchedule,
  type ScheduleResult,
  type SimulationCase,
  simulationCase,
} from "../../lib/testing/schedule.js";
import type { SimulatedRow } from "../../lib/testing/simulated-sink.js";
import { PreparedLog, type SimulatedLog } from "../../lib/testing/simulated-topic.js";
import { compareTables, tolerancesOf } from "../reference/compare.js";
import { referenceTables } from "../reference/reference.js";
import type { Row } from "../reference/rows.js";
import { type Case, caseOf, START_MS } from "./cases.js";

/** A case with its truth. */
export interface KnownCase {
  readonly number: number;
  readonly prepared: SimulationCase;
  readonly patienceMs: number;
  readonly expected: ReadonlyMap<string, readonly string[]>;
  readonly accounting: string;
}

const NO_REFERENCES = { data: new Map(), hashes: new Map() };

export async function knownCase(number: number): Promise<KnownCase> {
  const { pipeline, changed, logs, patienceMs } = caseOf(number);
  const prepared = await simulationCase({
    pipeline,
    changed,
    references: NO_REFERENCES,
    logs: logs.map((log) => new PreparedLog(log)),
    startMs: START_MS + 86_400_000,
  });
  const calm = await runSchedule(prepared, { seed: number, odds: NO_FAULTS });
  const differences = await differencesFromSql({ pipeline, changed, logs, patienceMs }, calm);
  if (differences !== "") throw new Violation(`a calm run of case ${number}: ${differences}`);
  return {
    number,
    prepared,
    patienceMs,
    expected: shownTables(calm.tables),
    accounting: shownAccounting(calm),
  };
}

/** Throws `Violation` with what a run's tables or accounting lack or have too much. */
export function checkResult(known: KnownCase, result: ScheduleResult): void {
  if (result.beyondReviseEvents > 0) {
    if (result.simulatedMs > known.patienceMs) return;
    throw new Violation(`${result.beyondReviseEvents} events came beyond reviseFor`);
  }
  const found = shownTables(result.tables);
  for (const [name, rows] of known.expected) {
    const text = difference(rows, found.get(name) ?? []);
    if (text !== "") throw new Violation(`table ${name}: ${text}`);
  }
  const accounting = shownAccounting(result);
  if (accounting === known.accounting) return;
  throw new Violation(`the accounting is ${accounting}, expected ${known.accounting}`);
}

function difference(expected: readonly string[], found: readonly string[]): string {
  if (expected.length === found.length && expected.every((row, i) => row === found[i])) return "";
  const [here, there] = [new Set(found), new Set(expected)];
  const missing = expected.filter((row) => !here.has(row));
  const extra = found.filter((row) => !there.has(row));
  return (
    `${found.length} rows, expected ${expected.length}; missing ` +
    `${missing.slice(0, 3).join(" ")}; extra ${extra.slice(0, 3).join(" ")}`
  );
}

function shownTables(tables: ScheduleResult["tables"]): Map<string, string[]> {
  return new Map([...tables].map(([name, rows]) => [name, rows.map(shown).sort()]));
}

const shown = (row: SimulatedRow) =>
  JSON.stringify(row, (_, value) => (typeof value === "bigint" ? `${value}n` : value));

const shownAccounting = ({ accounting }: ScheduleResult) => JSON.stringify(accounting);

async function differencesFromSql({ pipeline, logs }: Case, calm: ScheduleResult) {
  const dir = await mkdtemp(join(tmpdir(), "millpond-simulation-"));
  const { definition } = pipeline;
  try {
    const files = await Promise.all(logs.map((log) => writeLog(dir, log)));
    const reference = await referenceTables(definition, { files });
    try {
      const found: string[] = [];
      for (const [name, rows] of calm.tables) {
        if (name === "bronze") {
          found.push(bronzeDifference(rows, logs));
          continue;
        }
        const table = definition.tables.find((node) => node.name === name);
        const expected = (await reference.table(name)).map((row) => withRealOffset(row, logs));
        const tolerances = table === undefined ? {} : tolerancesOf(table);
        const text = compareTables(rows as Row[], expected, keyOf(name, table), { tolerances });
        if (text !== "") found.push(`${name}: ${text}`);
      }
      const accounting = await reference.accounting();
      found.push(...accountingDifferences(definition, calm, accounting));
      return found.filter((text) => text !== "").join("\n");
    } finally {
      reference.close();
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** A line a record, so that line i is record i; no value is as bad as one that is no object. */
async function writeLog(dir: string, { topic, partition, records }: SimulatedLog) {
  const path = join(dir, `${topic}-${partition}.ndjson`);
  await writeFile(path, records.map(({ value }) => `${value ?? "null"}\n`).join(""));
  const modified = new Date(START_MS + days(10));
  await utimes(path, modified, modified);
  return { path, topic, partition };
}

/** A file has no offsets, timestamps and tombstones of a topic; bronze compares those. */
function withRealOffset(
  { timestamp: _timestamp, raw: _raw, ...row }: Row,
  logs: readonly SimulatedLog[],
): Row {
  if (row.offset === undefined || row.topic === undefined) return row;
  const log = logs.find(
    ({ topic, partition }) => topic === row.topic && partition === Number(row.partition),
  );
  return { ...row, offset: BigInt(log!.records[Number(row.offset)]!.offset) };
}

function keyOf(name: string, table: TableNode | undefined): readonly string[] {
  if (name === "late") return ["table", "topic", "partition", "offset"];
  if (table === undefined || table.shape.kind === "rows") return ["topic", "partition", "offset"];
  const start = table.shape.window.kind === "session" ? "session_start" : "window_start";
  return [start, ...table.shape.groupBy];
}

/** Every record as it came, once. */
function bronzeDifference(rows: readonly SimulatedRow[], logs: readonly SimulatedLog[]): string {
  const expected = logs.flatMap(({ topic, partition, records }) =>
    records.map(({ offset, timestampMs, value, key }) =>
      [topic, partition, offset, timestampMs, key ?? null, value].join("|"),
    ),
  );
  const found = rows.map(({ topic, partition, offset, timestamp, key, value }) =>
    [topic, partition, offset, timestamp, key, value].join("|"),
  );
  const text = difference(expected.sort(), found.sort());
  return text === "" ? "" : `bronze: ${text}`;
}

type ExpectedAccounting = Awaited<
  ReturnType<Awaited<ReturnType<typeof referenceTables>>["accounting"]>
>;

function accountingDifferences(
  { tables }: PipelineDefinition,
  { accounting }: ScheduleResult,
  expected: ExpectedAccounting,
): string[] {
  const found: string[] = [];
  const same = (name: string, column: string, wanted: number) => {
    const row = accounting.find((one) => one.name === name);
    if (row?.[column] === wanted) return;
    found.push(`accounting of ${name}: ${column} is ${row?.[column]}, expected ${wanted}`);
  };
  for (const { stream, records, events, deadLetters } of expected.streams) {
    same(stream, "records", records);
    same(stream, "events", events);
    same(stream, "dead_letters", deadLetters);
  }
  for (const { table, counted, late, duplicates } of expected.tables) {
    if (tables.find(({ name }) => name === table)?.shape.kind === "rows") {
      same(table, "rows", counted + late);
      continue;
    }
    same(table, "counted", counted);
    same(table, "late", late);
    same(table, "duplicates", duplicates);
  }
  return found;
}
