/** Evaluates one table's callbacks into nodes; `scope.ts` checks them (I3). */
import { createHash } from "node:crypto";
import { aggregateNode } from "./aggregates.js";
import type { MapFunction, StepNode, TableNode } from "./definition.js";
import { DefinitionError } from "./definition-error.js";
import { evaluated, expressionsOver, predicate } from "./expressions.js";
import { plainColumns } from "./fields.js";
import { checkColumnNames, checkName, checkResultNames } from "./names.js";
import { afterStep, resultColumns, type Scope, streamScope } from "./scope.js";
import type { Step, TableParts } from "./stream.js";

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
    const references = step.kind === "enrich" ? [step.reference] : [];
    scope = afterStep(node, scope, new Map(references.map((there) => [there.name, there])));
  }
  const shape = resolveShape(parts, scope);
  const columns = resultColumns(shape, scope, parts.stream);
  const { emit, reviseForMs, stream } = parts;
  if (emit?.kind !== "final" && emit?.kind !== "updates") {
    throw new DefinitionError("its emit is none; give final() or updates({ every: seconds(5) })");
  }
  const table = { name, stream: stream.name, steps, shape, emit, reviseForMs, columns };
  checkColumnNames(columns, "in its result");
  checkResultNames(table);
  return { table, functions };
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
      return { kind: "select", columns: renamed(step.columns) };
    case "map": {
      checkName("map", step.name);
      const sourceHash = createHash("sha256").update(step.fn.toString()).digest("hex");
      return { kind: "map", name: step.name, sourceHash, output: plainColumns(step.schema) };
    }
    case "enrich":
      return {
        kind: "enrich",
        reference: step.reference.name,
        on: step.on.map(([column, referenceColumn]) => ({ column, referenceColumn })),
        columns: renamed(step.columns),
        join: step.join,
      };
  }
}

function resolveShape(parts: TableParts, scope: Scope): TableNode["shape"] {
  const { groupBy = [], window, aggregates = {} } = parts;
  if (window === undefined && parts.aggregates === undefined) return { kind: "rows" };
  if (window?.kind !== "sliding" && window?.kind !== "session") {
    throw new DefinitionError("its window is none; give tumbling(…), sliding(…) or session(…)");
  }
  const nodes = Object.entries(aggregates).map(([name, aggregate]) =>
    aggregateNode(name, aggregate, scope.columns, scope.where),
  );
  return { kind: "windowed", window, groupBy, aggregates: nodes };
}
