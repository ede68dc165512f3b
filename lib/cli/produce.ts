/** `millpond produce`: simulated events into a Kafka topic, at a pace. */
import { Command, Option } from "commander";
import { MillpondError } from "../errors.js";
import type { KafkaClient } from "../sources/kafka/client.js";
import { SIMULATIONS, type Simulation } from "../sources/simulate/simulate.js";
import { anyNumber, whole } from "./numbers.js";

interface Flags {
  readonly bootstrap?: string;
  readonly simulate: Simulation;
  readonly events?: number;
  readonly rate: number;
  readonly partitions?: number;
  readonly seed: number;
  readonly late: number;
  readonly duplicates: number;
  readonly malformed: number;
  readonly json?: boolean;
}

const HELP = `
Sends at --rate until Ctrl-C; or --events at once, which then happened at that rate up to now. A
topic that is missing is made. Events come with their key, so that a sensor's or user's are in one
partition.

Examples:
  $ millpond produce readings --simulate sensors
  $ millpond produce readings --simulate sensors --events 20000 --late 0.01 --duplicates 0.01 \\
      --malformed 0.002
`;

/** Without --events: more than anyone waits for. */
const EVENTS_ENDLESS = 1_000_000_000;
const PARTITIONS = 4;

export function produceCommand(): Command {
  return new Command("produce")
    .description("send simulated events to a Kafka topic")
    .argument("<topic>", "the topic to send to")
    .addOption(
      new Option("--simulate <simulator>", "what to send")
        .choices(SIMULATIONS)
        .makeOptionMandatory(),
    )
    .option("--bootstrap <h:p,…>", "brokers; MILLPOND_BOOTSTRAP or localhost:9092 by default")
    .option("--rate <n>", "events a second", anyNumber, 10)
    .option("--events <n>", "records to send; duplicates come on top", anyNumber)
    .option("--partitions <n>", "of a topic that is missing; 4 by default", whole(1, 1000))
    .option("--seed <s>", "seed of the randomness", anyNumber, 1)
    .option("--late <p>", "share of events 3 to 10 minutes late", anyNumber, 0)
    .option("--duplicates <p>", "share of events sent twice, within a minute", anyNumber, 0)
    .option("--malformed <p>", "share of records that cannot be read", anyNumber, 0)
    .option("--json", "what was sent as one JSON object")
    .addHelpText("after", HELP)
    .action(produce);
}

async function produce(topic: string, flags: Flags): Promise<void> {
  const { sendSimulated } = await import("../handlers/producer.js");
  const { connectKafka } = await import("../sources/kafka/kafkajs-client.js");
  const { kafkaSettings } = await import("../sources/kafka/settings.js");
  const { bootstrapOf } = await import("./tail-run.js");
  const settings = await kafkaSettings({ ...process.env, ...bootstrapOf(flags.bootstrap) });
  const { simulate: simulator, seed, late, duplicates, malformed } = flags;
  const { rate, events = EVENTS_ENDLESS } = flags;
  const isPaced = flags.events === undefined;
  const faults = { late, duplicates, malformed };
  const request = { simulator, events, seed, ...faults, eventRate: rate, ...(isPaced && { rate }) };
  const client = await connectKafka(settings);
  try {
    await makeTopic(client, topic, flags.partitions);
    const producer = await client.producer();
    try {
      if (isPaced) {
        const pace = `${rate} ${simulator} events a second`;
        process.stderr.write(`sending ${pace} to ${topic}; Ctrl-C ends it\n`);
      }
      const { sent } = await sendSimulated(request, topic, producer, untilStopped());
      const text = `sent ${sent.toLocaleString("en-US")} records to ${topic}`;
      process.stdout.write(`${flags.json === true ? JSON.stringify({ topic, sent }) : text}\n`);
    } finally {
      await producer.close();
    }
  } finally {
    await client.close();
  }
}

/** Refuses a number of partitions that a topic, which is there already, does not have. */
async function makeTopic(client: KafkaClient, topic: string, wanted?: number): Promise<void> {
  const made = await client.createTopic(topic, { partitions: wanted ?? PARTITIONS });
  if (made || wanted === undefined) return;
  const found = (await client.offsets(topic))?.length;
  if (found === wanted) return;
  throw new MillpondError(
    "USAGE",
    `topic ${topic} is there already and has ${found} partitions, not ${wanted}: leave out ` +
      "--partitions, or give another topic",
  );
}

/** Time that ends with Ctrl-C; a second one is in earnest. */
function untilStopped(): { getRemainingTimeInMillis(): number } {
  let remainingMs = Number.POSITIVE_INFINITY;
  const stop = () => {
    if (remainingMs === 0) process.exit(130);
    remainingMs = 0;
  };
  process.on("SIGINT", stop).on("SIGTERM", stop);
  return { getRemainingTimeInMillis: () => remainingMs };
}
