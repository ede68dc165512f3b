/**
 * Sequential bytes of one file, plain or gunzipped, in bounded memory. What the bytes mean is left
 * to others.
 */
import { open } from "node:fs/promises";
import { createGunzip, type Gunzip } from "node:zlib";
import { MillpondError } from "../../errors.js";

/** A file by position, as Node's FileHandle is one; fewer bytes than asked for are no end. */
export interface ReadableFile {
  /** 0 bytes at the end. */
  read(
    target: Uint8Array,
    at: number,
    length: number,
    position: number,
  ): Promise<{ readonly bytesRead: number }>;
  close(): Promise<void>;
}

export interface ByteInput {
  /** Bytes of the file read so far (compressed bytes for .gz). */
  readonly bytesRead: number;
  /** Set at the end of an input whose compression is damaged: what is wrong with it. */
  readonly damage: string | null;
  /** Fill `target[from, to)`; fewer bytes than asked for only at the end of the input. */
  read(target: Uint8Array, from: number, to: number): Promise<number>;
  close(): Promise<void>;
}

export class PlainInput implements ByteInput {
  readonly damage = null;
  bytesRead: number;
  readonly #file: ReadableFile;

  constructor(file: ReadableFile, startAt: number) {
    this.#file = file;
    this.bytesRead = startAt;
  }

  async read(target: Uint8Array, from: number, to: number): Promise<number> {
    let at = from;
    while (at < to) {
      const { bytesRead } = await this.#file.read(target, at, to - at, this.bytesRead);
      if (bytesRead === 0) break;
      at += bytesRead;
      this.bytesRead += bytesRead;
    }
    return at - from;
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** Deflate expands at most about 1,032 times, so one write makes at most 34 MB. */
const COMPRESSED_BLOCK_BYTES = 32 * 1024;

/** One gunzip stream, fed by hand so that what came out before an error is not lost. */
class Inflater {
  readonly #gunzip: Gunzip = createGunzip({ chunkSize: 256 * 1024 });
  readonly #out: Buffer[] = [];
  #ended = false;
  #settle: (() => void) | null = null;

  constructor() {
    this.#gunzip.on("data", (chunk: Buffer) => this.#out.push(chunk));
    this.#gunzip.on("error", () => this.#settle?.());
    // Comes early when zero bytes follow the last member: the rest of the file is padding.
    this.#gunzip.on("end", () => {
      this.#ended = true;
      this.#settle?.();
    });
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Output of these compressed bytes (null: of the stream's end), or the error they caused. */
  async feed(compressed: Uint8Array | null): Promise<{ out: Buffer[]; error: Error | null }> {
    await new Promise<void>((resolve) => {
      this.#settle = resolve;
      if (compressed === null) this.#gunzip.end();
      else this.#gunzip.write(compressed, () => resolve());
    });
    while (this.#gunzip.read() !== null);
    return { out: this.#out.splice(0), error: this.#gunzip.errored };
  }

  destroy(): void {
    this.#gunzip.destroy();
  }
}

/** A gzip file of any number of members. Damage ends it; all bytes before that are delivered. */
export class GunzipInput implements ByteInput {
  bytesRead = 0;
  damage: string | null = null;
  readonly #file: ReadableFile;
  readonly #block = Buffer.alloc(COMPRESSED_BLOCK_BYTES);
  #inflater = new Inflater();
  #pending: Buffer[] = [];
  #pendingFrom = 0;
  #ended = false;

  constructor(file: ReadableFile) {
    this.#file = file;
  }

  async read(target: Uint8Array, from: number, to: number): Promise<number> {
    let at = from;
    while (at < to) {
      const chunk = this.#pending[0];
      if (chunk === undefined) {
        if (this.#ended) break;
        await this.#inflateBlock();
        continue;
      }
      const taken = Math.min(to - at, chunk.length - this.#pendingFrom);
      target.set(chunk.subarray(this.#pendingFrom, this.#pendingFrom + taken), at);
      at += taken;
      this.#pendingFrom += taken;
      if (this.#pendingFrom === chunk.length) {
        this.#pending.shift();
        this.#pendingFrom = 0;
      }
    }
    return at - from;
  }

  async close(): Promise<void> {
    this.#inflater.destroy();
    await this.#file.close();
  }

  async #inflateBlock(): Promise<void> {
    const blockAt = this.bytesRead;
    const { bytesRead } = await this.#file.read(this.#block, 0, this.#block.length, blockAt);
    this.bytesRead += bytesRead;
    const compressed = bytesRead === 0 ? null : this.#block.subarray(0, bytesRead);
    if (compressed === null && blockAt === 0) {
      this.#ended = true;
      return;
    }
    const { out, error } = await this.#inflater.feed(compressed);
    this.#ended = compressed === null || error !== null || this.#inflater.ended;
    this.#pending = out;
    if (error === null) return;
    this.damage = error.message;
    if (compressed !== null) {
      this.#pending = await this.#salvage(blockAt, compressed);
    }
  }

  /** zlib drops the output of the very write that fails, so repeat that block byte by byte. */
  async #salvage(blockAt: number, block: Uint8Array): Promise<Buffer[]> {
    this.#inflater.destroy();
    this.#inflater = new Inflater();
    const earlier = Buffer.alloc(COMPRESSED_BLOCK_BYTES);
    for (let at = 0; at < blockAt; ) {
      const length = Math.min(earlier.length, blockAt - at);
      const { bytesRead } = await this.#file.read(earlier, 0, length, at);
      if (bytesRead === 0) {
        throw new MillpondError("INPUT", "A .gz file became shorter while it was being read.");
      }
      await this.#inflater.feed(earlier.subarray(0, bytesRead));
      at += bytesRead;
    }
    const out: Buffer[] = [];
    for (let i = 0; i < block.length; i++) {
      const fed = await this.#inflater.feed(block.subarray(i, i + 1));
      out.push(...fed.out);
      if (fed.error !== null) break;
    }
    return out;
  }
}

/** Open `path` for reading, decompressing if its name ends in .gz. */
export async function openByteInput(path: string): Promise<ByteInput> {
  return byteInputOf(await open(path, "r"), path);
}

/** The bytes of an open file, decompressed if its name ends in .gz; a refused file is closed. */
export async function byteInputOf(file: ReadableFile, path: string): Promise<ByteInput> {
  if (!path.endsWith(".gz")) return new PlainInput(file, 0);
  const magic = Buffer.alloc(2);
  const { bytesRead } = await file.read(magic, 0, 2, 0);
  if (bytesRead === 2 && magic.readUInt16BE(0) !== 0x1f8b) {
    await file.close();
    throw new MillpondError(
      "INPUT",
      `${path} is named .gz but does not start like a gzip file (expected bytes 1f 8b, found ` +
        `${magic.toString("hex")}). Rename it, or compress it with gzip.`,
    );
  }
  return new GunzipInput(file);
}
