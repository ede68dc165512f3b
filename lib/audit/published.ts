/**
 * What an audit reads, as of one publication: bronze, every copy of the published tables, and how
 * far they are. What an output directory and a bucket have in common is here.
 */
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import type { DuckDBConnection } from "@duckdb/node-api";
import type { Standing } from "../commit/publisher-state.js";
import type { PipelineDefinition } from "../define/definition.js";
import { DuckDBInstance } from "../duckdb-api.js";
import { MillpondError } from "../errors.js";
import { chosen } from "../runtime/run-sinks.js";
import { duckdbType, quoteName, quoteText } from "../sinks/duckdb-types.js";
import { tableLayouts } from "../sinks/layouts.js";
import type { TableLayout } from "../sinks/sink.js";
import { rowsOf } from "./rows.js";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface AuditPlace {
  /** In memory. Copies are either in it, or files that stay as they are. */
  readonly connection: DuckDBConnection;
  readonly instance: DuckDBInstance;
  /** Something to select bronze's columns from. */
  readonly bronze: string;
  /** Every place whose tables can be read. */
  readonly copies: readonly PublishedCopy[];
  readonly unread: readonly Unread[];
  /**
   * Epoch ms by stream: windows that end by then have been published. Null: only bronze can tell.
   */
  readonly passed: ReadonlyMap<string, number> | null;
  /** By table, starts (epoch ms) of windows whose published rows lack something that came since. */
  readonly pending: ReadonlyMap<string, readonly number[]>;
  /** What stood open was published too, and nothing came since. */
  readonly flushed: boolean;
  /** Records that bronze must hold, by topic and partition; null where only bronze can tell. */
  readonly read: readonly ReadPartition[] | null;
  close(): Promise<void>;
}

export interface ReadPartition {
  readonly topic: string;
  readonly partition: number;
  readonly records: number;
}

/** Which publications the copies are of. */
export interface Published {
  /** As in the publisher's state; null where that is not known. */
  readonly output: string | null;
  /** All of them up to this one, and no other. */
  readonly sequence: number;
}

export interface PublishedCopy {
  /** In words, such as "lake". */
  readonly place: string;
  /** What to select a table's rows from, by the table's name. */
  readonly tables: ReadonlyMap<string, string>;
  readonly accounting: CopiedAccounting;
}

export type CopiedAccounting =
  /** Such a place has none. */
  | { readonly kind: "none" }
  /** It should have one. */
  | { readonly kind: "lacking" }
  /** It has none of this publication: a run is at work, or was stopped on its way. */
  | { readonly kind: "old" }
  | { readonly kind: "there"; readonly from: string };

/** A place with results that were not read, and why. */
export interface Unread {
  readonly place: string;
  readonly reason: string;
}

export type Memory = Awaited<ReturnType<typeof openMemory>>;

export async function openMemory(options: Readonly<Record<string, string>> = {}) {
  const folder = fs.mkdtempSync(path.join(tmpdir(), "millpond-audit-"));
  const instance = await DuckDBInstance.create(":memory:", {
    temp_directory: path.join(folder, "spill"),
    autoinstall_known_extensions: "false",
    autoload_known_extensions: "false",
    ...options,
  });
  const connection = await instance.connect();
  await connection.run("SET TimeZone = 'UTC'; SET preserve_insertion_order = false");
  const close = async () => {
    connection.closeSync();
    instance.closeSync();
    fs.rmSync(folder, { recursive: true, force: true });
  };
  return { instance, connection, folder, close };
}

export const attachSql = (file: string): string =>
  `ATTACH ${quoteText(file)} AS results (READ_ONLY)`;

export function standsOf({ watermarks, pending, flushed }: Standing) {
  const passed = Object.entries(watermarks).map(
    ([stream, ms]) => [stream, ms ?? Number.NEGATIVE_INFINITY] as const,
  );
  return { passed: new Map(passed), pending: new Map(Object.entries(pending)), flushed };
}

export const noBronze = (where: string, { name }: PipelineDefinition): MillpondError =>
  new MillpondError(
    "USAGE",
    `${where} keeps no bronze, the records as they were read, so there is nothing to recompute ` +
      `from: add lake() to the sinks of "${name}" and process the input again`,
  );

export const NO_ACCOUNTING = { kind: "none" } as const;

/** Of a table that no row was published of yet, or that is gone. */
export function noRows({ columns }: TableLayout): string {
  const nulls = columns.map(({ name, type }) => `NULL::${duckdbType(type)} AS ${quoteName(name)}`);
  return `(SELECT ${nulls.join(", ")} WHERE false)`;
}

/** What servers have; where it can't be read, why. */
export async function copyServers(
  connection: DuckDBConnection,
  definition: PipelineDefinition,
  published: Published,
  env: Environment,
): Promise<(PublishedCopy | Unread)[]> {
  const found: (PublishedCopy | Unread)[] = [];
  const all = tableLayouts(definition).filter(({ kind }) => kind !== "bronze");
  for (const [i, node] of definition.sinks.entries()) {
    const layouts = chosen(all, node);
    if (node.kind === "postgres") {
      const { copyPostgres } = await import("./postgres-copy.js");
      const place = { env, pipeline: definition.name, schema: node.schema, layouts };
      found.push(await copyPostgres(connection, place, published, `postgres_${i}`));
    } else if (node.kind === "kafka") {
      found.push({ place: `Kafka topic ${node.topic}`, reason: "topics are not read" });
    } else if (node.kind === "snowflake") {
      found.push({ place: "Snowflake", reason: "its tables are not read" });
    }
  }
  return found;
}

export async function namesIn(
  connection: DuckDBConnection,
  database: string,
  schema = "main",
): Promise<Set<string>> {
  const rows = await rowsOf(
    connection,
    `SELECT table_name AS name FROM information_schema.tables
    WHERE table_catalog = ${quoteText(database)} AND table_schema = ${quoteText(schema)}`,
  );
  return new Set(rows.map(({ name }) => String(name)));
}

/** What was copied, and what was not. */
export function withServers(
  own: readonly PublishedCopy[],
  servers: readonly (PublishedCopy | Unread)[],
): Pick<AuditPlace, "copies" | "unread"> {
  const copies = servers.filter((one): one is PublishedCopy => "tables" in one);
  const unread = servers.filter((one): one is Unread => "reason" in one);
  return { copies: [...own, ...copies], unread };
}
