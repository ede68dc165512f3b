/**
 * Runs a pipeline and holds every table it wrote against the reference, or against another run's.
 */
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DuckDBConnection, DuckDBInstance } from "@duckdb/node-api";
import type { Pipeline, PipelineDefinition, TableNode } from "../../../lib/define/definition.js";
import { referenceFiles } from "../../../lib/runtime/references.js";
import { runPipeline } from "../../../lib/runtime/run-pipeline.js";
import { quoteName, quoteText } from "../../../lib/sinks/duckdb-types.js";
import { tableLayouts } from "../../../lib/sinks/layouts.js";
import { readDatabase, readLake } from "../../contract/sinks-readers.js";
import { compareRows } from "../../contract/sinks-script.js";
import { compareTables, tolerancesOf } from "../../reference/compare.js";
import { referenceTables } from "../../reference/reference.js";
import { type Row, readRows } from "../../reference/rows.js";

/** A directory with each topic's partitions as files, and one output directory a run. */
export class Workspace {
  readonly dir: string;
  /** Of every input file, whenever written: it is the records' timestamp, so it decides. */
  private readonly modified = new Date();
  private outputs = 0;

  private constructor(dir: string) {
    this.dir = dir;
  }

  static async create(): Promise<Workspace> {
    return new Workspace(await mkdtemp(join(tmpdir(), "millpond-equality-")));
  }

  input(topic: string): string {
    return join(this.dir, "input", topic);
  }

  get csv(): string {
    return join(this.dir, "levels.csv");
  }

  newOutput(): string {
    return join(this.dir, `out-${this.outputs++}`);
  }

  /** Writes the partitions' files whole; the last line may go without its line end. */
  async write(topic: string, partitions: Logs, lastLineEnd = "\n"): Promise<void> {
    await mkdir(this.input(topic), { recursive: true });
    for (const [partition, lines] of partitions.entries()) {
      const file = this.file(topic, partition);
      await writeFile(file, lines.length === 0 ? "" : lines.join("\n") + lastLineEnd);
      await utimes(file, this.modified, this.modified);
    }
  }

  /** One partition a file, numbered in name order. */
  private file(topic: string, partition: number): string {
    return join(this.input(topic), `part-${String(partition).padStart(2, "0")}.ndjson`);
  }

  /** The input as the reference wants it. */
  async files(pipeline: Pipeline): Promise<LogFile[]> {
    const files: LogFile[] = [];
    for (const { name: topic } of pipeline.definition.streams) {
      const names = (await readdir(this.input(topic))).sort();
      const paths = names.map((name) => join(this.input(topic), name));
      files.push(...paths.map((path, partition) => ({ path, topic, partition })));
    }
    return files;
  }

  async run({ pipeline, out, batchSize, flush = true }: Job): Promise<void> {
    const topics = pipeline.definition.streams.map(({ name }) => name);
    const inputs = new Map(topics.map((topic) => [topic, this.input(topic)]));
    await runPipeline({ pipeline, inputs, out, flush, batchSize, workers: 1 });
  }

  remove(): Promise<void> {
    return rm(this.dir, { recursive: true, force: true });
  }
}

/** Lines by partition. */
export type Logs = readonly (readonly string[])[];

export interface LogFile {
  readonly path: string;
  readonly topic: string;
  readonly partition: number;
}

export interface Job {
  readonly pipeline: Pipeline;
  readonly out: string;
  readonly batchSize: number;
  readonly flush?: boolean;
}

export async function withResults<T>(
  outs: readonly string[],
  use: (connection: DuckDBConnection) => Promise<T>,
): Promise<T> {
  const instance = await DuckDBInstance.create(":memory:", { threads: "1" });
  try {
    const connection = await instance.connect();
    await connection.run("SET TimeZone = 'UTC'");
    for (const [i, out] of outs.entries()) {
      const file = quoteText(join(out, "results.duckdb"));
      await connection.run(`ATTACH ${file} AS run${i} (READ_ONLY)`);
    }
    return await use(connection);
  } finally {
    instance.closeSync();
  }
}

function keyOf({ shape }: TableNode): readonly string[] {
  if (shape.kind === "rows") return ["partition", "offset"];
  const start = shape.window.kind === "session" ? "session_start" : "window_start";
  return [start, ...shape.groupBy];
}

/**
 * Differences of an output from the reference over the same files, "" if there are none.
 * `closedOnly`: the run was not flushed, so that only what has closed is there.
 */
export async function differencesFromReference(
  pipeline: Pipeline,
  out: string,
  workspace: Workspace,
  { closedOnly = false } = {},
): Promise<string> {
  const { definition } = pipeline;
  const references = referenceFiles(pipeline);
  const files = await workspace.files(pipeline);
  const expected = await referenceTables(definition, { files, references });
  try {
    const found: string[] = [];
    const compare = async (
      name: string,
      actual: readonly Row[],
      key: readonly string[],
      table?: TableNode,
    ) => {
      const tolerances = table === undefined ? {} : tolerancesOf(table);
      let rows: readonly Row[] = await expected.table(name);
      if (closedOnly && table !== undefined) {
        const partitions = files.filter(({ topic }) => topic === table.stream).length;
        rows = await closedRows(expected.connection, definition, table, rows, partitions);
      }
      const text = compareTables(actual, rows, key, { tolerances });
      if (text !== "") found.push(`${name}: ${text}`);
    };
    await withResults([out], async (connection) => {
      const rowsOf = (name: string) =>
        readRows(connection, `SELECT * FROM run0.main.${quoteName(name)}`);
      for (const table of definition.tables) {
        await compare(table.name, await rowsOf(table.name), keyOf(table), table);
      }
      await compare("late", await rowsOf("late"), ["table", "topic", "partition", "offset"]);
      const letters = await rowsOf("dead_letters");
      await compare("dead_letters", letters, ["topic", "partition", "offset"]);
      found.push(...accountingDifferences(await rowsOf("accounting"), await expected.accounting()));
    });
    return found.join("\n");
  } finally {
    expected.close();
  }
}

/** Windows that every partition has passed, and sessions that their own partition has. */
async function closedRows(
  connection: DuckDBConnection,
  { streams }: PipelineDefinition,
  { shape, stream: topic }: TableNode,
  rows: readonly Row[],
  partitions: number,
): Promise<readonly Row[]> {
  if (shape.kind === "rows") return rows;
  const { key, latenessMs } = streams.find(({ name }) => name === topic)!;
  const events = `work.${quoteName(`events_${topic}`)}`;
  const passed = await readRows(
    connection,
    `SELECT __p, max(__t) - ${latenessMs} AS watermark FROM ${events} GROUP BY __p`,
  );
  const watermarks = new Map(passed.map((row) => [Number(row.__p), Number(row.watermark)]));
  if (shape.window.kind !== "session") {
    if (watermarks.size < partitions) return [];
    const lowest = Math.min(...watermarks.values());
    return rows.filter((row) => Number(row.window_end) <= lowest);
  }
  const { gapMs } = shape.window;
  const owners = await readRows(
    connection,
    `SELECT DISTINCT ${quoteName(key!)} AS key, __p FROM ${events}`,
  );
  const partitionOf = new Map(owners.map((row) => [row.key, Number(row.__p)]));
  return rows.filter((row) => {
    const watermark = watermarks.get(partitionOf.get(row[key!])!)!;
    return watermark > Number(row.session_end) + gapMs;
  });
}

type ExpectedAccounting = Awaited<
  ReturnType<Awaited<ReturnType<typeof referenceTables>>["accounting"]>
>;

function accountingDifferences(rows: readonly Row[], expected: ExpectedAccounting): string[] {
  const rowOf = (kind: string, name: string): Row =>
    rows.find((row) => row.kind === kind && row.name === name) ?? {};
  const found: string[] = [];
  const same = (what: string, actual: unknown, wanted: number) => {
    if (actual === null || Number(actual) !== wanted) {
      found.push(`accounting: ${what} is ${String(actual)}, expected ${wanted}`);
    }
  };
  for (const { stream, records, events, deadLetters } of expected.streams) {
    const row = rowOf("stream", stream);
    same(`records of ${stream}`, row.records, records);
    same(`events of ${stream}`, row.events, events);
    same(`dead letters of ${stream}`, row.dead_letters, deadLetters);
  }
  for (const { table, counted, late, duplicates } of expected.tables) {
    const row = rowOf("table", table);
    if (row.rows !== null) {
      same(`rows of ${table}`, row.rows, counted + late);
      continue;
    }
    same(`counted of ${table}`, row.counted, counted);
    same(`late of ${table}`, row.late, late);
    same(`duplicates of ${table}`, row.duplicates, duplicates);
    same(`events of ${table}`, row.events, counted + late + duplicates);
  }
  return found;
}

/** Rows that only one of two outputs holds, doubles compared bit by bit; "" if there are none. */
export async function differencesBetween(
  pipeline: Pipeline,
  outs: readonly [string, string],
  options: { readonly revisions: boolean },
): Promise<string> {
  const revised = pipeline.definition.tables.filter((table) => table.shape.kind === "windowed");
  const withRevision = new Set(revised.map((table) => table.name));
  const names = [...pipeline.definition.tables.map((table) => table.name), "late", "dead_letters"];
  return withResults(outs, async (connection) => {
    const found: string[] = [];
    for (const name of [...names, "accounting"]) {
      const ignored = withRevision.has(name) && !options.revisions;
      const exclude = ignored ? " EXCLUDE (revision)" : "";
      const rows = (i: number) => `SELECT *${exclude} FROM run${i}.main.${quoteName(name)}`;
      for (const [a, b] of [
        [0, 1],
        [1, 0],
      ]) {
        const only = await readRows(connection, `${rows(a)} EXCEPT ALL ${rows(b)} LIMIT 3`);
        for (const row of only) found.push(`${name}: only in ${outs[a]}: ${shown(row)}`);
      }
    }
    return found.join("\n");
  });
}

/** Rows of the lake's latest revisions that the database lacks, or the other way round. */
export async function lakeDifferences(pipeline: Pipeline, out: string): Promise<string> {
  const found: string[] = [];
  for (const layout of tableLayouts(pipeline.definition)) {
    if (layout.kind === "bronze") continue;
    const lake = await readLake(join(out, "lake"), layout);
    const database = await readDatabase(join(out, "results.duckdb"), layout);
    const [one, other] = [lake, database].map((rows) => JSON.stringify(rows.sort(compareRows)));
    if (one !== other) {
      found.push(`${layout.name}: ${lake.length} rows in the lake, ${database.length} in DuckDB`);
    }
  }
  return found.join("\n");
}

const shown = (row: Row): string =>
  JSON.stringify(row, (_, value) => (typeof value === "bigint" ? `${value}n` : value));
