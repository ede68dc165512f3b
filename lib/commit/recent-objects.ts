/**
 * An object store that remembers what it was just given or asked for. Objects never change, so what
 * is remembered is right; the partitions' outboxes and the publisher's batches are read back soon
 * after they are written, by the same process.
 */
import type { ObjectStore } from "./ports.js";

const BYTES_MAX = 64 * 1024 * 1024;

/**
 * Remembers the last objects, at most `bytesMax` of them, 64 MiB by default.
 *
 * @example const objects = new RecentObjects(new FileObjectStore(dir));
 */
export class RecentObjects implements ObjectStore {
  readonly #store: ObjectStore;
  readonly #bytesMax: number;
  /** Oldest first. */
  readonly #objects = new Map<string, Uint8Array>();
  #bytes = 0;

  /** The store itself, if it remembers already. */
  static over(store: ObjectStore): RecentObjects {
    return store instanceof RecentObjects ? store : new RecentObjects(store);
  }

  constructor(store: ObjectStore, bytesMax = BYTES_MAX) {
    this.#store = store;
    this.#bytesMax = bytesMax;
  }

  /** The bytes must not change afterwards. */
  async putIfAbsent(key: string, bytes: Uint8Array): Promise<"created" | "exists"> {
    const outcome = await this.#store.putIfAbsent(key, bytes);
    if (outcome === "created") this.#remember(key, bytes);
    return outcome;
  }

  async get(key: string): Promise<Uint8Array | null> {
    const known = this.#objects.get(key);
    if (known !== undefined) return known;
    const bytes = await this.#store.get(key);
    if (bytes !== null) this.#remember(key, bytes);
    return bytes;
  }

  async delete(key: string): Promise<void> {
    this.#forget(key);
    await this.#store.delete(key);
  }

  async list(prefix: string): Promise<string[]> {
    return this.#store.list(prefix);
  }

  #remember(key: string, bytes: Uint8Array): void {
    this.#forget(key);
    if (bytes.length > this.#bytesMax) return;
    this.#objects.set(key, bytes);
    this.#bytes += bytes.length;
    for (const oldest of this.#objects.keys()) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#forget(oldest);
    }
  }

  #forget(key: string): void {
    this.#bytes -= this.#objects.get(key)?.length ?? 0;
    this.#objects.delete(key);
  }
}
