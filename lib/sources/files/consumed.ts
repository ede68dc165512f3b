/** Fingerprint of the bytes a reader has consumed, so that a later run notices if they changed. */
import { createHash } from "node:crypto";

/** How many bytes at each end of what was consumed take part. */
export const FINGERPRINT_BYTES = 4096;

export class ConsumedFingerprint {
  readonly #head = Buffer.alloc(FINGERPRINT_BYTES);
  readonly #tail = Buffer.alloc(FINGERPRINT_BYTES);
  #headLength = 0;
  #tailLength = 0;

  /** `bytes[from, to)` comes next; what is neither head nor tail in the end may be left out. */
  push(bytes: Buffer, from: number, to: number): void {
    if (this.#headLength < FINGERPRINT_BYTES) {
      this.#headLength += bytes.copy(this.#head, this.#headLength, from, to);
    }
    const length = Math.min(to - from, FINGERPRINT_BYTES);
    const kept = Math.min(this.#tailLength, FINGERPRINT_BYTES - length);
    this.#tail.copyWithin(0, this.#tailLength - kept, this.#tailLength);
    bytes.copy(this.#tail, kept, to - length, to);
    this.#tailLength = kept + length;
  }

  headHash(): string {
    return shortHash(this.#head.subarray(0, this.#headLength));
  }

  tailHash(): string {
    return shortHash(this.#tail.subarray(0, this.#tailLength));
  }
}

export function shortHash(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex").slice(0, 32);
}
