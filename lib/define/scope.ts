/**
 * What a table's nodes make of its stream's columns, step by step, and that they can work (I3).
 * The same for tables as written and as read from JSON.
 */
import { aggregateColumn } from "./aggregates.js";
import type { ColumnNode, ReferenceNode, StepNode, StreamNode, TableNode } from "./definition.js";
import { DefinitionError, suggestion } from "./definition-error.js";
import {
  checkPredicate,
  expressionType,
  isScalar,
  type NamedColumn,
  typeName,
  unknownColumn,
} from "./expression-types.js";
import { checkColumnNames } from "./names.js";

const AGGREGATES_MAX = 64;
const GROUP_COLUMNS_MAX = 16;

export interface Scope {
  readonly columns: ReadonlyMap<string, NamedColumn>;
  /** For messages: where these columns are. */
  readonly where: string;
  /** Columns that are still the stream's own. */
  readonly original: ReadonlySet<string>;
}

export function streamScope({ name: stream, fields }: StreamNode): Scope {
  return {
    columns: byName(
      fields.map(({ name, type, nullable, oneOf }) => ({ name, type, nullable, oneOf })),
    ),
    where: `in stream "${stream}"`,
    original: new Set(fields.map(({ name }) => name)),
  };
}

const byName = (columns: readonly NamedColumn[]) =>
  new Map(columns.map((column) => [column.name, column]));

/** As the definition says it. */
const plain = ({ name, type, nullable }: ColumnNode): ColumnNode => ({ name, type, nullable });

function find(scope: Scope, name: string): NamedColumn {
  const column = scope.columns.get(name);
  if (column === undefined) throw unknownColumn(name, [...scope.columns.keys()], scope.where);
  return column;
}

type References = ReadonlyMap<string, ReferenceNode>;

/** The columns after a step; refuses one that cannot work. */
export function afterStep(node: StepNode, scope: Scope, references: References): Scope {
  const next = columnsAfter(node, scope, references);
  checkColumnNames([...next.columns.values()], next.where);
  return next;
}

function columnsAfter(node: StepNode, scope: Scope, references: References): Scope {
  switch (node.kind) {
    case "filter":
      checkPredicate(node.predicate, scope.columns, "filter");
      return scope;
    case "derive": {
      const columns = new Map(scope.columns);
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
        columns: byNameOnce(node.output, `in the schema of map "${node.name}"`),
        where: `after map "${node.name}"`,
        original: new Set(),
      };
    case "enrich":
      return afterEnrich(node, scope, references);
  }
}

function afterEnrich(
  node: Extract<StepNode, { kind: "enrich" }>,
  scope: Scope,
  references: References,
): Scope {
  const reference = references.get(node.reference);
  if (reference === undefined) {
    const hint = suggestion(node.reference, [...references.keys()]);
    throw new DefinitionError(
      `enrich names reference "${node.reference}", which is not there${hint}`,
    );
  }
  const where = `in reference "${node.reference}"`;
  const there = { ...scope, columns: byName(reference.columns), where };
  for (const { column, referenceColumn } of node.on) {
    const left = typeName(find(scope, column).type);
    const right = typeName(find(there, referenceColumn).type);
    if (left !== right) {
      throw new DefinitionError(
        `enrich joins "${column}" (${left}) with "${referenceColumn}" (${right}) of reference ` +
          `"${node.reference}"; give both one type`,
        { column },
      );
    }
  }
  const columns = new Map(scope.columns);
  for (const { name, from } of node.columns) {
    const { type, nullable } = find(there, from);
    if (columns.has(name)) {
      throw new DefinitionError(
        `enrich adds column "${name}", which is there already; select { newName: "${from}" }`,
        { column: name },
      );
    }
    columns.set(name, { name, type, nullable: nullable || node.join === "left" });
  }
  return { ...scope, columns };
}

function byNameOnce(
  columns: readonly NamedColumn[],
  where = "in one step",
): ReadonlyMap<string, NamedColumn> {
  checkColumnNames(columns, where);
  return byName(columns);
}

/** The columns of a table of this shape; refuses one that cannot work. */
export function resultColumns(
  shape: TableNode["shape"],
  scope: Scope,
  stream: StreamNode,
): ColumnNode[] {
  if (shape.kind === "rows") return [...scope.columns.values()].map(plain);
  const { window, groupBy, aggregates } = shape;
  if (aggregates.length === 0 || aggregates.length > AGGREGATES_MAX) {
    throw new DefinitionError(
      `it has ${aggregates.length} aggregates; give 1 to ${AGGREGATES_MAX}, like { n: count() }`,
    );
  }
  if (groupBy.length > GROUP_COLUMNS_MAX) {
    throw new DefinitionError(`it groups by ${groupBy.length} columns; ${GROUP_COLUMNS_MAX} fit`);
  }
  const groups = groupBy.map((name) => groupColumn(find(scope, name)));
  if (window.kind === "session") checkSession(stream, groupBy, scope);
  return [...groups, ...aggregates.map((node) => aggregateColumn(node, scope.columns))];
}

function groupColumn(column: ColumnNode): ColumnNode {
  if (isScalar(column.type) && column.type.kind !== "double") return plain(column);
  throw new DefinitionError(
    `column "${column.name}" is ${typeName(column.type)}, by which groups cannot be told apart ` +
      "reliably; derive a string, integer or decimal from it",
    { column: column.name },
  );
}

function checkSession({ key, name }: StreamNode, groupBy: readonly string[], scope: Scope): void {
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
