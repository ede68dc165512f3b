/** The metrics endpoint, and what it says of brokers that are away. */
import { request } from "node:http";
import { Registry } from "prom-client";
import { afterEach, describe, expect, test } from "vitest";
import { type KafkaFacts, KafkaMetrics } from "../../../lib/observe/kafka-metrics.js";
import { MetricsEndpoint } from "../../../lib/observe/metrics-endpoint.js";

const open: MetricsEndpoint[] = [];
afterEach(async () => {
  for (const endpoint of open.splice(0)) await endpoint.close();
});

async function start(port = 0): Promise<MetricsEndpoint> {
  const endpoint = await MetricsEndpoint.start({ host: "127.0.0.1", port });
  open.push(endpoint);
  return endpoint;
}

describe("the endpoint", () => {
  test("has an empty page until there is something, and no other page", async () => {
    const { url } = await start();
    const answer = await fetch(url);
    expect([answer.status, await answer.text()]).toEqual([200, ""]);
    expect((await fetch(new URL("/", url))).status).toBe(404);
    expect((await fetch(url, { method: "POST" })).status).toBe(404);
  });

  test("answers a request whose path is no URL, and goes on", async () => {
    const { url } = await start();
    const { hostname, port } = new URL(url);
    const status = await new Promise((resolve, reject) => {
      request({ hostname, port, path: "//" }, ({ statusCode }) => resolve(statusCode))
        .on("error", reject)
        .end();
    });
    expect(status).toBe(404);
    expect((await fetch(`${url}?a=b`)).status).toBe(200);
  });

  test("says which port is taken", async () => {
    const { url } = await start();
    const port = Number(new URL(url).port);
    await expect(start(port)).rejects.toThrow(/can't be served on 127.0.0.1:\d+: .*EADDRINUSE/);
  });

  test("fails a scrape, and goes on, when its source does", async () => {
    const endpoint = await start();
    const registry = new Registry();
    endpoint.source = { registry, refresh: () => Promise.reject(new Error("broken")) };
    expect((await fetch(endpoint.url)).status).toBe(500);
    endpoint.source = { registry, refresh: async () => undefined };
    expect((await fetch(endpoint.url)).status).toBe(200);
  });
});

describe("Kafka's metrics", () => {
  const facts: KafkaFacts = {
    brokers: [{ id: 1, address: "b1:9092" }],
    topics: [
      {
        topic: "t",
        partitions: [
          { partition: 0, low: 5, high: 9, committed: null },
          { partition: 1, low: 0, high: 9, committed: 12 },
        ],
      },
    ],
  };

  async function lines(look: () => Promise<KafkaFacts>, times = 1): Promise<string> {
    const registry = new Registry();
    const metrics = new KafkaMetrics(registry, { pipeline: "p", group: "g", look });
    for (let i = 0; i < times; i++) await metrics.refresh();
    return registry.metrics();
  }

  test("a group that never committed has all before it; lag is never below 0", async () => {
    const text = await lines(async () => facts);
    const at = 'kafka_consumergroup_lag{consumergroup="g",topic="t",partition=';
    expect(text).toContain(`${at}"0"} 4\n`);
    expect(text).toContain(`${at}"1"} 0\n`);
    expect(text).toContain('kafka_broker_info{id="1",address="b1:9092"} 1\n');
    expect(text).toContain('millpond_pipeline_info{pipeline="p",consumergroup="g"} 1\n');
  });

  test("brokers that are away are 0, and nothing old is said of their topics", async () => {
    let looks = 0;
    const text = await lines(async () => {
      looks += 1;
      if (looks > 1) throw new Error("away");
      return facts;
    }, 2);
    expect(text).toContain("kafka_brokers 0\n");
    expect(text).not.toContain("kafka_consumergroup_lag{");
    expect(text).not.toContain("kafka_broker_info{");
  });

  test("brokers that never answer do not hold scrapes up: there is one look", async () => {
    let looks = 0;
    const text = await lines(() => {
      looks += 1;
      return new Promise(() => undefined);
    }, 3);
    expect(looks).toBe(1);
    expect(text).toContain("kafka_brokers 0\n");
  });
});
