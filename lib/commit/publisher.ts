/**
 * From closed partials to published rows. The publisher takes the partitions' outboxes, merges
 * partials across partitions, decides what is published or revised, and hands sinks a numbered list
 * of publications. Like a partition it has one commit point: its own checkpoint.
 */
import type { TableNode } from "../define/definition.js";
import type { Batch } from "../engine/batch.js";
import { decodeBatch, encodeBatch } from "../engine/batch-codec.js";
import { gather } from "../engine/columns.js";
import {
  eventsByStart,
  mergePartials,
  type PartialBytes,
  sessionRows,
  windowRows,
} from "../engine/finish.js";
import type { GroupPlan } from "../engine/group-plan.js";
import { GroupStore } from "../engine/group-store.js";
import type { StreamProgram } from "../engine/program.js";
import { firstRevision, reviseSessions, reviseWindow } from "../engine/revise.js";
import { type SectionPlace, sectionPlaces } from "../engine/section.js";
import { MillpondError } from "../errors.js";
import { CheckpointCell, newCommitId } from "./cell.js";
import type { Checkpoint, OutboxEntry } from "./checkpoint.js";
import { readOutbox, refuseWhileFilled } from "./committer.js";
import { leftoverKeys } from "./decisions.js";
import type { CheckpointItem, CheckpointStore, ObjectStore } from "./ports.js";
import {
  emptyPublisherState,
  type PartialPlace,
  type Place,
  type PublicationEntry,
  type PublisherState,
  referencedKeys,
  type SessionEntry,
  type TableTotals,
  type WindowEntry,
} from "./publisher-state.js";
import { RecentObjects } from "./recent-objects.js";

/** A partition as the publisher sees it. */
export interface PartitionFacts {
  /** The id of its checkpoint. */
  readonly id: string;
  readonly stream: string;
  readonly partition: number;
  /** Null before its first commit; it then holds everybody back. */
  readonly checkpoint: Checkpoint | null;
  /** An idle partition holds nobody back; what it brings later is a revision. */
  readonly idle: boolean;
}

export interface RoundOptions {
  readonly partitions: readonly PartitionFacts[];
  /** Tables whose open windows are published as they stand. */
  readonly flush: (table: string) => boolean;
  /** Every sink has taken the publications up to this sequence. */
  readonly sinksTookUpTo: number;
  /**
   * About so many bytes are published at a time, for they are in memory until the commit; what is
   * due beyond that is for the next round (`isBehind`). No bound unless told.
   */
  readonly bytesMax?: number;
  /**
   * Event time from which a table's windows may still be brought by partitions that are behind, in
   * epoch ms; those that `reviseFor` lets go are kept for them. Default: every partition that there
   * will be is known, and `reviseFor` decides.
   */
  readonly awaitedFrom?: (table: TableNode) => number;
}

/**
 * Windows are published in runs of at most so many partial bytes: few enough for the processor's
 * caches, and small windows still share a publication.
 */
const MERGE_BYTES_MAX = 512 * 1024;
/**
 * A partial is kept for `reviseFor`. It stays in the object it came in if at most one part in so
 * many of that are rows, which need not be kept; else it is copied.
 */
const ROWS_SHARE_MAX = 4;
/** A merge store larger than that is let go after use. */
const MERGE_STORE_WORDS_MAX = 1 << 22;
/** Reads of a checkpoint that moved on each time; more means that something else is wrong. */
const LOADS_MAX = 10;
/** The publisher's state names each of a table's windows (I6). */
const WINDOWS_MAX = 500_000;
/**
 * Of a table whose windows name more partials than that, none is kept for partitions that are
 * behind: the state, cloned and written every round, would grow by some 150 bytes for each.
 */
const AWAITING_PARTIALS_MAX = 20_000;

interface WindowedTable {
  readonly table: TableNode;
  readonly plan: GroupPlan;
  readonly stream: string;
}

export class Publisher {
  state: PublisherState;
  /** Of the checkpoint as last read or written; a greater one stored means another publisher. */
  generation = 0;
  /** Windows that are due were left to the next round. */
  isBehind = false;
  private readonly cell: CheckpointCell;
  private readonly objects: ObjectStore;
  private readonly tables: ReadonlyMap<string, WindowedTable>;
  private readonly latenesses: ReadonlyMap<string, number>;
  private readonly definitionHash: string;
  private readonly id: string;
  /** What this round's object will hold, by place. */
  private batches = new Map<number, Uint8Array>();
  private batchBytes = 0;
  /** Of this round: how many `batchBytes` were taken, and how many may be published with them. */
  private publishing = { from: 0, max: Number.POSITIVE_INFINITY };
  private objectKey = "";
  private takenKeys: string[] = [];
  /** Wall clock of the newest commit that this round took. */
  private committedAtMs: number | null = null;
  private divided: (Omit<Place, "length"> & DividedBatch) | null = null;
  /** This round's windows by table and start. */
  private entries = new Map<string, Map<number, WindowEntry>>();
  /** Emptied stores to merge partials in, by table. */
  private readonly mergeStores = new Map<string, GroupStore>();

  constructor(options: {
    readonly checkpoints: CheckpointStore;
    readonly objects: ObjectStore;
    /** E.g. "flights/publisher"; its objects are kept under the same prefix. */
    readonly id: string;
    readonly definitionHash: string;
    readonly programs: readonly StreamProgram[];
  }) {
    this.id = options.id;
    this.cell = new CheckpointCell(options.checkpoints, options.id);
    // They are read piece by piece.
    this.objects = RecentObjects.over(options.objects);
    this.definitionHash = options.definitionHash;
    this.state = emptyPublisherState(options.definitionHash);
    this.latenesses = new Map(
      options.programs.map(({ stream }) => [stream.name, stream.latenessMs]),
    );
    this.tables = new Map(
      options.programs.flatMap((program) =>
        program.windowed.map(({ table, plan }) => [
          table.name,
          { table, plan, stream: program.stream.name },
        ]),
      ),
    );
  }

  async load(): Promise<void> {
    const state = await this.stored();
    if (state !== null) this.accept(state);
  }

  /**
   * Puts what is stored, be it nothing, under another hash: whoever runs under that one goes on
   * with it, as the same output.
   */
  async handOver(definitionHash: string): Promise<void> {
    const state = await this.stored();
    if (state?.definitionHash === definitionHash) return;
    if (state !== null) this.accept(state);
    this.batches = new Map();
    const commitId = this.beginCommit();
    await this.commit({ ...this.state, definitionHash }, commitId);
  }

  private async stored(): Promise<PublisherState | null> {
    let absent = { generation: 0, key: "" };
    for (let attempt = 1; attempt <= LOADS_MAX; attempt++) {
      const item = await this.cell.read();
      if (item === null) return null;
      this.generation = item.generation;
      if (absent.generation === item.generation) break;
      const state = await this.readState(item);
      if (state !== null) return state;
      // Another publisher may have replaced the object since the read: then read again.
      absent = { generation: item.generation, key: String(item.attributes.stateKey) };
    }
    throw missing(absent.key);
  }

  private accept(state: PublisherState): void {
    this.state = state;
    const { definitionHash: found } = this.state;
    if (found === this.definitionHash) return;
    refuseWhileFilled(this.id, found, this.definitionHash);
    throw new MillpondError(
      "OUTPUT",
      `the output's results were published by another or a changed definition (hash ${found}, ` +
        `expected ${this.definitionHash}): run with the definition that wrote it, or give ` +
        "another output (in AWS another name or stage)",
    );
  }

  /** Takes what the partitions have, publishes what is due, commits. True if anything changed. */
  async round(options: RoundOptions): Promise<boolean> {
    const before = referencedKeys(this.state);
    const commitId = this.beginCommit();
    this.batches = new Map();
    this.batchBytes = 0;
    this.entries = new Map();
    const next = structuredClone(this.state);
    const taken = await this.takeOutboxes(next, options.partitions);
    const moved = this.moveWatermarks(next, options.partitions);
    this.isBehind = false;
    const { bytesMax = Number.POSITIVE_INFINITY } = options;
    this.publishing = { from: this.batchBytes, max: bytesMax };
    for (const [name, windowed] of this.tables) {
      if (windowed.plan.session) continue;
      await this.publishWindows(next, name, windowed, options.flush(name));
      this.dropSettled(next, name, windowed, options.awaitedFrom?.(windowed.table));
    }
    const kept = next.publications.filter(({ sequence }) => sequence > options.sinksTookUpTo);
    const trimmed = kept.length < next.publications.length;
    next.publications = kept;
    next.trimmedThrough = Math.max(next.trimmedThrough, options.sinksTookUpTo);
    noteStreams(next, options.partitions);
    if (!taken && !moved && !trimmed && this.batches.size === 0) return false;
    await this.commit(next, commitId);
    const after = referencedKeys(this.state);
    const orphans = [...before, ...this.takenKeys].filter((key) => !after.has(key));
    this.takenKeys = [];
    await Promise.allSettled(orphans.map((key) => this.objects.delete(key)));
    return true;
  }

  /** Deletes what crashed rounds left behind; returns how many objects. */
  async sweep(): Promise<number> {
    const { current } = this.cell;
    if (current === null) return 0;
    const used = referencedKeys(this.state);
    if (typeof current.attributes.stateKey === "string") used.add(current.attributes.stateKey);
    const keys = await this.objects.list(`${this.id}/`);
    const leftovers = leftoverKeys(keys, current.generation, used);
    await Promise.allSettled(leftovers.map((key) => this.objects.delete(key)));
    return leftovers.length;
  }

  /** The batch of a publication. */
  async batchOf(publication: PublicationEntry): Promise<Batch> {
    return decodeBatch(await this.bytesOf(publication.place));
  }

  private async takeOutboxes(
    next: PublisherState,
    partitions: readonly PartitionFacts[],
  ): Promise<boolean> {
    let any = false;
    this.takenKeys = [];
    this.committedAtMs = null;
    const ordered = [...partitions].sort((a, b) => a.partition - b.partition);
    for (const facts of ordered) {
      const already = next.taken[facts.id] ?? 0;
      for (const entry of facts.checkpoint?.outbox ?? []) {
        if (entry.sequence <= already) continue;
        await this.takeEntry(next, facts, entry);
        next.taken[facts.id] = entry.sequence;
        this.takenKeys.push(entry.key);
        any = true;
      }
    }
    return any;
  }

  private async takeEntry(
    next: PublisherState,
    facts: PartitionFacts,
    entry: OutboxEntry,
  ): Promise<void> {
    const { committedAtMs } = entry;
    this.committedAtMs = Math.max(this.committedAtMs ?? committedAtMs, committedAtMs);
    const object = await readOutbox(this.objects, entry);
    const sections = sectionPlaces(object);
    const rowsBytes = sum(sections.map(({ kind, length }) => (kind === "rows" ? length : 0)));
    const keepsObject = rowsBytes * ROWS_SHARE_MAX <= object.length;
    for (const section of sections) {
      const place = { key: entry.key, at: section.at, length: section.length };
      if (section.kind === "rows") {
        const { table, count: rows } = section;
        next.publications.push({ sequence: ++next.sequence, table, rows, place, committedAtMs });
        totals(next, table).publishedRows += rows;
      } else if (section.kind === "sessions") {
        await this.takeSessions(next, facts, section, place);
      } else await this.takeWindow(next, facts, section, place, keepsObject);
    }
  }

  private async takeWindow(
    next: PublisherState,
    facts: PartitionFacts,
    section: SectionPlace,
    place: Place,
    keepsObject: boolean,
  ): Promise<void> {
    const { droppedThrough } = totals(next, section.table);
    const end = section.start + this.sizeOf(section.table);
    const isThere = this.entriesOf(next, section.table).has(section.start);
    if (!isThere && droppedThrough !== null && end <= droppedThrough) {
      await this.countBeyond(next, facts, section, place);
      return;
    }
    const entry = this.windowEntry(next, section.table, section.start);
    const { partition } = facts;
    const kept = keepsObject ? place : this.keepBytes(new Uint8Array(await this.bytesOf(place)));
    entry.partials = [
      ...entry.partials.filter((partial) => partial.partition !== partition),
      { ...kept, partition, open: section.open },
    ].sort((a, b) => a.partition - b.partition);
    entry.dirty = true;
  }

  /** Events that came after `reviseFor`. An open window's are counted anew each time it comes. */
  private async countBeyond(
    next: PublisherState,
    facts: PartitionFacts,
    section: SectionPlace,
    place: Place,
  ): Promise<void> {
    const { plan } = this.windowed(section.table);
    const bytes = await this.bytesOf(place);
    const store = this.merge(section.table, plan, [{ start: section.start, bytes }]);
    const events = sum(eventsByStart(store).values());
    const total = totals(next, section.table);
    const key = `${facts.id}@${section.start}`;
    total.beyondReviseEvents += events - (total.openBeyond[key] ?? 0);
    if (section.open) total.openBeyond[key] = events;
    else delete total.openBeyond[key];
  }

  private windowEntry(next: PublisherState, table: string, start: number): WindowEntry {
    const byStart = this.entriesOf(next, table);
    let entry = byStart.get(start);
    if (entry === undefined) {
      entry = { start, partials: [], dirty: true, published: null, events: 0 };
      next.windows[table]!.push(entry);
      if (byStart.size > WINDOWS_MAX) throw tooManyWindows(table);
      byStart.set(start, entry);
    }
    return entry;
  }

  private entriesOf(next: PublisherState, table: string): Map<number, WindowEntry> {
    next.windows[table] ??= [];
    let byStart = this.entries.get(table);
    if (byStart === undefined) {
      byStart = new Map(next.windows[table]!.map((entry) => [entry.start, entry]));
      this.entries.set(table, byStart);
    }
    return byStart;
  }

  /**
   * Sessions need no other partition: what closed, or stood open at a flush, is published at once.
   */
  private async takeSessions(
    next: PublisherState,
    facts: PartitionFacts,
    section: SectionPlace,
    place: Place,
  ): Promise<void> {
    const { plan } = this.windowed(section.table);
    next.sessions[section.table] ??= { open: {} };
    const sessions: SessionEntry = next.sessions[section.table]!;
    const before = sessions.open[facts.id];
    const bytes = section.count === 0 ? [] : [{ start: 0, bytes: await this.bytesOf(place) }];
    const store = this.merge(section.table, plan, bytes);
    const rows = sessionRows(store);
    const keys = plan.keys.map(({ column }) => column.name);
    const events = sum(eventsByStart(store).values());
    if (before === undefined) {
      if (section.count > 0) {
        const published = this.publish(next, section.table, firstRevision(rows));
        if (section.open) sessions.open[facts.id] = { place: published, events };
      }
    } else {
      const old = withoutRetracted(decodeBatch(await this.bytesOf(before.place)));
      const { changed, full } = reviseSessions(old, rows, keys);
      if (changed.rowCount > 0) this.publish(next, section.table, changed);
      if (section.open) {
        const stands = this.keep(full);
        sessions.open[facts.id] = { place: stands, events };
      }
    }
    if (!section.open) totals(next, section.table).settledEvents += events;
  }

  private moveWatermarks(next: PublisherState, partitions: readonly PartitionFacts[]): boolean {
    let moved = false;
    for (const [stream, latenessMs] of this.latenesses) {
      const lowest = passedByAll(partitions.filter((p) => p.stream === stream)) - latenessMs;
      const before = next.watermarks[stream] ?? null;
      if (!Number.isFinite(lowest) || (before !== null && lowest <= before)) continue;
      next.watermarks[stream] = lowest;
      moved = true;
    }
    return moved;
  }

  private async publishWindows(
    next: PublisherState,
    name: string,
    { plan, stream }: WindowedTable,
    flush: boolean,
  ): Promise<void> {
    const sizeMs = this.sizeOf(name);
    const passed = next.watermarks[stream] ?? Number.NEGATIVE_INFINITY;
    const due = (next.windows[name] ?? [])
      .filter((window) => window.dirty && (flush || window.start + sizeMs <= passed))
      .sort((a, b) => a.start - b.start);
    const fresh = due.filter((window) => window.published === null);
    const revised = due.filter((window) => window.published !== null);
    for (const run of runsOf(fresh, Math.min(MERGE_BYTES_MAX, this.publishing.max))) {
      if (this.leavesRest()) return;
      const store = this.merge(name, plan, await this.partialsOf(run));
      const events = eventsByStart(store);
      const published = this.publish(next, name, firstRevision(windowRows(store, sizeMs)));
      for (const window of run) {
        Object.assign(window, { published, dirty: false, events: events.get(window.start) ?? 0 });
      }
    }
    for (const window of revised) {
      if (this.leavesRest()) return;
      await this.republish(next, name, plan, window);
    }
  }

  /** Whether this round has published enough; windows that stay dirty are the next one's. */
  private leavesRest(): boolean {
    if (this.batchBytes - this.publishing.from < this.publishing.max) return false;
    this.isBehind = true;
    return true;
  }

  private async republish(
    next: PublisherState,
    name: string,
    plan: GroupPlan,
    window: WindowEntry,
  ): Promise<void> {
    const store = this.merge(name, plan, await this.partialsOf([window]));
    const keys = plan.keys.map(({ column }) => column.name);
    const before = await this.rowsPublished(window.published!, window.start);
    const { changed, full } = reviseWindow(before, windowRows(store, this.sizeOf(name)), keys);
    window.dirty = false;
    window.events = sum(eventsByStart(store).values());
    if (changed.rowCount === 0) return;
    this.publish(next, name, changed);
    window.published = this.keep(full);
  }

  /** A window's rows as published; a batch of many windows is decoded and divided once. */
  private async rowsPublished(place: Place, start: number): Promise<Batch> {
    const { key, at } = place;
    if (this.divided?.key !== key || this.divided.at !== at) {
      const batch = withoutRetracted(decodeBatch(await this.bytesOf(place)));
      this.divided = { key, at, batch, rows: rowsByWindow(batch) };
    }
    const { batch, rows } = this.divided;
    const indexes = Int32Array.from(rows.get(start) ?? []);
    const columns = batch.columns.map((column) => gather(column, indexes, indexes.length));
    return { rowCount: indexes.length, columns };
  }

  /** The store is the table's next merge's as well: be done with it before. */
  private merge(table: string, plan: GroupPlan, partials: readonly PartialBytes[]): GroupStore {
    const store = this.mergeStores.get(table) ?? new GroupStore(plan);
    store.clear();
    mergePartials(store, partials);
    if (store.capacityWords <= MERGE_STORE_WORDS_MAX) this.mergeStores.set(table, store);
    else this.mergeStores.delete(table);
    return store;
  }

  /** The windows' partials, by window, then by partition. Each object is read once. */
  private async partialsOf(windows: readonly WindowEntry[]): Promise<PartialBytes[]> {
    const byKey = new Map<string, PartialPlace[]>();
    for (const place of windows.flatMap(({ partials }) => partials)) {
      const places = byKey.get(place.key);
      if (places === undefined) byKey.set(place.key, [place]);
      else places.push(place);
    }
    const bytes = new Map<PartialPlace, Uint8Array>();
    for (const places of byKey.values()) {
      // A copy: a view would keep the whole object, with all its rows, in memory.
      for (const place of places) bytes.set(place, new Uint8Array(await this.bytesOf(place)));
    }
    return windows.flatMap(({ start, partials }) =>
      partials.map((place) => ({ start, bytes: bytes.get(place)! })),
    );
  }

  /** Windows that can no longer be revised leave the state; their objects go with them. */
  private dropSettled(
    next: PublisherState,
    name: string,
    { table, stream }: WindowedTable,
    awaitedFrom = Number.POSITIVE_INFINITY,
  ): void {
    const passed = next.watermarks[stream] ?? null;
    if (passed === null) return;
    const windows = next.windows[name] ?? [];
    const named = windows.reduce((count, { partials }) => count + partials.length, 0);
    const mayAwait = named <= AWAITING_PARTIALS_MAX;
    const through = Math.min(passed, mayAwait ? awaitedFrom : passed) - table.reviseForMs;
    const total = totals(next, name);
    const kept: WindowEntry[] = [];
    for (const window of windows) {
      const end = window.start + this.sizeOf(name);
      // A partition that came late may still have the window open: what it adds is a revision.
      const isOpen = window.partials.some(({ open }) => open);
      if (window.dirty || isOpen || end > through) kept.push(window);
      else {
        total.settledEvents += window.events;
        total.droppedThrough = Math.max(total.droppedThrough ?? end, end);
      }
    }
    next.windows[name] = kept;
  }

  /** Adds a batch to this round's object and to the list that sinks read. */
  private publish(next: PublisherState, table: string, batch: Batch): Place {
    const place = this.keep(batch);
    const { rowCount: rows } = batch;
    const { committedAtMs } = this;
    const commit = committedAtMs === null ? {} : { committedAtMs };
    next.publications.push({ sequence: ++next.sequence, table, rows, place, ...commit });
    totals(next, table).publishedRows += rows;
    return place;
  }

  /** Adds a batch to this round's object only. */
  private keep(batch: Batch): Place {
    return this.keepBytes(encodeBatch(batch));
  }

  private keepBytes(bytes: Uint8Array): Place {
    const place = { key: this.objectKey, at: this.batchBytes, length: bytes.length };
    this.batches.set(place.at, bytes);
    this.batchBytes += bytes.length;
    return place;
  }

  private beginCommit(): string {
    const commitId = newCommitId();
    const generation = String(this.cell.nextGeneration).padStart(12, "0");
    this.objectKey = `${this.id}/publications/${generation}-${commitId}`;
    return commitId;
  }

  private async commit(next: PublisherState, commitId: string): Promise<void> {
    if (this.batches.size > 0) {
      await this.objects.putIfAbsent(this.objectKey, Buffer.concat([...this.batches.values()]));
    }
    const text = Buffer.from(JSON.stringify(next), "utf8");
    const inline = text.length <= this.cell.payloadBytesMax;
    const stateKey = `${this.objectKey.replace("/publications/", "/state/")}`;
    if (!inline) await this.objects.putIfAbsent(stateKey, text);
    const previous = this.cell.current?.attributes.stateKey;
    const result = await this.cell.swap(
      // `taken` stands here as well, for processors to read without the state.
      { sequence: next.sequence, stateKey: inline ? null : stateKey, taken: next.taken },
      inline ? text : new Uint8Array(),
      commitId,
    );
    if (result.kind === "conflict") {
      throw new MillpondError(
        "CONFLICT",
        `another process published results of "${this.id}" at the same time; ` +
          "nothing is damaged: let one of them finish, then run again",
      );
    }
    this.generation = result.item.generation;
    this.state = next;
    if (typeof previous === "string") await this.objects.delete(previous).catch(() => undefined);
  }

  /** Null when the object that the item names does not exist. */
  private async readState(item: CheckpointItem): Promise<PublisherState | null> {
    const { stateKey } = item.attributes;
    let bytes: Uint8Array | null = item.payload;
    if (typeof stateKey === "string") bytes = await this.objects.get(stateKey);
    if (bytes === null) return null;
    return JSON.parse(Buffer.from(bytes).toString("utf8")) as PublisherState;
  }

  private async bytesOf({ key, at, length }: Place): Promise<Uint8Array> {
    // What this round keeps is not stored before its commit.
    const pending = key === this.objectKey ? this.batches.get(at) : undefined;
    if (pending !== undefined) return pending;
    const bytes = await this.objects.get(key);
    if (bytes === null) throw missing(key);
    return bytes.subarray(at, at + length);
  }

  private windowed(table: string): WindowedTable {
    const found = this.tables.get(table);
    if (found !== undefined) return found;
    throw new MillpondError("STORAGE", `a partial of unknown table "${table}" is in the outbox`);
  }

  private sizeOf(table: string): number {
    const { shape } = this.windowed(table).table;
    if (shape.kind === "windowed" && shape.window.kind === "sliding") return shape.window.sizeMs;
    throw new TypeError(`${table} has no fixed windows`);
  }
}

/**
 * The event time that all active partitions have reached. If all are idle, none holds the one
 * that is furthest back.
 */
function passedByAll(partitions: readonly PartitionFacts[]): number {
  const active = partitions.filter(({ idle }) => !idle);
  const timeOf = ({ checkpoint }: PartitionFacts) =>
    checkpoint?.maxEventTime ?? Number.NEGATIVE_INFINITY;
  if (active.length > 0) return Math.min(...active.map(timeOf));
  return Math.max(...partitions.map(timeOf));
}

function noteStreams(next: PublisherState, partitions: readonly PartitionFacts[]): void {
  for (const { stream } of partitions) next.startedAtMs[stream] ??= Date.now();
}

function tooManyWindows(table: string): MillpondError {
  return new MillpondError(
    "LIMIT",
    `table "${table}" has more than ${WINDOWS_MAX} windows that may still be revised: shorten ` +
      "reviseFor, use longer windows, or give less input at a time",
  );
}

function totals(state: PublisherState, table: string): TableTotals {
  state.totals[table] ??= {
    settledEvents: 0,
    beyondReviseEvents: 0,
    openBeyond: {},
    droppedThrough: null,
    publishedRows: 0,
  };
  return state.totals[table]!;
}

/** In their order; of at most so many partial bytes, or of one window. */
function* runsOf(windows: readonly WindowEntry[], bytesMax: number): Generator<WindowEntry[]> {
  let run: WindowEntry[] = [];
  let bytes = 0;
  for (const window of windows) {
    const size = window.partials.reduce((total, { length }) => total + length, 0);
    if (run.length > 0 && bytes + size > bytesMax) {
      yield run;
      run = [];
      bytes = 0;
    }
    run.push(window);
    bytes += size;
  }
  if (run.length > 0) yield run;
}

interface DividedBatch {
  readonly batch: Batch;
  /** Rows by window start. */
  readonly rows: ReadonlyMap<number, readonly number[]>;
}

function rowsByWindow(batch: Batch): Map<number, number[]> {
  const starts = batch.columns.find((column) => column.name === "window_start")!;
  if (starts.vector.kind !== "number") throw new TypeError("window_start is not a timestamp");
  const rows = new Map<number, number[]>();
  for (let row = 0; row < batch.rowCount; row++) {
    const start = starts.vector.values[row]!;
    const list = rows.get(start);
    if (list === undefined) rows.set(start, [row]);
    else list.push(row);
  }
  return rows;
}

function withoutRetracted(batch: Batch): Batch {
  return { ...batch, columns: batch.columns.filter((column) => column.name !== "retracted") };
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function missing(key: string): MillpondError {
  return new MillpondError(
    "STORAGE",
    `object "${key}" is named by the publisher's checkpoint but does not exist; restore the ` +
      "output whole, or process the input again into a new output",
  );
}
