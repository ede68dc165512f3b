/** What psql reads of a table, and what PostgreSQL keeps of values that it cannot hold. */
import type { ColumnNode, ColumnType } from "../../lib/define/definition.js";
import type { RowValue } from "../../lib/engine/batch.js";
import type { TableLayout } from "../../lib/sinks/sink.js";
import { run } from "../servers/cache.js";
import { plain } from "./sinks-batches.js";
import type { StoredValue } from "./sinks-script.js";

type PlainRow = (string | null)[];
type Env = Readonly<Record<string, string>>;

const OUTPUT_BYTES_MAX = 256 * 1024 * 1024;
/** 4714-11-24 BC. */
const FIRST_MS = -210_866_803_200_000;

/** Rows of texts, one JSON array each, so that any text may be in them. */
export async function queryPsql(env: Env, sql: string): Promise<PlainRow[]> {
  const args = ["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql];
  const { stdout } = await run("psql", args, {
    env: { ...process.env, ...env },
    maxBuffer: OUTPUT_BYTES_MAX,
  });
  const lines = stdout.split("\n").filter((line) => line !== "");
  return lines.map((line): PlainRow => JSON.parse(line));
}

/** A table's rows in `plain` form, or what a `select` in DuckDB's and PostgreSQL's SQL gives. */
export async function readPostgres(
  env: Env,
  schema: string,
  layout: TableLayout,
  select?: string,
): Promise<PlainRow[]> {
  const quoted = [schema, layout.name].map((name) => `"${name.replaceAll('"', '""')}"`);
  if (select !== undefined) {
    const inner = `SELECT ${select} FROM ${quoted.join(".")}`;
    const values = "SELECT json_agg(value) FROM json_each_text(to_json(r))";
    const rows = `SELECT (${values}) FROM (${inner}) r`;
    // Two columns of one name would be one: the callers' are not.
    return queryPsql(env, rows);
  }
  const texts = layout.columns.map(textSql).join(", ");
  const rows = await queryPsql(env, `SELECT json_build_array(${texts}) FROM ${quoted.join(".")}`);
  return rows.map((row) => row.map((text, index) => plainText(layout.columns[index]!.type, text)));
}

function textSql({ name, type }: ColumnNode): string {
  const column = `"${name.replaceAll('"', '""')}"`;
  switch (type.kind) {
    case "timestamp":
      return `CASE WHEN isfinite(${column})
        THEN (extract(epoch FROM ${column}) * 1000)::bigint::text ELSE ${column}::text END`;
    case "bytes":
      return `encode(${column}, 'hex')`;
    case "list":
      return `to_json(${column})::text`;
    default:
      return `${column}::text`;
  }
}

/** PostgreSQL's text of a value in the form of `plain`. */
function plainText(type: ColumnType, text: string | null): string | null {
  if (text === null) return null;
  switch (type.kind) {
    case "double":
      return plain(type, Number(text));
    case "decimal":
      return type.precision === type.scale ? text.replace(/^(-?)0\./, "$1.") : text;
    case "list":
      return JSON.stringify(JSON.parse(text));
    case "topK":
      return JSON.stringify(
        JSON.parse(text).map(({ value, count }: Record<string, unknown>) => ({ value, count })),
      );
    default:
      return text;
  }
}

/** As docs/pipelines.md says: U+0000 is written ␀0, and what is before 4714 BC -infinity. */
export const storedInPostgres: StoredValue = (type, value): RowValue => {
  if (typeof value === "string") return value.replaceAll("␀", "␀␀").replaceAll("\0", "␀0");
  if (type.kind === "timestamp" && Number(value) < FIRST_MS) return "-infinity";
  return value;
};
