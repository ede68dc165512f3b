/**
 * The ids seen in one partition, each with the greatest event time it was seen with. Ids are kept
 * as 128-bit hashes in segments, one a slice; a segment leaves whole once no id in it can matter,
 * so that expiry never rewrites anything.
 */
import type { ByteReader, ByteWriter } from "./codec.js";
import { hash128, hashWords } from "./hash128.js";

interface Segment {
  /** Entry i of the segment is `first + i`. */
  readonly first: number;
  readonly count: number;
  readonly timeMax: number;
}

export class SeenIds {
  private words = new Int32Array(4 * 64);
  private times = new Float64Array(64);
  private length = 0;
  private index = new Int32Array(128);
  private segments: Segment[] = [];
  private openFrom = 0;
  private openTimeMax = Number.NEGATIVE_INFINITY;
  private savedSegments = 0;
  /** No segment expires before the threshold passes it. */
  private earliestExpiry = Number.POSITIVE_INFINITY;

  /** Ids that are remembered. */
  get size(): number {
    return this.length;
  }

  /**
   * True if the id `bytes[start, end)` was seen with an event time not below `threshold`
   * (epoch ms); remembers this sighting either way.
   */
  seen(bytes: Uint8Array, start: number, end: number, timeMs: number, threshold: number): boolean {
    hash128(bytes, start, end);
    const mask = this.index.length - 1;
    let at = hashWords[0]! & mask;
    for (;;) {
      const found = this.index[at]!;
      if (found === 0) break;
      if (this.sameId(found - 1)) {
        const before = this.times[found - 1]!;
        if (timeMs > before) this.index[at] = this.append(timeMs) + 1;
        return before >= threshold;
      }
      at = (at + 1) & mask;
    }
    this.index[at] = this.append(timeMs) + 1;
    if (this.length * 2 > this.index.length) this.rehash(this.index.length * 2);
    return false;
  }

  /** Ends the slice's segment and drops those whose ids are all older than `threshold`. */
  endSlice(threshold: number): void {
    this.closeSegment();
    if (threshold <= this.earliestExpiry) return;
    const kept = this.segments.filter((segment) => segment.timeMax >= threshold);
    this.earliestExpiry = kept.reduce(
      (earliest, { timeMax }) => Math.min(earliest, timeMax),
      Number.POSITIVE_INFINITY,
    );
    if (kept.length === this.segments.length) return;
    // Compacting costs one copy of what stays: wait until half would go.
    const keptCount = kept.reduce((sum, segment) => sum + segment.count, 0);
    if (keptCount * 2 > this.length && this.length > 1024) return;
    const saved = this.segments.slice(0, this.savedSegments);
    this.savedSegments = saved.filter((segment) => segment.timeMax >= threshold).length;
    this.keep(kept);
  }

  /**
   * Segments since the last save, or all that are kept. Dropping needs no record: an id that
   * expired makes no event a duplicate, and the next base leaves it out.
   */
  write(writer: ByteWriter, all: boolean): void {
    const segments = all ? this.segments : this.segments.slice(this.savedSegments);
    writer.u32(segments.length);
    for (const { first, count, timeMax } of segments) {
      writer.f64(timeMax);
      writer.u32(count);
      writer.column(this.times.subarray(first, first + count), count);
      const bytes = this.words.subarray(first * 4, (first + count) * 4);
      writer.raw(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    }
  }

  saved(): void {
    this.savedSegments = this.segments.length;
  }

  read(reader: ByteReader): void {
    const segments = reader.u32();
    for (let s = 0; s < segments; s++) {
      const timeMax = reader.f64();
      const count = reader.u32();
      const times = reader.column(count);
      const raw = reader.raw(count * 16).slice();
      const words = new Int32Array(raw.buffer, 0, count * 4);
      for (let i = 0; i < count; i++) {
        for (let w = 0; w < 4; w++) hashWords[w] = words[4 * i + w]!;
        this.append(times[i]!);
      }
      this.openTimeMax = timeMax;
      this.closeSegment();
    }
  }

  restored(): void {
    let size = 128;
    while (size < this.length * 2) size *= 2;
    this.rehash(size);
    this.saved();
  }

  private closeSegment(): void {
    const count = this.length - this.openFrom;
    if (count > 0) {
      this.segments.push({ first: this.openFrom, count, timeMax: this.openTimeMax });
      this.earliestExpiry = Math.min(this.earliestExpiry, this.openTimeMax);
    }
    this.openFrom = this.length;
    this.openTimeMax = Number.NEGATIVE_INFINITY;
  }

  private sameId(entry: number): boolean {
    const at = entry * 4;
    return (
      this.words[at] === hashWords[0] &&
      this.words[at + 1] === hashWords[1] &&
      this.words[at + 2] === hashWords[2] &&
      this.words[at + 3] === hashWords[3]
    );
  }

  /** Remembers `hashWords` with a time; returns the entry's number. */
  private append(timeMs: number): number {
    if (this.length >= this.times.length) {
      const times = new Float64Array(this.times.length * 2);
      times.set(this.times);
      this.times = times;
      const words = new Int32Array(this.words.length * 2);
      words.set(this.words);
      this.words = words;
    }
    const entry = this.length++;
    this.words.set(hashWords, entry * 4);
    this.times[entry] = timeMs;
    if (timeMs > this.openTimeMax) this.openTimeMax = timeMs;
    return entry;
  }

  private keep(segments: Segment[]): void {
    const count = segments.reduce((sum, segment) => sum + segment.count, 0);
    const words = new Int32Array(4 * Math.max(64, count));
    const times = new Float64Array(Math.max(64, count));
    const next: Segment[] = [];
    let length = 0;
    for (const segment of segments) {
      const from = segment.first;
      words.set(this.words.subarray(from * 4, (from + segment.count) * 4), length * 4);
      times.set(this.times.subarray(from, from + segment.count), length);
      next.push({ ...segment, first: length });
      length += segment.count;
    }
    this.words = words;
    this.times = times;
    this.length = length;
    this.openFrom = length;
    this.segments = next;
    let size = 128;
    while (size < length * 4) size *= 2;
    this.rehash(size);
  }

  private rehash(size: number): void {
    this.index = new Int32Array(size);
    const mask = size - 1;
    for (let entry = 0; entry < this.length; entry++) {
      let at = this.words[entry * 4]! & mask;
      let taken = false;
      while (this.index[at] !== 0) {
        const other = this.index[at]! - 1;
        if (this.equalEntries(other, entry)) {
          if (this.times[entry]! > this.times[other]!) this.index[at] = entry + 1;
          taken = true;
          break;
        }
        at = (at + 1) & mask;
      }
      if (!taken) this.index[at] = entry + 1;
    }
  }

  private equalEntries(a: number, b: number): boolean {
    for (let w = 0; w < 4; w++) if (this.words[4 * a + w] !== this.words[4 * b + w]) return false;
    return true;
  }
}
