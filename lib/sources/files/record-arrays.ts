/** The typed arrays of a slice, filled record by record and reused from slice to slice. */
import type { DeadLetterReason, Slice } from "../../engine/slice.js";

export interface Fault {
  readonly reason: DeadLetterReason;
  readonly detail: string;
}

export class RecordArrays {
  count = 0;
  #starts = new Int32Array(1024);
  #ends = new Int32Array(1024);
  #offsets = new Float64Array(1024);
  #timestamps: Float64Array;
  readonly #faults = new Map<number, Fault>();
  readonly #timestampMs: number;

  constructor(timestampMs: number) {
    this.#timestampMs = timestampMs;
    this.#timestamps = new Float64Array(1024).fill(timestampMs);
  }

  clear(): void {
    this.count = 0;
    this.#faults.clear();
  }

  add(start: number, end: number): void {
    if (this.count === this.#starts.length) this.#grow();
    this.#starts[this.count] = start;
    this.#ends[this.count] = end;
    this.count++;
  }

  addFaulty(start: number, end: number, fault: Fault): void {
    this.#faults.set(this.count, fault);
    this.add(start, end);
  }

  /** The records as a slice whose first one has offset `firstOffset`. */
  slice(topic: string, partition: number, bytes: Uint8Array, firstOffset: number): Slice {
    for (let i = 0; i < this.count; i++) this.#offsets[i] = firstOffset + i;
    return {
      topic,
      partition,
      count: this.count,
      bytes,
      starts: this.#starts,
      ends: this.#ends,
      offsets: this.#offsets,
      timestamps: this.#timestamps,
      faults: this.#faults,
    };
  }

  #grow(): void {
    const length = this.#starts.length * 2;
    const starts = new Int32Array(length);
    const ends = new Int32Array(length);
    starts.set(this.#starts);
    ends.set(this.#ends);
    this.#starts = starts;
    this.#ends = ends;
    this.#offsets = new Float64Array(length);
    this.#timestamps = new Float64Array(length).fill(this.#timestampMs);
  }
}
