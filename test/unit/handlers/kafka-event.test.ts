/** What becomes of a Lambda Kafka event: slices with every record in place, or a clear error. */
import { describe, expect, it } from "vitest";
import { EnvelopeMemory, eventPartitions, kafkaSlices } from "../../../lib/sources/kafka-event.js";
import { kafkaEvent, type TestRecord } from "./kafka-support.js";

const target = { stream: "clicks", keys: true, recordsMax: 10_000 };

function slicesOf(records: readonly TestRecord[], recordsMax = 10_000) {
  const event = kafkaEvent([{ topic: "clicks", partition: 3, records }]);
  const [partition] = eventPartitions(event);
  return kafkaSlices(partition, { ...target, recordsMax }, new EnvelopeMemory());
}

function textAt(raw: { bytes: Uint8Array; starts: Int32Array; ends: Int32Array }, i: number) {
  if (raw.starts[i] === -1) return null;
  return Buffer.from(raw.bytes.subarray(raw.starts[i], raw.ends[i])).toString();
}

/** A partition with one record whose raw fields are replaced. */
function tampered(fields: Record<string, unknown>) {
  const record = { topic: "t", partition: 0, offset: 1, timestamp: 5, value: "e30=", ...fields };
  return { eventSource: "aws:kafka", records: { "t-0": [record] } };
}

function decodeTampered(fields: Record<string, unknown>) {
  const [partition] = eventPartitions(tampered(fields));
  return kafkaSlices(partition, target, new EnvelopeMemory())[0];
}

describe("eventPartitions", () => {
  it.each(["aws:kafka", "SelfManagedKafka"] as const)("reads the shape of %s", (shape) => {
    const records = [{ offset: 7, value: "{}" }];
    const event = kafkaEvent(
      [
        { topic: "my-topic-1", partition: 0, records },
        { topic: "my-topic-1", partition: 12, records },
        { topic: "empty", partition: 0, records: [] },
      ],
      shape,
    );
    expect(eventPartitions(event)).toMatchObject([
      { name: "my-topic-1-0", topic: "my-topic-1", partition: 0 },
      { name: "my-topic-1-12", topic: "my-topic-1", partition: 12 },
    ]);
  });

  it.each([null, "x", {}, { eventSource: "aws:s3", records: {} }, { eventSource: "aws:kafka" }])(
    "refuses %j, and says what it expected",
    (event) => {
      expect(() => eventPartitions(event)).toThrow(/is not one of Kafka.*"SelfManagedKafka"/s);
    },
  );
});

describe("kafkaSlices", () => {
  it("decodes keys and values back to back, with tombstones, no keys and gaps", () => {
    const [slice] = slicesOf([
      { offset: 4, timestamp: 10, key: "k1", value: '{"a":"ä"}' },
      { offset: 9, timestamp: 11, value: "" },
      { offset: 10, timestamp: -1, key: "k2", value: null },
      { offset: 11, timestamp: 12, key: "", value: undefined },
    ]);
    expect(slice).toMatchObject({ topic: "clicks", partition: 3, count: 4 });
    expect([...slice.offsets]).toEqual([4, 9, 10, 11]);
    expect([...slice.timestamps]).toEqual([10, 11, Number.NaN, 12]);
    expect([0, 1, 2, 3].map((i) => textAt(slice, i))).toEqual(['{"a":"ä"}', "", null, null]);
    expect([0, 1, 2, 3].map((i) => textAt(slice.keys!, i))).toEqual(["k1", null, "k2", ""]);
    expect(slice.faults.size).toBe(0);
  });

  it("cuts a partition into slices of bounded size", () => {
    const records = Array.from({ length: 25 }, (_, i) => ({ offset: 2 * i, value: `"${i}"` }));
    const slices = slicesOf(records, 10);
    expect(slices.map(({ count }) => count)).toEqual([10, 10, 5]);
    const texts = slices.flatMap((slice) => [...slice.offsets].map((_, i) => textAt(slice, i)));
    expect(texts).toEqual(records.map(({ value }) => value));
  });

  it("keeps earlier slices valid when its memory grows, and reuses it after a reset", () => {
    const memory = new EnvelopeMemory();
    const big = "x".repeat(400_000);
    const partitions = Array.from({ length: 5 }, (_, partition) => ({
      topic: "clicks",
      partition,
      records: [{ offset: 0, value: `${partition}${big}` }],
    }));
    for (let round = 0; round < 3; round++) {
      const slices = eventPartitions(kafkaEvent(partitions)).flatMap((partition) =>
        kafkaSlices(partition, target, memory),
      );
      expect(slices.map((slice) => textAt(slice, 0)?.slice(0, 2))).toEqual(
        partitions.map(({ partition }) => `${partition}x`),
      );
      memory.reset();
    }
  });

  it.each(["abc", "ab=c", "ab!=", "=", "YQ==YQ==", "Y Q=", "héé="])(
    "makes a dead letter of a value that is not base64: %s",
    (value) => {
      const slice = decodeTampered({ value });
      expect(slice.faults.get(0)).toMatchObject({ reason: "malformed" });
      expect(value).toContain(textAt(slice, 0));
    },
  );

  it("makes a dead letter of a value that is no text at all", () => {
    expect(decodeTampered({ value: 5 }).faults.get(0)).toMatchObject({ reason: "malformed" });
  });

  it.each([
    ["an offset beyond 2^53", { offset: 2 ** 53 }, /9007199254740992.*below 2\^53/],
    ["a negative offset", { offset: -1 }, /an offset is -1/],
    ["an offset as text", { offset: "5" }, /an offset is 5/],
    ["no topic", { topic: undefined }, /names no topic and partition/],
  ])("refuses %s", (_, fields, message) => {
    expect(() => decodeTampered(fields)).toThrow(message);
  });

  it("refuses offsets that do not ascend, also across slices", () => {
    const records = [5, 6, 6].map((offset) => ({ offset, value: "{}" }));
    expect(() => slicesOf(records)).toThrow(/offset 6 does not follow/);
    expect(() => slicesOf(records, 2)).toThrow(/offset 6 does not follow/);
  });

  it("refuses a record of another partition among a partition's", () => {
    const event = tampered({});
    event.records["t-0"].push({ ...event.records["t-0"][0], partition: 1, offset: 2 });
    const [partition] = eventPartitions(event);
    expect(() => kafkaSlices(partition, target, new EnvelopeMemory())).toThrow(/is of t-1/);
  });
});
