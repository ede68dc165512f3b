/** Lines that the audit takes for records, held against JSON.parse and a count of brackets. */
import { isUtf8 } from "node:buffer";
import { type DuckDBConnection, DuckDBInstance } from "@duckdb/node-api";
import { afterAll, beforeAll, expect, test } from "vitest";
import { recordsSql } from "../../../lib/audit/records-sql.js";
import type { StreamNode } from "../../../lib/define/definition.js";
import { Random, testRounds, testSeed } from "../../integration/support/random.js";

const RECORD_BYTES_MAX = 2_000;
const NESTING_MAX = 128;

const stream: StreamNode = {
  name: "events",
  fields: [],
  eventTime: "at",
  latenessMs: 0,
  maxAheadMs: 0,
  idleAfterMs: 0,
  maxRecordBytes: RECORD_BYTES_MAX,
};

let instance: DuckDBInstance;
let connection: DuckDBConnection;
beforeAll(async () => {
  instance = await DuckDBInstance.create(":memory:", { threads: "1" });
  connection = await instance.connect();
});
afterAll(() => {
  connection.closeSync();
  instance.closeSync();
});

async function judged(lines: readonly Buffer[]): Promise<string[]> {
  await connection.run(`CREATE OR REPLACE TABLE bronze (topic VARCHAR, "partition" INTEGER,
    "offset" BIGINT, "timestamp" TIMESTAMPTZ, "value" BLOB)`);
  const appender = await connection.createAppender("bronze");
  for (const [offset, line] of lines.entries()) {
    appender.appendVarchar("events");
    appender.appendInteger(0);
    appender.appendBigInt(BigInt(offset));
    appender.appendNull();
    appender.appendBlob(line);
    appender.endRow();
  }
  appender.closeSync();
  const reader = await connection.runAndReadAll(
    `SELECT coalesce(fault, 'record') FROM (${recordsSql(stream, "bronze")}) ORDER BY o`,
  );
  return reader.getRows().map(([fault]) => String(fault));
}

function expected(bytes: Buffer): string {
  if (bytes.length > RECORD_BYTES_MAX) return "oversize";
  if (!isUtf8(bytes)) return "malformed";
  try {
    const value: unknown = JSON.parse(bytes.toString("utf8").replace(/^\uFEFF/, ""));
    if (typeof value !== "object" || value === null || Array.isArray(value)) return "malformed";
    return isDeeper(value, NESTING_MAX) ? "oversize" : "record";
  } catch {
    return "malformed";
  }
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((child) => isDeeper(child, levels - 1));
}

const nested = (open: string, close: string, times: number, inner = "") =>
  `{"x":${open.repeat(times)}${inner}${close.repeat(times)}}`;

const LINES: readonly (string | Buffer)[] = [
  ...["{}", " {}\t\r", "[]", "null", "5", '"x"', "", " ", "{", "{}{}", "{} x", "{a:1}", "{'a':1}"],
  ...['{"a":1,}', '{"a":[1,]}', '{"a":"1,]"}', '{"a":"\\",]"}', '{"a":"\\\\",}', "{,}", '{"a":,}'],
  ...['{"a":NaN}', '{"a":nan}', '{"a":"NaN"}', '{"nan":1}', '{"a":Infinity}', '{"a":-inf}'],
  ...['{"a":"information","b":1,}', '{"a":"banana,}"}', '{"a":01}', '{"a":+1}', '{"a":.5}'],
  ...['{"a":1.}', '{"a":0x1}', '{"a":1e}', '{"a":-0}', '{"a":1E+2}', '{"a":truE}', '{"a":/**/1}'],
  ...['{"a":"\t"}', '{"a":"\\x"}', '{"a":"\\u12"}', '{"a":"\\u0000"}', '{"a":"\u2028"}'],
  ...["\uFEFF{}", "\uFEFF\uFEFF{}", "\u00a0{}", "\u000b{}", "{}\u0000"],
  nested("[", "]", 127),
  nested("[", "]", 128),
  nested('{"x":', "}", 127, "1"),
  nested('{"x":', "}", 128, "1"),
  nested("[{},", "]", 127, "1"),
  nested("[", "]", 200).replace("]}", "}"),
  `{"x":"${"[{".repeat(300)}"}`,
  `{"x":[${"[],".repeat(300)}1]}`,
  `{"x":"${"é".repeat(RECORD_BYTES_MAX / 2)}"}`,
  Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]),
  Buffer.from('{"a":"\xed\xa0\x80"}', "latin1"),
  Buffer.from('{"a":"\xc0\x80"}', "latin1"),
  Buffer.from('{"a":"\xf4\x90\x80\x80"}', "latin1"),
];

test("lines at the edges of JSON", async () => {
  const lines = LINES.map((line) => Buffer.from(line));
  const found = await judged(lines);
  const wrong = lines.flatMap((line, i) =>
    found[i] === expected(line) ? [] : [`${line.toString().slice(0, 80)}: ${found[i]}`],
  );
  expect(wrong).toEqual([]);
});

test("good lines with a few bytes changed", async () => {
  const random = new Random(testSeed());
  const good = '{"a":[1,-2.5e3,"n\\u00e4n, \\"]}"],"inf":{"b":null,"c":[true,false]},"d":"1"}';
  const pieces = [
    "{",
    "}",
    "[",
    "]",
    ",",
    '"',
    ":",
    "\\",
    "1",
    "e",
    ".",
    "-",
    "nan",
    "inf",
    " ",
    "é",
  ];
  const lines = Array.from({ length: testRounds(3_000) }, () => {
    let line = good;
    for (let i = random.between(1, 3); i > 0; i--) {
      const at = random.below(line.length);
      const piece = random.chance(0.4) ? "" : random.pick(pieces);
      line = line.slice(0, at) + piece + line.slice(at + random.below(2));
    }
    return Buffer.from(line);
  });
  const found = await judged(lines);
  const wrong = lines.filter((line, i) => found[i] !== expected(line));
  expect(wrong.map(String)).toEqual([]);
});
