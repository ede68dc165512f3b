/** Custom resources for Kafka: what is done to a topic, and that CloudFormation is answered. */
import { describe, expect, test } from "vitest";
import { mskTopicAdmin } from "../../../lib/handlers/topic-admins.js";
import {
  BROKERS_RESOURCE,
  type CustomResourceEvent,
  makeTopics,
  TOPIC_RESOURCE,
  type TopicAdmin,
  type TopicWanted,
  topicAction,
  topicWanted,
} from "../../../lib/handlers/topics.js";

/** Topics in memory; remembers what was asked. */
class MemoryAdmin implements TopicAdmin {
  readonly topics = new Map<string, number>();
  isClosed = false;

  async partitions(topic: string): Promise<number | null> {
    return this.topics.get(topic) ?? null;
  }

  async create({ topic, partitions }: TopicWanted): Promise<void> {
    this.topics.set(topic, partitions);
  }

  async grow(topic: string, partitions: number): Promise<void> {
    this.topics.set(topic, partitions);
  }

  async close(): Promise<void> {
    this.isClosed = true;
  }
}

const event = (over: Partial<CustomResourceEvent> = {}): CustomResourceEvent => ({
  RequestType: "Create",
  ResponseURL: "https://cloudformation.example/answer",
  StackId: "stack",
  RequestId: "request",
  LogicalResourceId: "Topic",
  ResourceType: TOPIC_RESOURCE,
  ResourceProperties: { ServiceToken: "arn", Topic: "clicks", Partitions: "4", Settings: {} },
  ...over,
});

function handlerOf(admin: MemoryAdmin, fail?: Error) {
  const answers: Record<string, unknown>[] = [];
  const handler = makeTopics({
    openAdmin: async () => {
      if (fail !== undefined) throw fail;
      return admin;
    },
    bootstrapBrokers: async () => ["a:9098", "b:9098"],
    respond: async (_, body) => {
      answers.push(JSON.parse(body));
    },
  });
  return { handler, answers };
}

describe("a topic", () => {
  test("is made, then kept, then grown; its id is its name", async () => {
    const admin = new MemoryAdmin();
    const { handler, answers } = handlerOf(admin);
    await handler(event());
    await handler(event());
    await handler(
      event({ RequestType: "Update", ResourceProperties: { Topic: "clicks", Partitions: "6" } }),
    );
    expect(admin.topics).toEqual(new Map([["clicks", 6]]));
    expect(admin.isClosed).toBe(true);
    for (const answer of answers) {
      expect(answer).toMatchObject({ Status: "SUCCESS", PhysicalResourceId: "clicks" });
    }
  });

  test("outlives the stack", async () => {
    const admin = new MemoryAdmin();
    const { handler, answers } = handlerOf(admin);
    await handler(event());
    await handler(event({ RequestType: "Delete", PhysicalResourceId: "clicks" }));
    expect(admin.topics.has("clicks")).toBe(true);
    expect(answers[1]).toMatchObject({ Status: "SUCCESS", PhysicalResourceId: "clicks" });
  });

  test("is deleted from the stack even when Kafka is gone", async () => {
    const { handler, answers } = handlerOf(new MemoryAdmin(), new Error("no broker"));
    await handler(event({ RequestType: "Delete", PhysicalResourceId: "clicks" }));
    expect(answers[0]).toMatchObject({ Status: "SUCCESS" });
  });

  test("never loses partitions", () => {
    const wanted = { topic: "clicks", partitions: 4, settings: {} };
    expect(topicAction(wanted, null)).toBe("create");
    expect(topicAction(wanted, 4)).toBe("keep");
    expect(topicAction(wanted, 2)).toBe("grow");
    expect(() => topicAction(wanted, 8)).toThrow("Kafka can't take partitions away");
  });
});

test("a failure is answered too, with its reason", async () => {
  const { handler, answers } = handlerOf(new MemoryAdmin(), new Error("no broker"));
  await handler(event({ PhysicalResourceId: "old" }));
  expect(answers).toEqual([
    expect.objectContaining({ Status: "FAILED", Reason: "no broker", PhysicalResourceId: "old" }),
  ]);
});

test("brokers are an attribute of their resource", async () => {
  const { handler, answers } = handlerOf(new MemoryAdmin());
  await handler(event({ ResourceType: BROKERS_RESOURCE }));
  expect(answers[0]).toMatchObject({ Data: { BootstrapServers: "a:9098,b:9098" } });
});

test.each([
  [{ Topic: "a b", Partitions: "1" }, "is no topic name"],
  [{ Topic: "a", Partitions: "0" }, "give 1 to 10000"],
  [{ Topic: "a", Partitions: "x" }, "give 1 to 10000"],
  [{ Topic: "a", Partitions: "1", Settings: "x" }, "not an object"],
])("properties %j are refused", (properties, message) => {
  expect(() => topicWanted(properties)).toThrow(message);
});

describe("MSK's API", () => {
  type Sent = { readonly name: string; readonly input: Record<string, unknown> };

  /** The SDK's client, with its answers given. */
  function clientOf(answers: Readonly<Record<string, unknown>>) {
    const sent: Sent[] = [];
    const client = {
      send: async (command: { readonly input: Record<string, unknown> }) => {
        const { name } = command.constructor;
        sent.push({ name, input: command.input });
        const answer = answers[name];
        if (answer instanceof Error) throw answer;
        return answer ?? {};
      },
      destroy: () => undefined,
    };
    return { client: client as never, sent };
  }

  test("settings go as the lines of a properties file, in base64", async () => {
    const { client, sent } = clientOf({});
    const settings = { "compression.type": "producer", "retention.ms": "604800000" };
    await mskTopicAdmin("arn", client).create({ topic: "clicks", partitions: 4, settings });
    expect(sent[0]?.input).toEqual({
      ClusterArn: "arn",
      TopicName: "clicks",
      PartitionCount: 4,
      ReplicationFactor: 3,
      // The example of DescribeTopic in MSK's developer guide.
      Configs: "Y29tcHJlc3Npb24udHlwZT1wcm9kdWNlcgpyZXRlbnRpb24ubXM9NjA0ODAwMDAw",
    });
  });

  test("a topic that is not there has no partitions; one just made is no failure", async () => {
    const { NotFoundException, TopicExistsException } = await import("@aws-sdk/client-kafka");
    const about = { $metadata: {}, message: "" };
    const { client } = clientOf({
      DescribeTopicCommand: new NotFoundException(about),
      CreateTopicCommand: new TopicExistsException(about),
    });
    const admin = mskTopicAdmin("arn", client);
    expect(await admin.partitions("clicks")).toBeNull();
    await admin.create({ topic: "clicks", partitions: 1, settings: {} });
  });
});
