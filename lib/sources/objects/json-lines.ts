/**
 * A `.json` file as lines: one array becomes a line an element, one document that spans lines
 * becomes one line, and what is in lines already stays. Only white space and the array's own
 * punctuation change, byte for byte, so that positions stay what they are.
 */
import type { ByteInput } from "../files/byte-input.js";

/** What the form of a file is told by. */
const HEAD_BYTES = 64 * 1024;

const LF = 10;
const CR = 13;
const SPACE = 32;
const QUOTE = 34;
const COMMA = 44;
const BACKSLASH = 92;
const OPENING: ReadonlySet<number> = new Set([91, 123]);
const CLOSING: ReadonlySet<number> = new Set([93, 125]);
const ARRAY = 91;
const BRACE = 123;
const COLON = 58;

export type JsonForm = "lines" | "array" | "document";

/** The form of a file that begins with these bytes. */
export function formOf(head: Uint8Array): JsonForm {
  const nesting = new Nesting();
  let at = head[0] === 0xef && head[1] === 0xbb && head[2] === 0xbf ? 3 : 0;
  while (at < head.length && head[at]! <= SPACE) at++;
  if (head[at] === ARRAY) return "array";
  // A record that does not end with its line goes on in the next: one document.
  for (let last = 0; at < head.length; at++) {
    const byte = head[at]!;
    if (byte === LF) {
      const isOpen = nesting.depth > 0 && !nesting.inString;
      return isOpen && mayGoOn(last, head.subarray(at)) ? "document" : "lines";
    }
    if (byte > SPACE) last = byte;
    nesting.see(byte);
  }
  return "lines";
}

/** An object stands in a document after "[", "," or ":"; else it is the next line's, and whole. */
function mayGoOn(last: number, rest: Uint8Array): boolean {
  const next = rest.find((byte) => byte > SPACE);
  return next !== BRACE || last === ARRAY || last === COMMA || last === COLON;
}

export class JsonLinesInput implements ByteInput {
  readonly #input: ByteInput;
  readonly #nesting = new Nesting();
  #form: JsonForm | null = null;
  /** What was read to tell the form, until it is delivered. */
  #head = Buffer.alloc(0);

  constructor(input: ByteInput) {
    this.#input = input;
  }

  get bytesRead(): number {
    return this.#input.bytesRead;
  }

  get damage(): string | null {
    return this.#input.damage;
  }

  async read(target: Uint8Array, from: number, to: number): Promise<number> {
    if (this.#form === null) {
      const head = Buffer.alloc(HEAD_BYTES);
      this.#head = head.subarray(0, await this.#input.read(head, 0, head.length));
      this.#form = formOf(this.#head);
    }
    const taken = Math.min(this.#head.length, to - from);
    target.set(this.#head.subarray(0, taken), from);
    this.#head = this.#head.subarray(taken);
    let at = from + taken;
    if (at < to) at += await this.#input.read(target, at, to);
    if (this.#form !== "lines") this.#rewrite(target, from, at, this.#form === "array");
    return at - from;
  }

  close(): Promise<void> {
    return this.#input.close();
  }

  #rewrite(bytes: Uint8Array, from: number, to: number, isArray: boolean): void {
    const nesting = this.#nesting;
    for (let i = from; i < to; i++) {
      const byte = bytes[i]!;
      const before = nesting.depth;
      const wasInString = nesting.inString;
      nesting.see(byte);
      if (wasInString) continue;
      if ((byte === LF || byte === CR) && before > 0) bytes[i] = SPACE;
      else if (!isArray) continue;
      else if (byte === ARRAY && before === 0) bytes[i] = SPACE;
      else if (byte === COMMA && before === 1) bytes[i] = LF;
      // What follows the array's end is no part of its last element.
      else if (CLOSING.has(byte) && before === 1) bytes[i] = LF;
    }
  }
}

/** How deep in JSON a byte stands. */
class Nesting {
  depth = 0;
  inString = false;
  #escaped = false;

  see(byte: number): void {
    if (this.inString) {
      if (this.#escaped) this.#escaped = false;
      else if (byte === BACKSLASH) this.#escaped = true;
      else if (byte === QUOTE) this.inString = false;
    } else if (byte === QUOTE) this.inString = true;
    else if (OPENING.has(byte)) this.depth++;
    else if (CLOSING.has(byte)) this.depth--;
  }
}
