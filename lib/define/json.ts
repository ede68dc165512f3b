/** Definitions as JSON and back, and the hash that tells whether one has changed. */
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { MapFunction, Pipeline, PipelineDefinition, TableNode } from "./definition.js";
import { at, DefinitionError, suggestion } from "./definition-error.js";
import { checkPredicate } from "./expression-types.js";
import { afterStep, resultColumns, streamScope } from "./scope.js";
import { checkStream } from "./stream.js";

/** Keys in alphabetical order, so that equal definitions give equal text. */
export const toJson = (definition: PipelineDefinition): string =>
  JSON.stringify(definition, (_, value: unknown) => sorted(value));

function sorted(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** SHA-256 of the definition, and of the reference files' content if given. */
export function definitionHash(
  definition: PipelineDefinition,
  referenceHashes: ReadonlyMap<string, string> = new Map(),
): string {
  const references = [...referenceHashes].sort(([a], [b]) => (a < b ? -1 : 1));
  const hash = createHash("sha256").update(toJson(definition));
  if (references.length > 0) hash.update(`\n${JSON.stringify(references)}`);
  return hash.digest("hex");
}

/**
 * Reads what `toJson` wrote, and binds its map functions. A definition that cannot work is refused
 * as when it is written (I3).
 */
export function fromJson(
  text: string,
  functions: ReadonlyMap<string, MapFunction> = new Map(),
): Pipeline {
  const definition = parse(text);
  for (const stream of definition.streams) {
    checkStream(stream);
    const { columns } = streamScope(stream);
    for (const { name, checks } of stream.fields) {
      for (const check of checks) checkPredicate(check, columns, `check of column "${name}"`);
    }
  }
  for (const table of definition.tables) {
    at({ table: table.name }, () => checkTable(table, definition));
    for (const step of table.steps) {
      if (step.kind !== "map") continue;
      const key = `${table.name}/${step.name}`;
      const fn = functions.get(key);
      if (fn === undefined) throw new DefinitionError(`map "${key}" has no function; pass it`);
      const found = createHash("sha256").update(fn.toString()).digest("hex");
      if (found !== step.sourceHash) {
        throw new DefinitionError(
          `map "${key}" has another source than when the definition was written; pass that one`,
        );
      }
    }
  }
  return { kind: "pipeline", definition, functions, file: undefined };
}

function checkTable(table: TableNode, { streams, references }: PipelineDefinition): void {
  const stream = streams.find(({ name }) => name === table.stream);
  if (stream === undefined) {
    const known = streams.map(({ name }) => name);
    throw new DefinitionError(
      `stream "${table.stream}" is not in the definition${suggestion(table.stream, known)}`,
    );
  }
  const byName = new Map(references.map((reference) => [reference.name, reference]));
  let scope = streamScope(stream);
  for (const step of table.steps) scope = afterStep(step, scope, byName);
  const columns = resultColumns(table.shape, scope, stream);
  if (isDeepStrictEqual(columns, table.columns)) return;
  throw new DefinitionError("its columns are not what its steps give; write the definition again");
}

function parse(text: string): PipelineDefinition {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new DefinitionError("the definition is not JSON", {}, { cause });
  }
  return definitionFrom(value);
}

/** A definition that was stored: its shape is checked, and not again whether it can work. */
export function definitionFrom(value: unknown): PipelineDefinition {
  const { version } = record(value, "the definition");
  if (version !== 1) {
    throw new DefinitionError(
      `the definition has version ${JSON.stringify(version)}, and this Millpond reads version 1`,
    );
  }
  if (!isDefinition(value)) throw new DefinitionError("the definition has an unknown shape");
  return value;
}

const SINK_KINDS = ["lake", "duckdb", "postgres", "kafka", "snowflake"];
const STEPS = ["filter", "derive", "select", "map", "enrich"];

function expression(value: unknown): void {
  const { op, args, name, type } = record(value, "an expression");
  if (op === "literal") record(type, "the type of a literal");
  else if (op !== "column") for (const arg of list(args, "arguments")) expression(arg);
  else if (typeof name !== "string") throw new DefinitionError("a column has no name");
}

/** Checks the tree's skeleton: every list is there and every kind is known. */
function isDefinition(value: unknown): value is PipelineDefinition {
  const root = record(value, "the definition");
  if (typeof root.name !== "string") throw new DefinitionError("the definition has no name");
  for (const key of ["parameters", "streams", "references", "tables", "sinks"]) {
    for (const item of list(root[key], key)) record(item, `an item of ${key}`);
  }
  for (const item of list(root.sinks, "sinks")) kind(item, "a sink", SINK_KINDS);
  for (const item of list(root.streams, "streams")) {
    for (const field of list(record(item, "a stream").fields, "fields")) {
      for (const check of list(record(field, "a field").checks, "checks")) expression(check);
    }
  }
  for (const item of list(root.tables, "tables")) {
    const table = record(item, "a table");
    for (const step of list(table.steps, "steps")) {
      const { columns, predicate, kind: of } = kind(step, "a step", STEPS);
      if (of === "filter") expression(predicate);
      if (of !== "derive") continue;
      for (const item of list(columns, "columns")) expression(record(item, "a column").expr);
    }
    kind(table.emit, "emit", ["final", "updates"]);
    const shape = kind(table.shape, "a shape", ["rows", "windowed"]);
    if (shape.kind === "rows") continue;
    kind(shape.window, "a window", ["sliding", "session"]);
    list(shape.groupBy, "groupBy");
    for (const item of list(shape.aggregates, "aggregates")) {
      const { arg, filter } = record(item, "an aggregate");
      for (const node of [arg, filter]) if (node !== undefined) expression(node);
    }
  }
  return true;
}

function record(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Readonly<Record<string, unknown>>;
  }
  throw new DefinitionError(`${what} is ${JSON.stringify(value)}, not an object`);
}

function list(value: unknown, what: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new DefinitionError(`${what} of the definition is ${JSON.stringify(value)}, not a list`);
}

function kind(value: unknown, what: string, kinds: readonly string[]) {
  const node = record(value, what);
  if (kinds.some((known) => known === node.kind)) return node;
  throw new DefinitionError(
    `${what} has kind ${JSON.stringify(node.kind)}; known are: ${kinds.join(", ")}`,
  );
}
