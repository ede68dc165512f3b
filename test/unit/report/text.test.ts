/** Numbers, times and markup of the report. */
import { describe, expect, test } from "vitest";
import {
  axisTimeText,
  durationText,
  keyText,
  numberText,
  percentText,
  tickText,
  timeText,
} from "../../../lib/report/format.js";
import { html, markup } from "../../../lib/report/html.js";

describe("html", () => {
  test("escapes what is put in, but not its own", () => {
    const inner = html`<b title="${`"'`}">${"<&>"}</b>`;
    expect(inner.text).toBe('<b title="&quot;&#39;">&lt;&amp;&gt;</b>');
    expect(html`<p>${inner}${[inner, 1]}${null}${markup("<i>")}</p>`.text).toBe(
      `<p>${inner.text}${inner.text}1<i></p>`,
    );
  });

  test("shows what is no text as such", () => {
    expect(html`${"a\u0000b\ud800c\td\n👩‍👩"}`.text).toBe("a\u{fffd}b\u{fffd}c\td\n👩‍👩");
  });
});

test("numbers", () => {
  const values = [0, 1234567, 0.123456, -12.3456, 1e300, 1e-9, Number.POSITIVE_INFINITY, 2e15];
  expect(values.map(numberText)).toEqual(
    ["0", "1,234,567", "0.1235", "-12.35", "1.00e+300", "1.00e-9", "Infinity"].concat("2.00e+15"),
  );
  expect([0.5, 9_999, 12_500, 3_400_000, 2.5e300].map(tickText)).toEqual(
    ["0.5", "9,999", "12.5K", "3.4M"].concat("2.5e300"),
  );
});

test("shares are never rounded to all or nothing", () => {
  expect(percentText(1, 1_000_000)).toBe("<0.01%");
  expect(percentText(999_999, 1_000_000)).toBe(">99.99%");
  expect(percentText(1, 3)).toBe("33.3%");
  expect([percentText(0, 5), percentText(5, 5), percentText(0, 0)]).toEqual(["0%", "100%", "0%"]);
});

test("durations have two units at most", () => {
  expect([0, 90, 60_000, 3_661_000, 90_000_000, 400 * 86_400_000].map(durationText)).toEqual([
    "0 seconds",
    "90 milliseconds",
    "1 minute",
    "1 hour 1 minute",
    "1 day 1 hour",
    "1 year 35 days",
  ]);
});

test("times have the digits that their step needs", () => {
  const at = Date.UTC(2013, 6, 4, 5, 6, 7, 89);
  expect([1, 1_000, 60_000].map((stepMs) => timeText(at, stepMs))).toEqual([
    "2013-07-04 05:06:07.089",
    "2013-07-04 05:06:07",
    "2013-07-04 05:06",
  ]);
  expect(timeText(Date.UTC(-1, 0, 1), 86_400_000)).toBe("-000001-01-01");
  expect(timeText(Number.NaN)).toBe("NaN");
  const axis = (days: number, stepMs: number) =>
    axisTimeText(at, { spanMs: days * 86_400_000, stepMs });
  expect([axis(9_999, 1), axis(300, 1), axis(20, 1), axis(2, 1), axis(0.5, 60_000)]).toEqual([
    "2013",
    "Jul 2013",
    "4 Jul",
    "4 Jul 05:06",
    "05:06",
  ]);
});

test("long keys are cut, invisible ones are named", () => {
  expect(keyText("x".repeat(9), 5)).toBe("xxxx…");
  expect(["", " \t", "a"].map((text) => keyText(text))).toEqual(["(empty)", "(blank)", "a"]);
});
