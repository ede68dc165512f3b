/**
 * Reads tables out of Snowflake (or its stand-in) by Snowflake's driver, with none of the sink's
 * code: values as the text that sink tests compare.
 */
import { readFileSync } from "node:fs";
import snowflake from "snowflake-sdk";
import type { ColumnNode, ColumnType } from "../../lib/define/definition.js";
import type { RowValue } from "../../lib/engine/batch.js";
import type { TableLayout } from "../../lib/sinks/sink.js";

type PlainRow = (string | null)[];
type Env = Readonly<Record<string, string>>;

/** Rows of any query, each value as text. */
export async function querySnowflake(env: Env, sqlText: string): Promise<PlainRow[]> {
  snowflake.configure({ logLevel: "OFF", additionalLogToConsole: false });
  const connection = snowflake.createConnection({
    accessUrl: env.SNOWFLAKE_ACCESS_URL,
    account: env.SNOWFLAKE_ACCOUNT ?? "",
    username: env.SNOWFLAKE_USER,
    authenticator: "SNOWFLAKE_JWT",
    privateKey: readFileSync(env.SNOWFLAKE_PRIVATE_KEY_PATH ?? "", "utf8"),
    database: env.SNOWFLAKE_DATABASE,
    schema: env.SNOWFLAKE_SCHEMA,
    fetchAsString: ["Number"],
    rowMode: "array",
  });
  await new Promise<void>((resolve, reject) =>
    connection.connect((error) => (error ? reject(error) : resolve())),
  );
  try {
    return await new Promise((resolve, reject) =>
      connection.execute({
        sqlText,
        complete: (error, _statement, rows = []) =>
          error
            ? reject(error)
            : resolve(
                rows.map((row: unknown[]) => row.map((v) => (v === null ? null : String(v)))),
              ),
      }),
    );
  } finally {
    await new Promise((resolve) => connection.destroy(resolve));
  }
}

/** All rows of a table in the form of `plain`, or what `select` asks for in DuckDB's words. */
export function readSnowflake(env: Env, layout: TableLayout, select?: string): Promise<PlainRow[]> {
  const upper = (name: string) => name.replace(/[a-z]/g, (letter) => letter.toUpperCase());
  // The stand-in sums up to a double.
  const columns =
    select === undefined
      ? layout.columns.map((column) => plainSql(upper(column.name), column)).join(", ")
      : select.replace(/"[^"]*"/g, upper).replace(/sum\(\w+\)/g, "$&::NUMBER(38,0)");
  return querySnowflake(env, `SELECT ${columns} FROM "${upper(layout.name)}"`);
}

function plainSql(name: string, { type }: ColumnNode): string {
  const column = `"${name}"`;
  switch (type.kind) {
    case "timestamp":
      return `DATE_PART(EPOCH_MILLISECOND, ${column})::VARCHAR AS ${column}`;
    case "bytes":
      return `LOWER(HEX_ENCODE(${column})) AS ${column}`;
    case "list":
    case "topK":
      return `TO_JSON(${column}) AS ${column}`;
    default:
      return `${column}::VARCHAR AS ${column}`;
  }
}

const FIRST_MS = Date.parse("0001-01-01T00:00:00Z");
const LAST_MS = Date.parse("9999-12-31T23:59:59.999Z");

/** What the sink keeps of a value: instants of years 1 to 9999; beyond, the nearer end. */
export function snowflakeStored({ kind }: ColumnType, value: RowValue): RowValue {
  if (kind !== "timestamp" || value === null) return value;
  return Math.min(Math.max(Number(value), FIRST_MS), LAST_MS);
}
