/**
 * The sinks of a pipeline where its results are kept: which its definition asks for, how they take
 * publications, and what is made once they have.
 */
import * as path from "node:path";
import type { Publisher } from "../commit/publisher.js";
import type { Standing } from "../commit/publisher-state.js";
import { type PipelineDefinition, type SinkNode, takesBronze } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { DatabaseSnapshot, type DatabaseStorage } from "../sinks/database-snapshot.js";
import { duckdbSink } from "../sinks/duckdb.js";
import { type LakeSink, lakeSink } from "../sinks/lake.js";
import { type LakeStorage, LocalLakeStorage } from "../sinks/lake-storage.js";
import { tableLayouts } from "../sinks/layouts.js";
import type { Publication, Sink, TableLayout } from "../sinks/sink.js";
import { bucketDatabase } from "../stores/bucket-database.js";
import { HELD_MS_MAX } from "../stores/once-free.js";
import type { Stores } from "../stores/open-stores.js";
import type { AccountingRow } from "./accounting.js";
import type { OutputPaths } from "./output.js";
import { remoteSink } from "./remote-sinks.js";

/** Where the results of a pipeline are kept. */
export interface SinkPlaces {
  readonly lake: LakeStorage;
  /** What the lake is called in messages: a directory or an address. */
  readonly lakeName: string;
  readonly database:
    | { readonly kind: "file"; readonly file: string; readonly readersMs?: number }
    /** One file in a bucket, made from the lake. */
    | { readonly kind: "snapshot"; readonly storage: DatabaseStorage };
}

/** How far the results are, for whoever reads them. */
export interface ResultsState {
  /** The output's own sinks have taken the publications up to this one. */
  readonly sequence: number;
  /** Null while a backlog is taken: the numbers add up again at its end. */
  readonly accounting: readonly AccountingRow[] | null;
  readonly standing: Standing;
}

export interface RunSinks {
  /** Where the output is. If one fails, nothing goes on. */
  readonly own: readonly Sink[];
  /** Whether `own` may stay open between rounds: nobody else wants to open what they hold. */
  readonly stayOpen: boolean;
  /** Servers elsewhere, with connections that stay. One that is down keeps no other waiting. */
  readonly remote: readonly Sink[];
  /**
   * Show the accounting, and the database where it is made from the lake. Returns how many rows the
   * tables that only grow hold, of those that the output's database file has.
   */
  complete(state: ResultsState): Promise<ReadonlyMap<string, number>>;
  /** Delete files that nothing needs; once a day is enough. */
  sweep(): Promise<void>;
  /** Give back memory and temporary files; the next use opens them again. */
  close(): Promise<void>;
}

/** Results in the output directory of a run. */
export function localPlaces({ lake, database }: OutputPaths): SinkPlaces {
  return {
    lake: new LocalLakeStorage(lake, path.join(lake, "_millpond", "tmp")),
    lakeName: lake,
    database: { kind: "file", file: database, readersMs: HELD_MS_MAX },
  };
}

/** Results in the stores that the environment named. */
export function storePlaces(
  stores: Pick<Stores, "lake" | "database">,
  pipeline: string,
  env: NodeJS.ProcessEnv,
): SinkPlaces {
  const lake = stores.lake(pipeline);
  const place = stores.database(pipeline);
  const lakeName = lake.uri("");
  if (place.kind === "file") return { lake, lakeName, database: place };
  const storage = bucketDatabase(place, lakeName, env);
  return { lake, lakeName, database: { kind: "snapshot", storage } };
}

/**
 * @example
 * const sinks = makeSinks(definition, places, definitionHash, process.env);
 * const sequence = await applySinks(sinks, publisher);
 * await sinks.complete({ sequence, accounting, standing });
 */
export function makeSinks(
  definition: PipelineDefinition,
  places: SinkPlaces,
  definitionHash: string,
  env: NodeJS.ProcessEnv,
): RunSinks {
  const { database } = places;
  const own =
    database.kind === "file"
      ? fileSinks(definition, places, database, definitionHash)
      : bucketSinks(definition, places, database.storage, definitionHash);
  const layouts = tableLayouts(definition);
  const remote = definition.sinks.flatMap((node) => {
    return remoteSink(definition, node, chosen(layouts, node), env) ?? [];
  });
  return {
    ...own,
    remote,
    async close() {
      await own.close();
      await closeAll(remote);
    },
  };
}

function fileSinks(
  definition: PipelineDefinition,
  places: SinkPlaces,
  { file, readersMs }: Extract<SinkPlaces["database"], { readonly kind: "file" }>,
  definitionHash: string,
): RunSinks {
  const layouts = tableLayouts(definition);
  const lakes = definition.sinks
    .filter(({ kind }) => kind === "lake")
    .map((node) => openLake(definition, places, chosen(layouts, node), definitionHash));
  const databases = definition.sinks
    .filter(({ kind }) => kind === "duckdb")
    .map((node) => {
      const kept = chosen(layouts, node);
      return duckdbSink({ file, readersMs, pipeline: definition.name, layouts: kept });
    });
  const own = [...lakes, ...databases];
  return {
    own,
    stayOpen: false,
    remote: [],
    async complete({ accounting }) {
      const counts = new Map<string, number>();
      if (accounting === null) return counts;
      for (const database of databases) {
        await withSink(database, async () => {
          await database.setAccounting({ rows: accounting });
          for (const [table, rows] of await database.rowCounts()) counts.set(table, rows);
        });
      }
      return counts;
    },
    async sweep() {
      for (const lake of lakes) await withSink(lake, () => lake.vacuum());
    },
    close: () => closeAll(own),
  };
}

/**
 * The database is views over the lake's files, so the lake holds what any sink asks for; and it is
 * there also without `duckdb()`, for whoever queries the lake.
 */
function bucketSinks(
  definition: PipelineDefinition,
  places: SinkPlaces,
  storage: DatabaseStorage,
  definitionHash: string,
): RunSinks {
  const layouts = tableLayouts(definition);
  const wanted = new Set(definition.sinks.flatMap((node) => chosen(layouts, node)));
  const kept = layouts.filter((layout) => wanted.has(layout));
  const lake = openLake(definition, places, kept, definitionHash);
  const databases = definition.sinks.filter(({ kind }) => kind === "duckdb");
  const held = new Set(databases.flatMap((node) => chosen(layouts, node)));
  const snapshot = new DatabaseSnapshot({
    storage,
    pipeline: definition.name,
    held: new Set([...held].map(({ name }) => name)),
    tempDir: places.lake.tempDir,
  });
  return {
    own: [lake],
    stayOpen: true,
    remote: [],
    async complete(state) {
      await snapshot.publish({ ...state, tables: lake.tables() });
      return new Map();
    },
    sweep: () => lake.vacuum(),
    close: () => closeAll([lake]),
  };
}

function openLake(
  { name: pipeline }: PipelineDefinition,
  { lake: storage, lakeName: dir }: SinkPlaces,
  layouts: readonly TableLayout[],
  definitionHash: string,
): LakeSink {
  return lakeSink({ dir, storage, pipeline, layouts, definitionHash });
}

async function withSink(sink: Sink, work: () => Promise<void>): Promise<void> {
  await sink.open();
  try {
    await work();
  } finally {
    await sink.close();
  }
}

async function closeAll(sinks: readonly Sink[]): Promise<void> {
  for (const sink of sinks) await sink.close();
}

/** A sink with a table list still takes the tables that the product adds. */
export function chosen(layouts: readonly TableLayout[], node: SinkNode): TableLayout[] {
  const own = new Set(["windowed", "session", "rows"]);
  return layouts.filter(({ name, kind }) => {
    if (kind === "bronze") return takesBronze(node);
    return !own.has(kind) || node.tables === undefined || node.tables.includes(name);
  });
}

/** What came of sinks that are down, by sink; the others go on without them. */
export type DownSinks = Map<Sink, unknown>;

/**
 * Brings every sink up to the publisher that is not down; a remote one that fails is, from then on.
 * Throws when another one fails, or a remote one is of another output.
 */
export async function applySinks(
  sinks: RunSinks,
  publisher: Publisher,
  down: DownSinks,
  onTook?: (sink: Sink, sequence: number) => void,
): Promise<void> {
  const { sequence, publications } = publisher.state;
  const bringUp = async (sink: Sink) => {
    const taken = await openSink(sink, publisher);
    if (taken < sequence) await sink.apply(batches(taken), sequence);
    onTook?.(sink, sequence);
  };
  for (const sink of sinks.own) {
    try {
      await bringUp(sink);
    } finally {
      if (!sinks.stayOpen) await sink.close();
    }
  }
  for (const sink of sinks.remote) {
    if (down.has(sink)) continue;
    await bringUp(sink).catch((error) => {
      if (isLost(error)) throw error;
      down.set(sink, error);
    });
  }

  async function* batches(after: number): AsyncGenerator<Publication> {
    for (const entry of publications) {
      if (entry.sequence <= after) continue;
      const batch = await publisher.batchOf(entry);
      const { sequence, table, committedAtMs } = entry;
      yield { sequence, table, batch, committedAtMs };
    }
  }
}

/** What the sink has taken, which is of this output. */
export async function openSink(sink: Sink, { state }: Publisher): Promise<number> {
  const taken = await sink.open(state.output);
  if (taken < state.trimmedThrough) throw lostProgress(sink.name, taken, state.trimmedThrough);
  if (taken > state.sequence) throw lostState(sink.name, taken, state.sequence);
  return taken;
}

/** A sink and the output's state are not of one time: nobody may go on. */
class LostError extends MillpondError {}

export const isLost = (error: unknown): boolean => error instanceof LostError;

function lostProgress(sink: string, taken: number, trimmedThrough: number): MillpondError {
  return new LostError(
    "OUTPUT",
    `the ${sink} sink stands at publication ${taken}, but had taken ${trimmedThrough}: its files ` +
      "or tables were removed or replaced, and what it had is not kept elsewhere. Restore them, " +
      "or process the input again into a new output",
  );
}

/** Also what one who is overtaken meets, which then reads the newer state and goes on. */
function lostState(sink: string, taken: number, sequence: number): MillpondError {
  return new LostError(
    "INVARIANT",
    `the ${sink} sink has taken publication ${taken}, but the state knows of ${sequence} only: ` +
      "the state was restored to an earlier time, or removed, and the results were not; or the " +
      "sink has the results of another output. Restore both to one time, and Kafka's consumer " +
      "group too, or process the input again into a new output, with a schema or topic of its own",
  );
}
