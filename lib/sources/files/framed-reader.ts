/**
 * Records of a text file, cut at newlines that a format's `FindEnd` accepts. The hot path of
 * reading: large blocks into one grow-only buffer, records as positions in it, one await a block.
 */
import { stat } from "node:fs/promises";
import type { Slice } from "../../engine/slice.js";
import { MillpondError } from "../../errors.js";
import type { SourcePosition } from "../source.js";
import { type ByteInput, openByteInput, PlainInput } from "./byte-input.js";
import { ConsumedFingerprint, FINGERPRINT_BYTES } from "./consumed.js";
import type { FileIdentity, FileReader, ReadLimits } from "./file-source.js";
import { RecordArrays } from "./record-arrays.js";

/**
 * Index of the newline that ends the record starting at `from`, or -1 if `bytes` does not hold it
 * yet. `ended` says that nothing follows `bytes`.
 */
export type FindEnd = (bytes: Buffer, from: number, ended: boolean) => number;

const LF = 10;
const CR = 13;

export class FramedReader implements FileReader {
  readonly topic: string;
  readonly partition: number;
  readonly label: string;
  readonly bytesTotal: number;
  readonly warnings: string[] = [];
  readonly #path: string;
  readonly #kind: string;
  readonly #findEnd: FindEnd;
  readonly #limits: ReadLimits;
  readonly #records: RecordArrays;
  readonly #input: ByteInput;
  readonly #consumed = new ConsumedFingerprint();
  #buffer: Buffer;
  /** `#buffer[0, #filled)`. */
  #view: Buffer;
  #filled = 0;
  /** The next record starts here. */
  #pos = 0;
  #sliceStart = 0;
  /** Bytes before this index are in the fingerprint. */
  #noted = 0;
  /** Offset in the (decompressed) file of `#buffer[0]`. */
  #base = 0;
  #nextOffset: number;
  #ended = false;
  #unterminated = false;

  private constructor(
    identity: FileIdentity,
    kind: string,
    findEnd: FindEnd,
    limits: ReadLimits,
    file: { input: ByteInput; size: number; mtimeMs: number; nextOffset: number },
  ) {
    this.topic = identity.topic;
    this.partition = identity.partition;
    this.label = identity.label;
    this.bytesTotal = file.size;
    this.#path = identity.path;
    this.#kind = kind;
    this.#findEnd = findEnd;
    this.#limits = limits;
    this.#records = new RecordArrays(Math.floor(file.mtimeMs));
    this.#input = file.input;
    this.#nextOffset = file.nextOffset;
    this.#buffer = Buffer.allocUnsafe(Math.min(limits.blockBytes, limits.lineBytesMax + 1));
    this.#view = this.#buffer.subarray(0, 0);
  }

  /** With `position` null, the file's first record gets offset `nextOffset`. */
  static async open(
    identity: FileIdentity,
    kind: string,
    findEnd: FindEnd,
    limits: ReadLimits,
    nextOffset: number,
    position: SourcePosition | null,
  ): Promise<FramedReader> {
    const { size, mtimeMs } = await stat(identity.path);
    const input = await openByteInput(identity.path);
    const file = { input, size, mtimeMs, nextOffset };
    return FramedReader.over(file, identity, kind, findEnd, limits, position);
  }

  /** Over an open input, wherever its bytes come from; the reader closes it. */
  static async over(
    file: { input: ByteInput; size: number; mtimeMs: number; nextOffset: number },
    identity: FileIdentity,
    kind: string,
    findEnd: FindEnd,
    limits: ReadLimits,
    position: SourcePosition | null,
  ): Promise<FramedReader> {
    const reader = new FramedReader(identity, kind, findEnd, limits, file);
    try {
      if (position === null) await reader.#skipByteOrderMark();
      else await reader.#resume(position);
      return reader;
    } catch (error) {
      await reader.close();
      throw error;
    }
  }

  /** Of those in memory, what was handed out; where they were compressed, in proportion. */
  get bytesRead(): number {
    const inflated = this.#base + this.#filled;
    if (inflated === 0) return 0;
    return Math.floor((this.#input.bytesRead * (this.#base + this.#pos)) / inflated);
  }

  async read(recordsMax: number): Promise<Slice | null> {
    const records = this.#records;
    records.clear();
    this.#sliceStart = this.#pos;
    while (!this.#takeComplete(recordsMax)) {
      if (this.#ended) {
        this.#takeLast();
        break;
      }
      if (this.#filled - this.#pos > this.#limits.lineBytesMax) {
        // It needs the buffer for itself, so records before it go first.
        if (records.count === 0) await this.#takeOversize();
        break;
      }
      if (records.count > 0 && this.#filled - this.#sliceStart >= this.#limits.sliceBytesMax) break;
      await this.#fill();
    }
    this.#note();
    if (records.count === 0) return null;
    const bytes = this.#buffer.subarray(this.#sliceStart, this.#pos);
    const slice = records.slice(this.topic, this.partition, bytes, this.#nextOffset);
    this.#nextOffset += records.count;
    return slice;
  }

  position(): SourcePosition {
    return {
      kind: this.#kind,
      byteOffset: this.#base + this.#pos,
      headHash: this.#consumed.headHash(),
      tailHash: this.#consumed.tailHash(),
      unterminated: this.#unterminated,
    };
  }

  close(): Promise<void> {
    return this.#input.close();
  }

  /** Take the records that are in memory whole; true when the slice is full. */
  #takeComplete(recordsMax: number): boolean {
    const records = this.#records;
    const view = this.#view;
    while (records.count < recordsMax) {
      const end = this.#findEnd(view, this.#pos, this.#ended);
      if (end === -1) return false;
      const start = this.#pos;
      this.#pos = end + 1;
      this.#unterminated = false;
      if (isBlank(view, start, end)) {
        if (records.count > 0) continue;
        this.#note();
        this.#sliceStart = this.#pos;
        continue;
      }
      const textEnd = view[end - 1] === CR ? end - 1 : end;
      records.add(start - this.#sliceStart, textEnd - this.#sliceStart);
      if (this.#pos - this.#sliceStart >= this.#limits.sliceBytesMax) return true;
    }
    return true;
  }

  /** What stands after the last newline. */
  #takeLast(): void {
    const start = this.#pos;
    const end = this.#filled;
    this.#pos = end;
    const damage = this.#input.damage;
    if (damage !== null && this.warnings.length === 0) {
      this.warnings.push(`${this.#path} ends inside its gzip stream (${damage})`);
    }
    if (isBlank(this.#view, start, end)) return;
    const textEnd = this.#view[end - 1] === CR ? end - 1 : end;
    this.#unterminated = true;
    const from = start - this.#sliceStart;
    const to = textEnd - this.#sliceStart;
    if (damage === null) {
      this.#records.add(from, to);
    } else {
      const detail = `the file ends inside its gzip stream (${damage})`;
      this.#records.addFaulty(from, to, { reason: "malformed", detail });
    }
  }

  /** A line above the limit: keep its beginning, read past the rest. */
  async #takeOversize(): Promise<void> {
    const start = this.#pos;
    const keptEnd = start + Math.min(this.#limits.oversizeKeptBytes, this.#filled - start);
    const startOffset = this.#base + start;
    let length = this.#filled - start;
    this.#consumed.push(this.#buffer, this.#noted, this.#filled);
    let newline = -1;
    while (newline === -1) {
      const read = await this.#input.read(this.#buffer, keptEnd, this.#buffer.length);
      this.#setFilled(keptEnd + read);
      newline = this.#view.indexOf(LF, keptEnd);
      this.#pos = newline === -1 ? this.#filled : newline + 1;
      this.#consumed.push(this.#buffer, keptEnd, this.#pos);
      length += (newline === -1 ? this.#filled : newline) - keptEnd;
      if (read === 0) {
        this.#ended = true;
        break;
      }
    }
    this.#unterminated = newline === -1;
    this.#noted = this.#pos;
    this.#base = startOffset + length + (newline === -1 ? 0 : 1) - this.#pos;
    const limit = this.#limits.lineBytesMax;
    const detail = `a line of ${length} bytes; the limit is ${limit} bytes`;
    const from = start - this.#sliceStart;
    this.#records.addFaulty(from, keptEnd - this.#sliceStart, { reason: "oversize", detail });
  }

  /** Read more, after making room: bytes before the slice are dropped, then the buffer grows. */
  async #fill(): Promise<void> {
    const retained = this.#filled - this.#sliceStart;
    if (this.#sliceStart > 0) {
      this.#note();
      this.#buffer.copyWithin(0, this.#sliceStart, this.#filled);
      this.#base += this.#sliceStart;
      this.#pos -= this.#sliceStart;
      this.#noted -= this.#sliceStart;
      this.#sliceStart = 0;
      this.#filled = retained;
    }
    const capacityMax = Math.max(this.#limits.lineBytesMax + 1, this.#limits.sliceBytesMax);
    if (retained > this.#buffer.length / 2 && this.#buffer.length < capacityMax) {
      const grown = Buffer.allocUnsafe(Math.min(this.#buffer.length * 2, capacityMax));
      this.#buffer.copy(grown, 0, 0, retained);
      this.#buffer = grown;
    }
    // Never see more than a line may have: so what is oversize does not depend on the buffer.
    const readTo = Math.min(this.#buffer.length, this.#pos + this.#limits.lineBytesMax + 1);
    const read = await this.#input.read(this.#buffer, retained, readTo);
    if (retained + read < readTo) this.#ended = true;
    this.#setFilled(retained + read);
  }

  #setFilled(filled: number): void {
    this.#filled = filled;
    this.#view = this.#buffer.subarray(0, filled);
  }

  #note(): void {
    if (this.#noted < this.#pos) this.#consumed.push(this.#buffer, this.#noted, this.#pos);
    this.#noted = this.#pos;
  }

  async #skipByteOrderMark(): Promise<void> {
    await this.#fill();
    const view = this.#view;
    if (view[0] === 0xef && view[1] === 0xbb && view[2] === 0xbf) this.#pos = 3;
    this.#note();
  }

  async #resume(position: SourcePosition): Promise<void> {
    const { kind, byteOffset, headHash, tailHash, unterminated } = position;
    if (kind !== this.#kind || typeof byteOffset !== "number") {
      throw this.#changed(
        `its position was stored as "${kind}", and it is now read as ${this.#kind}`,
      );
    }
    const reached = await this.#skipTo(byteOffset);
    if (reached < byteOffset) {
      throw this.#changed(`${byteOffset} bytes of it were processed, and it now has ${reached}`);
    }
    if (this.#consumed.headHash() !== headHash || this.#consumed.tailHash() !== tailHash) {
      throw this.#changed(`the ${byteOffset} bytes already processed are not the same any more`);
    }
    this.#base = byteOffset;
    this.#unterminated = unterminated === true;
    await this.#fill();
    const next = this.#view[0] === CR ? this.#view[1] : this.#view[0];
    if (unterminated === true && this.#filled > 0 && next !== LF) {
      throw this.#changed(
        `its last line had no newline and was processed as it stood; now that line goes on`,
      );
    }
  }

  /** Move the input to `byteOffset` and fingerprint what stands before; returns how far it came. */
  async #skipTo(byteOffset: number): Promise<number> {
    if (this.#input instanceof PlainInput) {
      if (this.bytesTotal < byteOffset) return this.bytesTotal;
      const edge = Buffer.alloc(Math.min(FINGERPRINT_BYTES, byteOffset));
      for (const at of new Set([0, byteOffset - edge.length])) {
        this.#input.bytesRead = at;
        await this.#input.read(edge, 0, edge.length);
        this.#consumed.push(edge, 0, edge.length);
      }
      return byteOffset;
    }
    let at = 0;
    while (at < byteOffset) {
      const length = Math.min(this.#buffer.length, byteOffset - at);
      const read = await this.#input.read(this.#buffer, 0, length);
      this.#consumed.push(this.#buffer, 0, read);
      at += read;
      if (read < length) break;
    }
    return at;
  }

  #changed(what: string): MillpondError {
    return new MillpondError(
      "INPUT",
      `${this.#path} changed since the last run: ${what}. Files may only grow by whole lines. ` +
        `Restore the file, or start over with a new --out directory.`,
    );
  }
}

/** Nothing but spaces, tabs and carriage returns: not a record. */
function isBlank(bytes: Buffer, start: number, end: number): boolean {
  for (let i = start; i < end; i++) {
    const byte = bytes[i];
    if (byte !== 32 && byte !== 9 && byte !== CR) return false;
  }
  return true;
}
