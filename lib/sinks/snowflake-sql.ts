/**
 * Statements for Snowflake, as text: names, types, loading and merging. Names are upper case, as
 * Snowflake reads them when nobody quotes them. What is sent when is for the sink.
 */
import type { ColumnNode, ColumnType } from "../define/definition.js";
import { quoteName, quoteText } from "./duckdb-types.js";
import { isRevised, revisionColumns } from "./layouts.js";
import type { TableLayout } from "./sink.js";

/** Snowflake keeps years 1 to 9999; an instant beyond is stored as the first or the last. */
export const INSTANT_MS_MIN = Date.parse("0001-01-01T00:00:00Z");
export const INSTANT_MS_MAX = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

/** Which file a staged row is of, and its place among the table's rows of one call. */
export const FILE_COLUMN = "_MILLPOND_FILE";
export const ROW_COLUMN = "_MILLPOND_ROW";

export const PROGRESS = "MILLPOND_PROGRESS";
export const FILES = "MILLPOND_FILES";

/** An identifier that `select page from page_views` finds: letters A to Z are upper case. */
export const upperName = (name: string): string =>
  name.replace(/[a-z]+/g, (letters) => letters.toUpperCase());

export const tableName = (layout: TableLayout): string => quoteName(upperName(layout.name));
export const stageName = (layout: TableLayout): string =>
  quoteName(`MILLPOND_STAGE_${upperName(layout.name)}`);
const columnName = ({ name }: ColumnNode): string => quoteName(upperName(name));

function resultType(type: ColumnType): string {
  switch (type.kind) {
    case "string":
      return "VARCHAR";
    case "boolean":
      return "BOOLEAN";
    case "int":
      return "NUMBER(10,0)";
    case "bigint":
      return "NUMBER(19,0)";
    case "double":
      return "FLOAT";
    case "timestamp":
      return "TIMESTAMP_TZ";
    case "bytes":
      return "BINARY";
    case "decimal":
      return `NUMBER(${type.precision},${type.scale})`;
    case "list":
    case "topK":
      return "VARIANT";
  }
}

/** Files hold what needs no interpretation by session settings: epoch ms, and JSON as text. */
function stagedType(type: ColumnType): string {
  if (type.kind === "timestamp") return "NUMBER(19,0)";
  return isJson(type) ? "VARCHAR" : resultType(type);
}

const isJson = ({ kind }: ColumnType): boolean => kind === "list" || kind === "topK";

/** Of a result table, also as what is remembered of it. */
export const resultColumns = ({ columns }: TableLayout): string[] =>
  columns.map((column) => {
    const type = resultType(column.type);
    return `${columnName(column)} ${type}${column.nullable ? "" : " NOT NULL"}`;
  });

const stagedColumns = (layout: TableLayout): string[] => [
  ...revisionColumns(layout).map((column) => `${columnName(column)} ${stagedType(column.type)}`),
  `${quoteName(FILE_COLUMN)} VARCHAR`,
  `${quoteName(ROW_COLUMN)} NUMBER(19,0)`,
];

/** A result table, and the one its files are loaded into. */
export function createTables(layout: TableLayout): string[] {
  const result = resultColumns(layout).join(", ");
  const staged = stagedColumns(layout).join(", ");
  return [
    `CREATE TABLE IF NOT EXISTS ${tableName(layout)} (${result})`,
    `CREATE TRANSIENT TABLE IF NOT EXISTS ${stageName(layout)} (${staged}) ` +
      "DATA_RETENTION_TIME_IN_DAYS = 0",
  ];
}

export function addColumns(layout: TableLayout, names: ReadonlySet<string>): string[] {
  const added = layout.columns.filter(({ name }) => names.has(name));
  return added.flatMap((column) => [
    `ALTER TABLE ${tableName(layout)} ADD COLUMN IF NOT EXISTS ` +
      `${columnName(column)} ${resultType(column.type)}`,
    `ALTER TABLE ${stageName(layout)} ADD COLUMN IF NOT EXISTS ` +
      `${columnName(column)} ${stagedType(column.type)}`,
  ]);
}

/** One row, there with the table at once: of two who start, both see the first one's. */
export function createProgress(pipeline: string, id: string): string {
  return (
    `CREATE TABLE IF NOT EXISTS ${PROGRESS} (PIPELINE VARCHAR, ID VARCHAR, ` +
    `SEQUENCE NUMBER(19,0), LAYOUTS VARCHAR, OUTPUT VARCHAR) AS ` +
    `SELECT ${quoteText(pipeline)}, ${quoteText(id)}, 0, '{}', NULL`
  );
}

export const rememberLayouts = (layouts: string): string =>
  `UPDATE ${PROGRESS} SET LAYOUTS = ${snowflakeText(layouts)}`;

/** A backslash escapes in Snowflake's string literals. */
const snowflakeText = (text: string): string => quoteText(text.replaceAll("\\", "\\\\"));

/** DuckDB's side of a file: its columns by the names and in the types of the staging table. */
export function fileColumns(layout: TableLayout, file: string, firstRow: number): string {
  const columns = revisionColumns(layout).map((column) => {
    const stored = quoteName(column.name);
    return `${storedValue(stored, column.type)} AS ${columnName(column)}`;
  });
  const origin = [
    `${quoteText(file)} AS ${quoteName(FILE_COLUMN)}`,
    `row_number() OVER () - 1 + ${firstRow} AS ${quoteName(ROW_COLUMN)}`,
  ];
  return [...columns, ...origin].join(", ");
}

function storedValue(column: string, type: ColumnType): string {
  if (isJson(type)) return `to_json(${column})::VARCHAR`;
  if (type.kind !== "timestamp") return column;
  // DuckDB's least() passes over nulls.
  const bounded = `least(greatest(epoch_ms(${column}), ${INSTANT_MS_MIN}), ${INSTANT_MS_MAX})`;
  return `CASE WHEN ${column} IS NULL THEN NULL ELSE ${bounded} END`;
}

export const putFile = (path: string, folder: string): string =>
  `PUT ${quoteText(`file://${path}`)} @${FILES}/${folder} ` +
  "AUTO_COMPRESS = FALSE OVERWRITE = FALSE SOURCE_COMPRESSION = NONE";

/** `force`: also files that the load history knows. */
export function copyFiles(
  layout: TableLayout,
  folder: string,
  files: readonly string[],
  force: boolean,
): string {
  const names = files.map((file) => quoteText(`${file}.parquet`)).join(", ");
  return (
    `COPY INTO ${stageName(layout)} FROM @${FILES}/${folder} FILES = (${names}) ` +
    "FILE_FORMAT = (TYPE = PARQUET BINARY_AS_TEXT = FALSE USE_LOGICAL_TYPE = TRUE) " +
    `MATCH_BY_COLUMN_NAME = CASE_SENSITIVE${force ? " FORCE = TRUE" : ""}`
  );
}

const inFiles = (files: readonly string[]): string =>
  `${quoteName(FILE_COLUMN)} IN (${files.map(quoteText).join(", ")})`;

export const countStaged = (layout: TableLayout, files: readonly string[]): string =>
  `SELECT COUNT(DISTINCT ${quoteName(ROW_COLUMN)}) AS N FROM ${stageName(layout)} ` +
  `WHERE ${inFiles(files)}`;

/** Whatever is there is applied now, or of somebody who was overtaken. */
export const emptyStage = (layout: TableLayout): string => `DELETE FROM ${stageName(layout)}`;

/** Takes the lock that others wait for, and tells by its count whether they were faster. */
export function moveProgress(move: {
  readonly id: string;
  readonly from: number;
  readonly to: number;
  readonly output: string | null;
}): string {
  const { id, from, to } = move;
  const output = move.output === null ? "OUTPUT" : quoteText(move.output);
  return (
    `UPDATE ${PROGRESS} SET SEQUENCE = ${to}, OUTPUT = ${output} WHERE ID = ${quoteText(id)} ` +
    `AND SEQUENCE = ${from} AND (OUTPUT IS NULL OR OUTPUT = ${output})`
  );
}

export const removeFiles = (folder: string): string => `REMOVE @${FILES}/${folder}`;

/** Staged rows of these files into the result table; `replaces`: some supersede what is there. */
export function applyStaged(
  layout: TableLayout,
  files: readonly string[],
  replaces: boolean,
): string[] {
  const names = layout.columns.map(columnName).join(", ");
  const values = layout.columns.map((column) => resultValue("S", column)).join(", ");
  const insert = `INSERT INTO ${tableName(layout)} (${names}) SELECT ${values} FROM`;
  const staged = `SELECT * FROM ${stageName(layout)} WHERE ${inFiles(files)}`;
  const row = quoteName(ROW_COLUMN);
  const first = (by: string, order: string) =>
    `(${staged} QUALIFY ROW_NUMBER() OVER (PARTITION BY ${by} ORDER BY ${order}) = 1) AS S`;
  if (!isRevised(layout)) return [`${insert} ${first(row, row)}`];
  const keys = layout.key.map((key) => quoteName(upperName(key))).join(", ");
  const latest = first(keys, `REVISION DESC, ${row} DESC`);
  const remove =
    `DELETE FROM ${tableName(layout)} USING ${latest} WHERE ` +
    layout.key.map((key) => sameKey(layout, key)).join(" AND ");
  return [...(replaces ? [remove] : []), `${insert} ${latest} WHERE NOT S.RETRACTED`];
}

/** Equality where nulls are not possible: Snowflake prunes by it. */
function sameKey(layout: TableLayout, key: string): string {
  const column = layout.columns.find(({ name }) => name === key)!;
  const operator = column.nullable ? "IS NOT DISTINCT FROM" : "=";
  return `${tableName(layout)}.${columnName(column)} ${operator} ${resultValue("S", column)}`;
}

function resultValue(from: string, column: ColumnNode): string {
  const name = `${from}.${columnName(column)}`;
  if (column.type.kind === "timestamp") return `TO_TIMESTAMP_TZ(${name}, 3)`;
  return isJson(column.type) ? `PARSE_JSON(${name})` : name;
}
