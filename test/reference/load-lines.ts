/** Brings the records of NDJSON files into DuckDB as bronze holds them: one line, one record. */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { pipeline } from "node:stream";
import { createGunzip } from "node:zlib";
import type { DuckDBConnection } from "@duckdb/node-api";

const APPENDER_FLUSH_ROWS = 100_000;

/** One NDJSON file (or .ndjson.gz) is one partition; line i has offset i. */
export interface LogFile {
  readonly path: string;
  readonly topic: string;
  readonly partition: number;
}

/** Creates table `name` as bronze; a record's timestamp is its file's modification time. */
export async function loadBronze(
  connection: DuckDBConnection,
  name: string,
  files: readonly LogFile[],
): Promise<void> {
  await connection.run(`CREATE TABLE ${name} (topic VARCHAR, "partition" INTEGER,
    "offset" BIGINT, ms BIGINT, "value" BLOB, "timestamp" TIMESTAMPTZ)`);
  const appender = await connection.createAppender(name);
  for (const { path, topic, partition } of files) {
    const timestampMs = BigInt(Math.floor((await stat(path)).mtimeMs));
    let offset = 0;
    for await (const bytes of records(path)) {
      appender.appendVarchar(topic);
      appender.appendInteger(partition);
      appender.appendBigInt(BigInt(offset++));
      appender.appendBigInt(timestampMs);
      appender.appendBlob(bytes);
      appender.appendNull();
      appender.endRow();
      if (offset % APPENDER_FLUSH_ROWS === 0) appender.flushSync();
    }
  }
  appender.closeSync();
  await connection.run(`UPDATE ${name} SET "timestamp" = make_timestamptz(ms * 1000)`);
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
