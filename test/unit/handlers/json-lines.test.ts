/** JSON files of any form as lines: the same values at the same places, however they are read. */
import { describe, expect, it } from "vitest";
import { PlainInput } from "../../../lib/sources/files/byte-input.js";
import { formOf, JsonLinesInput } from "../../../lib/sources/objects/json-lines.js";

async function linesOf(text: string, stepBytes: number): Promise<string> {
  const content = Buffer.from(text);
  const file = {
    async read(target: Uint8Array, at: number, length: number, position: number) {
      return { bytesRead: content.copy(target, at, position, position + length) };
    },
    close: async () => undefined,
  };
  const input = new JsonLinesInput(new PlainInput(file, 0));
  const target = Buffer.alloc(content.length + 10);
  let at = 0;
  for (;;) {
    const read = await input.read(target, at, Math.min(at + stepBytes, target.length));
    at += read;
    if (read === 0) break;
  }
  expect(at).toBe(content.length);
  return target.toString("utf8", 0, at);
}

const records = (lines: string) => lines.split("\n").filter((line) => line.trim() !== "");

const VALUES = [
  { a: 1, nested: { list: [1, [2, 3], { b: "]" }] } },
  { text: 'quotes " and \\ and , and \n and ] } [ {', empty: {} },
  [],
  "a, string",
  12,
  null,
  { ä: "日本" },
];

describe("an array", () => {
  it.each([undefined, 2, "\t\r"])("becomes a line an element, indented by %j", async (indent) => {
    for (const bom of ["", "\ufeff"]) {
      const text = `${bom}\n ${JSON.stringify(VALUES, null, indent)}\r\n`;
      for (const step of [1, 7, 100_000]) {
        const lines = records((await linesOf(text, step)).replace(/^\ufeff/, ""));
        expect(lines.map((line) => JSON.parse(line))).toEqual(VALUES);
      }
    }
  });

  it("may be empty", async () => {
    expect(records(await linesOf(" [ \n ] \n", 3))).toEqual([]);
  });

  it("that is cut short, or goes on after its end, gives bad lines for what is bad", async () => {
    expect(records(await linesOf('[{"a":1},{"b":', 100))).toEqual([' {"a":1}', '{"b":']);
    expect(records(await linesOf("[1,2] oops", 100))).toEqual([" 1", "2", " oops"]);
  });
});

describe("one document over many lines", () => {
  it("becomes one line, and so do those that follow it", async () => {
    const text = VALUES.filter((value) => typeof value === "object" && value !== null)
      .filter((value) => !Array.isArray(value))
      .map((value) => JSON.stringify(value, null, 2))
      .join("\n");
    const lines = records(await linesOf(text, 5));
    expect(lines.map((line) => JSON.parse(line))).toEqual([VALUES[0], VALUES[1], VALUES[6]]);
  });
});

describe("lines", () => {
  it("stay as they are, broken ones too", async () => {
    const text = '{"a":1}\n{"broken":\n{"b":[1,\r\n2]}\nx\n';
    expect(await linesOf(text, 4)).toBe(text);
  });

  it("are told from documents by the first one", () => {
    const form = (text: string) => formOf(Buffer.from(text));
    expect(form('{"a":1}')).toBe("lines");
    expect(form('{"a":1}\n{')).toBe("lines");
    expect(form('{"a":"\n')).toBe("lines");
    expect(form("{\n")).toBe("document");
    expect(form('{"cut":[1, 2\n{"a":1}\n')).toBe("lines");
    expect(form('{"cut\n{"a":1}\n')).toBe("lines");
    expect(form('{"cut": tr\r\n\n {"a":1}\n')).toBe("lines");
    expect(form('{"a":\n{"b":1}}\n')).toBe("document");
    expect(form('{"a":[\n{"b":1},\n{"b":2}]}\n')).toBe("document");
    expect(form('{"a":[{"b":1},\n{"b":2}]}\n')).toBe("document");
    expect(form("oops\n[")).toBe("lines");
    expect(form("")).toBe("lines");
    expect(form(" \n\t[")).toBe("array");
  });
});
