/**
 * Both stores in memory, for tests and simulations: a fault hook sees every operation before and
 * after it is applied, and may delay it, fail it, or lose its reply.
 */
import type { CheckpointItem, CheckpointStore, ObjectStore } from "../commit/ports.js";
import { compareKeys } from "./keys.js";

export interface StoreOperation {
  readonly store: "checkpoints" | "objects";
  readonly name: "read" | "compareAndSwap" | "putIfAbsent" | "get" | "delete" | "list";
  /** The id, key or prefix. */
  readonly target: string;
}

/** Throwing in `before` fails the operation; in `after` it was applied, and its reply is lost. */
export interface FaultHook {
  before?(operation: StoreOperation): void | Promise<void>;
  after?(operation: StoreOperation): void | Promise<void>;
}

async function withFaults<T>(
  hook: FaultHook | undefined,
  operation: StoreOperation,
  apply: () => T,
): Promise<T> {
  await hook?.before?.(operation);
  const result = apply();
  await hook?.after?.(operation);
  return result;
}

/** Stored as text and a copy, so that what would not survive a real store does not survive here. */
interface StoredItem {
  readonly generation: number;
  readonly commitId: string;
  readonly attributesJson: string;
  readonly payload: Uint8Array;
}

export class MemoryCheckpointStore implements CheckpointStore {
  readonly payloadBytesMax: number;
  readonly #faults: FaultHook | undefined;
  readonly #items: Map<string, StoredItem>;

  constructor(
    options: { readonly payloadBytesMax?: number; readonly faults?: FaultHook } = {},
    sharedWith?: MemoryCheckpointStore,
  ) {
    this.payloadBytesMax = options.payloadBytesMax ?? sharedWith?.payloadBytesMax ?? 256 * 1024;
    this.#faults = options.faults;
    this.#items = sharedWith === undefined ? new Map() : sharedWith.#items;
  }

  /** Another view of the same items with its own faults, as a second process would have. */
  withFaults(faults: FaultHook): MemoryCheckpointStore {
    return new MemoryCheckpointStore({ faults }, this);
  }

  read(id: string): Promise<CheckpointItem | null> {
    return withFaults(this.#faults, { store: "checkpoints", name: "read", target: id }, () => {
      const stored = this.#items.get(id);
      if (stored === undefined) return null;
      const { generation, commitId, attributesJson, payload } = stored;
      const attributes: Record<string, unknown> = JSON.parse(attributesJson);
      return { generation, commitId, attributes, payload: payload.slice() };
    });
  }

  compareAndSwap(id: string, item: CheckpointItem): Promise<"committed" | "conflict"> {
    const operation = { store: "checkpoints", name: "compareAndSwap", target: id } as const;
    return withFaults(this.#faults, operation, () => {
      if ((this.#items.get(id)?.generation ?? 0) !== item.generation - 1) return "conflict";
      this.#items.set(id, {
        generation: item.generation,
        commitId: item.commitId,
        attributesJson: JSON.stringify(item.attributes),
        payload: item.payload.slice(),
      });
      return "committed";
    });
  }

  list(prefix: string): Promise<string[]> {
    return withFaults(this.#faults, { store: "checkpoints", name: "list", target: prefix }, () =>
      keysWithPrefix(this.#items.keys(), prefix),
    );
  }
}

export class MemoryObjectStore implements ObjectStore {
  readonly #faults: FaultHook | undefined;
  readonly #objects: Map<string, Uint8Array>;

  constructor(options: { readonly faults?: FaultHook } = {}, sharedWith?: MemoryObjectStore) {
    this.#faults = options.faults;
    this.#objects = sharedWith === undefined ? new Map() : sharedWith.#objects;
  }

  /** Another view of the same objects with its own faults, as a second process would have. */
  withFaults(faults: FaultHook): MemoryObjectStore {
    return new MemoryObjectStore({ faults }, this);
  }

  putIfAbsent(key: string, bytes: Uint8Array): Promise<"created" | "exists"> {
    const operation = { store: "objects", name: "putIfAbsent", target: key } as const;
    return withFaults(this.#faults, operation, () => {
      if (this.#objects.has(key)) return "exists";
      this.#objects.set(key, bytes.slice());
      return "created";
    });
  }

  get(key: string): Promise<Uint8Array | null> {
    return withFaults(
      this.#faults,
      { store: "objects", name: "get", target: key },
      () => this.#objects.get(key)?.slice() ?? null,
    );
  }

  delete(key: string): Promise<void> {
    return withFaults(this.#faults, { store: "objects", name: "delete", target: key }, () => {
      this.#objects.delete(key);
    });
  }

  list(prefix: string): Promise<string[]> {
    return withFaults(this.#faults, { store: "objects", name: "list", target: prefix }, () =>
      keysWithPrefix(this.#objects.keys(), prefix),
    );
  }
}

function keysWithPrefix(keys: Iterable<string>, prefix: string): string[] {
  return [...keys].filter((key) => key.startsWith(prefix)).sort(compareKeys);
}
