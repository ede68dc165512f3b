/**
 * Makes a directory and its missing parents. Node's own recursive mkdir loops for ever, beyond
 * any signal, where a parent takes no directories and says ENOENT, as /proc does.
 */
import { mkdirSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { MillpondError } from "../errors.js";
import { codeOf, foundIn, storageError } from "./fs-errors.js";

const NO_ROOM: ReadonlySet<string | undefined> = new Set(["ENOSPC", "EDQUOT", "EIO"]);

/**
 * Does nothing when the directory is there; safe beside another process that makes it too.
 *
 * @throws MillpondError OUTPUT when there can be no such directory, STORAGE when the disk is full
 * @example makeDirectory("out/flights/state");
 */
export function makeDirectory(dir: string): void {
  const missing: string[] = [];
  // Ends at the root at the latest.
  for (let at = resolve(dir); !isDirectory(at) && at !== dirname(at); at = dirname(at)) {
    missing.push(at);
  }
  for (const next of missing.reverse()) {
    try {
      mkdirSync(next);
    } catch (cause) {
      if (isDirectory(next)) continue;
      throw cannotMake(dir, next, cause);
    }
  }
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function cannotMake(dir: string, next: string, cause: unknown): MillpondError {
  const code = codeOf(cause);
  if (NO_ROOM.has(code)) return storageError("make the directory", next, cause);
  const found =
    code === "ENOENT"
      ? `${dirname(next)} takes no directories`
      : code === "EEXIST"
        ? `${next} is not a directory`
        : foundIn(cause);
  return new MillpondError(
    "OUTPUT",
    `directory ${dir} cannot be made: ${found}; give another one, where this user may write`,
    { cause },
  );
}
