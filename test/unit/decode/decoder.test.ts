/** The decoder's rules one by one: what becomes an event, and the reason of what does not. */
import { describe, expect, it } from "vitest";
import type { ColumnType, FieldNode } from "../../../lib/define/definition.js";
import type { Batch, Column } from "../../../lib/engine/batch.js";
import { createDecoder } from "../../../lib/engine/decode/decoder.js";
import { valueAt } from "../../../lib/engine/row-values.js";
import { field, sliceOf, streamOf } from "./support.js";

/** The value of field `x` in a record, or the reason why there is none. */
function decodeX(
  type: ColumnType["kind"] | ColumnType,
  json: string,
  more: Partial<FieldNode> = {},
) {
  const full = (typeof type === "string" ? { kind: type } : type) as ColumnType;
  return decodeRecord(`{"t":0,"x":${json}}`, [field("x", full, more)]);
}

function decodeRecord(record: string | Uint8Array | null, fields = [field("x", "string")]) {
  const { columns, deadLetters } = createDecoder(streamOf(fields)).decode(sliceOf([record]));
  return deadLetters.length > 0 ? deadLetters[0].reason : valueAt(columns[0], 0);
}

function detailOf(record: string | Uint8Array | null, fields = [field("x", "string")]): string {
  const { deadLetters } = createDecoder(streamOf(fields)).decode(sliceOf([record]));
  return deadLetters[0].detail;
}

describe("syntax", () => {
  it.each([
    ["", "empty"],
    ["  \n", "blank"],
    ["{", "open object"],
    ['{"t":0,"x":"a"', "object without an end"],
    ['{"t":0,"x":"a"}}', "something after the record"],
    ['{"t":0,"x":"a",}', "comma before the end"],
    ['{"t":0,,"x":"a"}', "two commas"],
    ['{"t":0 "x":"a"}', "no comma"],
    ['{"t":0,"x" "a"}', "no colon"],
    ["{t:0}", "bare key"],
    ["[]", "array at the root"],
    ["1", "number at the root"],
    ["null", "null at the root"],
    ['{"t":0,"x":"a\nb"}', "line feed in a string"],
    ['{"t":0,"x":"\\x"}', "unknown escape"],
    ['{"t":0,"x":"\\u12g4"}', "bad hex"],
    ['{"t":0,"x":"a","u":01}', "leading zero"],
    ['{"t":0,"x":"a","u":1.}', "nothing after the point"],
    ['{"t":0,"x":"a","u":.5}', "nothing before the point"],
    ['{"t":0,"x":"a","u":+1}', "plus"],
    ['{"t":0,"x":"a","u":1e}', "no exponent"],
    ['{"t":0,"x":"a","u":-}', "only a minus"],
    ['{"t":0,"x":"a","u":nul}', "cut word"],
    ['{"t":0,"x":"a","u":NaN}', "NaN"],
    ['{"t":0,"x":"a","u":[1,]}', "comma before an array's end"],
    ['{"t":0,"x":"a","x":"a"}', "declared key twice"],
    ['{"t":0,"x":"a","\\u0078":"a"}', "declared key twice, once escaped"],
    ['{"t":0,"x":"\\ud800"}', "lone surrogate"],
    ['{"t":"wrong","x":5,"u":tru}', "syntax error after wrong types"],
  ])("refuses %j as malformed: %s", (record) => {
    expect(decodeRecord(record)).toBe("malformed");
  });

  it.each([
    ['\ufeff{"t":0,"x":"a"}', "a"],
    [' \t\r\n{ "t" : 0 , "x" : "a" } \r\n', "a"],
    ['{"\\u0074":0,"\\u0078":"a"}', "a"],
    ['{"t":0,"x":"\\u00e9\\ud83d\\ude00\\n"}', "é😀\n"],
    ['{"t":0,"x":"é😀"}', "é😀"],
    ['{"t":0,"x":"","u":{"x":1,"t":[]},"__proto__":{"x":2},"constructor":null}', ""],
    ['{"u":1,"u":2,"t":0,"x":"a"}', "a"],
  ])("reads %j", (record, value) => {
    expect(decodeRecord(record)).toBe(value);
  });

  it("refuses invalid UTF-8 in a value, a key, and an undeclared value", () => {
    for (const [before, after] of [
      ['{"t":0,"x":"', '"}'],
      ['{"t":0,"x":"a","', '":1}'],
      ['{"t":0,"x":"a","u":"', '"}'],
    ]) {
      const record = Buffer.concat([
        Buffer.from(before),
        Buffer.of(0xc3, 0x28),
        Buffer.from(after),
      ]);
      expect(decodeRecord(record)).toBe("malformed");
    }
  });

  it("takes 128 levels and refuses 129, and 10,000, as oversize", () => {
    const nested = (levels: number) =>
      `{"t":0,"x":"a","u":${"[".repeat(levels - 1)}${"]".repeat(levels - 1)}}`;
    expect(decodeRecord(nested(128))).toBe("a");
    expect(decodeRecord(nested(129))).toBe("oversize");
    expect(decodeRecord(nested(10_000))).toBe("oversize");
    expect(decodeRecord(`{"u":`.repeat(10_000))).toBe("oversize");
    expect(detailOf(nested(129))).toBe("nested deeper than 128 levels");
  });

  it("says where the syntax is broken", () => {
    expect(detailOf('{"t":0;}')).toBe("expected ',' or '}', found ';' at byte 6");
    expect(detailOf('{"x":1,"x":1}')).toBe('key "x" appears twice at byte 10');
  });
});

describe("numbers", () => {
  it.each([
    ["int", "2147483647", 2147483647],
    ["int", "-2147483648", -2147483648],
    ["int", "2147483648", "out_of_range"],
    ["int", "1.0", 1],
    ["int", "1e3", 1000],
    ["int", "1200e-2", 12],
    ["int", "-0", 0],
    ["int", "1.5", "wrong_type"],
    ["int", '"1"', "wrong_type"],
    ["int", "true", "wrong_type"],
    ["int", "1e400", "out_of_range"],
    ["int", "0e999999999999", 0],
    ["int", "1e-999999999999", "wrong_type"],
    ["bigint", "9007199254740993", 9007199254740993n],
    ["bigint", "9223372036854775807", 2n ** 63n - 1n],
    ["bigint", "-9223372036854775808", -(2n ** 63n)],
    ["bigint", "9223372036854775808", "out_of_range"],
    ["bigint", "-0", 0n],
    ["bigint", "9007199254740993.0", 9007199254740993n],
    ["double", "-0", -0],
    ["double", "0.1", 0.1],
    ["double", "9007199254740993", 9007199254740992],
    ["double", "1e308", 1e308],
    ["double", "1e309", "out_of_range"],
    ["double", "5e-324", 5e-324],
    ["double", '"1"', "wrong_type"],
    ["boolean", "true", true],
    ["boolean", "0", "wrong_type"],
  ] as const)("%s of %s is %s", (kind, json, value) => {
    expect(decodeX(kind, json)).toBe(value);
  });

  it.each([
    ["12.34", 1234n],
    ["12.3400", 1234n],
    ["1.234e1", 1234n],
    ["-0.01", -1n],
    ["999.99", 99999n],
    ["1000", "out_of_range"],
    ["0.001", "out_of_range"],
    ['"1"', "wrong_type"],
  ])("decimal(5,2) of %s is %s", (json, value) => {
    expect(decodeX({ kind: "decimal", precision: 5, scale: 2 }, json)).toBe(value);
  });
});

describe("timestamps", () => {
  it.each([
    ["2026-01-15T10:00:00.000Z", Date.UTC(2026, 0, 15, 10)],
    ["2026-01-15 10:00:00z", Date.UTC(2026, 0, 15, 10)],
    ["2026-01-15t10:00Z", Date.UTC(2026, 0, 15, 10)],
    ["2026-01-15T10:00:00+05:30", Date.UTC(2026, 0, 15, 4, 30)],
    ["2026-01-15T10:00:00-0530", Date.UTC(2026, 0, 15, 15, 30)],
    ["2026-01-15T10:00:00+05", Date.UTC(2026, 0, 15, 5)],
    ["2026-01-15T10:00:00.1239999999Z", Date.UTC(2026, 0, 15, 10, 0, 0, 123)],
    ["1969-12-31T23:59:59.9999Z", -1],
    ["0001-01-01T00:00:00Z", -62135596800000],
    ["0000-02-29T00:00:00Z", Date.parse("0000-02-29T00:00:00Z")],
    ["+275760-09-13T00:00:00Z", 8.64e15],
    ["-271821-04-20T00:00:00Z", -8.64e15],
    ["+275760-09-13T00:00:00.001Z", "out_of_range"],
    ["+999999-01-01T00:00:00Z", "out_of_range"],
    ["-000000-01-01T00:00:00Z", "wrong_type"],
    ["2024-02-29T00:00:00Z", Date.UTC(2024, 1, 29)],
    ["2023-02-29T00:00:00Z", "wrong_type"],
    ["1900-02-29T00:00:00Z", "wrong_type"],
    ["2026-04-31T00:00:00Z", "wrong_type"],
    ["2026-13-01T00:00:00Z", "wrong_type"],
    ["2026-01-00T00:00:00Z", "wrong_type"],
    ["2016-12-31T23:59:60Z", "wrong_type"],
    ["2026-01-15T24:00:00Z", "wrong_type"],
    ["2026-01-15T10:00:00", "wrong_type"],
    ["2026-01-15", "wrong_type"],
    ["2026-01-15T10:00:00.Z", "wrong_type"],
    ["2026-01-15T10:00:00Zx", "wrong_type"],
    ["2026-01-15T10Z", "wrong_type"],
    ["2026-01-15T10:00:00+24:00", "wrong_type"],
    ["2026-01-15T10:00:00+5", "wrong_type"],
    ["", "wrong_type"],
  ])("%s is %s", (text, value) => {
    expect(decodeX("timestamp", JSON.stringify(text))).toBe(value);
  });

  it("takes a missing offset as UTC only if the field says so", () => {
    const format = { kind: "iso", withoutOffset: "utc" } as const;
    const at = Date.UTC(2026, 0, 15);
    expect(decodeX("timestamp", '"2026-01-15"', { format })).toBe(at);
    expect(decodeX("timestamp", '"2026-01-15T00:00:00"', { format })).toBe(at);
    expect(decodeX("timestamp", '"2026-01-15T01:00:00+01:00"', { format })).toBe(at);
  });

  it.each([
    ["epoch_s", "1700000000.123", 1700000000123],
    ["epoch_s", "1700000000.1239", 1700000000123],
    ["epoch_s", "-0.0001", -1],
    ["epoch_ms", "-1.5", -2],
    ["epoch_us", "1999", 1],
    ["epoch_us", "-1", -1],
    ["epoch_us", "1700000000123456789", 1700000000123456],
    ["epoch_ms", "8640000000000001", "out_of_range"],
    ["epoch_ms", "1e300", "out_of_range"],
    ["epoch_ms", '"0"', "wrong_type"],
  ] as const)("%s %s is %s", (kind, json, value) => {
    expect(decodeX("timestamp", json, { format: { kind } })).toBe(value);
  });

  it("agrees with Date.parse on every day of some centuries", () => {
    const days: string[] = [];
    for (let day = -800_000; day < 100_000; day += 17) {
      days.push(new Date(day * 86_400_000 + 12_345_678).toISOString());
    }
    const decoder = createDecoder(streamOf([field("x", "timestamp")]));
    const { rowCount, columns } = decoder.decode(sliceOf(days.map((d) => `{"t":0,"x":"${d}"}`)));
    expect(rowCount).toBe(days.length);
    expect(days.map((_, row) => valueAt(columns[0], row))).toEqual(days.map((d) => Date.parse(d)));
  });
});

describe("fields", () => {
  it("reads nested paths, and counts a missing or null parent as missing", () => {
    const deep = [field("x", "int", { path: ["a", "b"] })];
    expect(decodeRecord('{"t":0,"a":{"c":{"b":2},"b":1}}', deep)).toBe(1);
    expect(decodeRecord('{"t":0,"a":{}}', deep)).toBe("missing_field");
    expect(decodeRecord('{"t":0,"a":null}', deep)).toBe("missing_field");
    expect(decodeRecord('{"t":0}', deep)).toBe("missing_field");
    expect(decodeRecord('{"t":0,"a":5}', deep)).toBe("wrong_type");
    expect(decodeRecord('{"t":0,"a":[{"b":1}]}', deep)).toBe("wrong_type");
    expect(decodeRecord('{"t":0,"a":{"b":1},"a":{"b":1}}', deep)).toBe("malformed");
  });

  it("fills in nulls and defaults", () => {
    const absent = '{"t":0}';
    const isNull = '{"t":0,"x":null}';
    const x = (more: Partial<FieldNode>) => [field("x", "string", more)];
    expect(decodeRecord(absent, x({}))).toBe("missing_field");
    expect(decodeRecord(isNull, x({}))).toBe("missing_field");
    expect(decodeRecord(absent, x({ nullable: true }))).toBeNull();
    expect(decodeRecord(isNull, x({ nullable: true }))).toBeNull();
    expect(decodeRecord(absent, x({ default: "é" }))).toBe("é");
    expect(decodeRecord(isNull, x({ default: "é" }))).toBe("é");
    expect(decodeRecord(isNull, x({ default: "é", nullable: true }))).toBeNull();
    const decimal: ColumnType = { kind: "decimal", precision: 9, scale: 2 };
    expect(decodeRecord(absent, [field("x", decimal, { default: "12.5" })])).toBe(1250n);
    expect(decodeRecord(absent, [field("x", "bigint", { default: "7" })])).toBe(7n);
    expect(decodeRecord(absent, [field("x", "boolean", { default: false })])).toBe(false);
    expect(decodeRecord(absent, [field("x", "timestamp", { default: 5 })])).toBe(5);
  });

  it("reads lists, and refuses null or wrong elements", () => {
    const ints: ColumnType = { kind: "list", element: { kind: "int" } };
    expect(decodeX(ints, "[1, 2.0 ,3]")).toEqual([1, 2, 3]);
    expect(decodeX(ints, "[]")).toEqual([]);
    expect(decodeX(ints, "[null]")).toBe("wrong_type");
    expect(decodeX(ints, "[[1]]")).toBe("wrong_type");
    expect(decodeX(ints, "[1,3000000000]")).toBe("out_of_range");
    expect(decodeX(ints, "1")).toBe("wrong_type");
    const texts: ColumnType = { kind: "list", element: { kind: "string" } };
    expect(decodeX(texts, '["a","\\u00e9"]')).toEqual(["a", "é"]);
  });

  it("reads one path as two fields", () => {
    const texts: ColumnType = { kind: "list", element: { kind: "string" } };
    const fields = [field("x", texts), field("y", texts, { path: ["x"] })];
    const { columns } = createDecoder(streamOf(fields)).decode(sliceOf(['{"x":["a"],"t":0}']));
    expect(columns.slice(0, 2).map((column) => valueAt(column, 0))).toEqual([["a"], ["a"]]);
  });

  it("refuses a value that is not one of the allowed", () => {
    const rules = { oneOf: ["click", "view"] };
    expect(decodeX("string", '"click"', rules)).toBe("click");
    expect(decodeX("string", '"cl\\u0069ck"', rules)).toBe("click");
    expect(decodeX("string", '"clicks"', rules)).toBe("out_of_range");
  });

  it("names the field, what was expected and a short excerpt of what was found", () => {
    expect(detailOf('{"t":0,"x":12}')).toBe('field "x": expected a string, found 12');
    expect(detailOf('{"t":"é","x":"a"}')).toContain('(epoch_ms), found "é"');
    const long = detailOf(`{"t":0,"x":["${"y".repeat(5_000)}"]}`);
    expect(long.length).toBeLessThan(150);
  });

  it("gives the first failing field's reason, in the schema's order", () => {
    const fields = [field("a", "int"), field("b", "int")];
    expect(decodeRecord('{"b":"","a":9e9,"t":0}', fields)).toBe("out_of_range");
    expect(decodeRecord('{"b":"","t":0}', fields)).toBe("missing_field");
    expect(decodeRecord('{"b":"","a":1,"t":0}', fields)).toBe("wrong_type");
  });

  it("matches keys that JSON must escape", () => {
    const odd = [field("x", "int", { path: ['q"\\'] })];
    expect(decodeRecord('{"t":0,"q\\"\\\\":3}', odd)).toBe(3);
    const stream = createDecoder(streamOf([field("x", "int", { path: ['q"'] })]));
    expect(stream.decode(sliceOf(['{"q"":3,"t":0}'])).deadLetters[0].reason).toBe("malformed");
  });
});

describe("a record laid out like the one before", () => {
  const good = '{"t":0,"x":"a"}';

  it.each(["}", " }", ",", "x", "{}", good, '"', "\0"])("is refused with %j after it", (more) => {
    const { rows, rowCount, deadLetters } = createDecoder(streamOf([field("x", "string")])).decode(
      sliceOf([good, good + more, good]),
    );
    expect([...rows.subarray(0, rowCount)]).toEqual([0, 2]);
    expect(deadLetters.map(({ reason }) => reason)).toEqual(["malformed"]);
  });

  it("is refused wherever it is cut", () => {
    const records = Array.from(good, (_, length) => good.slice(0, length));
    const slice = sliceOf([good, ...records, good]);
    const { rows, rowCount } = createDecoder(streamOf([field("x", "string")])).decode(slice);
    expect([...rows.subarray(0, rowCount)]).toEqual([0, records.length + 1]);
  });

  it("is refused for the same key that is not UTF-8", () => {
    const bad = Buffer.concat([
      Buffer.from('{"t":0,"x":"a","'),
      Buffer.of(0xc3),
      Buffer.from('":1}'),
    ]);
    const { deadLetters } = createDecoder(streamOf([field("x", "string")])).decode(
      sliceOf([bad, bad, good, bad]),
    );
    expect(deadLetters.map(({ index, reason }) => [index, reason])).toEqual([
      [0, "malformed"],
      [1, "malformed"],
      [3, "malformed"],
    ]);
  });

  it("may have its keys in one of several orders, or in none", () => {
    const records = Array.from({ length: 20_000 }, (_, i) => {
      const members = [`"t":${i}`, `"x":"v${i}"`, `"u${i % 13}":[${i}]`];
      return `{${(i % 2 === 0 ? members : members.reverse()).join(",")}}`;
    });
    const decoded = createDecoder(streamOf([field("x", "string")])).decode(sliceOf(records));
    expect(decoded.rowCount).toBe(records.length);
    expect(records.every((_, i) => valueAt(decoded.columns[0], i) === `v${i}`)).toBe(true);
    expect(decoded.eventTimes.subarray(0, records.length).every((t, i) => t === i)).toBe(true);
  });
});

describe("a slice", () => {
  it("turns tombstones, faults and long records into dead letters, and keeps the others", () => {
    const good = '{"t":1,"x":"a"}';
    const faults = new Map([[2, { reason: "oversize" as const, detail: "cut" }]]);
    const slice = sliceOf([good, null, good, `${good}${" ".repeat(99)}`, good], { faults });
    const stream = streamOf([field("x", "string")], { maxRecordBytes: 99 });
    const decoded = createDecoder(stream).decode(slice);
    expect([...decoded.rows.subarray(0, decoded.rowCount)]).toEqual([0, 4]);
    expect(decoded.deadLetters).toEqual([
      { index: 1, reason: "malformed", detail: "tombstone: no value" },
      { index: 2, reason: "oversize", detail: "cut" },
      { index: 3, reason: "oversize", detail: "114 bytes, longer than maxRecordBytes (99)" },
    ]);
  });

  it("refuses event times too far ahead of the record's timestamp, if that is known", () => {
    const records = [3_600_000, 3_600_001, 3_600_001].map((t) => `{"t":${t},"x":"a"}`);
    const slice = sliceOf(records, { timestamps: Float64Array.of(0, 0, Number.NaN) });
    const { rowCount, deadLetters } = createDecoder(streamOf([field("x", "string")])).decode(slice);
    expect(rowCount).toBe(2);
    expect(deadLetters.map(({ index, reason }) => [index, reason])).toEqual([
      [1, "event_time_in_future"],
    ]);
  });

  it("takes out rows that fail a check, and lets null pass", () => {
    // Stands for the expression `x >= 0`: the compiler is another part's.
    const compile =
      () =>
      (batch: Batch): Column => {
        const { valid, vector } = batch.columns[0];
        if (vector.kind !== "number") throw new TypeError("x is a number");
        const values = vector.values.map((x) => (x >= 0 ? 1 : 0));
        return {
          name: "check",
          type: { kind: "boolean" },
          valid,
          vector: { kind: "number", values },
        };
      };
    const checks = [{ op: "column", name: "unused" } as const];
    const stream = streamOf([field("x", "int", { nullable: true, checks })]);
    const records = ["1", "-2", "null", "bad", "3"].map((x, i) => `{"t":${i},"x":${x}}`);
    const decoded = createDecoder(stream, compile).decode(sliceOf(records));
    expect([...decoded.rows]).toEqual([0, 2, 4]);
    expect([...decoded.eventTimes]).toEqual([0, 2, 4]);
    expect(decoded.rows.length).toBe(decoded.rowCount);
    expect([0, 1, 2].map((row) => valueAt(decoded.columns[0], row))).toEqual([1, null, 3]);
    expect(decoded.deadLetters.map(({ index, reason }) => [index, reason])).toEqual([
      [1, "failed_check"],
      [3, "malformed"],
    ]);
    expect(decoded.deadLetters[0].detail).toBe('field "x": check 1 is false for -2');
  });
});
