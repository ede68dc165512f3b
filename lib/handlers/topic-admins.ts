/** The two ways to make a topic: MSK's API, which needs no network, and Kafka's protocol. */
import {
  ConflictException,
  CreateTopicCommand,
  DescribeTopicCommand,
  KafkaClient as MskClient,
  NotFoundException,
  TopicExistsException,
  UnknownTopicOrPartitionException,
  UpdateTopicCommand,
} from "@aws-sdk/client-kafka";
import type { KafkaClient } from "../sources/kafka/client.js";
import type { TopicAdmin } from "./topics.js";

/** Copies of each partition on MSK unless told: one a zone of the usual three. */
const MSK_REPLICAS = 3;

/** For MSK's provisioned clusters from Kafka 3.6 on (developer guide, "Topic operations"). */
export function mskTopicAdmin(clusterArn: string, client: MskClient = new MskClient()): TopicAdmin {
  const ClusterArn = clusterArn;
  return {
    async partitions(TopicName) {
      try {
        const found = await client.send(new DescribeTopicCommand({ ClusterArn, TopicName }));
        return found.PartitionCount ?? null;
      } catch (error) {
        if (error instanceof NotFoundException) return null;
        if (error instanceof UnknownTopicOrPartitionException) return null;
        throw error;
      }
    },
    async create({ topic, partitions, replicas, settings }) {
      const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
      const input = {
        ClusterArn,
        TopicName: topic,
        PartitionCount: partitions,
        ReplicationFactor: replicas ?? MSK_REPLICAS,
        // As its example of DescribeTopic has them: the lines of a properties file.
        ...(lines.length > 0 && { Configs: Buffer.from(lines.join("\n")).toString("base64") }),
      };
      try {
        await client.send(new CreateTopicCommand(input));
      } catch (error) {
        // What is described is up to a minute old: the topic may have been made just now.
        if (error instanceof TopicExistsException || error instanceof ConflictException) return;
        throw error;
      }
    },
    async grow(TopicName, PartitionCount) {
      await client.send(new UpdateTopicCommand({ ClusterArn, TopicName, PartitionCount }));
    },
    close: async () => client.destroy(),
  };
}

/** For MSK Serverless and brokers that are not MSK's. */
export function protocolTopicAdmin(client: KafkaClient): TopicAdmin {
  return {
    async partitions(topic) {
      return (await client.offsets(topic))?.length ?? null;
    },
    async create({ topic, partitions, replicas, settings }) {
      const options = { partitions, settings, ...(replicas !== undefined && { replicas }) };
      await client.createTopic(topic, options);
    },
    grow: (topic, partitions) => client.addPartitions(topic, partitions),
    close: () => client.close(),
  };
}
