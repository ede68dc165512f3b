/**
 * Strings, as UTF-8 bytes where the operator allows. Like DuckDB, case changes one code point to
 * one (Unicode's simple mapping, in Node's version of Unicode), and trim takes off Unicode's
 * spaces (Zs).
 */
import {
  allValid,
  BIGINT,
  BOOLEAN,
  bytesOf,
  mapTexts,
  mapWhole,
  type Operand,
  textReader,
  wholeReader,
} from "./operand.js";

export function changeCase(op: "lower" | "upper", operand: Operand, count: number): Operand {
  const { bytes, starts, ends } = bytesOf(operand);
  const text = textReader(operand);
  const change = op === "lower" ? lowerCodePoint : upperCodePoint;
  const ascii = op === "lower" ? lowerText : upperText;
  return mapTexts([operand], count, (row, out) => {
    const at = row * operand.step;
    const value = text(row);
    if (isAscii(bytes, starts[at]!, ends[at]!)) out.addText(ascii(value));
    else out.addText(Array.from(value, change).join(""));
  });
}

const lowerText = (text: string): string => text.toLowerCase();
const upperText = (text: string): string => text.toUpperCase();

function isAscii(bytes: Uint8Array, start: number, end: number): boolean {
  let all = 0;
  for (let i = start; i < end; i++) all |= bytes[i]!;
  return all < 0x80;
}

const lowerCodePoint = (char: string): string =>
  char === "\u0130" ? "i" : oneCodePoint(char.toLowerCase(), char);

function upperCodePoint(char: string): string {
  if (char === "\u00df") return "\u1e9e";
  // Greek with an iota below: JavaScript writes the iota out, Unicode's simple mapping does not.
  const code = char.charCodeAt(0);
  if (code >= 0x1f80 && code <= 0x1fa7 && (code & 8) === 0) return String.fromCharCode(code + 8);
  if (code === 0x1fb3 || code === 0x1fc3 || code === 0x1ff3) return String.fromCharCode(code + 9);
  return oneCodePoint(char.toUpperCase(), char);
}

function oneCodePoint(changed: string, original: string): string {
  const first = changed.codePointAt(0)!;
  return changed.length === (first > 0xffff ? 2 : 1) ? changed : original;
}

export function trim(operand: Operand, count: number): Operand {
  const text = textReader(operand);
  return mapTexts([operand], count, (row, out) =>
    out.addText(
      text(row)
        .replace(/^\p{Zs}+/u, "")
        .replace(/(?<!\p{Zs})\p{Zs}+$/u, ""),
    ),
  );
}

/** Code points: every byte that does not continue one. */
export function textLength(operand: Operand, count: number): Operand {
  const { bytes, starts, ends } = bytesOf(operand);
  return mapWhole(BIGINT, [operand], count, (row) => {
    const at = row * operand.step;
    let length = 0;
    for (let i = starts[at]!; i < ends[at]!; i++) if ((bytes[i]! & 0xc0) !== 0x80) length++;
    return BigInt(length);
  });
}

export function concat(operands: readonly Operand[], count: number): Operand {
  const parts = operands.map((operand) => ({ ...bytesOf(operand), step: operand.step }));
  return mapTexts(operands, count, (row, out) => {
    for (const { bytes, starts, ends, step } of parts) {
      out.addBytes(bytes, starts[row * step]!, ends[row * step]!);
    }
  });
}

export type Search = "startsWith" | "endsWith" | "contains";

export function search(op: Search, a: Operand, b: Operand, count: number): Operand {
  const x = bytesOf(a);
  const y = bytesOf(b);
  const values = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const start = x.starts[i * a.step]!;
    const from = y.starts[i * b.step]!;
    const length = y.ends[i * b.step]! - from;
    const last = x.ends[i * a.step]! - length;
    let at = op === "endsWith" ? Math.max(last, start) : start;
    const stop = op === "startsWith" ? Math.min(start, last) : last;
    while (at <= stop && !sameBytes(x.bytes, at, y.bytes, from, length)) at++;
    values[i] = at <= stop ? 1 : 0;
  }
  const valid = allValid([a, b], count);
  return { type: BOOLEAN, valid, vector: { kind: "number", values }, step: 1 };
}

function sameBytes(
  a: Uint8Array,
  atA: number,
  b: Uint8Array,
  atB: number,
  length: number,
): boolean {
  let k = 0;
  while (k < length && a[atA + k] === b[atB + k]) k++;
  return k === length;
}

/**
 * `substring(text, start, length)` in code points, the first being 1. As in DuckDB a negative start
 * counts from the end, and a negative length takes what is before the start.
 */
export function substring(operands: readonly Operand[], count: number): Operand {
  const text = textReader(operands[0]!);
  const start = wholeReader(operands[1]!, 0);
  const length = operands[2] === undefined ? null : wholeReader(operands[2], 0);
  return mapTexts(operands, count, (row, out) => {
    const chars = Array.from(text(row));
    const wanted = length === null ? Number.POSITIVE_INFINITY : Number(length(row));
    const [from, to] = span(chars.length, Number(start(row)), wanted);
    out.addText(chars.slice(from, to).join(""));
  });
}

/** Both ends are counted first and then cut, so a start before the text uses up length. */
function span(size: number, start: number, length: number): readonly [number, number] {
  const at = start > 0 ? start - 1 : start < 0 ? size + start : -1;
  const cut = (index: number): number => Math.min(size, Math.max(0, index));
  return length >= 0 ? [cut(at), cut(at + length)] : [cut(at + length), cut(at)];
}
