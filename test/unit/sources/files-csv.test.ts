/** CSV files: rows as JSON records by the schema, broken rows by themselves, resuming anywhere. */
import { appendFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { parse } from "csv-parse/sync";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { findRowEnd } from "../../../lib/sources/files/csv-rows.js";
import {
  field,
  newSeed,
  readFileRecords,
  scratch,
  streamOf,
  texts,
  write,
} from "./files-support.js";

const dir = await scratch();
const TINY = { blockBytes: 64, lineBytesMax: 4096, oversizeKeptBytes: 16, sliceBytesMax: 512 };

const stream = streamOf(
  field("n", { kind: "int" }),
  field("d", { kind: "decimal", precision: 18, scale: 2 }),
  field("ok", { kind: "boolean" }),
  field("s", { kind: "string" }),
  field("temp", { kind: "double" }, { path: ["payload", "temp"] }),
  field("room", { kind: "string" }, { path: ["payload", "room"] }),
  field("at", { kind: "timestamp" }, { format: { kind: "epoch_ms" } }),
  field("iso", { kind: "timestamp" }, { format: { kind: "iso" } }),
  field("tags", { kind: "list", element: { kind: "string" } }),
);

async function rowsOf(content: string, name = "rows.csv") {
  return texts(await readFileRecords(await write(dir, name, content), { stream }));
}

describe("values", () => {
  test("are written by the declared type, and nested by path", async () => {
    const header = "n,payload.temp,s,ok,payload.room,at,iso,d,other,tags";
    const row =
      '007,+1.50,007,TRUE,"a ""b""",1700000000000,2024-01-01T00:00:00Z,-00.10,1,"[""x""]"';
    const content = `${header}\n${row}\n`;
    expect(await rowsOf(content)).toEqual([
      '{"n":7,"payload":{"temp":1.50,"room":"a \\"b\\""},"s":"007","ok":true,' +
        '"at":1700000000000,"iso":"2024-01-01T00:00:00Z","d":-0.10,"other":"1","tags":["x"]}',
    ]);
  });

  test("empty is null, quoted empty an empty string, what is no number a string", async () => {
    expect(await rowsOf('n,s,ok\n,,\n"","",""\nNA,NA,NA\nNaN,x,yes\n1.,0x1,1\n')).toEqual([
      '{"n":null,"s":null,"ok":null}',
      '{"n":"","s":"","ok":""}',
      '{"n":"NA","s":"NA","ok":"NA"}',
      '{"n":"NaN","s":"x","ok":"yes"}',
      '{"n":"1.","s":"0x1","ok":"1"}',
    ]);
  });

  test("a column named __proto__ is a key like any other", async () => {
    expect(await rowsOf("__proto__,s\n1,2\n")).toEqual(['{"__proto__":"1","s":"2"}']);
  });

  test("numbers keep their exact value", async () => {
    const number = fc.oneof(
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n }).map(String),
      fc.double({ noNaN: true, noDefaultInfinity: true }).map((x) => JSON.stringify(x)),
    );
    const property = fc.asyncProperty(fc.array(number, { minLength: 1 }), async (numbers) => {
      const rows = await rowsOf(
        `n\n${numbers.map((x) => `0${x}`.replace(/^0-/, "-0")).join("\n")}`,
      );
      expect(rows).toEqual(numbers.map((x) => `{"n":${x}}`));
    });
    await fc.assert(property, { seed: newSeed(), numRuns: 50 });
  });
});

describe("rows", () => {
  const value = fc.oneof(
    fc.constantFrom("", "a,b", 'say "x"', "two\nlines", "cr\r\nlf", "é😀", " "),
    fc.string({ maxLength: 20, unit: "grapheme" }),
  );
  const quote = (text: string) => `"${text.replaceAll('"', '""')}"`;

  test.each(["any.csv", "any.csv.gz"])(
    "%s: as another parser reads them, however split and resumed",
    async (name) => {
      const property = fc.asyncProperty(
        fc.array(fc.tuple(value, value), { maxLength: 30 }),
        fc.constantFrom("\n", "\r\n"),
        fc.constantFrom(1, 7, 1000),
        fc.nat(30),
        async (rows, newline, recordsMax, stopAfter) => {
          const content = ["a,b", ...rows.map((row) => row.map(quote).join(","))].join(newline);
          const path = await write(dir, name, name.endsWith(".gz") ? gzipSync(content) : content);
          const options = { stream, limits: TINY, recordsMax };
          const first = await readFileRecords(path, { ...options, stopAfter });
          const rest = await readFileRecords(path, { ...options, from: first });
          const found = [...first.records, ...rest.records].map((record) =>
            JSON.parse(Buffer.from(record.text, "latin1").toString()),
          );
          expect(found).toEqual(parse(content, { columns: true, record_delimiter: newline }));
          expect(rest.nextOffset).toBe(rows.length);
        },
      );
      await fc.assert(property, { seed: newSeed(), numRuns: 100 });
    },
  );

  test("a broken row is one malformed record with its raw text, its neighbours sound", async () => {
    const broken = ["1", "1,2,3", 'x"y,2', '"x"y,2', '"open,2'];
    const content = `n,s\n${broken.map((row) => `5,ok\n${row}\n`).join("")}6,end\n`;
    const result = await readFileRecords(await write(dir, "broken.csv", content), { stream });
    expect(texts(result)).toEqual([
      ...broken.flatMap((row) => ['{"n":5,"s":"ok"}', row]),
      '{"n":6,"s":"end"}',
    ]);
    const faults = result.records.flatMap((record) => record.fault ?? []);
    expect(faults).toEqual([
      "malformed: a CSV row with 1 values; the header has 2 columns",
      "malformed: a CSV row with 3 values; the header has 2 columns",
      "malformed: a CSV row whose value 1 has a quote but does not start with one",
      "malformed: a CSV row whose value 1 goes on after its closing quote",
      "malformed: a CSV row whose value 1 opens a quote that is never closed",
    ]);
  });

  test("a quote left open costs one row, also in front of more than a megabyte", async () => {
    const rows = Array.from({ length: 200_000 }, (_, i) => `${i},row`);
    const content = `n,s\n"open,1\n${rows.join("\n")}\n"3",x\n`;
    const result = await readFileRecords(await write(dir, "open.csv", content), { stream });
    expect(result.records.filter((record) => record.fault !== null)).toHaveLength(1);
    expect(result.records).toHaveLength(200_002);
    expect(result.records.at(-1)?.text).toBe('{"n":3,"s":"x"}');
  });

  test("where a row ends does not depend on how much of the file is in memory", () => {
    const property = fc.property(
      fc.string({ unit: fc.constantFrom('"', ",", "\n", "a") }),
      (text) => {
        const bytes = Buffer.from(text);
        const whole = findRowEnd(bytes, 0, true);
        for (let length = 0; length < bytes.length; length++) {
          const end = findRowEnd(bytes.subarray(0, length), 0, false);
          if (end !== -1) expect(end).toBe(whole);
        }
      },
    );
    fc.assert(property, { seed: newSeed(), numRuns: 1000 });
  });

  test("invalid UTF-8 is malformed, with its bytes kept", async () => {
    const bytes = Buffer.concat([Buffer.from("s\nok\n"), Buffer.from([0xff, 0xfe, 10])]);
    const result = await readFileRecords(await write(dir, "bytes.csv", bytes), { stream });
    expect(result.records[1]).toMatchObject({
      text: "\xff\xfe",
      fault: "malformed: a CSV row that is not valid UTF-8",
    });
  });

  test("a cut .csv.gz ends with a malformed record, not with a cut value", async () => {
    const packed = gzipSync(`n,s\n${"1,abc\n".repeat(100)}1,abcdef`);
    const cut = packed.subarray(0, packed.length - 8);
    const result = await readFileRecords(await write(dir, "cut.csv.gz", cut), { stream });
    expect(result.records).toHaveLength(101);
    expect(result.records.at(-1)).toMatchObject({
      text: "1,abcdef",
      fault: expect.stringContaining("ends inside its gzip stream"),
    });
  });
});

describe("files", () => {
  test("a header alone, or nothing, has no rows", async () => {
    for (const content of ["", "n,s", "n,s\n", "\n\n"]) expect(await rowsOf(content)).toEqual([]);
  });

  test("a mark before the header and blank lines are skipped", async () => {
    expect(await rowsOf("\ufeffn,s\r\n\r\n1,a\r\n \r\n2,b")).toEqual([
      '{"n":1,"s":"a"}',
      '{"n":2,"s":"b"}',
    ]);
  });

  test("appended rows are picked up; another header is refused", async () => {
    const path = await write(dir, "grow.csv", "n,s\n1,a\n");
    const first = await readFileRecords(path, { stream });
    await appendFile(path, "2,b\n");
    const second = await readFileRecords(path, { stream, from: first });
    expect(second.records).toEqual([{ text: '{"n":2,"s":"b"}', offset: 1, fault: null }]);
    await write(dir, "grow.csv", "n,t\n1,a\n2,b\n3,c\n");
    await expect(readFileRecords(path, { stream, from: second })).rejects.toThrow(/not the same/);
  });

  test.each([
    ["a,a\n", /column 2, "a", sets a key that another column sets too/],
    ["payload,payload.temp\n", /column 2, "payload\.temp", sets a key/],
    ["a,,b\n", /column 2 has no name/],
    ['a,"b\n', /never closed/],
  ])("the header %j is refused", async (content, message) => {
    await expect(rowsOf(content)).rejects.toThrow(message);
  });
});
