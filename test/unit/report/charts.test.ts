/** Scales, steps of time, and charts drawn from them. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { intervalSql, stepFor } from "../../../lib/report/buckets.js";
import { bars } from "../../../lib/report/charts/bars.js";
import { scaleFor } from "../../../lib/report/charts/scale.js";
import { timeChart } from "../../../lib/report/charts/time-chart.js";

const DAY = 86_400_000;

describe("a scale", () => {
  test("holds its values between round numbers", () => {
    expect(scaleFor([3, 97], true).ticks).toEqual([0, 25, 50, 75, 100]);
    expect(scaleFor([0.1, 0.32], true).ticks).toEqual([0, 0.1, 0.2, 0.3, 0.4]);
    expect(scaleFor([-7, 12], false).ticks).toEqual([-10, -5, 0, 5, 10, 15]);
    expect(scaleFor([990, 1010], false).ticks).toEqual([990, 995, 1000, 1005, 1010]);
  });

  test("of no values, one, and equal ones is a scale all the same", () => {
    for (const values of [[], [Number.NaN], [0], [5, 5], [-3]]) {
      const { min, max, ticks } = scaleFor(values, true);
      expect(max).toBeGreaterThan(min);
      expect(ticks.every(Number.isFinite)).toBe(true);
    }
  });

  test("has few finite ticks and places every double within it", () => {
    const values = fc.array(fc.double(), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(values, fc.boolean(), (some, fromZero) => {
        const scale = scaleFor(some, fromZero);
        expect(scale.ticks.length).toBeLessThan(10);
        expect(scale.ticks.every(Number.isFinite)).toBe(true);
        for (const value of some.filter(Number.isFinite)) {
          expect(scale.at(value)).toBeGreaterThanOrEqual(0);
          expect(scale.at(value)).toBeLessThanOrEqual(1);
        }
      }),
    );
  });
});

describe("a step of time", () => {
  test("is the windows' own while there are not too many", () => {
    expect(stepFor(3_600_000, 60_000)).toBe(60_000);
    expect(stepFor(365 * DAY, 3_600_000)).toBe(7 * DAY);
    expect(stepFor(0, 60_000)).toBe(60_000);
  });

  test("is whole windows, also of odd lengths and over centuries", () => {
    const spans = fc.integer({ min: 0, max: 4e13 });
    const lengths = fc.integer({ min: 1, max: 30 * DAY });
    fc.assert(
      fc.property(spans, lengths, (spanMs, windowMs) => {
        const stepMs = stepFor(spanMs, windowMs);
        expect(stepMs % windowMs).toBe(0);
        expect(spanMs / stepMs).toBeLessThan(80);
      }),
    );
  });

  test("is an interval in the largest unit that it is whole in", () => {
    expect([DAY * 7, 5_400_000, 60_000, 1_500].map(intervalSql)).toEqual([
      "INTERVAL '7 day'",
      "INTERVAL '90 minute'",
      "INTERVAL '1 minute'",
      "INTERVAL '1500 millisecond'",
    ]);
  });
});

describe("a chart", () => {
  const series = (values: readonly number[], name = "") => ({
    name,
    rank: 0,
    points: values.map((value, index) => ({ atMs: index * DAY, value })),
  });
  const chart = (values: readonly number[], stacks: boolean) =>
    timeChart({ title: "n", series: [series(values)], stepMs: DAY, stacks, isLarge: true }).text;

  test("of what adds up has a column a value, and none for nothing", () => {
    const path = /class="area s-0" d="([^"]*)"/.exec(chart([1, 0, Number.NaN, 3], true))?.[1];
    expect(path?.match(/M/g)).toHaveLength(2);
  });

  test("draws sums below zero as lines: they can't be stacked", () => {
    expect(chart([1, -2], true)).toContain('class="line s-0"');
  });

  test("leaves gaps where values are missing", () => {
    const path = /class="line s-0" d="([^"]*)"/.exec(chart([1, 2, Number.NaN, 3], false))?.[1];
    expect(path?.match(/M/g)).toHaveLength(2);
  });

  test("says what it shows, and holds the numbers under each step", () => {
    const text = chart([1, 2.5], true);
    expect(text).toContain('aria-label="n over time, 1970-01-01 to 1970-01-02, from 1 to 2.5"');
    expect(text).toContain('data-tips="1970-01-01|1\n1970-01-02|2.5"');
  });

  test("without points is nothing; without finite ones it is empty", () => {
    expect(chart([], true)).toBe("");
    expect(chart([Number.NaN, Number.POSITIVE_INFINITY], false)).toContain("no values");
  });
});

test("bars are as long as their numbers, and escape their names", () => {
  const rows = [
    { name: "<b>", value: 200 },
    { name: "half", value: 100 },
    { name: "tiny", value: 0.001 },
    { name: "none", value: Number.NaN },
  ];
  const { text } = bars({ label: "l", columns: { name: "k", value: "v" }, rows });
  expect([...text.matchAll(/<rect\s+width="([^"]*)"/g)].map(([, width]) => width)).toEqual([
    "100.0%",
    "50.0%",
    "0.4%",
    "0",
  ]);
  expect(text).toContain('title="&lt;b&gt;">&lt;b&gt;</th>');
  expect(text).toContain("<td>null</td>");
});
