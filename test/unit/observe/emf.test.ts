/** The metric lines, held against CloudWatch's published rules for the embedded metric format. */
import { describe, expect, it } from "vitest";
import { emfLine, type MetricValues } from "../../../lib/observe/emf.js";
import { METRICS } from "../../../lib/observe/metrics.js";

/** Of the specification, "EMF standard": names, units, sizes and how metrics refer to values. */
function check(line: string): void {
  expect(Buffer.byteLength(line)).toBeLessThan(16 * 1024);
  const document = JSON.parse(line);
  const { Timestamp, CloudWatchMetrics } = document._aws;
  expect(Number.isInteger(Timestamp)).toBe(true);
  for (const { Namespace, Dimensions, Metrics } of CloudWatchMetrics) {
    expect(Namespace).toMatch(/^[\w./#:-]{1,255}$/);
    expect(Metrics.length).toBeLessThanOrEqual(100);
    for (const dimension of Dimensions.flat()) {
      expect(typeof document[dimension]).toBe("string");
      expect(document[dimension]).toMatch(/^.{1,1024}$/);
    }
    for (const { Name, Unit } of Metrics) {
      expect(["Count", "Milliseconds", "Bytes"]).toContain(Unit);
      const values = [document[Name]].flat();
      expect(values.length).toBeGreaterThan(0);
      expect(values.length).toBeLessThanOrEqual(100);
      for (const value of values) expect(Number.isFinite(value)).toBe(true);
    }
  }
}

describe("the metrics", () => {
  it("have a name, a unit, a statistic and a sentence each, once", () => {
    const names = METRICS.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const { name, help } of METRICS) {
      expect(name).toMatch(/^[A-Z][A-Za-z]+$/);
      expect(help).toMatch(/^[A-Z].*\.$/);
    }
  });

  it("are all valid in one line, with a hundred values each", () => {
    const values: MetricValues = Object.fromEntries(
      METRICS.map(({ name }) => [name, Array.from({ length: 100 }, (_, i) => i * 1.5)]),
    );
    check(emfLine({ pipeline: "clicks", stream: "user_activity" }, values, Date.now())!);
  });
});

describe("a line", () => {
  it("has the pipeline's dimension for all, and the stream's where there is one a stream", () => {
    const values = { RecordsRead: 5, SliceDurationMs: [1.26, 2], PublishedRows: 7 };
    const line = emfLine({ pipeline: "p", stream: "s" }, values, 1_700_000_000_000)!;
    check(line);
    const Namespace = "Millpond";
    const read = { Name: "RecordsRead", Unit: "Count" };
    const duration = { Name: "SliceDurationMs", Unit: "Milliseconds" };
    const rows = { Name: "PublishedRows", Unit: "Count" };
    expect(JSON.parse(line)).toEqual({
      _aws: {
        Timestamp: 1_700_000_000_000,
        CloudWatchMetrics: [
          { Namespace, Dimensions: [["Pipeline"]], Metrics: [read, duration, rows] },
          { Namespace, Dimensions: [["Pipeline", "Stream"]], Metrics: [read, duration] },
        ],
      },
      Pipeline: "p",
      Stream: "s",
      RecordsRead: 5,
      SliceDurationMs: [1.3, 2],
      PublishedRows: 7,
    });
  });

  it("keeps the hundred largest of more values", () => {
    const SliceDurationMs = Array.from({ length: 250 }, (_, i) => i);
    const line = emfLine({ pipeline: "p" }, { SliceDurationMs }, 0)!;
    check(line);
    expect(JSON.parse(line).SliceDurationMs).toEqual(
      Array.from({ length: 100 }, (_, i) => 249 - i),
    );
  });

  it("leaves out what has no value, and is none when nothing has", () => {
    const values = { StateBytes: [], WatermarkLagMs: [Number.NaN], Events: 0 };
    const line = emfLine({ pipeline: "p" }, values, 0)!;
    check(line);
    expect(Object.keys(JSON.parse(line))).toEqual(["_aws", "Pipeline", "Events"]);
    expect(emfLine({ pipeline: "p" }, { StateBytes: [] }, 0)).toBeNull();
  });
});
