/**
 * The stack with an MSK cluster of its own, as it goes to AWS, deployed to the emulator: network,
 * brokers, topics by MSK's API, Lambda's own event source mapping. Its brokers are an address only.
 */
import { DescribeTopicCommand, KafkaClient, ListClustersV2Command } from "@aws-sdk/client-kafka";
import {
  GetFunctionConfigurationCommand,
  LambdaClient,
  ListEventSourceMappingsCommand,
} from "@aws-sdk/client-lambda";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cloud, setUpCloud } from "./cloud.js";

const missing = await setUpCloud();
const title = missing === null ? "MSK, provisioned" : `MSK, provisioned (skipped: ${missing})`;

describe.skipIf(missing !== null)(title, () => {
  let cloud: Cloud;
  const before = { ...process.env };
  beforeAll(async () => {
    const context = { profile: "aws", kafka: "provisioned", partitions: "6", pollers: "1-4" };
    cloud = await Cloud.start({ pipeline: "pipelines/activity.ts", context });
  });
  afterAll(async () => {
    process.env = before;
    await cloud?.stop();
  });

  test("the topic was made through MSK's API, with its partitions", async () => {
    const client = new KafkaClient({});
    const { ClusterInfoList = [] } = await client.send(new ListClustersV2Command({}));
    const ClusterArn = ClusterInfoList[0]?.ClusterArn;
    const topic = await client.send(
      new DescribeTopicCommand({ ClusterArn, TopicName: "user_activity" }),
    );
    client.destroy();
    expect(topic).toMatchObject({ PartitionCount: 6, ReplicationFactor: 3 });
  });

  test("the producer knows the brokers that MSK named", async () => {
    const client = new LambdaClient({});
    const { Environment } = await client.send(
      new GetFunctionConfigurationCommand({ FunctionName: cloud.output("Producer") }),
    );
    client.destroy();
    expect(Environment?.Variables).toMatchObject({
      MILLPOND_BOOTSTRAP: cloud.kafka.bootstrap,
      MILLPOND_KAFKA_AUTH: "iam",
    });
  });

  test("Lambda polls the topic for the processor, from its beginning", async () => {
    const client = new LambdaClient({});
    const { EventSourceMappings = [] } = await client.send(
      new ListEventSourceMappingsCommand({ FunctionName: cloud.output("Processor") }),
    );
    client.destroy();
    expect(EventSourceMappings).toEqual([
      expect.objectContaining({
        Topics: ["user_activity"],
        BatchSize: 10_000,
        StartingPosition: "TRIM_HORIZON",
        EventSourceArn: expect.stringContaining(":kafka:"),
        ProvisionedPollerConfig: { MinimumPollers: 1, MaximumPollers: 4 },
      }),
    ]);
  });
});
