/** A table's columns as Delta's schema, and DuckDB's file statistics as Delta's. Pure. */
import type { ColumnNode, ColumnType } from "../define/definition.js";

/** The partition column that every lake table has, last. */
export const PARTITION_COLUMN = "event_date";

type DeltaType = string | { readonly [key: string]: unknown };

/** `schemaString` of a table with these columns and the partition column. */
export function deltaSchema(columns: readonly ColumnNode[]): string {
  const fields = [
    ...columns.map(({ name, type, nullable }) => ({
      name,
      type: deltaType(type),
      nullable,
      metadata: {},
    })),
    { name: PARTITION_COLUMN, type: "date", nullable: true, metadata: {} },
  ];
  return JSON.stringify({ type: "struct", fields });
}

function deltaType(type: ColumnType): DeltaType {
  switch (type.kind) {
    case "int":
      return "integer";
    case "bigint":
      return "long";
    case "bytes":
      return "binary";
    case "decimal":
      return `decimal(${type.precision},${type.scale})`;
    case "list":
      return { type: "array", elementType: deltaType(type.element), containsNull: true };
    case "topK":
      return { type: "array", elementType: topKEntry(type.value), containsNull: true };
    default:
      return type.kind;
  }
}

function topKEntry(value: ColumnType): DeltaType {
  const field = (name: string, type: DeltaType) => ({ name, type, nullable: true, metadata: {} });
  return { type: "struct", fields: [field("value", deltaType(value)), field("count", "long")] };
}

/** DuckDB's statistics of one column of one Parquet file (`COPY … RETURN_STATS`), as text. */
export type ColumnStatistics = ReadonlyMap<string, string>;

/** Longer texts make the log fat, and prune no better. */
const TEXT_STAT_LENGTH_MAX = 64;
/** DuckDB may show control characters as escapes, which are no bound then. */
const UNSAFE_TEXT = /[\p{Cc}\\]/u;

/**
 * Delta's `stats`, as JSON. A bound that can't be told exactly is left out, which is always right:
 * readers then read the file. Written as text, since 64-bit integers don't fit JS numbers.
 */
export function deltaStats(
  rowCount: string,
  columns: readonly ColumnNode[],
  statistics: ReadonlyMap<string, ColumnStatistics>,
): string {
  const minValues: string[] = [];
  const maxValues: string[] = [];
  const nullCounts: string[] = [];
  for (const { name, type } of columns) {
    const found = statistics.get(`"${name}"`);
    if (found === undefined) continue;
    const key = JSON.stringify(name);
    const nullCount = found.get("null_count");
    if (nullCount !== undefined) nullCounts.push(`${key}:${nullCount}`);
    const min = bound(type, found.get("min"));
    const max = bound(type, found.get("max"));
    if (min === null || max === null || found.get("has_nan") === "true") continue;
    minValues.push(`${key}:${min}`);
    maxValues.push(`${key}:${max}`);
  }
  return (
    `{"numRecords":${rowCount},"minValues":{${minValues.join(",")}},` +
    `"maxValues":{${maxValues.join(",")}},"nullCount":{${nullCounts.join(",")}}}`
  );
}

/** A bound as JSON text, or null where there is none that every reader understands. */
function bound(type: ColumnType, text: string | undefined): string | null {
  if (text === undefined) return null;
  switch (type.kind) {
    case "int":
    case "bigint":
      return text;
    case "decimal":
      // DuckDB writes decimal(2,2) as ".25", which is not JSON.
      return text.replace(/^(-?)\./, "$10.");
    case "double":
      return Number.isFinite(Number(text)) ? JSON.stringify(Number(text)) : null;
    case "string":
      return text.length <= TEXT_STAT_LENGTH_MAX && !UNSAFE_TEXT.test(text)
        ? JSON.stringify(text)
        : null;
    case "timestamp":
      return timestampBound(text);
    default:
      return null;
  }
}

/**
 * `2024-01-01 00:00:00.123+00` → `"2024-01-01T00:00:00.123Z"`. Our timestamps are whole
 * milliseconds, as Delta wants a maximum rounded up to. Years beyond four digits have no bound.
 */
function timestampBound(text: string): string | null {
  const match = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d{1,3})?\+00$/.exec(text);
  if (match === null) return null;
  const [, date, time, fraction = "."] = match;
  return `"${date}T${time}${fraction.padEnd(4, "0")}Z"`;
}
