/** The state table and the bucket as the stack makes them, on an emulator. */
import { randomUUID } from "node:crypto";
import { CreateTableCommand, DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";

/** Endpoints and credentials as `Ministack.env` gives them. */
export type ClientEnv = Readonly<Record<string, string>>;

/** Client settings from variables, for tests that do not change their own environment. */
export function clientConfig(env: ClientEnv) {
  return {
    region: env.AWS_REGION,
    credentials: {
      accessKeyId: env.AWS_ACCESS_KEY_ID,
      secretAccessKey: env.AWS_SECRET_ACCESS_KEY,
    },
  };
}

/** Makes both under fresh names; returns the handlers' variables for them. */
export async function makeAwsResources(env: ClientEnv): Promise<Record<string, string>> {
  const name = `millpond-${randomUUID()}`;
  await createStateTable(env, name);
  await createBucket(env, name);
  return { MILLPOND_STORE: "aws", MILLPOND_STATE_TABLE: name, MILLPOND_BUCKET: name };
}

export async function createStateTable(env: ClientEnv, name: string): Promise<void> {
  const client = new DynamoDBClient({ ...clientConfig(env), endpoint: env.AWS_ENDPOINT_URL });
  await client.send(
    new CreateTableCommand({
      TableName: name,
      BillingMode: "PAY_PER_REQUEST",
      AttributeDefinitions: [
        { AttributeName: "pipeline", AttributeType: "S" },
        { AttributeName: "name", AttributeType: "S" },
      ],
      KeySchema: [
        { AttributeName: "pipeline", KeyType: "HASH" },
        { AttributeName: "name", KeyType: "RANGE" },
      ],
      StreamSpecification: { StreamEnabled: true, StreamViewType: "KEYS_ONLY" },
    }),
  );
  client.destroy();
}

export async function createBucket(env: ClientEnv, name: string): Promise<void> {
  const endpoint = env.AWS_ENDPOINT_URL_S3;
  const client = new S3Client({ ...clientConfig(env), endpoint, forcePathStyle: true });
  await client.send(new CreateBucketCommand({ Bucket: name }));
  client.destroy();
}
