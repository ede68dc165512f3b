/** A lake table as SQL over its live files: the latest revision of each row, none withdrawn. */
import { nameList, quoteName, quoteText } from "./duckdb-types.js";
import { isRevised } from "./layouts.js";
import type { TableLayout } from "./sink.js";

/**
 * A lake keeps every revision; this shows the last of each row, like a database does. `files` are
 * paths or URIs, at least one. Without a layout: all rows and columns as they are.
 */
export function lakeTableSql(files: readonly string[], layout: TableLayout | undefined): string {
  const source = parquetSource(files);
  if (layout === undefined) return `SELECT * FROM ${source}`;
  if (isRevised(layout)) return latestSql(source, layout);
  return `SELECT ${nameList(layout.columns)} FROM ${source}`;
}

/** Parquet files as something to select from. */
export function parquetSource(files: readonly string[]): string {
  return `read_parquet([${files.map(quoteText).join(", ")}], hive_partitioning = false)`;
}

/** Of a source with all revisions and `retracted`, the rows as they stand. */
export function latestSql(source: string, layout: TableLayout): string {
  const key = layout.key.map(quoteName).join(", ");
  return (
    `SELECT ${nameList(layout.columns)} FROM (SELECT *, row_number() OVER (PARTITION BY ${key} ` +
    `ORDER BY revision DESC) AS millpond_rank FROM ${source}) ` +
    "WHERE millpond_rank = 1 AND NOT retracted"
  );
}
