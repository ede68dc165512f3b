/**
 * A replay: records of an input become due as their event times pass on a clock that runs faster
 * or slower than the wall's. What is read is the same, in the same order; only when differs.
 */
import type { Decoder } from "../engine/decode/decoder.js";
import type { Slice } from "../engine/slice.js";
import type { PartitionReader, PartitionSource, SourcePosition } from "./source.js";

/** Nobody waits longer for a gap in the data, or for an event whose clock was wrong. */
const PAUSE_MS_MAX = 60_000;

/** Event time that passes `speed` times as fast as `nowMs`, from the first one asked for on. */
export class ReplayClock {
  readonly #speed: number;
  readonly #nowMs: () => number;
  /** The event time at `nowMs` 0. */
  #originMs: number | null = null;

  constructor(speed: number, nowMs: () => number = () => performance.now()) {
    this.#speed = speed;
    this.#nowMs = nowMs;
  }

  /** How long until an event time has come, in ms of `nowMs`; 0 when it has. */
  waitMs(eventMs: number): number {
    if (!Number.isFinite(eventMs)) return 0;
    const passedMs = this.#nowMs() * this.#speed;
    this.#originMs ??= eventMs - passedMs;
    return Math.max(0, (eventMs - this.#originMs - passedMs) / this.#speed);
  }

  /** The same, and a longer pause than any should be is cut short. */
  boundedWaitMs(eventMs: number): number {
    const waitMs = this.waitMs(eventMs);
    if (waitMs <= PAUSE_MS_MAX) return waitMs;
    this.#originMs = (this.#originMs ?? 0) + (waitMs - PAUSE_MS_MAX) * this.#speed;
    return PAUSE_MS_MAX;
  }
}

/** `source`, whose readers give what is due and can tell when more is. */
export function pacedSource(
  source: PartitionSource,
  clock: ReplayClock,
  decoder: Decoder,
): PartitionSource {
  const { topic, partition, label } = source;
  return {
    topic,
    partition,
    label,
    async open(nextOffset, position) {
      const inner = await source.open(nextOffset, position);
      return new PacedReader(inner, clock, decoder);
    },
  };
}

/** One record, and where its reader stands after it. */
interface Waiting {
  readonly slice: Slice;
  readonly position: SourcePosition;
  /** The greatest event time up to it; -Infinity before the first event. */
  readonly eventMs: number;
}

class PacedReader implements PartitionReader {
  readonly topic: string;
  readonly partition: number;
  readonly label: string;
  readonly bytesTotal: number;
  readonly #inner: PartitionReader;
  readonly #clock: ReplayClock;
  readonly #decoder: Decoder;
  #position: SourcePosition;
  #waiting: Waiting | null = null;
  #maxEventMs = Number.NEGATIVE_INFINITY;

  constructor(inner: PartitionReader, clock: ReplayClock, decoder: Decoder) {
    this.topic = inner.topic;
    this.partition = inner.partition;
    this.label = inner.label;
    this.bytesTotal = inner.bytesTotal;
    this.#inner = inner;
    this.#clock = clock;
    this.#decoder = decoder;
    this.#position = inner.position();
  }

  get bytesRead(): number {
    return this.#inner.bytesRead;
  }

  get warnings(): readonly string[] {
    const { warnings } = this.#inner as { readonly warnings?: readonly string[] };
    return warnings ?? [];
  }

  position(): SourcePosition {
    return this.#position;
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  /** An event that is out of order is due with the one before it: nothing waits for it. */
  async nextEventMs(): Promise<number> {
    this.#waiting ??= await this.#readOne();
    return this.#waiting?.eventMs ?? Number.NEGATIVE_INFINITY;
  }

  async read(recordsMax: number): Promise<Slice | null> {
    const due: Slice[] = [];
    while (due.length < recordsMax) {
      const waitMs = this.#clock.waitMs(await this.nextEventMs());
      // The first is taken in any case: null would mean the end, and timers may be a little early.
      if (this.#waiting === null || (waitMs > 0 && due.length > 0)) break;
      due.push(this.#waiting.slice);
      this.#position = this.#waiting.position;
      this.#waiting = null;
    }
    return due.length === 0 ? null : joined(due);
  }

  async #readOne(): Promise<Waiting | null> {
    const slice = await this.#inner.read(1);
    if (slice === null) return null;
    const { rowCount, eventTimes } = this.#decoder.decode(slice);
    if (rowCount > 0) this.#maxEventMs = Math.max(this.#maxEventMs, eventTimes[0]!);
    // The reader uses its buffers again.
    const copy = joined([slice]);
    return { slice: copy, position: this.#inner.position(), eventMs: this.#maxEventMs };
  }
}

/** Slices of one record each as one slice, in buffers of its own. */
function joined(slices: readonly Slice[]): Slice {
  const values = slices.map(({ bytes, starts, ends }) => ({
    bytes,
    start: starts[0]!,
    end: ends[0]!,
  }));
  const keys = slices.map(({ keys: found }) => ({
    bytes: found?.bytes ?? new Uint8Array(),
    start: found?.starts[0] ?? -1,
    end: found?.ends[0] ?? -1,
  }));
  const faults = slices.flatMap(({ faults: found }, index) => {
    const fault = found.get(0);
    return fault === undefined ? [] : [[index, fault] as const];
  });
  const { topic, partition } = slices[0]!;
  return {
    topic,
    partition,
    count: slices.length,
    ...packed(values),
    ...(slices.some((slice) => slice.keys !== undefined) ? { keys: packed(keys) } : {}),
    offsets: Float64Array.from(slices, (slice) => slice.offsets[0]!),
    timestamps: Float64Array.from(slices, (slice) => slice.timestamps[0]!),
    faults: new Map(faults),
  };
}

function packed(pieces: readonly { bytes: Uint8Array; start: number; end: number }[]) {
  const starts = new Int32Array(pieces.length);
  const ends = new Int32Array(pieces.length);
  const kept = pieces.map(({ bytes, start, end }) =>
    start < 0 ? new Uint8Array() : bytes.subarray(start, end),
  );
  let at = 0;
  for (const [index, piece] of kept.entries()) {
    starts[index] = pieces[index]!.start < 0 ? -1 : at;
    at += piece.length;
    ends[index] = pieces[index]!.start < 0 ? -1 : at;
  }
  return { bytes: new Uint8Array(Buffer.concat(kept)), starts, ends };
}
