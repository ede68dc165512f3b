/**
 * Thousands of random pipelines over random logs of random schemas: what streaming publishes, cut
 * into slices and rounds at random, equals batch SQL over the whole log. Stores are in memory and
 * one DuckDB serves all, so that a pipeline takes milliseconds.
 */
import { type DuckDBConnection, DuckDBInstance } from "@duckdb/node-api";
import { expect, test } from "vitest";
import { runBatch } from "../../lib/audit/batch.js";
import { batchSteps } from "../../lib/audit/batch-sql.js";
import { keyOf } from "../../lib/audit/explain.js";
import { tolerancesOf } from "../../lib/audit/tolerances.js";
import { Publisher } from "../../lib/commit/publisher.js";
import type { Pipeline } from "../../lib/define/definition.js";
import { compileStream } from "../../lib/engine/program.js";
import { valueAt } from "../../lib/engine/row-values.js";
import { PartitionRun } from "../../lib/runtime/partition-run.js";
import { partitionId, publisherId } from "../../lib/runtime/runner.js";
import { quoteName } from "../../lib/sinks/duckdb-types.js";
import { isRevised, tableLayouts } from "../../lib/sinks/layouts.js";
import type { TableLayout } from "../../lib/sinks/sink.js";
import { MemoryCheckpointStore, MemoryObjectStore } from "../../lib/stores/memory.js";
import { RecordQueue } from "../../lib/testing/record-queue.js";
import { compareTables } from "../reference/compare.js";
import { type Row, readRows } from "../reference/rows.js";
import { Random, testRounds, testSeed } from "./support/random.js";
import { type RandomCase, randomCase } from "./support/random-pipelines.js";

const DEFINITION_HASH = "property";

/** Rows that sinks would hold, by table, after a run of random slices, rounds and restarts. */
async function streamed(random: Random, { pipeline, logs }: RandomCase) {
  const { definition } = pipeline;
  const stores = { checkpoints: new MemoryCheckpointStore(), objects: new MemoryObjectStore() };
  const [{ name: topic }] = definition.streams;
  const context = { functions: pipeline.functions, references: new Map() };
  const program = compileStream(definition, topic, context);
  const queues = logs.map((records, partition) => {
    const queue = new RecordQueue(topic, partition);
    for (const { value, timestampMs } of records) queue.push(value, null, timestampMs);
    return queue;
  });
  const options = { ...stores, definitionHash: DEFINITION_HASH };
  const newRun = (source: RecordQueue) =>
    new PartitionRun({
      ...options,
      program,
      source,
      id: partitionId(definition.name, topic, source.partition),
    });
  const runs = queues.map(newRun);
  const id = publisherId(definition.name);
  const publisher = new Publisher({ ...options, id, programs: [program] });
  await publisher.load();
  const sink = new RowsInMemory(pipeline);
  const round = async (flush: boolean) => {
    const partitions = runs.map((run, partition) => ({
      id: run.id,
      stream: topic,
      partition,
      checkpoint: run.checkpoint,
      idle: false,
    }));
    await publisher.round({ partitions, flush: () => flush, sinksTookUpTo: sink.sequence });
    for (const entry of publisher.state.publications) {
      if (entry.sequence <= sink.sequence) continue;
      sink.add(entry.table, await publisher.batchOf(entry));
    }
    sink.sequence = publisher.state.sequence;
    for (const run of runs) run.releaseUpTo = publisher.state.taken[run.id] ?? 0;
  };
  for (const run of runs) await run.open();
  const reading = new Set(runs.keys());
  const flushes = random.chance(0.3);
  while (reading.size > 0) {
    const at = random.pick([...reading]);
    if (!(await runs[at].step(random.pick([1, 3, 10, 40, 1000])))) reading.delete(at);
    if (random.chance(0.05)) {
      await runs[at].settle();
      await runs[at].close();
      runs[at] = newRun(queues[at]);
      await runs[at].open();
    }
    if (random.chance(0.3)) {
      const flush = flushes && random.chance(0.3);
      for (const run of runs) await (flush ? run.settle().then(() => run.flush()) : run.settle());
      await round(flush);
    }
  }
  for (const run of runs) await run.flush();
  await round(true);
  return { sink, counters: runs.map((run) => run.meta?.counters) };
}

/** A sink: of each key the latest revision, unless withdrawn; other rows as they come. */
class RowsInMemory {
  sequence = 0;
  readonly layouts: readonly TableLayout[];
  private readonly rows = new Map<string, Map<string, Row>>();

  constructor({ definition }: Pipeline) {
    this.layouts = tableLayouts(definition);
    for (const { name } of this.layouts) this.rows.set(name, new Map());
  }

  add(table: string, batch: Awaited<ReturnType<Publisher["batchOf"]>>): void {
    const layout = this.layouts.find(({ name }) => name === table)!;
    const rows = this.rows.get(table)!;
    for (let i = 0; i < batch.rowCount; i++) {
      const row = Object.fromEntries(batch.columns.map((c) => [c.name, valueAt(c, i)]));
      const key = isRevised(layout)
        ? layout.key.map((name) => `${typeof row[name]} ${String(row[name])}`).join("\u0000")
        : String(rows.size);
      const before = rows.get(key);
      if (before === undefined || Number(before.revision) < Number(row.revision))
        rows.set(key, row);
    }
  }

  of(table: string): Row[] {
    return [...this.rows.get(table)!.values()].filter(({ retracted }) => retracted !== true);
  }
}

async function checkOne(connection: DuckDBConnection, seed: number): Promise<number> {
  const random = new Random(seed);
  const scenario = randomCase(random);
  const { pipeline, logs } = scenario;
  const { definition } = pipeline;
  const [{ name: topic }] = definition.streams;
  const { sink } = await streamed(random, scenario);
  await connection.run("BEGIN; DROP TABLE IF EXISTS bronze");
  await connection.run(`CREATE TABLE bronze (topic VARCHAR, "partition" INTEGER,
    "offset" BIGINT, ms BIGINT, "value" BLOB, "timestamp" TIMESTAMPTZ)`);
  const appender = await connection.createAppender("bronze");
  for (const [partition, records] of logs.entries()) {
    for (const [offset, { value, timestampMs }] of records.entries()) {
      appender.appendVarchar(topic);
      appender.appendInteger(partition);
      appender.appendBigInt(BigInt(offset));
      appender.appendBigInt(BigInt(timestampMs));
      appender.appendBlob(Buffer.from(value));
      appender.appendNull();
      appender.endRow();
    }
  }
  appender.closeSync();
  await connection.run(`UPDATE bronze SET "timestamp" = make_timestamptz(ms * 1000)`);
  try {
    const steps = batchSteps(definition, { bronze: "bronze", references: new Map() });
    await runBatch(connection, steps, pipeline.functions);
    for (const layout of sink.layouts) {
      if (layout.kind === "bronze") continue;
      const table = definition.tables.find(({ name }) => name === layout.name);
      const columns = "COLUMNS(c -> c NOT IN ('__settled', '__event_time'))";
      const expected = await readRows(
        connection,
        `SELECT ${columns} FROM main.${quoteName(layout.name)}`,
      );
      const tolerances = table === undefined ? {} : tolerancesOf(table);
      const found = compareTables(sink.of(layout.name), expected, keyOf(layout), { tolerances });
      expect(found, `SEED=${seed} ROUNDS=1, ${layout.name} of ${describe(scenario)}`).toBe("");
    }
  } finally {
    await connection.run("ROLLBACK");
  }
  return definition.tables.length;
}

const describe = ({ pipeline: { definition } }: RandomCase): string =>
  JSON.stringify({ streams: definition.streams, tables: definition.tables });

test("streaming gives what batch SQL gives, for thousands of random pipelines", async () => {
  const seed = testSeed();
  const rounds = testRounds(2000);
  const instance = await DuckDBInstance.create(":memory:", { threads: "1" });
  try {
    const connection = await instance.connect();
    await connection.run("SET TimeZone = 'UTC'");
    let tables = 0;
    for (let round = 0; round < rounds; round++) tables += await checkOne(connection, seed + round);
    console.log(`${rounds} pipelines with ${tables} tables`);
  } finally {
    instance.closeSync();
  }
}, 3_600_000);
