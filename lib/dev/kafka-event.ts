/**
 * The payload that Lambda makes of Kafka records for a function, for both of its Kafka event
 * sources. https://docs.aws.amazon.com/lambda/latest/dg/with-msk.html, with-kafka.html
 */
import type { KafkaRecord, TopicPartition } from "../sources/kafka/client.js";

/** A synchronous invocation takes a payload of so many bytes (AWS: 6 MB). */
export const PAYLOAD_BYTES_MAX = 6 * 1024 * 1024;

export interface KafkaEventRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  readonly timestamp: number;
  readonly timestampType: "CREATE_TIME" | "LOG_APPEND_TIME";
  /** Base64; absent when the record has none. */
  readonly key?: string;
  /** Base64; null is a tombstone. */
  readonly value: string | null;
  readonly headers: readonly Readonly<Record<string, readonly number[]>>[];
}

export interface KafkaEvent {
  readonly eventSource: "SelfManagedKafka" | "aws:kafka";
  readonly eventSourceArn?: string;
  /** `host:port,…` */
  readonly bootstrapServers: string;
  /** By `<topic>-<partition>`. */
  readonly records: Readonly<Record<string, readonly KafkaEventRecord[]>>;
}

/** What the event says about where its records come from; an ARN makes it MSK's. */
export interface EventOrigin {
  readonly bootstrapServers: string;
  readonly eventSourceArn?: string;
}

export interface LocatedRecord extends TopicPartition {
  readonly record: KafkaRecord;
}

export const partitionName = ({ topic, partition }: TopicPartition): string =>
  `${topic}-${partition}`;

/** Records of one partition must be in their order; partitions come in that of their first one. */
export function kafkaEvent(origin: EventOrigin, located: readonly LocatedRecord[]): KafkaEvent {
  const records: Record<string, KafkaEventRecord[]> = {};
  for (const one of located) {
    const name = partitionName(one);
    records[name] ??= [];
    records[name].push(eventRecord(one));
  }
  const { bootstrapServers, eventSourceArn } = origin;
  if (eventSourceArn === undefined) {
    return { eventSource: "SelfManagedKafka", bootstrapServers, records };
  }
  return { eventSource: "aws:kafka", eventSourceArn, bootstrapServers, records };
}

function eventRecord({ topic, partition, record }: LocatedRecord): KafkaEventRecord {
  return {
    topic,
    partition,
    offset: record.offset,
    timestamp: record.timestampMs,
    timestampType: record.timestampType,
    ...(record.key !== null && { key: record.key.toString("base64") }),
    value: record.value?.toString("base64") ?? null,
    headers: record.headers.map(({ name, value }) => ({ [name]: [...value] })),
  };
}

/** JSON around a record's own data, and its partition's: punctuation, and the longest numbers. */
const RECORD_FRAME_BYTES = 180;
/** JSON around all records. */
export const EVENT_FRAME_BYTES = 4096;

/** At least as many bytes as the record takes in the payload, and little more. */
export function eventRecordBytes({ topic, record }: LocatedRecord): number {
  const base64 = (bytes: Uint8Array | null) => Math.ceil((bytes?.length ?? 0) / 3) * 4;
  // Its partition's name has the topic once more.
  let bytes = RECORD_FRAME_BYTES + 2 * topic.length + base64(record.key) + base64(record.value);
  // A header's bytes are numbers with commas; its name may be escaped.
  for (const { name, value } of record.headers) bytes += 16 + name.length * 6 + value.length * 4;
  return bytes;
}
