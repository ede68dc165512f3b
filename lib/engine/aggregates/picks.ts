/** min, max, first, last: aggregates that pick one of the values they saw. */
import type { ColumnType } from "../../define/definition.js";
import {
  type Aggregate,
  type CompareCodes,
  type FinishInput,
  type FoldInput,
  int64Halves,
  type LaneSource,
  numbersOf,
  TWO_32,
  type ValueKind,
  valueKind,
} from "./aggregate.js";
import { codedOutput, int64Output, numberOutput, type Output } from "./output.js";

/** Lanes of a value: a number or a code takes one, a 64-bit integer two (high, low). */
const valueLanes = (kind: ValueKind): number => (kind === "int64" ? 2 : 1);

function finishValue(type: ColumnType, at: number, flag: number, input: FinishInput): Output {
  const { lanes, base, slots, count, dictionary } = input;
  const value = lanes[base + at]!;
  const seen = lanes[base + flag]!;
  const kind = valueKind(type);
  if (kind === "coded") {
    return codedOutput(type, dictionary!, count, (i) => (seen[slots[i]!] ? value[slots[i]!]! : -1));
  }
  if (kind === "number") {
    return numberOutput(count, (i) => (seen[slots[i]!] ? value[slots[i]!]! : null));
  }
  const low = lanes[base + at + 1]!;
  return int64Output(count, (i) => {
    const slot = slots[i]!;
    return seen[slot] ? BigInt(value[slot]!) * BigInt(TWO_32) + BigInt(low[slot]!) : null;
  });
}

/** Reads a row's value into `out` (one or two numbers). */
function valueReader(kind: ValueKind, input: FoldInput): (row: number, out: Float64Array) => void {
  if (kind === "coded") {
    const codes = input.codes!;
    return (row, out) => {
      out[0] = codes[row]!;
    };
  }
  if (kind === "number") {
    const values = numbersOf(input.arg!);
    return (row, out) => {
      out[0] = values[row]!;
    };
  }
  const { hi, lo } = int64Halves(input.arg!);
  return (row, out) => {
    out[0] = hi[2 * row + 1]!;
    out[1] = lo[2 * row]!;
  };
}

/** Lanes: value (1 or 2), flag. `sign` is 1 for min and -1 for max. */
export function extreme(argType: ColumnType, sign: 1 | -1): Aggregate {
  const kind = valueKind(argType);
  const width = valueLanes(kind);
  const candidate = new Float64Array(2);

  function offer(to: LaneSource, slot: number, compare: CompareCodes): void {
    const value = to.lanes[to.base]!;
    const flag = to.lanes[to.base + width]!;
    if (flag[slot] !== 0) {
      let order = 0;
      if (kind === "coded") order = compare(candidate[0]!, value[slot]!);
      else order = candidate[0]! - value[slot]!;
      if (order === 0 && width === 2) order = candidate[1]! - to.lanes[to.base + 1]![slot]!;
      if (order * sign >= 0) return;
    }
    value[slot] = candidate[0]!;
    if (width === 2) to.lanes[to.base + 1]![slot] = candidate[1]!;
    flag[slot] = 1;
  }

  return {
    laneCount: width + 1,
    codeLane: kind === "coded" ? 0 : -1,
    flagLane: width,
    mapCombine: null,
    coded: kind === "coded",
    fold(input, to, _map, compare) {
      const read = valueReader(kind, input);
      for (let i = 0; i < input.count; i++) {
        read(input.rows[i]!, candidate);
        offer(to, input.slots[i]!, compare);
      }
    },
    merge(to, slot, from, i, compare) {
      if (from.lanes[from.base + width]![i] === 0) return;
      for (let v = 0; v < width; v++) candidate[v] = from.lanes[from.base + v]![i]!;
      offer(to, slot, compare);
    },
    finish: (input) => finishValue(argType, 0, width, input),
  };
}

/**
 * The value with the smallest (first) or greatest (last) event time; ties go to log order:
 * for `first` the lower partition and offset, for `last` the higher. Nulls are not seen.
 * Lanes: time, value (1 or 2), flag.
 */
export function byTime(argType: ColumnType, which: "first" | "last"): Aggregate {
  const kind = valueKind(argType);
  const width = valueLanes(kind);
  const candidate = new Float64Array(2);

  function offer(to: LaneSource, slot: number, timeMs: number): void {
    const time = to.lanes[to.base]!;
    const flag = to.lanes[to.base + 1 + width]!;
    if (flag[slot] !== 0) {
      if (which === "first" ? timeMs >= time[slot]! : timeMs < time[slot]!) return;
    }
    time[slot] = timeMs;
    for (let v = 0; v < width; v++) to.lanes[to.base + 1 + v]![slot] = candidate[v]!;
    flag[slot] = 1;
  }

  return {
    laneCount: width + 2,
    codeLane: kind === "coded" ? 1 : -1,
    flagLane: 1 + width,
    mapCombine: null,
    coded: kind === "coded",
    fold(input, to) {
      const read = valueReader(kind, input);
      for (let i = 0; i < input.count; i++) {
        read(input.rows[i]!, candidate);
        offer(to, input.slots[i]!, input.times[i]!);
      }
    },
    merge(to, slot, from, i) {
      if (from.lanes[from.base + 1 + width]![i] === 0) return;
      for (let v = 0; v < width; v++) candidate[v] = from.lanes[from.base + 1 + v]![i]!;
      offer(to, slot, from.lanes[from.base]![i]!);
    },
    finish: (input) => finishValue(argType, 1, 1 + width, input),
  };
}
