/** A monitor's conditions and its memory of who was told, against examples written by hand. */
import { afterEach, describe, expect, test, vi } from "vitest";
import { ALERTS, type AlertRule } from "../../../lib/observe/alerts.js";
import { addressOf } from "../../../lib/observe/monitor/address.js";
import {
  type AlertInstance,
  afterTelling,
  dueNotices,
  nextAlerts,
} from "../../../lib/observe/monitor/alert-state.js";
import { type Look, measure } from "../../../lib/observe/monitor/conditions.js";
import { endpointSource } from "../../../lib/observe/monitor/endpoint-source.js";
import { Monitor } from "../../../lib/observe/monitor/monitor.js";
import { parseSamples, type Sample } from "../../../lib/observe/monitor/samples.js";

const WANTED = new Set(["a", "b_total", "c:sum"]);

describe("Prometheus' text", () => {
  test("is read: labels with every escape, times, comments, no labels", () => {
    const text = [
      "# HELP a text",
      "# TYPE a gauge",
      'a{x="1",y="quote \\" slash \\\\ line\\n} brace",} 1.5e3',
      "b_total 7 1700000000000",
      "c:sum -0.5",
      "unwanted 3",
      'a{x="2"} NaN',
      'a{x="3"} +Inf',
      "",
    ].join("\n");
    expect(parseSamples(text, WANTED)).toEqual([
      { name: "a", labels: { x: "1", y: 'quote " slash \\ line\n} brace' }, value: 1500 },
      { name: "b_total", labels: {}, value: 7 },
      { name: "c:sum", labels: {}, value: -0.5 },
    ]);
  });

  test.each(["<html>", "a", "a{", 'a{x="1"}', "a one"])("%j is refused by its line", (line) => {
    expect(() => parseSamples(`c:sum 1\n${line}\n`, WANTED)).toThrow(/line 2 is no metric/);
  });
});

/** Looks 15 s apart; each value is a sample of `metric`, null an unread look. */
function looksOf(
  metric: string,
  values: readonly (number | null)[],
  labels: Sample["labels"] = { pipeline: "p" },
): Look[] {
  return values.map((value, i) => ({
    atMs: i * 15_000,
    samples: value === null ? null : [{ name: metric, labels, value }],
  }));
}

describe("how much a counter grew", () => {
  const condition = { kind: "increase", metric: "n_total", withinS: 60 } as const;
  const growth = (...values: (number | null)[]) =>
    measure(condition, looksOf("n_total", values))?.[0]?.value;

  test("is unknown at the first look, then the difference", () => {
    expect(growth(500)).toBe(0);
    expect(growth(500, 500)).toBe(0);
    expect(growth(500, 507, 510)).toBe(10);
  });

  test("is that of the window, from the look before it on", () => {
    expect(growth(0, 100, 100, 100, 100)).toBe(100);
    expect(growth(0, 100, 100, 100, 100, 100)).toBe(0);
  });

  test("goes on over a restart, and over looks that failed", () => {
    expect(growth(500, 3, 5)).toBe(5);
    expect(growth(500, null, 520)).toBe(20);
    expect(measure(condition, looksOf("n_total", [500, null]))).toBeNull();
  });

  test("counts what first shows at a later look whole", () => {
    const looks: Look[] = [{ atMs: 0, samples: [] }, ...looksOf("n_total", [9])];
    expect(measure(condition, looks)).toEqual([{ labels: { pipeline: "p" }, value: 9 }]);
  });
});

test("a share is that of the worst table; without events there is none", () => {
  const condition = { kind: "share", part: "late_total", whole: "n_total", withinS: 60 } as const;
  const look = (atMs: number, n: number, late: readonly [number, number]): Look => ({
    atMs,
    samples: [
      { name: "n_total", labels: { pipeline: "p", partition: "0" }, value: n },
      ...late.map((value, i) => {
        return { name: "late_total", labels: { pipeline: "p", table: `t${i}` }, value };
      }),
    ],
  });
  const share = measure(condition, [look(0, 100, [0, 50]), look(15_000, 200, [3, 54])]);
  expect(share).toEqual([{ labels: { pipeline: "p" }, value: 0.04 }]);
  expect(measure(condition, [look(0, 100, [0, 0]), look(15_000, 100, [0, 9])])).toEqual([]);
});

describe("a partition that stands still", () => {
  const condition = { kind: "stalled", withinS: 30 } as const;
  const look = (atMs: number, places: readonly (readonly [number, number])[]): Look => ({
    atMs,
    samples: [
      { name: "millpond_pipeline_info", labels: { pipeline: "p", consumergroup: "g" }, value: 1 },
      ...places.flatMap(([offset, lag], i) => {
        const labels = { consumergroup: "g", topic: "t", partition: String(i) };
        return [
          { name: "kafka_consumergroup_current_offset", labels, value: offset },
          { name: "kafka_consumergroup_lag", labels, value: lag },
        ];
      }),
    ],
  });
  const at = (...looks: (readonly (readonly [number, number])[])[]) =>
    measure(
      condition,
      looks.map((places, i) => look(i * 15_000, places)),
    );

  test("has records waiting and has not moved", () => {
    const found = [{ labels: { pipeline: "p", topic: "t" }, value: 1 }];
    expect(at([[5, 2]], [[5, 3]], [[5, 4]])).toEqual(found);
    expect(
      at(
        [
          [5, 2],
          [1, 9],
        ],
        [
          [5, 3],
          [2, 9],
        ],
        [
          [5, 4],
          [3, 9],
        ],
      ),
    ).toEqual(found);
  });

  test("is none that moves, has nothing waiting, or was seen once", () => {
    expect(at([[5, 2]], [[6, 3]], [[6, 4]])).toEqual([]);
    expect(at([[5, 0]], [[5, 0]], [[5, 4]])).toEqual([]);
    expect(at([[5, 2]])).toEqual([]);
  });

  test("is unknown while brokers are away", () => {
    const away: Look = {
      atMs: 15_000,
      samples: [{ name: "kafka_brokers", labels: {}, value: 0 }],
    };
    const looks = [look(0, [[5, 2]]), away];
    expect(measure(condition, looks)).toBeNull();
    expect(measure({ kind: "lag" }, looks)).toBeNull();
    expect(measure({ kind: "brokersAway" }, looks)).toEqual([{ labels: {}, value: 1 }]);
  });

  test("is none of another one's group", () => {
    const looks = [0, 1].map((i) => ({
      atMs: i * 15_000,
      samples: look(0, [[5, 2]]).samples!.slice(1),
    }));
    expect(measure(condition, looks)).toEqual([]);
    expect(measure({ kind: "lag" }, looks)).toEqual([]);
  });
});

describe("an alert", () => {
  const rule: AlertRule = {
    ...ALERTS[0],
    name: "Full",
    condition: { kind: "level", metric: "bytes" },
    threshold: 10,
    forS: 30,
  };
  const ACTIONS = ["log", "webhook"];
  const REPEAT_MS = 60_000;

  /** What is told at each look; of `lost`, nothing arrives. */
  function told(values: readonly (number | null)[], lost: ReadonlySet<string> = new Set()) {
    let alerts: readonly AlertInstance[] = [];
    return values.map((_, i) => {
      const looks = looksOf("bytes", values.slice(0, i + 1));
      alerts = nextAlerts(alerts, [rule], looks);
      const nowMs = i * 15_000;
      const due = dueNotices(alerts, ACTIONS, { nowMs, repeatMs: REPEAT_MS });
      for (const notice of due) {
        if (!lost.has(`${i} ${notice.action}`)) alerts = afterTelling(alerts, notice, nowMs);
      }
      return due.map(({ action, instance }) => `${action} ${instance.status}`).join(", ");
    });
  }
  const both = (status: string) => `log ${status}, webhook ${status}`;

  test("rings once it has held for long enough, once, and ends once", () => {
    const found = told([9, 10, 11, 12, 12, 9, 9, 9]);
    expect(found).toEqual(["", "", "", both("firing"), "", both("resolved"), "", ""]);
  });

  test("that did not hold for long enough is not told of", () => {
    expect(told([10, 10, 9, 10, 10, 9])).toEqual(["", "", "", "", "", ""]);
  });

  test("that goes on is told again after a while", () => {
    const found = told([10, 10, 10, 10, 10, 10, 10, 10]);
    expect(found).toEqual(["", "", both("firing"), "", "", "", both("firing"), ""]);
  });

  test("stays as it is while nothing can be read", () => {
    const found = told([10, 10, 10, null, null, 10, 9]);
    expect(found).toEqual(["", "", both("firing"), "", "", "", both("resolved")]);
  });

  test("that did not arrive is sent again, to whom it did not reach alone", () => {
    const found = told([10, 10, 10, 10, 9, 9, 9], new Set(["2 webhook", "4 log"]));
    expect(found).toEqual([
      ...["", "", both("firing"), "webhook firing"],
      ...[both("resolved"), "log resolved", ""],
    ]);
  });

  test("each pipeline's is its own", () => {
    const labels = [{ pipeline: "p" }, { pipeline: "q" }];
    const look = {
      atMs: 0,
      samples: labels.map((one, i) => ({ name: "bytes", labels: one, value: 9 + i })),
    };
    expect(nextAlerts([], [{ ...rule, forS: 0 }], [look])).toMatchObject([
      { labels: { pipeline: "q" }, status: "firing", value: 10 },
    ]);
  });
});

describe("an address", () => {
  test("with a login is asked with it and shown without", () => {
    const { url, headers } = addressOf("https://me:p%40ss%@example.com/m?token=t", "it");
    expect(url.href).toBe("https://example.com/m?token=t");
    expect(headers).toEqual({ authorization: `Basic ${btoa("me:p@ss%")}` });
    expect(endpointSource("http://me:secret@h:1/metrics?token=t").shown).toBe("h:1/metrics");
    expect(addressOf("http://h/", "it").headers).toEqual({});
  });

  test.each(["me:secret@h", "ftp://me:secret@h/"])("that is none is not repeated", (text) => {
    expect(() => addressOf(text, "--metrics")).toThrow(
      /^--metrics is no address: expected http:\/\/… or https:\/\/…$/,
    );
  });
});

describe("looks that come very often", () => {
  afterEach(() => vi.useRealTimers());

  test("are thinned out, and reach back as far as a condition looks", async () => {
    vi.useFakeTimers();
    const rule = ALERTS.find(({ name }) => name === "DeadLetters")!;
    const labels = { pipeline: "p" };
    let value = 0;
    const monitor = new Monitor({
      source: { read: async () => [{ name: "millpond_dead_letters_total", labels, value }] },
      rules: [rule],
      actions: [],
      repeatMs: 60_000,
      onTrouble: () => undefined,
    });
    for (let look = 0; look < 4_000; look++) {
      vi.advanceTimersByTime(100);
      value += 3;
      await monitor.look();
    }
    // 3,000 looks are 5 minutes, in which 9,000 came.
    expect(monitor.state.looks.length).toBeLessThan(1_005);
    expect(monitor.state.alerts).toMatchObject([{ alert: "DeadLetters", status: "firing" }]);
    expect(Math.abs(monitor.state.alerts[0]!.value - 9_000)).toBeLessThan(15);
  });
});
