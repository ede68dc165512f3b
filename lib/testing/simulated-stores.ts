/**
 * The stores of a simulated world: each process sees them through calls that the world schedules.
 * Every change is shown to a monitor before anything else can happen.
 */
import type { CheckpointItem, CheckpointStore, ObjectStore } from "../commit/ports.js";
import { countFault } from "./faults.js";
import type { SimulatedProcess, World } from "./world.js";

/** Sees each change as it is made; throws `Violation`. */
export interface StoreMonitor {
  committed(id: string, item: CheckpointItem): void;
  /** An object was put; `before` is what was there, which stays. */
  put(key: string, bytes: Uint8Array, before: Uint8Array | undefined): void;
  deleted(key: string): void;
}

/** Another store of the same objects, as one process sees it. */
export type ObjectsOver = (
  world: World,
  process: SimulatedProcess,
  stores: SimulatedStores,
) => ObjectStore;

export class SimulatedStores {
  readonly objects = new Map<string, Uint8Array>();
  /** Ids of the items that were written, in order: what the state table's stream tells of. */
  readonly changes: string[] = [];
  readonly #items = new Map<string, CheckpointItem>();
  readonly #world: World;
  readonly #payloadBytesMax: number;
  readonly #objectsOver: ObjectsOver | null;
  monitor: StoreMonitor | null = null;

  constructor(
    world: World,
    options: { readonly payloadBytesMax: number; readonly objectsOver?: ObjectsOver | undefined },
  ) {
    this.#world = world;
    this.#objectsOver = options.objectsOver ?? null;
    this.#payloadBytesMax = options.payloadBytesMax;
  }

  /** As one process sees them. */
  of(process: SimulatedProcess): { checkpoints: CheckpointStore; objects: ObjectStore } {
    const objects = this.#objectsOver?.(this.#world, process, this) ?? this.#objectsOf(process);
    return { checkpoints: this.#checkpointsOf(process), objects };
  }

  /** At once, without the world: for checks. */
  item(id: string): CheckpointItem | null {
    const stored = this.#items.get(id);
    return stored === undefined ? null : { ...stored, payload: stored.payload.slice() };
  }

  ids(prefix: string): string[] {
    return withPrefix(this.#items.keys(), prefix);
  }

  #checkpointsOf(process: SimulatedProcess): CheckpointStore {
    const world = this.#world;
    return {
      payloadBytesMax: this.#payloadBytesMax,
      read: (id) => {
        process.looked.add(id);
        const apply = () => this.item(id);
        return world.call(process, { what: `read ${id}`, isWrite: false, apply });
      },
      compareAndSwap: (id, item) => {
        // As a client does, what is sent is made now; what JSON does not keep is lost.
        const attributes = frozen(JSON.parse(JSON.stringify(item.attributes)));
        const stored = { ...item, attributes, payload: item.payload.slice() };
        const what = `swap ${id} to ${item.generation}`;
        let mayBeStale = !process.looked.has(id);
        process.looked.add(id);
        const apply = () => {
          const outcome = this.#swap(id, stored);
          if (mayBeStale && outcome === "conflict") {
            countFault(world.faults, "thawed environment had a stale copy");
          }
          // A client that repeats it meets its own success.
          mayBeStale = false;
          return outcome;
        };
        return world.call(process, { what, isWrite: true, apply });
      },
      list: (prefix) =>
        world.call(process, {
          what: `list ${prefix}`,
          isWrite: false,
          apply: () => this.ids(prefix),
        }),
    };
  }

  #swap(id: string, next: CheckpointItem): "committed" | "conflict" {
    if ((this.#items.get(id)?.generation ?? 0) !== next.generation - 1) return "conflict";
    this.#items.set(id, next);
    this.changes.push(id);
    this.monitor?.committed(id, this.item(id)!);
    return "committed";
  }

  #objectsOf(process: SimulatedProcess): ObjectStore {
    const world = this.#world;
    return {
      putIfAbsent: (key, bytes) => {
        const copy = bytes.slice();
        const apply = () => this.put(key, copy);
        return world.call(process, { what: `put ${key}`, isWrite: true, apply });
      },
      get: (key) =>
        world.call(process, {
          what: `get ${key}`,
          isWrite: false,
          apply: () => this.objects.get(key)?.slice() ?? null,
        }),
      delete: (key) =>
        world.call(process, {
          what: `delete ${key}`,
          isWrite: true,
          apply: () => this.delete(key),
        }),
      list: (prefix) =>
        world.call(process, {
          what: `list ${prefix}`,
          isWrite: false,
          apply: () => withPrefix(this.objects.keys(), prefix),
        }),
    };
  }

  delete(key: string): void {
    this.objects.delete(key);
    this.monitor?.deleted(key);
  }

  /** At once, without the world, as `delete` is. */
  put(key: string, bytes: Uint8Array): "created" | "exists" {
    const before = this.objects.get(key);
    this.monitor?.put(key, bytes, before);
    if (before !== undefined) return "exists";
    this.objects.set(key, bytes);
    return "created";
  }
}

/** All readers share it; who would change it fails. */
function frozen<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  for (const part of Object.values(value)) frozen(part);
  return Object.freeze(value);
}

function withPrefix(keys: Iterable<string>, prefix: string): string[] {
  return [...keys].filter((key) => key.startsWith(prefix)).sort(byText);
}

/** As object stores do: all keys of simulations are ASCII. */
const byText = (a: string, b: string) => (a < b ? -1 : 1);
