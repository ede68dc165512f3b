/**
 * MurmurHash3_x86_128 (Austin Appleby, public domain) over a range of bytes. Two different values
 * collide with odds of 2^-128 a pair: 10^9 ids give 10^-21. It guards against chance, not malice;
 * who can forge an id that collides could as well send the same id.
 */

const C1 = 0x239b961b;
const C2 = 0xab0e9789;
const C3 = 0x38b34ae5;
const C4 = 0xa1e38b93;

/** The last hash, as four 32-bit words. One shared buffer, so that hashing allocates nothing. */
export const hashWords = new Int32Array(4);

const rotl = (x: number, r: number): number => (x << r) | (x >>> (32 - r));

function finalMix(input: number): number {
  let h = input;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

const word = (b: Uint8Array, i: number): number =>
  b[i]! | (b[i + 1]! << 8) | (b[i + 2]! << 16) | (b[i + 3]! << 24);

/** Up to four bytes, little endian. */
function tail(b: Uint8Array, from: number, end: number): number {
  let k = 0;
  const to = Math.min(end, from + 4);
  for (let i = from; i < to; i++) k |= b[i]! << (8 * (i - from));
  return k;
}

const mix1 = (k: number): number => Math.imul(rotl(Math.imul(k, C1), 15), C2);
const mix2 = (k: number): number => Math.imul(rotl(Math.imul(k, C2), 16), C3);
const mix3 = (k: number): number => Math.imul(rotl(Math.imul(k, C3), 17), C4);
const mix4 = (k: number): number => Math.imul(rotl(Math.imul(k, C4), 18), C1);

/** Leaves the hash of `bytes[start, end)` in `hashWords`. */
export function hash128(bytes: Uint8Array, start: number, end: number): void {
  let h1 = 0;
  let h2 = 0;
  let h3 = 0;
  let h4 = 0;
  let i = start;
  for (; i + 16 <= end; i += 16) {
    h1 ^= mix1(word(bytes, i));
    h1 = (Math.imul((rotl(h1, 19) + h2) | 0, 5) + 0x561ccd1b) | 0;
    h2 ^= mix2(word(bytes, i + 4));
    h2 = (Math.imul((rotl(h2, 17) + h3) | 0, 5) + 0x0bcaa747) | 0;
    h3 ^= mix3(word(bytes, i + 8));
    h3 = (Math.imul((rotl(h3, 15) + h4) | 0, 5) + 0x96cd1c35) | 0;
    h4 ^= mix4(word(bytes, i + 12));
    h4 = (Math.imul((rotl(h4, 13) + h1) | 0, 5) + 0x32ac3b17) | 0;
  }
  if (i + 12 < end) h4 ^= mix4(tail(bytes, i + 12, end));
  if (i + 8 < end) h3 ^= mix3(tail(bytes, i + 8, end));
  if (i + 4 < end) h2 ^= mix2(tail(bytes, i + 4, end));
  if (i < end) h1 ^= mix1(tail(bytes, i, end));
  finish(h1, h2, h3, h4, end - start);
}

function finish(a: number, b: number, c: number, d: number, length: number): void {
  let h1 = a ^ length;
  let h2 = b ^ length;
  let h3 = c ^ length;
  let h4 = d ^ length;
  h1 = (h1 + h2 + h3 + h4) | 0;
  h2 = (h2 + h1) | 0;
  h3 = (h3 + h1) | 0;
  h4 = (h4 + h1) | 0;
  h1 = finalMix(h1);
  h2 = finalMix(h2);
  h3 = finalMix(h3);
  h4 = finalMix(h4);
  h1 = (h1 + h2 + h3 + h4) | 0;
  hashWords[0] = h1;
  hashWords[1] = (h2 + h1) | 0;
  hashWords[2] = (h3 + h1) | 0;
  hashWords[3] = (h4 + h1) | 0;
}
