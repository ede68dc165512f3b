/** What the publisher remembers between rounds, as the JSON of its checkpoint. */

/** A piece of an object: an encoded partial or batch. */
export interface Place {
  readonly key: string;
  readonly at: number;
  readonly length: number;
}

export interface PartialPlace extends Place {
  readonly partition: number;
  /** From a flush: the partition's next partial of this window replaces it. */
  readonly open: boolean;
}

export interface WindowEntry {
  readonly start: number;
  /** At most one a partition. */
  partials: PartialPlace[];
  /** Something came since it was last published. */
  dirty: boolean;
  /** Its rows as last published; null before. Other windows' rows may lie in the same batch. */
  published: Place | null;
  /** Events in the published rows. */
  events: number;
}

export interface SessionEntry {
  /** Per partition: the open sessions that the last flush published, and their events. */
  readonly open: Record<string, { readonly place: Place; readonly events: number }>;
}

/** One step of a pipeline's results: rows of one table, for all sinks to take in order. */
export interface PublicationEntry {
  readonly sequence: number;
  readonly table: string;
  readonly rows: number;
  readonly place: Place;
  /** Wall clock of the newest commit in it, epoch ms: for latencies, never for results. */
  readonly committedAtMs?: number;
}

export interface TableTotals {
  /** Events in windows that were published for good, or in closed sessions. */
  settledEvents: number;
  /** Events that came after `reviseFor`: late, although their partition counted them. */
  beyondReviseEvents: number;
  /** Those of them that a flush handed over from open windows, by `partition id@start`. */
  readonly openBeyond: Record<string, number>;
  /** Windows that end at or before it (epoch ms) have left; null when none has. */
  droppedThrough: number | null;
  publishedRows: number;
}

export interface PublisherState {
  readonly definitionHash: string;
  /** Of these publications and no others, whose sequences may be the same: for sinks elsewhere. */
  readonly output: string;
  sequence: number;
  /** Per partition's checkpoint id: the last outbox entry taken. */
  readonly taken: Record<string, number>;
  /** Per stream: all partitions' watermarks have passed it; it never goes back. Null at first. */
  readonly watermarks: Record<string, number | null>;
  /** Per stream: wall clock of its first round, epoch ms: how long partitions may be missing. */
  readonly startedAtMs: Record<string, number>;
  readonly windows: Record<string, WindowEntry[]>;
  readonly sessions: Record<string, SessionEntry>;
  readonly totals: Record<string, TableTotals>;
  publications: PublicationEntry[];
  /** Publications up to this sequence were taken by every sink and are gone. */
  trimmedThrough: number;
}

export function emptyPublisherState(definitionHash: string): PublisherState {
  return {
    definitionHash,
    output: crypto.randomUUID(),
    sequence: 0,
    taken: {},
    watermarks: {},
    startedAtMs: {},
    windows: {},
    sessions: {},
    totals: {},
    publications: [],
    trimmedThrough: 0,
  };
}

/** Keys of all objects that the state still needs. */
export function referencedKeys(state: PublisherState): Set<string> {
  const keys = new Set<string>();
  for (const { place } of state.publications) keys.add(place.key);
  for (const windows of Object.values(state.windows)) {
    for (const window of windows) {
      for (const { key } of window.partials) keys.add(key);
      if (window.published !== null) keys.add(window.published.key);
    }
  }
  for (const { open } of Object.values(state.sessions)) {
    for (const { place } of Object.values(open)) keys.add(place.key);
  }
  return keys;
}

/** How far published rows are, for whoever holds them against the raw records. */
export interface Standing {
  readonly definitionHash: string;
  /** As in the publisher's state. */
  readonly output: string;
  /** The publications that it is of end with this one. */
  readonly sequence: number;
  /** Of bronze, in those publications. */
  readonly bronzeRows: number;
  /** Per stream: windows that end by then (epoch ms) are published, but those in `pending`. */
  readonly watermarks: Readonly<Record<string, number | null>>;
  /** Per table, starts of windows whose published rows lack something that came since. */
  readonly pending: Readonly<Record<string, readonly number[]>>;
  /** What stood open was published too, and nothing came since. */
  readonly flushed: boolean;
}

/** `flushed`: of all partitions, and everything of them was taken. */
export function standingOf(state: PublisherState, flushed: boolean): Standing {
  const { definitionHash, output, sequence, watermarks, windows } = state;
  const bronzeRows = state.totals.bronze?.publishedRows ?? 0;
  const pending = Object.entries(windows).map(([table, entries]) => {
    return [table, entries.filter(({ dirty }) => dirty).map(({ start }) => start)] as const;
  });
  const isWhole = flushed && pending.every(([, starts]) => starts.length === 0);
  const stands = { definitionHash, output, sequence, bronzeRows, watermarks, flushed: isWhole };
  return { ...stands, pending: Object.fromEntries(pending) };
}

/** Of a stored publisher item, the last outbox entry taken from partition `id`; 0 for none. */
export function takenFrom(attributes: Readonly<Record<string, unknown>>, id: string): number {
  const { taken } = attributes;
  if (typeof taken !== "object" || taken === null) return 0;
  const sequence: unknown = new Map<string, unknown>(Object.entries(taken)).get(id);
  return typeof sequence === "number" ? sequence : 0;
}
