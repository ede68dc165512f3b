/** Parquet files, streamed through DuckDB: each row becomes a JSON object, in file order. */
import { open, stat } from "node:fs/promises";
import type { DuckDBResult } from "@duckdb/node-api";
import type { StreamNode } from "../../define/definition.js";
import type { Slice } from "../../engine/slice.js";
import { MillpondError } from "../../errors.js";
import type { SourcePosition } from "../source.js";
import { shortHash } from "./consumed.js";
import type { FileIdentity, FileReader, ReadLimits } from "./file-source.js";
import { rowToJson } from "./parquet-sql.js";
import { RecordArrays } from "./record-arrays.js";

const FOOTER_BYTES = 64 * 1024;
const UTF8_BYTES_MAX = 3;

interface Guard {
  readonly sizeBytes: number;
  readonly footerHash: string;
}

/** An open query over the file, and the rows it has in all. */
interface ParquetRows {
  readonly result: DuckDBResult;
  readonly rowCount: number;
  close(): void;
}

export class ParquetReader implements FileReader {
  readonly topic: string;
  readonly partition: number;
  readonly label: string;
  readonly bytesTotal: number;
  readonly warnings: readonly string[] = [];
  readonly #path: string;
  readonly #limits: ReadLimits;
  readonly #records: RecordArrays;
  readonly #guard: Guard;
  readonly #rows: ParquetRows | null;
  /** Rows fetched and not returned yet: `#chunk[#chunkAt…]`. */
  #chunk: readonly unknown[] = [];
  #chunkAt = 0;
  #out: Buffer = Buffer.allocUnsafe(64 * 1024);
  #nextOffset: number;

  private constructor(
    identity: FileIdentity,
    limits: ReadLimits,
    nextOffset: number,
    file: Guard & { mtimeMs: number },
    rows: ParquetRows | null,
  ) {
    this.topic = identity.topic;
    this.partition = identity.partition;
    this.label = identity.label;
    this.bytesTotal = file.sizeBytes;
    this.#path = identity.path;
    this.#limits = limits;
    this.#records = new RecordArrays(Math.floor(file.mtimeMs));
    this.#guard = { sizeBytes: file.sizeBytes, footerHash: file.footerHash };
    this.#rows = rows;
    this.#nextOffset = nextOffset;
  }

  static async open(
    identity: FileIdentity,
    stream: StreamNode,
    limits: ReadLimits,
    nextOffset: number,
    position: SourcePosition | null,
  ): Promise<ParquetReader> {
    const { path } = identity;
    const file = await readGuard(path);
    if (
      position !== null &&
      (position.sizeBytes !== file.sizeBytes || position.footerHash !== file.footerHash)
    ) {
      throw new MillpondError(
        "INPUT",
        `${path} changed since the last run: a Parquet file cannot grow, so ${nextOffset} rows ` +
          `already processed would not be the same. Restore it and put new rows into a new file, ` +
          `or start over with a new --out directory.`,
      );
    }
    if (file.sizeBytes === 0) return new ParquetReader(identity, limits, nextOffset, file, null);
    const rows = await openRows(path, stream, nextOffset);
    return new ParquetReader(identity, limits, nextOffset, file, rows);
  }

  /** Estimated from the rows, since DuckDB does not say where in the file it is. */
  get bytesRead(): number {
    if (this.#rows === null || this.#rows.rowCount === 0) return this.bytesTotal;
    return Math.floor((this.bytesTotal * this.#nextOffset) / this.#rows.rowCount);
  }

  async read(recordsMax: number): Promise<Slice | null> {
    this.#records.clear();
    let written = 0;
    while (this.#records.count < recordsMax && written < this.#limits.sliceBytesMax) {
      if (this.#chunkAt === this.#chunk.length && !(await this.#fetch())) break;
      const json = String(this.#chunk[this.#chunkAt++]);
      this.#reserve(written, json.length * UTF8_BYTES_MAX);
      const start = written;
      written += this.#out.write(json, written);
      this.#records.add(start, written);
    }
    const { count } = this.#records;
    if (count === 0) return null;
    const bytes = this.#out.subarray(0, written);
    const slice = this.#records.slice(this.topic, this.partition, bytes, this.#nextOffset);
    this.#nextOffset += count;
    return slice;
  }

  position(): SourcePosition {
    return { kind: "parquet", ...this.#guard };
  }

  async close(): Promise<void> {
    this.#rows?.close();
  }

  async #fetch(): Promise<boolean> {
    try {
      const chunk = await this.#rows?.result.fetchChunk();
      if (chunk === null || chunk === undefined || chunk.rowCount === 0) return false;
      this.#chunk = chunk.getColumnValues(0);
      this.#chunkAt = 0;
      return true;
    } catch (error) {
      throw unreadable(this.#path, error);
    }
  }

  #reserve(written: number, byteCount: number): void {
    if (written + byteCount <= this.#out.length) return;
    const grown = Buffer.allocUnsafe(Math.max(written + byteCount, this.#out.length * 2));
    this.#out.copy(grown, 0, 0, written);
    this.#out = grown;
  }
}

async function openRows(
  path: string,
  stream: StreamNode,
  nextOffset: number,
): Promise<ParquetRows> {
  if (/[*?[\]]/.test(path)) {
    throw new MillpondError(
      "INPUT",
      `${path}: the path of a Parquet file cannot contain *, ?, [ or ]. Rename it.`,
    );
  }
  const api = await import("@duckdb/node-api");
  // One thread, or rows could come in another order than the file's.
  const instance = await api.DuckDBInstance.create(":memory:", { threads: "1" });
  const connection = await instance.connect();
  const close = () => {
    connection.closeSync();
    instance.closeSync();
  };
  try {
    const from = "FROM read_parquet($1, hive_partitioning = false)";
    const described = await connection.runAndReadAll(`SELECT * ${from} LIMIT 0`, [path]);
    const counted = await connection.runAndReadAll(`SELECT count(*)::DOUBLE ${from}`, [path]);
    const columns = described.columnNames().map((name, i) => ({
      name,
      type: described.columnType(i),
    }));
    const json = rowToJson(api, columns, stream.fields);
    const sql = `SELECT ${json} FROM (SELECT * ${from} OFFSET ${nextOffset})`;
    const result = await connection.stream(sql, [path]);
    return { result, rowCount: Number(counted.getRows()[0]?.[0] ?? 0), close };
  } catch (error) {
    close();
    throw unreadable(path, error);
  }
}

async function readGuard(path: string): Promise<Guard & { mtimeMs: number }> {
  const { size, mtimeMs } = await stat(path);
  const file = await open(path, "r");
  try {
    const footer = Buffer.alloc(Math.min(size, FOOTER_BYTES));
    await file.read(footer, 0, footer.length, size - footer.length);
    return { sizeBytes: size, footerHash: shortHash(footer), mtimeMs };
  } finally {
    await file.close();
  }
}

function unreadable(path: string, cause: unknown): MillpondError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new MillpondError("INPUT", `${path} cannot be read as Parquet: ${why}`, { cause });
}
