/**
 * One S3 bucket: whole objects in and out, conditional writes, and the object store of the commit
 * protocol on it.
 */
import { randomUUID } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { crc32 } from "node:zlib";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  NoSuchKey,
  PutObjectCommand,
  paginateListObjectsV2,
  S3Client,
} from "@aws-sdk/client-s3";
import type { ObjectStore } from "../commit/ports.js";
import { MillpondError } from "../errors.js";
import {
  CONNECT_TIMEOUT_MS,
  explained,
  httpStatus,
  REQUEST_ATTEMPTS_MAX,
  REQUESTS_MAX,
  RETRY_MODE,
  realWait,
  retried,
  type Wait,
} from "./aws-errors.js";
import { Gate } from "./gate.js";
import { checkKey, compareKeys } from "./keys.js";

/** Between two bytes of a transfer. */
const IDLE_TIMEOUT_MS = 5_000;
/** Of a whole transfer; S3 gives a Lambda at least tens of MB a second. */
const REQUEST_TIMEOUT_MS = 120_000;
/** A put of one piece; our files are some hundred MB at most. */
const FILE_BYTES_MAX = 5 * 1024 * 1024 * 1024;
/** Tells a writer that an object is its own, when a repeated request meets its own success. */
const WRITE_ID = "millpond-write-id";

const silent = () => undefined;
/** What fails is thrown; the SDK would also say on stderr that it does not repeat a stream. */
const NO_LOG = { trace: silent, debug: silent, info: silent, warn: silent, error: silent };

/** A client that takes endpoint, region and credentials from the environment, as the CLI does. */
export function s3Client(): S3Client {
  const { AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_S3 } = process.env;
  return new S3Client({
    maxAttempts: REQUEST_ATTEMPTS_MAX,
    retryMode: RETRY_MODE,
    logger: NO_LOG,
    // Names of buckets resolve as host names at AWS only.
    forcePathStyle: [AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL].some((url = "") => url !== ""),
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: IDLE_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      throwOnRequestTimeout: true,
    },
  });
}

/** "absent": only if the key is free. An ETag: only if the object still has it. */
export type Condition = "absent" | { readonly etag: string };

export interface StoredFile {
  readonly key: string;
  readonly bytes: number;
  /** Epoch ms, by S3's clock. */
  readonly modifiedMs: number;
}

/**
 * Objects of a bucket. Bodies are checked by CRC-32 both ways. Throws `MillpondError("STORAGE")`
 * when S3 fails; of a write the outcome is then unknown.
 *
 * @example
 * const bucket = new S3Bucket("my-bucket");
 * const etag = await bucket.put("a/b", Buffer.from("text"), "absent"); // null: the key is taken
 */
export class S3Bucket {
  readonly name: string;
  readonly #client: S3Client;
  readonly #wait: Wait;
  readonly #gate = new Gate(REQUESTS_MAX);

  constructor(name: string, client: S3Client = s3Client(), wait: Wait = realWait) {
    this.name = name;
    this.#client = client;
    this.#wait = wait;
  }

  /** The new ETag; null when the condition does not hold, and nothing was written. */
  put(
    key: string,
    content: Uint8Array | { readonly file: string },
    condition: Condition | null = null,
  ): Promise<string | null> {
    return this.#explained("write", key, async () => {
      const writeId = randomUUID();
      const body = content instanceof Uint8Array ? ofBytes(content) : await ofFile(content.file);
      const put = () =>
        this.#client.send(
          new PutObjectCommand({
            Bucket: this.name,
            Key: key,
            ...body(),
            Metadata: { [WRITE_ID]: writeId },
            IfNoneMatch: condition === "absent" ? "*" : undefined,
            IfMatch: condition === null || condition === "absent" ? undefined : condition.etag,
          }),
        );
      try {
        return (await retried(put, this.#wait)).ETag ?? "";
      } catch (error) {
        if (condition === null || !isUnmet(error)) throw error;
        return this.#ownWrite(key, writeId);
      }
    });
  }

  /** Null when absent; without `s3:ListBucket` on the key, S3 says 403 instead of that. */
  get(key: string): Promise<Uint8Array | null> {
    return this.#explained("read", key, () =>
      this.#ifThere(async () => {
        const { Body } = await this.#open(key);
        return Body === undefined ? new Uint8Array() : await Body.transformToByteArray();
      }),
    );
  }

  /** Into a local file; returns the ETag, or null when absent. */
  download(key: string, file: string): Promise<string | null> {
    return this.#explained("read", key, () =>
      this.#ifThere(async () => {
        const { Body, ETag = "" } = await this.#open(key);
        const source = Body instanceof Readable ? Body : Readable.from([]);
        await pipeline(source, createWriteStream(file));
        return ETag;
      }),
    );
  }

  /** The ETag, or null when absent. */
  etag(key: string): Promise<string | null> {
    return this.#explained("look up", key, async () => (await this.#head(key))?.etag ?? null);
  }

  /** What is there, or null when absent. */
  describe(key: string): Promise<(StoredFile & { readonly etag: string }) | null> {
    return this.#explained("look up", key, async () => {
      const head = await this.#head(key);
      return head === null ? null : { key, ...head };
    });
  }

  /** Bytes [from, to) of the object as it was when it had this ETag; null when it changed. */
  range(key: string, etag: string, from: number, to: number): Promise<Uint8Array | null> {
    return this.#explained("read", key, async () => {
      const Range = `bytes=${from}-${to - 1}`;
      const command = { Bucket: this.name, Key: key, IfMatch: etag, Range };
      try {
        return await retried(async () => {
          const { Body } = await this.#client.send(new GetObjectCommand(command));
          return Body === undefined ? new Uint8Array() : await Body.transformToByteArray();
        }, this.#wait);
      } catch (error) {
        if (isUnmet(error)) return null;
        throw error;
      }
    });
  }

  /** No error when absent. */
  delete(key: string): Promise<void> {
    return this.#explained("delete", key, async () => {
      await this.#client.send(new DeleteObjectCommand({ Bucket: this.name, Key: key }));
    });
  }

  /** All objects whose key starts with `prefix` (and comes after `startAfter`), ascending. */
  list(prefix: string, startAfter?: string): Promise<StoredFile[]> {
    return this.#explained("list", prefix, async () => {
      const pages = paginateListObjectsV2(
        { client: this.#client },
        { Bucket: this.name, Prefix: prefix, StartAfter: startAfter },
      );
      const files: StoredFile[] = [];
      for await (const { Contents = [] } of pages) {
        for (const { Key = "", Size = 0, LastModified } of Contents) {
          files.push({ key: Key, bytes: Size, modifiedMs: LastModified?.getTime() ?? 0 });
        }
      }
      return files.sort((a, b) => compareKeys(a.key, b.key));
    });
  }

  #open(key: string) {
    return this.#client.send(new GetObjectCommand({ Bucket: this.name, Key: key }));
  }

  async #ifThere<T>(read: () => Promise<T>): Promise<T | null> {
    try {
      return await retried(read, this.#wait);
    } catch (error) {
      if (error instanceof NoSuchKey) return null;
      throw error;
    }
  }

  /** A refused write may be the repetition of one that succeeded and whose reply was lost. */
  async #ownWrite(key: string, writeId: string): Promise<string | null> {
    const found = await this.#head(key);
    return found?.writeId === writeId ? found.etag : null;
  }

  async #head(key: string) {
    try {
      const command = new HeadObjectCommand({ Bucket: this.name, Key: key });
      const found = await this.#client.send(command);
      const { ETag: etag = "", ContentLength: bytes = 0, LastModified, Metadata = {} } = found;
      return { etag, bytes, modifiedMs: LastModified?.getTime() ?? 0, writeId: Metadata[WRITE_ID] };
    } catch (error) {
      if (httpStatus(error) === 404) return null;
      throw error;
    }
  }

  #explained<T>(doing: string, key: string, work: () => Promise<T>): Promise<T> {
    const where = `S3 bucket "${this.name}"`;
    return explained(`${doing} "${key}"`, where, () => this.#gate.pass(work));
  }
}

/** 412: the condition does not hold. 404: If-Match of an object that is gone. */
function isUnmet(error: unknown): boolean {
  return httpStatus(error) === 412 || error instanceof NoSuchKey;
}

type Body = Pick<
  ConstructorParameters<typeof PutObjectCommand>[0],
  "Body" | "ContentLength" | "ChecksumCRC32"
>;

function ofBytes(bytes: Uint8Array): () => Body {
  return () => ({ Body: bytes });
}

/** A stream for each attempt, and its checksum beforehand, so that the body goes out as it is. */
async function ofFile(file: string): Promise<() => Body> {
  const { size } = await stat(file);
  if (size > FILE_BYTES_MAX) {
    throw new MillpondError(
      "LIMIT",
      `${file} has ${size} bytes, S3 takes at most ${FILE_BYTES_MAX} in one piece. ` +
        "Make smaller files",
    );
  }
  let crc = 0;
  for await (const chunk of createReadStream(file)) crc = crc32(chunk, crc);
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32BE(crc);
  return () => ({
    Body: createReadStream(file),
    ContentLength: size,
    ChecksumCRC32: checksum.toString("base64"),
  });
}

/** The commit protocol's objects, under a prefix ("" or ending in "/") of a bucket. */
export class S3ObjectStore implements ObjectStore {
  readonly #bucket: S3Bucket;
  readonly #prefix: string;

  constructor(bucket: S3Bucket, prefix: string) {
    this.#bucket = bucket;
    this.#prefix = prefix;
  }

  async putIfAbsent(key: string, bytes: Uint8Array): Promise<"created" | "exists"> {
    const etag = await this.#bucket.put(this.#nameOf(key), bytes, "absent");
    return etag === null ? "exists" : "created";
  }

  get(key: string): Promise<Uint8Array | null> {
    return this.#bucket.get(this.#nameOf(key));
  }

  delete(key: string): Promise<void> {
    return this.#bucket.delete(this.#nameOf(key));
  }

  /** Lists the whole folder that the prefix begins in. */
  async list(prefix: string): Promise<string[]> {
    const folder = prefix.slice(0, prefix.lastIndexOf("/") + 1);
    const files = await this.#bucket.list(this.#prefix + escapeKey(folder));
    const keys = files.map(({ key }) => decodeURIComponent(key.slice(this.#prefix.length)));
    return keys.filter((key) => key.startsWith(prefix)).sort(compareKeys);
  }

  #nameOf(key: string): string {
    checkKey(key);
    return this.#prefix + escapeKey(key);
  }
}

/** Keys as S3, URLs and XML all take them: ASCII, and no "." or ".." as a segment. */
function escapeKey(key: string): string {
  return key
    .split("/")
    .map((segment) =>
      /^\.+$/.test(segment) ? segment.replaceAll(".", "%2E") : encodeURIComponent(segment),
    )
    .join("/");
}

/**
 * Whole files under a prefix ("" or ending in "/"), replaced only where nobody else did meanwhile:
 * for databases in a bucket.
 *
 * @example
 * const etag = await files.download("databases/flights.duckdb", local); // null: not there yet
 * const outcome = await files.upload("databases/flights.duckdb", local, etag);
 */
export class S3Files {
  readonly #bucket: S3Bucket;
  readonly #prefix: string;

  constructor(bucket: S3Bucket, prefix: string) {
    this.#bucket = bucket;
    this.#prefix = prefix;
  }

  /** What DuckDB reads the file by. */
  uri(key: string): string {
    return `s3://${this.#bucket.name}/${this.#prefix}${key}`;
  }

  /** The ETag, or null when absent. */
  etag(key: string): Promise<string | null> {
    return this.#bucket.etag(this.#prefix + key);
  }

  /** Into a local file; returns the ETag, or null when absent. */
  download(key: string, file: string): Promise<string | null> {
    return this.#bucket.download(this.#prefix + key, file);
  }

  /** `expectedEtag` null: only if there is no such file. "conflict": nothing was written. */
  async upload(
    key: string,
    file: string,
    expectedEtag: string | null,
  ): Promise<"written" | "conflict"> {
    const condition = expectedEtag === null ? "absent" : { etag: expectedEtag };
    const etag = await this.#bucket.put(this.#prefix + key, { file }, condition);
    return etag === null ? "conflict" : "written";
  }
}
