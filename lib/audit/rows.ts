/** Query results off the hot path, as rows of JSON values: numbers beyond doubles come as text. */
import type { DuckDBConnection } from "@duckdb/node-api";

export type Cells = Readonly<Record<string, unknown>>;

export async function rowsOf(connection: DuckDBConnection, sql: string): Promise<Cells[]> {
  return (await connection.runAndReadAll(sql)).getRowObjectsJson();
}
