/** What `millpond tail` shows of records that a terminal must not obey. */
import { expect, test } from "vitest";
import { printable, recordLines, type TailRecord } from "../../../lib/cli/tail-lines.js";

const record = (value: Buffer | null, key: Buffer | null = null): TailRecord => ({
  ...{ partition: 1, offset: 7, timestampMs: 0, timestampType: "CREATE_TIME" as const },
  ...{ key, value, headers: [] },
});

test("control characters, marks that reorder text, and other bytes are escaped", () => {
  const text = "\x1b[2J bell\x07\t\n\r \u009b31m \u202eevil\u2066 \u2028 café 日本 😀";
  expect(printable(Buffer.from(text))).toBe(
    "\\x1b[2J bell\\x07\\t\\n\\r \\x9b31m \\u202eevil\\u2066 \\u2028 café 日本 😀",
  );
  expect(printable(Buffer.from([0xff, 0x41, 0x00, 0xc3, 0x28]))).toBe("\\xffA\\x00\\xc3(");
});

test("a line has place, time, key and value; JSON lines hold every byte", async () => {
  const text = await recordLines("t", {}, {});
  expect(
    text.lines([record(null), record(Buffer.from("x".repeat(3_000)), Buffer.from("k"))]),
  ).toEqual([
    "1/7       1970-01-01T00:00:00.000Z  (no key)  (no value)",
    `1/7       1970-01-01T00:00:00.000Z  k  ${"x".repeat(2_000)}… (3,000 bytes)`,
  ]);
  const json = await recordLines("t", { json: true }, {});
  const bytes = Buffer.from([0x80, 0x0a]);
  const [line] = json.lines([record(bytes, Buffer.from("\u009b\u202e"))]);
  expect(line).toContain('"key":"\\u009b\\u202e"');
  expect(JSON.parse(line!)).toMatchObject({ offset: 7, value_base64: bytes.toString("base64") });
});

test("by a pipeline's schema: the event, or why there is none", async () => {
  const flags = { pipeline: "pipelines/sensors.ts", json: true };
  const { topic, lines } = await recordLines("readings", flags, {});
  expect(topic).toBe("readings");
  const event = {
    ...{ reading_id: "r", sensor_id: "s", site: "oslo", temperature: 1.5, humidity: null },
    ...{ battery: 5, status: "ok", device: { model: "m" }, event_time: "1970-01-01T00:00:01Z" },
  };
  const found = lines([
    record(Buffer.from(JSON.stringify(event))),
    record(Buffer.from(JSON.stringify({ ...event, battery: 101 }))),
    record(Buffer.from("{")),
  ]).map((line) => JSON.parse(line));
  expect(found[0].event).toMatchObject({ temperature: 1.5, humidity: null, model: "m" });
  expect(found[0].event.event_time).toBe("1970-01-01T00:00:01.000Z");
  expect(found.map(({ deadLetter }) => deadLetter?.reason)).toEqual([
    undefined,
    "failed_check",
    "malformed",
  ]);
  await expect(recordLines("other", flags, {})).rejects.toThrow(/does not read "other"/);
});
