/** One Delta table in a lake's storage: reads its log, commits to it, writes its checkpoints. */
import { randomUUID } from "node:crypto";
import * as fs from "node:fs/promises";
import * as path from "node:path";
import { MillpondError } from "../errors.js";
import { makeDirectory } from "../stores/make-directory.js";
import {
  type Action,
  applyActions,
  checkpointActions,
  checkpointPath,
  commitPath,
  decodeActions,
  emptySnapshot,
  encodeActions,
  type Snapshot,
} from "./delta-log.js";
import type { Database } from "./duckdb-database.js";
import { quoteText } from "./duckdb-types.js";
import type { LakeStorage } from "./lake-storage.js";

const CHECKPOINT_EVERY = 20;
/** Other writers that may win before we do; more means that something is wrong. */
const ATTEMPTS_MAX = 100;
const ENGINE_INFO = "millpond";
const CHECKPOINT_NAME = /\/(\d{20})\.checkpoint\.parquet$/;
const COMMIT_NAME = /\/(\d{20})\.json$/;

const CHECKPOINT_COLUMNS = {
  txn: "STRUCT(appId VARCHAR, version BIGINT, lastUpdated BIGINT)",
  add:
    "STRUCT(path VARCHAR, partitionValues MAP(VARCHAR, VARCHAR), size BIGINT, " +
    "modificationTime BIGINT, dataChange BOOLEAN, stats VARCHAR)",
  remove:
    "STRUCT(path VARCHAR, deletionTimestamp BIGINT, dataChange BOOLEAN, " +
    "extendedFileMetadata BOOLEAN, partitionValues MAP(VARCHAR, VARCHAR), size BIGINT)",
  metaData:
    "STRUCT(id VARCHAR, name VARCHAR, format STRUCT(provider VARCHAR, " +
    "options MAP(VARCHAR, VARCHAR)), schemaString VARCHAR, partitionColumns VARCHAR[], " +
    "configuration MAP(VARCHAR, VARCHAR), createdTime BIGINT)",
  protocol: "STRUCT(minReaderVersion INTEGER, minWriterVersion INTEGER)",
};

/** What to commit on top of this snapshot; null: nothing (any more). May throw. */
export type CommitPlan = (snapshot: Readonly<Snapshot>) => readonly Action[] | null;

export class DeltaTable {
  readonly name: string;
  readonly #storage: LakeStorage;
  readonly #database: Database;
  /** Tombstones older than this are left out of checkpoints. */
  readonly #retentionMs: number;
  #snapshot = emptySnapshot();

  constructor(name: string, storage: LakeStorage, database: Database, retentionMs: number) {
    this.name = name;
    this.#storage = storage;
    this.#database = database;
    this.#retentionMs = retentionMs;
  }

  get snapshot(): Readonly<Snapshot> {
    return this.#snapshot;
  }

  /**
   * Read the log: the newest checkpoint, then the commits after it. With `version`, as the table
   * was then; throws `MillpondError("USAGE")` when the log does not tell that (any more).
   */
  async load(version?: number): Promise<void> {
    const snapshot = emptySnapshot();
    const hint = version === undefined ? await this.#hintedCheckpoint() : -1;
    // Names sort as versions do, a checkpoint before its commit: an old log isn't listed in full.
    const after = hint > 0 ? commitPath(this.name, hint - 1) : undefined;
    const stored = await this.#storage.list(`${this.name}/_delta_log`, after);
    const checkpoint = newestVersion(stored, CHECKPOINT_NAME, version);
    if (checkpoint >= 0) await this.#readCheckpoint(snapshot, checkpoint);
    const last = newestVersion(stored, COMMIT_NAME, version);
    if (version !== undefined && (last < version || !isWhole(stored, checkpoint, version))) {
      throw this.#noVersion(version, stored);
    }
    for (let next = checkpoint + 1; next <= last; next++) {
      const actions = await this.#readCommit(next);
      if (actions === null) throw this.#hole(next);
      applyActions(snapshot, next, actions);
    }
    this.#snapshot = snapshot;
  }

  /** What others committed since the snapshot; for a table that was loaded before. */
  async refresh(): Promise<void> {
    for (;;) {
      const version = this.#snapshot.version + 1;
      const actions = await this.#readCommit(version);
      if (actions === null) return;
      applyActions(this.#snapshot, version, actions);
    }
  }

  /**
   * Delete the part of the log that no reader needs: what comes before the newest checkpoint that
   * is older than `olderThanMs`. Versions before it can't be read any more.
   */
  async trimLog(olderThanMs: number): Promise<void> {
    const before = Date.now() - olderThanMs;
    const stored = await this.#storage.list(`${this.name}/_delta_log`);
    const versions = stored.flatMap((file) => versionIn(file, CHECKPOINT_NAME) ?? []);
    let [low, high] = [0, versions.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((await this.#committedAt(versions[middle])) < before) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return;
    const oldest = checkpointPath(this.name, versions[low - 1]);
    const isVersioned = (file: string) => /\/\d{20}\.[a-z.]+$/.test(file);
    for (const file of stored.filter(isVersioned)) {
      if (file < oldest) await this.#storage.delete(file);
    }
  }

  /** Epoch ms; of a commit without a time, the beginning of time. */
  async #committedAt(version: number): Promise<number> {
    const actions = await this.#readCommit(version);
    return actions?.find(({ commitInfo }) => commitInfo)?.commitInfo?.timestamp ?? 0;
  }

  /** -1 when there is no hint, or none that can be understood: it is only a hint. */
  async #hintedCheckpoint(): Promise<number> {
    const bytes = await this.#storage.get(`${this.name}/_delta_log/_last_checkpoint`);
    const match = /"version":(\d+)/.exec(new TextDecoder().decode(bytes ?? undefined));
    return match === null ? -1 : Number(match[1]);
  }

  /**
   * Commit what `plan` says for the newest snapshot, as one version. If another writer takes that
   * version, the plan is asked again. Returns whether something was committed.
   */
  async commit(operation: string, plan: CommitPlan): Promise<boolean> {
    const commitId = randomUUID();
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const planned = plan(this.#snapshot);
      if (planned === null) return false;
      const version = this.#snapshot.version + 1;
      const timestamp = Date.now();
      const commitInfo = { timestamp, operation, engineInfo: ENGINE_INFO, commitId };
      const actions = [{ commitInfo }, ...planned];
      const winner = await this.#put(version, actions, commitId);
      applyActions(this.#snapshot, version, winner);
      if (winner === actions) {
        if (version > 0 && version % CHECKPOINT_EVERY === 0) await this.#writeCheckpoint();
        return true;
      }
    }
    throw new MillpondError(
      "CONFLICT",
      `Table ${this.name} in the lake: other writers took ${ATTEMPTS_MAX} versions in a row. ` +
        "Stop the other writers and run again; nothing was written.",
    );
  }

  /** The actions that now are this version: ours, or those of the writer who was faster. */
  async #put(
    version: number,
    actions: readonly Action[],
    commitId: string,
  ): Promise<readonly Action[]> {
    const outcome = await this.#tryPut(version, actions);
    if (outcome === "created") return actions;
    const found = await this.#readCommit(version);
    const isOurs = found?.some(({ commitInfo }) => commitInfo?.commitId === commitId);
    if (isOurs) return actions;
    if (outcome !== "exists") throw outcome;
    if (found === null) throw this.#hole(version);
    return found;
  }

  /** A failure's outcome is unknown, so it is handed back to be resolved by reading (I5). */
  async #tryPut(version: number, actions: readonly Action[]): Promise<unknown> {
    try {
      const bytes = encodeActions(actions);
      return await this.#storage.putIfAbsent(commitPath(this.name, version), bytes);
    } catch (error) {
      return error;
    }
  }

  async #readCommit(version: number): Promise<Action[] | null> {
    const name = commitPath(this.name, version);
    const bytes = await this.#storage.get(name);
    return bytes === null ? null : decodeActions(bytes, name);
  }

  async #readCheckpoint(snapshot: Snapshot, version: number): Promise<void> {
    const name = checkpointPath(this.name, version);
    const columns = Object.keys(CHECKPOINT_COLUMNS);
    const fields = columns.map((column) => `'${column}': "${column}"`).join(", ");
    const rows = await this.#storage.withLocal([name], ([file = ""]) =>
      this.#database.rows(
        `SELECT to_json({${fields}})::VARCHAR AS action FROM read_parquet(${quoteText(file)})`,
      ),
    );
    const lines = rows.map(({ action }) => String(action)).join("\n");
    applyActions(snapshot, version, decodeActions(new TextEncoder().encode(lines), name));
  }

  /** Written by DuckDB from the actions as JSON; `_last_checkpoint` is a hint for other readers. */
  async #writeCheckpoint(): Promise<void> {
    this.#forgetOldTombstones();
    const { version } = this.#snapshot;
    const actions = checkpointActions(this.#snapshot);
    const { tempDir } = this.#storage;
    makeDirectory(tempDir);
    const source = path.join(tempDir, `${randomUUID()}.json`);
    const target = path.join(tempDir, `${randomUUID()}.parquet`);
    const types = Object.entries(CHECKPOINT_COLUMNS)
      .map(([name, type]) => `${name}: ${quoteText(type)}`)
      .join(", ");
    try {
      await fs.writeFile(source, encodeActions(actions));
      await this.#database.run(
        `COPY (FROM read_json(${quoteText(source)}, format = 'newline_delimited', ` +
          `columns = {${types}})) TO ${quoteText(target)} (FORMAT parquet, COMPRESSION zstd)`,
      );
    } finally {
      await fs.rm(source, { force: true });
    }
    await this.#storage.putIfAbsent(checkpointPath(this.name, version), { file: target });
    const hint = new TextEncoder().encode(JSON.stringify({ version, size: actions.length }));
    await this.#storage.put(`${this.name}/_delta_log/_last_checkpoint`, hint);
  }

  #forgetOldTombstones(): void {
    const { removed } = this.#snapshot;
    for (const [name, { deletionTimestamp }] of removed) {
      if (deletionTimestamp < Date.now() - this.#retentionMs) removed.delete(name);
    }
  }

  #noVersion(version: number, stored: readonly string[]): MillpondError {
    const last = newestVersion(stored, COMMIT_NAME);
    const commits = stored.flatMap((file) => versionIn(file, COMMIT_NAME) ?? []);
    const oldest = commits.find((v) => v === 0 || stored.includes(checkpointPath(this.name, v)));
    return new MillpondError(
      "USAGE",
      last < 0
        ? `table "${this.name}" of the lake has no version yet`
        : `table "${this.name}" of the lake has no version ${version}: found ${oldest} to ${last}`,
    );
  }

  #hole(version: number): MillpondError {
    return new MillpondError(
      "OUTPUT",
      `Commit ${commitPath(this.name, version)} of the lake is missing, though later ones are ` +
        "there. The lake is damaged: restore the file, or write to another output directory.",
    );
  }
}

/** -1: none, or none up to `max`. */
function newestVersion(
  files: readonly string[],
  pattern: RegExp,
  max = Number.POSITIVE_INFINITY,
): number {
  const versions = files.map((file) => versionIn(file, pattern) ?? -1);
  return versions.reduce((newest, v) => (v <= max ? Math.max(newest, v) : newest), -1);
}

/** Whether the commits from a checkpoint (-1: the beginning) to a version are all there. */
function isWhole(files: readonly string[], checkpoint: number, version: number): boolean {
  const commits = files.map((file) => versionIn(file, COMMIT_NAME) ?? -1);
  return commits.filter((v) => v > checkpoint && v <= version).length === version - checkpoint;
}

function versionIn(file: string, pattern: RegExp): number | null {
  const match = pattern.exec(file);
  return match === null ? null : Number(match[1]);
}
