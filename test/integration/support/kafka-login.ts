/** Logs in to brokers in a process of its own, whose roots of trust were set when it started. */
import { connectKafka } from "../../../lib/sources/kafka/kafkajs-client.js";
import type { KafkaAuth } from "../../../lib/sources/kafka/settings.js";

interface Login {
  readonly brokers: readonly string[];
  readonly auth: Exclude<KafkaAuth, { kind: "scram" }> | { readonly kind: "scram" };
  readonly username: string;
  readonly password: string;
}

const logins: readonly Login[] = JSON.parse(process.argv[2]!);
const results: string[] = [];
for (const [i, { brokers, auth, username, password }] of logins.entries()) {
  const login = async () => ({ username, password });
  try {
    const full: KafkaAuth = auth.kind === "scram" ? { kind: "scram", login } : auth;
    const client = await connectKafka({ brokers, auth: full });
    await client.createTopic(`login_${i}`, { partitions: 1 });
    await client.close();
    results.push("created");
  } catch (error) {
    results.push(String(error));
  }
}
process.stdout.write(JSON.stringify(results));
