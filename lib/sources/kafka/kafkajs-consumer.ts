/** A member of a consumer group on kafkajs: records as they come, offsets when the caller says. */
import type { Batch, Consumer, Kafka, KafkaMessage as KafkajsMessage } from "kafkajs";
import type {
  ConsumeOptions,
  FetchedRecords,
  KafkaConsumer,
  KafkaHeader,
  KafkaRecord,
  TopicPartition,
} from "./client.js";

/** How long a fetch waits for records; also how late a resumed partition may be fetched. */
const FETCH_WAIT_MS = 200;
const FETCH_BYTES_MAX = 8 * 1024 * 1024;
const PARTITION_BYTES_MAX = 2 * 1024 * 1024;
/** A member that died without leaving holds its partitions for so long. */
const SESSION_MS = 10_000;
const HEARTBEAT_MS = 1_000;
/** How late a topic's new partitions are noticed. */
const METADATA_MS_MAX = 10_000;
/** As long as the caller wants to read: a broker that is down for an hour comes back, too. */
const RETRY = { initialRetryTime: 100, maxRetryTime: 2_000, retries: 5 } as const;

export async function startConsumer(kafka: Kafka, options: ConsumeOptions): Promise<KafkaConsumer> {
  let isClosed = false;
  const consumer = kafka.consumer({
    groupId: options.group,
    sessionTimeout: SESSION_MS,
    heartbeatInterval: HEARTBEAT_MS,
    metadataMaxAge: METADATA_MS_MAX,
    maxWaitTimeInMs: FETCH_WAIT_MS,
    maxBytes: FETCH_BYTES_MAX,
    maxBytesPerPartition: PARTITION_BYTES_MAX,
    allowAutoTopicCreation: false,
    retry: { ...RETRY, restartOnFailure: async () => !isClosed },
  });
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    options.onAssigned(partitionsOf(payload.memberAssignment));
  });
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    if (!isClosed) options.onTrouble(payload.error);
  });
  await consumer.connect();
  await consumer.subscribe({
    topics: [...options.topics],
    fromBeginning: options.startAt === "earliest",
  });
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch }) => {
      // kafkajs stops its fetches before it joins again, so these belong to the last assignment.
      if (!isClosed) options.onRecords(fetchedRecords(batch));
    },
  });
  return {
    pause: (partition) => whileJoined(() => consumer.pause([onePartition(partition)])),
    resume: (partition) => whileJoined(() => consumer.resume([onePartition(partition)])),
    commit: (offsets) =>
      consumer.commitOffsets(offsets.map(({ offset, ...at }) => ({ ...at, offset: `${offset}` }))),
    async close() {
      isClosed = true;
      await disconnect(consumer);
    },
  };
}

/** Between a crash and the next join nothing is fetched, and what joins anew is paused nowhere. */
export function whileJoined(change: () => void): void {
  try {
    change();
  } catch (error) {
    if (!(error instanceof Error) || error.name !== "KafkaJSNonRetriableError") throw error;
  }
}

async function disconnect(consumer: Consumer): Promise<void> {
  try {
    await consumer.disconnect();
  } catch {
    // A broker that is gone need not be told; the group finds out by the session's end.
  }
}

const onePartition = ({ topic, partition }: TopicPartition) => ({ topic, partitions: [partition] });

function partitionsOf(assignment: Readonly<Record<string, readonly number[]>>): TopicPartition[] {
  return Object.entries(assignment).flatMap(([topic, partitions]) =>
    partitions.map((partition) => ({ topic, partition })),
  );
}

function fetchedRecords(batch: Batch): FetchedRecords {
  return {
    topic: batch.topic,
    partition: batch.partition,
    records: batch.messages.map(toRecord),
    nextOffset: Number(batch.lastOffset()) + 1,
    highWatermark: Number(batch.highWatermark),
  };
}

export function toRecord(message: KafkajsMessage): KafkaRecord {
  return {
    offset: Number(message.offset),
    timestampMs: Number(message.timestamp),
    timestampType: isLogAppendTime(message) ? "LOG_APPEND_TIME" : "CREATE_TIME",
    key: message.key,
    value: message.value,
    headers: headersOf(message.headers ?? {}),
  };
}

/** By name; several of one name in their order, as kafkajs keeps them. */
function headersOf(headers: NonNullable<KafkajsMessage["headers"]>): KafkaHeader[] {
  return Object.entries(headers).flatMap(([name, value]) =>
    [value].flat().map((one) => ({ name, value: Buffer.from(one ?? "") })),
  );
}

/** Not in kafkajs's types: the batch's attributes, 1 for times that the broker gave. */
function isLogAppendTime(message: object): boolean {
  if (!("batchContext" in message)) return false;
  const context = message.batchContext;
  return (
    typeof context === "object" &&
    context !== null &&
    "timestampType" in context &&
    context.timestampType === 1
  );
}
