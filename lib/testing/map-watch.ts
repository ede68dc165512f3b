/**
 * Watches the functions (`map`) of a pipeline under test: one that fails for a row stops its
 * partition, and with one that does not return the same for the same row results depend on retries.
 */
import type { ColumnNode, MapFunction, Pipeline, StepNode } from "../define/definition.js";
import { columnFromValues } from "../engine/row-values.js";
import { MillpondError } from "../errors.js";

/** Enough of a row to find it by. */
const TEXT_MAX = 300;

type MapStep = Extract<StepNode, { kind: "map" }>;

export class MapWatch {
  /** The pipeline, with each of its functions watched. */
  readonly pipeline: Pipeline;
  /** What is wrong with the first that was found. */
  fault: MillpondError | null = null;
  /** What was returned, by function and row. */
  readonly #returned = new Map<string, string>();

  constructor(pipeline: Pipeline) {
    const functions = new Map(pipeline.functions);
    for (const table of pipeline.definition.tables) {
      for (const step of table.steps) {
        if (step.kind !== "map") continue;
        const name = `${table.name}/${step.name}`;
        const map = functions.get(name);
        if (map !== undefined) functions.set(name, this.#watched(table.name, step, map));
      }
    }
    this.pipeline = { ...pipeline, functions };
  }

  /** Rows seen so far will not come again. */
  forget(): void {
    this.#returned.clear();
  }

  #watched(table: string, step: MapStep, map: MapFunction): MapFunction {
    const who = `table "${table}": map "${step.name}"`;
    return (row) => {
      // Before it is called, for it may change the row.
      const input = textOf(row);
      try {
        const result = map(row);
        const output = result === null ? "null" : checkedText(step.output, result);
        const before = this.#returned.get(`${who}\n${input}`);
        if (before === undefined) this.#returned.set(`${who}\n${input}`, output);
        else if (before !== output) this.fault ??= unsteady(who, input, before, output);
        return result;
      } catch (cause) {
        this.fault ??= failed(who, input, cause);
        throw cause;
      }
    };
  }
}

/** What it returned, as text; throws if that does not fit the declared columns. */
function checkedText(output: readonly ColumnNode[], result: Record<string, unknown>): string {
  const values = output.map((node) => {
    const value = result[node.name] ?? null;
    columnFromValues(node, [value]);
    return [node.name, value] as const;
  });
  return textOf(Object.fromEntries(values));
}

/** The engine and batch SQL need not have a row's columns in one order. */
function textOf(row: Readonly<Record<string, unknown>>): string {
  const sorted = Object.entries(row).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify(Object.fromEntries(sorted), (_, value: unknown) =>
    typeof value === "bigint" ? `${value}n` : value,
  );
}

function unsteady(who: string, row: string, before: string, after: string): MillpondError {
  const [input, first, then] = [row, before, after].map((text) => text.slice(0, TEXT_MAX));
  return new MillpondError(
    "DEFINITION",
    `${who} does not return the same for the same row. For\n  ${input}\nit returned\n` +
      `  ${first}\nand, called once more,\n  ${then}\nA batch that is delivered again would ` +
      "give other results, and no audit could ever agree with them. Let it use nothing but the " +
      "row: no clock, no random numbers, nothing kept from call to call",
  );
}

function failed(who: string, row: string, cause: unknown): MillpondError {
  const found = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
  const what = cause instanceof MillpondError ? cause.message : `it threw ${found}`;
  return new MillpondError(
    "DEFINITION",
    `${who} fails for\n  ${row.slice(0, TEXT_MAX)}\n${what}.\n` +
      "Its partition would stop there. Let the function handle such a row: null leaves it out",
    { cause },
  );
}
