/**
 * The reference: a pipeline's tables computed by the audit's batch SQL from raw NDJSON files, so
 * that tests can hold the engine's results against it.
 */
import { type DuckDBConnection, DuckDBInstance } from "@duckdb/node-api";
import { runBatch } from "../../lib/audit/batch.js";
import { accountingSql, batchSteps } from "../../lib/audit/batch-sql.js";
import type { MapFunction, PipelineDefinition } from "../../lib/define/definition.js";
import { MillpondError } from "../../lib/errors.js";
import { quoteName } from "../../lib/sinks/duckdb-types.js";
import { type LogFile, loadBronze } from "./load-lines.js";
import { type Row, readRows } from "./rows.js";

export interface ReferenceInput {
  readonly files: readonly LogFile[];
  /** Files of the pipeline's reference tables, by the table's name. */
  readonly references?: ReadonlyMap<string, string>;
  readonly functions?: ReadonlyMap<string, MapFunction>;
}

export interface StreamAccounting {
  readonly stream: string;
  readonly records: number;
  readonly events: number;
  readonly deadLetters: number;
}

/** `counted` of a row table are its rows that are not late; its late ones are rows too. */
export interface TableAccounting {
  readonly table: string;
  readonly filtered: number;
  readonly counted: number;
  readonly late: number;
  readonly duplicates: number;
}

export interface ReferenceTables {
  /**
   * Rows of a table of the pipeline, of `late` or of `dead_letters`, without `revision`, payloads
   * and raw bytes.
   */
  table(name: string): Promise<Row[]>;
  accounting(): Promise<{ streams: StreamAccounting[]; tables: TableAccounting[] }>;
  /** Holds each table under its name in schema `main`, for checks too large for rows. */
  readonly connection: DuckDBConnection;
  close(): void;
}

export async function referenceTables(
  definition: PipelineDefinition,
  input: ReferenceInput,
): Promise<ReferenceTables> {
  for (const { name } of definition.streams) {
    if (input.files.some(({ topic }) => topic === name)) continue;
    throw new MillpondError("USAGE", `No input file has topic "${name}"; name at least one.`);
  }
  const instance = await DuckDBInstance.create(":memory:", { threads: "2" });
  const connection = await instance.connect();
  await connection.run("SET TimeZone = 'UTC'; SET preserve_insertion_order = false");
  await loadBronze(connection, "bronze", input.files);
  const references = input.references ?? new Map();
  const steps = batchSteps(definition, { bronze: "bronze", references });
  await runBatch(connection, steps, input.functions ?? new Map());
  // A file's timestamp is not that of the records of a topic, which a file may stand for.
  const columnsOf = (name: string) =>
    `COLUMNS(c -> NOT starts_with(c, '__')
      AND NOT (${name === "dead_letters"} AND c IN ('timestamp', 'raw')))`;
  return {
    connection,
    table: (name) => readRows(connection, `SELECT ${columnsOf(name)} FROM main.${quoteName(name)}`),
    accounting: async () =>
      accounting(await readRows(connection, accountingSql(definition)), definition),
    close: () => {
      connection.closeSync();
      instance.closeSync();
    },
  };
}

function accounting(
  rows: readonly Row[],
  definition: PipelineDefinition,
): { streams: StreamAccounting[]; tables: TableAccounting[] } {
  const streams = rows
    .filter(({ kind }) => kind === "stream")
    .map((row) => ({
      stream: String(row.name),
      records: Number(row.records),
      events: Number(row.events),
      deadLetters: Number(row.dead_letters),
    }));
  const eventsOf = new Map(streams.map(({ stream, events }) => [stream, events]));
  const tables = rows
    .filter(({ kind }) => kind === "table")
    .map((row) => {
      const { stream } = definition.tables.find(({ name }) => name === row.name)!;
      return {
        table: String(row.name),
        filtered: eventsOf.get(stream)! - Number(row.events),
        counted: Number(row.counted),
        late: Number(row.late),
        duplicates: Number(row.duplicates),
      };
    });
  return { streams, tables };
}
