/** What Prometheus is told, by prom-client's own text and Prometheus' naming rules. */
import { describe, expect, test } from "vitest";
import { METRICS } from "../../../lib/observe/metrics.js";
import { PrometheusMetrics } from "../../../lib/observe/prometheus.js";

const at = { stream: "s", partition: "0" };

async function linesOf(metrics: PrometheusMetrics, name: string): Promise<string[]> {
  const text = await metrics.registry.metrics();
  return text.split("\n").filter((line) => line.startsWith(`${name}{`));
}

describe("names", () => {
  test("are in Prometheus' form: base units, _total for what grows", () => {
    expect(new Set(METRICS.map(({ prometheus }) => prometheus)).size).toBe(METRICS.length);
    for (const { prometheus, statistic, unit } of METRICS) {
      expect(prometheus).toMatch(/^millpond_[a-z_]+$/);
      expect(prometheus.endsWith("_total")).toBe(statistic === "Sum");
      if (unit === "Milliseconds") expect(prometheus).toMatch(/_seconds$/);
      if (unit === "Bytes") expect(prometheus).toMatch(/_bytes$/);
    }
  });
});

describe("observations", () => {
  test("add up, in seconds, by the labels that a metric has", async () => {
    const metrics = new PrometheusMetrics();
    for (let i = 0; i < 3; i++) {
      const observations = [
        { metric: "RecordsRead", value: 5, labels: { ...at, table: "not one of its labels" } },
        { metric: "SliceDurationMs", value: 30, labels: at },
      ] as const;
      metrics.write("p", observations, Date.now());
    }
    const labels = 'pipeline="p",stream="s"';
    expect(await linesOf(metrics, "millpond_records_total")).toEqual([
      `millpond_records_total{${labels},partition="0"} 15`,
    ]);
    expect(await linesOf(metrics, "millpond_slice_duration_seconds_sum")).toEqual([
      `millpond_slice_duration_seconds_sum{${labels}} 0.09`,
    ]);
    const buckets = await linesOf(metrics, "millpond_slice_duration_seconds_bucket");
    expect(buckets.filter((line) => line.endsWith(" 0"))).toHaveLength(2);
  });

  test("an age grows until it is told anew; 0 stays 0", async () => {
    const metrics = new PrometheusMetrics();
    const hourAgoMs = Date.now() - 3_600_000;
    const lag = async () => {
      const [line] = await linesOf(metrics, "millpond_watermark_lag_seconds");
      return Math.round(Number(line!.split(" ").at(-1)) / 60);
    };
    const observe = (value: number) =>
      metrics.write("p", [{ metric: "WatermarkLagMs", value, labels: at }], hourAgoMs);
    observe(120_000);
    expect(await lag()).toBe(62);
    observe(0);
    expect(await lag()).toBe(0);
  });

  test("begin with 0, and are bounded in number", async () => {
    const metrics = new PrometheusMetrics();
    metrics.begin("p", [{ metric: "Events", labels: at }]);
    metrics.begin("p", [{ metric: "SliceDurationMs", labels: at }]);
    expect(await linesOf(metrics, "millpond_events_total")).toHaveLength(1);
    expect((await linesOf(metrics, "millpond_slice_duration_seconds_count"))[0]).toMatch(/ 0$/);
    for (let i = 0; i < 10_050; i++) {
      const labels = { ...at, partition: String(i) };
      metrics.write("p", [{ metric: "Events", value: 1, labels }], Date.now());
    }
    const lines = await linesOf(metrics, "millpond_events_total");
    expect(lines.length).toBe(10_000 - 1);
  });
});
