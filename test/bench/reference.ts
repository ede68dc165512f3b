/**
 * Holds a run's results.duckdb against the peer benchmark's reference answers, row for row, so that
 * a fast wrong answer is no benchmark result. The answers are DATA/ref/w1.parquet … w4.parquet.
 */
import { join } from "node:path";
import { type DuckDBConnection, DuckDBInstance } from "@duckdb/node-api";
import { quoteName, quoteText } from "../../lib/sinks/duckdb-types.js";
import { readRows } from "../reference/rows.js";

export type Workload = "w1" | "w2" | "w3" | "w4";

export interface Verification {
  readonly agrees: boolean;
  readonly rows: number;
  readonly expectedRows: number;
  /** MD5 over the rows in order, as the other engines' harness computes it. */
  readonly checksum: string;
  /** Up to five rows of each side that the other lacks; empty if they agree. */
  readonly report: string;
}

export interface VerifyOptions {
  /** Folder of the run: holds results.duckdb. */
  readonly outDir: string;
  /** Folder of the benchmark's data: holds ref/. */
  readonly dataDir: string;
  readonly workload: Workload;
  /** The result table. W1 and W4 need window_start, event_type, page, cnt, pv, users. */
  readonly table: string;
  /** SQL over the table's columns for the summed amount in cents (W1, W4). */
  readonly sumCents?: string;
  /** The answer's columns that the table has; all by default. */
  readonly columns?: readonly string[];
}

const EXAMPLES_MAX = 5;

const tumbling = (sumCents: string): Record<string, string> => ({
  window_start: "epoch_ms(window_start)",
  event_type: "event_type",
  page: "page",
  cnt: "cnt",
  pv: "pv",
  sum_cents: `coalesce(CAST(${sumCents} AS BIGINT), 0)`,
  users: "users",
});

/** The reference's columns in order, each with its SQL over our table. */
function columnsOf(workload: Workload, sumCents: string): Record<string, string> {
  switch (workload) {
    case "w1":
    case "w4":
      return tumbling(sumCents);
    case "w2":
      return {
        window_start: "epoch_ms(window_start)",
        event_type: "event_type",
        users: "users",
      };
    case "w3":
      return {
        user_id: "user_id",
        start_ms: "epoch_ms(session_start)",
        end_ms: "epoch_ms(session_end)",
        n: "n",
        pages: "pages",
      };
  }
}

/** Compares all rows; throws if the database, the table or the answers cannot be read. */
export async function verifyAgainstReference(options: VerifyOptions): Promise<Verification> {
  const { outDir, dataDir, workload, table } = options;
  const all = columnsOf(workload, options.sumCents ?? "sum_cents");
  const columns = options.columns ?? Object.keys(all);
  const names = columns.join(", ");
  const values = columns.map((name) => `${all[name]} AS ${name}`);
  const instance = await DuckDBInstance.create(":memory:", { threads: "2" });
  const connection = await instance.connect();
  try {
    const database = quoteText(join(outDir, "results.duckdb"));
    const answers = quoteText(join(dataDir, "ref", `${workload}.parquet`));
    await connection.run(`ATTACH ${database} AS results (READ_ONLY)`);
    await connection.run(
      `CREATE TABLE actual AS SELECT ${values.join(", ")} FROM results.main.${quoteName(table)}`,
    );
    await connection.run(`CREATE TABLE expected AS SELECT ${names} FROM read_parquet(${answers})`);
    const actual = await fingerprint(connection, "actual", names);
    const expected = await fingerprint(connection, "expected", names);
    const agrees = actual.rows === expected.rows && actual.checksum === expected.checksum;
    const missing = agrees ? [] : await rowsOnlyIn(connection, "expected", "actual");
    const extra = agrees ? [] : await rowsOnlyIn(connection, "actual", "expected");
    const report = [
      ...missing.map((row) => `missing ${row}`),
      ...extra.map((row) => `extra ${row}`),
    ].join("\n");
    return { ...actual, expectedRows: expected.rows, agrees, report };
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

async function fingerprint(
  connection: DuckDBConnection,
  table: string,
  names: string,
): Promise<{ rows: number; checksum: string }> {
  const lines = `string_agg(concat_ws('|', ${names}), chr(10) ORDER BY ${names})`;
  const [row] = await readRows(
    connection,
    `SELECT count(*) AS n, coalesce(md5(${lines}), '') AS checksum FROM ${table}`,
  );
  return { rows: Number(row.n), checksum: String(row.checksum) };
}

async function rowsOnlyIn(
  connection: DuckDBConnection,
  table: string,
  other: string,
): Promise<string[]> {
  const rows = await readRows(
    connection,
    `SELECT CAST(t AS VARCHAR) AS row FROM (FROM ${table} EXCEPT ALL FROM ${other}) AS t
     ORDER BY ALL LIMIT ${EXAMPLES_MAX}`,
  );
  return rows.map((row) => String(row.row));
}
