/**
 * A map from (group slot, integer key) to a number, for every aggregate that keeps more than a few
 * numbers a group: distinct sets (value unused), topK counts, HyperLogLog registers, DDSketch buckets.
 * Entries of a slot are chained, so that a slot is emptied or read without touching the others.
 */
import type { ByteReader, ByteWriter } from "./codec.js";
import { growF64, growInt32 } from "./dictionary.js";

const NONE = -1;

export class SlotMap {
  /** Entries in use. */
  size = 0;
  private slotOf = new Int32Array(64).fill(NONE);
  private keyOf = new Int32Array(64);
  private valueOf = new Float64Array(64);
  private nextOf = new Int32Array(64);
  private dirtyAt = new Int32Array(64);
  private heads = new Int32Array(64).fill(NONE);
  private countOf = new Int32Array(64);
  private index = new Int32Array(128);
  /** Cells of the index in use, also by entries that are gone. */
  private cells = 0;
  private used = 0;
  private free = NONE;
  private epoch = 1;
  private dirty: number[] = [];

  /** The entry of (slot, key), made with value 0 if it is new. */
  entry(slot: number, key: number): number {
    const mask = this.index.length - 1;
    let at = mix(slot, key) & mask;
    for (;;) {
      const found = this.index[at]!;
      if (found === 0) break;
      const entry = found - 1;
      if (this.keyOf[entry] === key && this.slotOf[entry] === slot) return entry;
      at = (at + 1) & mask;
    }
    const entry = this.allocate(slot, key);
    this.index[at] = entry + 1;
    this.cells++;
    if (this.cells * 2 > this.index.length) this.rehash(this.size);
    this.touch(entry);
    return entry;
  }

  add(slot: number, key: number): void {
    this.entry(slot, key);
  }

  addTo(slot: number, key: number, amount: number): void {
    const entry = this.entry(slot, key);
    this.valueOf[entry]! += amount;
    this.touch(entry);
  }

  raiseTo(slot: number, key: number, value: number): void {
    const entry = this.entry(slot, key);
    if (value <= this.valueOf[entry]!) return;
    this.valueOf[entry] = value;
    this.touch(entry);
  }

  countIn(slot: number): number {
    return slot < this.countOf.length ? this.countOf[slot]! : 0;
  }

  forEach(slot: number, visit: (key: number, value: number) => void): void {
    if (slot >= this.heads.length) return;
    for (let e = this.heads[slot]!; e !== NONE; e = this.nextOf[e]!) {
      visit(this.keyOf[e]!, this.valueOf[e]!);
    }
  }

  clear(slot: number): void {
    if (slot >= this.heads.length) return;
    for (let e = this.heads[slot]!; e !== NONE; ) {
      const next = this.nextOf[e]!;
      // Its cell in the index stays, and is harmless: a probe compares slot and key. The next
      // rehash leaves it out.
      this.slotOf[e] = NONE;
      this.nextOf[e] = this.free;
      this.free = e;
      this.size--;
      e = next;
    }
    this.heads[slot] = NONE;
    this.countOf[slot] = 0;
  }

  /** New and changed entries since the last call, or all of them. */
  write(writer: ByteWriter, all: boolean, recode: Int32Array | null): void {
    const entries = all ? this.everyEntry() : this.dirty.filter((e) => this.slotOf[e] !== NONE);
    this.writeEntries(writer, entries, null, recode);
  }

  /** The entries of the given slots, which are renumbered 0, 1, … in that order. */
  writeSlots(writer: ByteWriter, slots: Int32Array, count: number, recode: Int32Array | null): void {
    const entries: number[] = [];
    const renumbered: number[] = [];
    for (let i = 0; i < count; i++) {
      const slot = slots[i]!;
      if (slot >= this.heads.length) continue;
      for (let e = this.heads[slot]!; e !== NONE; e = this.nextOf[e]!) {
        entries.push(e);
        renumbered.push(i);
      }
    }
    this.writeEntries(writer, entries, renumbered, recode);
  }

  read(reader: ByteReader, apply: (slot: number, key: number, value: number) => void): void {
    const count = reader.u32();
    const slots = reader.column(count);
    const keys = reader.column(count);
    const values = reader.column(count);
    this.reserve(this.size + count);
    for (let i = 0; i < count; i++) apply(slots[i]!, keys[i]!, values[i]!);
  }

  set(slot: number, key: number, value: number): void {
    // `entry` may replace `valueOf` by a longer array: it must come first.
    const entry = this.entry(slot, key);
    this.valueOf[entry] = value;
  }

  /** Marks everything as saved. */
  saved(): void {
    this.epoch++;
    this.dirty = [];
  }

  /** Every key in use, once for each entry; for finding the dictionary codes still needed. */
  forEachKey(visit: (key: number) => void): void {
    for (let e = 0; e < this.used; e++) if (this.slotOf[e] !== NONE) visit(this.keyOf[e]!);
  }

  private everyEntry(): number[] {
    const entries: number[] = [];
    for (let e = 0; e < this.used; e++) if (this.slotOf[e] !== NONE) entries.push(e);
    return entries;
  }

  private writeEntries(
    writer: ByteWriter,
    entries: readonly number[],
    slots: readonly number[] | null,
    recode: Int32Array | null,
  ): void {
    const count = entries.length;
    const scratch = new Float64Array(count);
    writer.u32(count);
    if (slots !== null) writer.column(slots, count);
    else {
      for (let i = 0; i < count; i++) scratch[i] = this.slotOf[entries[i]!]!;
      writer.column(scratch, count);
    }
    for (let i = 0; i < count; i++) {
      const key = this.keyOf[entries[i]!]!;
      scratch[i] = recode === null ? key : recode[key]!;
    }
    writer.column(scratch, count);
    for (let i = 0; i < count; i++) scratch[i] = this.valueOf[entries[i]!]!;
    writer.column(scratch, count);
  }

  private touch(entry: number): void {
    if (this.dirtyAt[entry] === this.epoch) return;
    this.dirtyAt[entry] = this.epoch;
    this.dirty.push(entry);
  }

  private allocate(slot: number, key: number): number {
    let entry = this.free;
    if (entry !== NONE) this.free = this.nextOf[entry]!;
    else {
      entry = this.used++;
      if (entry >= this.slotOf.length) this.growEntries();
    }
    if (slot >= this.heads.length) this.growSlots(slot + 1);
    this.slotOf[entry] = slot;
    this.keyOf[entry] = key;
    this.valueOf[entry] = 0;
    this.nextOf[entry] = this.heads[slot]!;
    this.heads[slot] = entry;
    this.countOf[slot]!++;
    this.size++;
    return entry;
  }

  private growEntries(): void {
    const needed = this.slotOf.length * 2;
    this.slotOf = growInt32(this.slotOf, needed);
    this.keyOf = growInt32(this.keyOf, needed);
    this.valueOf = growF64(this.valueOf, needed);
    this.nextOf = growInt32(this.nextOf, needed);
    this.dirtyAt = growInt32(this.dirtyAt, needed);
  }

  private growSlots(needed: number): void {
    const from = this.heads.length;
    this.heads = growInt32(this.heads, needed);
    this.heads.fill(NONE, from);
    this.countOf = growInt32(this.countOf, needed);
  }

  /** Makes room for `count` entries at once. */
  reserve(count: number): void {
    if (count * 2 > this.index.length) this.rehash(count);
    while (this.slotOf.length < count) this.growEntries();
  }

  private rehash(count: number): void {
    let length = 128;
    while (length < count * 4) length *= 2;
    const index = new Int32Array(length);
    const mask = length - 1;
    for (let e = 0; e < this.used; e++) {
      if (this.slotOf[e] === NONE) continue;
      let at = mix(this.slotOf[e]!, this.keyOf[e]!) & mask;
      while (index[at] !== 0) at = (at + 1) & mask;
      index[at] = e + 1;
    }
    this.index = index;
    this.cells = this.size;
  }
}

function mix(slot: number, key: number): number {
  let hash = Math.imul(slot, 0x9e3779b1) ^ Math.imul(key, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return hash ^ (hash >>> 13);
}
