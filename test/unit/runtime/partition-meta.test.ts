/** A checkpoint's account of its partition is read back, or refused with what is wrong in it. */
import { expect, test } from "vitest";
import type { JsonObject, JsonValue } from "../../../lib/commit/checkpoint.js";
import { metaOf } from "../../../lib/runtime/partition-meta.js";

const META = {
  counters: {
    records: 5,
    events: 4,
    duplicates: 0,
    deadLetters: { malformed: 1 },
    tables: { pages: { events: 4, counted: 3, late: 1, duplicates: 0 } },
    rows: { clean: 4 },
  },
  flushed: false,
  label: "a.ndjson",
  openWindows: 1,
  openSessions: 0,
  dedupIds: 0,
  updated: false,
  committedAtMs: 1_700_000_000_000,
};
const read = (meta: JsonObject) => metaOf({ meta, generation: 7, commitId: "c1" });

/** A copy with one value replaced, or removed by undefined. */
function withValue(path: string, value: JsonValue | undefined): JsonObject {
  const copy: JsonObject = JSON.parse(JSON.stringify(META));
  const names = path.split(".");
  const last = names.pop() ?? "";
  const holder = names.reduce<Record<string, unknown>>((at, name) => {
    return at[name] as Record<string, unknown>;
  }, copy);
  if (value === undefined) delete holder[last];
  else holder[last] = value;
  return copy;
}

test("what was written is read, also a second time", () => {
  const meta: JsonObject = JSON.parse(JSON.stringify(META));
  expect(read(meta)).toEqual(META);
  expect(read(meta)).toBe(meta);
});

test.each<[string, JsonValue | undefined, string]>([
  ["counters", undefined, '"meta.counters" undefined, not an object'],
  ["counters.records", "5", '"meta.counters.records" "5", not a count'],
  ["counters.events", -1, '"meta.counters.events" -1, not a count'],
  ["counters.deadLetters", [], '"meta.counters.deadLetters" [], not an object'],
  ["counters.rows.clean", 0.5, '"meta.counters.rows.clean" 0.5, not a count'],
  ["counters.tables.pages.late", null, '"meta.counters.tables.pages.late" null, not a count'],
  ["flushed", "no", '"meta.flushed" "no", not true or false'],
  ["label", 1, '"meta.label" 1, not a text'],
  ["dedupIds", undefined, '"meta.dedupIds" undefined, not a count'],
  ["committedAtMs", "now", '"meta.committedAtMs" "now", not a time in ms'],
])("%s = %j is refused", (path, value, wrong) => {
  const message = `checkpoint (generation 7, commit c1) has ${wrong}. Another version`;
  expect(() => read(withValue(path, value))).toThrow(
    expect.objectContaining({ code: "STORAGE", message: expect.stringContaining(message) }),
  );
});
