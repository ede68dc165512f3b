/** Which failures a handler may answer with when its stores fail and others are faster. */
import { MillpondError } from "../errors.js";
import { FAULT_MARK, Violation } from "./faults.js";

/** Others were faster; or there is no time, no room. Both are told, and tried again. */
const USUAL_CODES: readonly string[] = ["CONFLICT", "LIMIT"];

export interface Failure {
  readonly code: string;
  readonly message: string;
}

export function failureOf(error: unknown): Failure {
  const message = error instanceof Error ? error.message : String(error);
  return { code: error instanceof MillpondError ? error.code : "UNEXPECTED", message };
}

/** A failure that no simulated fault explains is a violation; codes in `expected` were due. */
export function unexplained(
  who: string,
  { code, message }: Failure,
  expected: ReadonlySet<string> = new Set(),
): Violation | null {
  if (message.includes(FAULT_MARK)) return null;
  if (USUAL_CODES.includes(code) || expected.has(code)) return null;
  return new Violation(`${who} failed with ${code}: ${message}`);
}
