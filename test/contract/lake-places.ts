/** Where the lake's tests keep a lake: a local directory, or a bucket that is copied to be read. */
import * as fs from "node:fs/promises";
import * as path from "node:path";
import { GetObjectCommand, ListObjectsV2Command, S3Client } from "@aws-sdk/client-s3";
import { type LakeStorage, LocalLakeStorage } from "../../lib/sinks/lake-storage.js";
import { S3LakeStorage } from "../../lib/sinks/s3-lake-storage.js";
import { S3Bucket, s3Client } from "../../lib/stores/s3.js";
import { clientConfig, createBucket } from "../servers/aws-resources.js";
import { type Ministack, setUpMinistack, startMinistack } from "../servers/ministack.js";

/** A lake is named by a local directory, also where that is not where its files are. */
export interface LakePlace {
  readonly name: string;
  /** Why this machine can't have it; null when it can. */
  readonly missing: string | null;
  start(): Promise<void>;
  stop(): Promise<void>;
  storage(dir: string, tempName?: string): LakeStorage;
  /** A local directory that holds what the lake holds now. */
  copy(dir: string): Promise<string>;
  clear(dir: string): Promise<void>;
}

export const localPlace: LakePlace = {
  name: "a local directory",
  missing: null,
  start: async () => {},
  stop: async () => {},
  storage: (dir, tempName = "tmp") =>
    new LocalLakeStorage(dir, path.join(dir, "_millpond", tempName)),
  copy: async (dir) => dir,
  clear: (dir) => fs.rm(dir, { recursive: true, force: true }),
};

/** Where every lake on S3 is, each under `lake/<name of its directory>/`. */
export const BUCKET = "lakes";

class S3Place implements LakePlace {
  readonly name = "S3";
  readonly missing: string | null;
  #aws: Ministack | null = null;

  constructor(missing: string | null) {
    this.missing = missing;
  }

  async start(): Promise<void> {
    this.#aws = await startMinistack();
    Object.assign(process.env, this.#aws.env);
    await createBucket(this.#aws.env, BUCKET);
  }

  async stop(): Promise<void> {
    await this.#aws?.stop();
  }

  storage(dir: string, tempName = "tmp"): LakeStorage {
    return new S3LakeStorage(new S3Bucket(BUCKET), prefixOf(dir), path.join(dir, tempName));
  }

  /** With the SDK alone, so that what the storage wrote is seen by another reader. */
  async copy(dir: string): Promise<string> {
    const client = this.#client();
    const target = path.join(dir, "copy");
    await fs.rm(target, { recursive: true, force: true });
    await fs.mkdir(target, { recursive: true });
    for (const key of await keysIn(client, prefixOf(dir))) {
      const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key }));
      const file = path.join(target, key.slice(prefixOf(dir).length));
      await fs.mkdir(path.dirname(file), { recursive: true });
      await fs.writeFile(file, (await Body?.transformToByteArray()) ?? new Uint8Array());
    }
    client.destroy();
    return target;
  }

  async clear(dir: string): Promise<void> {
    const bucket = new S3Bucket(BUCKET, s3Client());
    for (const { key } of await bucket.list(prefixOf(dir))) await bucket.delete(key);
    await fs.rm(dir, { recursive: true, force: true });
  }

  #client(): S3Client {
    const env = this.#aws?.env ?? {};
    const endpoint = env.AWS_ENDPOINT_URL_S3;
    return new S3Client({ ...clientConfig(env), endpoint, forcePathStyle: true });
  }
}

export async function s3Place(): Promise<LakePlace> {
  return new S3Place(await setUpMinistack());
}

function prefixOf(dir: string): string {
  return `lake/${path.basename(dir)}/`;
}

async function keysIn(client: S3Client, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  let token: string | undefined;
  do {
    const page = await client.send(
      new ListObjectsV2Command({ Bucket: BUCKET, Prefix: prefix, ContinuationToken: token }),
    );
    keys.push(...(page.Contents ?? []).map(({ Key = "" }) => Key));
    token = page.NextContinuationToken;
  } while (token !== undefined);
  return keys;
}
