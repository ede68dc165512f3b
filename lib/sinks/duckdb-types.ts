/** DuckDB's names for our types, and quoting: the one place where SQL text is built from names. */
import type { DuckDBType } from "@duckdb/node-api";
import type { ColumnNode, ColumnType } from "../define/definition.js";
import {
  BIGINT,
  BLOB,
  BOOLEAN,
  DECIMAL,
  DOUBLE,
  INTEGER,
  LIST,
  STRUCT,
  TIMESTAMPTZ,
  VARCHAR,
} from "../duckdb-api.js";

/** The DuckDB type of a column, for chunks; its `toString()` is the SQL name. */
export function duckdbType(type: ColumnType): DuckDBType {
  switch (type.kind) {
    case "string":
      return VARCHAR;
    case "boolean":
      return BOOLEAN;
    case "int":
      return INTEGER;
    case "bigint":
      return BIGINT;
    case "double":
      return DOUBLE;
    case "timestamp":
      return TIMESTAMPTZ;
    case "bytes":
      return BLOB;
    case "decimal":
      return DECIMAL(type.precision, type.scale);
    case "list":
      return LIST(duckdbType(type.element));
    case "topK":
      return LIST(STRUCT({ value: duckdbType(type.value), count: BIGINT }));
  }
}

/** An identifier, quoted: `a"b` → `"a""b"`. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** A string literal, quoted: `it's` → `'it''s'`. */
export function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** Quoted names, separated by commas. */
export function nameList(columns: readonly ColumnNode[]): string {
  return columns.map(({ name }) => quoteName(name)).join(", ");
}

/** The column list of a CREATE TABLE. */
export function columnDefinitions(columns: readonly ColumnNode[]): string {
  return columns.map(({ name, type }) => `${quoteName(name)} ${duckdbType(type)}`).join(", ");
}
