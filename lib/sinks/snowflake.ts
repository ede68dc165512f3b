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
import type { Publication, Sink, TableLayout } from "./sink.js";
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

  constructor(options: SnowflakeSinkOptions) {
    this.#options = options;
    this.#layouts = new Map(options.layouts.map((layout) => [layout.name, layout]));
  }

  async open(): Promise<number> {
    try {
      if (this.#session === null) {
        const { env, pipeline, limits } = this.#options;
        const settings = await snowflakeSettings(env);
        this.#session = await SnowflakeSession.open(settings, pipeline, limits);
        await this.#claim(this.#session);
      }
      this.#progress = await this.#readProgress(this.#session);
      return this.#progress.sequence;
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async apply(publications: AsyncIterable<Publication>, lastSequence: number): Promise<void> {
    const { session, progress } = this.#opened();
    if (lastSequence <= progress.sequence) return;
    const dir = await fs.mkdtemp(path.join(tmpdir(), "millpond-snowflake-"));
    const files = new SnowflakeFiles(dir, `${progress.id}-${lastSequence}`, (file, folder) =>
      session.run(sql.putFile(file, this.#folder(folder))),
    );
    try {
      const known = this.#known(publications, progress.sequence, lastSequence);
      const staged = await files.write(known);
      for (const table of staged) await this.#load(session, table);
      await this.#commit(session, progress, lastSequence, staged);
      if (staged.length > 0) await session.run(sql.removeFiles(this.#folder("")));
    } finally {
      files.close();
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

  /** Until the staging table has each of the files' rows once. */
  async #load(session: SnowflakeSession, { layout, folder, files, rowCount }: StagedFiles) {
    let found = 0;
    // The history of loads prevents double loading; where it was lost, the count tells.
    for (const force of [false, true]) {
      if (force) await session.run(sql.dropStaged(layout, files));
      for (let at = 0; at < files.length; at += COPY_FILES_MAX) {
        const some = files.slice(at, at + COPY_FILES_MAX);
        await session.run(sql.copyFiles(layout, this.#folder(folder), some, force));
      }
      const [row] = await session.rows(sql.countStaged(layout, files));
      found = Number(row?.N);
      if (found === rowCount) return;
    }
    throw new MillpondError(
      "CONFLICT",
      `Snowflake: the staging table of "${layout.name}" has ${found} rows of ${rowCount} that ` +
        "were loaded. Stop the other run of this pipeline and run again.",
    );
  }

  async #commit(
    session: SnowflakeSession,
    { id, sequence }: Progress,
    lastSequence: number,
    staged: readonly StagedFiles[],
  ): Promise<void> {
    const isFirst = await session.transaction(async () => {
      if ((await session.run(sql.moveProgress(id, sequence, lastSequence))) !== 1) return false;
      for (const { layout, files, replaces } of staged) {
        for (const statement of sql.applyStaged(layout, files, replaces)) {
          await session.run(statement);
        }
        await session.run(sql.emptyStage(layout));
      }
      return true;
    });
    this.#progress = isFirst ? { id, sequence: lastSequence } : await this.#readProgress(session);
    if (this.#progress.sequence >= lastSequence) return;
    throw new MillpondError(
      "CONFLICT",
      `Snowflake: another run moved the results from publication ${sequence} to ` +
        `${this.#progress.sequence} while this one wrote. Stop the other run and run again.`,
    );
  }

  /** Make what is missing in an empty or an own schema; refuse any other. */
  async #claim(session: SnowflakeSession): Promise<void> {
    const { pipeline } = this.#options;
    const found = await session.rows("SHOW TABLES");
    const names = new Set(found.map(({ name }) => String(name)));
    if (!names.has(sql.PROGRESS)) {
      const id = randomUUID().slice(0, 8);
      await session.run(sql.createProgress(pipeline, id));
      await session.run(`CREATE STAGE IF NOT EXISTS ${sql.FILES}`);
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
    const [row] = await session.rows(`SELECT ID, SEQUENCE FROM ${sql.PROGRESS}`);
    return { id: String(row?.ID), sequence: Number(row?.SEQUENCE) };
  }
}

function beyondLast(sequence: number, lastSequence: number): MillpondError {
  return new MillpondError(
    "INVARIANT",
    `Publication ${sequence} came to a sink that was told that ${lastSequence} is the last. ` +
      "This is a bug in Millpond: report it.",
  );
}
