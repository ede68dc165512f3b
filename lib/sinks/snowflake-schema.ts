/** Which tables the Snowflake sink makes, widens or refuses, as a decision over what it found. */
import { MillpondError } from "../errors.js";
import type { TableLayout } from "./sink.js";
import { addColumns, createTables, resultColumns, upperName } from "./snowflake-sql.js";

/** What the schema has. */
export interface FoundTables {
  /** Of all tables, as stored. */
  readonly names: ReadonlySet<string>;
  /** `Remembered` as JSON: the tables that this sink made, and of which columns. */
  readonly remembered: string;
}

type Remembered = Readonly<Record<string, readonly string[]>>;

export interface TablesPlan {
  /** To be stored before the statements run. */
  readonly remembered: string;
  readonly statements: readonly string[];
}

/**
 * Tables that are missing are made; columns that were added and may be null are added; tables of
 * others, and other changes, are refused. Tables that the pipeline no longer has stay as they are.
 *
 * @throws MillpondError OUTPUT
 */
export function planTables(layouts: readonly TableLayout[], found: FoundTables): TablesPlan {
  const before = parseRemembered(found.remembered);
  const after: Record<string, readonly string[]> = { ...before };
  const statements: string[] = [];
  for (const layout of layouts) {
    const columns = resultColumns(layout);
    const had = before[layout.name];
    const isThere = found.names.has(upperName(layout.name));
    after[layout.name] = columns;
    if (had === undefined && isThere) throw notOurs(layout);
    if (!isThere || !found.names.has(`MILLPOND_STAGE_${upperName(layout.name)}`)) {
      statements.push(...createTables(layout));
    }
    if (had !== undefined) statements.push(...addColumns(layout, addedColumns(layout, had)));
  }
  return { remembered: JSON.stringify(after), statements };
}

/** Names of columns that the table lacks. */
function addedColumns(layout: TableLayout, had: readonly string[]): ReadonlySet<string> {
  const columns = resultColumns(layout);
  const added = layout.columns.filter((_, index) => !had.includes(columns[index]!));
  const kept = columns.filter((column) => had.includes(column));
  if (kept.length < had.length || added.some(({ nullable }) => !nullable)) {
    throw new MillpondError(
      "OUTPUT",
      `Table "${layout.name}" in Snowflake has the columns (${had.join(", ")}), but the ` +
        `definition now asks for (${columns.join(", ")}). Columns that may be null are added; ` +
        "for anything else set SNOWFLAKE_SCHEMA to a new schema and process the input again.",
    );
  }
  return new Set(added.map(({ name }) => name));
}

function notOurs({ name }: TableLayout): MillpondError {
  return new MillpondError(
    "OUTPUT",
    `The Snowflake schema has a table "${upperName(name)}" that Millpond did not make. Set ` +
      "SNOWFLAKE_SCHEMA to a schema of this pipeline's own, or rename the table.",
  );
}

function parseRemembered(text: string): Remembered {
  const parsed: unknown = JSON.parse(text);
  const entries = typeof parsed === "object" && parsed !== null ? Object.entries(parsed) : [];
  return Object.fromEntries(
    entries.map(([name, columns]) => [name, Array.isArray(columns) ? columns.map(String) : []]),
  );
}
