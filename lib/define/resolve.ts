/** Evaluates one table's callbacks and checks them against its columns (I3). */
import { createHash } from "node:crypto";
import { aggregateColumn, aggregateNode } from "./aggregates.js";
import type { ColumnNode, MapFunction, StepNode, StreamNode, TableNode } from "./definition.js";
import { DefinitionError } from "./definition-error.js";
import { expressionType, isScalar, typeName, unknownColumn } from "./expression-types.js";
import { evaluated, expressionsOver, predicate } from "./expressions.js";
import { plainColumns } from "./fields.js";
import { checkColumnNames, checkName, checkResultNames } from "./names.js";
import type { Step, TableParts } from "./stream.js";

const AGGREGATES_MAX = 64;
const GROUP_COLUMNS_MAX = 16;

interface Scope {
  readonly columns: ReadonlyMap<string, ColumnNode>;
  /** For messages: where these columns are. */
  readonly where: string;
  /** Columns that are still the stream's own. */
  readonly original: ReadonlySet<string>;
}

export interface ResolvedTable {
  readonly table: TableNode;
  readonly functions: ReadonlyMap<string, MapFunction>;
}

export function resolveTable(name: string, parts: TableParts): ResolvedTable {
  const functions = new Map<string, MapFunction>();
  const steps: StepNode[] = [];
  let scope = streamScope(parts.stream);
  for (const step of parts.steps) {
    const node = resolveStep(step, scope);
    if (step.kind === "map") {
      if (functions.has(step.name)) {
        throw new DefinitionError(`two maps are named "${step.name}"; rename one`);
      }
      functions.set(step.name, step.fn);
    }
    steps.push(node);
    scope = scopeAfter(node, scope, step);
    checkColumnNames([...scope.columns.values()], scope.where);
  }
  const { shape, columns } = resolveShape(parts, scope);
  const { emit, reviseForMs, stream } = parts;
  if (emit?.kind !== "final" && emit?.kind !== "updates") {
    throw new DefinitionError("its emit is none; give final() or updates({ every: seconds(5) })");
  }
  const table = { name, stream: stream.name, steps, shape, emit, reviseForMs, columns };
  checkColumnNames(columns, "in its result");
  checkResultNames(table);
  return { table, functions };
}

function streamScope(stream: StreamNode): Scope {
  const columns = stream.fields.map(({ name, type, nullable }) => ({ name, type, nullable }));
  return {
    columns: byName(columns),
    where: `in stream "${stream.name}"`,
    original: new Set(columns.map(({ name }) => name)),
  };
}

const byName = (columns: readonly ColumnNode[]) =>
  new Map(columns.map((column) => [column.name, column]));

function find(scope: Scope, name: string): ColumnNode {
  const column = scope.columns.get(name);
  if (column === undefined) throw unknownColumn(name, [...scope.columns.keys()], scope.where);
  return column;
}

function resolveStep(step: Step, scope: Scope): StepNode {
  const call = (callback: unknown): unknown =>
    typeof callback === "function"
      ? callback(expressionsOver(scope.columns, scope.where))
      : callback;
  const renamed = (columns: readonly (readonly [string, string])[]) =>
    columns.map(([name, from]) => ({ name, from }));
  switch (step.kind) {
    case "filter":
      return { kind: "filter", predicate: predicate(call(step.predicate), "filter") };
    case "derive": {
      const derived = Object.entries(call(step.columns) as Record<string, unknown>);
      return {
        kind: "derive",
        columns: derived.map(([name, result]) => ({
          name,
          expr: evaluated(result, `derived column "${name}"`).node,
        })),
      };
    }
    case "select":
      for (const [, from] of step.columns) find(scope, from);
      return { kind: "select", columns: renamed(step.columns) };
    case "map": {
      checkName("map", step.name);
      const sourceHash = createHash("sha256").update(step.fn.toString()).digest("hex");
      return { kind: "map", name: step.name, sourceHash, output: plainColumns(step.schema) };
    }
    case "enrich":
      checkEnrich(step, scope);
      return {
        kind: "enrich",
        reference: step.reference.name,
        on: step.on.map(([column, referenceColumn]) => ({ column, referenceColumn })),
        columns: renamed(step.columns),
        join: step.join,
      };
  }
}

function checkEnrich(step: Extract<Step, { kind: "enrich" }>, scope: Scope): void {
  const { name, columns } = step.reference;
  const there = { ...scope, columns: byName(columns), where: `in reference "${name}"` };
  for (const [column, referenceColumn] of step.on) {
    const left = typeName(find(scope, column).type);
    const right = typeName(find(there, referenceColumn).type);
    if (left !== right) {
      throw new DefinitionError(
        `enrich joins "${column}" (${left}) with "${referenceColumn}" (${right}) of reference ` +
          `"${name}"; give both one type`,
        { column },
      );
    }
  }
  for (const [target, from] of step.columns) {
    find(there, from);
    if (scope.columns.has(target)) {
      throw new DefinitionError(
        `enrich adds column "${target}", which is there already; select { newName: "${from}" }`,
        { column: target },
      );
    }
  }
}

function scopeAfter(node: StepNode, scope: Scope, step: Step): Scope {
  const columns = new Map(scope.columns);
  switch (node.kind) {
    case "filter":
      return scope;
    case "derive": {
      const original = new Set(scope.original);
      for (const { name, expr } of node.columns) {
        const { type, nullable } = expressionType(expr, scope.columns);
        columns.set(name, { name, type, nullable });
        original.delete(name);
      }
      return { ...scope, columns, original };
    }
    case "select": {
      const kept = node.columns.map(({ name, from }) => ({ ...find(scope, from), name }));
      const original = node.columns.filter((c) => c.name === c.from && scope.original.has(c.name));
      return {
        columns: byNameOnce(kept),
        where: "after select",
        original: new Set(original.map(({ name }) => name)),
      };
    }
    case "map":
      return {
        columns: byNameOnce(node.output),
        where: `after map "${node.name}"`,
        original: new Set(),
      };
    case "enrich": {
      if (step.kind !== "enrich") return scope;
      const there = byName(step.reference.columns);
      for (const { name, from } of node.columns) {
        const { type, nullable } = there.get(from)!;
        columns.set(name, { name, type, nullable: nullable || node.join === "left" });
      }
      return { ...scope, columns };
    }
  }
}

function byNameOnce(columns: readonly ColumnNode[]): ReadonlyMap<string, ColumnNode> {
  checkColumnNames(columns, "in one step");
  return byName(columns);
}

function resolveShape(parts: TableParts, scope: Scope): Pick<TableNode, "shape" | "columns"> {
  const { groupBy = [], window, aggregates = {} } = parts;
  if (window === undefined && parts.aggregates === undefined)
    return { shape: { kind: "rows" }, columns: [...scope.columns.values()] };
  if (window?.kind !== "sliding" && window?.kind !== "session") {
    throw new DefinitionError("its window is none; give tumbling(…), sliding(…) or session(…)");
  }
  const names = Object.entries(aggregates);
  if (names.length === 0 || names.length > AGGREGATES_MAX) {
    throw new DefinitionError(
      `it has ${names.length} aggregates; give 1 to ${AGGREGATES_MAX}, like { n: count() }`,
    );
  }
  if (groupBy.length > GROUP_COLUMNS_MAX) {
    throw new DefinitionError(`it groups by ${groupBy.length} columns; ${GROUP_COLUMNS_MAX} fit`);
  }
  const groups = groupBy.map((name) => groupColumn(find(scope, name)));
  if (window.kind === "session") checkSession(parts, groupBy, scope);
  const nodes = names.map(([name, aggregate]) =>
    aggregateNode(name, aggregate, scope.columns, scope.where),
  );
  return {
    shape: { kind: "windowed", window, groupBy, aggregates: nodes },
    columns: [...groups, ...nodes.map((node) => aggregateColumn(node, scope.columns))],
  };
}

function groupColumn(column: ColumnNode): ColumnNode {
  if (isScalar(column.type) && column.type.kind !== "double") return column;
  throw new DefinitionError(
    `column "${column.name}" is ${typeName(column.type)}, by which groups cannot be told apart ` +
      "reliably; derive a string, integer or decimal from it",
    { column: column.name },
  );
}

function checkSession(parts: TableParts, groupBy: readonly string[], scope: Scope): void {
  const { key, name } = parts.stream;
  if (key !== undefined && groupBy.includes(key) && scope.original.has(key)) return;
  const has = key === undefined ? "has no key" : `is keyed by "${key}"`;
  const wanted = groupBy[0] ?? "the session's column";
  throw new DefinitionError(
    `sessions grouped by ${groupBy.map((g) => `"${g}"`).join(", ") || "nothing"} need all events ` +
      `of a group in one partition, but stream "${name}" ${has}; group by the stream's key, or ` +
      `repartition the topic by "${wanted}" and declare key: "${wanted}"`,
    groupBy.length === 0 ? {} : { column: wanted },
  );
}
