/**
 * Tumbling and sliding windows of one partition. An event is stored once, in its pane of
 * gcd(size, every); a closing window merges its panes and leaves as a partial.
 */
import type { WindowNode } from "../define/definition.js";
import { type Accumulator, acceptedRoom, noneAccepted } from "./accumulate.js";
import { ByteReader, ByteWriter } from "./codec.js";
import type { GroupPlan } from "./group-plan.js";
import { GroupStore } from "./group-store.js";
import {
  DUPLICATE,
  type LateSink,
  noCounts,
  type Partial,
  type TableInput,
  UNCHECKABLE,
} from "./table-input.js";

interface Pane {
  readonly start: number;
  readonly slots: number[];
}

export class WindowOperator {
  readonly counters = noCounts();
  store: GroupStore;
  private readonly sizeMs: number;
  private readonly everyMs: number;
  private readonly offsetMs: number;
  private readonly paneMs: number;
  private readonly plan: GroupPlan;
  private readonly accumulator: Accumulator;
  private panes = new Map<number, Pane>();
  private readonly accepted = noneAccepted();
  private watermarksOf = new Float64Array(0);
  /** Windows that end at or before it are closed and take nothing more. */
  private closedThrough = Number.NEGATIVE_INFINITY;
  /** Earliest end of a window that holds something and is not closed. */
  private nextClose = Number.POSITIVE_INFINITY;
  private closed: Partial[] = [];
  private readonly writer = new ByteWriter(1 << 16);

  constructor(
    window: Extract<WindowNode, { kind: "sliding" }>,
    plan: GroupPlan,
    accumulator: Accumulator,
  ) {
    this.sizeMs = window.sizeMs;
    this.everyMs = window.everyMs;
    this.offsetMs = window.offsetMs;
    this.paneMs = gcd(window.sizeMs, window.everyMs);
    this.plan = plan;
    this.accumulator = accumulator;
    this.store = new GroupStore(plan);
  }

  /** Panes with something in them: for tumbling windows, the open windows. */
  get openWindows(): number {
    return this.panes.size;
  }

  process(input: TableInput, late: LateSink): void {
    this.accept(input, late);
    const { accepted } = this;
    const codes = this.accumulator.begin(input.batch, accepted, this.store);
    const overlapping = this.paneMs < this.sizeMs;
    let folded = 0;
    let pane: Pane | null = null;
    for (let i = 0; i < accepted.count; i++) {
      const watermark = this.watermarksOf[i]!;
      if (overlapping && watermark > this.closedThrough) {
        // A later event of this slice may still enter a pane of the window that closes here.
        if (watermark >= this.nextClose) {
          this.accumulator.fold(this.store, accepted, folded, i);
          folded = i;
          this.close(watermark);
          pane = null;
        } else this.closedThrough = watermark;
      }
      const start = this.align(accepted.times[i]!, this.paneMs);
      if (pane === null || pane.start !== start) pane = this.paneAt(start);
      const row = accepted.rows[i]!;
      let slot = this.store.find(start, codes, row);
      if (slot < 0) {
        slot = this.store.insert(start, codes, row);
        pane.slots.push(slot);
      }
      accepted.slots[i] = slot;
    }
    this.accumulator.fold(this.store, accepted, folded, accepted.count);
  }

  /** Closes what the watermark has passed and hands over the partials since the last call. */
  advance(watermark: number): Partial[] {
    if (watermark >= this.nextClose) this.close(watermark);
    else if (watermark > this.closedThrough) this.closedThrough = watermark;
    const { closed } = this;
    this.closed = [];
    return closed;
  }

  /** Open windows as they stand, without closing them. */
  snapshot(): Partial[] {
    return this.openStarts().map((start) => this.partial(start, true));
  }

  /** After the store was restored from a checkpoint. */
  restored(watermark: number): void {
    this.panes = new Map();
    for (const slot of this.store.liveSlots()) {
      const start = this.store.panes[slot]!;
      const pane = this.panes.get(start) ?? { start, slots: [] };
      pane.slots.push(slot);
      this.panes.set(start, pane);
    }
    this.closedThrough = watermark;
    this.nextClose = this.earliestEnd();
  }

  compact(): void {
    if (!this.store.worthCompacting) return;
    this.store = this.store.compacted(
      () => new ByteWriter(1 << 16),
      (bytes) => new ByteReader(bytes),
    );
    this.restored(this.closedThrough);
  }

  private accept(input: TableInput, late: LateSink): void {
    const { accepted, counters } = this;
    acceptedRoom(accepted, input.count);
    if (this.watermarksOf.length < input.count) this.watermarksOf = new Float64Array(input.count);
    counters.events += input.count;
    let kept = 0;
    for (let i = 0; i < input.count; i++) {
      const row = input.rows[i]!;
      const event = input.eventOf === null ? row : input.eventOf[row]!;
      const verdict = input.verdicts[event]!;
      if (verdict === DUPLICATE) {
        counters.duplicates++;
        continue;
      }
      const time = input.times[event]!;
      const watermark = input.watermarks[event]!;
      const lastEnd = this.align(time, this.everyMs) + this.sizeMs;
      if (verdict === UNCHECKABLE || lastEnd <= watermark) {
        counters.late++;
        late(event);
        continue;
      }
      accepted.rows[kept] = row;
      accepted.times[kept] = time;
      this.watermarksOf[kept++] = watermark;
    }
    accepted.count = kept;
    counters.counted += kept;
  }

  private align(time: number, step: number): number {
    return Math.floor((time - this.offsetMs) / step) * step + this.offsetMs;
  }

  private paneAt(start: number): Pane {
    let pane = this.panes.get(start);
    if (pane === undefined) {
      pane = { start, slots: [] };
      this.panes.set(start, pane);
      this.nextClose = Math.min(this.nextClose, this.firstEnd(start));
    }
    return pane;
  }

  /** Earliest end, after what is closed, of a window that holds the pane. */
  private firstEnd(paneStart: number): number {
    const earliest = this.firstWindow(paneStart) + this.sizeMs;
    if (earliest > this.closedThrough) return earliest;
    const steps = Math.floor((this.closedThrough - earliest) / this.everyMs) + 1;
    return earliest + steps * this.everyMs;
  }

  /** Start of the earliest window that holds the pane. */
  private firstWindow(paneStart: number): number {
    const bound = paneStart + this.paneMs - this.sizeMs - this.offsetMs;
    return Math.ceil(bound / this.everyMs) * this.everyMs + this.offsetMs;
  }

  private earliestEnd(): number {
    let earliest = Number.POSITIVE_INFINITY;
    for (const start of this.panes.keys()) {
      const end = this.firstEnd(start);
      if (end <= this.align(start, this.everyMs) + this.sizeMs) earliest = Math.min(earliest, end);
    }
    return earliest;
  }

  private close(watermark: number): void {
    const starts = new Set<number>();
    for (const start of this.panes.keys()) {
      const last = Math.min(this.align(start, this.everyMs), watermark - this.sizeMs);
      for (let s = this.firstEnd(start) - this.sizeMs; s <= last; s += this.everyMs) starts.add(s);
    }
    for (const start of [...starts].sort((a, b) => a - b)) {
      this.closed.push(this.partial(start, false));
    }
    for (const pane of this.panes.values()) {
      if (this.align(pane.start, this.everyMs) + this.sizeMs > watermark) continue;
      for (const slot of pane.slots) this.store.remove(slot);
      this.panes.delete(pane.start);
    }
    this.closedThrough = watermark;
    this.nextClose = this.earliestEnd();
  }

  /** Windows that hold something and are not closed. */
  private openStarts(): number[] {
    const starts = new Set<number>();
    for (const start of this.panes.keys()) {
      const last = this.align(start, this.everyMs);
      for (let s = this.firstEnd(start) - this.sizeMs; s <= last; s += this.everyMs) starts.add(s);
    }
    return [...starts].sort((a, b) => a - b);
  }

  private partial(start: number, open: boolean): Partial {
    let { store } = this;
    let slots: number[] = [];
    if (this.paneMs === this.sizeMs) slots = this.panes.get(start)!.slots;
    else {
      store = new GroupStore(this.plan, this.store.dictionaries);
      for (let at = start; at < start + this.sizeMs; at += this.paneMs) {
        const pane = this.panes.get(at);
        if (pane !== undefined) store.absorb(this.store, pane.slots, 0);
      }
      slots = store.liveSlots();
    }
    this.writer.reset();
    store.writeGroups(this.writer, Int32Array.from(slots), slots.length);
    return { kind: "window", start, open, groups: slots.length, bytes: this.writer.finish() };
  }
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
