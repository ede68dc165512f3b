/** Which path is whose input: by the stream's name, or alone where there is one stream. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { inputsByStream } from "../../../lib/cli/run.js";

const dir = mkdtempSync(join(tmpdir(), "millpond-inputs-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const inputs = (given: string[], streams: string[]) => [...inputsByStream(given, streams)];
const refused = (message: string) => expect.objectContaining({ code: "USAGE", message });

test("a path goes to the stream that it names, or to the only one", () => {
  expect(inputs(["events"], ["clicks"])).toEqual([["clicks", "events"]]);
  expect(inputs(["clicks=a=b"], ["clicks"])).toEqual([["clicks", "a=b"]]);
  expect(inputs(["b=y", "a=x"], ["a", "b"])).toEqual([
    ["b", "y"],
    ["a", "x"],
  ]);
  const partition = join(dir, "day=1");
  mkdirSync(partition);
  expect(inputs([partition], ["clicks"])).toEqual([["clicks", partition]]);
});

test("a stream that is not there is refused with those that are", () => {
  const message =
    '--input click=events: the pipeline has no stream "click"; did you mean "clicks"? ' +
    "It has: clicks";
  expect(() => inputs(["click=events"], ["clicks"])).toThrow(refused(message));
  expect(() => inputs(["c=x"], ["orders", "clicks"])).toThrow('no stream "c". It has: orders,');
});

test("several streams need a name each, and one input each", () => {
  expect(() => inputs(["events"], ["a", "b"])).toThrow("give one --input <stream>=<path> for each");
  expect(() => inputs(["a=x", "a=y"], ["a", "b"])).toThrow('stream "a" has an input already');
  expect(() => inputs(["x", "y"], ["a"])).toThrow('stream "a" has an input already');
});
