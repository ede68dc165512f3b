/**
 * What must hold after every single change of the stores, whoever made it: commits go forward, what
 * is named exists, nothing named is deleted, an outbox entry leaves once it was taken.
 */
import { type Checkpoint, fromItem } from "../commit/checkpoint.js";
import { numberInKey, OUTBOX_ENTRIES_MAX, totalBytes } from "../commit/decisions.js";
import type { CheckpointItem } from "../commit/ports.js";
import { type Place, type PublisherState, referencedKeys } from "../commit/publisher-state.js";
import { metaOf } from "../runtime/partition-meta.js";
import type { PartitionBounds } from "../runtime/partition-writer.js";
import { publisherId } from "../runtime/runner.js";
import { Violation } from "./faults.js";
import type { SimulatedResults } from "./simulated-sink.js";
import type { SimulatedStores, StoreMonitor } from "./simulated-stores.js";

/** Offsets `[from, to)`. */
interface Pass {
  readonly from: number;
  readonly to: number;
  readonly records: number;
}

export class ProtocolMonitor implements StoreMonitor {
  readonly #stores: SimulatedStores;
  readonly #results: SimulatedResults;
  readonly #publisherId: string;
  readonly #partitionsPrefix: string;
  readonly #definitionHash: string;
  /** Of those who take records, until they are lifted. */
  bounds: PartitionBounds;
  /** Keys that each item names and needs. */
  readonly #needed = new Map<string, ReadonlySet<string>>();
  /** Keys in each partition's outbox, also those that the publisher has taken. */
  readonly #outboxes = new Map<string, ReadonlySet<string>>();
  /** By partition's id, as committed last. */
  readonly #last = new Map<string, Checkpoint>();
  /** By partition's id, what each commit moved on over, and how many records it counted. */
  readonly #passes = new Map<string, Pass[]>();
  #published: PublisherState | null = null;
  /** Keys of the objects that an ingest began, in the order of their records. */
  readonly ingested: string[] = [];

  constructor(options: {
    readonly stores: SimulatedStores;
    readonly results: SimulatedResults;
    readonly pipeline: string;
    readonly definitionHash: string;
    readonly bounds: PartitionBounds;
  }) {
    this.#stores = options.stores;
    this.#results = options.results;
    this.#publisherId = publisherId(options.pipeline);
    this.#partitionsPrefix = `${options.pipeline}/partitions/`;
    this.#definitionHash = options.definitionHash;
    this.bounds = options.bounds;
  }

  /** What the publisher stored last. */
  get published(): PublisherState | null {
    return this.#published;
  }

  /** Outbox entries of a partition that the publisher has not taken. */
  waiting(id: string): number {
    const taken = this.#published?.taken[id] ?? 0;
    return this.#last.get(id)?.outbox.filter(({ sequence }) => sequence > taken).length ?? 0;
  }

  /** Whether some checkpoint names the object. */
  isNamed(key: string): boolean {
    const named = [...this.#needed.values(), ...this.#outboxes.values()];
    return named.some((keys) => keys.has(key));
  }

  committed(id: string, item: CheckpointItem): void {
    if (id === this.#publisherId) this.#publisherCommitted(item);
    else if (id.startsWith(this.#partitionsPrefix)) this.#partitionCommitted(id, item);
  }

  put(key: string, bytes: Uint8Array, before: Uint8Array | undefined): void {
    if (before === undefined || Buffer.compare(bytes, before) === 0) return;
    throw new Violation(`two different objects were put as ${key}`);
  }

  deleted(key: string): void {
    for (const [id, keys] of this.#needed) {
      if (keys.has(key)) throw new Violation(`${key} was deleted, but ${id} names it`);
    }
  }

  #partitionCommitted(id: string, item: CheckpointItem): void {
    const next = fromItem(id, item);
    const last = this.#last.get(id) ?? null;
    this.#last.set(id, next);
    checkForward(id, last, next);
    this.#notePass(id, last, next);
    this.#noteObject(next);
    if (next.definitionHash !== this.#definitionHash) {
      throw new Violation(`${id}: another definition committed`);
    }
    const taken = this.#published?.taken[id] ?? 0;
    checkOutbox(id, last, next, taken);
    for (const { key, pieceBytes } of next.state.objects) {
      this.#checkLength(id, key, totalBytes(pieceBytes));
    }
    // Entries that the publisher has taken are its own affair, whether they are released or not.
    this.#outboxes.set(id, new Set(next.outbox.map(({ key }) => key)));
    const waiting = next.outbox.filter(({ sequence }) => sequence > taken);
    // What sinks move, they move so that it leaves.
    const isOfRecords = next.nextOffset > (last?.nextOffset ?? 0);
    if (isOfRecords) checkBounds(id, next.stateBytes, waiting.length, this.bounds);
    for (const { key, bytes } of waiting) this.#checkLength(id, key, bytes);
    this.#needed.set(id, new Set([...next.state.objects, ...waiting].map(({ key }) => key)));
  }

  #notePass(id: string, last: Checkpoint | null, next: Checkpoint): void {
    const from = last?.nextOffset ?? 0;
    if (next.nextOffset === from) return;
    const before = last === null ? 0 : metaOf(last).counters.records;
    const records = metaOf(next).counters.records - before;
    const passes = this.#passes.get(id) ?? [];
    this.#passes.set(id, passes);
    passes.push({ from, to: next.nextOffset, records });
  }

  /** Indices of the records that no commit counted: it counts the last ones that it passes. */
  passedOver(id: string, records: readonly { readonly offset: number }[]): number[] {
    return (this.#passes.get(id) ?? []).flatMap((pass) => {
      const all = [...records.keys()].filter(
        (index) => records[index]!.offset >= pass.from && records[index]!.offset < pass.to,
      );
      const passed = all.length - pass.records;
      if (passed < 0) throw new Violation(`${id} counted ${pass.records} of ${all.length} records`);
      return all.slice(0, passed);
    });
  }

  /** An object's records lie side by side. */
  #noteObject({ position }: Checkpoint): void {
    const { object } = position ?? {};
    if (typeof object !== "string" || this.ingested.at(-1) === object) return;
    if (this.ingested.includes(object)) throw new Violation(`${object} was ingested in two parts`);
    this.ingested.push(object);
  }

  #forgetTaken(id: string, taken: number): void {
    const isTaken = (key: string) => key.startsWith(`${id}/outbox/`) && numberInKey(key) <= taken;
    const keys = [...(this.#needed.get(id) ?? [])];
    this.#needed.set(id, new Set(keys.filter((key) => !isTaken(key))));
  }

  #checkLength(id: string, key: string, length: number): void {
    const found = this.#stores.objects.get(key)?.length ?? null;
    if (found === length) return;
    throw new Violation(`${id} names ${key} of ${length} bytes, found ${found ?? "none"}`);
  }

  #publisherCommitted(item: CheckpointItem): void {
    const { stateKey } = item.attributes;
    const bytes = typeof stateKey === "string" ? this.#stores.objects.get(stateKey) : item.payload;
    if (bytes === undefined) throw new Violation("the publisher's state object does not exist");
    const next = JSON.parse(Buffer.from(bytes).toString("utf8")) as PublisherState;
    for (const place of placesOf(next)) {
      const found = this.#stores.objects.get(place.key)?.length ?? -1;
      if (found >= place.at + place.length) continue;
      throw new Violation(`the publisher names ${place.key}, found ${found} bytes`);
    }
    checkPublisher(this.#published, next);
    for (const { sequence } of [...this.#results.own, ...this.#results.servers]) {
      if (next.trimmedThrough <= sequence) continue;
      throw new Violation(`trimmed through ${next.trimmedThrough}, a sink has ${sequence}`);
    }
    const keys = referencedKeys(next);
    if (typeof stateKey === "string") keys.add(stateKey);
    this.#needed.set(this.#publisherId, keys);
    this.#published = next;
    for (const [id, taken] of Object.entries(next.taken)) this.#forgetTaken(id, taken);
  }
}

function checkForward(id: string, last: Checkpoint | null, next: Checkpoint): void {
  if (last === null) return;
  if (next.nextOffset < last.nextOffset) {
    throw new Violation(`${id}: offset ${next.nextOffset} after ${last.nextOffset}`);
  }
  const [time, timeBefore] = [next.maxEventTime ?? -Infinity, last.maxEventTime ?? -Infinity];
  if (time < timeBefore) throw new Violation(`${id}: event time went back`);
  if (next.generation !== last.generation + 1)
    throw new Violation(`${id}: a generation is missing`);
  if (next.commitId === last.commitId) throw new Violation(`${id}: a commit id came twice`);
}

function checkBounds(
  id: string,
  stateBytes: number,
  waiting: number,
  { stateBytesMax, waitingEntriesMax }: PartitionBounds,
): void {
  if (stateBytes <= stateBytesMax && waiting <= waitingEntriesMax) return;
  throw new Violation(
    `${id}: ${stateBytes} bytes of state and ${waiting} entries that wait; the bounds are ` +
      `${stateBytesMax} and ${waitingEntriesMax}`,
  );
}

function checkOutbox(id: string, last: Checkpoint | null, next: Checkpoint, taken: number): void {
  if (next.outbox.length > OUTBOX_ENTRIES_MAX) throw new Violation(`${id}: the outbox is too long`);
  const now = new Map(next.outbox.map((entry) => [entry.sequence, entry.key]));
  for (const { sequence, key } of last?.outbox ?? []) {
    const isGone = !now.has(sequence);
    if (isGone && sequence > taken) {
      throw new Violation(`${id}: entry ${sequence} was released, taken is up to ${taken}`);
    }
    if (!isGone && now.get(sequence) !== key) {
      throw new Violation(`${id}: entry ${sequence} was replaced`);
    }
  }
  const from = last?.nextOutboxSequence ?? 1;
  for (const { sequence } of next.outbox) {
    const isNew = last?.outbox.every((entry) => entry.sequence !== sequence) ?? true;
    if (isNew && sequence !== from) throw new Violation(`${id}: entry ${sequence}, not ${from}`);
  }
}

function checkPublisher(last: PublisherState | null, next: PublisherState): void {
  let sequence = next.trimmedThrough;
  for (const publication of next.publications) {
    if (publication.sequence !== ++sequence) {
      throw new Violation(`publication ${publication.sequence} follows ${sequence - 1}`);
    }
  }
  if (sequence !== next.sequence) throw new Violation(`publications end at ${sequence}`);
  if (last === null) return;
  if (next.sequence < last.sequence) throw new Violation("the publisher's sequence went back");
  for (const [stream, watermark] of Object.entries(last.watermarks)) {
    if ((next.watermarks[stream] ?? -Infinity) < (watermark ?? -Infinity)) {
      throw new Violation(`the watermark of ${stream} went back`);
    }
  }
  for (const [id, taken] of Object.entries(last.taken)) {
    if ((next.taken[id] ?? 0) < taken) throw new Violation(`taken of ${id} went back`);
  }
  const before = new Map(last.publications.map((entry) => [entry.sequence, entry]));
  for (const entry of next.publications) {
    const old = before.get(entry.sequence);
    if (old === undefined) continue;
    if (old.place.key !== entry.place.key || old.place.at !== entry.place.at) {
      throw new Violation(`publication ${entry.sequence} was replaced`);
    }
  }
}

function* placesOf(state: PublisherState): Generator<Place> {
  for (const { place } of state.publications) yield place;
  for (const { partials, published } of Object.values(state.windows).flat()) {
    yield* partials;
    if (published !== null) yield published;
  }
  for (const { open } of Object.values(state.sessions)) {
    for (const { place } of Object.values(open)) yield place;
  }
}
