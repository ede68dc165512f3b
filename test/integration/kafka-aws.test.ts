/** What the Kafka parts ask of AWS, on an emulator: brokers of MSK, a secret, data sets in S3. */
import { gzipSync } from "node:zlib";
import { CreateClusterV2Command, KafkaClient as MskClient } from "@aws-sdk/client-kafka";
import { PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { CreateSecretCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeProducer } from "../../lib/handlers/producer.js";
import { pipeline, stream, string, timestamp } from "../../lib/index.js";
import { connectKafka } from "../../lib/sources/kafka/kafkajs-client.js";
import { kafkaSettings } from "../../lib/sources/kafka/settings.js";
import { makeAwsResources } from "../servers/aws-resources.js";
import { setUpKafka, startKafka, type TestKafka } from "../servers/kafka.js";
import { type Ministack, setUpMinistack, startMinistack } from "../servers/ministack.js";

const missing = (await setUpKafka()) ?? (await setUpMinistack());

describe.skipIf(missing !== null)(`Kafka and AWS${missing ? ` (${missing})` : ""}`, () => {
  const before = { ...process.env };
  let kafka: TestKafka;
  let aws: Ministack;

  beforeAll(async () => {
    kafka = await startKafka();
    aws = await startMinistack({ kafkaBootstrap: kafka.bootstrap });
    Object.assign(process.env, aws.env);
  });
  afterAll(async () => {
    process.env = before;
    await kafka?.stop();
    await aws?.stop();
  });

  test("asks MSK for the brokers of a cluster, by the login in use", async () => {
    const msk = new MskClient();
    const { ClusterArn: arn = "" } = await msk.send(
      new CreateClusterV2Command({
        ClusterName: "c",
        Serverless: {
          VpcConfigs: [{ SubnetIds: ["subnet-1"] }],
          ClientAuthentication: { Sasl: { Iam: { Enabled: true } } },
        },
      }),
    );
    msk.destroy();
    const settings = await kafkaSettings({ MILLPOND_CLUSTER_ARN: arn });
    expect(settings).toEqual({
      brokers: [kafka.bootstrap],
      auth: { kind: "iam", region: arn.split(":")[3] },
    });
    const wrong = { MILLPOND_CLUSTER_ARN: arn.replace(/[^:]+$/, "cluster/none/none") };
    await expect(kafkaSettings(wrong)).rejects.toThrow(/did not name the brokers.*Check the ARN/);
  });

  test("reads a SCRAM login from its secret, and never says what else is in there", async () => {
    const secrets = new SecretsManagerClient();
    const put = async (name: string, text: string) => {
      const made = await secrets.send(new CreateSecretCommand({ Name: name, SecretString: text }));
      const env = { MILLPOND_BOOTSTRAP: "b:9096", MILLPOND_KAFKA_AUTH: "scram" };
      return kafkaSettings({ ...env, MILLPOND_KAFKA_SECRET_ARN: made.ARN });
    };
    const { auth } = await put("good", '{"username":"me","password":"hush"}');
    expect(auth.kind === "scram" && (await auth.login())).toEqual({
      username: "me",
      password: "hush",
    });
    for (const [name, text] of [
      ["plain", "hush"],
      ["other", '{"user":"me","password":"hush"}'],
    ] as const) {
      const settings = await put(name, text);
      const error = await connectKafka(settings).catch((cause: unknown) => cause);
      expect(String(error)).toMatch(/does not hold \{"username"/);
      expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain("hush");
    }
    secrets.destroy();
  });

  test("replays a data set from the bucket", async () => {
    const resources = await makeAwsResources(aws.env);
    const s3 = new S3Client({ forcePathStyle: true });
    const lines = (n: number) => Array.from({ length: n }, (_, i) => `{"id":"u${i}"}\n`).join("");
    const objects: readonly (readonly [string, Uint8Array])[] = [
      ["some/prefix/datasets/days/a.ndjson", Buffer.from(lines(3))],
      ["some/prefix/datasets/days/b.ndjson.gz", gzipSync(lines(4))],
      ["some/prefix/datasets/days-2/c.ndjson", Buffer.from(lines(50))],
      ["other/datasets/days/d.ndjson", Buffer.from(lines(50))],
    ];
    for (const [Key, Body] of objects) {
      await s3.send(new PutObjectCommand({ Bucket: resources.MILLPOND_BUCKET, Key, Body }));
    }
    s3.destroy();
    const events = stream("replayed", {
      schema: { id: string(), at: timestamp() },
      key: "id",
      eventTime: "at",
      lateness: 0,
    });
    const handler = makeProducer({
      pipeline: pipeline("replay", { all: events.rows() }),
      env: { ...resources, MILLPOND_PREFIX: "some/prefix/", MILLPOND_BOOTSTRAP: kafka.bootstrap },
      write: () => undefined,
    });
    await kafka.createTopic("replayed", 2);
    const forever = { getRemainingTimeInMillis: () => 60_000 };
    const response = await handler({ dataset: "days" }, forever);
    expect(response).toEqual({ topic: "replayed", sent: 7, done: true });
    const client = await connectKafka({ brokers: [kafka.bootstrap], auth: { kind: "plaintext" } });
    const offsets = (await client.offsets("replayed"))!;
    await client.close();
    expect(offsets.reduce((sum, { high }) => sum + high, 0)).toBe(7);
  });
});
