/**
 * Sessions of one partition: events of a key at most `gap` apart belong together. An event may join
 * two open sessions into one; a session leaves as a partial once the watermark is past its gap.
 */
import { type Accumulator, acceptedRoom, noneAccepted } from "./accumulate.js";
import { type ByteReader, ByteWriter } from "./codec.js";
import { END_LANE, type GroupPlan, START_LANE } from "./group-plan.js";
import { GroupStore, worthCompacting } from "./group-store.js";
import {
  DUPLICATE,
  type LateSink,
  noCounts,
  type Partial,
  type TableInput,
  UNCHECKABLE,
} from "./table-input.js";

const NONE = -1;

export class SessionOperator {
  readonly counters = noCounts();
  private store: GroupStore;
  private readonly gapMs: number;
  private readonly accumulator: Accumulator;
  private readonly accepted = noneAccepted();
  /** No open session ends before it: a scan for closed ones can wait until the watermark passes. */
  private earliestEnd = Number.POSITIVE_INFINITY;
  private folded = 0;
  private readonly writer = new ByteWriter();

  constructor(gapMs: number, plan: GroupPlan, accumulator: Accumulator) {
    this.gapMs = gapMs;
    this.accumulator = accumulator;
    this.store = new GroupStore(plan);
  }

  process(input: TableInput, late: LateSink): void {
    this.accept(input, late);
    const { accepted } = this;
    const codes = this.accumulator.begin(input.batch, accepted, this.store.dictionaries);
    this.folded = 0;
    for (let i = 0; i < accepted.count; i++) {
      accepted.slots[i] = this.place(codes, accepted.rows[i]!, accepted.times[i]!, i);
    }
    this.accumulator.fold(this.store, accepted, this.folded, accepted.count);
  }

  advance(watermark: number): Partial[] {
    if (watermark <= this.earliestEnd + this.gapMs) return [];
    const { store } = this;
    const ends = store.lanes[END_LANE]!;
    const closed: number[] = [];
    this.earliestEnd = Number.POSITIVE_INFINITY;
    for (const slot of store.liveSlots()) {
      if (watermark > ends[slot]! + this.gapMs) closed.push(slot);
      else if (ends[slot]! < this.earliestEnd) this.earliestEnd = ends[slot]!;
    }
    if (closed.length === 0) return [];
    const partial = this.partial(Int32Array.from(closed), false);
    for (const slot of closed) store.remove(slot);
    return [partial];
  }

  snapshot(): Partial[] {
    const slots = this.store.liveSlots();
    return slots.length === 0 ? [] : [this.partial(slots, true)];
  }

  get openSessions(): number {
    return this.store.live;
  }

  write(writer: ByteWriter, all: boolean): void {
    if (all) this.compact();
    this.store.dictionarySet.write(writer, all);
    this.store.write(writer, all);
  }

  saved(): void {
    this.store.dictionarySet.saved();
    this.store.saved();
  }

  read(reader: ByteReader): void {
    this.store.dictionarySet.read(reader);
    this.store.read(reader);
  }

  /** After the last `read`. */
  restored(): void {
    this.store.restored();
    this.saved();
    this.earliestEnd = Number.POSITIVE_INFINITY;
    const ends = this.store.lanes[END_LANE]!;
    for (const slot of this.store.liveSlots()) {
      if (ends[slot]! < this.earliestEnd) this.earliestEnd = ends[slot]!;
    }
  }

  private compact(): void {
    const { store } = this;
    if (worthCompacting(store.dictionarySet, [store])) this.store = store.compacted();
  }

  private accept(input: TableInput, late: LateSink): void {
    const { accepted, counters } = this;
    acceptedRoom(accepted, input.count);
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
      if (verdict === UNCHECKABLE || time < watermarks[event]!) {
        counters.late++;
        late(event);
        continue;
      }
      accepted.rows[kept] = row;
      accepted.times[kept++] = time;
    }
    accepted.count = kept;
    counters.counted += kept;
  }

  /** The session this event belongs to, made, extended or joined from several as needed. */
  private place(codes: readonly Int32Array[], row: number, time: number, position: number): number {
    const { store, gapMs } = this;
    const head = store.find(0, codes, row);
    let starts = store.lanes[START_LANE]!;
    let ends = store.lanes[END_LANE]!;
    let target = NONE;
    for (let s = head; s !== NONE; ) {
      const next: number = store.chain[s]!;
      if (time >= starts[s]! - gapMs && time <= ends[s]! + gapMs) {
        target = target === NONE ? s : this.joinInOrder(target, s, position);
      }
      s = next;
    }
    if (target === NONE) {
      target = store.insert(0, codes, row, head);
      starts = store.lanes[START_LANE]!;
      ends = store.lanes[END_LANE]!;
      starts[target] = time;
      ends[target] = time;
    } else {
      if (time < starts[target]!) starts[target] = time;
      if (time > ends[target]!) ends[target] = time;
    }
    if (ends[target]! < this.earliestEnd) this.earliestEnd = ends[target]!;
    store.touch(target);
    return target;
  }

  /**
   * The later session goes into the earlier one: doubles then merge alike however slices are cut.
   */
  private joinInOrder(one: number, other: number, position: number): number {
    const { store } = this;
    const starts = store.lanes[START_LANE]!;
    const [earlier, later] = starts[one]! < starts[other]! ? [one, other] : [other, one];
    this.accumulator.fold(store, this.accepted, this.folded, position);
    this.folded = position;
    store.mergeSlots(earlier, later);
    store.remove(later);
    return earlier;
  }

  private partial(slots: Int32Array, open: boolean): Partial {
    this.writer.reset();
    this.store.writeGroups(this.writer, slots, slots.length);
    const bytes = this.writer.finish();
    return { kind: "sessions", start: 0, open, groups: slots.length, bytes };
  }
}
