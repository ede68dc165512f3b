/** Parameters: values a pipeline declares, and a run may override by `--set name=value`. */

import { MillpondError } from "../errors.js";
import type { ParameterNode } from "./definition.js";
import { at, callerPlace, DefinitionError, suggestion } from "./definition-error.js";
import { checkName } from "./names.js";

let overrides: ReadonlyMap<string, string> = new Map();
let declared = new Map<string, ParameterNode["value"]>();

/** The default, or the run's override as a value of the same type. */
export function parameter(name: string, fallback: string): string;
export function parameter(name: string, fallback: number): number;
export function parameter(name: string, fallback: boolean): boolean;
export function parameter(name: string, fallback: ParameterNode["value"]): ParameterNode["value"] {
  return at({ file: callerPlace() }, () => {
    checkName("parameter", name);
    const text = overrides.get(name);
    const value = text === undefined ? fallback : parsed(name, text, fallback);
    if (declared.has(name) && declared.get(name) !== value) {
      throw new DefinitionError(`parameter "${name}" is declared twice, with different defaults`);
    }
    declared.set(name, value);
    return value;
  });
}

function parsed(name: string, text: string, fallback: ParameterNode["value"]) {
  if (typeof fallback === "string") return text;
  if (typeof fallback === "number" && text.trim() !== "" && Number.isFinite(Number(text))) {
    return Number(text);
  }
  if (typeof fallback === "boolean" && (text === "true" || text === "false"))
    return text === "true";
  const wanted = typeof fallback === "number" ? "a finite number" : "true or false";
  throw new MillpondError("USAGE", `parameter "${name}" was set to "${text}"; give ${wanted}`);
}

export const declaredParameters = (): ParameterNode[] =>
  [...declared].map(([name, value]) => ({ name, value }));

/** Loads a pipeline with parameters overridden; refuses names that it does not declare. */
export async function withParameters<T>(
  values: ReadonlyMap<string, string>,
  load: () => Promise<T>,
): Promise<T> {
  const before = { overrides, declared };
  overrides = values;
  declared = new Map();
  try {
    const loaded = await load();
    for (const name of values.keys()) {
      if (declared.has(name)) continue;
      const known = [...declared.keys()];
      const hint = known.length === 0 ? "; it declares none" : suggestion(name, known);
      throw new MillpondError("USAGE", `the pipeline declares no parameter "${name}"${hint}`);
    }
    return loaded;
  } finally {
    ({ overrides, declared } = before);
  }
}
