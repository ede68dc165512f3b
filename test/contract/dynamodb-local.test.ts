/** The checkpoint store's contract over Amazon's own DynamoDB Local, a second opinion. */
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe } from "vitest";
import { DynamoDbCheckpointStore } from "../../lib/stores/dynamodb.js";
import { createStateTable } from "../servers/aws-resources.js";
import {
  type DynamoDbLocal,
  setUpDynamoDbLocal,
  startDynamoDbLocal,
} from "../servers/dynamodb-local.js";
import { CLIENTS, describeCheckpointStore } from "./stores.js";

const missing = await setUpDynamoDbLocal();
const title = `DynamoDB Local${missing === null ? "" : ` (skipped: ${missing})`}`;

describe.skipIf(missing !== null)(title, () => {
  let server: DynamoDbLocal;
  const env: Record<string, string> = {
    AWS_REGION: "us-east-1",
    AWS_ACCESS_KEY_ID: "test",
    AWS_SECRET_ACCESS_KEY: "test",
    AWS_EC2_METADATA_DISABLED: "true",
  };

  beforeAll(async () => {
    server = await startDynamoDbLocal();
    env.AWS_ENDPOINT_URL = server.endpoint;
    Object.assign(process.env, env);
  });
  afterAll(() => server.stop());

  describeCheckpointStore(async () => {
    const table = `state-${randomUUID()}`;
    await createStateTable(env, table);
    return Array.from({ length: CLIENTS }, () => new DynamoDbCheckpointStore(table));
  });
});
