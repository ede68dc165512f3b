/**
 * The truth about records: a pipeline's tables by batch SQL, as an audit computes them; nothing of
 * the engine takes part in it. A calm run is held against it once, within the stated tolerances;
 * disturbed runs are held against the calm one, to the last bit.
 */
import type { DuckDBConnection } from "@duckdb/node-api";
import { type AuditReport, audit } from "../audit/audit.js";
import { differencesText } from "../cli/audit-report.js";
import type { ColumnNode, PipelineDefinition } from "../define/definition.js";
import { minutes } from "../define/durations.js";
import { DuckDBInstance } from "../duckdb-api.js";
import type { Column } from "../engine/batch.js";
import { columnFromValues } from "../engine/row-values.js";
import { MillpondError } from "../errors.js";
import { INGEST_PARTITION } from "../runtime/object-ingest.js";
import { referenceFiles } from "../runtime/references.js";
import { writeAccounting } from "../sinks/duckdb.js";
import { BatchAppender } from "../sinks/duckdb-rows.js";
import { columnDefinitions, quoteName } from "../sinks/duckdb-types.js";
import { BRONZE, tableLayouts } from "../sinks/layouts.js";
import { NO_FAULTS, Violation } from "./faults.js";
import { runSchedule, type ScheduleResult, type SimulationCase } from "./schedule.js";
import type { IncomingObject } from "./simulated-objects.js";
import type { SimulatedRow } from "./simulated-sink.js";
import type { SimulatedLog, SimulatedRecord } from "./simulated-topic.js";

/** Clocks of simulated processes differ, by less than that. */
const CLOCKS_MS = minutes(60);
/** In each of them the clock goes another way. */
const CALM_RUNS_MAX = 5;
/** Differences shown of a table. */
const EXAMPLES_MAX = 3;
const TEXT_COLUMNS = 96;

export interface Truth {
  readonly prepared: SimulationCase;
  readonly calm: ScheduleResult;
  /** Rows of each table, as text, sorted. */
  readonly tables: ReadonlyMap<string, readonly string[]>;
  readonly accounting: string;
}

/**
 * Runs the pipeline undisturbed, and holds its tables against batch SQL. `order` is that of the
 * keys of incoming objects, in which their records then lie.
 *
 * @throws Violation with the rows that differ
 * @throws MillpondError DEFINITION when `reviseFor` is too short for an undisturbed run
 * @example
 * const truth = await truthOf(prepared, 1);
 * checkResult(truth, await runSchedule(prepared, { seed: 17 }));
 */
export async function truthOf(
  prepared: SimulationCase,
  seed: number,
  order?: readonly string[],
): Promise<Truth> {
  const options = { odds: NO_FAULTS, ...(order !== undefined && { order }) };
  let calm = await runSchedule(prepared, { seed, ...options });
  for (let i = 1; calm.beyondReviseEvents > 0; i++) {
    if (i === CALM_RUNS_MAX) throw tooBrief(calm);
    calm = await runSchedule(prepared, { seed: seed + i, ...options });
  }
  const text = await differencesFromSql(prepared, calm);
  if (text !== "") {
    throw new Violation(`an undisturbed run is not what batch SQL makes of its records\n\n${text}`);
  }
  return { prepared, calm, tables: shownTables(calm.tables), accounting: shownAccounting(calm) };
}

/** No SQL can say which events came too late by the clock. */
function tooBrief({ beyondReviseEvents, simulatedMs }: ScheduleResult): MillpondError {
  return new MillpondError(
    "DEFINITION",
    `in an undisturbed run of ${Math.ceil(simulatedMs / 1000)} s ${beyondReviseEvents} events ` +
      "came beyond a table's reviseFor, so that results depend on time: give a longer reviseFor, " +
      "or fewer records at a time",
  );
}

/** Throws `Violation` with what a run's tables or accounting lack or have too much. */
export function checkResult({ prepared, ...truth }: Truth, result: ScheduleResult): void {
  if (result.beyondReviseEvents > 0) {
    // The one thing that results depend on beside the records: somebody was away for too long.
    if (result.simulatedMs > patienceMs(prepared.pipeline.definition)) return;
    throw new Violation(`${result.beyondReviseEvents} events came beyond reviseFor`);
  }
  const found = shownTables(result.tables);
  for (const [name, rows] of truth.tables) {
    const text = difference(rows, found.get(name) ?? []);
    if (text !== "") throw new Violation(`table ${name}: ${text}`);
  }
  const accounting = shownAccounting(result);
  if (accounting === truth.accounting) return;
  throw new Violation(`the accounting is ${accounting}, expected ${truth.accounting}`);
}

/** Who is away for less, by the clock, misses no window; see `awaitedFrom`. */
function patienceMs({ streams, tables }: PipelineDefinition): number {
  const each = tables.map(({ stream, reviseForMs }) => {
    const { idleAfterMs } = streams.find(({ name }) => name === stream)!;
    return Math.max(idleAfterMs, reviseForMs);
  });
  return Math.min(...each) - CLOCKS_MS;
}

function difference(expected: readonly string[], found: readonly string[]): string {
  if (expected.length === found.length && expected.every((row, i) => row === found[i])) return "";
  const [here, there] = [new Set(found), new Set(expected)];
  const missing = expected.filter((row) => !here.has(row));
  const extra = found.filter((row) => !there.has(row));
  return (
    `${found.length} rows, expected ${expected.length}; missing ` +
    `${missing.slice(0, EXAMPLES_MAX).join(" ")}; extra ${extra.slice(0, EXAMPLES_MAX).join(" ")}`
  );
}

function shownTables(tables: ScheduleResult["tables"]): Map<string, string[]> {
  return new Map([...tables].map(([name, rows]) => [name, rows.map(shown).sort()]));
}

const shown = (row: SimulatedRow) => JSON.stringify(row, exactly);

/** JSON has neither bigints, nor -0, nor what is not finite. */
function exactly(_name: string, value: unknown): unknown {
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value !== "number" || (Number.isFinite(value) && !Object.is(value, -0))) return value;
  return Object.is(value, -0) ? "-0" : `${value}`;
}

const shownAccounting = ({ accounting }: ScheduleResult) => JSON.stringify(accounting);

/** What a run's results differ in from batch SQL over the records, as text; "" when in nothing. */
export async function differencesFromSql(
  prepared: SimulationCase,
  result: ScheduleResult,
): Promise<string> {
  const topics = prepared.logs.map(({ log }) => log);
  const records = bronzeRows([...topics, ...objectLogs(prepared.incoming ?? [], result.ingested)]);
  const { bronze } = Object.fromEntries(result.tables);
  const raw = bronze === undefined ? "" : difference(...sortedTexts(records, bronze));
  const { equal, tables } = await auditOf(prepared, result, records);
  const view = { width: TEXT_COLUMNS, color: false };
  const wrong = tables.filter(({ differences }) => !equal && differences.length > 0);
  return [
    ...(raw === "" ? [] : [`bronze: ${raw}`]),
    ...wrong.map((table) => differencesText(table, view)),
  ].join("\n");
}

const sortedTexts = (a: readonly SimulatedRow[], b: readonly SimulatedRow[]) =>
  [a.map(shown).sort(), b.map(shown).sort()] as const;

/** A stream's objects as the one partition that they become, in this order. */
function objectLogs(objects: readonly IncomingObject[], order: readonly string[]): SimulatedLog[] {
  const byStream = new Map<string, SimulatedRecord[]>();
  for (const key of order) {
    const { stream, lines, modifiedMs: timestampMs } = objects.find((one) => one.key === key)!;
    const records = byStream.get(stream) ?? [];
    byStream.set(stream, records);
    for (const value of lines) records.push({ offset: records.length, timestampMs, value });
  }
  return [...byStream].map(([topic, records]) => ({ topic, partition: INGEST_PARTITION, records }));
}

/** The records as bronze holds them. */
function bronzeRows(logs: readonly SimulatedLog[]): SimulatedRow[] {
  const text = (value: string | Uint8Array | null | undefined) =>
    value === null || value === undefined ? null : Buffer.from(value).toString("latin1");
  return logs.flatMap(({ topic, partition, records }) =>
    records.map(({ offset, timestampMs, key, value }) => ({
      topic,
      partition,
      offset: BigInt(offset),
      timestamp: timestampMs,
      key: text(key),
      value: text(value),
    })),
  );
}

async function auditOf(
  { pipeline }: SimulationCase,
  { tables, accounting }: ScheduleResult,
  records: readonly SimulatedRow[],
): Promise<AuditReport> {
  const { definition, functions } = pipeline;
  const instance = await DuckDBInstance.create(":memory:", {
    threads: "1",
    autoinstall_known_extensions: "false",
    autoload_known_extensions: "false",
  });
  const connection = await instance.connect();
  const close = async () => {
    connection.closeSync();
    instance.closeSync();
  };
  try {
    await connection.run("SET TimeZone = 'UTC'; ATTACH ':memory:' AS published; USE published");
    for (const { name, columns } of tableLayouts(definition)) {
      const kept = columns.filter((column) => column.name !== "revision");
      await fill(connection, "published", { name, columns: kept }, tables.get(name) ?? []);
    }
    await writeAccounting(connection, { rows: accounting });
    await connection.run("USE memory");
    await fill(connection, "memory", BRONZE, records);
    const relation = (name: string) => `published.main.${quoteName(name)}`;
    const copy = {
      place: "the run",
      tables: new Map([...tables.keys()].map((name) => [name, relation(name)])),
      accounting: { kind: "there", from: relation("accounting") },
    } as const;
    const everything = { passed: new Map(), pending: new Map(), flushed: true, unread: [] };
    const place = { connection, instance, bronze: BRONZE.name, copies: [copy], read: null, close };
    const references = referenceFiles(pipeline);
    const options = { definition, functions, references, examples: EXAMPLES_MAX };
    return await audit({ ...place, ...everything }, options);
  } finally {
    await close();
  }
}

async function fill(
  connection: DuckDBConnection,
  catalog: string,
  { name, columns }: { readonly name: string; readonly columns: readonly ColumnNode[] },
  rows: readonly SimulatedRow[],
): Promise<void> {
  await connection.run(
    `CREATE TABLE ${catalog}.main.${quoteName(name)} (${columnDefinitions(columns)})`,
  );
  if (rows.length === 0) return;
  const explain = (error: unknown) => (error instanceof Error ? error : new TypeError(`${error}`));
  const appender = await BatchAppender.open(connection, { catalog, name }, columns, explain);
  appender.append({ rowCount: rows.length, columns: columns.map((node) => columnOf(node, rows)) });
  appender.close();
}

function columnOf(node: ColumnNode, rows: readonly SimulatedRow[]): Column {
  const values = rows.map((row) => row[node.name] ?? null);
  if (node.type.kind === "bytes") {
    const bytes = values.map((text) => (text === null ? null : Buffer.from(`${text}`, "latin1")));
    return columnFromValues(node, bytes);
  }
  if (node.type.kind !== "double") return columnFromValues(node, values);
  // A sum may be infinite, which no function of a user's may give.
  const valid = Uint8Array.from(values, (value) => (value === null ? 0 : 1));
  const vector = { kind: "number", values: Float64Array.from(values, Number) } as const;
  return { name: node.name, type: node.type, valid, vector };
}
