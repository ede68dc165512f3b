/**
 * What a changed definition would change: the batch SQL of both over the same bronze, and their
 * tables held against each other. Nothing is run, and nothing of the output is written.
 */
import type { DuckDBConnection } from "@duckdb/node-api";
import type { ColumnNode, Pipeline, PipelineDefinition } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { referenceFiles } from "../runtime/references.js";
import { quoteName } from "../sinks/duckdb-types.js";
import { tableLayouts } from "../sinks/layouts.js";
import type { TableLayout } from "../sinks/sink.js";
import { textSql } from "./audit.js";
import { runBatch } from "./batch.js";
import { batchSteps } from "./batch-sql.js";
import { differencesSql } from "./compare-sql.js";
import { keyOf, recomputedColumns } from "./explain.js";
import type { AuditPlace } from "./published.js";
import { type Cells, rowsOf } from "./rows.js";

export interface DiffReport {
  readonly equal: boolean;
  /** In bronze. */
  readonly records: number;
  readonly tables: readonly TableDiff[];
}

export interface TableDiff {
  readonly table: string;
  /** Only the old (new) definition has it; or its rows have another key, so none is another's. */
  readonly kind: "same" | "removed" | "added" | "rekeyed" | "changed";
  /** Rows by the old and by the new definition; null where that has no such table. */
  readonly before: number | null;
  readonly after: number | null;
  readonly addedRows: number;
  readonly removedRows: number;
  readonly changedRows: number;
  /** In words: columns that come, go, or change their type. */
  readonly schema: readonly string[];
  readonly examples: readonly RowDiff[];
}

export interface RowDiff {
  readonly kind: "added" | "removed" | "changed";
  readonly key: readonly { readonly column: string; readonly value: string }[];
  readonly columns: readonly {
    readonly column: string;
    readonly before: string | null;
    readonly after: string | null;
  }[];
}

/**
 * @throws MillpondError USAGE when the definitions have no stream in common, OUTPUT when bronze
 *   lacks records that were read, QUERY when DuckDB fails
 * @example
 * const report = await diff(place, { before: oldPipeline, after: newPipeline, examples: 3 });
 */
export async function diff(
  place: Pick<AuditPlace, "connection" | "bronze" | "read">,
  options: { readonly before: Pipeline; readonly after: Pipeline; readonly examples: number },
): Promise<DiffReport> {
  const { connection, bronze } = place;
  const { before, after, examples } = options;
  const known = new Set(before.definition.streams.map(({ name }) => name));
  if (!after.definition.streams.some(({ name }) => known.has(name))) {
    throw new MillpondError(
      "USAGE",
      `the definitions have no stream in common (${[...known].join(", ")} before): give two ` +
        "versions of one pipeline",
    );
  }
  const records = await wholeBronze(place);
  await compute(connection, bronze, before, "before");
  await compute(connection, bronze, after, "after");
  const [old, next] = [before, after].map(({ definition }) => layoutsOf(definition));
  const names = [...new Set([...next!.keys(), ...old!.keys()])];
  const tables: TableDiff[] = [];
  for (const name of names) {
    tables.push(await tableDiff(connection, name, old!.get(name), next!.get(name), examples));
  }
  return { equal: tables.every(({ kind }) => kind === "same"), records, tables };
}

/** Its number of records. Of records that are not there no definition would say anything. */
async function wholeBronze({
  connection,
  bronze,
  read,
}: Pick<AuditPlace, "connection" | "bronze" | "read">): Promise<number> {
  const [row] = await rowsOf(connection, `SELECT count(*) AS n FROM ${bronze}`);
  const found = Number(row!.n);
  const expected = read?.reduce((sum, { records }) => sum + records, 0) ?? found;
  if (found === expected) return found;
  throw new MillpondError(
    "OUTPUT",
    `bronze holds ${found} of the ${expected} records that were read: what a change does to the ` +
      "others cannot be told. `millpond audit` shows which partitions lack some; restore the " +
      "lake's files, or process the input again into a new --out",
  );
}

/** The tables of one definition, in schema `name`. */
async function compute(
  connection: DuckDBConnection,
  bronze: string,
  pipeline: Pipeline,
  name: "before" | "after",
): Promise<void> {
  const references = referenceFiles(pipeline);
  const { definition, functions } = pipeline;
  await runBatch(connection, batchSteps(definition, { bronze, references }), functions);
  await connection.run(`CREATE SCHEMA "${name}"`);
  for (const { name: table, kind } of layoutsOf(definition).values()) {
    const from = `main.${quoteName(table)}`;
    await connection.run(`CREATE TABLE "${name}".${quoteName(table)} AS FROM ${from}`);
    await connection.run(`DROP ${kind === "rows" ? "VIEW" : "TABLE"} ${from}`);
  }
  await connection.run("DROP SCHEMA work CASCADE");
}

function layoutsOf(definition: PipelineDefinition): Map<string, TableLayout> {
  const layouts = tableLayouts(definition).filter(({ kind }) => kind !== "bronze");
  return new Map(layouts.map((layout) => [layout.name, layout]));
}

/** What the recomputation makes, and of a late event not by how much it was late. */
function computedColumns(layout: TableLayout): ColumnNode[] {
  const { kind, columns } = layout;
  // Behind `late` stand the columns that the product adds.
  const added = columns.slice(columns.findIndex(({ name }) => name === "late"));
  const isAddedTime = (column: ColumnNode) =>
    kind === "rows" && column.name === "event_time" && added.includes(column);
  const lateness = kind === "late" ? ["event_time", "watermark"] : [];
  return recomputedColumns(layout).filter(
    (column) => !isAddedTime(column) && !lateness.includes(column.name),
  );
}

async function tableDiff(
  connection: DuckDBConnection,
  table: string,
  before: TableLayout | undefined,
  after: TableLayout | undefined,
  count: number,
): Promise<TableDiff> {
  const rows = async (schema: string, layout: TableLayout | undefined) => {
    if (layout === undefined) return null;
    const reader = await connection.runAndReadAll(
      `SELECT count(*) FROM "${schema}".${quoteName(table)}`,
    );
    return Number(reader.getRows()[0]?.[0]);
  };
  const counts = { before: await rows("before", before), after: await rows("after", after) };
  const none = { addedRows: 0, removedRows: 0, changedRows: 0, schema: [], examples: [] };
  if (before === undefined) return { table, kind: "added", ...counts, ...none };
  if (after === undefined) return { table, kind: "removed", ...counts, ...none };
  const schema = schemaDiff(before, after);
  const key = keyOf(after);
  if (key.join() !== keyOf(before).join() || before.kind !== after.kind) {
    return { table, kind: "rekeyed", ...counts, ...none, schema };
  }
  const shared = computedColumns(after).filter(({ name, type }) =>
    before.columns.some((c) => c.name === name && JSON.stringify(c.type) === JSON.stringify(type)),
  );
  const differences = `"after".${quoteName(`differences of ${table}`)}`;
  const sides = ["before", "after"].map((side) => `"${side}".${quoteName(table)}`);
  // Both sides are computed alike, but sums of doubles may be folded in another order.
  const tolerance = { relative: 1e-9, absolute: 1e-9 };
  const doubles = shared.filter(({ type }) => type.kind === "double");
  const sql = differencesSql({
    left: sides[0]!,
    right: sides[1]!,
    key,
    columns: shared,
    tolerances: Object.fromEntries(doubles.map(({ name }) => [name, tolerance])),
    repeats: false,
  });
  await connection.run(`CREATE TABLE ${differences} AS ${sql}`);
  const [sums] = await rowsOf(
    connection,
    `SELECT count(*) FILTER (kind = 'missing') AS added,
      count(*) FILTER (kind = 'extra') AS removed,
      count(*) FILTER (kind = 'different') AS changed FROM ${differences}`,
  );
  const [addedRows, removedRows, changedRows] = [sums!.added, sums!.removed, sums!.changed].map(
    Number,
  );
  const examples = await rowDiffs(connection, differences, after, key, shared, count);
  const differ = addedRows! + removedRows! + changedRows! + schema.length > 0;
  return {
    table,
    kind: differ ? "changed" : "same",
    ...counts,
    addedRows: addedRows!,
    removedRows: removedRows!,
    changedRows: changedRows!,
    schema,
    examples,
  };
}

function schemaDiff(before: TableLayout, after: TableLayout): string[] {
  const text = ({ type, nullable }: ColumnNode) => {
    const kind = type.kind === "list" ? `list of ${type.element.kind}` : type.kind;
    return nullable ? `${kind} or null` : kind;
  };
  const old = new Map(before.columns.map((column) => [column.name, column]));
  const next = new Map(after.columns.map((column) => [column.name, column]));
  const changes: string[] = [];
  for (const [name, column] of next) {
    const was = old.get(name);
    if (was === undefined) changes.push(`+ ${name} ${text(column)}`);
    else if (JSON.stringify(was.type) !== JSON.stringify(column.type)) {
      changes.push(`~ ${name} ${text(was)} → ${text(column)}`);
    }
  }
  for (const [name, column] of old) if (!next.has(name)) changes.push(`- ${name} ${text(column)}`);
  const [a, b] = [keyOf(before), keyOf(after)].map((key) => key.join(", "));
  if (a !== b) changes.push(`~ a row's key (${a}) → (${b})`);
  return changes;
}

const KINDS = { missing: "added", extra: "removed", different: "changed" } as const;

/** Changed rows first: they say more than rows that come and go. */
async function rowDiffs(
  connection: DuckDBConnection,
  differences: string,
  layout: TableLayout,
  key: readonly string[],
  columns: readonly ColumnNode[],
  count: number,
): Promise<RowDiff[]> {
  const kinds = new Map(layout.columns.map(({ name, type }) => [name, type.kind]));
  const cells = [
    ...key.map((name, i) => textSql(`k${i}`, kinds.get(name))),
    ...columns.flatMap(({ type }, i) =>
      ["l", "r"].map((side) => textSql(`${side}${i}`, type.kind)),
    ),
  ];
  const rows = await rowsOf(
    connection,
    `SELECT kind, ${cells.map((cell, i) => `${cell} AS s${i}`).join(", ")} FROM ${differences}
    ORDER BY kind = 'different' DESC, ${key.map((_, i) => `k${i}`).join(", ")} LIMIT ${count}`,
  );
  const cell = (row: Cells, i: number) => (row[`s${i}`] === null ? null : String(row[`s${i}`]));
  return rows.map((row) => {
    const found = Object.entries(KINDS).find(([name]) => name === row.kind);
    const kind = found?.[1] ?? "changed";
    const pairs = columns.map(({ name }, i) => ({
      column: name,
      before: cell(row, key.length + 2 * i),
      after: cell(row, key.length + 2 * i + 1),
    }));
    return {
      kind,
      key: key.map((column, i) => ({ column, value: cell(row, i) ?? "NULL" })),
      columns: kind === "changed" ? pairs.filter(({ before, after }) => before !== after) : pairs,
    };
  });
}
