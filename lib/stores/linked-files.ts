/**
 * Files that appear under their name whole or not at all: written under a temporary name, then
 * hard-linked, which fails when the name is taken.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  type Dirent,
  linkSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  unlinkSync,
  writevSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { type Content, decode, encode } from "./file-format.js";
import { codeOf, ignoringAbsence, tryFs } from "./fs-errors.js";
import { keyToPath } from "./keys.js";
import { makeDirectory } from "./make-directory.js";

/** Below the root; a key never has a dot in its path. */
const TEMPORARY_DIR = ".tmp";
const TEMPORARY_AGE_MS_MAX = 60 * 60 * 1000;
/** Paths are relative to `dir`. */
export class LinkedFiles {
  readonly dir: string;
  /** Unique per instance, also among processes that reuse an id. */
  readonly #temporaryPrefix = randomBytes(8).toString("hex");
  #temporaryCount = 0;

  constructor(dir: string) {
    this.dir = dir;
    tryFs("open", dir, () => {
      makeDirectory(join(dir, TEMPORARY_DIR));
      removeOldFiles(join(dir, TEMPORARY_DIR));
    });
  }

  pathOf(path: string): string {
    return join(this.dir, path);
  }

  /** False when the name is taken; then nothing has changed. */
  link(path: string, content: Content): boolean {
    this.#temporaryCount += 1;
    const name = `${this.#temporaryPrefix}-${this.#temporaryCount}`;
    const temporary = join(this.dir, TEMPORARY_DIR, name);
    const target = this.pathOf(path);
    return tryFs("write", target, () => {
      try {
        writeParts(temporary, encode(content));
        return linkNew(temporary, target);
      } finally {
        ignoringAbsence(() => unlinkSync(temporary));
      }
    });
  }

  /** Null when absent. */
  read(path: string): Content | null {
    const target = this.pathOf(path);
    const bytes = tryFs("read", target, () => ignoringAbsence(() => readFileSync(target)));
    return bytes === null ? null : decode(target, bytes);
  }

  delete(path: string): void {
    const target = this.pathOf(path);
    tryFs("delete", target, () => ignoringAbsence(() => unlinkSync(target)));
  }

  /** Names in a directory; none when it is absent. */
  names(path: string): string[] {
    const target = this.pathOf(path);
    return tryFs("list", target, () => ignoringAbsence(() => readdirSync(target)) ?? []);
  }

  /** Keys (where `toKey` finds one) of all files whose key starts with `prefix`. */
  walk(prefix: string, toKey: (dir: string, name: string) => string | null): string[] {
    const lastSlash = prefix.lastIndexOf("/");
    const pending = [lastSlash > 0 ? keyToPath(prefix.slice(0, lastSlash)) : ""];
    const keys: string[] = [];
    for (let dir = pending.pop(); dir !== undefined; dir = pending.pop()) {
      for (const entry of this.#entries(dir)) {
        if (entry.isDirectory()) {
          if (entry.name !== TEMPORARY_DIR) pending.push(join(dir, entry.name));
          continue;
        }
        const key = toKey(dir, entry.name);
        if (key?.startsWith(prefix)) keys.push(key);
      }
    }
    return keys;
  }

  #entries(path: string): Dirent[] {
    const target = this.pathOf(path);
    const read = () => readdirSync(target, { withFileTypes: true });
    return tryFs("list", target, () => ignoringAbsence(read) ?? []);
  }
}

function writeParts(path: string, parts: readonly Uint8Array[]): void {
  const file = openSync(path, "wx");
  try {
    let rest = parts.filter((part) => part.length > 0);
    while (rest.length > 0) rest = without(rest, writevSync(file, rest));
  } finally {
    closeSync(file);
  }
}

/** What a short write left to do. */
function without(parts: readonly Uint8Array[], writtenBytes: number): Uint8Array[] {
  let skip = writtenBytes;
  return parts.flatMap((part) => {
    const left = part.subarray(Math.min(skip, part.length));
    skip -= part.length - left.length;
    return left.length > 0 ? [left] : [];
  });
}

function linkNew(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    if (codeOf(error) !== "ENOENT") throw error;
  }
  // Once per directory: its first file.
  makeDirectory(dirname(to));
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  }
}

/** Left by killed writers; younger ones may be in use. */
function removeOldFiles(dir: string): void {
  const oldest = Date.now() - TEMPORARY_AGE_MS_MAX;
  for (const name of readdirSync(dir)) {
    const path = join(dir, name);
    ignoringAbsence(() => {
      if (statSync(path).mtimeMs < oldest) unlinkSync(path);
    });
  }
}
