/** A table's steps (filter, derive, select, map, enrich) over one slice's batch. */
import type {
  ColumnNode,
  ColumnType,
  ExprNode,
  MapFunction,
  StepNode,
  TableNode,
} from "../define/definition.js";
import { expressionType } from "../define/expression-types.js";
import { MillpondError } from "../errors.js";
import type { Batch, Column } from "./batch.js";
import { gather } from "./columns.js";
import { byteRows, Dictionary, NULL_CODE } from "./dictionary.js";
import { compileExpression } from "./expressions.js";
import { columnFromValues, valueAt } from "./row-values.js";

/** The rows of a slice on their way through a table's steps. */
export interface Flow {
  readonly batch: Batch;
  readonly rows: Int32Array;
  readonly count: number;
  readonly eventOf: Int32Array | null;
}

type StepRunner = (flow: Flow) => Flow;

/** A reference table in memory, as `enrich` looks it up. */
export interface ReferenceData {
  readonly batch: Batch;
}

export interface StepContext {
  readonly functions: ReadonlyMap<string, MapFunction>;
  readonly references: ReadonlyMap<string, ReferenceData>;
}

export interface CompiledSteps {
  readonly columns: readonly ColumnNode[];
  run(flow: Flow): Flow;
}

export function compileSteps(
  table: TableNode,
  input: readonly ColumnNode[],
  context: StepContext,
): CompiledSteps {
  let columns = input;
  const runners: StepRunner[] = [];
  for (const step of table.steps) {
    const compiled = compileStep(table, step, columns, context);
    columns = compiled.columns;
    runners.push(compiled.run);
  }
  return { columns, run: (flow) => runners.reduce((current, run) => run(current), flow) };
}

interface Compiled {
  readonly columns: readonly ColumnNode[];
  readonly run: StepRunner;
}

function compileStep(
  table: TableNode,
  step: StepNode,
  columns: readonly ColumnNode[],
  context: StepContext,
): Compiled {
  switch (step.kind) {
    case "filter":
      return { columns, run: filterRunner(step.predicate, columns) };
    case "derive":
      return deriveStep(step, columns);
    case "select":
      return selectStep(step, columns);
    case "map":
      return mapStep(table, step, context);
    case "enrich":
      return enrichStep(step, columns, context);
  }
}

function filterRunner(predicate: ExprNode, columns: readonly ColumnNode[]): StepRunner {
  const evaluate = compileExpression(predicate, columns);
  return (flow) => keepTrue(flow, evaluate(flow.batch));
}

function keepTrue(flow: Flow, test: Column): Flow {
  if (test.vector.kind !== "number") throw new TypeError("a filter must be a boolean");
  const { values } = test.vector;
  const rows = new Int32Array(flow.count);
  let count = 0;
  for (let i = 0; i < flow.count; i++) {
    const row = flow.rows[i]!;
    if (values[row] === 1 && (test.valid === null || test.valid[row] !== 0)) rows[count++] = row;
  }
  return { ...flow, rows, count };
}

/** Later definitions of a name replace earlier ones, in place. */
function withColumns<T extends { readonly name: string }>(
  columns: readonly T[],
  added: readonly T[],
): T[] {
  const names = new Set(added.map((column) => column.name));
  return [...columns.filter((column) => !names.has(column.name)), ...added];
}

function deriveStep(
  step: Extract<StepNode, { kind: "derive" }>,
  columns: readonly ColumnNode[],
): Compiled {
  const byName = new Map(columns.map((column) => [column.name, column]));
  const derived = step.columns.map(({ name, expr }) => ({
    node: { name, ...expressionType(expr, byName) },
    evaluate: compileExpression(expr, columns),
  }));
  return {
    columns: withColumns(
      columns,
      derived.map(({ node }) => node),
    ),
    run: (flow) => {
      const added = derived.map(({ node, evaluate }) => ({
        ...evaluate(flow.batch),
        name: node.name,
        type: node.type,
      }));
      const batch = { ...flow.batch, columns: withColumns(flow.batch.columns, added) };
      return { ...flow, batch };
    },
  };
}

function selectStep(
  step: Extract<StepNode, { kind: "select" }>,
  columns: readonly ColumnNode[],
): Compiled {
  const pick = <T extends { readonly name: string }>(from: readonly T[]): T[] =>
    step.columns.map(({ name, from: source }) => {
      const found = from.find((column) => column.name === source);
      if (found === undefined) throw new TypeError(`select: no column ${source}`);
      return { ...found, name };
    });
  return {
    columns: pick(columns),
    run: (flow) => ({ ...flow, batch: { ...flow.batch, columns: pick(flow.batch.columns) } }),
  };
}

function mapStep(
  table: TableNode,
  step: Extract<StepNode, { kind: "map" }>,
  context: StepContext,
): Compiled {
  const map = context.functions.get(`${table.name}/${step.name}`);
  if (map === undefined) throw new TypeError(`no function is bound to ${table.name}/${step.name}`);
  const guarded: MapFunction = (row) => {
    try {
      return map(row);
    } catch (cause) {
      throw mapFailed(table.name, step.name, row, cause);
    }
  };
  return { columns: step.output, run: (flow) => runMap(flow, guarded, step.output) };
}

/** Enough of the row to find it by. */
const ROW_TEXT_MAX = 300;

function mapFailed(
  table: string,
  name: string,
  row: Readonly<Record<string, unknown>>,
  cause: unknown,
): MillpondError {
  const plain = (_key: string, value: unknown) =>
    typeof value === "bigint" ? value.toString() : value;
  const text = JSON.stringify(row, plain).slice(0, ROW_TEXT_MAX);
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new MillpondError(
    "DEFINITION",
    `table "${table}": map "${name}" threw ${reason} for ${text}; nothing of its slice was ` +
      "counted. Make the function handle such a row (null leaves it out), and process the input " +
      "into a new --out",
    { cause },
  );
}

function runMap(flow: Flow, map: MapFunction, output: readonly ColumnNode[]): Flow {
  const results: Record<string, unknown>[] = [];
  const eventOf = new Int32Array(flow.count);
  for (let i = 0; i < flow.count; i++) {
    const row = flow.rows[i]!;
    const input: Record<string, unknown> = {};
    for (const column of flow.batch.columns) input[column.name] = valueAt(column, row);
    const result = map(input);
    if (result === null) continue;
    eventOf[results.length] = flow.eventOf === null ? row : flow.eventOf[row]!;
    results.push(result);
  }
  const columns = output.map((node) =>
    columnFromValues(
      node,
      results.map((result) => result[node.name] ?? null),
    ),
  );
  const rows = Int32Array.from(results, (_, i) => i);
  return { batch: { rowCount: results.length, columns }, rows, count: results.length, eventOf };
}

function enrichStep(
  step: Extract<StepNode, { kind: "enrich" }>,
  columns: readonly ColumnNode[],
  context: StepContext,
): Compiled {
  const reference = context.references.get(step.reference);
  if (reference === undefined) throw new TypeError(`reference ${step.reference} is not loaded`);
  const { batch: right } = reference;
  const source = (name: string): Column => right.columns.find((c) => c.name === name)!;
  const lookup = referenceLookup(
    step.on.map((on) => source(on.referenceColumn)),
    right.rowCount,
  );
  const added: ColumnNode[] = step.columns.map(({ name, from }) => ({
    name,
    type: source(from).type as ColumnType,
    nullable: step.join === "left" || source(from).valid !== null,
  }));
  return {
    columns: withColumns(columns, added),
    run: (flow) => {
      const matches = lookup(
        step.on.map((on) => columnNamed(flow.batch, on.column)),
        flow,
      );
      const joined = step.columns.map(({ name, from }) => joinColumn(name, source(from), matches));
      const columns = withColumns(flow.batch.columns, joined);
      const next = { ...flow, batch: { ...flow.batch, columns } };
      return step.join === "left" ? next : keepMatched(next, matches);
    },
  };
}

function columnNamed(batch: Batch, name: string): Column {
  return batch.columns.find((column) => column.name === name)!;
}

type Lookup = (keys: readonly Column[], flow: Flow) => Int32Array;

/** Row of the reference by key, -1 without a match. Keys are compared as dictionary codes. */
function referenceLookup(keys: readonly Column[], rowCount: number): Lookup {
  const dictionaries = keys.map(() => new Dictionary());
  const all = Int32Array.from({ length: rowCount }, (_, i) => i);
  const codes = keys.map((column, k) => {
    const out = new Int32Array(rowCount);
    dictionaries[k]!.encode(column, all, rowCount, out);
    return out;
  });
  const rowOf = new Map<string, number>();
  for (let row = 0; row < rowCount; row++) {
    const key = codes.map((column) => column[row]!);
    if (!key.includes(NULL_CODE)) rowOf.set(key.join(), row);
  }
  return (columns, flow) => {
    const matches = new Int32Array(flow.batch.rowCount).fill(NULL_CODE);
    const sources = columns.map(byteRows);
    for (let i = 0; i < flow.count; i++) {
      const row = flow.rows[i]!;
      const key = sources.map((source, k) => {
        if (columns[k]!.valid?.[row] === 0) return NULL_CODE;
        const start = source.starts === null ? row * 8 : source.starts[row]!;
        const end = source.ends === null ? start + 8 : source.ends[row]!;
        return dictionaries[k]!.lookup(source.bytes, start, end);
      });
      if (!key.includes(NULL_CODE)) matches[row] = rowOf.get(key.join()) ?? NULL_CODE;
    }
    return matches;
  };
}

function joinColumn(name: string, source: Column, matches: Int32Array): Column {
  const picked = gather(
    source,
    matches.map((row) => Math.max(row, 0)),
    matches.length,
  );
  const valid = new Uint8Array(matches.length);
  for (let i = 0; i < matches.length; i++) {
    const row = matches[i]!;
    valid[i] = row < 0 || (source.valid !== null && source.valid[row] === 0) ? 0 : 1;
  }
  return { ...picked, name, valid };
}

function keepMatched(flow: Flow, matches: Int32Array): Flow {
  const rows = flow.rows.subarray(0, flow.count).filter((row) => matches[row]! >= 0);
  return { ...flow, rows, count: rows.length };
}
