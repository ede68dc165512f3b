/**
 * Brings the lines of NDJSON files into DuckDB with their offsets. Whether a line is JSON at all is
 * judged here by JSON.parse, which is stricter than DuckDB's reader.
 */
import { isUtf8 } from "node:buffer";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { pipeline } from "node:stream";
import { createGunzip } from "node:zlib";
import type { DuckDBAppender, DuckDBConnection } from "@duckdb/node-api";
import type { StreamNode } from "../../lib/define/definition.js";
import type { DeadLetterReason } from "../../lib/engine/slice.js";

const NESTING_MAX = 128;
const APPENDER_FLUSH_ROWS = 100_000;

/** Creates table `name` (o, line, fault, ts) from one file; ts is the file's modification time. */
export async function loadLines(
  connection: DuckDBConnection,
  name: string,
  path: string,
  stream: StreamNode,
): Promise<void> {
  const timestampMs = Math.floor((await stat(path)).mtimeMs);
  const columns = `o BIGINT, line VARCHAR, fault VARCHAR, ts BIGINT DEFAULT ${timestampMs}`;
  await connection.run(`CREATE TABLE ${name} (${columns})`);
  const appender = await connection.createAppender(name);
  let offset = 0;
  for await (const bytes of records(path)) {
    appendLine(appender, offset++, bytes, stream);
    if (offset % APPENDER_FLUSH_ROWS === 0) appender.flushSync();
  }
  appender.closeSync();
}

function appendLine(
  appender: DuckDBAppender,
  offset: number,
  bytes: Buffer,
  stream: StreamNode,
): void {
  const fault = faultOf(bytes, stream.maxRecordBytes);
  appender.appendBigInt(BigInt(offset));
  if (typeof fault === "string") {
    appender.appendNull();
    appender.appendVarchar(fault);
  } else {
    appender.appendVarchar(fault.text);
    appender.appendNull();
  }
  appender.appendDefault();
  appender.endRow();
}

function faultOf(bytes: Buffer, recordBytesMax: number): DeadLetterReason | { text: string } {
  if (bytes.length > recordBytesMax) return "oversize";
  if (!isUtf8(bytes)) return "malformed";
  const text = bytes.toString("utf8").replace(/^\uFEFF/, "");
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || Array.isArray(value)) return "malformed";
    const mayBeDeep = text.length > 2 * NESTING_MAX;
    return mayBeDeep && isDeeperThan(value, NESTING_MAX) ? "oversize" : { text };
  } catch {
    return "malformed";
  }
}

function isDeeperThan(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((child) => isDeeperThan(child, levels - 1));
}

/** Lines without their LF or CRLF; blank ones are no records. */
async function* records(path: string): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  let isFirst = true;
  for await (const chunk of fileBytes(path)) {
    let bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    if (isFirst && bytes.length >= 3) {
      if (bytes.subarray(0, 3).equals(Buffer.from("\uFEFF"))) bytes = bytes.subarray(3);
      isFirst = false;
    }
    let start = 0;
    for (let end = bytes.indexOf(10); end !== -1; end = bytes.indexOf(10, start)) {
      const line = withoutCarriageReturn(bytes.subarray(start, end));
      if (!isBlank(line)) yield line;
      start = end + 1;
    }
    rest = bytes.subarray(start);
  }
  const last = withoutCarriageReturn(rest);
  if (!isBlank(last)) yield last;
}

function fileBytes(path: string): AsyncIterable<Buffer> {
  const file = createReadStream(path, { highWaterMark: 1 << 20 });
  if (!path.endsWith(".gz")) return file;
  return pipeline(file, createGunzip(), () => {});
}

const withoutCarriageReturn = (line: Buffer): Buffer =>
  line.at(-1) === 13 ? line.subarray(0, -1) : line;

const isBlank = (line: Buffer): boolean =>
  line.every((byte) => byte === 32 || byte === 9 || byte === 13);
