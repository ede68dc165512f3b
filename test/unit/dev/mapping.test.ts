/** The mapping's decisions, case by case; that a broker bears them out is an integration test. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { batchCounts, dueAtMs, type Waiting } from "../../../lib/dev/batches.js";
import { afterInvocation, type DeliveryRules, type Piece } from "../../../lib/dev/delivery.js";
import {
  EVENT_FRAME_BYTES,
  eventRecordBytes,
  kafkaEvent,
  type LocatedRecord,
  PAYLOAD_BYTES_MAX,
} from "../../../lib/dev/kafka-event.js";

const RULES: DeliveryRules = {
  retriesMax: null,
  recordAgeMaxMs: null,
  bisect: false,
  partialBatches: false,
};
const ERROR = { kind: "error", error: new Error("failed") } as const;

function record(partition: number, offset: number, timestampMs = 0): LocatedRecord {
  const common = { timestampMs, timestampType: "CREATE_TIME", key: null, headers: [] } as const;
  return { topic: "t", partition, record: { offset, ...common, value: Buffer.from("v") } };
}

const piece = (records: readonly LocatedRecord[], failures = 0): Piece<LocatedRecord> => ({
  records,
  failures,
});
const five = [0, 1, 2, 3, 4].map((offset) => record(0, offset));

describe("after an invocation", () => {
  test("a response is success, unless partial batches are heeded", () => {
    const item = { itemIdentifier: { partition: "t-0", offset: 3 } };
    const result = { kind: "response", response: { batchItemFailures: [item] } } as const;
    expect(afterInvocation(piece(five), result, RULES, 0).done).toEqual(five);
    const rules = { ...RULES, partialBatches: true };
    const step = afterInvocation(piece(five, 4), result, rules, 0);
    expect(step.done).toEqual(five.slice(0, 3));
    expect(step.next).toEqual([piece(five.slice(3), 1)]);
  });

  test.each([
    [undefined, 5],
    [null, 5],
    ["text", 5],
    [{}, 5],
    [{ batchItemFailures: null }, 5],
    [{ batchItemFailures: [] }, 5],
    [{ batchItemFailures: "all" }, 0],
    [{ batchItemFailures: [{}] }, 0],
    [{ batchItemFailures: [{ itemIdentifier: { partition: "t-0" } }] }, 0],
    [{ batchItemFailures: [{ itemIdentifier: { partition: "t-9", offset: 1 } }] }, 0],
    [{ batchItemFailures: [{ itemIdentifier: { partition: "t-0", offset: 5 } }] }, 0],
  ])("of %j as a partial response, %d records are done", (response, done) => {
    const rules = { ...RULES, partialBatches: true };
    const step = afterInvocation(piece(five), { kind: "response", response }, rules, 0);
    expect(step.done).toHaveLength(done);
  });

  test("a failure waits longer each time, up to ten seconds", () => {
    const waits = [0, 1, 2, 20].map(
      (failures) => afterInvocation(piece(five, failures), ERROR, RULES, 0).waitMs,
    );
    expect(waits).toEqual([100, 200, 400, 10_000]);
  });

  test("retries end after their number, and records that are too old are given up alone", () => {
    const rules = { ...RULES, retriesMax: 2 };
    expect(afterInvocation(piece(five, 1), ERROR, rules, 0).next).toHaveLength(1);
    expect(afterInvocation(piece(five, 2), ERROR, rules, 0).discarded).toEqual(five);
    const aged = [record(0, 0, 1_000), record(0, 1, 5_000)];
    const step = afterInvocation(piece(aged), ERROR, { ...RULES, recordAgeMaxMs: 3_000 }, 6_000);
    expect([step.discarded, step.next]).toEqual([[aged[0]], [piece([aged[1]!], 1)]]);
  });

  test("bisecting takes nothing off the retries; one record is not split", () => {
    const rules = { ...RULES, bisect: true, retriesMax: 0 };
    const { next, discarded } = afterInvocation(piece(five), ERROR, rules, 0);
    expect(discarded).toEqual([]);
    expect(next).toEqual([piece(five.slice(0, 3)), piece(five.slice(3))]);
    expect(afterInvocation(piece([five[0]!]), ERROR, rules, 0).discarded).toEqual([five[0]]);
  });

  test("whatever comes back, no record is lost, doubled, or passed by another one", () => {
    const response = fc.oneof(
      fc.constant(ERROR),
      fc
        .array(fc.record({ p: fc.nat(2), offset: fc.nat(9) }), { maxLength: 3 })
        .map((failures) => ({
          kind: "response" as const,
          response: {
            batchItemFailures: failures.map(({ p, offset }) => ({
              itemIdentifier: { partition: `t-${p}`, offset },
            })),
          },
        })),
    );
    const all = [0, 1, 2].flatMap((p) => Array.from({ length: 8 }, (_, i) => record(p, i)));
    const rules = fc.record({
      retriesMax: fc.constantFrom(null, 0, 2),
      recordAgeMaxMs: fc.constant(null),
      bisect: fc.boolean(),
      partialBatches: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(response, { minLength: 1, maxLength: 60 }), rules, (results, rule) => {
        const settled: LocatedRecord[] = [];
        let todo: readonly Piece<LocatedRecord>[] = [piece(all)];
        for (const result of results) {
          const [first, ...rest] = todo;
          if (first === undefined) break;
          const step = afterInvocation(first, result, rule, 0);
          settled.push(...step.done, ...step.discarded);
          todo = [...step.next, ...rest];
        }
        const left = todo.flatMap(({ records }) => records);
        expect(new Set([...settled, ...left]).size).toBe(all.length);
        expect(settled.length + left.length).toBe(all.length);
        for (const p of [0, 1, 2]) {
          const offsets = [...settled, ...left]
            .filter(({ partition }) => partition === p)
            .map((one) => one.record.offset);
          expect(offsets).toEqual([...offsets].sort((a, b) => a - b));
        }
      }),
    );
  });
});

function waiting(sizes: readonly number[], sinceMs: number): Waiting {
  const records = sizes.map((bytes, i) => ({ ...record(0, i), bytes, nextOffset: i + 1 }));
  return { records, bytes: sizes.reduce((sum, bytes) => sum + bytes, 0), sinceMs };
}

describe("batches", () => {
  const limits = { records: 10, windowMs: 500 };

  test("are due when they can be full, else at the end of the window", () => {
    expect(dueAtMs([waiting([], 0), waiting([1], 200), waiting([1], 100)], limits)).toBe(600);
    expect(dueAtMs([waiting([1, 1, 1, 1, 1], 0), waiting([1, 1, 1, 1, 1], 0)], limits)).toBe(
      Number.NEGATIVE_INFINITY,
    );
    expect(dueAtMs([waiting([PAYLOAD_BYTES_MAX], 0)], limits)).toBe(Number.NEGATIVE_INFINITY);
  });

  test("take those that waited longest, up to the limits, and at least one", () => {
    const many = Array.from({ length: 8 }, () => 1);
    expect(batchCounts([waiting(many, 2), waiting(many, 1)], limits)).toEqual([2, 8]);
    expect(batchCounts([waiting([PAYLOAD_BYTES_MAX * 2, 1], 0)], limits)).toEqual([1]);
    expect(batchCounts([waiting([PAYLOAD_BYTES_MAX - 5000, 4000], 0)], limits)).toEqual([1]);
  });
});

test("a record is never larger in the payload than it was taken for", () => {
  const text = fc.string({ unit: "grapheme", maxLength: 12 });
  const bytes = fc.uint8Array({ maxLength: 90 }).map((array) => Buffer.from(array));
  const anyRecord = fc.record({
    topic: fc.stringMatching(/^[a-zA-Z0-9._-]{1,40}$/),
    partition: fc.nat(9999),
    record: fc.record({
      offset: fc.constantFrom(0, Number.MAX_SAFE_INTEGER),
      timestampMs: fc.nat(4_102_444_800_000),
      timestampType: fc.constantFrom("CREATE_TIME" as const, "LOG_APPEND_TIME" as const),
      key: fc.option(bytes),
      value: fc.option(bytes),
      headers: fc.array(fc.record({ name: text, value: bytes }), { maxLength: 4 }),
    }),
  });
  fc.assert(
    fc.property(fc.array(anyRecord, { minLength: 1, maxLength: 200 }), (records) => {
      const origin = { bootstrapServers: "broker:9092" };
      const size = Buffer.byteLength(JSON.stringify(kafkaEvent(origin, records)));
      const taken = records.reduce((sum, one) => sum + eventRecordBytes(one), EVENT_FRAME_BYTES);
      expect(size).toBeLessThanOrEqual(taken);
    }),
  );
});
