/**
 * Both stores on a local directory, safe with several processes on it and after kill -9 at any
 * point. Nothing is fsynced: commits survive the death of the process; a power loss may lose the
 * last ones, but the checksum tells a torn file.
 */
import { join } from "node:path";
import type { CheckpointItem, CheckpointStore, ObjectStore } from "../commit/ports.js";
import { MillpondError } from "../errors.js";
import { type Content, damaged } from "./file-format.js";
import { compareKeys, keyToPath, pathToKey } from "./keys.js";
import { LinkedFiles } from "./linked-files.js";

const ITEM_SUFFIX = ".item";
const OBJECT_SUFFIX = ".object";
/** Each attempt takes two commits by others during one read. */
const READ_ATTEMPTS_MAX = 100;

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

function outcomeUnknown(id: string, generation: number): MillpondError {
  return new MillpondError(
    "STORAGE",
    `checkpoint "${id}" moved on by two generations while generation ${generation} was written, ` +
      "so whether that was in time is unknown. Read the checkpoint and go on from there",
  );
}
