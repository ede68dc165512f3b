/**
 * Records to events: a slice's JSON becomes one column a field, or dead letters with their reasons.
 * Pure; a record's fate depends on nothing but its bytes, its timestamp and the stream's schema.
 */
import { isUtf8 } from "node:buffer";
import type { StreamNode } from "../../define/definition.js";
import { MillpondError } from "../../errors.js";
import type { Column } from "../batch.js";
import { gather } from "../columns.js";
import type { DeadLetterReason, Slice } from "../slice.js";
import { Checks, type CompileExpression } from "./checks.js";
import { FieldColumn } from "./field-column.js";
import { RecordReader } from "./record.js";
import { BadRecord } from "./scan.js";
import { TextArea } from "./text-area.js";

/** A record that is no event. */
export interface DeadLetter {
  /** In the slice. */
  readonly index: number;
  readonly reason: DeadLetterReason;
  readonly detail: string;
}

/** A decoded slice. Its buffers are valid until the next `decode`, and may be longer than used. */
export interface Decoded {
  readonly rowCount: number;
  /** Index in the slice of each event, ascending. */
  readonly rows: Int32Array;
  /** One a field, in the schema's order. */
  readonly columns: readonly Column[];
  /** Event times, epoch ms. */
  readonly eventTimes: Float64Array;
  /** In the slice's order. */
  readonly deadLetters: readonly DeadLetter[];
}

export interface Decoder {
  decode(slice: Slice): Decoded;
}

/**
 * A decoder specialised for the stream's schema. Fields with checks need `compileExpression`.
 *
 *     const decoder = createDecoder(stream, compileExpression);
 *     const { rowCount, columns, deadLetters } = decoder.decode(slice);
 */
export function createDecoder(stream: StreamNode, compileExpression?: CompileExpression): Decoder {
  return new JsonDecoder(stream, compileExpression);
}

class JsonDecoder implements Decoder {
  private readonly stream: StreamNode;
  private readonly fields: readonly FieldColumn[];
  private readonly eventTime: FieldColumn;
  private readonly texts = new TextArea();
  private readonly reader: RecordReader;
  private readonly checks: Checks;
  private rows = new Int32Array(0);
  private deadLetters: DeadLetter[] = [];
  private bytesEnd = 0;
  /** Whether all of the slice's bytes are UTF-8; null until it matters. */
  private sliceIsUtf8: boolean | null = null;

  constructor(stream: StreamNode, compile: CompileExpression | undefined) {
    this.stream = stream;
    this.fields = stream.fields.map((node) => new FieldColumn(node, this.texts));
    this.reader = new RecordReader(this.fields);
    this.checks = new Checks(stream, compile);
    const eventTime = this.fields.find(({ node }) => node.name === stream.eventTime);
    if (eventTime?.node.type.kind !== "timestamp" || eventTime.node.nullable) {
      throw new MillpondError(
        "DEFINITION",
        `stream "${stream.name}": the event time "${stream.eventTime}" must be a field of type ` +
          "timestamp that is not nullable",
      );
    }
    this.eventTime = eventTime;
  }

  decode(slice: Slice): Decoded {
    this.startSlice(slice);
    let rowCount = 0;
    for (let index = 0; index < slice.count; index++) {
      if (this.decodeRecord(slice, index, rowCount)) {
        this.rows[rowCount] = index;
        rowCount += 1;
      }
    }
    const bytes = this.texts.join(slice.bytes);
    const columns = this.fields.map((field) => field.column(rowCount, bytes));
    return this.check({
      rowCount,
      rows: this.rows,
      columns,
      eventTimes: this.eventTime.numberValues,
      deadLetters: this.deadLetters,
    });
  }

  private startSlice(slice: Slice): void {
    let bytesEnd = 0;
    for (let i = 0; i < slice.count; i++) bytesEnd = Math.max(bytesEnd, slice.ends[i]);
    this.texts.reset(bytesEnd);
    this.bytesEnd = bytesEnd;
    this.sliceIsUtf8 = null;
    this.deadLetters = [];
    if (this.rows.length < slice.count) this.rows = new Int32Array(slice.count);
    for (const field of this.fields) field.startSlice(slice.count);
  }

  /** Decode a record into `row`; false if it became a dead letter. */
  private decodeRecord(slice: Slice, index: number, row: number): boolean {
    const fault = slice.faults.size === 0 ? undefined : slice.faults.get(index);
    if (fault !== undefined) return this.refuse(index, fault.reason, fault.detail);
    const start = slice.starts[index];
    const end = slice.ends[index];
    if (start === -1) return this.refuse(index, "malformed", "tombstone: no value");
    const { maxRecordBytes } = this.stream;
    if (end - start > maxRecordBytes) {
      const detail = `${end - start} bytes, longer than maxRecordBytes (${maxRecordBytes})`;
      return this.refuse(index, "oversize", detail);
    }
    try {
      this.reader.read(slice.bytes, start, end, row);
    } catch (error) {
      if (!(error instanceof BadRecord)) throw error;
      return this.refuse(index, error.reason, error.detail);
    }
    const { scanner } = this.reader;
    if (scanner.sawNonAscii && !this.isUtf8(slice.bytes, start, end)) {
      return this.refuse(index, "malformed", "not valid UTF-8");
    }
    for (let i = 0; i < this.fields.length; i++) {
      const field = this.fields[i];
      if (field.settle(row)) continue;
      const { reason, detail } = field.failure(scanner);
      return this.refuse(index, reason, detail);
    }
    return this.isInTime(slice.timestamps[index], index, row);
  }

  /**
   * Whether a record's bytes are UTF-8. One call for the slice is cheaper than one a record, and
   * settles it: a JSON object begins and ends with bytes that end no character of another record.
   */
  private isUtf8(bytes: Uint8Array, start: number, end: number): boolean {
    this.sliceIsUtf8 ??= isUtf8(bytes.subarray(0, this.bytesEnd));
    return this.sliceIsUtf8 || isUtf8(bytes.subarray(start, end));
  }

  private isInTime(timestampMs: number, index: number, row: number): boolean {
    const eventTimeMs = this.eventTime.numberValues[row];
    const { maxAheadMs } = this.stream;
    // An unknown timestamp is NaN, which nothing is ahead of.
    if (!(eventTimeMs > timestampMs + maxAheadMs)) return true;
    const detail =
      `field "${this.stream.eventTime}": event time ${eventTimeMs} ms is more than ` +
      `${maxAheadMs} ms ahead of the record's timestamp ${timestampMs} ms`;
    return this.refuse(index, "event_time_in_future", detail);
  }

  private refuse(index: number, reason: DeadLetterReason, detail: string): false {
    this.deadLetters.push({ index, reason, detail });
    return false;
  }

  /** Take out the rows that fail a check. */
  private check(decoded: Decoded): Decoded {
    const failures = this.checks.failures(decoded);
    if (failures.size === 0) return decoded;
    const kept = new Int32Array(decoded.rowCount - failures.size);
    let rowCount = 0;
    for (let row = 0; row < decoded.rowCount; row++) {
      const detail = failures.get(row);
      if (detail !== undefined) this.refuse(decoded.rows[row], "failed_check", detail);
      else kept[rowCount++] = row;
    }
    return {
      rowCount,
      rows: kept.map((row) => decoded.rows[row]),
      columns: decoded.columns.map((column) => gather(column, kept, rowCount)),
      eventTimes: Float64Array.from(kept, (row) => decoded.eventTimes[row]),
      deadLetters: this.deadLetters.sort((a, b) => a.index - b.index),
    };
  }
}
