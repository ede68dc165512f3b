/**
 * The deployed stack under one kind of fault at a time: after each portion of events every table
 * equals the reference over all of the topic. All of them together are in `faults.test.ts`.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { lambdaInvoker } from "../../lib/dev/lambda-invoker.js";
import { Random, testSeed } from "../integration/support/random.js";
import { socketOwner } from "../servers/socket-owner.js";
import { setUpCloud } from "./cloud.js";
import { FaultBed } from "./fault-bed.js";

const missing = await setUpCloud();
const title = missing === null ? "faults" : `faults (skipped: ${missing})`;
const EVENTS = Number(process.env.EVENTS ?? 6_000);
const TEST_MS = 400_000;
const THROTTLED = {
  status: 400,
  body: JSON.stringify({
    __type: "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
    message: "The level of configured provisioned throughput for the table was exceeded.",
  }),
};
const SLOW_DOWN = {
  status: 503,
  body: "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
};

describe.skipIf(missing !== null)(title, () => {
  const random = new Random(testSeed());
  const before = { ...process.env };
  let bed: FaultBed;

  beforeAll(async () => {
    bed = await FaultBed.start(random);
  });
  afterAll(async () => {
    process.env = before;
    await bed?.stop();
  });

  /** A portion of events, and what happens while it is worked on; then all must be as it should. */
  async function portion(work: (records: number) => Promise<void>): Promise<void> {
    bed.troubles.length = 0;
    const earlier = bed.records;
    await bed.produce(EVENTS);
    await work(bed.records - earlier);
    await bed.expectEqualTables();
  }

  test(
    "every batch is delivered twice, one after the other or at once",
    () =>
      portion(async () => {
        const once = await lambdaInvoker(bed.cloud.output("Processor"));
        const invoke: typeof once = async (event) => {
          if (random.chance(0.5)) await once(event);
          else await Promise.all([once(event), once(event)]);
          return await once(event);
        };
        await bed.poll({ invoke });
        await bed.caughtUp();
      }),
    TEST_MS,
  );

  test(
    "two mappings poll at once, one of them from the beginning",
    () =>
      portion(async () => {
        await Promise.all([bed.poll(), bed.poll({ group: "a-second-mapping" })]);
        await bed.caughtUp();
        await bed.caughtUp("a-second-mapping");
      }),
    TEST_MS,
  );

  test(
    "DynamoDB throttles all requests for a while, then some; S3 asks to slow down",
    () =>
      portion(async () => {
        let throttled = 0;
        const hasFailed = () => String(bed.troubles).includes("ProvisionedThroughputExceeded");
        bed.proxy.plan = ({ headers, method }) => {
          const isDynamoDb = headers["x-amz-target"] !== undefined;
          // At first until a batch fails: beyond the attempts that the SDK makes by itself.
          const isRefused = !hasFailed() ? isDynamoDb : random.chance(0.2);
          if (!isRefused) return null;
          throttled += 1;
          if (isDynamoDb) return THROTTLED;
          return method === "PUT" || method === "GET" ? SLOW_DOWN : null;
        };
        await bed.poll();
        await bed.caughtUp();
        expect(throttled).toBeGreaterThan(0);
        expect(hasFailed()).toBe(true);
      }),
    TEST_MS,
  );

  test.skipIf(process.platform !== "linux")(
    "functions are killed with a request under way, done or not (finding them needs Linux)",
    () =>
      portion(async () => {
        let [requests, next, killed] = [0, random.between(3, 25), 0];
        bed.proxy.plan = ({ clientPort }) => {
          requests += 1;
          if (requests < next || killed >= 12) return null;
          next = requests + random.between(3, 60);
          const pid = socketOwner(clientPort);
          if (pid === null) return null;
          process.kill(pid, "SIGKILL");
          killed += 1;
          return random.pick(["drop", null]);
        };
        await bed.poll();
        await bed.caughtUp();
        expect(killed).toBeGreaterThan(2);
        expect(String(bed.troubles)).toContain("Worker process died");
      }),
    TEST_MS,
  );

  test(
    "the broker is killed and comes back, with two members in the group",
    () =>
      portion(async (records) => {
        const mapping = await bed.poll({ pollers: 2 });
        await bed.delivered(mapping, records / 4);
        await bed.cloud.kafka.kill();
        await bed.cloud.kafka.restart();
        await bed.caughtUp();
      }),
    TEST_MS,
  );

  test(
    "the emulator is stopped and started again",
    () =>
      portion(async (records) => {
        const mapping = await bed.poll();
        await bed.delivered(mapping, records / 4);
        await bed.cloud.aws.restart();
        await bed.caughtUp();
        expect(bed.troubles.length).toBeGreaterThan(0);
      }),
    TEST_MS,
  );
});
