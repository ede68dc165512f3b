/**
 * The two store ports of the commit protocol (DESIGN, section 4). Stores know nothing of what they
 * hold.
 */

/** One checkpoint item. Only `compareAndSwap` changes it. */
export interface CheckpointItem {
  /** Starts at 1, +1 with each commit. */
  readonly generation: number;
  /** Unique per commit attempt; tells a writer whether an unknown outcome was its own success. */
  readonly commitId: string;
  /** Readable attributes (offsets, watermark, references to objects). */
  readonly attributes: Readonly<Record<string, unknown>>;
  /** Small binary state kept inside the item. */
  readonly payload: Uint8Array;
}

export interface CheckpointStore {
  /** How many payload bytes may sit in an item; above it the caller writes an object. */
  readonly payloadBytesMax: number;
  /** Consistent read. */
  read(id: string): Promise<CheckpointItem | null>;
  /**
   * Store `item` if the stored generation is `item.generation - 1` (absent counts as 0).
   * "conflict" means nothing was written. Any other failure throws, with the outcome unknown.
   */
  compareAndSwap(id: string, item: CheckpointItem): Promise<"committed" | "conflict">;
  /** Ids with this prefix, ascending. */
  list(prefix: string): Promise<string[]>;
}

export interface ObjectStore {
  /**
   * Atomic: a reader sees the whole object or none. "exists" means that the key is taken and
   * nothing was written.
   */
  putIfAbsent(key: string, bytes: Uint8Array): Promise<"created" | "exists">;
  /** Null when absent. */
  get(key: string): Promise<Uint8Array | null>;
  /** No error when absent. */
  delete(key: string): Promise<void>;
  /** Keys with this prefix, ascending. */
  list(prefix: string): Promise<string[]>;
}
