/**
 * Where strings go that are not in the slice as they are (escaped ones, defaults). Their addresses
 * continue after the slice's last byte, so that a column can hold both kinds in one buffer.
 */
export class TextArea {
  /** The appended bytes; position i here has the address `base + i`. */
  bytes: Buffer = Buffer.alloc(0);
  used = 0;
  base = 0;

  reset(base: number): void {
    this.base = base;
    this.used = 0;
  }

  /** Append; returns where it starts in `bytes`. It ends at `used`. */
  append(text: string): number {
    const start = this.used;
    const end = start + Buffer.byteLength(text);
    if (end > this.bytes.length) {
      const grown = Buffer.alloc(Math.max(end, 2 * this.bytes.length, 4096));
      this.bytes.copy(grown, 0, 0, start);
      this.bytes = grown;
    }
    this.bytes.write(text, start);
    this.used = end;
    return start;
  }

  /** One buffer for all addresses: the slice's own if nothing was appended. */
  join(sliceBytes: Uint8Array): Uint8Array {
    if (this.used === 0) return sliceBytes;
    const joined = new Uint8Array(this.base + this.used);
    joined.set(sliceBytes.subarray(0, this.base));
    joined.set(this.bytes.subarray(0, this.used), this.base);
    return joined;
  }
}
