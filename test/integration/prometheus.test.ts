/**
 * A real Prometheus reads a real `millpond dev` and its broker: numbers against SQL over the raw
 * events, every query of the dashboard, and alerts that ring and end.
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ALERTS, type AlertRule } from "../../lib/observe/alerts.js";
import { endpointSource } from "../../lib/observe/monitor/endpoint-source.js";
import { Monitor } from "../../lib/observe/monitor/monitor.js";
import { ruleFile } from "../../lib/observe/prometheus-rules.js";
import type { KafkaClient } from "../../lib/sources/kafka/client.js";
import { connectKafka } from "../../lib/sources/kafka/kafkajs-client.js";
import { grafanaDashboard } from "../../monitoring/dashboard.js";
import { testDir, write } from "../e2e/support/cli.js";
import { DevProcess } from "../e2e/support/dev.js";
import {
  type Line,
  makeLines,
  PARTITIONS,
  pipelineText,
  produce,
  reference,
  SEED,
} from "../e2e/support/dev-events.js";
import { jmxAgent, setUpJmx } from "../servers/jmx.js";
import { setUpKafka, startKafka, type TestKafka } from "../servers/kafka.js";
import {
  type Sample,
  setUpPrometheus,
  startPrometheus,
  type TestPrometheus,
  until,
} from "../servers/prometheus.js";

const missing = (await setUpKafka()) ?? (await setUpPrometheus()) ?? (await setUpJmx());
const TOPIC = "watched";
/** Prometheus looks once a second here. */
const WINDOW_S = 6;
const LAG = 100;

/**
 * The product's rules, sooner and at smaller numbers. What nobody brings about here would ring or
 * not by chance, so that it never does.
 */
function quickRules(): AlertRule[] {
  const thresholds: Readonly<Record<string, number>> = {
    ConsumerLag: LAG,
    DeadLetters: 20,
    LateShare: Number.MAX_SAFE_INTEGER,
    SinkBehind: Number.MAX_SAFE_INTEGER,
    SinkErrors: Number.MAX_SAFE_INTEGER,
  };
  return ALERTS.map((rule: AlertRule) => {
    const { name, condition, threshold } = rule;
    return {
      ...rule,
      // A scrape that waits for brokers is too late for Prometheus here, for some seconds.
      forS: name === "MetricsUnreadable" ? 10 : 1,
      threshold: thresholds[name] ?? threshold,
      condition: "withinS" in condition ? { ...condition, withinS: WINDOW_S } : condition,
    };
  });
}

const garbage = (n: number): Line[] =>
  Array.from({ length: n }, (_, i) => ({ partition: i % PARTITIONS, text: `{"no json ${i}` }));

/** Looks once a second, as Prometheus does here. */
function watch(url: string, heard: Set<string>): { stop(): Promise<void> } {
  const monitor = new Monitor({
    source: endpointSource(url),
    rules: quickRules(),
    actions: [
      { name: "test", send: async ({ alert, status }) => void heard.add(`${alert} ${status}`) },
    ],
    repeatMs: 3_600_000,
    onTrouble: () => undefined,
  });
  let isOver = false;
  const looking = (async () => {
    while (!isOver) {
      await monitor.look();
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  })();
  return {
    async stop() {
      isOver = true;
      await looking;
    },
  };
}

describe.skipIf(missing !== null)(`Prometheus (seed ${SEED})${missing ?? ""}`, () => {
  const dir = testDir("prometheus");
  const out = path.join(dir, "out");
  const lines = makeLines(1_000);
  let kafka: TestKafka;
  let client: KafkaClient;
  let dev: DevProcess;
  let prometheus: TestPrometheus;
  /** `millpond monitor` beside Prometheus: what it has told, and its end. */
  const heard = new Set<string>();
  let watching: { stop(): Promise<void> };

  beforeAll(async () => {
    const jmx = await jmxAgent();
    kafka = await startKafka({ jvmFlags: [jmx.flag] });
    client = await connectKafka({ brokers: [kafka.bootstrap], auth: { kind: "plaintext" } });
    const file = write(path.join(dir, "pipeline.ts"), pipelineText(TOPIC));
    const partitions = ["--partitions", String(PARTITIONS)];
    const args = [file, "--bootstrap", kafka.bootstrap, "--out", out, ...partitions];
    dev = new DevProcess([...args, "--metrics-port", "0"]);
    const { metrics } = await dev.heard("started", ({ kind }) => kind === "started");
    const targets = { millpond: new URL(metrics!).host, kafka: jmx.address };
    prometheus = await startPrometheus({ targets, rules: ruleFile(quickRules()) });
    watching = watch(metrics!, heard);
    await prometheus.queryUntil("millpond_records_total", (found) => found.length === PARTITIONS);
    await produce(client, TOPIC, lines);
    await dev.caughtUp(lines.length);
  });
  afterAll(async () => {
    await watching?.stop();
    await prometheus?.stop();
    await dev?.kill();
    await client?.close();
    await kafka?.stop();
  });

  const value = (samples: readonly Sample[]) => samples[0]?.value;
  const firing = (name: string) =>
    `count(ALERTS{alertname="Millpond${name}",alertstate="firing"}) or vector(0)`;
  const rings = (name: string, times = 1) =>
    prometheus.queryUntil(firing(name), (found) => value(found) === times);

  test("the numbers are those that SQL finds in the raw events", async () => {
    const counts = (await reference(dir, lines)).counts[0]!;
    const [dead, late, first] = [counts.dead, counts.late, counts.all_events].map(Number);
    const sums = {
      millpond_records_total: lines.length,
      millpond_events_total: lines.length - dead!,
      millpond_dead_letters_total: dead,
      millpond_late_events_total: late,
      millpond_duplicate_events_total: lines.length - dead! - first!,
      'millpond_published_rows_total{table="all_events"}': first,
    };
    for (const [metric, sum] of Object.entries(sums)) {
      expect(sum).toBeGreaterThan(0);
      await prometheus.queryUntil(`sum(${metric})`, (found) => value(found) === sum);
    }
  });

  test("promtool finds the endpoint's names and texts right", async () => {
    const { metrics } = await dev.heard("started", ({ kind }) => kind === "started");
    const input = await (await fetch(metrics!)).text();
    const { status, stdout, stderr } = spawnSync("promtool", ["check", "metrics"], { input });
    expect([status, String(stdout), String(stderr)]).toEqual([0, "", ""]);
  });

  test("the lag is what the broker says, under the exporter's names", async () => {
    const group = fs.readFileSync(path.join(out, "state", "consumer-group"), "utf8").trim();
    const committed = await client.committed(group, TOPIC);
    for (const { partition, low, high } of (await client.offsets(TOPIC))!) {
      const at = `topic="${TOPIC}",partition="${partition}"`;
      const ofGroup = `consumergroup="${group}",${at}`;
      const expected = {
        [`kafka_topic_partition_current_offset{${at}}`]: high,
        [`kafka_topic_partition_oldest_offset{${at}}`]: low,
        [`kafka_consumergroup_current_offset{${ofGroup}}`]: committed.get(partition),
        [`kafka_consumergroup_lag{${ofGroup}}`]: high - committed.get(partition)!,
      };
      for (const [query, number] of Object.entries(expected)) {
        expect([query, value(await prometheus.query(query))]).toEqual([query, number]);
      }
    }
    expect(value(await prometheus.query("kafka_brokers"))).toBe(1);
    expect(value(await prometheus.query("kafka_topic_partitions"))).toBe(PARTITIONS);
  });

  test("every query of the dashboard has an answer", async () => {
    const { panels = [] } = grafanaDashboard();
    const all = panels.flatMap((panel) => ("panels" in panel ? panel.panels : [panel]));
    const queries = all.flatMap(({ targets = [] }) =>
      targets.map((target) => ("expr" in target ? String(target.expr) : "")),
    );
    expect(queries.length).toBeGreaterThan(30);
    for (const query of queries) {
      const expr = query.replaceAll("$pipeline", ".*").replaceAll("$__rate_interval", "1m");
      await prometheus.queryUntil(expr, (found) => found.some((one) => Number.isFinite(one.value)));
    }
  });

  test("nothing rings but dead letters, when they rise, and end", async () => {
    await rings("DeadLetters", 0);
    expect(await prometheus.query('ALERTS{alertstate="firing"}')).toEqual([]);
    await produce(client, TOPIC, garbage(60));
    await rings("DeadLetters");
    await rings("DeadLetters", 0);
  });

  test("a pipeline that stands still rings, its lag too; mended, both end", async () => {
    const checkpoints = path.join(out, "state", "checkpoints");
    const files = fs.readdirSync(checkpoints, { recursive: true, encoding: "utf8" });
    const items = files.filter((name) => /partitions.*\.item$/.test(name)).sort();
    // A next generation that nobody can read: the processor finds it before it commits.
    const damaged = items.map((name) =>
      path.join(
        checkpoints,
        name.replace(/\d+(?=\.item$)/, (n) => String(Number(n) + 1).padStart(n.length, "0")),
      ),
    );
    const added = damaged.filter((file) => !fs.existsSync(file));
    for (const file of added) fs.writeFileSync(file, "damaged");
    expect(added).toHaveLength(PARTITIONS);
    await produce(client, TOPIC, garbage(30));
    await rings("PipelineStalled");
    await rings("ProcessorErrors");
    await rings("ConsumerLag", 0);
    await produce(client, TOPIC, garbage(3 * LAG));
    await rings("ConsumerLag");
    const { labels } = (await prometheus.query('ALERTS{alertname="MillpondConsumerLag"}'))[0]!;
    expect(labels).toMatchObject({ pipeline: "dev_test", topic: TOPIC, severity: "warning" });
    for (const file of added) fs.rmSync(file);
    await rings("PipelineStalled", 0);
    await rings("ConsumerLag", 0);
    await rings("ProcessorErrors", 0);
  });

  test("brokers that are away ring, and the endpoint answers all the same", async () => {
    await kafka.kill();
    try {
      await rings("KafkaUnreachable");
    } finally {
      await kafka.restart();
    }
    await rings("KafkaUnreachable", 0);
  });

  test("a pipeline that is gone rings", async () => {
    await dev.kill();
    await rings("MetricsUnreadable");
  });

  test("a monitor has heard the very alerts that Prometheus has seen ring, and end", async () => {
    const rang = await prometheus.query(
      'count by (alertname) (last_over_time(ALERTS{alertstate="firing"}[1h]))',
    );
    const names = rang.map(({ labels }) => labels.alertname!.replace("Millpond", ""));
    expect(names).toEqual(expect.arrayContaining(["PipelineStalled", "ConsumerLag"]));
    const firing = names.map((name) => `${name} firing`);
    const ended = names.filter((name) => name !== "MetricsUnreadable");
    await until(
      async () => [...heard],
      (all) => all.length >= firing.length + ended.length,
      "the monitor",
    );
    expect([...heard].sort()).toEqual([...firing, ...ended.map((one) => `${one} resolved`)].sort());
  });
});
