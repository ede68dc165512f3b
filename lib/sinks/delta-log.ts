/**
 * The Delta transaction log as data: its actions, what they add up to, and their text. Pure.
 * Protocol: https://github.com/delta-io/delta/blob/master/PROTOCOL.md, reader 1, writer 2.
 */
import { MillpondError } from "../errors.js";

export interface AddFile {
  /** Relative to the table, URL-encoded. */
  readonly path: string;
  readonly partitionValues: Readonly<Record<string, string>>;
  readonly size: number;
  readonly modificationTime: number;
  /** False when the rows were in the table before (compaction). */
  readonly dataChange: boolean;
  /** JSON. */
  readonly stats: string;
}

export interface RemoveFile {
  readonly path: string;
  readonly deletionTimestamp: number;
  readonly dataChange: boolean;
  readonly extendedFileMetadata: true;
  readonly partitionValues: Readonly<Record<string, string>>;
  readonly size: number;
}

export interface MetaData {
  readonly id: string;
  readonly name: string;
  readonly format: {
    readonly provider: "parquet";
    readonly options: Readonly<Record<string, string>>;
  };
  readonly schemaString: string;
  readonly partitionColumns: readonly string[];
  readonly configuration: Readonly<Record<string, string>>;
  readonly createdTime: number;
}

/** An application's own progress, stored atomically with its rows. */
export interface Txn {
  readonly appId: string;
  readonly version: number;
  readonly lastUpdated: number;
}

export interface CommitInfo {
  readonly timestamp: number;
  readonly operation: string;
  readonly engineInfo: string;
  /** Unique per attempt: tells a writer whether a commit with an unknown outcome is its own. */
  readonly commitId: string;
}

/** One line of a commit: exactly one of these. */
export interface Action {
  readonly commitInfo?: CommitInfo;
  readonly protocol?: { readonly minReaderVersion: number; readonly minWriterVersion: number };
  readonly metaData?: MetaData;
  readonly txn?: Txn;
  readonly add?: AddFile;
  readonly remove?: RemoveFile;
}

export const PROTOCOL = { minReaderVersion: 1, minWriterVersion: 2 } as const;

/** What a log adds up to at one version. */
export interface Snapshot {
  /** -1: no commit yet. */
  version: number;
  metaData: MetaData | null;
  readonly txns: Map<string, Txn>;
  /** Live files by path. */
  readonly files: Map<string, AddFile>;
  /** Files that are no longer live, for readers of older versions, by path. */
  readonly removed: Map<string, RemoveFile>;
}

export function emptySnapshot(): Snapshot {
  return { version: -1, metaData: null, txns: new Map(), files: new Map(), removed: new Map() };
}

/** Advance the snapshot by one commit (or a whole checkpoint). */
export function applyActions(
  snapshot: Snapshot,
  version: number,
  actions: readonly Action[],
): void {
  for (const { metaData, txn, add, remove } of actions) {
    if (metaData) snapshot.metaData = metaData;
    if (txn) snapshot.txns.set(txn.appId, txn);
    if (add) {
      snapshot.files.set(add.path, add);
      snapshot.removed.delete(add.path);
    }
    if (remove) {
      snapshot.files.delete(remove.path);
      snapshot.removed.set(remove.path, remove);
    }
  }
  snapshot.version = version;
}

/** All actions that a checkpoint of this snapshot holds. */
export function checkpointActions(snapshot: Snapshot): Action[] {
  const { metaData, txns, files, removed } = snapshot;
  return [
    { protocol: PROTOCOL },
    ...(metaData ? [{ metaData }] : []),
    ...[...txns.values()].map((txn) => ({ txn })),
    // A checkpoint's adds tell of no change: its rows came with earlier commits.
    ...[...files.values()].map((add) => ({ add: { ...add, dataChange: false } })),
    ...[...removed.values()].map((remove) => ({ remove })),
  ];
}

export function encodeActions(actions: readonly Action[]): Uint8Array {
  return new TextEncoder().encode(
    `${actions.map((action) => JSON.stringify(action)).join("\n")}\n`,
  );
}

/** @throws MillpondError OUTPUT when it is not a commit. */
export function decodeActions(bytes: Uint8Array, path: string): Action[] {
  const lines = new TextDecoder().decode(bytes).split("\n");
  return lines
    .filter((line) => line.trim() !== "")
    .map((line) => {
      try {
        const action: Action = JSON.parse(line);
        return refuseNewerProtocol(action, path);
      } catch (error) {
        if (error instanceof MillpondError) throw error;
        throw new MillpondError(
          "OUTPUT",
          `Found a line that is not JSON in ${path}, a commit of a Delta table. The lake is ` +
            "damaged there: restore the file, or write to another output directory.",
          { cause: error },
        );
      }
    });
}

function refuseNewerProtocol(action: Action, path: string): Action {
  const { protocol } = action;
  if (protocol && (protocol.minReaderVersion > 1 || protocol.minWriterVersion > 2)) {
    throw new MillpondError(
      "OUTPUT",
      `${path} raises the Delta protocol to reader ${protocol.minReaderVersion}, writer ` +
        `${protocol.minWriterVersion}; Millpond writes reader 1, writer 2. Another program ` +
        "upgraded the table: write to another output directory.",
    );
  }
  return action;
}

export function commitPath(table: string, version: number): string {
  return `${table}/_delta_log/${String(version).padStart(20, "0")}.json`;
}

export function checkpointPath(table: string, version: number): string {
  return `${table}/_delta_log/${String(version).padStart(20, "0")}.checkpoint.parquet`;
}
