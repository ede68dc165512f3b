/** What terminals show: tables and progress fit every width, and hide nothing they can't show. */
import { Writable } from "node:stream";
import { expect, test } from "vitest";
import { createProgress, progressLines, shortCount } from "../../../lib/cli/progress.js";
import { displayWidth, textTable } from "../../../lib/cli/text-table.js";

const FACTS = {
  phase: "reading" as const,
  records: 1_234_567,
  events: 1_234_000,
  lateRows: 512,
  deadLetters: 55,
  bytesRead: 250_000_000,
  bytesTotal: 1_000_000_000,
  watermark: Date.UTC(2024, 0, 2, 3, 4, 5),
};

class Text extends Writable {
  text = "";
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

test.each([40, 60, 80, 120, 160, 200])("progress fits %i columns", (width) => {
  for (const line of progressLines(FACTS, 250_000, { width, color: false })) {
    expect(displayWidth(line)).toBeLessThan(width);
  }
});

test("progress at 80 columns shows rate, share, late, dead, watermark and lag", () => {
  const text = progressLines(FACTS, 250_000, { width: 80, color: false }).join("\n");
  for (const part of [
    "25%",
    "250k/s",
    "512 late rows",
    "55 dead",
    "2024-01-02T03:04:05Z",
    "750MB",
  ]) {
    expect(text).toContain(part);
  }
});

test("progress is drawn at most ten times a second", () => {
  const stream = new Text();
  let now = 0;
  const options = { stream, isTTY: true, json: false, color: false, now: () => now };
  const progress = createProgress(options);
  for (; now < 1000; now++) progress.update(FACTS);
  expect(stream.text.split("reading").length - 1).toBe(10);
});

test("progress without a terminal is plain lines, with --json JSON lines", () => {
  for (const json of [false, true]) {
    const stream = new Text();
    let now = 0;
    const progress = createProgress({ stream, isTTY: false, json, now: () => now });
    for (; now <= 10_000; now += 100) progress.update(FACTS);
    progress.done();
    progress.done();
    const lines = stream.text.trimEnd().split("\n");
    expect(lines).toHaveLength(3);
    expect(stream.text).not.toContain("\x1b");
    if (json) expect(JSON.parse(lines[0]!)).toMatchObject({ kind: "progress", lateRows: 512 });
  }
});

test("counts are shown with three digits", () => {
  const shown = [0, 950, 999, 1000, 12_345, 999_600, 4_560_000].map(shortCount);
  expect(shown).toEqual(["0", "950", "999", "1.00k", "12.3k", "1.00M", "4.56M"]);
});

test("a table never gets wider than the terminal, also with wide characters", () => {
  const columns = ["名前", "page", "views"].map((name) => ({ name, isNumber: name === "views" }));
  const rows = [
    ["日本語のとても長い名前", "x".repeat(100), "12"],
    ["a", null, "3"],
  ];
  for (const width of [10, 20, 40, 80]) {
    const text = textTable(columns, rows, { width, color: false });
    for (const line of text.trimEnd().split("\n")) {
      expect(displayWidth(line)).toBeLessThanOrEqual(width);
    }
  }
});

test("columns that do not fit follow below, after the first one", () => {
  const names = ["page", "window_start", "views", "comment"];
  const columns = names.map((name) => ({ name, isNumber: name === "views" }));
  const text = textTable(columns, [["/", "2025-01-01T00:00:00.000Z", "12", "n".repeat(60)]], {
    width: 42,
    color: false,
  });
  expect(text.split("\n")).toEqual([
    "page  window_start              views",
    "────  ────────────────────────  ─────",
    "/     2025-01-01T00:00:00.000Z     12",
    "",
    "page  comment",
    "────  ────────────────────────",
    `/     ${"n".repeat(23)}…`,
    "",
  ]);
});

test("control characters in data can't reach the terminal", () => {
  const columns = [{ name: "s", isNumber: false }];
  const text = textTable(columns, [["a\x1b[31m\nb"]], { width: 80, color: false });
  expect(text.split("\n")[2]).toBe("a\\x1b[31m\\nb");
});
