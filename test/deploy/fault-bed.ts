/**
 * A deployed stack whose functions reach DynamoDB and S3 through a proxy that plays faults, fed in
 * portions; after each the tables are held against the reference over the whole topic.
 */
import {
  GetFunctionConfigurationCommand,
  LambdaClient,
  UpdateFunctionConfigurationCommand,
  waitUntilFunctionUpdatedV2,
} from "@aws-sdk/client-lambda";
import { Kafka, logLevel } from "kafkajs";
import { expect } from "vitest";
import type {
  EventSourceMapping,
  EventSourceMappingOptions,
} from "../../lib/dev/event-source-mapping.js";
import activity from "../../pipelines/activity.js";
import { fetchResults } from "../integration/support/aws-results.js";
import { differencesFromReference, Workspace, withResults } from "../integration/support/check.js";
import type { Random } from "../integration/support/random.js";
import { readRows } from "../reference/rows.js";
import { type FaultyProxy, startFaultyProxy } from "../servers/faulty-proxy.js";
import { Cloud, saveTopic } from "./cloud.js";

const TOPIC = "user_activity";
const EVENT_RATE = 50;
const WAIT = { timeout: 300_000, interval: 50 } as const;

export class FaultBed {
  readonly cloud: Cloud;
  readonly proxy: FaultyProxy;
  /** What the mappings met since the last portion. */
  readonly troubles: unknown[] = [];
  private readonly workspace: Workspace;
  private readonly random: Random;
  private readonly mappings: EventSourceMapping[] = [];
  private eventsSent = 0;
  private recordsSent = 0;

  private constructor(cloud: Cloud, proxy: FaultyProxy, workspace: Workspace, random: Random) {
    this.cloud = cloud;
    this.proxy = proxy;
    this.workspace = workspace;
    this.random = random;
  }

  static async start(random: Random): Promise<FaultBed> {
    const cloud = await Cloud.start({ pipeline: "pipelines/activity.ts" });
    const proxy = await startFaultyProxy(cloud.aws.endpoint);
    const bed = new FaultBed(cloud, proxy, await Workspace.create(), random);
    for (const output of ["Processor", "Sink"]) await bed.sendThroughProxy(cloud.output(output));
    return bed;
  }

  async stop(): Promise<void> {
    await this.stopPolling();
    await this.proxy.stop();
    await this.cloud.stop();
    await this.workspace.remove();
  }

  /** Of all records in the topic. */
  get records(): number {
    return this.recordsSent;
  }

  private async sendThroughProxy(name: string): Promise<void> {
    const client = new LambdaClient({});
    const { endpoint } = this.proxy;
    const command = new GetFunctionConfigurationCommand({ FunctionName: name });
    const { Environment } = await client.send(command);
    const Variables = {
      ...Environment?.Variables,
      AWS_ENDPOINT_URL_DYNAMODB: endpoint,
      AWS_ENDPOINT_URL_S3: endpoint,
    };
    await client.send(
      new UpdateFunctionConfigurationCommand({ FunctionName: name, Environment: { Variables } }),
    );
    await waitUntilFunctionUpdatedV2({ client, maxWaitTime: 60 }, { FunctionName: name });
    client.destroy();
  }

  /** Events go on in event time; late, duplicated and malformed ones are among them. */
  async produce(events: number): Promise<void> {
    const start = Date.UTC(2026, 0, 1) + (this.eventsSent / EVENT_RATE) * 1_000;
    const produced = await this.cloud.invoke("Producer", {
      simulator: "activity",
      events,
      start: new Date(start).toISOString(),
      eventRate: EVENT_RATE,
      seed: this.random.below(2 ** 31),
      late: 0.02,
      duplicates: 0.02,
      malformed: 0.005,
      outOfOrderMs: 60_000,
    });
    expect(produced).toMatchObject({ topic: TOPIC, done: true });
    this.eventsSent += events;
    this.recordsSent += Number((produced as { sent: number }).sent);
  }

  /** Small batches, so that a fault has many moments to meet. */
  async poll(options: Partial<EventSourceMappingOptions> = {}): Promise<EventSourceMapping> {
    const mapping = await this.cloud.poll([TOPIC], {
      limits: { records: this.random.between(200, 600), windowMs: 20 },
      onTrouble: (error) => this.troubles.push(error),
      ...options,
    });
    this.mappings.push(mapping);
    return mapping;
  }

  /** Until a mapping has delivered so many records, some of them perhaps twice. */
  async delivered(mapping: EventSourceMapping, records: number): Promise<void> {
    await expect.poll(() => mapping.stats().delivered, WAIT).toBeGreaterThanOrEqual(records);
  }

  /** Until a mapping's group has committed all that is in the topic. */
  async caughtUp(groupId = "processor"): Promise<void> {
    const admin = new Kafka({
      brokers: [this.cloud.kafka.bootstrap],
      logLevel: logLevel.NOTHING,
    }).admin();
    await admin.connect();
    const committed = async () => {
      const [topic] = await admin.fetchOffsets({ groupId, topics: [TOPIC] });
      const offsets = (topic?.partitions ?? []).map(({ offset }) => Math.max(0, Number(offset)));
      return offsets.reduce((sum, offset) => sum + offset, 0);
    };
    try {
      await expect.poll(committed, WAIT).toBe(this.recordsSent);
    } finally {
      await admin.disconnect();
    }
  }

  async stopPolling(): Promise<void> {
    await Promise.all(this.mappings.splice(0).map((mapping) => mapping.stop()));
  }

  /** Publishes what is open and compares every table, and what the lake keeps as read. */
  async expectEqualTables(): Promise<void> {
    await this.stopPolling();
    this.proxy.plan = () => null;
    // It yields to those that the stream woke, and then has nothing left to do.
    await expect
      .poll(() => this.cloud.invoke("Sink", { flush: true }), WAIT)
      .toMatchObject({ outcome: "done", pending: 0 });
    const saved = await saveTopic(this.cloud.kafka.bootstrap, TOPIC, this.workspace.input(TOPIC));
    expect(saved).toBe(this.recordsSent);
    const out = this.workspace.newOutput();
    await fetchResults("activity", this.cloud.env, out);
    expect(await differencesFromReference(activity, out, this.workspace)).toBe("");
    const sql =
      'SELECT count(*) AS rows, count(DISTINCT (partition, "offset")) AS records ' +
      "FROM run0.main.bronze";
    const [bronze] = await withResults([out], (connection) => readRows(connection, sql));
    const all = BigInt(this.recordsSent);
    expect(bronze).toEqual({ rows: all, records: all });
  }
}
