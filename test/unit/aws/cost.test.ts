/** The bill: hand-worked amounts, that it grows with the load, and where others are cheaper. */
import { describe, expect, test, vi } from "vitest";
import {
  ALTERNATIVES,
  type Alternative,
  breakEven,
  processingUsd,
} from "../../../lib/aws/cost/alternatives.js";
import { activityOf, billOf, DEFAULT_LOAD, type Load } from "../../../lib/aws/cost/bill.js";
import { PRICE_LIST, type Price } from "../../../lib/aws/cost/prices.js";
import { costCommand } from "../../../lib/cli/cost.js";

const load = (over: Partial<Load> & Pick<Load, "eventsPerSecond">): Load => ({
  ...DEFAULT_LOAD,
  ...over,
});

const part = (of: Load, name: string): number =>
  billOf(of).parts.find((item) => item.part === name)?.usdPerMonth ?? 0;

describe("how often things run", () => {
  test("few events: a slice a partition and window", () => {
    const { slices } = activityOf(load({ eventsPerSecond: 100 }));
    expect(slices).toBe((4 / 5) * 730 * 3600);
  });

  test("fewer events than windows: a slice an event", () => {
    expect(activityOf(load({ eventsPerSecond: 0.1 })).slices).toBeCloseTo(0.1 * 730 * 3600);
  });

  test("many events: full batches of 10,000", () => {
    const { slices } = activityOf(load({ eventsPerSecond: 100_000 }));
    expect(slices).toBe(10 * 730 * 3600);
  });

  test("large records: batches end at 6 MB", () => {
    const { slices } = activityOf(load({ eventsPerSecond: 10_000, eventBytes: 10_000 }));
    const record = (10_000 * 4) / 3 + 180;
    expect(slices).toBeCloseTo((10_000 / ((6 * 1024 * 1024) / record)) * 730 * 3600, 0);
  });
});

describe("amounts, worked by hand", () => {
  test("MSK Serverless: 0.10 a GB in, 0.05 out, 0.10 kept a month", () => {
    const kept = (retentionDays: number) =>
      part(load({ eventsPerSecond: 100, retentionDays }), "MSK");
    const gb = (100 * 200 * 730 * 3600) / 1024 ** 3;
    expect(kept(30) - 730 * (0.75 + 4 * 0.0015)).toBeCloseTo(gb * 0.25, 6);
    expect(kept(60) - kept(30)).toBeCloseTo(gb * 0.1, 6);
  });

  test("MSK Serverless at rest: 0.75 an hour and 0.0015 a partition", () => {
    const idle = load({ eventsPerSecond: 1, hoursPerDay: 0 });
    expect(part(idle, "MSK")).toBeCloseTo(730 * (0.75 + 4 * 0.0015), 6);
  });

  test("two endpoints in two zones", () => {
    const idle = load({ eventsPerSecond: 1, hoursPerDay: 0 });
    expect(part(idle, "VPC endpoints")).toBeCloseTo(4 * 0.01 * 730, 6);
  });

  test("pollers are rented four at a time, and need no endpoints", () => {
    const own = load({ eventsPerSecond: 1, minPollers: 5 });
    expect(part(own, "Event pollers")).toBeCloseTo(2 * 0.185 * 730, 6);
    expect(part(own, "VPC endpoints")).toBe(0);
  });

  test("an existing cluster costs nothing here", () => {
    expect(part(load({ eventsPerSecond: 1000, kafka: "existing" }), "MSK")).toBe(0);
  });
});

test("at rest almost nothing is left", () => {
  const idle = load({ eventsPerSecond: 1000, hoursPerDay: 0, kafka: "existing" });
  // Ticks of the sink, once a minute.
  expect(processingUsd(idle)).toBeLessThan(3);
});

test("the bill never falls when the load grows", () => {
  let last = 0;
  for (let rate = 0.1; rate < 1e6; rate *= 3) {
    const { usdPerMonth, parts } = billOf(load({ eventsPerSecond: rate }));
    expect(usdPerMonth).toBeGreaterThanOrEqual(last);
    expect(parts.reduce((sum, item) => sum + item.usdPerMonth, 0)).toBeCloseTo(usdPerMonth, 6);
    last = usdPerMonth;
  }
});

test.each(Object.keys(ALTERNATIVES) as Alternative[])("%s: the break-even is one", (name) => {
  const of = load({ eventsPerSecond: 1, kafka: "existing" });
  const rate = breakEven(of, name);
  if (rate === null || rate === 0) throw new TypeError(`${name} breaks even nowhere`);
  const ours = (at: number) => processingUsd({ ...of, eventsPerSecond: at });
  const theirs = (at: number) => ALTERNATIVES[name].usd({ ...of, eventsPerSecond: at });
  expect(ours(rate * 0.99)).toBeLessThanOrEqual(theirs(rate * 0.99));
  expect(ours(rate * 1.01)).toBeGreaterThan(theirs(rate * 1.01));
});

test("every price names its unit and its source, with a date or none", () => {
  for (const price of Object.values<Price>(PRICE_LIST.regions["us-east-1"])) {
    expect(price.usd).toBeGreaterThan(0);
    expect(price.per).not.toBe("");
    expect(price.source).toMatch(/^https:\/\//);
    expect(price.dated ?? "2026").toMatch(/^\d{4}(-\d{2})?$/);
    expect(price.doubt).not.toBe("");
  }
});

test("the command names what is not confirmed, and where to check it", async () => {
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  const args = ["--events-per-second", "100", "--region", "us-west-2"];
  await costCommand().parseAsync(args, { from: "user" });
  const text = write.mock.calls.map(([chunk]) => String(chunk)).join("");
  write.mockRestore();
  expect(text).toContain("List prices of us-east-1, taken to be the same in us-west-2");
  const doubts = Object.values<Price>(PRICE_LIST.regions["us-west-2"]).filter(
    ({ doubt }) => doubt !== undefined,
  );
  expect(doubts).not.toEqual([]);
  for (const { per, doubt, source } of doubts) {
    expect(text).toContain(` per ${per}: ${doubt} (${source})`);
  }
});

test.each([
  [{ region: "mars-1" }, 'no prices for region "mars-1": known are us-east-1'],
  [{ eventsPerSecond: 0 }, "eventsPerSecond is 0: give a number above 0"],
  [{ hoursPerDay: 25 }, "give 0 to 24"],
])("%j is refused", (over, message) => {
  expect(() => billOf(load({ eventsPerSecond: 1, ...over }))).toThrow(message);
});
