/**
 * How the audit writes the definition's types and literals in DuckDB SQL.
 * Inside its queries a timestamp is a BIGINT of epoch milliseconds; results get TIMESTAMPTZ.
 */
import type { ColumnType, LiteralValue, ScalarType } from "../define/definition.js";
import { quoteText } from "../sinks/duckdb-types.js";

/** The type of a column while the audit computes. */
export function workingType(type: ColumnType): string {
  switch (type.kind) {
    case "string":
      return "VARCHAR";
    case "boolean":
      return "BOOLEAN";
    case "int":
      return "INTEGER";
    case "bigint":
    case "timestamp":
      return "BIGINT";
    case "double":
      return "DOUBLE";
    case "decimal":
      return `DECIMAL(${type.precision},${type.scale})`;
    case "list":
      return `${workingType(type.element)}[]`;
    case "topK":
      return `STRUCT("value" ${workingType(type.value)}, "count" BIGINT)[]`;
    case "bytes":
      return "BLOB";
  }
}

/** A working column as the product stores it. */
export function resultSql(sql: string, type: ColumnType): string {
  if (type.kind === "timestamp") return `make_timestamptz((${sql}) * 1000)`;
  if (type.kind === "list" && type.element.kind === "timestamp") {
    return `list_transform(${sql}, lambda e: make_timestamptz(e * 1000))`;
  }
  if (type.kind === "topK" && type.value.kind === "timestamp") {
    const entry = `{"value": make_timestamptz(e."value" * 1000), "count": e."count"}`;
    return `list_transform(${sql}, lambda e: ${entry})`;
  }
  return `CAST(${sql} AS ${workingType(type)})`;
}

export function literalSql(value: LiteralValue, type: ScalarType): string {
  const text = value === null ? "NULL" : quoteText(String(value));
  return `CAST(${text} AS ${workingType(type)})`;
}
