/** Results on S3 as a local output, read by DuckDB over S3 alone: for checks that want a file. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { quoteName, quoteText } from "../../../lib/sinks/duckdb-types.js";
import { extensionDirectory, localHttpfs } from "../../../lib/stores/duckdb-extension.js";

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Attaches the pipeline's database over S3, read-only, and copies every table and view that it
 * shows into `<out>/results.duckdb`. Returns which of them are views.
 */
export async function fetchResults(pipeline: string, env: Env, out: string): Promise<string[]> {
  await mkdir(out, { recursive: true });
  const instance = await DuckDBInstance.create(join(out, "results.duckdb"), {
    threads: "1",
    extension_directory: await localHttpfs(extensionDirectory(process.env)),
  });
  try {
    const connection = await instance.connect();
    const endpoint = new URL(env.AWS_ENDPOINT_URL_S3!).host;
    const { MILLPOND_BUCKET: bucket, MILLPOND_PREFIX: prefix = "" } = env;
    const uri = `s3://${bucket}/${prefix}databases/${pipeline}.duckdb`;
    for (const sql of [
      "SET TimeZone = 'UTC'",
      "LOAD httpfs",
      `CREATE SECRET (TYPE s3, KEY_ID 'test', SECRET 'test', REGION 'us-east-1', ` +
        `ENDPOINT ${quoteText(endpoint)}, USE_SSL false, URL_STYLE 'path')`,
      `ATTACH ${quoteText(uri)} AS remote (READ_ONLY)`,
    ]) {
      await connection.run(sql);
    }
    const reader = await connection.runAndReadAll(
      "SELECT table_name, table_type FROM information_schema.tables " +
        "WHERE table_catalog = 'remote' AND table_schema = 'main'",
    );
    const views: string[] = [];
    for (const [name, type] of reader.getRows()) {
      const table = quoteName(String(name));
      await connection.run(`CREATE TABLE main.${table} AS FROM remote.main.${table}`);
      if (type === "VIEW") views.push(String(name));
    }
    return views;
  } finally {
    instance.closeSync();
  }
}
