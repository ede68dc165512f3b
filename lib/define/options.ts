/** Options objects as users give them: a name that nobody reads is refused, not ignored. */
import { DefinitionError, suggestion } from "./definition-error.js";

/** Every option of `T`, so that the compiler keeps the list complete. */
export type OptionNames<T> = Readonly<Record<keyof T, true>>;

/**
 * Refuses what is no object, and names that are not `known`.
 * @example checkOptions('stream "s"', { latenes: 5 }, { lateness: true }); // did you mean …?
 */
export function checkOptions(
  what: string,
  given: unknown,
  known: Readonly<Record<string, true>>,
): asserts given is object {
  const names = Object.keys(known);
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new DefinitionError(
      `the options of ${what} are ${shown(given)}; give an object with ${names.join(", ")}`,
    );
  }
  const odd = Object.keys(given).find((name) => !Object.hasOwn(known, name));
  if (odd === undefined) return;
  throw new DefinitionError(`${what} has no option "${odd}"${suggestion(odd, names)}`);
}

function shown(given: unknown): string {
  if (typeof given === "string") return JSON.stringify(given);
  return Array.isArray(given) ? "a list" : typeof given === "function" ? "a function" : `${given}`;
}
