/**
 * The groups of one windowed table in memory: (pane, key) → slot, and per slot the aggregates'
 * lanes and maps. It knows how to be saved as a base and deltas, to cut a set of groups out as a
 * partial, and to merge such a partial in. Windows and sessions decide which slots live.
 */
import { MillpondError } from "../errors.js";
import type { CompareCodes, LaneSource, Lanes } from "./aggregates/aggregate.js";
import { ByteReader, ByteWriter } from "./codec.js";
import { type Dictionary, DictionarySet, growF64, growInt32 } from "./dictionary.js";
import { EVENTS_LANE, type GroupPlan } from "./group-plan.js";
import { clearRecoding, numberCode, type Recoding, recodingFor } from "./recoding.js";
import { SlotMap } from "./slot-map.js";

const FREE = Number.NaN;
const NONE = -1;
/** A bound on live groups of one table in one partition (I6); about 1 GB of lanes at 16 lanes. */
export const GROUPS_MAX = 8_000_000;

export class GroupStore {
  readonly plan: GroupPlan;
  /** Codes of several stores mean the same if they share it. */
  readonly dictionarySet: DictionarySet;
  readonly dictionaries: readonly Dictionary[];
  readonly maps: SlotMap[];
  readonly lanes: Float64Array[] = [];
  readonly keys: Int32Array[] = [];
  /** Pane start by slot, epoch ms; NaN when the slot is free. Sessions use 0. */
  panes: Float64Array;
  /** Sessions: the next slot with the same key. */
  chain: Int32Array;
  live = 0;
  /** Slots below it were used at some time. */
  used = 0;
  private capacity = 16;
  private index = new Int32Array(64);
  private freeSlots: number[] = [];
  private dirtyAt: Int32Array;
  private dirty = new Int32Array(64);
  private dirtyCount = 0;
  private removed: number[] = [];
  private epoch = 1;
  private readonly comparers: CompareCodes[];

  constructor(plan: GroupPlan, dictionarySet = new DictionarySet(plan.dictionaryCount)) {
    this.plan = plan;
    this.dictionarySet = dictionarySet;
    this.dictionaries = dictionarySet.all;
    this.comparers = this.dictionaries.map((dictionary) => (a, b) => dictionary.compare(a, b));
    this.maps = plan.maps.map(({ combine }) => new SlotMap(combine !== "union"));
    for (let i = 0; i < plan.laneCount; i++) this.lanes.push(new Float64Array(this.capacity));
    for (const _ of plan.keys) this.keys.push(new Int32Array(this.capacity));
    this.panes = new Float64Array(this.capacity).fill(FREE);
    this.chain = new Int32Array(this.capacity).fill(NONE);
    this.dirtyAt = new Int32Array(this.capacity);
  }

  /** Something changed since the last save. */
  get changed(): boolean {
    return this.dirtyCount > 0;
  }

  /** Forgets all groups but keeps their room; the dictionaries stay as they are. */
  reset(): void {
    this.panes.fill(FREE, 0, this.used);
    this.chain.fill(NONE, 0, this.used);
    for (const lane of this.lanes) lane.fill(0, 0, this.used);
    for (const map of this.maps) map.reset();
    this.index.fill(0);
    this.live = 0;
    this.used = 0;
    this.freeSlots = [];
    this.forgetChanges();
  }

  /** `reset`, and the dictionaries, which must not be shared, are emptied as well. */
  clear(): void {
    this.reset();
    for (const dictionary of this.dictionaries) dictionary.reset();
  }

  /** Words it occupies, roughly, for those who keep emptied stores. */
  get capacityWords(): number {
    const perSlot = this.lanes.length * 2 + this.keys.length + 4;
    return this.maps.reduce((sum, map) => sum + map.capacity, this.capacity * perSlot);
  }

  /** First slot with this pane and key (codes by `codes[k][row]`), or -1. */
  find(pane: number, codes: readonly Int32Array[], row: number): number {
    const mask = this.index.length - 1;
    let at = hashKey(pane, codes, row) & mask;
    for (;;) {
      const found = this.index[at]!;
      if (found === 0) return NONE;
      const slot = found - 1;
      if (this.panes[slot] === pane && sameCodes(this.keys, slot, codes, row)) return slot;
      at = (at + 1) & mask;
    }
  }

  /** A new slot. With `head` (sessions) it is chained behind that slot instead of indexed. */
  insert(pane: number, codes: readonly Int32Array[], row: number, head = NONE): number {
    const slot = this.takeSlot();
    this.panes[slot] = pane;
    for (let k = 0; k < this.keys.length; k++) this.keys[k]![slot] = codes[k]![row]!;
    this.live++;
    if (head !== NONE) {
      this.chain[slot] = this.chain[head]!;
      this.chain[head] = slot;
    } else {
      if (this.live * 2 > this.index.length) this.rehash(this.index.length * 2);
      else this.place(slot);
    }
    return slot;
  }

  findOrInsert(pane: number, codes: readonly Int32Array[], row: number): number {
    const slot = this.find(pane, codes, row);
    return slot === NONE ? this.insert(pane, codes, row) : slot;
  }

  /**
   * The slots of rows [from, to) under one pane, made where they are new: `find` and `insert` in
   * one loop. For stores whose groups all have that pane, and from which none is removed.
   */
  assign(
    pane: number,
    codes: readonly Int32Array[],
    rows: Int32Array,
    slots: Int32Array,
    from: number,
    to: number,
  ): void {
    const seed = hashPane(pane);
    const { keys } = this;
    let { index } = this;
    let mask = index.length - 1;
    for (let i = from; i < to; i++) {
      const row = rows[i]!;
      let at = hashCodes(seed, codes, row) & mask;
      let slot = index[at]! - 1;
      while (slot >= 0 && !sameCodes(keys, slot, codes, row)) {
        at = (at + 1) & mask;
        slot = index[at]! - 1;
      }
      if (slot < 0) {
        slot = this.insert(pane, codes, row);
        ({ index } = this);
        mask = index.length - 1;
      }
      slots[i] = slot;
    }
  }

  touch(slot: number): void {
    if (this.dirtyAt[slot] === this.epoch) return;
    this.dirtyAt[slot] = this.epoch;
    if (this.dirtyCount === this.dirty.length) this.dirty = growInt32(this.dirty, 0);
    this.dirty[this.dirtyCount++] = slot;
  }

  remove(slot: number): void {
    this.unlink(slot);
    this.panes[slot] = FREE;
    this.chain[slot] = NONE;
    for (const lane of this.lanes) lane[slot] = 0;
    for (const map of this.maps) map.clear(slot);
    this.freeSlots.push(slot);
    this.removed.push(slot);
    this.live--;
  }

  /** Orders codes of a dictionary by their values; for -1 (no dictionary) it must not be called. */
  compare(dictionary: number): CompareCodes {
    return this.comparers[dictionary] ?? refuseCompare;
  }

  /** Merges a store with the same dictionaries in, under pane 0. */
  absorb(from: GroupStore): void {
    for (const slot of from.liveSlots()) {
      const to = this.findOrInsert(0, from.keys, slot);
      this.mergeLanes(to, from.lanes, slot);
      this.plan.maps.forEach(({ combine }, m) => {
        const map = this.maps[m]!;
        from.maps[m]!.forEach(slot, (key, value) => map.combine(combine, to, key, value));
      });
    }
  }

  /** Merges slot `from` into slot `to`; both stay. */
  mergeSlots(to: number, from: number): void {
    this.mergeLanes(to, this.lanes, from);
    this.plan.maps.forEach(({ combine }, m) => {
      const map = this.maps[m]!;
      const entries: [number, number][] = [];
      map.forEach(from, (key, value) => entries.push([key, value]));
      for (const [key, value] of entries) map.combine(combine, to, key, value);
    });
    this.touch(to);
  }

  /** All that changed since the last save, without dictionaries; `all` writes every group. */
  write(writer: ByteWriter, all: boolean): void {
    const removed = Int32Array.from(all ? [] : this.removed);
    writer.u32(removed.length);
    writer.column(removed, removed.length);
    const slots = all ? this.liveSlots() : this.changedSlots();
    writer.u32(slots.length);
    writer.column(slots, slots.length);
    const scratch = new Float64Array(slots.length);
    writePicked(writer, this.panes, slots, scratch);
    for (const key of this.keys) writePicked(writer, key, slots, scratch);
    for (const lane of this.lanes) writePicked(writer, lane, slots, scratch);
    for (const map of this.maps) map.write(writer, all);
  }

  /** Marks everything as saved; the next delta starts here. */
  saved(): void {
    this.forgetChanges();
    for (const map of this.maps) map.saved();
  }

  private changedSlots(): Int32Array {
    return this.dirty.subarray(0, this.dirtyCount).filter((s) => !Number.isNaN(this.panes[s]!));
  }

  private forgetChanges(): void {
    this.epoch++;
    this.dirtyCount = 0;
    this.removed = [];
  }

  /** Applies a base or delta; call `restored` after the last one. */
  read(reader: ByteReader): void {
    const removed = reader.column(reader.u32());
    for (const slot of removed) this.wipe(slot);
    const count = reader.u32();
    const slots = reader.column(count);
    let highest = 0;
    for (const slot of slots) if (slot >= highest) highest = slot + 1;
    if (highest > this.capacity) this.grow(highest);
    this.used = Math.max(this.used, highest);
    const scatter = (to: Float64Array | Int32Array) => {
      const values = reader.column(count);
      for (let i = 0; i < count; i++) to[slots[i]!] = values[i]!;
    };
    scatter(this.panes);
    for (const key of this.keys) scatter(key);
    for (const lane of this.lanes) scatter(lane);
    for (const map of this.maps) map.read(reader, (slot, key, value) => map.set(slot, key, value));
  }

  private wipe(slot: number): void {
    if (slot >= this.used) return;
    this.panes[slot] = FREE;
    for (const lane of this.lanes) lane[slot] = 0;
    for (const map of this.maps) map.clear(slot);
  }

  restored(): void {
    const slots = this.liveSlots();
    this.live = slots.length;
    this.freeSlots = [];
    for (let s = this.used - 1; s >= 0; s--) {
      if (Number.isNaN(this.panes[s]!)) this.freeSlots.push(s);
    }
    let size = 64;
    while (size < slots.length * 2) size *= 2;
    this.rehash(size);
    this.saved();
  }

  /** A copy without dead dictionary entries. */
  compacted(dictionarySet = new DictionarySet(this.plan.dictionaryCount)): GroupStore {
    const writer = new ByteWriter();
    const slots = this.liveSlots();
    this.writeGroups(writer, slots, slots.length, true);
    const copy = new GroupStore(this.plan, dictionarySet);
    copy.mergeGroups(new ByteReader(writer.finish()));
    return copy;
  }

  liveSlots(): Int32Array {
    const slots = new Int32Array(this.used);
    let count = 0;
    for (let s = 0; s < this.used; s++) if (!Number.isNaN(this.panes[s]!)) slots[count++] = s;
    return slots.subarray(0, count);
  }

  /** Cuts the given groups out as a self-contained partial; all of them, without `slots`. */
  writeGroups(
    writer: ByteWriter,
    slots: Int32Array | null,
    count: number,
    withPanes = false,
  ): void {
    const recodes = this.dictionaries.map((_, d) => this.usedCodes(d, slots, count));
    try {
      this.writeRecoded(writer, slots, count, withPanes, recodes);
    } finally {
      // Other stores number their codes in them next, also when this one could not be written.
      for (const recoding of recodes) clearRecoding(recoding);
    }
  }

  private writeRecoded(
    writer: ByteWriter,
    slots: Int32Array | null,
    count: number,
    withPanes: boolean,
    recodes: readonly Recoding[],
  ): void {
    for (let d = 0; d < recodes.length; d++) {
      const { codes, count: used } = recodes[d]!;
      this.dictionaries[d]!.writeCodes(writer, codes, used);
    }
    const scratch = new Float64Array(count);
    writer.u32(count);
    writer.u8(withPanes ? 1 : 0);
    if (withPanes) {
      for (let i = 0; i < count; i++) scratch[i] = this.panes[slotAt(slots, i)]!;
      writer.column(scratch, count);
    }
    for (let k = 0; k < this.keys.length; k++) {
      const { recode } = recodes[this.plan.keys[k]!.dictionary]!;
      const codes = this.keys[k]!;
      for (let i = 0; i < count; i++) {
        const code = codes[slotAt(slots, i)]!;
        scratch[i] = code < 0 ? code : recode[code]!;
      }
      writer.column(scratch, count);
    }
    for (let lane = 0; lane < this.lanes.length; lane++) {
      const coded = this.plan.codeLanes.find((c) => c.lane === lane);
      const values = this.lanes[lane]!;
      for (let i = 0; i < count; i++) {
        const slot = slotAt(slots, i);
        if (coded === undefined) scratch[i] = values[slot]!;
        else if (this.lanes[coded.flag]![slot] === 0) scratch[i] = 0;
        else scratch[i] = recodes[coded.dictionary]!.recode[values[slot]!]!;
      }
      writer.column(scratch, count);
    }
    for (let m = 0; m < this.maps.length; m++) {
      const { dictionary } = this.plan.maps[m]!;
      const recode = dictionary < 0 ? null : recodes[dictionary]!.recode;
      this.maps[m]!.writeSlots(writer, slots, count, recode);
    }
  }

  /**
   * Merges a partial in, in its order; sessions are added as they are. `pane` unless it has its
   * own.
   */
  mergeGroups(reader: ByteReader, pane = 0): void {
    const recodes: Int32Array[] = [];
    for (const dictionary of this.dictionaries) recodes.push(dictionary.read(reader));
    const count = reader.u32();
    const panes = reader.u8() === 1 ? reader.column(count) : null;
    const keys: Int32Array[] = [];
    for (const { dictionary } of this.plan.keys) {
      const codes = reader.columnInto(new Int32Array(count), count);
      const recode = recodes[dictionary]!;
      for (let i = 0; i < count; i++) if (codes[i]! >= 0) codes[i] = recode[codes[i]!]!;
      keys.push(codes);
    }
    const lanes: Float64Array[] = [];
    for (const _ of this.lanes) lanes.push(reader.column(count));
    for (const { lane, flag, dictionary } of this.plan.codeLanes) {
      for (let i = 0; i < count; i++) {
        if (lanes[flag]![i] !== 0) lanes[lane]![i] = recodes[dictionary]![lanes[lane]![i]!]!;
      }
    }
    if (this.live + count > this.capacity) this.grow(this.live + count);
    const slots = new Int32Array(count);
    for (let i = 0; i < count; i++) {
      slots[i] = this.slotToMerge(panes === null ? pane : panes[i]!, keys, i);
      this.mergeHead(slots[i]!, lanes, i);
      this.touch(slots[i]!);
    }
    for (const { aggregate, base, dictionary } of this.plan.aggregates) {
      if (aggregate.laneCount === 0) continue;
      const to: LaneSource = { lanes: this.lanes, base };
      const from: LaneSource = { lanes, base };
      const compare = this.compare(dictionary);
      for (let i = 0; i < count; i++) aggregate.merge(to, slots[i]!, from, i, compare);
    }
    for (let m = 0; m < this.maps.length; m++) {
      const { combine, dictionary } = this.plan.maps[m]!;
      const recode = dictionary < 0 ? null : recodes[dictionary]!;
      this.maps[m]!.merge(reader, slots, recode, combine);
    }
  }

  private slotToMerge(pane: number, keys: readonly Int32Array[], i: number): number {
    const found = this.find(pane, keys, i);
    if (found === NONE) return this.insert(pane, keys, i);
    return this.plan.session ? this.insert(pane, keys, i, found) : found;
  }

  /** The lanes that every group has. */
  private mergeHead(slot: number, from: Lanes, i: number): void {
    this.lanes[EVENTS_LANE]![slot]! += from[EVENTS_LANE]![i]!;
    if (this.plan.session) this.mergeBounds(slot, from, i);
  }

  private mergeLanes(slot: number, from: Lanes, i: number): void {
    this.mergeHead(slot, from, i);
    for (const { aggregate, base, dictionary } of this.plan.aggregates) {
      if (aggregate.laneCount === 0) continue;
      const to: LaneSource = { lanes: this.lanes, base };
      aggregate.merge(to, slot, { lanes: from, base }, i, this.compare(dictionary));
    }
  }

  private mergeBounds(slot: number, from: Lanes, i: number): void {
    const [events, starts, ends] = this.lanes;
    const fresh = events![slot] === from[EVENTS_LANE]![i];
    starts![slot] = fresh ? from[1]![i]! : Math.min(starts![slot]!, from[1]![i]!);
    ends![slot] = fresh ? from[2]![i]! : Math.max(ends![slot]!, from[2]![i]!);
  }

  /** Numbers the dictionary's codes that the groups use; the caller clears it after use. */
  private usedCodes(d: number, slots: Int32Array | null, count: number): Recoding {
    const recoding = recodingFor(d, this.dictionaries[d]!.count);
    for (let k = 0; k < this.keys.length; k++) {
      if (this.plan.keys[k]!.dictionary !== d) continue;
      const keys = this.keys[k]!;
      for (let i = 0; i < count; i++) numberCode(recoding, keys[slotAt(slots, i)]!);
    }
    for (const coded of this.plan.codeLanes) {
      if (coded.dictionary !== d) continue;
      for (let i = 0; i < count; i++) {
        const slot = slotAt(slots, i);
        const isSet = this.lanes[coded.flag]![slot] !== 0;
        if (isSet) numberCode(recoding, this.lanes[coded.lane]![slot]!);
      }
    }
    for (let m = 0; m < this.maps.length; m++) {
      if (this.plan.maps[m]!.dictionary === d) this.maps[m]!.numberKeys(slots, count, recoding);
    }
    return recoding;
  }

  /** Notes the dictionary's codes that live groups use in `seen`. */
  markCodes(d: number, seen: Uint8Array): void {
    const slots = this.liveSlots();
    const recoding = this.usedCodes(d, slots, slots.length);
    for (let i = 0; i < recoding.count; i++) seen[recoding.codes[i]!] = 1;
    clearRecoding(recoding);
  }

  private takeSlot(): number {
    const free = this.freeSlots.pop();
    if (free !== undefined) return free;
    if (this.used >= this.capacity) this.grow(this.used + 1);
    if (this.live >= GROUPS_MAX) throw tooManyGroups();
    return this.used++;
  }

  private grow(needed: number): void {
    this.capacity = Math.max(needed, this.capacity * 2);
    const from = this.panes.length;
    this.panes = growF64(this.panes, this.capacity).fill(FREE, from);
    this.chain = growInt32(this.chain, this.capacity).fill(NONE, from);
    this.dirtyAt = growInt32(this.dirtyAt, this.capacity);
    const { lanes, keys, capacity } = this;
    for (let lane = 0; lane < lanes.length; lane++) lanes[lane] = growF64(lanes[lane]!, capacity);
    for (let k = 0; k < keys.length; k++) keys[k] = growInt32(keys[k]!, capacity);
    this.capacity = this.panes.length;
  }

  private place(slot: number): void {
    const mask = this.index.length - 1;
    let at = hashKey(this.panes[slot]!, this.keys, slot) & mask;
    while (this.index[at] !== 0) at = (at + 1) & mask;
    this.index[at] = slot + 1;
  }

  /** Rebuilds the index; slots of one key (sessions) are chained behind the first. */
  private rehash(size: number): void {
    const chained = this.plan.session;
    const heads: number[] = [];
    if (chained) {
      // Chains survive a rehash: only heads are indexed, and a slot is a head if none points to it.
      const pointed = new Uint8Array(this.used);
      for (let s = 0; s < this.used; s++) if (this.chain[s] !== NONE) pointed[this.chain[s]!] = 1;
      for (let s = 0; s < this.used; s++) {
        if (!Number.isNaN(this.panes[s]!) && pointed[s] === 0) heads.push(s);
      }
    }
    this.index = new Int32Array(size);
    if (!chained) {
      for (let s = 0; s < this.used; s++) if (!Number.isNaN(this.panes[s]!)) this.place(s);
      return;
    }
    for (const slot of heads) {
      const head = this.find(this.panes[slot]!, this.keys, slot);
      if (head === NONE) this.place(slot);
      else {
        let last = slot;
        while (this.chain[last] !== NONE) last = this.chain[last]!;
        this.chain[last] = this.chain[head]!;
        this.chain[head] = slot;
      }
    }
  }

  /** Takes the slot out of the index and its chain. */
  private unlink(slot: number): void {
    const mask = this.index.length - 1;
    let at = hashKey(this.panes[slot]!, this.keys, slot) & mask;
    for (;;) {
      const found = this.index[at]! - 1;
      if (found === slot) break;
      if (this.panes[found] === this.panes[slot] && sameCodes(this.keys, found, this.keys, slot)) {
        this.unchain(found, slot);
        return;
      }
      at = (at + 1) & mask;
    }
    if (this.chain[slot] !== NONE) {
      this.index[at] = this.chain[slot]! + 1;
      return;
    }
    let hole = at;
    for (let next = (at + 1) & mask; this.index[next] !== 0; next = (next + 1) & mask) {
      const other = this.index[next]! - 1;
      const home = hashKey(this.panes[other]!, this.keys, other) & mask;
      if (((next - home) & mask) < ((next - hole) & mask)) continue;
      this.index[hole] = other + 1;
      hole = next;
    }
    this.index[hole] = 0;
  }

  private unchain(head: number, slot: number): void {
    let before = head;
    while (this.chain[before] !== slot) before = this.chain[before]!;
    this.chain[before] = this.chain[slot]!;
  }
}

export function tooManyGroups(): MillpondError {
  return new MillpondError(
    "LIMIT",
    `more than ${GROUPS_MAX} open groups in one table of one partition: ` +
      "group by fewer or coarser columns, use a shorter window, or more partitions",
  );
}

function refuseCompare(): number {
  throw new TypeError("this aggregate has no dictionary to compare by");
}

/**
 * True when most dictionary entries belong to groups that are gone, over all stores that share
 * the dictionaries.
 */
export function worthCompacting(set: DictionarySet, stores: readonly GroupStore[]): boolean {
  const kept = stores.reduce(
    (sum, store) => store.maps.reduce((entries, { size }) => entries + size, sum + store.live),
    0,
  );
  return set.all.some(({ count }, d) => {
    // Dead entries fewer than what must be written anyway cost less than finding them.
    if (count < Math.max(4096, kept)) return false;
    const seen = new Uint8Array(count);
    for (const store of stores) store.markCodes(d, seen);
    return seen.reduce((sum, one) => sum + one, 0) * 2 < count;
  });
}

function writePicked(
  writer: ByteWriter,
  from: Float64Array | Int32Array,
  slots: Int32Array,
  scratch: Float64Array,
): void {
  for (let i = 0; i < slots.length; i++) scratch[i] = from[slots[i]!]!;
  writer.column(scratch, slots.length);
}

function slotAt(slots: Int32Array | null, i: number): number {
  return slots === null ? i : slots[i]!;
}

function sameCodes(
  keys: readonly Int32Array[],
  slot: number,
  codes: readonly Int32Array[],
  row: number,
): boolean {
  for (let k = 0; k < keys.length; k++) if (keys[k]![slot] !== codes[k]![row]) return false;
  return true;
}

function hashKey(pane: number, codes: readonly Int32Array[], row: number): number {
  return hashCodes(hashPane(pane), codes, row);
}

/** Panes are whole milliseconds: the low bits of pane / 1000 tell neighbours apart. */
function hashPane(pane: number): number {
  return Math.imul((pane / 1000) | 0, 0x9e3779b1) ^ Math.imul(pane % 1000, 0x632be5ab);
}

function hashCodes(seed: number, codes: readonly Int32Array[], row: number): number {
  let hash = seed;
  for (let k = 0; k < codes.length; k++) {
    hash = Math.imul(hash ^ codes[k]![row]!, 0x85ebca6b);
    hash ^= hash >>> 13;
  }
  return Math.imul(hash, 0xc2b2ae35) ^ (hash >>> 16);
}
