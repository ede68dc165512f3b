/**
 * The one error class users meet: a stable code, and a message that says what, where, and what to
 * do.
 */

export type ErrorCode =
  /** The pipeline definition cannot work. */
  | "DEFINITION"
  /** The command line, a path or a parameter is wrong. */
  | "USAGE"
  /** The input cannot be read, or changed under a checkpoint. */
  | "INPUT"
  /** The output belongs to another pipeline or definition, or holds something unexpected. */
  | "OUTPUT"
  /** Another process works on the same output. */
  | "CONFLICT"
  /** A bound was reached (item size, state bytes, outbox length, …). */
  | "LIMIT"
  /** A store or the disk failed. */
  | "STORAGE"
  /** Numbers that must add up do not: a bug in Millpond or a damaged output. */
  | "INVARIANT"
  /** A query was refused or failed. */
  | "QUERY";

export class MillpondError extends Error {
  override readonly name: string = "MillpondError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
