/** The sinks of a local run: which a definition asks for, and how they take publications. */
import type { Publisher } from "../commit/publisher.js";
import type { PipelineDefinition, SinkNode } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { type DuckdbSink, duckdbSink } from "../sinks/duckdb.js";
import { Database } from "../sinks/duckdb-database.js";
import { quoteName } from "../sinks/duckdb-types.js";
import { lakeSink } from "../sinks/lake.js";
import { tableLayouts } from "../sinks/layouts.js";
import type { Publication, Sink, TableLayout } from "../sinks/sink.js";
import type { AccountingRow } from "./accounting.js";
import type { OutputPaths } from "./output.js";

export interface RunSinks {
  readonly all: readonly Sink[];
  readonly databaseFile: string | null;
  setAccounting(rows: readonly AccountingRow[]): Promise<void>;
}

export function makeSinks(
  definition: PipelineDefinition,
  paths: OutputPaths,
  definitionHash: string,
): RunSinks {
  const layouts = tableLayouts(definition);
  const pipeline = definition.name;
  const all: Sink[] = [];
  const databases: DuckdbSink[] = [];
  for (const node of definition.sinks) {
    const wanted = chosen(layouts, node);
    if (node.kind === "lake") {
      all.push(lakeSink({ dir: paths.lake, pipeline, layouts: wanted, definitionHash }));
    } else {
      const kept = wanted.filter(({ kind }) => kind !== "bronze");
      const database = duckdbSink({ file: paths.database, pipeline, layouts: kept });
      databases.push(database);
      all.push(database);
    }
  }
  return {
    all,
    databaseFile: databases.length === 0 ? null : paths.database,
    async setAccounting(rows) {
      for (const database of databases) {
        await database.open();
        try {
          await database.setAccounting({ rows });
        } finally {
          await database.close();
        }
      }
    },
  };
}

/** A sink with a table list still takes the tables that the product adds. */
function chosen(layouts: readonly TableLayout[], node: SinkNode): TableLayout[] {
  const own = new Set(["windowed", "session", "rows"]);
  return layouts.filter(
    ({ name, kind }) => !own.has(kind) || node.tables === undefined || node.tables.includes(name),
  );
}

/** Brings every sink up to the publisher; returns the sequence that all of them have. */
export async function applySinks(sinks: RunSinks, publisher: Publisher): Promise<number> {
  const { sequence, publications, trimmedThrough } = publisher.state;
  for (const sink of sinks.all) {
    const taken = await sink.open();
    try {
      if (taken < trimmedThrough) throw lostProgress(sink.name, taken, trimmedThrough);
      if (taken < sequence) await sink.apply(batches(taken), sequence);
    } finally {
      await sink.close();
    }
  }
  return sequence;

  async function* batches(after: number): AsyncGenerator<Publication> {
    for (const entry of publications) {
      if (entry.sequence <= after) continue;
      const batch = await publisher.batchOf(entry);
      yield { sequence: entry.sequence, table: entry.table, batch };
    }
  }
}

function lostProgress(sink: string, taken: number, trimmedThrough: number): MillpondError {
  return new MillpondError(
    "OUTPUT",
    `the ${sink} sink stands at publication ${taken}, but had taken ${trimmedThrough}: its files ` +
      "were removed or replaced, and what it had is not kept elsewhere. Restore them, or process " +
      "the input again into a new --out",
  );
}

/** Rows of the append-only tables as the database really holds them. */
export async function storedRowCounts(
  sinks: RunSinks,
  definition: PipelineDefinition,
): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  if (sinks.databaseFile === null) return counts;
  const database = await Database.open({
    path: sinks.databaseFile,
    tempDir: `${sinks.databaseFile}.tmp`,
  });
  try {
    const node = definition.sinks.find(({ kind }) => kind === "duckdb")!;
    for (const { name, kind } of chosen(tableLayouts(definition), node)) {
      if (kind !== "rows" && kind !== "late" && kind !== "dead_letters") continue;
      const [row] = await database.rows(`SELECT count(*) AS n FROM ${quoteName(name)}`);
      counts.set(name, Number(row?.n ?? 0));
    }
  } finally {
    database.close();
  }
  return counts;
}
