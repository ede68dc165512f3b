/** Rows of the tables that the product adds (bronze, dead letters, late) and of row tables. */
import type { Batch, Column } from "./batch.js";
import { bigintColumn, gather, nullableNumberColumn, numberColumn, textColumn } from "./columns.js";
import type { DeadLetter, Decoded } from "./decode/decoder.js";
import type { RowProgram } from "./program.js";
import { DEAD_LETTER_REASONS, type Slice } from "./slice.js";
import { DUPLICATE, type TableInput, UNCHECKABLE } from "./table-input.js";

/** topic, partition, offset of the slice's records `indexes[0..count)`. */
function placeColumns(slice: Slice, indexes: Int32Array, count: number): Column[] {
  const offsets = new Float64Array(count);
  for (let i = 0; i < count; i++) offsets[i] = slice.offsets[indexes[i]!]!;
  return [
    textColumn("topic", [slice.topic], count, () => 0),
    numberColumn("partition", { kind: "int" }, new Float64Array(count).fill(slice.partition)),
    bigintColumn("offset", offsets, count),
  ];
}

function timestampColumn(slice: Slice, indexes: Int32Array, count: number): Column {
  const values = new Float64Array(count);
  for (let i = 0; i < count; i++) values[i] = slice.timestamps[indexes[i]!]!;
  return nullableNumberColumn("timestamp", { kind: "timestamp" }, values);
}

interface RawValues {
  readonly bytes: Uint8Array;
  readonly starts: Int32Array;
  readonly ends: Int32Array;
}

/** The raw values of records; a start of -1 (a tombstone, no key) is null. */
function rawColumn(name: string, raw: RawValues, indexes: Int32Array, count: number): Column {
  const starts = new Int32Array(count);
  const ends = new Int32Array(count);
  const valid = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const index = indexes[i]!;
    const present = raw.starts[index]! >= 0;
    valid[i] = present ? 1 : 0;
    starts[i] = present ? raw.starts[index]! : 0;
    ends[i] = present ? raw.ends[index]! : 0;
  }
  const vector = { kind: "bytes", bytes: raw.bytes, starts, ends } as const;
  return { name, type: { kind: "bytes" }, valid, vector };
}

const everyRecord = (slice: Slice): Int32Array =>
  Int32Array.from({ length: slice.count }, (_, i) => i);

export function bronzeBatch(slice: Slice): Batch {
  const { count } = slice;
  const indexes = everyRecord(slice);
  const columns = [
    ...placeColumns(slice, indexes, count),
    timestampColumn(slice, indexes, count),
    slice.keys === undefined ? noKeys(count) : rawColumn("key", slice.keys, indexes, count),
    rawColumn("value", slice, indexes, count),
  ];
  return { rowCount: count, columns };
}

/** File records have no key: an all-null column that holds no bytes. */
function noKeys(count: number): Column {
  const none = new Int32Array(count);
  const vector = { kind: "bytes", bytes: new Uint8Array(0), starts: none, ends: none } as const;
  return { name: "key", type: { kind: "bytes" }, valid: new Uint8Array(count), vector };
}

export function deadLetterBatch(slice: Slice, letters: readonly DeadLetter[]): Batch {
  const count = letters.length;
  const indexes = Int32Array.from(letters, (letter) => letter.index);
  const columns = [
    ...placeColumns(slice, indexes, count),
    timestampColumn(slice, indexes, count),
    textColumn("reason", DEAD_LETTER_REASONS, count, (row) =>
      DEAD_LETTER_REASONS.indexOf(letters[row]!.reason),
    ),
    textColumn(
      "detail",
      letters.map((letter) => letter.detail),
      count,
      (row) => row,
    ),
    rawColumn("raw", slice, indexes, count),
  ];
  return { rowCount: count, columns };
}

/** Collects the late events of a slice, over all tables. */
export class LateRows {
  private readonly slice: Slice;
  private readonly decoded: Decoded;
  private readonly watermarks: Float64Array;
  private readonly tables: string[] = [];
  private readonly events: number[] = [];

  constructor(slice: Slice, decoded: Decoded, watermarks: Float64Array) {
    this.slice = slice;
    this.decoded = decoded;
    this.watermarks = watermarks;
  }

  get count(): number {
    return this.events.length;
  }

  add(table: string, event: number): void {
    this.tables.push(table);
    this.events.push(event);
  }

  batch(): Batch {
    const { slice, decoded, tables, events } = this;
    const count = events.length;
    const indexes = Int32Array.from(events, (event) => decoded.rows[event]!);
    const names = [...new Set(tables)];
    const times = Float64Array.from(events, (event) => decoded.eventTimes[event]!);
    const watermarks = Float64Array.from(events, (event) => this.watermarks[event]!);
    const columns = [
      textColumn("table", names, count, (row) => names.indexOf(tables[row]!)),
      ...placeColumns(slice, indexes, count),
      numberColumn("event_time", { kind: "timestamp" }, times),
      nullableNumberColumn("watermark", { kind: "timestamp" }, finiteOrNull(watermarks)),
      { ...rawColumn("payload", slice, indexes, count), type: { kind: "string" } as const },
    ];
    return { rowCount: count, columns };
  }
}

function finiteOrNull(values: Float64Array): Float64Array {
  return values.map((value) => (Number.isFinite(value) ? value : Number.NaN));
}

export function rowTableBatch(
  program: RowProgram,
  input: TableInput,
  slice: Slice,
  decoded: Decoded,
): Batch {
  const rows = new Int32Array(input.count);
  const records = new Int32Array(input.count);
  const late = new Float64Array(input.count);
  const times = new Float64Array(input.count);
  let count = 0;
  for (let i = 0; i < input.count; i++) {
    const row = input.rows[i]!;
    const event = input.eventOf === null ? row : input.eventOf[row]!;
    const verdict = input.verdicts[event]!;
    if (verdict === DUPLICATE) continue;
    const isLate = verdict === UNCHECKABLE || input.times[event]! < input.watermarks[event]!;
    rows[count] = row;
    records[count] = decoded.rows[event]!;
    times[count] = input.times[event]!;
    late[count++] = isLate ? 1 : 0;
  }
  const columns = program.table.columns.map(({ name }) =>
    gather(input.batch.columns.find((column) => column.name === name)!, rows, count),
  );
  columns.push(numberColumn("late", { kind: "boolean" }, late));
  if (program.addEventTime) {
    columns.push(numberColumn("event_time", { kind: "timestamp" }, times));
  }
  columns.push(...placeColumns(slice, records, count));
  return { rowCount: count, columns };
}
