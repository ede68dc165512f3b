/** NDJSON files, plain and compressed: which records come out, resumed at any point. */
import { randomBytes } from "node:crypto";
import { appendFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { constants, gunzipSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openFileSources } from "../../../lib/sources/files/index.js";
import { newSeed, readFileRecords, scratch, streamOf, texts, write } from "./files-support.js";

const dir = await scratch();
const TINY = { blockBytes: 64, lineBytesMax: 4096, oversizeKeptBytes: 16, sliceBytesMax: 512 };

/** The records of an NDJSON file, by splitting its text. */
function oracle(content: Buffer): string[] {
  const text = content.toString("latin1").replace(/^\xef\xbb\xbf/, "");
  return text
    .split("\n")
    .map((line) => line.replace(/\r$/, ""))
    .filter((line) => !/^[ \t\r]*$/.test(line));
}

const line = fc.oneof(
  fc.constantFrom("", " ", "\t\r", "{}", '{"a":1}', "\u00ef\u00bb\u00bf", '{"x":"\\n"}'),
  fc.string({ maxLength: 200, unit: "binary" }).map((text) => text.replaceAll("\n", "")),
);
const content = fc
  .tuple(
    fc.boolean(),
    fc.array(fc.tuple(line, fc.constantFrom("\n", "\r\n")), { maxLength: 60 }),
    line,
  )
  .map(([mark, lines, last]) => {
    const text = lines.map(([body, end]) => body + end).join("") + last;
    return Buffer.concat([Buffer.from(mark ? [0xef, 0xbb, 0xbf] : []), Buffer.from(text)]);
  });

describe("NDJSON files", () => {
  test.each(["plain.ndjson", "packed.ndjson.gz"])(
    "%s: what is read ahead counts not",
    async (name) => {
      const lines = Array.from({ length: 1000 }, (_, i) => `{"n":${1000 + i}}\n`).join("");
      const content = name.endsWith(".gz") ? gzipSync(lines) : lines;
      const path = await write(dir, name, content);
      const stream = streamOf();
      const { sources } = await openFileSources({ path, stream, known: new Map() });
      const reader = await sources[0]!.open(0, null);
      const shares: number[] = [];
      while ((await reader.read(250)) !== null) shares.push(reader.bytesRead / reader.bytesTotal);
      expect(shares.map((share) => share.toFixed(2))).toEqual(["0.25", "0.50", "0.75", "1.00"]);
      await reader.close();
    },
  );

  test.each(["plain.ndjson", "packed.jsonl.gz"])(
    "%s: any split and a resume at any point give the lines of the file",
    async (name) => {
      const property = fc.asyncProperty(
        content,
        fc.constantFrom(1, 7, 1000),
        fc.nat(60),
        async (bytes, recordsMax, stopAfter) => {
          const path = await write(dir, name, name.endsWith(".gz") ? gzipSync(bytes) : bytes);
          const expected = oracle(bytes);
          const whole = await readFileRecords(path, { limits: TINY, recordsMax });
          expect(texts(whole)).toEqual(expected);
          const first = await readFileRecords(path, { limits: TINY, recordsMax, stopAfter });
          const rest = await readFileRecords(path, { limits: TINY, recordsMax, from: first });
          const both = [...first.records, ...rest.records];
          expect(both).toEqual(whole.records);
          expect(both.map((record) => record.offset)).toEqual(expected.map((_, i) => i));
        },
      );
      await fc.assert(property, { seed: newSeed(), numRuns: 150 });
    },
  );

  test("appended lines are read from where the last run stopped", async () => {
    const property = fc.asyncProperty(content, content, async (before, after) => {
      const start = Buffer.concat([before, Buffer.from("\n")]);
      const path = await write(dir, "growing.ndjson", start);
      const first = await readFileRecords(path, { limits: TINY });
      await appendFile(path, after);
      const rest = await readFileRecords(path, { limits: TINY, from: first });
      const all = oracle(Buffer.concat([start, after]));
      expect([...texts(first), ...texts(rest)]).toEqual(all);
    });
    await fc.assert(property, { seed: newSeed(), numRuns: 150 });
  });

  test("every record has the file's modification time", async () => {
    const path = await write(dir, "time.json", "1\n2\n");
    const { timestamps } = await readFileRecords(path);
    expect([...timestamps]).toEqual([Math.floor((await stat(path)).mtimeMs)]);
  });

  test("an empty file has no records, plain or compressed", async () => {
    for (const [name, bytes] of [
      ["empty.ndjson", ""],
      ["empty.ndjson.gz", ""],
      ["none.ndjson.gz", gzipSync("")],
    ] as const) {
      const result = await readFileRecords(await write(dir, name, bytes));
      expect(result).toMatchObject({ records: [], warnings: [] });
    }
  });

  test("a line at the limit is a record; one byte more is one oversize record, cut", async () => {
    const fits = "a".repeat(4096);
    const long = "b".repeat(4097);
    const longer = "c".repeat(100_000);
    for (const end of ["", "\n"]) {
      const path = await write(
        dir,
        "long.ndjson",
        `x\n${fits}\n${long}\ny\n${longer}\nz\n${longer}${end}`,
      );
      const result = await readFileRecords(path, { limits: TINY });
      const fault = (length: number) =>
        `oversize: a line of ${length} bytes; the limit is 4096 bytes`;
      expect(result.records.map(({ text, fault: found }) => [text, found])).toEqual([
        ["x", null],
        [fits, null],
        ["b".repeat(16), fault(4097)],
        ["y", null],
        ["c".repeat(16), fault(100_000)],
        ["z", null],
        ["c".repeat(16), fault(100_000)],
      ]);
      for (let stopAfter = 1; stopAfter <= 7; stopAfter++) {
        const options = { limits: TINY, recordsMax: 1 };
        const first = await readFileRecords(path, { ...options, stopAfter });
        const rest = await readFileRecords(path, { ...options, from: first });
        expect([...first.records, ...rest.records]).toEqual(result.records);
      }
    }
  });

  test("with the real limits, 65 MiB lines are cut to 1 MiB, 10 MB lines whole", async () => {
    const ten = "t".repeat(10_000_000);
    const path = await write(dir, "real.ndjson", `${"x".repeat(65 * 1024 * 1024)}\n${ten}\nend\n`);
    const result = await readFileRecords(path);
    expect(result.records.map((record) => record.text.length)).toEqual([
      1024 * 1024,
      10_000_000,
      3,
    ]);
    expect(result.records[0]?.fault).toContain("a line of 68157440 bytes");
  });
});

describe("a file that changed under its checkpoint is refused", () => {
  const lines = Array.from({ length: 2000 }, (_, i) => `{"line":${i}}`).join("\n");

  test.each([
    ["it is shorter", (text: string) => text.slice(0, 9000), /now has 9000/],
    [
      "its head differs",
      (text: string) => text.replace('{"line":0}', '{"line":x}'),
      /not the same/,
    ],
    [
      "its tail differs",
      (text: string) => text.replace('{"line":1999}', '{"line":199x}'),
      /not the same/,
    ],
    ["its last line goes on", (text: string) => `${text}!`, /line goes on/],
  ])("%s", async (_what, change, message) => {
    for (const pack of [(text: string) => Buffer.from(text), (text: string) => gzipSync(text)]) {
      const name = pack("").length === 0 ? "changed.ndjson" : "changed.ndjson.gz";
      const path = await write(dir, name, pack(lines));
      const first = await readFileRecords(path);
      await writeFile(path, pack(change(lines)));
      const again = readFileRecords(path, { from: first });
      await expect(again).rejects.toMatchObject({ code: "INPUT" });
      await expect(again).rejects.toThrow(message);
      await expect(again).rejects.toThrow(path);
    }
  });

  test("a newline after a last line without one is fine, and so is nothing", async () => {
    const path = await write(dir, "last.ndjson", lines);
    const first = await readFileRecords(path);
    expect((await readFileRecords(path, { from: first })).records).toEqual([]);
    await appendFile(path, "\r\n");
    const second = await readFileRecords(path, { from: first });
    expect(second.records).toEqual([]);
    await appendFile(path, "{}\n");
    const third = await readFileRecords(path, { from: second });
    expect(third.records).toEqual([{ text: "{}", offset: 2000, fault: null }]);
  });
});

describe("compressed files", () => {
  test("the members of a concatenated .gz are read as one", async () => {
    const parts = ['{"a":1}\n{"b"', ":2}\n", "", "{}"].map((part) => gzipSync(part));
    const path = await write(dir, "members.ndjson.gz", Buffer.concat(parts));
    expect(texts(await readFileRecords(path))).toEqual(['{"a":1}', '{"b":2}', "{}"]);
  });

  test("a cut .gz gives all that zlib can restore, the broken line as malformed", async () => {
    const text = Array.from({ length: 8000 }, () => randomBytes(12).toString("hex")).join("\n");
    const packed = gzipSync(`${text}\n`);
    const property = fc.asyncProperty(
      fc.integer({ min: 1, max: packed.length - 1 }),
      async (cut) => {
        const path = await write(dir, "cut.ndjson.gz", packed.subarray(0, cut));
        const restored = gunzipSync(packed.subarray(0, cut), {
          finishFlush: constants.Z_SYNC_FLUSH,
        });
        const result = await readFileRecords(path);
        expect(texts(result)).toEqual(oracle(restored));
        const partial = restored.length > 0 && restored.at(-1) !== 10;
        const faults = result.records.filter((record) => record.fault !== null);
        expect(faults.map((record) => record.offset)).toEqual(
          partial ? [result.records.length - 1] : [],
        );
        for (const { fault } of faults) {
          expect(fault).toBe(
            "malformed: the file ends inside its gzip stream (unexpected end of file)",
          );
        }
        expect(result.warnings).toHaveLength(1);
      },
    );
    await fc.assert(property, { seed: newSeed(), numRuns: 40 });
  });

  test("a .gz with a wrong byte gives at least all that stands before it", async () => {
    const text = Array.from({ length: 8000 }, () => randomBytes(12).toString("hex")).join("\n");
    const packed = gzipSync(text);
    const property = fc.asyncProperty(
      fc.integer({ min: 20, max: packed.length - 9 }),
      async (at) => {
        const damaged = Buffer.from(packed);
        damaged[at]! ^= 0xff;
        const path = await write(dir, "wrong.ndjson.gz", damaged);
        const before = gunzipSync(packed.subarray(0, at), {
          finishFlush: constants.Z_SYNC_FLUSH,
        });
        const result = await readFileRecords(path);
        expect(texts(result).join("\n").startsWith(oracle(before).join("\n"))).toBe(true);
        expect(result.warnings).toHaveLength(1);
        const again = await readFileRecords(path, { from: result });
        expect(again.records).toEqual([]);
      },
    );
    await fc.assert(property, { seed: newSeed(), numRuns: 8 });
  });

  test("a damaged checksum or block loses nothing that came before it", async () => {
    const text = Array.from({ length: 300 }, (_, i) => `{"i":${i}}\n`).join("");
    const badSum = gzipSync(text);
    badSum[badSum.length - 8]! ^= 1;
    const sound = await write(dir, "sum.ndjson.gz", badSum);
    const first = await readFileRecords(sound);
    expect(texts(first)).toEqual(text.trimEnd().split("\n"));
    expect(first.warnings[0]).toContain("incorrect data check");

    const garbage = Buffer.concat([gzipSync(`${text}{"half`), Buffer.from("not gzip")]);
    const second = await readFileRecords(await write(dir, "garbage.ndjson.gz", garbage));
    expect(second.records).toHaveLength(301);
    expect(second.records.at(-1)).toMatchObject({
      text: '{"half',
      fault: "malformed: the file ends inside its gzip stream (incorrect header check)",
    });
  });

  test("a .gz that is not gzip is refused", async () => {
    const path = await write(dir, "fake.ndjson.gz", '{"a":1}\n');
    await expect(readFileRecords(path)).rejects.toThrow(/does not start like a gzip file/);
  });
});

test("a file that vanished between listing and opening is an INPUT error", async () => {
  const path = await write(dir, "gone.ndjson", "{}\n");
  const { sources } = await openFileSources({ path, stream: streamOf(), known: new Map() });
  await rm(join(dir, "gone.ndjson"));
  await expect(sources[0]!.open(0, null)).rejects.toMatchObject({ code: "INPUT" });
});
