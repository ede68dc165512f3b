/** The poller over a client in memory: what it commits while records of a batch are left. */
import { expect, test } from "vitest";
import { EventSourceMapping } from "../../../lib/dev/event-source-mapping.js";
import type {
  ConsumeOptions,
  KafkaClient,
  KafkaRecord,
} from "../../../lib/sources/kafka/client.js";

/** Delivers these records of one partition once, and notes what is committed. */
function clientOf(records: readonly KafkaRecord[]) {
  const commits: number[] = [];
  const unused = () => Promise.reject(new Error("not used here"));
  const client: KafkaClient = {
    consume: async ({ onAssigned, onRecords }: ConsumeOptions) => {
      const at = { topic: "t", partition: 0 };
      setImmediate(() => {
        onAssigned([at]);
        const nextOffset = records.length;
        onRecords({ ...at, records, nextOffset, highWatermark: nextOffset });
      });
      return {
        pause: () => undefined,
        resume: () => undefined,
        commit: async (offsets) => void commits.push(...offsets.map(({ offset }) => offset)),
        close: async () => undefined,
      };
    },
    producer: unused,
    brokers: unused,
    createTopic: unused,
    addPartitions: unused,
    offsets: unused,
    offsetsAt: unused,
    transactions: unused,
    reader: unused,
    committed: unused,
    close: async () => undefined,
  };
  return { client, commits };
}

const record = (offset: number, timestampMs: number): KafkaRecord => ({
  offset,
  timestampMs,
  timestampType: "CREATE_TIME",
  key: null,
  value: Buffer.from("v"),
  headers: [],
});

test("a record given up for its age is not committed past a younger one before it", async () => {
  const nowMs = Date.now();
  const ages = [0, 3_600_000, 0, 3_600_000];
  const { client, commits } = clientOf(ages.map((age, offset) => record(offset, nowMs - age)));
  const sizes: number[] = [];
  const committedBefore: number[][] = [];
  let finish: () => void = () => undefined;
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const mapping = await EventSourceMapping.start({
    client,
    origin: { bootstrapServers: "b:9092" },
    topics: ["t"],
    group: "g",
    limits: { windowMs: 0 },
    rules: { recordAgeMaxMs: 60_000 },
    invoke: async (event) => {
      sizes.push(Object.values(event.records).flat().length);
      committedBefore.push([...commits]);
      if (sizes.length < 3) throw new Error("failed");
      finish();
      return undefined;
    },
  });
  await finished;
  await mapping.stop();
  expect(sizes).toEqual([4, 2, 2]);
  expect(committedBefore).toEqual([[], [], []]);
  expect(commits).toEqual([4]);
});
