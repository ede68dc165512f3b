/** One step of a known layout: the bytes before a value, how to read it, and what may follow. */
import type { FieldColumn } from "./field-column.js";

/** Ways to read the value after the bytes: by the scanner, or first by a shorter way. */
export const SCAN = 0;
export const TEXT = 1;
export const TIME = 2;
/** There is no value: the record ends. */
export const END = 3;

/** More followers than this are no layout; comparing with each would cost more than it saves. */
const FOLLOWERS_MAX = 8;

export class LayoutNode {
  readonly length: number;
  readonly way: number;
  /** Who takes the value, and the one who does if it is one. */
  readonly fields: readonly FieldColumn[];
  readonly field: FieldColumn | null;
  /** How many arrays and objects the value is in. */
  readonly levels: number;
  followers: LayoutNode[] = [];
  /** The bytes in words; the last word begins where it ends with the bytes. */
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;

  /** Without `fields`, the record's last bytes. */
  constructor(bytes: Uint8Array, fields: readonly FieldColumn[] | null, levels: number) {
    this.bytes = bytes;
    this.length = bytes.length;
    this.fields = fields ?? [];
    this.field = this.fields.length === 1 ? this.fields[0] : null;
    this.levels = levels;
    this.way = fields === null ? END : wayOf(this.field);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.words = new Int32Array(this.length < 4 ? 0 : Math.ceil(this.length / 4));
    for (let i = 0; i < this.words.length; i++) {
      this.words[i] = view.getInt32(Math.min(4 * i, this.length - 4), true);
    }
  }

  /** The follower whose bytes stand at `pos` of a record that ends at `end`. */
  next(view: DataView, pos: number, end: number): LayoutNode | null {
    const { followers } = this;
    for (let i = 0; i < followers.length; i++) {
      if (followers[i].isAt(view, pos, end)) return followers[i];
    }
    return null;
  }

  /** The follower with these bytes, made if there is none; null if there is no room for it. */
  follow(
    bytes: Uint8Array,
    fields: readonly FieldColumn[] | null,
    levels: number,
  ): LayoutNode | null {
    const { followers } = this;
    const known = followers.find((follower) => Buffer.compare(follower.bytes, bytes) === 0);
    if (known !== undefined) return known;
    if (followers.length >= FOLLOWERS_MAX) return null;
    const added = new LayoutNode(bytes, fields, levels);
    followers.push(added);
    return added;
  }

  private isAt(view: DataView, pos: number, end: number): boolean {
    const { length, words, bytes } = this;
    const stop = pos + length;
    if (this.way === END ? stop !== end : stop > end) return false;
    if (length < 4) {
      for (let i = 0; i < length; i++) {
        if (view.getUint8(pos + i) !== bytes[i]) return false;
      }
      return true;
    }
    const last = words.length - 1;
    for (let i = 0; i < last; i++) {
      if (view.getInt32(pos + 4 * i, true) !== words[i]) return false;
    }
    return view.getInt32(stop - 4, true) === words[last];
  }
}

function wayOf(field: FieldColumn | null): number {
  if (field === null || field.isList) return SCAN;
  const { kind, iso } = field.reader;
  if (kind === "string") return TEXT;
  return iso === null ? SCAN : TIME;
}
