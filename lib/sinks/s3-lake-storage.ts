/** A lake under a prefix of an S3 bucket. DuckDB works on local copies and needs no S3 itself. */
import { randomUUID } from "node:crypto";
import * as fs from "node:fs/promises";
import * as path from "node:path";
import { MillpondError } from "../errors.js";
import { makeDirectory } from "../stores/make-directory.js";
import type { S3Bucket } from "../stores/s3.js";
import type { Content, LakeStorage } from "./lake-storage.js";

/** Files fetched at a time. */
const DOWNLOADS_MAX = 4;

/**
 * @example
 * const bucket = new S3Bucket("my-bucket");
 * const storage = new S3LakeStorage(bucket, "lake/flights/", join(tmpdir(), "lake"));
 */
export class S3LakeStorage implements LakeStorage {
  readonly tempDir: string;
  readonly #bucket: S3Bucket;
  /** Of all keys; ends in "/". */
  readonly #prefix: string;

  constructor(bucket: S3Bucket, prefix: string, tempDir: string) {
    this.#bucket = bucket;
    this.#prefix = prefix;
    this.tempDir = path.resolve(tempDir);
  }

  async putIfAbsent(name: string, content: Content): Promise<"created" | "exists"> {
    try {
      const etag = await this.#bucket.put(this.#prefix + name, content, "absent");
      return etag === null ? "exists" : "created";
    } finally {
      if (!(content instanceof Uint8Array)) await fs.rm(content.file, { force: true });
    }
  }

  async put(name: string, bytes: Uint8Array): Promise<void> {
    await this.#bucket.put(this.#prefix + name, bytes);
  }

  get(name: string): Promise<Uint8Array | null> {
    return this.#bucket.get(this.#prefix + name);
  }

  async list(folder: string, after?: string): Promise<string[]> {
    const startAfter = after === undefined ? undefined : this.#prefix + after;
    const files = await this.#bucket.list(`${this.#prefix}${folder}/`, startAfter);
    return files.map(({ key }) => key.slice(this.#prefix.length));
  }

  delete(name: string): Promise<void> {
    return this.#bucket.delete(this.#prefix + name);
  }

  uri(name: string): string {
    return `s3://${this.#bucket.name}/${this.#prefix}${name}`;
  }

  async withLocal<T>(names: readonly string[], work: (files: string[]) => Promise<T>): Promise<T> {
    const folder = path.join(this.tempDir, randomUUID());
    makeDirectory(folder);
    try {
      const files = names.map((name, n) => path.join(folder, `${n}${path.extname(name)}`));
      const left = [...names.entries()];
      const fetchNext = async () => {
        for (let next = left.shift(); next !== undefined; next = left.shift()) {
          await this.#fetch(next[1], files[next[0]]!);
        }
      };
      await Promise.all(Array.from({ length: DOWNLOADS_MAX }, fetchNext));
      return await work(files);
    } finally {
      await fs.rm(folder, { recursive: true, force: true });
    }
  }

  async #fetch(name: string, file: string): Promise<void> {
    if ((await this.#bucket.download(this.#prefix + name, file)) !== null) return;
    throw new MillpondError(
      "STORAGE",
      `${this.uri(name)} does not exist, though the lake's log names it. Put it back from a ` +
        "copy, or process the input again into a new output",
    );
  }
}
