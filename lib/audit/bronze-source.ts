/** A partition read again from bronze, record by record as it was read first. */
import type { DuckDBConnection, DuckDBInstance, DuckDBResult, DuckDBValue } from "@duckdb/node-api";
import { DuckDBBlobValue } from "../duckdb-api.js";
import type { Slice } from "../engine/slice.js";
import { MillpondError } from "../errors.js";
import { kafkaProgress, progressAfter } from "../runtime/kafka-progress.js";
import { quoteText } from "../sinks/duckdb-types.js";
import type { PartitionReader, PartitionSource, SourcePosition } from "../sources/source.js";

export interface BronzePartition {
  readonly topic: string;
  readonly partition: number;
  /** As the checkpoint that read it has them. */
  readonly label: string;
  readonly position: SourcePosition | null;
  /** About so many in bronze, for progress. */
  readonly bytes: number;
}

/**
 * `bronze`: something to select its columns from. After the last record the source stands where
 * the first reader of the partition does, so that whoever has the checkpoint can go on from there.
 */
export function bronzeSource(
  instance: DuckDBInstance,
  bronze: string,
  partition: BronzePartition,
): PartitionSource {
  const { topic, label } = partition;
  return {
    topic,
    partition: partition.partition,
    label,
    async open(nextOffset: number): Promise<PartitionReader> {
      const connection = await instance.connect();
      const from =
        `FROM ${bronze} WHERE topic = ${quoteText(topic)} ` +
        `AND "partition" = ${partition.partition} AND "offset" >= ${nextOffset}`;
      try {
        const counted = await connection.runAndReadAll(`SELECT count(*)::DOUBLE ${from}`);
        const records = Number(counted.getRows()[0]?.[0]);
        const result = await connection.stream(
          `SELECT "offset"::DOUBLE, epoch_ms("timestamp")::DOUBLE, key, "value" ${from}
          ORDER BY "offset"`,
        );
        return new BronzeReader(partition, connection, result, records);
      } catch (cause) {
        connection.closeSync();
        throw unreadable(label, cause);
      }
    },
  };
}

/** As if the records came from Kafka: a processor goes on from the position after any of them. */
export function kafkaBronzeSource(source: PartitionSource): PartitionSource {
  const { topic, partition, label } = source;
  return {
    topic,
    partition,
    label,
    async open(nextOffset, position) {
      const reader = await source.open(nextOffset, null);
      const begun = nextOffset === 0 ? null : { position };
      let progress = kafkaProgress(label, begun);
      return {
        topic,
        partition,
        label,
        get bytesTotal() {
          return reader.bytesTotal;
        },
        get bytesRead() {
          return reader.bytesRead;
        },
        async read(recordsMax) {
          const slice = await reader.read(recordsMax);
          if (slice !== null) progress = progressAfter(slice, progress);
          return slice;
        },
        position: () => progress ?? {},
        close: () => reader.close(),
      };
    },
  };
}

class BronzeReader implements PartitionReader {
  readonly topic: string;
  readonly partition: number;
  readonly label: string;
  bytesRead = 0;
  readonly #of: BronzePartition;
  readonly #connection: DuckDBConnection;
  readonly #result: DuckDBResult;
  #rows: readonly (readonly DuckDBValue[])[] = [];
  #at = 0;
  readonly #recordsTotal: number;
  #records = 0;

  constructor(
    of: BronzePartition,
    connection: DuckDBConnection,
    result: DuckDBResult,
    recordsTotal: number,
  ) {
    this.topic = of.topic;
    this.partition = of.partition;
    this.label = of.label;
    this.#of = of;
    this.#connection = connection;
    this.#result = result;
    this.#recordsTotal = recordsTotal;
  }

  get bytesTotal(): number {
    const isAtEnd = this.#records === this.#recordsTotal;
    return isAtEnd ? this.bytesRead : Math.max(this.#of.bytes, this.bytesRead);
  }

  async read(recordsMax: number): Promise<Slice | null> {
    if (this.#at === this.#rows.length) {
      const chunk = await this.#result.fetchChunk().catch((cause: unknown) => {
        throw unreadable(this.label, cause);
      });
      if (chunk === null || chunk.rowCount === 0) return this.#end();
      this.#rows = chunk.getRows();
      this.#at = 0;
    }
    const rows = this.#rows.slice(this.#at, this.#at + recordsMax);
    this.#at += rows.length;
    this.#records += rows.length;
    const values = sideBySide(rows.map((row) => row[3] ?? null));
    this.bytesRead += values.bytes.length;
    const { topic, partition } = this;
    return {
      topic,
      partition,
      count: rows.length,
      ...values,
      keys: sideBySide(rows.map((row) => row[2] ?? null)),
      offsets: Float64Array.from(rows, (row) => Number(row[0])),
      timestamps: Float64Array.from(rows, (row) => (row[1] === null ? Number.NaN : Number(row[1]))),
      faults: new Map(),
    };
  }

  #end(): null {
    const total = this.#recordsTotal;
    if (this.#records === total) return null;
    const found = `bronze gave ${this.#records} of ${total} records of ${this.label}`;
    throw new MillpondError("INVARIANT", `${found}: its files are damaged`);
  }

  position(): SourcePosition {
    return this.#records === this.#recordsTotal ? (this.#of.position ?? {}) : {};
  }

  async close(): Promise<void> {
    this.#connection.closeSync();
  }
}

function unreadable(label: string, cause: unknown): MillpondError {
  const found = cause instanceof Error ? cause.message : String(cause);
  return new MillpondError(
    "STORAGE",
    `bronze of ${label} cannot be read: ${found}. Check the lake's files, and in AWS that the ` +
      "credentials still hold; then run it again",
    { cause },
  );
}

function sideBySide(values: readonly DuckDBValue[]) {
  const blobs = values.map((value) => (value instanceof DuckDBBlobValue ? value.bytes : null));
  const starts = new Int32Array(blobs.length).fill(-1);
  const ends = new Int32Array(blobs.length).fill(-1);
  let at = 0;
  for (const [index, bytes] of blobs.entries()) {
    if (bytes === null) continue;
    starts[index] = at;
    at += bytes.length;
    ends[index] = at;
  }
  return { bytes: Buffer.concat(blobs.filter((bytes) => bytes !== null)), starts, ends };
}
