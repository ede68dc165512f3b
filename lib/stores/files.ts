/**
 * Both stores on a local directory, safe with several processes on it and after kill -9 at any point.
 *
 * A file appears under its name whole or not at all: it is written under a temporary name, then
 * hard-linked, which fails when the name is taken. Nothing is fsynced: commits survive the death of
 * the process; a power loss may lose the last ones, but the checksum tells a torn file.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  type Dirent,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  unlinkSync,
  writevSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { crc32 } from "node:zlib";
import type { CheckpointItem, CheckpointStore, ObjectStore } from "../commit/ports.js";
import { MillpondError } from "../errors.js";
import { compareKeys, keyToPath, pathToKey } from "./keys.js";

const ITEM_SUFFIX = ".item";
const OBJECT_SUFFIX = ".object";
/** Below the root; a key never has a dot in its path. */
const TEMPORARY_DIR = ".tmp";
const TEMPORARY_AGE_MS_MAX = 60 * 60 * 1000;
/** Each attempt takes two commits by others during one read. */
const READ_ATTEMPTS_MAX = 100;

/** Magic, version, crc32 of all that follows, bytes of JSON; then JSON, then the payload. */
const MAGIC = 0x4d504e44;
const VERSION = 1;
const HEADER_BYTES = 16;
const CRC_OFFSET = 8;
const CRC_FROM = 12;

/**
 * One file per generation: `<id>/<generation>.item`; the highest is the item.
 *
 * The generation before is kept, and that settles the one race that links leave open: a writer that
 * slept while others committed may link its old generation, once that was deleted. Generation g is
 * deleted only after g + 2 is linked, so when at most g + 1 is there, the link of g was in time.
 */
export class FileCheckpointStore implements CheckpointStore {
  /** Above it, rewriting the item each commit costs more than a second file. */
  readonly payloadBytesMax = 256 * 1024;
  readonly #files: LinkedFiles;

  constructor(dir: string) {
    this.#files = new LinkedFiles(dir);
  }

  async read(id: string): Promise<CheckpointItem | null> {
    for (let attempt = 1; attempt <= READ_ATTEMPTS_MAX; attempt++) {
      const generation = highest(this.#generations(id));
      if (generation === 0) return null;
      const path = itemPath(id, generation);
      const content = this.#files.read(path);
      if (content !== null) return toItem(this.#files.pathOf(path), generation, content);
    }
    throw new MillpondError(
      "STORAGE",
      `checkpoint "${id}" in ${this.#files.dir} was replaced ${READ_ATTEMPTS_MAX} times during ` +
        "one read; expected one run per output. Stop the others",
    );
  }

  async compareAndSwap(id: string, item: CheckpointItem): Promise<"committed" | "conflict"> {
    if (highest(this.#generations(id)) !== item.generation - 1) return "conflict";
    const { commitId, attributes, payload } = item;
    const content = { json: { commitId, attributes }, payload };
    if (!this.#files.link(itemPath(id, item.generation), content)) return "conflict";
    const generations = this.#generations(id);
    if (highest(generations) > item.generation + 1) throw outcomeUnknown(id, item.generation);
    for (const generation of generations) {
      if (generation < item.generation - 1) this.#files.delete(itemPath(id, generation));
    }
    return "committed";
  }

  async list(prefix: string): Promise<string[]> {
    const ids = this.#files.walk(prefix, (dir, name) =>
      generationOf(name) > 0 ? pathToKey(dir) : null,
    );
    return [...new Set(ids)].sort(compareKeys);
  }

  #generations(id: string): number[] {
    return this.#files.names(keyToPath(id)).map(generationOf);
  }
}

/** One file per object: `<key>.object`. */
export class FileObjectStore implements ObjectStore {
  readonly #files: LinkedFiles;

  constructor(dir: string) {
    this.#files = new LinkedFiles(dir);
  }

  async putIfAbsent(key: string, bytes: Uint8Array): Promise<"created" | "exists"> {
    const path = keyToPath(key) + OBJECT_SUFFIX;
    return this.#files.link(path, { json: null, payload: bytes }) ? "created" : "exists";
  }

  async get(key: string): Promise<Uint8Array | null> {
    return this.#files.read(keyToPath(key) + OBJECT_SUFFIX)?.payload ?? null;
  }

  async delete(key: string): Promise<void> {
    this.#files.delete(keyToPath(key) + OBJECT_SUFFIX);
  }

  async list(prefix: string): Promise<string[]> {
    const keys = this.#files.walk(prefix, (dir, name) =>
      name.endsWith(OBJECT_SUFFIX)
        ? pathToKey(join(dir, name.slice(0, -OBJECT_SUFFIX.length)))
        : null,
    );
    return keys.sort(compareKeys);
  }
}

interface Content {
  readonly json: unknown;
  readonly payload: Uint8Array;
}

/** Files that are linked whole or not at all; paths are relative to `dir`. */
class LinkedFiles {
  readonly dir: string;
  /** Unique per instance, also among processes that reuse an id. */
  readonly #temporaryPrefix = randomBytes(8).toString("hex");
  #temporaryCount = 0;

  constructor(dir: string) {
    this.dir = dir;
    tryFs("open", dir, () => {
      mkdirSync(join(dir, TEMPORARY_DIR), { recursive: true });
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

function itemPath(id: string, generation: number): string {
  return `${keyToPath(id)}/${String(generation).padStart(12, "0")}${ITEM_SUFFIX}`;
}

/** 0 when the name is not that of an item. */
function generationOf(name: string): number {
  return name.endsWith(ITEM_SUFFIX) ? Number(name.slice(0, -ITEM_SUFFIX.length)) || 0 : 0;
}

function highest(generations: readonly number[]): number {
  return generations.reduce((max, generation) => Math.max(max, generation), 0);
}

function toItem(path: string, generation: number, { json, payload }: Content): CheckpointItem {
  if (typeof json === "object" && json !== null && "commitId" in json && "attributes" in json) {
    const { commitId, attributes } = json;
    if (typeof commitId === "string" && typeof attributes === "object" && attributes !== null) {
      return { generation, commitId, attributes: { ...attributes }, payload };
    }
  }
  throw damaged(path, "it is not a checkpoint");
}

function encode({ json, payload }: Content): Uint8Array[] {
  const text = json === null ? new Uint8Array() : Buffer.from(JSON.stringify(json));
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32BE(MAGIC, 0);
  header.writeUInt32LE(VERSION, 4);
  header.writeUInt32LE(text.length, CRC_FROM);
  const crc = crc32(payload, crc32(text, crc32(header.subarray(CRC_FROM))));
  header.writeUInt32LE(crc, CRC_OFFSET);
  return [header, text, payload];
}

function decode(path: string, bytes: Buffer): Content {
  if (bytes.length < HEADER_BYTES) throw damaged(path, `it has only ${bytes.length} bytes`);
  if (bytes.readUInt32BE(0) !== MAGIC) throw damaged(path, "it does not start as our files do");
  if (bytes.readUInt32LE(4) !== VERSION) {
    throw damaged(path, `its format is ${bytes.readUInt32LE(4)}, this version reads ${VERSION}`);
  }
  if (crc32(bytes.subarray(CRC_FROM)) !== bytes.readUInt32LE(CRC_OFFSET)) {
    throw damaged(path, "its checksum is wrong");
  }
  const textEnd = HEADER_BYTES + bytes.readUInt32LE(CRC_FROM);
  const text = bytes.toString("utf8", HEADER_BYTES, textEnd);
  return { json: text === "" ? null : JSON.parse(text), payload: bytes.subarray(textEnd) };
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
  mkdirSync(dirname(to), { recursive: true });
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

function ignoringAbsence<T>(operation: () => T): T | null {
  try {
    return operation();
  } catch (error) {
    if (codeOf(error) === "ENOENT") return null;
    throw error;
  }
}

function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

function tryFs<T>(doing: string, path: string, operation: () => T): T {
  try {
    return operation();
  } catch (error) {
    throw error instanceof MillpondError ? error : storageError(doing, path, error);
  }
}

/** @internal Exported for its test: most of these cannot be provoked on a healthy disk. */
export function storageError(doing: string, path: string, cause: unknown): MillpondError {
  const code = codeOf(cause) ?? "";
  const [found, advice] = FS_ERRORS.get(code) ?? [
    cause instanceof Error ? cause.message : String(cause),
    "check the disk and run again",
  ];
  const message = `cannot ${doing} ${path}: ${found}. What was committed is safe; ${advice}`;
  return new MillpondError("STORAGE", message, { cause });
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

function damaged(path: string, found: string): MillpondError {
  return new MillpondError(
    "STORAGE",
    `${path} is damaged: ${found}. Restore the whole output from a copy, ` +
      "or process the input again into a new one",
  );
}

function outcomeUnknown(id: string, generation: number): MillpondError {
  return new MillpondError(
    "STORAGE",
    `checkpoint "${id}" moved on by two generations while generation ${generation} was written, ` +
      "so whether that was in time is unknown. Read the checkpoint and go on from there",
  );
}
