/** Settings of the app: defaults, and refusals before anything is made. */
import { describe, expect, test } from "vitest";
import { appSettings } from "../../../lib/aws/app-settings.js";
import { checkKafka, hasTopicApi } from "../../../lib/aws/kafka.js";

test("defaults are the cheapest that works", () => {
  expect(appSettings({})).toEqual({
    profile: "aws",
    pipeline: "pipelines/activity.ts",
    stage: "dev",
    kafka: { kind: "serverless" },
    partitions: 4,
    architecture: "arm64",
    batchWindowSeconds: 5,
    paused: false,
    retain: false,
  });
});

test("names with a separator are the CDK's own", () => {
  expect(() => appSettings({ "aws:cdk:x": 1, "@aws-cdk/y": true })).not.toThrow();
});

test.each([
  [{ kafak: "serverless" }, 'setting "kafak" is unknown'],
  [{ kafka: "kinesis" }, 'setting "kafka" is "kinesis": give serverless or provisioned'],
  [{ partitions: "0" }, 'setting "partitions" is "0": give 1 to 10000'],
  [{ partitions: "4.5" }, 'setting "partitions" is "4.5"'],
  [{ kafka: "existing" }, 'setting "clusterArn" is missing: kafka=existing needs it'],
  [{ kafka: "self-managed" }, 'setting "bootstrapServers" is missing'],
  [{ pollers: "many" }, 'setting "pollers" is "many": give min-max'],
  [{ retries: "3" }, "only provisioned mode has it"],
  [{ producer: "nonsense" }, "give simulator=rate, or a request as JSON"],
  [
    {
      kafka: "self-managed",
      bootstrapServers: "a:1",
      vpcId: "vpc-1",
      subnetIds: "a,b",
      availabilityZones: "x",
      securityGroupIds: "s",
    },
    "1 for 2 subnets",
  ],
  [{ stage: { a: 1 } }, 'setting "stage" is {"a":1}: give text'],
])("%j is refused, saying what to do", (context, message) => {
  expect(() => appSettings(context)).toThrow(message);
});

test("a producer's request is written short or whole", () => {
  expect(appSettings({ producer: "activity=50" }).producer).toEqual({
    simulator: "activity",
    rate: 50,
    events: 3_000,
  });
  expect(appSettings({ producer: '{"dataset":"clicks/"}' }).producer).toEqual({
    dataset: "clicks/",
  });
});

describe("Kafka", () => {
  const arn = (id: string) => `arn:aws:kafka:eu-west-1:123456789012:cluster/events/${id}`;

  test("MSK's API makes topics on provisioned clusters alone", () => {
    expect(hasTopicApi({ kind: "serverless" })).toBe(false);
    expect(hasTopicApi({ kind: "provisioned" })).toBe(true);
    expect(hasTopicApi({ kind: "existing", clusterArn: arn("0f-12") })).toBe(true);
    expect(hasTopicApi({ kind: "existing", clusterArn: arn("0f-s2") })).toBe(false);
    const own = { kind: "self-managed", bootstrapServers: ["a:1"], auth: "tls" } as const;
    expect(hasTopicApi(own)).toBe(false);
  });

  test.each([
    [{ kind: "provisioned", brokers: 4 }, "can't be spread over 3 zones"],
    [{ kind: "provisioned", kafkaVersion: "2.8.1" }, "use 3.6.0 or later"],
    [{ kind: "existing", clusterArn: "events" }, "is no ARN of an MSK cluster"],
    [{ kind: "self-managed", bootstrapServers: ["a"], auth: "tls" }, "give host:port"],
    [{ kind: "self-managed", bootstrapServers: [], auth: "tls" }, "are missing"],
    [{ kind: "self-managed", bootstrapServers: ["a:1"], auth: "scram" }, "give secretArn"],
  ] as const)("%j is refused", (kafka, message) => {
    expect(() => checkKafka(kafka)).toThrow(message);
  });
});
