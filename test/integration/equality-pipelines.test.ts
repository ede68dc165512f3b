/**
 * Thousands of random pipelines over random logs of random schemas: what streaming publishes, cut
 * into slices and rounds at random, equals batch SQL over the whole log. Stores are in memory and
 * one DuckDB serves all, so that a pipeline takes milliseconds.
 */
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { type DuckDBConnection, DuckDBInstance, DuckDBTimestampTZValue } from "@duckdb/node-api";
import { afterAll, expect, test } from "vitest";
import { runBatch } from "../../lib/audit/batch.js";
import { accountingSql, batchSteps } from "../../lib/audit/batch-sql.js";
import { keyOf } from "../../lib/audit/explain.js";
import { tolerancesOf } from "../../lib/audit/tolerances.js";
import type { PipelineDefinition, ReferenceNode } from "../../lib/define/definition.js";
import type { StepContext } from "../../lib/engine/steps.js";
import { accountingRows, checkAccounting } from "../../lib/runtime/accounting.js";
import { loadReferences } from "../../lib/runtime/references.js";
import { quoteName } from "../../lib/sinks/duckdb-types.js";
import { isRevised } from "../../lib/sinks/layouts.js";
import { compareTables } from "../reference/compare.js";
import { readRows } from "../reference/rows.js";
import { ALL_FEATURES, featuresOf } from "./support/pipeline-features.js";
import { Random, testRounds, testSeed } from "./support/random.js";
import { type RandomCase, randomCase } from "./support/random-pipelines.js";
import { writeReferences } from "./support/random-references.js";
import { RandomRun } from "./support/random-run.js";

/** So many rounds meet every feature: the rarest is in about one pipeline of a hundred. */
const COVERING_ROUNDS = 2000;

const dir = fs.mkdtempSync(path.join(tmpdir(), "millpond-pipelines-"));
afterAll(() => fs.rmSync(dir, { recursive: true }));

/** Features met, and how often; rows compared. */
class Coverage {
  rows = 0;
  private readonly counts = new Map<string, number>();

  add(features: Iterable<string>): void {
    for (const feature of new Set(features)) {
      this.counts.set(feature, (this.counts.get(feature) ?? 0) + 1);
    }
  }

  missing(): string[] {
    return ALL_FEATURES.filter((feature) => !this.counts.has(feature));
  }

  /** The ten rarest first. */
  text(): string {
    const rarest = [...this.counts].sort(([, a], [, b]) => a - b).slice(0, 10);
    return rarest.map(([feature, count]) => `${feature}: ${count}`).join(", ");
  }
}

/** Leaves the logs as table `bronze`. */
async function writeBronze(connection: DuckDBConnection, { logs }: RandomCase): Promise<void> {
  await connection.run("DROP TABLE IF EXISTS bronze");
  await connection.run(`CREATE TABLE bronze (topic VARCHAR, "partition" INTEGER,
    "offset" BIGINT, "value" BLOB, "timestamp" TIMESTAMPTZ)`);
  const appender = await connection.createAppender("bronze");
  for (const [topic, partitions] of logs) {
    for (const [partition, records] of partitions.entries()) {
      for (const [offset, { value, timestampMs }] of records.entries()) {
        appender.appendVarchar(topic);
        appender.appendInteger(partition);
        appender.appendBigInt(BigInt(offset));
        if (value === null) appender.appendNull();
        else appender.appendBlob(Buffer.from(value));
        if (Number.isNaN(timestampMs)) appender.appendNull();
        else appender.appendTimestampTZ(new DuckDBTimestampTZValue(BigInt(timestampMs) * 1000n));
        appender.endRow();
      }
    }
  }
  appender.closeSync();
}

/** Runs one pipeline both ways; throws where they differ. */
async function checkOne(
  connection: DuckDBConnection,
  random: Random,
  scenario: RandomCase,
  context: StepContext,
  coverage: Coverage,
): Promise<void> {
  const { definition, functions } = scenario.pipeline;
  const run = new RandomRun(random, scenario, { ...context, functions });
  await run.toTheEnd();
  await connection.run("BEGIN");
  try {
    await writeBronze(connection, scenario);
    const files = new Map(definition.references.map(({ name, path: file }) => [name, file]));
    const steps = batchSteps(definition, { bronze: "bronze", references: files });
    await runBatch(connection, steps, functions);
    coverage.rows += await compareRows(connection, definition, run);
    await compareAccounting(connection, definition, run);
  } finally {
    await connection.run("ROLLBACK");
  }
  coverage.add(featuresOf(definition));
  coverage.add(run.met);
}

/** Every table but those that lost something to a short `reviseFor`; how many rows agree. */
async function compareRows(
  connection: DuckDBConnection,
  definition: PipelineDefinition,
  run: RandomRun,
): Promise<number> {
  let rows = 0;
  for (const layout of run.sink.layouts) {
    const { name } = layout;
    if ((run.published.totals[name]?.beyondReviseEvents ?? 0) > 0) continue;
    const table = definition.tables.find((node) => node.name === name);
    const columns = "COLUMNS(c -> NOT starts_with(c, '__'))";
    const expected = await readRows(connection, `SELECT ${columns} FROM main.${quoteName(name)}`);
    const tolerances = table === undefined ? {} : tolerancesOf(table);
    const found = compareTables(run.sink.of(name), expected, keyOf(layout), { tolerances });
    expect(found, name).toBe("");
    rows += expected.length;
  }
  return rows;
}

/** The sums (I2) hold, and are what SQL counts. */
async function compareAccounting(
  connection: DuckDBConnection,
  definition: PipelineDefinition,
  { counters, published, sink }: RandomRun,
): Promise<void> {
  const rows = accountingRows(definition, counters, published);
  const onlyGrow = sink.layouts.filter((layout) => !isRevised(layout));
  const storedRows = new Map(onlyGrow.map(({ name }) => [name, sink.of(name).length]));
  checkAccounting({ definition, rows, published, flushed: true, storedRows });
  const ofStream = ["records", "events", "dead_letters"];
  const ofTable = ["events", "counted", "late", "duplicates"];
  for (const expected of await readRows(connection, accountingSql(definition))) {
    const row = rows.find(({ kind, name }) => kind === expected.kind && name === expected.name)!;
    const where = `accounting of ${row.name}`;
    if (row.rows !== null) {
      expect(row.rows, where).toBe(Number(expected.counted) + Number(expected.late));
      continue;
    }
    const numbers = (of: Readonly<Record<string, unknown>>) =>
      (row.kind === "stream" ? ofStream : ofTable).map((column) => Number(of[column]));
    expect(numbers(row), where).toEqual(numbers(expected));
  }
}

/** The reference tables' data, as a run loads them. */
async function contextOf(references: readonly ReferenceNode[]): Promise<StepContext> {
  const none = { version: 1 as const, name: "none", parameters: [], streams: [] };
  const definition = { ...none, tables: [], sinks: [], references };
  const functions = new Map();
  const { data } = await loadReferences({ kind: "pipeline", definition, functions, file: dir });
  return { functions, references: data };
}

test("streaming gives what batch SQL gives, for thousands of random pipelines", async () => {
  const seed = testSeed();
  const rounds = testRounds(COVERING_ROUNDS);
  const instance = await DuckDBInstance.create(":memory:", { threads: "1" });
  const coverage = new Coverage();
  try {
    const connection = await instance.connect();
    await connection.run("SET TimeZone = 'UTC'");
    const references = await writeReferences(connection, dir);
    const context = await contextOf(references);
    for (let round = 0; round < rounds; round++) {
      const random = new Random(seed + round);
      const scenario = randomCase(random, references);
      await checkOne(connection, random, scenario, context, coverage).catch((cause) => {
        const definition = JSON.stringify(scenario.pipeline.definition);
        throw new Error(`SEED=${seed + round} ROUNDS=1: ${definition}`, { cause });
      });
    }
  } finally {
    instance.closeSync();
  }
  console.log(`${rounds} pipelines, ${coverage.rows} rows; rarest are ${coverage.text()}`);
  if (rounds >= COVERING_ROUNDS) expect(coverage.missing()).toEqual([]);
}, 3_600_000);
