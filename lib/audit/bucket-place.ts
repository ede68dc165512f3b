/** What an audit reads of a deployed pipeline: its bucket's database, and the lake this names. */
import * as path from "node:path";
import type { DuckDBConnection } from "@duckdb/node-api";
import { backfillHash } from "../commit/committer.js";
import type { Standing } from "../commit/publisher-state.js";
import type { PipelineDefinition } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import type { ReadableDatabase } from "../query/snapshot-results.js";
import type { Manifest } from "../runtime/output.js";
import { quoteName } from "../sinks/duckdb-types.js";
import { lakeTableSql } from "../sinks/lake-view.js";
import { tableLayouts } from "../sinks/layouts.js";
import {
  type AuditPlace,
  attachSql,
  type CopiedAccounting,
  copyServers,
  type Environment,
  NO_ACCOUNTING,
  namesIn,
  noBronze,
  noRows,
  openMemory,
  type PublishedCopy,
  standsOf,
  withServers,
} from "./published.js";
import { rowsOf } from "./rows.js";

interface StoredStanding extends Standing {
  readonly isAccounted: boolean;
}

/** Bronze alone, without the published tables. */
export interface BronzePlace
  extends Pick<AuditPlace, "connection" | "instance" | "bronze" | "close"> {
  /** How far its rows are; null of a database that was made before databases said so. */
  readonly standing: StoredStanding | null;
}

/**
 * A deployed pipeline's bronze, as of one moment.
 *
 * @throws MillpondError USAGE when there is no such database or it has no bronze, STORAGE when S3
 *   fails
 */
export async function openBronze(
  storage: ReadableDatabase,
  definition: PipelineDefinition,
): Promise<BronzePlace> {
  const access = await storage.access();
  const memory = await openMemory({ extension_directory: access.extensionDirectory });
  const { connection, instance } = memory;
  try {
    for (const sql of access.statements) await connection.run(sql);
    const file = path.join(memory.folder, "results.duckdb");
    if ((await storage.download(file)) === null) {
      throw new MillpondError("USAGE", `${storage.uri} does not exist: correct bucket and prefix`);
    }
    await connection.run(attachSql(file));
    const found = await namesIn(connection, "results");
    if (!found.has("bronze")) throw noBronze(storage.uri, definition);
    const bronze = "results.main.bronze";
    const standing = await storedStanding(connection);
    return { connection, instance, bronze, standing, close: memory.close };
  } catch (error) {
    await memory.close();
    throw error;
  }
}

/**
 * A deployed pipeline's results in a bucket: its database, and the lake's files that this names,
 * which are of one moment. `env` says where PostgreSQL is, as for the sink; else it is not read.
 *
 * @throws MillpondError USAGE when there is no such database or it has no bronze, OUTPUT when
 *   another definition made it, STORAGE when S3 fails
 */
export async function openBucket(
  storage: ReadableDatabase,
  { definition, definitionHash }: Pick<Manifest, "definition" | "definitionHash">,
  env?: Environment,
): Promise<AuditPlace> {
  const opened = await openBronze(storage, definition);
  const { connection, standing } = opened;
  try {
    if (standing !== null) {
      refuseOther(storage.uri, definition.name, definitionHash, standing.definitionHash);
    }
    const copies = await bucketCopies(connection, definition, standing);
    const [progress] = await rowsOf(connection, "FROM results.millpond.progress");
    const published = { output: standing?.output ?? null, sequence: Number(progress?.sequence) };
    const servers =
      env === undefined ? [] : await copyServers(connection, definition, published, env);
    // Of one moment: what its partitions have closed is in its windows.
    const unknown = { passed: null, pending: new Map(), flushed: false };
    const stands = standing === null ? unknown : standsOf(standing);
    return { ...opened, ...withServers(copies, servers), ...stands, read: null };
  } catch (error) {
    await opened.close();
    throw error;
  }
}

function refuseOther(uri: string, pipeline: string, expected: string, found: string): void {
  // A backfill's mark stays until the sink publishes something new.
  if (found === expected || found === backfillHash(expected)) return;
  throw new MillpondError(
    "OUTPUT",
    `${uri} was made by another version of pipeline "${pipeline}" (definition ${found}, the ` +
      `file's is ${expected}), so its tables prove nothing about this one: give the file, ` +
      "reference tables and parameters that were deployed",
  );
}

async function storedStanding(connection: DuckDBConnection): Promise<StoredStanding | null> {
  if (!(await namesIn(connection, "results", "millpond")).has("standing")) return null;
  const [row] = await rowsOf(connection, "FROM results.millpond.standing");
  return { ...JSON.parse(String(row?.standing)), isAccounted: row?.is_accounted === true };
}

/** The lake's tables, and those that the database holds inside. */
async function bucketCopies(
  connection: DuckDBConnection,
  definition: PipelineDefinition,
  standing: StoredStanding | null,
): Promise<PublishedCopy[]> {
  const found = await namesIn(connection, "results");
  const files = await rowsOf(connection, "SELECT * FROM results.millpond.files");
  const lake = new Map<string, string>();
  const database = new Map<string, string>();
  for (const layout of tableLayouts(definition)) {
    if (layout.kind === "bronze" || !found.has(layout.name)) continue;
    const own = files.filter(({ table_name: name }) => name === layout.name);
    const uris = own.map(({ uri }) => String(uri));
    const from = uris.length === 0 ? noRows(layout) : `(${lakeTableSql(uris, layout)})`;
    lake.set(layout.name, from);
    const isInside = uris.length === 0 || own.some(({ held }) => held === true);
    if (isInside) database.set(layout.name, `results.main.${quoteName(layout.name)}`);
  }
  const accounting = accountingIn(found.has("accounting"), standing);
  return [
    { place: "lake", tables: lake, accounting: NO_ACCOUNTING },
    { place: "database", tables: database, accounting },
  ];
}

function accountingIn(isThere: boolean, standing: StoredStanding | null): CopiedAccounting {
  if (standing?.isAccounted === false) return { kind: "old" };
  if (isThere) return { kind: "there", from: "results.main.accounting" };
  return { kind: standing === null ? "old" : "lacking" };
}
