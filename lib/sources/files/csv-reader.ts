/** CSV files: each row becomes one JSON object record, so all that follows reads one format. */
import { isUtf8 } from "node:buffer";
import type { StreamNode } from "../../define/definition.js";
import type { Slice } from "../../engine/slice.js";
import { MillpondError } from "../../errors.js";
import type { SourcePosition } from "../source.js";
import { findRowEnd, parseRow } from "./csv-rows.js";
import { type CsvTemplate, csvTemplate, renderRow } from "./csv-template.js";
import type { FileIdentity, FileReader, ReadLimits } from "./file-source.js";
import { FramedReader } from "./framed-reader.js";
import type { Fault } from "./record-arrays.js";

/** UTF-8 needs at most three bytes for each UTF-16 unit. */
const UTF8_BYTES_MAX = 3;

interface Header {
  readonly template: CsvTemplate;
  readonly columnCount: number;
}

export class CsvReader implements FileReader {
  readonly #rows: FramedReader;
  /** Null when the file has no header, so no rows either. */
  readonly #header: Header | null;
  #out: Buffer = Buffer.allocUnsafe(64 * 1024);
  #written = 0;
  #starts = new Int32Array(0);
  #ends = new Int32Array(0);

  private constructor(rows: FramedReader, header: Header | null) {
    this.#rows = rows;
    this.#header = header;
  }

  static async open(
    identity: FileIdentity,
    stream: StreamNode,
    limits: ReadLimits,
    nextOffset: number,
    position: SourcePosition | null,
  ): Promise<CsvReader> {
    // The header takes the offset before the first row's.
    const start = await FramedReader.open(identity, "csv", findRowEnd, limits, -1, null);
    let header: Header | null;
    try {
      header = parseHeader(identity, stream, await start.read(1));
    } catch (error) {
      await start.close();
      throw error;
    }
    if (position === null) return new CsvReader(start, header);
    await start.close();
    const rows = await FramedReader.open(identity, "csv", findRowEnd, limits, nextOffset, position);
    return new CsvReader(rows, header);
  }

  get topic(): string {
    return this.#rows.topic;
  }
  get partition(): number {
    return this.#rows.partition;
  }
  get label(): string {
    return this.#rows.label;
  }
  get bytesTotal(): number {
    return this.#rows.bytesTotal;
  }
  get bytesRead(): number {
    return this.#rows.bytesRead;
  }
  get warnings(): readonly string[] {
    return this.#rows.warnings;
  }

  async read(recordsMax: number): Promise<Slice | null> {
    const rows = await this.#rows.read(recordsMax);
    if (rows === null || this.#header === null) return null;
    if (this.#starts.length < rows.count) {
      this.#starts = new Int32Array(rows.count * 2);
      this.#ends = new Int32Array(rows.count * 2);
    }
    this.#written = 0;
    const faults = new Map<number, Fault>();
    for (let i = 0; i < rows.count; i++) {
      const raw = Buffer.from(rows.bytes.buffer, rows.bytes.byteOffset + (rows.starts[i] ?? 0));
      const row = raw.subarray(0, (rows.ends[i] ?? 0) - (rows.starts[i] ?? 0));
      this.#starts[i] = this.#written;
      const fault = rows.faults.get(i) ?? this.#convert(row, this.#header);
      if (fault !== null) {
        faults.set(i, fault);
        this.#reserve(row.length);
        this.#written += row.copy(this.#out, this.#written);
      }
      this.#ends[i] = this.#written;
    }
    const bytes = this.#out.subarray(0, this.#written);
    return { ...rows, bytes, starts: this.#starts, ends: this.#ends, faults };
  }

  position(): SourcePosition {
    return this.#rows.position();
  }

  close(): Promise<void> {
    return this.#rows.close();
  }

  /** Write the row as JSON, or say why it can't be. */
  #convert(row: Buffer, header: Header): Fault | null {
    if (!isUtf8(row)) return malformed("a CSV row that is not valid UTF-8");
    const values = parseRow(row.toString());
    if (typeof values === "string") return malformed(`a CSV row whose ${values}`);
    if (values.length !== header.columnCount) {
      return malformed(
        `a CSV row with ${values.length} values; the header has ${header.columnCount} columns`,
      );
    }
    const json = renderRow(header.template, values);
    this.#reserve(json.length * UTF8_BYTES_MAX);
    this.#written += this.#out.write(json, this.#written);
    return null;
  }

  #reserve(byteCount: number): void {
    const needed = this.#written + byteCount;
    if (needed <= this.#out.length) return;
    const grown = Buffer.allocUnsafe(Math.max(needed, this.#out.length * 2));
    this.#out.copy(grown, 0, 0, this.#written);
    this.#out = grown;
  }
}

function malformed(detail: string): Fault {
  return { reason: "malformed", detail };
}

function parseHeader(
  identity: FileIdentity,
  stream: StreamNode,
  slice: Slice | null,
): Header | null {
  if (slice === null) return null;
  const refuse = (what: string) =>
    new MillpondError(
      "INPUT",
      `${identity.path}: the first row of a CSV file must name its columns, once each, ` +
        `but ${what}. Correct the header and run again.`,
    );
  const fault = slice.faults.get(0);
  if (fault !== undefined) throw refuse(`it is ${fault.reason}: ${fault.detail}`);
  const names = parseRow(
    Buffer.from(slice.bytes.subarray(slice.starts[0], slice.ends[0])).toString(),
  );
  if (typeof names === "string") throw refuse(names);
  const template = csvTemplate(
    names.map((name) => name.text),
    stream.fields,
  );
  if (typeof template === "string") throw refuse(template);
  return { template, columnCount: names.length };
}
