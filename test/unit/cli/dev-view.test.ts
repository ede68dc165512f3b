/** What `millpond dev` shows on a terminal of 80 columns. */
import { Writable } from "node:stream";
import { expect, test } from "vitest";
import { DevView } from "../../../lib/cli/dev-view.js";

const MAPPING = { delivered: 31_000, invocations: 40, failures: 0, discarded: 0, lag: 12_345 };
const FIGURES = {
  records: 31_000,
  events: 30_999,
  lateRows: 1,
  duplicates: 301,
  deadLetters: 1,
  watermark: Date.UTC(2025, 0, 1),
};

function shown(tables: Readonly<Record<string, number>>): string[] {
  let text = "";
  const stream = new Writable({
    write(chunk, _encoding, done) {
      text += String(chunk);
      done();
    },
  });
  const view = new DevView({
    stream: Object.assign(stream, { columns: 80 }),
    isTTY: true,
    json: false,
  });
  view.status({ mapping: MAPPING, figures: { ...FIGURES, tables } });
  return text.trimEnd().split("\n");
}

test("no line is wider, and none of the numbers is cut off", () => {
  const names = Array.from({ length: 9 }, (_, i) => `page_view_counts_${i}`);
  const lines = shown(Object.fromEntries(names.map((name, i) => [name, i * 1000])));
  for (const line of lines) expect(line.length).toBeLessThan(80);
  const text = lines.join(" · ");
  expect(text).toContain("1 late row · 301 duplicates · 1 dead · watermark 2025-01-01T00:00:00Z");
  for (const [i, name] of names.entries()) expect(text).toContain(`${name} ${i === 0 ? 0 : i}`);
});

test("before a window has closed, it says what is waited for", () => {
  expect(shown({ pages: 0, visits: 0 }).at(-1)).toBe(
    "no rows yet: a window's come once the watermark has passed its end",
  );
});
