/** A lake table as SQL over its live files: the latest revision of each row, none withdrawn. */
import { nameList, quoteName, quoteText } from "./duckdb-types.js";
import { isRevised } from "./layouts.js";
import type { TableLayout } from "./sink.js";

/**
 * A lake keeps every revision; this shows the last of each row, like a database does. `files` are
 * paths or URIs, at least one. Without a layout: all rows and columns as they are.
 */
export function lakeTableSql(files: readonly string[], layout: TableLayout | undefined): string {
  const source = `read_parquet([${files.map(quoteText).join(", ")}], hive_partitioning = false)`;
  if (layout === undefined) return `SELECT * FROM ${source}`;
  const select = `SELECT ${nameList(layout.columns)} FROM ${source}`;
  if (!isRevised(layout)) return select;
  const key = layout.key.map(quoteName).join(", ");
  return (
    `SELECT ${nameList(layout.columns)} FROM (SELECT *, row_number() OVER (PARTITION BY ${key} ` +
    `ORDER BY revision DESC) AS millpond_rank FROM ${source}) ` +
    "WHERE millpond_rank = 1 AND NOT retracted"
  );
}
