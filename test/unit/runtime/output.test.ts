/** The manifest of an output is read as it was written, or refused with what is wrong in it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { SinkNode } from "../../../lib/define/definition.js";
import {
  count,
  duckdb,
  kafka,
  lake,
  minutes,
  pipeline,
  stream,
  timestamp,
  tumbling,
} from "../../../lib/index.js";
import { claimOutput, outputPaths, readManifest } from "../../../lib/runtime/output.js";

const paths = outputPaths(mkdtempSync(join(tmpdir(), "millpond-output-")));
afterAll(() => rmSync(paths.dir, { recursive: true, force: true }));

const visits = stream("visits", { schema: { at: timestamp() }, eventTime: "at", lateness: 0 });
const { definition } = pipeline("p", {
  t: visits.window(tumbling(minutes(1))).aggregate({ n: count() }),
});
let written = "";
beforeAll(() => {
  claimOutput(paths, definition, "hash");
  written = readFileSync(paths.manifest, "utf8");
});

test("a manifest is read as it was written", () => {
  expect(readManifest(paths)).toEqual({
    format: 1,
    pipeline: "p",
    definitionHash: "hash",
    definition: JSON.parse(JSON.stringify(definition)),
  });
  expect(readManifest(outputPaths(join(paths.dir, "none")))).toBeNull();
});

test.each<[string, (text: string) => string, string]>([
  ["is cut", (text) => text.slice(0, 100), "it is not JSON"],
  ["is null", () => "null", 'its "pipeline" is undefined, not a text'],
  ["has no hash", (text) => text.replace('"hash"', "5"), 'its "definitionHash" is 5, not a text'],
  ["has no format", (text) => text.replace('"format"', '"frmt"'), "it names no format"],
  [
    "has no streams",
    (text) => text.replace('"streams"', '"strms"'),
    "its definition cannot be read: streams of the definition is undefined, not a list",
  ],
])("a manifest that %s is damaged", (_, change, found) => {
  writeFileSync(paths.manifest, change(written));
  const message = `${paths.manifest} is damaged: ${found}`;
  expect(() => readManifest(paths)).toThrow(
    expect.objectContaining({ code: "STORAGE", message: expect.stringContaining(message) }),
  );
});

test("a manifest of another format names both", () => {
  writeFileSync(paths.manifest, written.replace('"format": 1', '"format": 2'));
  expect(() => readManifest(paths)).toThrow("was written in format 2, this program reads and");
});

test("a changed definition is refused, with what can be done about it", () => {
  writeFileSync(paths.manifest, written);
  const of = (sinks: readonly SinkNode[]) =>
    pipeline("p", { rows: visits.rows() }, { sinks }).definition;
  const advice = (sinks: readonly SinkNode[]) => {
    try {
      claimOutput(paths, of(sinks), "other");
    } catch (error) {
      return String(error);
    }
    return "";
  };
  expect(advice([lake(), duckdb()])).toContain("`millpond backfill`, give a new --out to process");
  expect(advice([duckdb()])).not.toContain("backfill");
  const topic = advice([lake(), kafka({ table: "rows", topic: "rows" })]);
  expect(topic).toContain("do not mix: give a new --out, and its kafka sink another topic");
});
