/**
 * CSV (RFC 4180) by hand: where a row ends in raw bytes, and what its values are. Own code because
 * rows must be cut in bounded memory and resumed by byte, and a broken row must not take others
 * along.
 */
import type { FindEnd } from "./framed-reader.js";

const LF = 10;
const COMMA = 44;
const QUOTE = 34;

/** A quoted value that is still open this far into its row counts as never closed. */
export const QUOTED_ROW_BYTES_MAX = 1024 * 1024;

/** A row ends at its first newline outside quotes; with a quote never closed, at its first. */
export const findRowEnd: FindEnd = (bytes, from, ended) => {
  const limit = Math.min(bytes.length, from + QUOTED_ROW_BYTES_MAX);
  let atValueStart = true;
  for (let at = from; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === LF) return at;
    if (byte === QUOTE && atValueStart) {
      const close = findClosingQuote(bytes, at + 1, limit);
      if (close === -1) {
        const neverCloses = ended || limit === from + QUOTED_ROW_BYTES_MAX;
        return neverCloses ? bytes.indexOf(LF, from) : -1;
      }
      at = close;
    }
    atValueStart = byte === COMMA;
  }
  return -1;
};

/** Index of the quote that closes a value, or -1 if it is not before `limit`. */
function findClosingQuote(bytes: Buffer, from: number, limit: number): number {
  let at = bytes.indexOf(QUOTE, from);
  while (at !== -1 && at < limit) {
    if (bytes[at + 1] !== QUOTE) return at;
    at = bytes.indexOf(QUOTE, at + 2);
  }
  return -1;
}

export interface CsvValue {
  readonly text: string;
  readonly quoted: boolean;
}

/** The values of one row, or what is wrong with its quoting. */
export function parseRow(row: string): CsvValue[] | string {
  const values: CsvValue[] = [];
  let at = 0;
  for (;;) {
    if (row[at] === '"') {
      const start = at + 1;
      let close = row.indexOf('"', start);
      while (close !== -1 && row[close + 1] === '"') close = row.indexOf('"', close + 2);
      if (close === -1) return `value ${values.length + 1} opens a quote that is never closed`;
      values.push({ text: row.slice(start, close).replaceAll('""', '"'), quoted: true });
      at = close + 1;
      if (at < row.length && row[at] !== ",") {
        return `value ${values.length} goes on after its closing quote`;
      }
    } else {
      const comma = row.indexOf(",", at);
      const text = row.slice(at, comma === -1 ? row.length : comma);
      if (text.includes('"'))
        return `value ${values.length + 1} has a quote but does not start with one`;
      values.push({ text, quoted: false });
      at += text.length;
    }
    if (at >= row.length) return values;
    at++;
  }
}
