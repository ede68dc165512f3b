/** Where a lake's files are: a small port, and its implementation on a local directory. */
import { randomUUID } from "node:crypto";
import * as fs from "node:fs/promises";
import * as path from "node:path";
import { MillpondError } from "../errors.js";
import { makeDirectory } from "../stores/make-directory.js";

/** A local file to be taken over (moved), or bytes. */
export type Content = Uint8Array | { readonly file: string };

/** Paths are relative to the storage's root, with "/". */
export interface LakeStorage {
  /** Atomic and durable: readers see the whole file or none. "exists": nothing was written. */
  putIfAbsent(path: string, content: Content): Promise<"created" | "exists">;
  /** Atomic replacement, for files that are only hints. */
  put(path: string, bytes: Uint8Array): Promise<void>;
  /** Null when absent. */
  get(path: string): Promise<Uint8Array | null>;
  /** Paths of the files under this folder, at any depth, ascending; those after `after` only. */
  list(folder: string, after?: string): Promise<string[]>;
  /** No error when absent. */
  delete(path: string): Promise<void>;
  /** What other readers find the file by. */
  uri(path: string): string;
  /**
   * Do `work` with local copies of these files (or the files themselves), which are gone when it
   * ends. Throws `MillpondError("STORAGE")` when one is absent.
   */
  withLocal<T>(paths: readonly string[], work: (files: string[]) => Promise<T>): Promise<T>;
  /** A local folder for files that are being made; its content may be deleted at any open. */
  readonly tempDir: string;
}

/** A lake in a local directory. A file appears under its name by a hard link to a synced file. */
export class LocalLakeStorage implements LakeStorage {
  readonly #root: string;
  readonly tempDir: string;

  constructor(root: string, tempDir: string) {
    this.#root = path.resolve(root);
    this.tempDir = path.resolve(tempDir);
  }

  putIfAbsent(name: string, content: Content): Promise<"created" | "exists"> {
    const target = this.uri(name);
    return explained(`write ${target}`, async () => {
      const staged = content instanceof Uint8Array ? await this.#stage(content) : content.file;
      await sync(staged);
      makeDirectory(path.dirname(target));
      try {
        await fs.link(staged, target);
        await sync(path.dirname(target));
        return "created";
      } catch (error) {
        if (hasCode(error, "EEXIST")) return "exists";
        throw error;
      } finally {
        await fs.rm(staged, { force: true });
      }
    });
  }

  put(name: string, bytes: Uint8Array): Promise<void> {
    const target = this.uri(name);
    return explained(`write ${target}`, async () => {
      const staged = await this.#stage(bytes);
      makeDirectory(path.dirname(target));
      await fs.rename(staged, target);
    });
  }

  get(name: string): Promise<Uint8Array | null> {
    const target = this.uri(name);
    return explained(`read ${target}`, async () => {
      try {
        return await fs.readFile(target);
      } catch (error) {
        if (hasCode(error, "ENOENT")) return null;
        throw error;
      }
    });
  }

  list(folder: string, after = ""): Promise<string[]> {
    return explained(`list ${this.uri(folder)}`, async () => {
      const files: string[] = [];
      await this.#collect(folder, files);
      return files.filter((file) => file > after).sort((a, b) => (a < b ? -1 : 1));
    });
  }

  delete(name: string): Promise<void> {
    const target = this.uri(name);
    return explained(`delete ${target}`, () => fs.rm(target, { force: true }));
  }

  uri(name: string): string {
    return path.join(this.#root, name);
  }

  withLocal<T>(paths: readonly string[], work: (files: string[]) => Promise<T>): Promise<T> {
    return work(paths.map((name) => this.uri(name)));
  }

  async #stage(bytes: Uint8Array): Promise<string> {
    makeDirectory(this.tempDir);
    const staged = path.join(this.tempDir, randomUUID());
    await fs.writeFile(staged, bytes);
    return staged;
  }

  async #collect(folder: string, files: string[]): Promise<void> {
    for (const entry of await entriesOf(this.uri(folder))) {
      const name = `${folder}/${entry.name}`;
      if (entry.isDirectory()) await this.#collect(name, files);
      else files.push(name);
    }
  }
}

async function entriesOf(folder: string) {
  try {
    return await fs.readdir(folder, { withFileTypes: true });
  } catch (error) {
    if (hasCode(error, "ENOENT")) return [];
    throw error;
  }
}

async function sync(file: string): Promise<void> {
  const handle = await fs.open(file, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

async function explained<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof MillpondError) throw error;
    const advice = hasCode(error, "ENOSPC")
      ? "The disk is full: free some space and run again; nothing is damaged."
      : "Check the directory and its permissions, then run again.";
    const detail = error instanceof Error ? error.message : String(error);
    throw new MillpondError("STORAGE", `Could not ${what}: ${detail}. ${advice}`, { cause: error });
  }
}
