/**
 * The Snowflake sink: rows go into files, files through a stage into staging tables by COPY INTO,
 * and from there into the result tables, in one transaction with the sink's progress. Names of
 * files follow from what they hold, so that what was loaded before a crash is not loaded again.
 * Statements are `snowflake-sql.ts`'s, the session `snowflake-client.ts`'s.
 */
import { randomUUID } from "node:crypto";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { MillpondError } from "../errors.js";
import { beyondLast, type Publication, type Sink, type TableLayout } from "./sink.js";
import { checkOutput } from "./sink-output.js";
import { SnowflakeSession, snowflakeSettings } from "./snowflake-client.js";
import { SnowflakeFiles, type StagedFiles } from "./snowflake-files.js";
import { type FoundTables, planTables } from "./snowflake-schema.js";
import * as sql from "./snowflake-sql.js";

export interface SnowflakeSinkOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly pipeline: string;
  /** The tables that the schema holds; publications for others are passed over. */
  readonly layouts: readonly TableLayout[];
  /** How long to wait for an answer. */
  readonly limits?: { readonly loginMsMax?: number; readonly statementMsMax?: number };
}

/** Changes with how files are cut and written: what a file of another way holds is not the same. */
const FILES_VERSION = 1;
/** What Snowflake takes in one COPY INTO. */
const COPY_FILES_MAX = 1000;

/**
 * Result tables in a schema of the pipeline's own, latest revisions only.
 *
 * @throws MillpondError (from its methods) USAGE when a setting is missing, OUTPUT when the schema
 *   is another pipeline's or a table has other columns, CONFLICT when another sink was faster,
 *   STORAGE when Snowflake is not reached or refuses
 * @example
 * const sink = snowflakeSink({ env: process.env, pipeline: "clickstream", layouts });
 * const taken = await sink.open();
 */
export function snowflakeSink(options: SnowflakeSinkOptions): Sink {
  return new SnowflakeSchema(options);
}

/** The one row of MILLPOND_PROGRESS. */
interface Progress {
  /** Of this life of the schema: a file of an earlier one never has this one's name. */
  readonly id: string;
  readonly sequence: number;
}

class SnowflakeSchema implements Sink {
  readonly name = "snowflake";
  readonly #options: SnowflakeSinkOptions;
  readonly #layouts: ReadonlyMap<string, TableLayout>;
  #session: SnowflakeSession | null = null;
  #progress: Progress | null = null;
  #output: string | null = null;

  constructor(options: SnowflakeSinkOptions) {
    this.#options = options;
    this.#layouts = new Map(options.layouts.map((layout) => [layout.name, layout]));
  }

  async open(output?: string): Promise<number> {
    this.#output = output ?? this.#output;
    if (this.#session !== null) {
      try {
        this.#progress = await this.#readProgress(this.#session);
        return this.#progress.sequence;
      } catch {
        // Sessions end: one is idle for hours between results.
        await this.close();
      }
    }
    const { env, pipeline, limits } = this.#options;
    const session = await SnowflakeSession.open(await snowflakeSettings(env), pipeline, limits);
    try {
      await this.#claim(session);
      this.#progress = await this.#readProgress(session);
    } catch (error) {
      await session.close();
      throw error;
    }
    this.#session = session;
    return this.#progress.sequence;
  }

  async apply(publications: AsyncIterable<Publication>, lastSequence: number): Promise<void> {
    const { session, progress } = this.#opened();
    if (lastSequence <= progress.sequence) return;
    const dir = await fs.mkdtemp(path.join(tmpdir(), "millpond-snowflake-"));
    // Another output that begins at the same time has files with the same sequences.
    const owner = this.#output === null ? progress.id : `${progress.id}-${this.#output}`;
    const run = `${owner}-${FILES_VERSION}-${progress.sequence}-${lastSequence}`;
    const files = new SnowflakeFiles(dir, run, (file, folder) =>
      session.run(sql.putFile(file, this.#folder(folder))),
    );
    try {
      const known = this.#known(publications, progress.sequence, lastSequence);
      const staged = await files.write(known);
      await this.#take(session, progress, lastSequence, staged);
      if (staged.length > 0) await session.run(sql.removeFiles(this.#folder("")));
    } catch (error) {
      // Another sink that was faster removes the files, or moves the progress, under this one.
      const now = await this.#readProgress(session).catch(() => progress);
      if (now.sequence < lastSequence) throw error;
      this.#progress = now;
    } finally {
      await files.close();
      await fs.rm(dir, { recursive: true, force: true });
    }
  }

  async close(): Promise<void> {
    const session = this.#session;
    this.#session = null;
    this.#progress = null;
    await session?.close();
  }

  #opened(): { session: SnowflakeSession; progress: Progress } {
    const [session, progress] = [this.#session, this.#progress];
    if (session !== null && progress !== null) return { session, progress };
    throw new MillpondError("USAGE", "The Snowflake sink is not open: call open() first.");
  }

  /** Of a table, or of all of the pipeline's. */
  #folder(table: string): string {
    return `${this.#options.pipeline}/${table === "" ? "" : `${table}/`}`;
  }

  async *#known(publications: AsyncIterable<Publication>, from: number, last: number) {
    for await (const { sequence, table, batch } of publications) {
      if (sequence > last) throw beyondLast(sequence, last);
      const layout = this.#layouts.get(table);
      if (layout === undefined || sequence <= from || batch.rowCount === 0) continue;
      yield { sequence, layout, batch };
    }
  }

  async #take(
    session: SnowflakeSession,
    progress: Progress,
    lastSequence: number,
    staged: readonly StagedFiles[],
  ): Promise<void> {
    // The history of loads spares a second one; where rows are gone all the same, it is passed by.
    for (const force of [false, true]) {
      for (const table of staged) await this.#load(session, table, force);
      if (await this.#commit(session, progress, lastSequence, staged)) return;
    }
    throw conflict(progress.sequence);
  }

  async #load(session: SnowflakeSession, { layout, folder, files }: StagedFiles, force: boolean) {
    for (let at = 0; at < files.length; at += COPY_FILES_MAX) {
      const some = files.slice(at, at + COPY_FILES_MAX);
      await session.run(sql.copyFiles(layout, this.#folder(folder), some, force));
    }
  }

  /**
   * Rows and progress, or false if a staging table lacks rows. Whoever deletes staged rows moves
   * the progress in the same transaction, so that they stay while this one holds its lock; rows
   * that are there twice are taken once.
   */
  async #commit(
    session: SnowflakeSession,
    { id, sequence }: Progress,
    lastSequence: number,
    staged: readonly StagedFiles[],
  ): Promise<boolean> {
    const isDone = await session.transaction(async () => {
      const moved = await session.run(
        sql.moveProgress({ id, from: sequence, to: lastSequence, output: this.#output }),
      );
      if (moved !== 1) throw conflict(sequence);
      for (const { layout, files, rowCount, replaces } of staged) {
        const [row] = await session.rows(sql.countStaged(layout, files));
        if (Number(row?.N) !== rowCount) return false;
        for (const statement of sql.applyStaged(layout, files, replaces)) {
          await session.run(statement);
        }
        await session.run(sql.emptyStage(layout));
      }
      return true;
    });
    if (isDone) this.#progress = { id, sequence: lastSequence };
    return isDone;
  }

  /** Make what is missing in an empty or an own schema; refuse any other. */
  async #claim(session: SnowflakeSession): Promise<void> {
    const { pipeline } = this.#options;
    const found = await session.rows("SHOW TABLES");
    const names = new Set(found.map(({ name }) => String(name)));
    if (!names.has(sql.PROGRESS)) {
      await session.run(`CREATE STAGE IF NOT EXISTS ${sql.FILES}`);
      await session.run(sql.createProgress(pipeline, randomUUID().slice(0, 8)));
    }
    const [row] = await session.rows(`SELECT PIPELINE, LAYOUTS FROM ${sql.PROGRESS}`);
    if (row?.PIPELINE !== pipeline) {
      throw new MillpondError(
        "OUTPUT",
        `The Snowflake schema belongs to pipeline "${String(row?.PIPELINE)}", not ` +
          `"${pipeline}". Set SNOWFLAKE_SCHEMA to one of this pipeline's own.`,
      );
    }
    const known: FoundTables = { names, remembered: String(row.LAYOUTS) };
    const plan = planTables([...this.#layouts.values()], known);
    // What is to be is remembered first: after a crash, a table that is there is known to be ours.
    if (plan.remembered !== row.LAYOUTS) await session.run(sql.rememberLayouts(plan.remembered));
    for (const statement of plan.statements) await session.run(statement);
  }

  async #readProgress(session: SnowflakeSession): Promise<Progress> {
    const [row] = await session.rows(`SELECT ID, SEQUENCE, OUTPUT FROM ${sql.PROGRESS}`);
    const kept = typeof row?.OUTPUT === "string" ? row.OUTPUT : null;
    checkOutput("the Snowflake schema", kept, this.#output);
    return { id: String(row?.ID), sequence: Number(row?.SEQUENCE) };
  }
}

function conflict(sequence: number): MillpondError {
  return new MillpondError(
    "CONFLICT",
    `Snowflake: another run moved the results beyond publication ${sequence}, or took away what ` +
      "this one had loaded. Stop the other run and run again.",
  );
}
