/**
 * Reads what producers compressed: Snappy and LZ4 here, Zstandard where Node has it; kafkajs itself
 * knows gzip. In AWS, Lambda's pollers do it.
 */
import * as zlib from "node:zlib";
import { MillpondError } from "../../errors.js";

/** Far above what one fetch may bring, so that a few bytes cannot ask for all memory. */
const OUTPUT_BYTES_MAX = 256 * 1024 * 1024;

/** snappy-java's stream: this magic, two versions, then blocks with their lengths. */
const XERIAL_MAGIC = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0]);
const XERIAL_HEADER_BYTES = 16;

/** A block, or snappy-java's stream of blocks, which is what Java's producers write. */
export function snappyDecompress(input: Buffer): Buffer {
  if (!input.subarray(0, XERIAL_MAGIC.length).equals(XERIAL_MAGIC)) return snappyBlock(input);
  const blocks: Buffer[] = [];
  for (let at = XERIAL_HEADER_BYTES; at < input.length; ) {
    if (at + 4 > input.length) throw damaged("Snappy", "it ends within a length");
    const length = input.readUInt32BE(at);
    if (at + 4 + length > input.length) throw damaged("Snappy", "it ends within a block");
    blocks.push(snappyBlock(input.subarray(at + 4, at + 4 + length)));
    at += 4 + length;
  }
  return Buffer.concat(blocks);
}

/** https://github.com/google/snappy/blob/main/format_description.txt */
function snappyBlock(input: Buffer): Buffer {
  let at = 0;
  let length = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = input[at++];
    if (byte === undefined || shift > 28) throw damaged("Snappy", "its length is cut short");
    length += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) break;
  }
  const output = new Output("Snappy", length);
  while (at < input.length) {
    const tag = input[at++]!;
    const kind = tag & 3;
    if (kind === 0) {
      let size = (tag >>> 2) + 1;
      if (size > 60) {
        const bytes = size - 60;
        size = littleEndian(input, at, bytes) + 1;
        at += bytes;
      }
      output.literal(input, at, size);
      at += size;
    } else if (kind === 1) {
      output.copy(((tag >>> 5) << 8) | littleEndian(input, at, 1), ((tag >>> 2) & 7) + 4);
      at += 1;
    } else {
      const bytes = kind === 2 ? 2 : 4;
      output.copy(littleEndian(input, at, bytes), (tag >>> 2) + 1);
      at += bytes;
    }
  }
  return output.whole(length);
}

const LZ4_MAGIC = 0x184d2204;

/** Frames: https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md; checksums are not read. */
export function lz4Decompress(input: Buffer): Buffer {
  if (input.length < 7 || input.readUInt32LE(0) !== LZ4_MAGIC) {
    throw damaged("LZ4", "it does not begin like a frame");
  }
  const flags = input[4]!;
  const hasBlockSum = (flags & 0x10) !== 0;
  let at = 7 + ((flags & 0x08) === 0 ? 0 : 8) + ((flags & 0x01) === 0 ? 0 : 4);
  const output = new Output("LZ4", Math.min(OUTPUT_BYTES_MAX, input.length * 4));
  for (;;) {
    if (at + 4 > input.length) throw damaged("LZ4", "it ends within a length");
    const size = input.readUInt32LE(at);
    at += 4;
    // The end mark.
    if (size === 0) return output.whole(null);
    const bytes = size & 0x7fffffff;
    if (at + bytes > input.length) throw damaged("LZ4", "it ends within a block");
    // Its highest bit: the block is not compressed.
    if (size >= 0x80000000) output.literal(input, at, bytes);
    else lz4Block(input.subarray(at, at + bytes), output);
    at += bytes + (hasBlockSum ? 4 : 0);
  }
}

/** https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md */
function lz4Block(input: Buffer, output: Output): void {
  let at = 0;
  const more = (start: number): number => {
    let length = start;
    if (start !== 15) return length;
    for (;;) {
      const byte = input[at++];
      if (byte === undefined) throw damaged("LZ4", "it ends within a length");
      length += byte;
      if (byte !== 255) return length;
    }
  };
  while (at < input.length) {
    const token = input[at++]!;
    const literals = more(token >>> 4);
    output.literal(input, at, literals);
    at += literals;
    // The last sequence has no copy.
    if (at >= input.length) return;
    const offset = littleEndian(input, at, 2);
    at += 2;
    output.copy(offset, more(token & 15) + 4);
  }
}

/** What is written so far, which later parts are copied from; grows up to its bound. */
class Output {
  readonly #codec: string;
  #bytes: Buffer;
  #used = 0;

  constructor(codec: string, expectedBytes: number) {
    this.#codec = codec;
    if (expectedBytes > OUTPUT_BYTES_MAX) throw this.#tooLarge();
    this.#bytes = Buffer.allocUnsafe(expectedBytes);
  }

  literal(input: Buffer, at: number, length: number): void {
    if (at + length > input.length) throw damaged(this.#codec, "it ends within a literal");
    this.#reserve(length);
    input.copy(this.#bytes, this.#used, at, at + length);
    this.#used += length;
  }

  /** From `offset` bytes back; the two may overlap, which repeats. */
  copy(offset: number, length: number): void {
    if (offset === 0 || offset > this.#used) throw damaged(this.#codec, "a copy has no source");
    this.#reserve(length);
    const from = this.#used - offset;
    if (offset >= length) this.#bytes.copy(this.#bytes, this.#used, from, from + length);
    else for (let i = 0; i < length; i++) this.#bytes[this.#used + i] = this.#bytes[from + i]!;
    this.#used += length;
  }

  whole(expectedBytes: number | null): Buffer {
    if (expectedBytes !== null && this.#used !== expectedBytes) {
      throw damaged(this.#codec, `it holds ${this.#used} bytes and says ${expectedBytes}`);
    }
    return this.#bytes.subarray(0, this.#used);
  }

  #reserve(length: number): void {
    const needed = this.#used + length;
    if (needed <= this.#bytes.length) return;
    if (needed > OUTPUT_BYTES_MAX) throw this.#tooLarge();
    const larger = Buffer.allocUnsafe(Math.min(OUTPUT_BYTES_MAX, Math.max(needed * 2, 4096)));
    this.#bytes.copy(larger, 0, 0, this.#used);
    this.#bytes = larger;
  }

  #tooLarge(): MillpondError {
    const limit = `over ${OUTPUT_BYTES_MAX} bytes; send smaller batches`;
    return new MillpondError("LIMIT", `a ${this.#codec} batch of Kafka's unpacks to ${limit}`);
  }
}

function littleEndian(input: Buffer, at: number, bytes: number): number {
  if (at + bytes > input.length) throw damaged("compressed", "it ends within a number");
  return input.readUIntLE(at, bytes);
}

/** Node has it from 22.15 on. */
export function zstdDecompress(input: Buffer): Buffer {
  const decompress: unknown = Reflect.get(zlib, "zstdDecompressSync");
  if (typeof decompress !== "function") {
    throw new MillpondError(
      "INPUT",
      `a topic is compressed by Zstandard, which Node ${process.versions.node} cannot read: use ` +
        "Node 22.15 or later, or set the topic's compression.type to lz4",
    );
  }
  const output: unknown = decompress(input, { maxOutputLength: OUTPUT_BYTES_MAX });
  if (Buffer.isBuffer(output)) return output;
  throw damaged("Zstandard", "it unpacks to no bytes");
}

function damaged(codec: string, found: string): MillpondError {
  return new MillpondError(
    "INPUT",
    `a ${codec} batch of Kafka's cannot be unpacked: ${found}; send it again, or move past it`,
  );
}
