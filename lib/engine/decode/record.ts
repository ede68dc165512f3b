/**
 * Walks one record's objects along the declared paths. It guesses that keys follow one another as
 * in the record before, which turns the search for a key into one comparison of bytes.
 */
import type { FieldColumn } from "./field-column.js";
import { Layouts } from "./layouts.js";
import { MISSING, resolveEscapes } from "./scalar.js";
import { NULL, OBJECT, Scanner } from "./scan.js";

const QUOTE = 0x22;
const CLOSING_BRACE = 0x7d;
const NO_FIELDS: readonly FieldColumn[] = [];

/** A key that is declared, or that leads to one: the schema's paths as a tree. */
class KeyNode {
  readonly text: string;
  /** The keys from the root to here, for messages. */
  readonly path: string;
  readonly bytes: Uint8Array;
  /** Its bytes in a record are the key itself: ASCII, and nothing that JSON must escape. */
  readonly isPlain: boolean;
  readonly children: KeyNode[] = [];
  readonly fields: FieldColumn[] = [];
  /** Serial number of the last record that had this key. */
  seenIn = 0;
  /** The declared key that came after this one last time, and the first one inside. */
  next: KeyNode | null = null;
  first: KeyNode | null = null;

  constructor(text: string, parentPath: string) {
    this.text = text;
    this.path = parentPath === "" ? text : `${parentPath}.${text}`;
    this.bytes = Buffer.from(text);
    this.isPlain = /^[ !#-[\]-~]*$/.test(text);
  }

  child(text: string): KeyNode {
    let child = this.children.find((known) => known.text === text);
    if (child === undefined) {
      child = new KeyNode(text, this.path);
      this.children.push(child);
    }
    return child;
  }
}

export class RecordReader {
  readonly scanner = new Scanner();
  private readonly layouts = new Layouts(this.scanner);
  private readonly root = new KeyNode("", "");
  private readonly fields: readonly FieldColumn[];
  private serial = 0;

  constructor(fields: readonly FieldColumn[]) {
    this.fields = fields;
    for (const field of fields) {
      let node = this.root;
      for (const key of field.node.path) node = node.child(key);
      node.fields.push(field);
    }
  }

  /** Read the record `bytes[start, end)` into `row` of the fields; throws `BadRecord`. */
  read(bytes: Uint8Array, start: number, end: number, row: number): void {
    const { scanner, layouts } = this;
    this.clear();
    scanner.open(bytes, start, end);
    if (layouts.read(start, row)) return;
    this.clear();
    scanner.open(bytes, start, end);
    layouts.startRecord(start);
    this.readAny(row);
    layouts.learn();
  }

  private clear(): void {
    const { fields } = this;
    for (let i = 0; i < fields.length; i++) fields[i].status = MISSING;
  }

  /** Read a record of any layout: the scanner stands at its start. */
  private readAny(row: number): void {
    const { scanner } = this;
    this.serial += 1;
    const first = scanner.peek();
    if (first === -1) scanner.fail("empty record", scanner.pos);
    if (first !== 0x7b) {
      const rootStart = scanner.pos;
      scanner.value(0);
      scanner.fail("expected an object, found another value", rootStart);
    }
    this.object(this.root, row, 1);
    if (scanner.peek() !== -1) scanner.unexpected("expected the record's end");
  }

  /** Read the object whose opening brace is at the scanner's position. */
  private object(node: KeyNode, row: number, levels: number): void {
    const { scanner } = this;
    scanner.checkDepth(levels);
    const start = scanner.pos;
    scanner.pos += 1;
    if (scanner.peek() === CLOSING_BRACE) {
      scanner.pos += 1;
    } else {
      let previous: KeyNode | null = null;
      do {
        const key = this.key(node, previous === null ? node.first : previous.next);
        scanner.expect(0x3a);
        if (key === null) {
          this.value(NO_FIELDS, levels);
        } else {
          if (previous === null) node.first = key;
          else previous.next = key;
          previous = key;
          this.member(key, row, levels);
        }
      } while (scanner.another(CLOSING_BRACE));
    }
    scanner.close(OBJECT, start);
  }

  /** Scan a key; null if it is not declared. */
  private key(parent: KeyNode, guess: KeyNode | null): KeyNode | null {
    const { scanner } = this;
    if (scanner.peek() !== QUOTE) scanner.unexpected("expected a key in quotes");
    let key = guess;
    if (guess?.isPlain && this.isNext(guess.bytes)) {
      scanner.pos += guess.bytes.length + 2;
    } else {
      scanner.string();
      key = this.search(parent);
    }
    if (key !== null) {
      if (key.seenIn === this.serial) {
        scanner.fail(`key ${JSON.stringify(key.path)} appears twice`, scanner.pos);
      }
      key.seenIn = this.serial;
    }
    return key;
  }

  /** Whether the key at the scanner's position, quotes included, is `wanted`. */
  private isNext(wanted: Uint8Array): boolean {
    const { bytes, pos, end } = this.scanner;
    const { length } = wanted;
    if (pos + length + 1 >= end || bytes[pos + length + 1] !== QUOTE) return false;
    for (let i = 0; i < length; i++) {
      if (bytes[pos + 1 + i] !== wanted[i]) return false;
    }
    return true;
  }

  /** The child whose key is the scanner's last token. */
  private search(parent: KeyNode): KeyNode | null {
    const { scanner } = this;
    const { children } = parent;
    if (scanner.escaped) {
      const text = resolveEscapes(scanner);
      return children.find((child) => child.text === text) ?? null;
    }
    const { bytes, start } = scanner;
    const length = scanner.stop - start;
    for (let i = 0; i < children.length; i++) {
      const wanted = children[i].bytes;
      if (wanted.length !== length) continue;
      let at = 0;
      while (at < length && bytes[start + at] === wanted[at]) at += 1;
      if (at === length) return children[i];
    }
    return null;
  }

  private member(key: KeyNode, row: number, levels: number): void {
    const { scanner } = this;
    const { fields, children } = key;
    if (children.length > 0 && scanner.peek() === 0x7b) {
      this.object(key, row, levels + 1);
      if (fields.length > 0) this.layouts.forget();
    } else {
      this.value(fields, levels);
      if (children.length > 0) this.layouts.forget();
      if (children.length > 0 && scanner.kind !== NULL) this.breakBelow(key, key.path);
    }
    for (let i = 0; i < fields.length; i++) fields[i].take(scanner, row);
  }

  /** Scan a value that `fields` will take. */
  private value(fields: readonly FieldColumn[], levels: number): void {
    const { scanner } = this;
    scanner.peek();
    const start = scanner.pos;
    scanner.value(levels);
    this.layouts.note(start, scanner.pos, fields, levels);
  }

  private breakBelow(key: KeyNode, parent: string): void {
    for (const child of key.children) {
      for (const field of child.fields) field.breakAt(this.scanner, parent);
      this.breakBelow(child, parent);
    }
  }
}
