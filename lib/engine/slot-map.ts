/**
 * A map from (group slot, integer key) to a number, for every aggregate that keeps more than a few
 * numbers a group: distinct sets (no value), topK counts, HyperLogLog registers, DDSketch buckets.
 * Entries of a slot are chained, so that a slot is emptied or read without touching the others.
 */
import type { ByteReader, ByteWriter } from "./codec.js";
import { growF64, growInt32 } from "./dictionary.js";
import { numberCode, type Recoding } from "./recoding.js";

const NONE = -1;

/** An entry is four words side by side, for one cache line a look-up. */
const WORDS = 4;
/** Slot, or NONE when the entry is free. */
const SLOT = 0;
const KEY = 1;
/** Next entry of the slot, or of the free list. */
const NEXT = 2;
/** Epoch in which it was last listed as dirty. */
const DIRTY = 3;

/** How two values of one (slot, key) become one. */
export type Combine = "union" | "add" | "max";

export class SlotMap {
  /** Entries in use. */
  size = 0;
  private words = new Int32Array(64 * WORDS);
  /** Values by entry; null for sets. */
  private values: Float64Array | null;
  private heads = new Int32Array(64).fill(NONE);
  private countOf = new Int32Array(64);
  private index = new Int32Array(128);
  /** False after a merge, until somebody looks an entry up. */
  private indexed = true;
  /** Cells of the index in use, also by entries that are gone. */
  private cells = 0;
  private used = 0;
  private free = NONE;
  private epoch = 1;
  private dirty = new Int32Array(64);
  private dirtyCount = 0;

  /** Without `valued` it is a set, and every value is 0. */
  constructor(valued: boolean) {
    this.values = valued ? new Float64Array(64) : null;
  }

  /** Makes the entry, if it is new. */
  add(slot: number, key: number): void {
    this.entry(slot, key);
  }

  addTo(slot: number, key: number, amount: number): void {
    const entry = this.entry(slot, key);
    this.values![entry]! += amount;
    this.touch(entry);
  }

  raiseTo(slot: number, key: number, value: number): void {
    const entry = this.entry(slot, key);
    if (value <= this.values![entry]!) return;
    this.values![entry] = value;
    this.touch(entry);
  }

  set(slot: number, key: number, value: number): void {
    // `entry` may replace `values` by a longer array: it must come first.
    const entry = this.entry(slot, key);
    if (this.values !== null) this.values[entry] = value;
  }

  countIn(slot: number): number {
    return slot < this.countOf.length ? this.countOf[slot]! : 0;
  }

  forEach(slot: number, visit: (key: number, value: number) => void): void {
    if (slot >= this.heads.length) return;
    for (let e = this.heads[slot]!; e !== NONE; e = this.words[e * WORDS + NEXT]!) {
      visit(this.words[e * WORDS + KEY]!, this.values === null ? 0 : this.values[e]!);
    }
  }

  clear(slot: number): void {
    if (slot >= this.heads.length) return;
    const { words } = this;
    for (let e = this.heads[slot]!; e !== NONE; ) {
      const next = words[e * WORDS + NEXT]!;
      // Its cell in the index stays, and is harmless: a probe compares slot and key. The next
      // rehash leaves it out.
      words[e * WORDS + SLOT] = NONE;
      words[e * WORDS + NEXT] = this.free;
      this.free = e;
      this.size--;
      e = next;
    }
    this.heads[slot] = NONE;
    this.countOf[slot] = 0;
  }

  /** New and changed entries since the last save, or all of them. */
  write(writer: ByteWriter, all: boolean): void {
    const { words } = this;
    const count = all ? this.used : this.dirtyCount;
    reserveScratch(count);
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const entry = all ? i : this.dirty[i]!;
      if (words[entry * WORDS + SLOT] === NONE) continue;
      scratch.slots[kept] = words[entry * WORDS + SLOT]!;
      scratch.keys[kept] = words[entry * WORDS + KEY]!;
      if (this.values !== null) scratch.values[kept] = this.values[entry]!;
      kept++;
    }
    this.writeScratch(writer, kept);
  }

  /**
   * The entries of `count` slots, which are renumbered 0, 1, … in that order: how many each has,
   * and then keys (through `recode`, if there is one) and values slot by slot. Without `slots`, all
   * slots below `count`.
   */
  writeSlots(
    writer: ByteWriter,
    slots: Int32Array | null,
    count: number,
    recode: Int32Array | null,
  ): void {
    reserveScratch(count);
    let total = 0;
    for (let i = 0; i < count; i++) {
      const entries = this.countIn(slots === null ? i : slots[i]!);
      scratch.slots[i] = entries;
      total += entries;
    }
    writer.u32(total);
    writer.column(scratch.slots, count);
    reserveScratch(total);
    if (slots === null) this.gatherAll(count);
    else this.gather(slots, count);
    const { keys } = scratch;
    if (recode !== null) for (let i = 0; i < total; i++) keys[i] = recode[keys[i]!]!;
    writer.column(keys, total);
    if (this.values !== null) writer.column(scratch.values, total);
  }

  private gather(slots: Int32Array, count: number): void {
    const { words } = this;
    let at = 0;
    for (let i = 0; i < count; i++) {
      const slot = slots[i]!;
      if (slot >= this.heads.length) continue;
      for (let e = this.heads[slot]!; e !== NONE; e = words[e * WORDS + NEXT]!) {
        scratch.keys[at] = words[e * WORDS + KEY]!;
        if (this.values !== null) scratch.values[at] = this.values[e]!;
        at++;
      }
    }
  }

  /** In the order of the entries: a counting sort by slot, instead of following chains. */
  private gatherAll(count: number): void {
    const { words } = this;
    const cursors = scratch.slots;
    let total = 0;
    for (let slot = 0; slot < count; slot++) {
      cursors[slot] = total;
      total += this.countIn(slot);
    }
    for (let e = 0; e < this.used; e++) {
      const slot = words[e * WORDS + SLOT]!;
      if (slot === NONE) continue;
      const at = cursors[slot]!++;
      scratch.keys[at] = words[e * WORDS + KEY]!;
      if (this.values !== null) scratch.values[at] = this.values[e]!;
    }
  }

  /** Numbers the keys of the slots (all, without `slots`) that have no number. */
  numberKeys(slots: Int32Array | null, count: number, recoding: Recoding): void {
    const { words, heads } = this;
    if (slots === null) {
      for (let e = 0; e < this.used; e++) {
        if (words[e * WORDS + SLOT] !== NONE) numberCode(recoding, words[e * WORDS + KEY]!);
      }
      return;
    }
    for (let i = 0; i < count; i++) {
      if (slots[i]! >= heads.length) continue;
      for (let e = heads[slots[i]!]!; e !== NONE; e = words[e * WORDS + NEXT]!) {
        numberCode(recoding, words[e * WORDS + KEY]!);
      }
    }
  }

  /** Hands over entries that `write` wrote. */
  read(reader: ByteReader, apply: (slot: number, key: number, value: number) => void): void {
    const count = this.readScratch(reader);
    const { slots, keys, values } = scratch;
    this.reserve(this.size + count);
    for (let i = 0; i < count; i++) {
      apply(slots[i]!, keys[i]!, this.values === null ? 0 : values[i]!);
    }
  }

  /**
   * Merges entries that `writeSlots` wrote: slot i there is `slotOf[i]` here, and keys go through
   * `recode`, if there is one.
   */
  merge(reader: ByteReader, slotOf: Int32Array, recode: Int32Array | null, combine: Combine): void {
    const total = reader.u32();
    const counts = reader.columnInto(new Int32Array(slotOf.length), slotOf.length);
    reserveScratch(total);
    const { keys, values } = scratch;
    reader.columnInto(keys, total);
    if (this.values !== null) reader.columnInto(values, total);
    if (recode !== null) {
      for (let i = 0; i < total; i++) keys[i] = recode[keys[i]!]!;
      this.growEntriesTo(this.used + total);
      this.indexed = false;
      let from = 0;
      for (let s = 0; s < slotOf.length; s++) {
        this.mergeRun(slotOf[s]!, from, from + counts[s]!, combine);
        from += counts[s]!;
      }
      return;
    }
    this.reserve(this.size + total);
    let at = 0;
    for (let s = 0; s < slotOf.length; s++) {
      for (const end = at + counts[s]!; at < end; at++) {
        this.combine(combine, slotOf[s]!, keys[at]!, this.values === null ? 0 : values[at]!);
      }
    }
  }

  /** Adds the entry, or combines it with the one that is there. */
  combine(combine: Combine, slot: number, key: number, value: number): void {
    if (combine === "union") this.add(slot, key);
    else if (combine === "add") this.addTo(slot, key, value);
    else this.raiseTo(slot, key, value);
  }

  /**
   * Merges a slot's entries, from the scratch columns, where keys are small. A table by key, filled
   * with the entries that the slot has, finds them: a fraction of what probing the index takes,
   * which is rebuilt once somebody asks for it. The run itself holds no key twice.
   */
  private mergeRun(slot: number, from: number, to: number, combine: Combine): void {
    const { keys, values } = scratch;
    if (this.countIn(slot) === 0) {
      for (let i = from; i < to; i++) {
        const entry = this.allocate(slot, keys[i]!);
        if (this.values !== null) this.values[entry] = values[i]!;
      }
      return;
    }
    this.markEntries(slot);
    for (let i = from; i < to; i++) {
      let entry = markedEntry(keys[i]!);
      if (entry === NONE) entry = this.allocate(slot, keys[i]!);
      if (this.values === null) continue;
      const before = this.values[entry]!;
      this.values[entry] = combine === "add" ? before + values[i]! : Math.max(before, values[i]!);
      this.touch(entry);
    }
  }

  private markEntries(slot: number): void {
    nextMarks();
    if (slot >= this.heads.length) return;
    const { words } = this;
    for (let e = this.heads[slot]!; e !== NONE; e = words[e * WORDS + NEXT]!) {
      mark(words[e * WORDS + KEY]!, e);
    }
  }

  /** Forgets all entries but keeps their room. */
  reset(): void {
    this.size = 0;
    this.used = 0;
    this.free = NONE;
    this.cells = 0;
    this.indexed = true;
    this.heads.fill(NONE);
    this.countOf.fill(0);
    this.index.fill(0);
    this.saved();
  }

  /** Words it occupies, for those who keep emptied maps. */
  get capacity(): number {
    return this.words.length;
  }

  private readScratch(reader: ByteReader): number {
    const count = reader.u32();
    reserveScratch(count);
    reader.columnInto(scratch.slots, count);
    reader.columnInto(scratch.keys, count);
    if (this.values !== null) reader.columnInto(scratch.values, count);
    return count;
  }

  /** Marks everything as saved. */
  saved(): void {
    this.epoch++;
    this.dirtyCount = 0;
  }

  /** The entry of (slot, key), made with value 0 if it is new. */
  private entry(slot: number, key: number): number {
    if (!this.indexed) this.rehash(this.size);
    const { words, index } = this;
    const mask = index.length - 1;
    let at = mix(slot, key) & mask;
    for (;;) {
      const found = index[at]!;
      if (found === 0) break;
      const word = (found - 1) * WORDS;
      if (words[word + KEY] === key && words[word + SLOT] === slot) return found - 1;
      at = (at + 1) & mask;
    }
    const entry = this.allocate(slot, key);
    index[at] = entry + 1;
    this.cells++;
    if (this.cells * 2 > index.length) this.rehash(this.size);
    return entry;
  }

  private touch(entry: number): void {
    if (this.words[entry * WORDS + DIRTY] === this.epoch) return;
    this.words[entry * WORDS + DIRTY] = this.epoch;
    if (this.dirtyCount === this.dirty.length) this.dirty = growInt32(this.dirty, 0);
    this.dirty[this.dirtyCount++] = entry;
  }

  private allocate(slot: number, key: number): number {
    let entry = this.free;
    if (entry !== NONE) this.free = this.words[entry * WORDS + NEXT]!;
    else {
      entry = this.used++;
      if (entry * WORDS >= this.words.length) this.growEntries(entry + 1);
    }
    if (slot >= this.heads.length) this.growSlots(slot + 1);
    const { words } = this;
    words[entry * WORDS + SLOT] = slot;
    words[entry * WORDS + KEY] = key;
    words[entry * WORDS + NEXT] = this.heads[slot]!;
    if (this.values !== null) this.values[entry] = 0;
    this.heads[slot] = entry;
    this.countOf[slot]!++;
    this.size++;
    this.touch(entry);
    return entry;
  }

  private growEntriesTo(needed: number): void {
    if (needed * WORDS > this.words.length) this.growEntries(needed);
  }

  private growEntries(needed: number): void {
    this.words = growInt32(this.words, needed * WORDS);
    if (this.values !== null) this.values = growF64(this.values, this.words.length / WORDS);
  }

  private growSlots(needed: number): void {
    const from = this.heads.length;
    this.heads = growInt32(this.heads, needed);
    this.heads.fill(NONE, from);
    this.countOf = growInt32(this.countOf, needed);
  }

  /** Makes room for `count` entries at once. */
  private reserve(count: number): void {
    if (count * 2 > this.index.length) this.rehash(count);
    this.growEntriesTo(count);
  }

  private rehash(count: number): void {
    let length = 128;
    while (length < count * 4) length *= 2;
    const index = new Int32Array(length);
    const { words } = this;
    const mask = length - 1;
    for (let e = 0; e < this.used; e++) {
      if (words[e * WORDS + SLOT] === NONE) continue;
      let at = mix(words[e * WORDS + SLOT]!, words[e * WORDS + KEY]!) & mask;
      while (index[at] !== 0) at = (at + 1) & mask;
      index[at] = e + 1;
    }
    this.index = index;
    this.indexed = true;
    this.cells = this.size;
  }

  private writeScratch(writer: ByteWriter, count: number): void {
    writer.u32(count);
    writer.column(scratch.slots, count);
    writer.column(scratch.keys, count);
    if (this.values !== null) writer.column(scratch.values, count);
  }
}

/** Columns on their way in or out; one set for all maps, since nothing keeps them. */
const scratch = {
  slots: new Int32Array(0),
  keys: new Int32Array(0),
  values: new Float64Array(0),
};

function reserveScratch(count: number): void {
  if (scratch.slots.length >= count) return;
  scratch.slots = growInt32(scratch.slots, count);
  scratch.keys = growInt32(scratch.keys, count);
  scratch.values = growF64(scratch.values, count);
}

/** Entries of one slot by key, as pairs of the mark they were put under and the entry. */
let marks = new Int32Array(2 * 1024);
let currentMark = 0;

function nextMarks(): void {
  currentMark++;
  if (currentMark < 0x7fffffff) return;
  marks.fill(0);
  currentMark = 1;
}

function mark(key: number, entry: number): void {
  if (2 * key >= marks.length) marks = growInt32(marks, 2 * key + 2);
  marks[2 * key] = currentMark;
  marks[2 * key + 1] = entry;
}

function markedEntry(key: number): number {
  return 2 * key < marks.length && marks[2 * key] === currentMark ? marks[2 * key + 1]! : NONE;
}

function mix(slot: number, key: number): number {
  let hash = Math.imul(slot, 0x9e3779b1) ^ Math.imul(key, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return hash ^ (hash >>> 13);
}
