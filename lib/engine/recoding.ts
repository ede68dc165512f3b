/**
 * A dictionary's codes numbered anew, 0, 1, …, by what a partial uses of them: a partial carries
 * just those entries.
 */
const NONE = -1;

/** Codes that are used, numbered from 0, and back. */
export interface Recoding {
  /** By code: its number, or -1. */
  readonly recode: Int32Array;
  /** By number: the code. */
  readonly codes: Int32Array;
  count: number;
}

/** One per dictionary of a store, reused: a partial is written in one go. */
const recodings: Recoding[] = [];

export function recodingFor(d: number, codes: number): Recoding {
  const found = recodings[d];
  if (found !== undefined && found.recode.length >= codes) return found;
  const room = Math.max(1024, 2 * codes);
  const made = { recode: new Int32Array(room).fill(NONE), codes: new Int32Array(room), count: 0 };
  recodings[d] = made;
  return made;
}

/** Gives the code the next number, if it has none. */
export function numberCode(recoding: Recoding, code: number): void {
  const { recode } = recoding;
  if (code < 0 || recode[code] !== NONE) return;
  recoding.codes[recoding.count] = code;
  recode[code] = recoding.count++;
}

/** The next user finds every code without a number. */
export function clearRecoding(recoding: Recoding): void {
  const { recode, codes, count } = recoding;
  for (let i = 0; i < count; i++) recode[codes[i]!] = NONE;
  recoding.count = 0;
}
