/**
 * Tumbling and sliding windows of one partition. An event is stored once, in its pane of
 * gcd(size, every); a closing window merges its panes and leaves as a partial.
 */
import type { WindowNode } from "../define/definition.js";
import { type Accepted, type Accumulator, acceptedRoom, noneAccepted } from "./accumulate.js";
import { type ByteReader, ByteWriter } from "./codec.js";
import { DictionarySet, growInt32 } from "./dictionary.js";
import type { GroupPlan } from "./group-plan.js";
import { GROUPS_MAX, GroupStore, tooManyGroups, worthCompacting } from "./group-store.js";
import {
  DUPLICATE,
  type LateSink,
  noCounts,
  type Partial,
  type TableInput,
  UNCHECKABLE,
} from "./table-input.js";

/**
 * A pane has a store of its own: what an event touches stays small enough for the processor's
 * caches, and a closed pane is dropped whole.
 */
interface Pane {
  readonly start: number;
  readonly store: GroupStore;
  /** Its place among the panes of the run in progress, or -1. */
  ordinal: number;
}

/** Emptied stores that wait for a new pane, and how big one may be to be kept. */
const SPARE_STORES_MAX = 4;
const SPARE_STORE_WORDS_MAX = 1 << 20;

export class WindowOperator {
  readonly counters = noCounts();
  private readonly sizeMs: number;
  private readonly everyMs: number;
  private readonly offsetMs: number;
  private readonly paneMs: number;
  private readonly plan: GroupPlan;
  private readonly accumulator: Accumulator;
  private dictionarySet: DictionarySet;
  private readonly panes = new Map<number, Pane>();
  /** Panes that left since the last save. */
  private removed: number[] = [];
  private spareStores: GroupStore[] = [];
  /** Groups of all panes. */
  private groups = 0;
  private readonly accepted = noneAccepted();
  private watermarksOf = new Float64Array(0);
  /** By accepted position: the ordinal of its pane in the run in progress. */
  private ordinals = new Int32Array(0);
  private runPanes: Pane[] = [];
  private runCounts = new Int32Array(16);
  /** A run that spans panes, reordered pane by pane. */
  private readonly byPane = noneAccepted();
  /** Windows that end at or before it are closed and take nothing more. */
  private closedThrough = Number.NEGATIVE_INFINITY;
  /** Earliest end of a window that holds something and is not closed. */
  private nextClose = Number.POSITIVE_INFINITY;
  private closed: Partial[] = [];
  private readonly writer = new ByteWriter();

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
    this.dictionarySet = new DictionarySet(plan.dictionaryCount);
  }

  /** Panes with something in them: for tumbling windows, the open windows. */
  get openWindows(): number {
    return this.panes.size;
  }

  process(input: TableInput, late: LateSink): void {
    this.accept(input, late);
    const { accepted } = this;
    const codes = this.accumulator.begin(input.batch, accepted, this.dictionarySet.all);
    const overlapping = this.paneMs < this.sizeMs;
    let folded = 0;
    let paneStart = 0;
    let paneEnd = Number.NEGATIVE_INFINITY;
    let ordinal = -1;
    for (let i = 0; i < accepted.count; i++) {
      if (overlapping && this.watermarksOf[i]! > this.closedThrough) {
        // A later event of this slice may still enter a pane of the window that closes here.
        const watermark = this.watermarksOf[i]!;
        if (watermark >= this.nextClose) {
          this.foldRun(codes, folded, i);
          folded = i;
          this.close(watermark);
          paneEnd = Number.NEGATIVE_INFINITY;
        } else this.closedThrough = watermark;
      }
      const time = accepted.times[i]!;
      if (time >= paneEnd || time < paneStart) {
        paneStart = this.align(time, this.paneMs);
        paneEnd = paneStart + this.paneMs;
        ordinal = this.ordinalOf(paneStart);
      }
      this.ordinals[i] = ordinal;
      this.runCounts[ordinal]!++;
    }
    this.foldRun(codes, folded, accepted.count);
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

  /** What changed since the last save, or everything. */
  write(writer: ByteWriter, all: boolean): void {
    if (all) this.compact();
    this.dictionarySet.write(writer, all);
    const removed = Float64Array.from(all ? [] : this.removed);
    writer.u32(removed.length);
    writer.column(removed, removed.length);
    const panes = [...this.panes.values()].filter(({ store }) => all || store.changed);
    writer.u32(panes.length);
    for (const { start, store } of panes) {
      writer.f64(start);
      store.write(writer, all);
    }
  }

  saved(): void {
    this.removed = [];
    this.dictionarySet.saved();
    for (const { store } of this.panes.values()) store.saved();
  }

  /** Applies what `write` wrote; call `restored` after the last one. */
  read(reader: ByteReader): void {
    this.dictionarySet.read(reader);
    for (const start of reader.column(reader.u32())) this.panes.delete(start);
    const count = reader.u32();
    for (let i = 0; i < count; i++) {
      const start = reader.f64();
      let pane = this.panes.get(start);
      if (pane === undefined) {
        pane = { start, store: new GroupStore(this.plan, this.dictionarySet), ordinal: -1 };
        this.panes.set(start, pane);
      }
      pane.store.read(reader);
    }
  }

  restored(watermark: number): void {
    this.groups = 0;
    for (const { store } of this.panes.values()) {
      store.restored();
      this.groups += store.live;
    }
    this.saved();
    this.closedThrough = watermark;
    this.nextClose = this.earliestEnd();
  }

  private compact(): void {
    const panes = [...this.panes.values()];
    const stores = panes.map(({ store }) => store);
    if (!worthCompacting(this.dictionarySet, stores)) return;
    this.dictionarySet = new DictionarySet(this.plan.dictionaryCount);
    for (const { start, store } of panes) {
      const compacted = store.compacted(this.dictionarySet);
      this.panes.set(start, { start, store: compacted, ordinal: -1 });
    }
    // They hold on to the old dictionaries.
    this.spareStores = [];
  }

  private accept(input: TableInput, late: LateSink): void {
    const { accepted, counters } = this;
    acceptedRoom(accepted, input.count);
    if (this.watermarksOf.length < input.count) {
      this.watermarksOf = new Float64Array(input.count);
      this.ordinals = new Int32Array(input.count);
    }
    const { count, rows, eventOf, verdicts, times, watermarks } = input;
    counters.events += count;
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const row = rows[i]!;
      const event = eventOf === null ? row : eventOf[row]!;
      const verdict = verdicts[event]!;
      if (verdict === DUPLICATE) {
        counters.duplicates++;
        continue;
      }
      const time = times[event]!;
      const watermark = watermarks[event]!;
      // At or after the watermark, its last window is surely open.
      const isOpen = time >= watermark || this.align(time, this.everyMs) + this.sizeMs > watermark;
      if (verdict === UNCHECKABLE || !isOpen) {
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

  /** Of the run in progress. */
  private ordinalOf(paneStart: number): number {
    const pane = this.paneAt(paneStart);
    if (pane.ordinal < 0) {
      pane.ordinal = this.runPanes.length;
      this.runPanes.push(pane);
      if (pane.ordinal === this.runCounts.length) this.runCounts = growInt32(this.runCounts, 0);
      this.runCounts[pane.ordinal] = 0;
    }
    return pane.ordinal;
  }

  /** Folds accepted positions [from, to) into the panes that the run gave them. */
  private foldRun(codes: readonly Int32Array[], from: number, to: number): void {
    const { runPanes, runCounts } = this;
    const ordered = runPanes.length <= 1 ? this.accepted : this.reorder(from, to);
    let at = from;
    for (const pane of runPanes) {
      const end = at + runCounts[pane.ordinal]!;
      this.foldPane(pane, codes, ordered, at, end);
      at = end;
      pane.ordinal = -1;
    }
    this.runPanes = [];
  }

  private foldPane(
    { start, store }: Pane,
    codes: readonly Int32Array[],
    accepted: Accepted,
    from: number,
    to: number,
  ): void {
    const before = store.live;
    store.assign(start, codes, accepted.rows, accepted.slots, from, to);
    this.groups += store.live - before;
    if (this.groups > GROUPS_MAX) throw tooManyGroups();
    this.accumulator.fold(store, accepted, from, to);
  }

  /** Positions [from, to) pane by pane; within a pane in log order, in which doubles fold. */
  private reorder(from: number, to: number): Accepted {
    const { accepted, byPane, ordinals } = this;
    acceptedRoom(byPane, to);
    const cursors = new Int32Array(this.runPanes.length);
    let at = from;
    for (let p = 0; p < cursors.length; p++) {
      cursors[p] = at;
      at += this.runCounts[p]!;
    }
    for (let i = from; i < to; i++) {
      const place = cursors[ordinals[i]!]!++;
      byPane.rows[place] = accepted.rows[i]!;
      byPane.times[place] = accepted.times[i]!;
    }
    return byPane;
  }

  private align(time: number, step: number): number {
    return Math.floor((time - this.offsetMs) / step) * step + this.offsetMs;
  }

  private paneAt(start: number): Pane {
    let pane = this.panes.get(start);
    if (pane === undefined) {
      const store = this.spareStores.pop() ?? new GroupStore(this.plan, this.dictionarySet);
      pane = { start, store, ordinal: -1 };
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
      this.removed.push(pane.start);
      this.panes.delete(pane.start);
      this.groups -= pane.store.live;
      this.keepSpare(pane.store);
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

  private keepSpare(store: GroupStore): void {
    const fits = store.capacityWords <= SPARE_STORE_WORDS_MAX;
    if (!fits || this.spareStores.length === SPARE_STORES_MAX) return;
    store.reset();
    this.spareStores.push(store);
  }

  private partial(start: number, open: boolean): Partial {
    const store = this.paneMs === this.sizeMs ? this.panes.get(start)!.store : this.merged(start);
    this.writer.reset();
    store.writeGroups(this.writer, null, store.live);
    return { kind: "window", start, open, groups: store.live, bytes: this.writer.finish() };
  }

  /** The panes of a sliding window in one store. */
  private merged(start: number): GroupStore {
    const store = new GroupStore(this.plan, this.dictionarySet);
    for (let at = start; at < start + this.sizeMs; at += this.paneMs) {
      const pane = this.panes.get(at);
      if (pane !== undefined) store.absorb(pane.store);
    }
    return store;
  }
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
