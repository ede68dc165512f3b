/** Records of a topic as lines: for a terminal, which must not obey what they hold, or as JSON. */
import { isUtf8 } from "node:buffer";
import { createDecoder, type Decoder } from "../engine/decode/decoder.js";
import { compileExpression } from "../engine/expressions.js";
import { valueAt } from "../engine/row-values.js";
import type { Slice } from "../engine/slice.js";
import { MillpondError } from "../errors.js";
import { streamsByTopic } from "../handlers/pipeline-runtime.js";
import { loadPipeline } from "../runtime/load-pipeline.js";
import { jsonText } from "../sinks/kafka-rows.js";
import type { KafkaRecord } from "../sources/kafka/client.js";
import type { TailFlags } from "./tail.js";

export type TailRecord = KafkaRecord & { readonly partition: number };
/** Of one partition or several, in the order given. */
export type RecordLines = (records: readonly TailRecord[]) => string[];

/** More of a value is cut off for terminals. */
const VALUE_CHARS_MAX = 2_000;

/** What to read and how to show it. Throws USAGE when the pipeline has no such stream. */
export async function recordLines(
  name: string,
  flags: Pick<TailFlags, "pipeline" | "json">,
  env: Readonly<Record<string, string | undefined>>,
): Promise<{ readonly topic: string; readonly lines: RecordLines }> {
  const write = flags.json === true ? jsonLine : textLine;
  if (flags.pipeline === undefined) {
    return { topic: name, lines: (records) => records.map((record) => write(name, record, null)) };
  }
  const { definition } = await loadPipeline(flags.pipeline, new Map());
  const topics = [...streamsByTopic(definition, env)];
  const found = topics.find(([topic, stream]) => topic === name || stream === name);
  const stream = definition.streams.find((one) => one.name === found?.[1]);
  if (found === undefined || stream === undefined) {
    throw new MillpondError(
      "USAGE",
      `pipeline "${definition.name}" does not read "${name}"; it reads ` +
        `${topics.map(([topic]) => topic).join(", ")}`,
    );
  }
  const [topic] = found;
  const decoder = createDecoder(stream, compileExpression);
  const decoded = (record: TailRecord) => decode(decoder, stream.name, record);
  return {
    topic,
    lines: (records) => records.map((record) => write(topic, record, decoded(record))),
  };
}

type Decoding =
  | { readonly event: string }
  | { readonly deadLetter: { readonly reason: string; readonly detail: string } };

function decode(decoder: Decoder, stream: string, record: TailRecord): Decoding {
  const { rowCount, columns, deadLetters } = decoder.decode(sliceOf(stream, record));
  const [letter] = deadLetters;
  if (letter !== undefined) {
    return { deadLetter: { reason: letter.reason, detail: letter.detail } };
  }
  if (rowCount !== 1) throw new MillpondError("INVARIANT", "a record was decoded to nothing");
  const fields = columns.map((column) => {
    return `${JSON.stringify(column.name)}:${jsonText(column.type, valueAt(column, 0))}`;
  });
  return { event: `{${fields.join(",")}}` };
}

function sliceOf(topic: string, { partition, offset, timestampMs, value }: TailRecord): Slice {
  return {
    topic,
    partition,
    count: 1,
    bytes: value ?? new Uint8Array(0),
    starts: Int32Array.of(value === null ? -1 : 0),
    ends: Int32Array.of(value?.length ?? -1),
    offsets: Float64Array.of(offset),
    timestamps: Float64Array.of(timestampMs >= 0 ? timestampMs : Number.NaN),
    faults: new Map(),
  };
}

function textLine(_topic: string, record: TailRecord, decoding: Decoding | null): string {
  const { partition, offset, key, value } = record;
  const place = `${partition}/${offset}`.padEnd(9);
  const shown = decoding === null ? valueText(value) : decodedText(decoding, value);
  return `${place} ${isoTime(record) ?? "no timestamp"}  ${keyText(key)}  ${shown}`;
}

const keyText = (key: Buffer | null): string => (key === null ? "(no key)" : printable(key));

const valueText = (value: Buffer | null): string =>
  value === null ? "(no value)" : cut(printable(value), value.length);

function decodedText(decoding: Decoding, value: Buffer | null): string {
  if ("event" in decoding) {
    return cut(printable(Buffer.from(decoding.event)), decoding.event.length);
  }
  const { reason, detail } = decoding.deadLetter;
  return `DEAD LETTER ${reason}: ${printable(Buffer.from(detail))}: ${valueText(value)}`;
}

function cut(text: string, byteCount: number): string {
  if (text.length <= VALUE_CHARS_MAX) return text;
  return `${text.slice(0, VALUE_CHARS_MAX)}… (${byteCount.toLocaleString("en-US")} bytes)`;
}

/** Control characters, line separators, and marks that reorder text. */
const OBEYED = /[\p{Cc}\p{Zl}\p{Zp}\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu;

/** Text with what a terminal would obey escaped; of other bytes, those that are no ASCII too. */
export function printable(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isUtf8(buffer)) return buffer.toString("utf8").replace(OBEYED, escaped);
  return buffer.toString("latin1").replace(/[^\u0020-\u007e]/g, escaped);
}

function escaped(char: string): string {
  const code = char.charCodeAt(0);
  const named = { 9: "\\t", 10: "\\n", 13: "\\r" }[code];
  const hex = code.toString(16);
  return named ?? (code < 256 ? `\\x${hex.padStart(2, "0")}` : `\\u${hex.padStart(4, "0")}`);
}

function jsonLine(topic: string, record: TailRecord, decoding: Decoding | null): string {
  const { partition, offset, key, value, headers } = record;
  const object = {
    topic,
    partition,
    offset,
    timestamp: isoTime(record),
    ...bytesField("key", key),
    ...bytesField("value", value),
    ...(headers.length > 0 && {
      headers: headers.map((header) => ({
        name: header.name,
        ...bytesField("value", Buffer.from(header.value)),
      })),
    }),
    ...(decoding !== null && "deadLetter" in decoding && decoding),
  };
  const text = JSON.stringify(object);
  const event = decoding !== null && "event" in decoding ? `,"event":${decoding.event}}` : "}";
  // JSON escapes C0 by itself; the others as JSON has them, too.
  return (text.slice(0, -1) + event).replace(OBEYED, (char) => {
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/** Text as it is, other bytes in base64. */
function bytesField(name: string, bytes: Buffer | null): Record<string, string | null> {
  if (bytes === null) return { [name]: null };
  if (isUtf8(bytes)) return { [name]: bytes.toString("utf8") };
  return { [`${name}_base64`]: bytes.toString("base64") };
}

function isoTime({ timestampMs }: TailRecord): string | null {
  const date = new Date(timestampMs);
  return timestampMs < 0 || Number.isNaN(date.getTime()) ? null : date.toISOString();
}
