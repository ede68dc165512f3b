/** Makes a stack's topics, and finds its brokers, when CloudFormation asks. */
import { mskTopicAdmin, protocolTopicAdmin } from "../../lib/handlers/topic-admins.js";
import { makeTopics } from "../../lib/handlers/topics.js";
import { connectKafka } from "../../lib/sources/kafka/kafkajs-client.js";
import { bootstrapBrokers, kafkaSettings } from "../../lib/sources/kafka/settings.js";

const { env } = process;

export const handler = makeTopics({
  async openAdmin() {
    const clusterArn = env.MILLPOND_TOPIC_API_CLUSTER_ARN;
    if (clusterArn !== undefined) return mskTopicAdmin(clusterArn);
    return protocolTopicAdmin(await connectKafka(await kafkaSettings(env)));
  },
  bootstrapBrokers: () => bootstrapBrokers(env),
  async respond(url, body) {
    // The address is signed for a request without a content type.
    const response = await fetch(url, { method: "PUT", body, headers: { "content-type": "" } });
    if (!response.ok) throw new TypeError(`CloudFormation answered with ${response.status}`);
  },
});
