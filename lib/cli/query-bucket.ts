/** Finds a pipeline's database in a bucket: `s3://bucket/prefix`, by name where it has many. */
import { MillpondError } from "../errors.js";
import type { ReadableDatabase } from "../query/snapshot-results.js";
import { bucketDatabase } from "../stores/bucket-database.js";
import { S3Bucket, S3Files } from "../stores/s3.js";

const SUFFIX = ".duckdb";

/**
 * @throws MillpondError USAGE when the address is none, or does not lead to one database; STORAGE
 * when S3 fails
 */
export async function databaseAt(
  address: string,
  pipeline: string | undefined,
): Promise<ReadableDatabase> {
  const { name, prefix } = bucketAt("--s3", address);
  const bucket = new S3Bucket(name);
  const key = `databases/${pipeline ?? (await onlyPipeline(bucket, prefix))}${SUFFIX}`;
  const files = new S3Files(bucket, prefix);
  return bucketDatabase({ files, key }, `s3://${name}/${prefix}lake/`, process.env);
}

/**
 * Of an address as `option` gives it; the prefix is "" or ends in "/".
 *
 * @throws MillpondError USAGE when it is none
 * @example bucketAt("--s3", "s3://results/millpond") // { name: "results", prefix: "millpond/" }
 */
export function bucketAt(option: string, address: string): { name: string; prefix: string } {
  const [, name, path] = /^s3:\/\/([^/]+)\/?(.*)$/.exec(address) ?? [];
  if (name !== undefined && path !== undefined) {
    return { name, prefix: path === "" || path.endsWith("/") ? path : `${path}/` };
  }
  const expected = "expected s3://bucket or s3://bucket/…";
  throw new MillpondError("USAGE", `${option} is "${address}", ${expected}`);
}

async function onlyPipeline(bucket: S3Bucket, prefix: string): Promise<string> {
  const folder = `${prefix}databases/`;
  const names = (await bucket.list(folder))
    .map(({ key }) => key.slice(folder.length))
    .filter((name) => name.endsWith(SUFFIX) && !name.includes("/"))
    .map((name) => name.slice(0, -SUFFIX.length));
  const [only] = names;
  if (only !== undefined && names.length === 1) return only;
  const found = names.length === 0 ? "no database" : `databases of ${names.join(", ")}`;
  const advice = names.length === 0 ? "correct bucket and prefix" : "choose one by --pipeline";
  throw new MillpondError("USAGE", `found ${found} in s3://${bucket.name}/${folder}: ${advice}`);
}
