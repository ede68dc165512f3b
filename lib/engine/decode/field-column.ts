/** One declared field: reads its values into a column, and knows what to do when there is none. */
import type { FieldNode, LiteralValue, ScalarType } from "../../define/definition.js";
import { MillpondError } from "../../errors.js";
import type { Column, RowValue, Vector } from "../batch.js";
import type { DeadLetterReason } from "../slice.js";
import { MISSING, NULL_VALUE, OUT_OF_RANGE, ScalarReader, VALUE, WRONG_TYPE } from "./scalar.js";
import { ARRAY, NULL, Scanner } from "./scan.js";
import type { TextArea } from "./text-area.js";

/** Longest excerpt of a record in a message. */
const EXCERPT_CHARS_MAX = 100;
const TWO_32 = 2 ** 32;
/** Enough bytes for so many characters. */
const EXCERPT_BYTES_MAX = 4 * EXCERPT_CHARS_MAX;

export class FieldColumn {
  readonly node: FieldNode;
  /** What became of the field in the current record, and where the value stands. */
  status = MISSING;
  private foundStart = 0;
  private foundStop = 0;
  /** For messages: the path of the parent that is no object. */
  private brokenParent = "";

  readonly isList: boolean;
  readonly reader: ScalarReader;
  private readonly texts: TextArea;
  private readonly storage: "bytes" | "number" | "int64" | "any";
  private readonly defaultText: string | null;
  private defaultStart = -1;

  private starts = new Int32Array(0);
  private ends = new Int32Array(0);
  private numbers = new Float64Array(0);
  private integers = new BigInt64Array(0);
  /** The same, in halves, the low one first. */
  private halves = new Uint32Array(0);
  private list: RowValue[] = [];
  private lists: unknown[] = [];
  private valid = new Uint8Array(0);
  private sawNull: boolean = false;

  constructor(node: FieldNode, texts: TextArea) {
    this.node = node;
    this.texts = texts;
    this.isList = node.type.kind === "list";
    const type = scalarOf(node);
    this.reader = new ScalarReader(type, node, texts);
    this.storage = this.isList ? "any" : storageOf(type);
    const literal = node.default ?? null;
    this.defaultText = type.kind === "string" && literal !== null ? String(literal) : null;
    if (literal !== null && this.defaultText === null) this.readDefault(literal);
  }

  /** Make room for the slice's rows. */
  startSlice(rows: number): void {
    this.defaultStart = -1;
    this.sawNull = false;
    if (this.storage === "any") this.lists = new Array(rows);
    if (this.node.nullable && this.valid.length < rows) this.valid = new Uint8Array(rows);
    if (this.storage === "bytes" && this.starts.length < rows) {
      this.starts = new Int32Array(rows);
      this.ends = new Int32Array(rows);
    }
    if (this.storage === "number" && this.numbers.length < rows) {
      this.numbers = new Float64Array(rows);
    }
    if (this.storage === "int64" && this.integers.length < rows) {
      this.integers = new BigInt64Array(rows);
      this.halves = new Uint32Array(this.integers.buffer);
    }
  }

  /** Take the scanner's last token as this field's value in `row`. */
  take(scanner: Scanner, row: number): void {
    this.brokenParent = "";
    this.foundStart = scanner.start;
    this.foundStop = scanner.stop;
    if (scanner.kind === NULL) {
      this.status = NULL_VALUE;
      return;
    }
    const status = this.isList ? this.readList(scanner) : this.reader.read(scanner);
    this.status = status;
    if (status === VALUE) this.write(row);
  }

  /** Take a null, as `take` would. */
  takeNull(): void {
    this.status = NULL_VALUE;
  }

  /**
   * Take a string without escapes, `bytes[start, stop)` of the slice, as `take` would; false, and
   * nothing is taken, if the field refuses it.
   */
  takeText(bytes: Uint8Array, start: number, stop: number, row: number): boolean {
    if (!this.reader.allows(bytes, start, stop)) return false;
    this.status = VALUE;
    this.starts[row] = start;
    this.ends[row] = stop;
    if (this.node.nullable) this.valid[row] = 1;
    return true;
  }

  /** Take the timestamp of 24 bytes at `at`, as `take` would; false if it is in another form. */
  takeUsualTime(bytes: Uint8Array, view: DataView, at: number, row: number): boolean {
    const timeMs = this.reader.iso?.readUsual(bytes, view, at) ?? Number.NaN;
    if (Number.isNaN(timeMs)) return false;
    this.status = VALUE;
    this.numbers[row] = timeMs;
    if (this.node.nullable) this.valid[row] = 1;
    return true;
  }

  /** The object that should hold this field's key is the scanner's last token, and no object. */
  breakAt(scanner: Scanner, parent: string): void {
    this.status = WRONG_TYPE;
    this.foundStart = scanner.start;
    this.foundStop = scanner.stop;
    this.brokenParent = parent;
  }

  /** After the record: settle a missing value or a null. False if the record must be refused. */
  settle(row: number): boolean {
    const { status, node } = this;
    if (status === VALUE) return true;
    if (status !== MISSING && status !== NULL_VALUE) return false;
    const hasDefault = node.default !== undefined && node.default !== null;
    if (hasDefault && (status === MISSING || !node.nullable)) {
      this.writeDefault(row);
      return true;
    }
    if (!node.nullable) return false;
    this.writeNull(row);
    return true;
  }

  /** Why `settle` refused. */
  failure(scanner: Scanner): { reason: DeadLetterReason; detail: string } {
    const field = `field ${JSON.stringify(this.node.name)}`;
    if (this.status === MISSING) return { reason: "missing_field", detail: `${field} is missing` };
    if (this.status === NULL_VALUE) return { reason: "missing_field", detail: `${field} is null` };
    const found = this.found(scanner);
    if (this.brokenParent !== "") {
      const detail = `${field}: expected an object at "${this.brokenParent}", found ${found}`;
      return { reason: "wrong_type", detail };
    }
    const { expectation } = this.reader;
    const expected = this.isList ? `a list, each element ${expectation}` : expectation;
    const reason = this.status === OUT_OF_RANGE ? "out_of_range" : "wrong_type";
    return { reason, detail: `${field}: expected ${expected}, found ${found}` };
  }

  /** The column of the first `rows` rows; strings are in `bytes`. */
  column(rows: number, bytes: Uint8Array): Column {
    const { name, type } = this.node;
    const hasNull = this.sawNull && this.valid.subarray(0, rows).includes(0);
    return { name, type, valid: hasNull ? this.valid : null, vector: this.vector(rows, bytes) };
  }

  /** Values of a column that is kept as numbers. */
  get numberValues(): Float64Array {
    return this.numbers;
  }

  private found(scanner: Scanner): string {
    const quote = scanner.bytes[this.foundStart - 1] === 0x22 ? 1 : 0;
    const start = this.foundStart - quote;
    return excerpt(
      scanner.text(start, Math.min(this.foundStop + quote, start + EXCERPT_BYTES_MAX)),
    );
  }

  private vector(rows: number, bytes: Uint8Array): Vector {
    switch (this.storage) {
      case "bytes":
        return { kind: "bytes", bytes, starts: this.starts, ends: this.ends };
      case "number":
        return { kind: "number", values: this.numbers };
      case "int64":
        return { kind: "int64", values: this.integers };
      case "any":
        this.lists.length = rows;
        return { kind: "any", values: this.lists };
    }
  }

  /** The last token's elements, which the scanner has already been over once. */
  private readList(scanner: Scanner): number {
    if (scanner.kind !== ARRAY) return WRONG_TYPE;
    const { start, pos: after } = scanner;
    const list: RowValue[] = [];
    let status = VALUE;
    scanner.pos = start + 1;
    if (scanner.peek() !== 0x5d) {
      do {
        scanner.value(0);
        status = this.reader.read(scanner);
        if (status === VALUE) list.push(this.reader.value());
      } while (status === VALUE && scanner.another(0x5d));
    }
    // The array is the last token again: another field may be declared at the same path.
    scanner.pos = after;
    scanner.close(ARRAY, start);
    this.list = list;
    return status;
  }

  private write(row: number): void {
    const { reader } = this;
    switch (this.storage) {
      case "number":
        this.numbers[row] = reader.number;
        break;
      case "bytes": {
        const base = reader.appended ? this.texts.base : 0;
        this.starts[row] = base + reader.textStart;
        this.ends[row] = base + reader.textEnd;
        break;
      }
      case "int64": {
        const { integer } = reader;
        if (integer.small) this.writeSmall(row, integer.number);
        else this.integers[row] = integer.bigint;
        break;
      }
      case "any":
        this.lists[row] = this.list;
        break;
    }
    if (this.node.nullable) this.valid[row] = 1;
  }

  /** Of at most 15 digits, in two halves: without a BigInt a value. */
  private writeSmall(row: number, value: number): void {
    const high = Math.floor(value / TWO_32);
    this.halves[2 * row] = value - high * TWO_32;
    this.halves[2 * row + 1] = high;
  }

  private writeNull(row: number): void {
    this.sawNull = true;
    this.valid[row] = 0;
    if (this.storage === "bytes") {
      this.starts[row] = 0;
      this.ends[row] = 0;
    } else if (this.storage === "number") this.numbers[row] = 0;
    else if (this.storage === "int64") this.integers[row] = 0n;
    else this.lists[row] = null;
  }

  private writeDefault(row: number): void {
    const { reader, texts } = this;
    if (this.defaultText !== null) {
      // Once a slice is enough: its rows share the text.
      if (this.defaultStart === -1) this.defaultStart = texts.append(this.defaultText);
      reader.appended = true;
      reader.textStart = this.defaultStart;
      reader.textEnd = this.defaultStart + Buffer.byteLength(this.defaultText);
    } else {
      this.readDefault(this.node.default ?? null);
    }
    this.write(row);
  }

  /** Read a number's or boolean's default as if a record held it: the same rules for both. */
  private readDefault(literal: LiteralValue): void {
    const { reader, node } = this;
    if (reader.kind === "timestamp" && typeof literal === "number") {
      reader.number = literal;
      return;
    }
    const text = Buffer.from(String(literal));
    const scanner = new Scanner();
    scanner.open(text, 0, text.length);
    scanner.value(0);
    if (this.isList || reader.read(scanner) !== VALUE) {
      throw new MillpondError(
        "DEFINITION",
        `field "${node.name}": the default ${excerpt(String(literal))} is not ` +
          `${reader.expectation}; give one that is`,
      );
    }
  }
}

function scalarOf(node: FieldNode): ScalarType {
  const { type } = node;
  if (type.kind === "list") return type.element;
  if (type.kind === "topK" || type.kind === "bytes") {
    throw new MillpondError(
      "DEFINITION",
      `field "${node.name}": a stream's field cannot be of type ${type.kind}`,
    );
  }
  return type;
}

function storageOf(type: ScalarType): "bytes" | "number" | "int64" {
  if (type.kind === "string") return "bytes";
  return type.kind === "bigint" || type.kind === "decimal" ? "int64" : "number";
}

export function excerpt(text: string): string {
  if (text.length <= EXCERPT_CHARS_MAX) return text;
  return `${text.slice(0, EXCERPT_CHARS_MAX - 1).replace(/[\uD800-\uDBFF]$/, "")}…`;
}
