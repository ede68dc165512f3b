/**
 * Merges partials into groups and turns groups into result rows. Pure; used when a window is
 * published.
 */

import { codedOutput } from "./aggregates/output.js";
import type { Batch, Column } from "./batch.js";
import { ByteReader } from "./codec.js";
import { numberColumn } from "./columns.js";
import { END_LANE, EVENTS_LANE, START_LANE } from "./group-plan.js";
import type { GroupStore } from "./group-store.js";

/** A partial to merge; `start` is its window's start (0 for sessions). */
export interface PartialBytes {
  readonly start: number;
  readonly bytes: Uint8Array;
}

/** Merges in the given order, which must be partition order for doubles to be reproducible. */
export function mergePartials(store: GroupStore, partials: Iterable<PartialBytes>): void {
  for (const { start, bytes } of partials) store.mergeGroups(new ByteReader(bytes), start);
}

/** Events that the groups hold, by pane start; they carry the accounting. */
export function eventsByStart(store: GroupStore): Map<number, number> {
  const events = new Map<number, number>();
  for (const slot of store.liveSlots()) {
    const start = store.panes[slot]!;
    events.set(start, (events.get(start) ?? 0) + store.lanes[EVENTS_LANE]![slot]!);
  }
  return events;
}

/** Result rows of merged windows, without `revision` and `retracted`. */
export function windowRows(store: GroupStore, sizeMs: number): Batch {
  const starts = Float64Array.from(store.liveSlots(), (slot) => store.panes[slot]!);
  const ends = starts.map((start) => start + sizeMs);
  return groupRows(store, [
    numberColumn("window_start", { kind: "timestamp" }, starts),
    numberColumn("window_end", { kind: "timestamp" }, ends),
  ]);
}

/** Result rows of sessions, without `revision` and `retracted`. */
export function sessionRows(store: GroupStore): Batch {
  const slots = store.liveSlots();
  const lane = (index: number) => Float64Array.from(slots, (slot) => store.lanes[index]![slot]!);
  return groupRows(store, [
    numberColumn("session_start", { kind: "timestamp" }, lane(START_LANE)),
    numberColumn("session_end", { kind: "timestamp" }, lane(END_LANE)),
  ]);
}

function groupRows(store: GroupStore, leading: readonly Column[]): Batch {
  const { plan } = store;
  const slots = store.liveSlots();
  const count = slots.length;
  const keys = plan.keys.map(({ column, dictionary }, k): Column => {
    const codes = store.keys[k]!;
    const codeAt = (i: number) => codes[slots[i]!]!;
    const { name, type } = column;
    return { name, type, ...codedOutput(type, store.dictionaries[dictionary]!, count, codeAt) };
  });
  const aggregates = plan.aggregates.map(
    ({ node, aggregate, argType, base, map, dictionary, type }) => {
      const output = aggregate.finish({
        lanes: store.lanes,
        base,
        slots,
        count,
        dictionary: dictionary < 0 ? null : store.dictionaries[dictionary]!,
        map: map < 0 ? null : store.maps[map]!,
        node,
        argType,
      });
      return { name: node.name, type, ...output };
    },
  );
  return { rowCount: count, columns: [...leading, ...keys, ...aggregates] };
}
