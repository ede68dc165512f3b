/** What the file system refuses, as errors that say what to do. */
import { MillpondError } from "../errors.js";

export function ignoringAbsence<T>(operation: () => T): T | null {
  try {
    return operation();
  } catch (error) {
    if (codeOf(error) === "ENOENT") return null;
    throw error;
  }
}

export function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

export function tryFs<T>(doing: string, path: string, operation: () => T): T {
  try {
    return operation();
  } catch (error) {
    throw error instanceof MillpondError ? error : storageError(doing, path, error);
  }
}

export function storageError(doing: string, path: string, cause: unknown): MillpondError {
  const [, advice] = FS_ERRORS.get(codeOf(cause) ?? "") ?? ["", "check the disk and run again"];
  const found = foundIn(cause);
  const message = `cannot ${doing} ${path}: ${found}. What was committed is safe; ${advice}`;
  return new MillpondError("STORAGE", message, { cause });
}

/** What is wrong, in words. */
export function foundIn(cause: unknown): string {
  const known = FS_ERRORS.get(codeOf(cause) ?? "");
  return known?.[0] ?? (cause instanceof Error ? cause.message : String(cause));
}

type FsError = readonly [found: string, advice: string];

const NO_ACCESS: FsError = [
  "access is denied",
  "give this user write access or choose another output directory, and run again",
];

const FS_ERRORS: ReadonlyMap<string, FsError> = new Map<string, FsError>([
  ["ENOSPC", ["the disk is full", "free some space and run again"]],
  ["EDQUOT", ["the disk quota is used up", "free some space and run again"]],
  ["EFBIG", ["the file is larger than this process may write", "raise ulimit -f and run again"]],
  ["EACCES", NO_ACCESS],
  ["EPERM", NO_ACCESS],
  ["EROFS", ["the file system is read-only", "choose another output directory and run again"]],
  ["ENOTDIR", ["a part of the path is a file", "choose another output directory and run again"]],
  ["EMFILE", ["too many files are open", "raise ulimit -n and run again"]],
  ["ENOTSUP", ["the file system has no hard links", "choose an output directory on another one"]],
]);
