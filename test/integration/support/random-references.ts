/** Reference tables for random pipelines, as files of each format: with nulls, and typed keys. */
import * as path from "node:path";
import type { DuckDBConnection } from "@duckdb/node-api";
import type { ColumnNode, ColumnType, ReferenceNode } from "../../../lib/define/definition.js";
import { quoteText } from "../../../lib/sinks/duckdb-types.js";
import { TEXTS } from "./random-expressions.js";

const column = (name: string, type: ColumnType): ColumnNode => ({ name, type, nullable: true });
const VALUES: readonly ColumnNode[] = [
  column("label", { kind: "string" }),
  column("weight", { kind: "double" }),
  column("price", { kind: "decimal", precision: 9, scale: 2 }),
  column("since", { kind: "timestamp" }),
];
/** Of row `i`; every third or fourth value is null. */
const VALUES_SQL = `CASE WHEN i % 4 <> 1 THEN 'label ' || i % 3 END AS label,
  CASE WHEN i % 3 <> 2 THEN i / 8 - 1 END AS weight,
  CASE WHEN i % 4 <> 2 THEN (i * 1.25 - 3)::DECIMAL(9,2) END AS price,
  CASE WHEN i % 3 <> 1 THEN make_timestamptz((1772323080000 + i * 977) * 1000) END AS since`;

interface Table {
  readonly node: ReferenceNode;
  /** Its key columns, of row `i` of so many. */
  readonly keys: string;
  readonly rows: number;
}

function tables(dir: string): Table[] {
  // CSV has no empty text beside null.
  const texts = `[${TEXTS.slice(1).map(quoteText).join(", ")}]`;
  const node = (name: string, format: ReferenceNode["format"], keys: readonly ColumnNode[]) => ({
    name,
    format,
    path: path.join(dir, `${name}.${format}`),
    columns: [...keys, ...VALUES],
  });
  const text = column("key", { kind: "string" });
  const int = column("key", { kind: "int" });
  const two = [column("key_id", { kind: "bigint" }), column("key_on", { kind: "boolean" })];
  const time = column("key", { kind: "timestamp" });
  return [
    { node: node("texts", "csv", [text]), keys: `${texts}[i + 1] AS "key"`, rows: 7 },
    { node: node("numbers", "json", [int]), keys: `(i - 8)::INTEGER AS "key"`, rows: 30 },
    {
      node: node("pairs", "parquet", two),
      keys: "i // 2 AS key_id, i % 2 = 0 AS key_on",
      rows: 90,
    },
    {
      node: node("times", "parquet", [time]),
      keys: `make_timestamptz((1772323080000 + i * 1000) * 1000) AS "key"`,
      rows: 240,
    },
  ];
}

/** Writes the files to `dir`. */
export async function writeReferences(
  connection: DuckDBConnection,
  dir: string,
): Promise<ReferenceNode[]> {
  const made = tables(dir);
  for (const { node, keys, rows } of made) {
    await connection.run(`COPY (SELECT ${keys}, ${VALUES_SQL} FROM range(${rows}) AS r(i))
      TO ${quoteText(node.path)} (FORMAT ${node.format})`);
  }
  return made.map(({ node }) => node);
}
