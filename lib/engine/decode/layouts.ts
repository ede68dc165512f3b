/**
 * The fast way through a record that is laid out like an earlier one. What stands between its
 * values (keys, colons, white space) is compared four bytes at a time, and only the values are
 * read. Whatever differs is left to the record reader, which alone says what a record means.
 */
import type { FieldColumn } from "./field-column.js";
import { END, LayoutNode, TEXT, TIME } from "./layout-node.js";
import type { Scanner } from "./scan.js";

/** Bound on the memory of layouts. */
const LEARNED_MAX = 256;
/** After so many records it is judged whether most of them were of known layouts. */
const TRIAL_RECORDS = 1_024;
/** Bound on the time that learning takes in a trial. */
const LEARNED_PER_TRIAL_MAX = 32;
/** Records without any order are tried this rarely in the end. */
const REST_RECORDS_MAX = 65_536;

const QUOTE = 0x22;
/** "null", the first byte lowest. */
const NULL_WORD = 0x6c6c756e;

/** A value of the record that is being learned. */
interface Noted {
  readonly start: number;
  readonly stop: number;
  readonly fields: readonly FieldColumn[];
  readonly levels: number;
}

export class Layouts {
  private readonly scanner: Scanner;
  private readonly root = new LayoutNode(new Uint8Array(0), [], 0);
  private learnedCount = 0;
  private tried = 0;
  private misses = 0;
  /** How many records are still passed over, and how many were at the rest's beginning. */
  private resting = 0;
  private restRecords = 0;
  private isLearning: boolean = false;
  private recordStart = 0;
  private readonly noted: Noted[] = [];

  constructor(scanner: Scanner) {
    this.scanner = scanner;
  }

  /**
   * Read the scanner's record from `start` into `row`; false if its layout is not known. Throws the
   * `BadRecord` that the record reader would throw: up to a bad value both do the same.
   */
  read(start: number, row: number): boolean {
    if (this.resting > 0) {
      this.resting -= 1;
      return false;
    }
    if (this.tried === TRIAL_RECORDS) this.judge();
    this.tried += 1;
    const { view, end } = this.scanner;
    let node: LayoutNode | null = this.root;
    let pos = start;
    for (;;) {
      node = node.next(view, pos, end);
      if (node === null) {
        this.misses += 1;
        return false;
      }
      pos += node.length;
      if (node.way === END) return true;
      pos = this.readValue(node, pos, row);
    }
  }

  /** If most records missed, forget the layouts, which may be old ones, and try again later. */
  private judge(): void {
    this.restRecords =
      this.misses <= TRIAL_RECORDS / 2
        ? 0
        : Math.min(Math.max(2 * this.restRecords, TRIAL_RECORDS), REST_RECORDS_MAX);
    if (this.restRecords > 0) {
      this.root.followers = [];
      this.learnedCount = 0;
    }
    this.resting = this.restRecords;
    this.tried = 0;
    this.misses = 0;
  }

  /** Read the value at `pos`; returns the position after it. */
  private readValue(node: LayoutNode, pos: number, row: number): number {
    const { field } = node;
    if (field === null) return this.scan(node, pos, row);
    const { bytes, view, end } = this.scanner;
    if (bytes[pos] === QUOTE) {
      const start = pos + 1;
      if (node.way === TEXT) {
        const stop = this.scanner.skipPlain(start);
        if (stop < end && bytes[stop] === QUOTE && field.takeText(bytes, start, stop, row)) {
          return stop + 1;
        }
      } else if (node.way === TIME && start + 24 < end && bytes[start + 24] === QUOTE) {
        if (field.takeUsualTime(bytes, view, start, row)) return start + 25;
      }
    } else if (pos + 4 <= end && view.getInt32(pos, true) === NULL_WORD) {
      field.takeNull();
      return pos + 4;
    }
    return this.scan(node, pos, row);
  }

  private scan(node: LayoutNode, pos: number, row: number): number {
    const { scanner } = this;
    const { fields } = node;
    scanner.pos = pos;
    scanner.value(node.levels);
    const after = scanner.pos;
    for (let i = 0; i < fields.length; i++) fields[i].take(scanner, row);
    return after;
  }

  /** The record reader begins a record; it notes each value, and says at the end to learn it. */
  startRecord(start: number): void {
    this.isLearning =
      this.resting === 0 && this.misses <= LEARNED_PER_TRIAL_MAX && this.learnedCount < LEARNED_MAX;
    this.recordStart = start;
    this.noted.length = 0;
  }

  note(start: number, stop: number, fields: readonly FieldColumn[], levels: number): void {
    if (this.isLearning) this.noted.push({ start, stop, fields, levels });
  }

  /** The record is no mere sequence of values. */
  forget(): void {
    this.isLearning = false;
  }

  learn(): void {
    const { bytes, end, sawNonAscii } = this.scanner;
    // Keys that are not ASCII would have to be checked again.
    if (!this.isLearning || sawNonAscii) return;
    this.learnedCount += 1;
    let node: LayoutNode | null = this.root;
    let pos = this.recordStart;
    for (const { start, stop, fields, levels } of this.noted) {
      node = node.follow(bytes.slice(pos, start), fields, levels);
      if (node === null) return;
      pos = stop;
    }
    node.follow(bytes.slice(pos, end), null, 0);
  }
}
