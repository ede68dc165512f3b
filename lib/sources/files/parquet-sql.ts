/** SQL that turns a Parquet column into JSON as the decoder reads it, exact and in UTC. */
import type { DuckDBType } from "@duckdb/node-api";
import type { FieldNode, TimestampFormat } from "../../define/definition.js";

type Api = typeof import("@duckdb/node-api");
type TimestampKind = TimestampFormat["kind"];

export interface ParquetColumn {
  readonly name: string;
  readonly type: DuckDBType;
}

/** One JSON object a row. */
export function rowToJson(
  api: Api,
  columns: readonly ParquetColumn[],
  fields: readonly FieldNode[],
): string {
  const formats = new Map(fields.map((field) => [field.path.join("."), field.format?.kind]));
  const entries = columns.map(({ name, type }) => {
    const value = valueToJson(api, quoteName(name), type, name, formats);
    return `${quoteText(name)}, ${value}`;
  });
  return `CAST(json_object(${entries.join(", ")}) AS VARCHAR)`;
}

function valueToJson(
  api: Api,
  sql: string,
  type: DuckDBType,
  path: string,
  formats: ReadonlyMap<string, TimestampKind | undefined>,
): string {
  const { DuckDBTypeId } = api;
  switch (type.typeId) {
    case DuckDBTypeId.FLOAT:
    case DuckDBTypeId.DOUBLE:
      // NaN and the infinities have no JSON form: as strings they end as wrong_type.
      return (
        `CASE WHEN isfinite(${sql}) THEN to_json(${sql}) ` +
        `ELSE to_json(CAST(${sql} AS VARCHAR)) END`
      );
    case DuckDBTypeId.TIMESTAMP:
    case DuckDBTypeId.TIMESTAMP_S:
    case DuckDBTypeId.TIMESTAMP_MS:
    case DuckDBTypeId.TIMESTAMP_NS:
      return timestampToJson(`CAST(${sql} AS TIMESTAMP)`, formats.get(path));
    case DuckDBTypeId.TIMESTAMP_TZ:
      return timestampToJson(`(${sql} AT TIME ZONE 'UTC')`, formats.get(path));
    case DuckDBTypeId.BLOB:
      return `base64(${sql})`;
  }
  if (type instanceof api.DuckDBStructType) {
    const entries = type.entryNames.map((name, i) => {
      const entryType = type.entryTypes[i] ?? type;
      const entry = `struct_extract(${sql}, ${quoteText(name)})`;
      const value = valueToJson(api, entry, entryType, `${path}.${name}`, formats);
      return `${quoteText(name)}, ${value}`;
    });
    return `CASE WHEN ${sql} IS NOT NULL THEN json_object(${entries.join(", ")}) END`;
  }
  if (type instanceof api.DuckDBListType || type instanceof api.DuckDBArrayType) {
    const variable = `v${path.split(".").length}_${sql.length}`;
    const element = valueToJson(api, variable, type.valueType, path, formats);
    return element === variable ? sql : `list_transform(${sql}, lambda ${variable}: ${element})`;
  }
  return sql;
}

function timestampToJson(sql: string, format: TimestampKind | undefined): string {
  switch (format) {
    case "epoch_s":
      return `epoch(${sql})`;
    case "epoch_ms":
      return `epoch_ms(${sql})`;
    case "epoch_us":
      return `epoch_us(${sql})`;
    default:
      return `strftime(${sql}, '%Y-%m-%dT%H:%M:%S.%fZ')`;
  }
}

function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
