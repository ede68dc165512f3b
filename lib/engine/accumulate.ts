/** Folds a run of rows, whose slots are known, into a store's aggregates: one tight loop each. */
import type { ExprNode } from "../define/definition.js";
import type { FoldInput } from "./aggregates/aggregate.js";
import type { Batch, Column } from "./batch.js";
import { type Dictionary, growInt32 } from "./dictionary.js";
import { EVENTS_LANE, type GroupPlan } from "./group-plan.js";
import type { GroupStore } from "./group-store.js";

export type Evaluate = (batch: Batch) => Column;
export type Compile = (node: ExprNode) => Evaluate;

/** Rows accepted by the operator, by position. */
export interface Accepted {
  count: number;
  rows: Int32Array;
  times: Float64Array;
  slots: Int32Array;
}

export class Accumulator {
  private readonly plan: GroupPlan;
  private readonly args: (Evaluate | null)[];
  private readonly filters: (Evaluate | null)[];
  /** Of the slice, by aggregate. */
  private readonly columns: (Column | null)[] = [];
  private readonly filterColumns: (Column | null)[] = [];
  private codes: Int32Array[];
  private keyColumns: Column[] = [];
  private picked = {
    slots: new Int32Array(0),
    rows: new Int32Array(0),
    times: new Float64Array(0),
  };

  constructor(plan: GroupPlan, compile: Compile) {
    this.plan = plan;
    this.args = plan.aggregates.map(({ node }) => (node.arg ? compile(node.arg) : null));
    this.filters = plan.aggregates.map(({ node }) => (node.filter ? compile(node.filter) : null));
    this.codes = Array.from({ length: plan.dictionaryCount }, () => new Int32Array(0));
  }

  /** Evaluates arguments and dictionary codes for the accepted rows of this batch. */
  begin(
    batch: Batch,
    accepted: Accepted,
    dictionaries: readonly Dictionary[],
  ): readonly Int32Array[] {
    for (let a = 0; a < this.args.length; a++) {
      this.columns[a] = this.args[a]?.(batch) ?? null;
      this.filterColumns[a] = this.filters[a]?.(batch) ?? null;
    }
    const done = new Set<number>();
    const encode = (dictionary: number, column: Column) => {
      if (done.has(dictionary)) return;
      done.add(dictionary);
      if (this.codes[dictionary]!.length < batch.rowCount) {
        this.codes[dictionary] = growInt32(this.codes[dictionary]!, batch.rowCount);
      }
      const codes = this.codes[dictionary]!;
      dictionaries[dictionary]!.encode(column, accepted.rows, accepted.count, codes);
    };
    this.keyColumns = this.plan.keys.map(
      ({ column }) => batch.columns.find((c) => c.name === column.name)!,
    );
    this.plan.keys.forEach(({ dictionary }, k) => {
      encode(dictionary, this.keyColumns[k]!);
    });
    this.plan.aggregates.forEach(({ dictionary }, a) => {
      if (dictionary >= 0) encode(dictionary, this.columns[a]!);
    });
    const codes: Int32Array[] = [];
    for (const { dictionary } of this.plan.keys) codes.push(this.codes[dictionary]!);
    return codes;
  }

  /** Folds accepted positions [from, to), whose slots are set. */
  fold(store: GroupStore, accepted: Accepted, from: number, to: number): void {
    const events = store.lanes[EVENTS_LANE]!;
    const { slots } = accepted;
    for (let i = from; i < to; i++) {
      const slot = slots[i]!;
      events[slot]!++;
      store.touch(slot);
    }
    const { aggregates } = this.plan;
    for (let a = 0; a < aggregates.length; a++) {
      const { aggregate, base, map, dictionary } = aggregates[a]!;
      const codes = dictionary < 0 ? null : this.codes[dictionary]!;
      const input = this.pick(accepted, from, to, a, codes);
      const target = { lanes: store.lanes, base };
      const maps = map < 0 ? null : store.maps[map]!;
      aggregate.fold(input, target, maps, store.compare(dictionary));
    }
  }

  /** The rows of [from, to) that aggregate `a`'s filter passes and whose argument is not null. */
  private pick(
    accepted: Accepted,
    from: number,
    to: number,
    a: number,
    codes: Int32Array | null,
  ): FoldInput {
    const arg = this.columns[a]!;
    const filter = this.filterColumns[a]!;
    const valid = arg?.valid ?? null;
    const { rows, slots, times } = accepted;
    if (valid === null && filter === null) {
      return {
        count: to - from,
        slots: slots.subarray(from, to),
        rows: rows.subarray(from, to),
        times: times.subarray(from, to),
        arg,
        codes,
      };
    }
    const out = this.room(to - from);
    const pass = filter === null || filter.vector.kind !== "number" ? null : filter.vector.values;
    const passValid = filter?.valid ?? null;
    let count = 0;
    for (let i = from; i < to; i++) {
      const row = rows[i]!;
      if (valid !== null && valid[row] === 0) continue;
      if (pass !== null && (pass[row] !== 1 || (passValid !== null && passValid[row] === 0)))
        continue;
      out.rows[count] = row;
      out.slots[count] = slots[i]!;
      out.times[count++] = times[i]!;
    }
    return { count, slots: out.slots, rows: out.rows, times: out.times, arg, codes };
  }

  private room(count: number) {
    if (this.picked.rows.length < count) {
      this.picked = {
        slots: new Int32Array(count),
        rows: new Int32Array(count),
        times: new Float64Array(count),
      };
    }
    return this.picked;
  }
}

export function acceptedRoom(accepted: Accepted, count: number): void {
  accepted.count = 0;
  if (accepted.rows.length >= count) return;
  accepted.rows = new Int32Array(count);
  accepted.slots = new Int32Array(count);
  accepted.times = new Float64Array(count);
}

export const noneAccepted = (): Accepted => ({
  count: 0,
  rows: new Int32Array(0),
  times: new Float64Array(0),
  slots: new Int32Array(0),
});
