/** A pipeline's DuckDB file in a bucket, for those who make it and those who query it. */
import type { DatabaseStorage } from "../sinks/database-snapshot.js";
import type { DatabasePlace } from "./open-stores.js";

/**
 * `lakeUri` is the folder of the files that the database's views name, such as
 * "s3://bucket/lake/flights/": credentials are used for nothing else.
 */
export function bucketDatabase(
  { files, key }: Pick<Extract<DatabasePlace, { kind: "s3" }>, "files" | "key">,
  lakeUri: string,
  env: NodeJS.ProcessEnv,
): DatabaseStorage {
  return {
    uri: files.uri(key),
    etag: () => files.etag(key),
    download: (file) => files.download(key, file),
    upload: (file, expectedEtag) => files.upload(key, file, expectedEtag),
    async access() {
      // What queries nothing over S3 loads no more of AWS than the bucket's client.
      const { duckdbS3Access } = await import("./duckdb-s3.js");
      return duckdbS3Access(env, lakeUri);
    },
  };
}
