/**
 * What the sink's tables in PostgreSQL must look like, and by which statements what is there
 * becomes that: decisions over facts, as SQL text. Running it is the sink's.
 */
import type { ColumnNode, ColumnType } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { isRevised } from "./layouts.js";
import type { TableLayout } from "./sink.js";

/** Longer names PostgreSQL cuts off without a word. */
export const NAME_BYTES_MAX = 63;

/** The table of the sink's own progress. */
export const PROGRESS = "millpond_progress";

/** A column as it is in the database. */
export interface FoundColumn {
  readonly name: string;
  /** As `format_type` writes it, e.g. "numeric(4,2)". */
  readonly type: string;
  readonly notNull: boolean;
}

export interface FoundTable {
  readonly columns: readonly FoundColumn[];
  /** Columns of each of its primary and unique keys. */
  readonly keys: readonly (readonly string[])[];
}

/** An identifier, quoted: the one place where names become SQL. */
export function quoteName(name: string): string {
  if (Buffer.byteLength(name) <= NAME_BYTES_MAX) return `"${name.replaceAll('"', '""')}"`;
  throw new MillpondError(
    "DEFINITION",
    `PostgreSQL takes names of at most ${NAME_BYTES_MAX} bytes, and "${name}" is longer: rename ` +
      "it, or leave its table out with postgres({ tables: […] })",
  );
}

/** Quoted names, separated by commas. */
export function nameList(names: readonly string[]): string {
  return names.map(quoteName).join(", ");
}

/** As `format_type` writes it. */
export function postgresType(type: ColumnType): string {
  switch (type.kind) {
    case "string":
      return "text";
    case "boolean":
      return "boolean";
    case "int":
      return "integer";
    case "bigint":
      return "bigint";
    case "double":
      return "double precision";
    case "decimal":
      return `numeric(${type.precision},${type.scale})`;
    case "timestamp":
      return "timestamp with time zone";
    case "bytes":
      return "bytea";
    case "list":
      return `${postgresType(type.element)}[]`;
    case "topK":
      return "jsonb";
  }
}

/** Columns that identify a row: a revised table's key; else where the row's record was. */
export function keyOf(layout: TableLayout): readonly string[] {
  if (isRevised(layout)) return layout.key;
  const origin = ["topic", "partition", "offset"];
  return layout.kind === "late" ? ["table", ...origin] : origin;
}

/**
 * The statements that bring a table to its layout; none when it is as it should be.
 *
 * @param found null when there is none yet
 * @throws MillpondError OUTPUT when rows that are there would not fit, with what to do
 */
export function tableStatements(
  schema: string,
  layout: TableLayout,
  found: FoundTable | null,
): readonly string[] {
  const table = `${quoteName(schema)}.${quoteName(layout.name)}`;
  if (found === null) return [createTable(table, layout)];
  const key = [...keyOf(layout)].sort().join(", ");
  if (!found.keys.some((other) => [...other].sort().join(", ") === key)) {
    const keys = found.keys.map((other) => `(${other.join(", ")})`).join(" and ");
    throw notMigrated(schema, layout.name, `the key ${keys}, but the pipeline's is (${key})`);
  }
  const byName = new Map(found.columns.map((column) => [column.name, column]));
  const kept = new Set(layout.columns.map(({ name }) => name));
  const changes = [
    ...layout.columns.flatMap((node) => columnChanges(schema, layout, node, byName)),
    // What the pipeline no longer has stays, for the rows that have it.
    ...found.columns
      .filter(({ name, notNull }) => notNull && !kept.has(name))
      .map(({ name }) => `ALTER COLUMN ${quoteName(name)} DROP NOT NULL`),
  ];
  return changes.length === 0 ? [] : [`ALTER TABLE ${table} ${changes.join(", ")}`];
}

/**
 * Keys compare byte by byte, as they do in the pipeline: faster than by a language's rules, and an
 * operating system's update of those rules does not break the index.
 */
function createTable(table: string, layout: TableLayout): string {
  const key = keyOf(layout);
  const isKey = new Set(key);
  const columns = layout.columns.map(({ name, type, nullable }) => {
    const collation = isKey.has(name) && type.kind === "string" ? ' COLLATE "C"' : "";
    return `${quoteName(name)} ${postgresType(type)}${collation}${nullable ? "" : " NOT NULL"}`;
  });
  // A primary key takes no nulls, and a group column may be null.
  const hasNulls = layout.columns.some(({ name, nullable }) => nullable && isKey.has(name));
  const constraint = hasNulls ? "UNIQUE NULLS NOT DISTINCT" : "PRIMARY KEY";
  return `CREATE TABLE ${table} (${columns.join(", ")}, ${constraint} (${nameList(key)}))`;
}

function columnChanges(
  schema: string,
  layout: TableLayout,
  { name, type, nullable }: ColumnNode,
  found: ReadonlyMap<string, FoundColumn>,
): readonly string[] {
  const column = quoteName(name);
  const wanted = postgresType(type);
  const existing = found.get(name);
  // Rows that are there have no value for it.
  if (existing === undefined) return [`ADD COLUMN ${column} ${wanted}`];
  const changes: string[] = [];
  if (existing.type !== wanted) {
    if (!isWider(existing.type, type)) {
      const types = `column "${name}" of type ${existing.type}, but the pipeline's is ${wanted}`;
      throw notMigrated(schema, layout.name, types);
    }
    changes.push(`ALTER COLUMN ${column} TYPE ${wanted}`);
  }
  if (existing.notNull && nullable) {
    if (keyOf(layout).includes(name)) {
      throw notMigrated(schema, layout.name, `no nulls in its key column "${name}"`);
    }
    changes.push(`ALTER COLUMN ${column} DROP NOT NULL`);
  }
  return changes;
}

/** Whether every value of the type `from` is also one of `to`. */
function isWider(from: string, to: ColumnType): boolean {
  if (to.kind === "bigint") return from === "integer";
  if (to.kind === "double") return from === "integer";
  if (to.kind !== "decimal") return false;
  if (from === "integer") return to.precision - to.scale >= 10;
  const decimal = /^numeric\((\d+),(\d+)\)$/.exec(from);
  if (decimal === null) return false;
  const [precision, scale] = [Number(decimal[1]), Number(decimal[2])];
  return to.scale >= scale && to.precision - to.scale >= precision - scale;
}

function notMigrated(schema: string, table: string, found: string): MillpondError {
  return new MillpondError(
    "OUTPUT",
    `table "${table}" in schema "${schema}" has ${found}. Rows that are there cannot be changed ` +
      'to that: give the changed pipeline another schema, postgres({ schema: "…" }), and process ' +
      "the input again into a new output",
  );
}
