/** The object store's contract over Versity S3 Gateway, a second opinion on S3. */
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe } from "vitest";
import { S3Bucket, S3ObjectStore } from "../../lib/stores/s3.js";
import { createBucket } from "../servers/aws-resources.js";
import { setUpVersitygw, startVersitygw, type Versitygw } from "../servers/versitygw.js";
import { CLIENTS, describeObjectStore } from "./stores.js";

const missing = await setUpVersitygw();
const title = `Versity S3 Gateway${missing === null ? "" : ` (skipped: ${missing})`}`;

describe.skipIf(missing !== null)(title, () => {
  let server: Versitygw;
  beforeAll(async () => {
    server = await startVersitygw();
    Object.assign(process.env, server.env);
  });
  afterAll(() => server.stop());

  // Its objects are files, so that no object can be another's folder.
  describeObjectStore({ hasFolders: true }, async () => {
    const bucket = `bucket-${randomUUID()}`;
    await createBucket(server.env, bucket);
    return Array.from({ length: CLIENTS }, () => new S3ObjectStore(new S3Bucket(bucket), "a/b/"));
  });
});
