/**
 * The deployed stack under faults, while two event source mappings deliver every record at the same
 * time: throttling, lost replies, functions killed at their timeout, broker and emulator restarted.
 * The results are those of an undisturbed run: the reference's.
 */
import {
  GetFunctionConfigurationCommand,
  LambdaClient,
  UpdateFunctionConfigurationCommand,
} from "@aws-sdk/client-lambda";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EventSourceMapping } from "../../lib/dev/event-source-mapping.js";
import { lambdaInvoker } from "../../lib/dev/lambda-invoker.js";
import activity from "../../pipelines/activity.js";
import { fetchResults } from "../integration/support/aws-results.js";
import { differencesFromReference, Workspace } from "../integration/support/check.js";
import { type FaultyProxy, startFaultyProxy } from "../servers/faulty-proxy.js";
import { Cloud, saveTopic, setUpCloud } from "./cloud.js";

const missing = await setUpCloud();
const title = missing === null ? "faults" : `faults (skipped: ${missing})`;
const TOPIC = "user_activity";
const EVENTS = 100_000;
const LONG_MS = 900_000;
const WAIT = { timeout: 400_000, interval: 500 } as const;
/** A processor that hangs is killed soon; the sink works through all of it at the end. */
const PROCESSOR_SECONDS = 8;
const SINK_SECONDS = 120;
const THROTTLED = {
  status: 400,
  body: JSON.stringify({
    __type: "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
    message: "throttled",
  }),
};

describe.skipIf(missing !== null)(title, () => {
  let cloud: Cloud;
  let proxy: FaultyProxy;
  let workspace: Workspace;
  const before = { ...process.env };

  beforeAll(async () => {
    workspace = await Workspace.create();
    cloud = await Cloud.start({ pipeline: "pipelines/activity.ts" });
    proxy = await startFaultyProxy(cloud.aws.endpoint);
    await throughProxy(cloud.output("Processor"), PROCESSOR_SECONDS);
    await throughProxy(cloud.output("Sink"), SINK_SECONDS);
  });
  afterAll(async () => {
    process.env = before;
    await proxy?.stop();
    await cloud?.stop();
    await workspace?.remove();
  });

  /** The function's stores are reached through the proxy; it is killed after so many seconds. */
  async function throughProxy(name: string, seconds: number): Promise<void> {
    const client = new LambdaClient({});
    const { Environment } = await client.send(
      new GetFunctionConfigurationCommand({ FunctionName: name }),
    );
    const Variables = {
      ...Environment?.Variables,
      AWS_ENDPOINT_URL_DYNAMODB: proxy.endpoint,
      AWS_ENDPOINT_URL_S3: proxy.endpoint,
    };
    await client.send(
      new UpdateFunctionConfigurationCommand({
        FunctionName: name,
        Environment: { Variables },
        Timeout: seconds,
      }),
    );
    client.destroy();
  }

  test(
    "results are the reference's, whatever failed on the way",
    async () => {
      await cloud.invoke("Producer", {
        simulator: "activity",
        events: EVENTS,
        start: "2026-01-01T00:00:00Z",
        eventRate: EVENTS / 5_000,
        late: 0.01,
        duplicates: 0.01,
        malformed: 0.001,
        outOfOrderMs: 60_000,
      });
      const records = await saveTopic(cloud.kafka.bootstrap, TOPIC, workspace.input(TOPIC));
      const deploy = await lambdaInvoker(cloud.output("Processor"));
      const plan = new FaultPlan(cloud, proxy);
      const invoke = async (event: Parameters<typeof deploy>[0]) => {
        plan.next();
        return await deploy(event);
      };
      const limits = { records: 2_000 };
      const mappings: EventSourceMapping[] = [];
      for (const group of ["one", "other"]) {
        mappings.push(await cloud.poll([TOPIC], { group, invoke, limits, pollers: 2 }));
      }
      for (const mapping of mappings) {
        await expect.poll(() => mapping.stats().delivered >= records, WAIT).toBe(true);
      }
      await plan.end();
      for (const mapping of mappings) {
        await expect.poll(() => mapping.stats().lag, WAIT).toBe(0);
        await mapping.stop();
      }
      expect(plan.happened).toEqual(["throttle", "lose", "hang", "broker", "emulator"]);
      expect(mappings.reduce((sum, mapping) => sum + mapping.stats().failures, 0)).toBeGreaterThan(
        0,
      );
      expect(await cloud.invoke("Sink", { flush: true })).toMatchObject({ pending: 0 });
      const out = workspace.newOutput();
      await fetchResults("activity", cloud.env, out);
      expect(await differencesFromReference(activity, out, workspace)).toBe("");
    },
    LONG_MS,
  );
});

/** One fault after the other, each for some invocations of the processor. */
class FaultPlan {
  readonly happened: string[] = [];
  private readonly cloud: Cloud;
  private readonly proxy: FaultyProxy;
  private invocations = 0;
  private restarts: Promise<void>[] = [];

  constructor(cloud: Cloud, proxy: FaultyProxy) {
    this.cloud = cloud;
    this.proxy = proxy;
  }

  /** Before each invocation. */
  next(): void {
    const { invocations } = this;
    this.invocations++;
    if (invocations === 5) this.begin("throttle", 3);
    if (invocations === 15) this.begin("lose", 6);
    if (invocations === 25) this.begin("hang", 9);
    if (invocations === 35) this.restart("broker", () => this.cloud.kafka.restart());
    if (invocations === 45) this.restart("emulator", () => this.cloud.aws.restart());
  }

  async end(): Promise<void> {
    this.proxy.plan = () => null;
    await Promise.all(this.restarts);
  }

  /** Every `each`th write is hit. */
  private begin(kind: "throttle" | "lose" | "hang", each: number): void {
    this.happened.push(kind);
    let writes = 0;
    this.proxy.plan = ({ operation }) => {
      const isDynamo = operation === "PutItem";
      if (!isDynamo && (kind === "throttle" || operation !== "PUT")) return null;
      if (++writes % each !== 0) return null;
      return kind === "throttle" ? THROTTLED : kind;
    };
  }

  private restart(what: string, work: () => Promise<void>): void {
    this.happened.push(what);
    this.proxy.plan = () => null;
    this.restarts.push(work());
  }
}
