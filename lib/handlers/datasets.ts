/** Data sets to replay: NDJSON objects beneath `datasets/` of the bucket or a laptop's output. */
import { createReadStream, existsSync, readdirSync, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { createGunzip } from "node:zlib";
import { MillpondError } from "../errors.js";
import type { Environment } from "./pipeline-runtime.js";

const NAME = /\.(ndjson|jsonl)(\.gz)?$/;
/** Above what any broker takes as one message unless it is told to. */
const LINE_BYTES_MAX = 8 * 1024 * 1024;

export interface Datasets {
  /** Keys beneath `datasets/`, ascending: the object itself, or all of a folder. */
  list(dataset: string): Promise<readonly string[]>;
  /** Lines as their bytes, without line breaks; empty ones are left out. */
  lines(key: string): AsyncGenerator<Buffer>;
}

/**
 * Where `MILLPOND_STORE` says: MILLPOND_BUCKET with MILLPOND_PREFIX, or `file:<dir>`.
 * @throws MillpondError USAGE when a variable is missing
 */
export async function openDatasets(env: Environment): Promise<Datasets> {
  const dir = /^file:(.+)$/.exec(env.MILLPOND_STORE ?? "")?.[1];
  if (dir !== undefined) return new FileDatasets(path.join(dir, "datasets"));
  const name = env.MILLPOND_BUCKET;
  if (env.MILLPOND_STORE !== "aws" || name === undefined) {
    throw new MillpondError(
      "USAGE",
      "a data set needs MILLPOND_STORE=file:<dir>, or MILLPOND_STORE=aws with MILLPOND_BUCKET",
    );
  }
  const { S3Bucket } = await import("../stores/s3.js");
  return new BucketDatasets(new S3Bucket(name), `${env.MILLPOND_PREFIX ?? ""}datasets/`);
}

class FileDatasets implements Datasets {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  async list(dataset: string): Promise<readonly string[]> {
    const at = path.join(this.#dir, dataset);
    if (!existsSync(at)) return [];
    if (statSync(at).isFile()) return [dataset];
    const folder = dataset.replace(/\/$/, "");
    const found = readdirSync(at, { recursive: true, encoding: "utf8" });
    return found
      .filter((name) => NAME.test(name))
      .map((name) => `${folder}/${name.split(path.sep).join("/")}`)
      .sort();
  }

  lines(key: string): AsyncGenerator<Buffer> {
    return fileLines(path.join(this.#dir, key), key);
  }
}

interface Bucket {
  list(prefix: string): Promise<readonly { readonly key: string }[]>;
  download(key: string, file: string): Promise<string | null>;
}

class BucketDatasets implements Datasets {
  readonly #bucket: Bucket;
  readonly #prefix: string;

  constructor(bucket: Bucket, prefix: string) {
    this.#bucket = bucket;
    this.#prefix = prefix;
  }

  async list(dataset: string): Promise<readonly string[]> {
    const found = await this.#bucket.list(this.#prefix + dataset);
    const folder = dataset.endsWith("/") ? dataset : `${dataset}/`;
    return found
      .map(({ key }) => key.slice(this.#prefix.length))
      .filter((key) => key === dataset || (key.startsWith(folder) && NAME.test(key)))
      .sort();
  }

  async *lines(key: string): AsyncGenerator<Buffer> {
    const dir = await mkdtemp(path.join(tmpdir(), "millpond-dataset-"));
    try {
      const file = path.join(dir, "object");
      if ((await this.#bucket.download(this.#prefix + key, file)) === null) {
        throw new MillpondError("INPUT", `datasets/${key} is gone: put it back, or name another`);
      }
      yield* fileLines(file, key);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  }
}

async function* fileLines(file: string, key: string): AsyncGenerator<Buffer> {
  const raw = createReadStream(file);
  const unzip = key.endsWith(".gz") ? createGunzip() : null;
  if (unzip !== null) raw.on("error", (error) => unzip.destroy(error)).pipe(unzip);
  try {
    yield* splitLines(unzip ?? raw, key);
  } catch (cause) {
    if (cause instanceof MillpondError) throw cause;
    const found = cause instanceof Error ? cause.message : String(cause);
    throw new MillpondError("INPUT", `datasets/${key} cannot be read: ${found}; put it again`, {
      cause,
    });
  } finally {
    raw.destroy();
  }
}

async function* splitLines(input: AsyncIterable<Buffer>, key: string): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of input) {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let from = 0;
    for (let at = bytes.indexOf(0x0a); at !== -1; at = bytes.indexOf(0x0a, from)) {
      if (at > from) yield bytes.subarray(from, at);
      from = at + 1;
    }
    rest = bytes.subarray(from);
    if (rest.length > LINE_BYTES_MAX) {
      throw new MillpondError(
        "LIMIT",
        `datasets/${key} has a line of over ${LINE_BYTES_MAX} bytes: it is no NDJSON`,
      );
    }
  }
  if (rest.length > 0) yield rest;
}
