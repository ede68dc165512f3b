/**
 * What Lambda writes to an on-failure destination in S3 about a batch that it gave up.
 * https://docs.aws.amazon.com/lambda/latest/dg/kafka-on-failure.html
 */
import { randomUUID } from "node:crypto";
import {
  type EventOrigin,
  type KafkaEvent,
  kafkaEvent,
  type LocatedRecord,
  partitionName,
} from "./kafka-event.js";

export interface FailureRecord {
  readonly requestContext: {
    readonly requestId: string;
    readonly condition: "RetryAttemptsExhausted";
    readonly approximateInvokeCount: number;
  };
  readonly version: "1.0";
  readonly timestamp: string;
  readonly KafkaBatchInfo: {
    readonly batchSize: number;
    readonly eventSourceArn?: string;
    readonly bootstrapServers: string;
    readonly payloadSize: number;
    /** By `<topic>-<partition>`. */
    readonly recordInfo: Readonly<Record<string, RecordRange>>;
  };
  /** The payload as it was sent, in JSON: enough to send it again. */
  readonly payload: string;
}

interface RecordRange {
  readonly firstRecordOffset: number;
  readonly lastRecordOffset: number;
  readonly firstRecordTimestamp: string;
  readonly lastRecordTimestamp: string;
}

export function failureRecord(
  origin: EventOrigin,
  records: readonly LocatedRecord[],
  invocations: number,
): FailureRecord {
  const event: KafkaEvent = kafkaEvent(origin, records);
  const payload = JSON.stringify(event);
  const recordInfo: Record<string, RecordRange> = {};
  for (const one of records) {
    const name = partitionName(one);
    const at = new Date(one.record.timestampMs).toISOString();
    const { offset } = one.record;
    recordInfo[name] = {
      firstRecordOffset: recordInfo[name]?.firstRecordOffset ?? offset,
      firstRecordTimestamp: recordInfo[name]?.firstRecordTimestamp ?? at,
      lastRecordOffset: offset,
      lastRecordTimestamp: at,
    };
  }
  const { bootstrapServers, eventSourceArn } = origin;
  return {
    requestContext: {
      requestId: randomUUID(),
      condition: "RetryAttemptsExhausted",
      approximateInvokeCount: invocations,
    },
    version: "1.0",
    timestamp: new Date().toISOString(),
    KafkaBatchInfo: {
      batchSize: records.length,
      ...(eventSourceArn !== undefined && { eventSourceArn }),
      bootstrapServers,
      payloadSize: Buffer.byteLength(payload),
      recordInfo,
    },
    payload,
  };
}
