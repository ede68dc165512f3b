/**
 * Objects that records arrive in, of a bucket or of a directory: what is under a key, and its
 * bytes as long as it stays the same. When to read one is left to others.
 */
import { open, stat } from "node:fs/promises";
import * as path from "node:path";
import { MillpondError } from "../../errors.js";
import { codeOf } from "../../stores/fs-errors.js";
import type { S3Bucket } from "../../stores/s3.js";
import type { ReadableFile } from "../files/byte-input.js";

export interface FoundObject {
  readonly key: string;
  /** Differs when the content does. */
  readonly etag: string;
  readonly bytes: number;
  /** Epoch ms; the records' timestamp. */
  readonly modifiedMs: number;
}

export interface ObjectSource {
  /** Null when absent. */
  describe(key: string): Promise<FoundObject | null>;
  /** Bytes [from, to) of that very content; null when it was replaced or deleted. */
  range(object: FoundObject, from: number, to: number): Promise<Uint8Array | null>;
}

/** Keys are relative to `prefix` ("" or ending in "/"). */
export function bucketObjects(bucket: S3Bucket, prefix: string): ObjectSource {
  return {
    async describe(key) {
      const found = await bucket.describe(prefix + key);
      return found === null ? null : { ...found, key };
    },
    range: ({ key, etag }, from, to) => bucket.range(prefix + key, etag, from, to),
  };
}

/** Keys are paths below `dir`; size and modification time stand for the content. */
export function directoryObjects(dir: string): ObjectSource {
  const describe = async (key: string): Promise<FoundObject | null> => {
    const file = path.resolve(dir, key);
    if (!file.startsWith(path.resolve(dir) + path.sep)) return null;
    try {
      const { size, mtimeMs } = await stat(file);
      return { key, etag: `${size}-${mtimeMs}`, bytes: size, modifiedMs: Math.floor(mtimeMs) };
    } catch (error) {
      if (codeOf(error) === "ENOENT") return null;
      throw error;
    }
  };
  return {
    describe,
    async range({ key, etag }, from, to) {
      if ((await describe(key))?.etag !== etag) return null;
      const file = await open(path.resolve(dir, key), "r");
      try {
        const bytes = Buffer.alloc(to - from);
        const { bytesRead } = await file.read(bytes, 0, bytes.length, from);
        return bytes.subarray(0, bytesRead);
      } finally {
        await file.close();
      }
    },
  };
}

/** One request to the bucket reads so much. */
const BLOCK_BYTES = 8 * 1024 * 1024;

/** The object was replaced or deleted while it was read. */
export class ObjectChanged extends MillpondError {
  constructor(key: string) {
    super(
      "INPUT",
      `object "${key}" was replaced or deleted while it was read; what had been read stays, the ` +
        "rest is in dead_letters. Write new records under new keys",
    );
  }
}

/** An object as a file by position; throws `ObjectChanged` once it is not the same any more. */
export function objectFile(source: ObjectSource, object: FoundObject): ReadableFile {
  let block = { at: 0, bytes: new Uint8Array(0) };
  return {
    async read(target, at, length, position) {
      const isHeld = position >= block.at && position < block.at + block.bytes.length;
      if (position >= object.bytes) return { bytesRead: 0 };
      if (!isHeld) {
        const to = Math.min(object.bytes, position + BLOCK_BYTES);
        const bytes = await source.range(object, position, to);
        if (bytes === null || bytes.length === 0) throw new ObjectChanged(object.key);
        block = { at: position, bytes: new Uint8Array(bytes) };
      }
      const from = position - block.at;
      const read = block.bytes.subarray(from, from + length);
      target.set(read, at);
      return { bytesRead: read.length };
    },
    close: async () => undefined,
  };
}
