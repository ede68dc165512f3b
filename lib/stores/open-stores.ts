/**
 * The stores that the environment asks for: AWS's, or a laptop's output directory. Nothing of AWS
 * is loaded for the directory, and no DuckDB for either.
 */
import { randomUUID } from "node:crypto";
import { readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import type { CheckpointStore, ObjectStore } from "../commit/ports.js";
import { MillpondError } from "../errors.js";
import { type LakeStorage, LocalLakeStorage } from "../sinks/lake-storage.js";
import { ignoringAbsence } from "./fs-errors.js";
import type { S3Bucket, S3Files } from "./s3.js";

/** Where a pipeline's DuckDB database is kept. */
export type DatabasePlace =
  | { readonly kind: "file"; readonly file: string }
  | {
      readonly kind: "s3";
      readonly files: Pick<S3Files, "uri" | "etag" | "download" | "upload">;
      readonly key: string;
    };

export interface Stores {
  readonly checkpoints: CheckpointStore;
  readonly objects: ObjectStore;
  /** Of one pipeline: its tables' folders are at the root. */
  lake(pipeline: string): LakeStorage;
  database(pipeline: string): DatabasePlace;
  /** Null on a laptop's directory. `prefix` is "" or ends in "/". */
  readonly bucket: { readonly bucket: S3Bucket; readonly prefix: string } | null;
}

/**
 * Reads `MILLPOND_STORE`: `file:<dir>`, or `aws` with `MILLPOND_STATE_TABLE`, `MILLPOND_BUCKET` and
 * `MILLPOND_PREFIX`. AWS endpoint, region and credentials come from the SDK's own variables.
 * Throws `MillpondError("USAGE")` when a variable is missing or makes no sense.
 *
 * @example const { checkpoints, objects, lake } = await openStores(process.env);
 */
export async function openStores(env: NodeJS.ProcessEnv): Promise<Stores> {
  const store = required(env, "MILLPOND_STORE", '"aws" or "file:<directory>"');
  if (store === "aws") return openAws(env);
  const dir = /^file:(.+)$/.exec(store)?.[1];
  if (dir !== undefined) return openFiles(dir);
  throw new MillpondError(
    "USAGE",
    `MILLPOND_STORE is "${store}", expected "aws" or "file:<directory>". Set it to one of them`,
  );
}

async function openAws(env: NodeJS.ProcessEnv): Promise<Stores> {
  const table = required(env, "MILLPOND_STATE_TABLE", "the name of the DynamoDB state table");
  const name = required(env, "MILLPOND_BUCKET", "the name of the S3 bucket");
  const prefix = env.MILLPOND_PREFIX ?? "";
  if (!/^([A-Za-z0-9!_.*'()=-]+\/)*$/.test(prefix)) {
    throw new MillpondError(
      "USAGE",
      `MILLPOND_PREFIX is "${prefix}", expected "" or folders of letters, digits and -_.=, ` +
        'that end in "/", such as "millpond/". Correct it',
    );
  }
  const [dynamoDb, s3, lake] = await Promise.all([
    import("./dynamodb.js"),
    import("./s3.js"),
    import("../sinks/s3-lake-storage.js"),
  ]);
  const bucket = new s3.S3Bucket(name);
  const files = new s3.S3Files(bucket, prefix);
  return {
    checkpoints: new dynamoDb.DynamoDbCheckpointStore(table),
    objects: new s3.S3ObjectStore(bucket, `${prefix}state/`),
    lake: (pipeline) => new lake.S3LakeStorage(bucket, `${prefix}lake/${pipeline}/`, newTempDir()),
    database: (pipeline) => ({ kind: "s3", files, key: `databases/${pipeline}.duckdb` }),
    bucket: { bucket, prefix },
  };
}

/** The layout of a local run's output (`lib/runtime/output.ts`): one pipeline a directory. */
async function openFiles(dir: string): Promise<Stores> {
  const at = (...names: string[]) => path.join(path.resolve(dir), ...names);
  const { FileCheckpointStore, FileObjectStore } = await import("./files.js");
  return {
    checkpoints: new FileCheckpointStore(at("state", "checkpoints")),
    objects: new FileObjectStore(at("state", "objects")),
    lake: () => new LocalLakeStorage(at("lake"), at("lake", "_millpond", "tmp")),
    database: () => ({ kind: "file", file: at("results.duckdb") }),
    bucket: null,
  };
}

function required(env: NodeJS.ProcessEnv, name: string, expected: string): string {
  const value = env[name] ?? "";
  if (value !== "") return value;
  throw new MillpondError("USAGE", `${name} is not set, expected ${expected}. Set it`);
}

const TEMP_PREFIX = "millpond-lake-";
/** No invocation lasts as long. */
const TEMP_AGE_MS_MAX = 60 * 60 * 1000;

/** A fresh name; what killed invocations left in the same environment is removed. */
function newTempDir(): string {
  const oldest = Date.now() - TEMP_AGE_MS_MAX;
  for (const name of readdirSync(tmpdir())) {
    const dir = path.join(tmpdir(), name);
    if (!name.startsWith(TEMP_PREFIX)) continue;
    ignoringAbsence(() => {
      if (statSync(dir).mtimeMs < oldest) rmSync(dir, { recursive: true, force: true });
    });
  }
  return path.join(tmpdir(), TEMP_PREFIX + randomUUID());
}
