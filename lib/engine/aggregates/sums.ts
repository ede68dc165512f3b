/**
 * count, sum, avg, variance, stddev. Whole numbers and decimals are exact; doubles fold in log
 * order.
 */
import type { ColumnType } from "../../define/definition.js";
import type { Column } from "../batch.js";
import { type Aggregate, type FinishInput, int64Halves, numbersOf, TWO_32 } from "./aggregate.js";
import { countOutput, int64Output, numberOutput, type Output } from "./output.js";

const PLAIN = { codeLane: -1, flagLane: -1, mapCombine: null, coded: false } as const;

export const count: Aggregate = {
  ...PLAIN,
  laneCount: 1,
  fold(input, to) {
    const n = to.lanes[to.base]!;
    const { count, slots } = input;
    for (let i = 0; i < count; i++) n[slots[i]!]!++;
  },
  merge(to, slot, from, i) {
    to.lanes[to.base]![slot]! += from.lanes[from.base]![i]!;
  },
  finish: ({ lanes, base, slots, count: groups }) =>
    countOutput(groups, (i) => lanes[base]![slots[i]!]!),
};

/** Lanes: sum, count of non-null values. */
const doubleSum: Omit<Aggregate, "finish"> = {
  ...PLAIN,
  laneCount: 2,
  fold(input, to) {
    const sum = to.lanes[to.base]!;
    const n = to.lanes[to.base + 1]!;
    const values = numbersOf(input.arg!);
    const { count, slots, rows } = input;
    for (let i = 0; i < count; i++) {
      const slot = slots[i]!;
      sum[slot]! += values[rows[i]!]!;
      n[slot]!++;
    }
  },
  merge(to, slot, from, i) {
    to.lanes[to.base]![slot]! += from.lanes[from.base]![i]!;
    to.lanes[to.base + 1]![slot]! += from.lanes[from.base + 1]![i]!;
  },
};

/** Low halves are carried into the high lane before they could lose a digit at 2^53. */
const CARRY_AT = 2 ** 52;

/** Lanes: high part (units of 2^32), low part, count. The sum is high * 2^32 + low, exactly. */
const wholeSum: Omit<Aggregate, "finish"> = {
  ...PLAIN,
  laneCount: 3,
  fold(input, to) {
    const high = to.lanes[to.base]!;
    const low = to.lanes[to.base + 1]!;
    const n = to.lanes[to.base + 2]!;
    const wide = input.arg!.vector.kind === "int64";
    const halves = wide ? int64Halves(input.arg!) : null;
    const values = wide ? null : numbersOf(input.arg!);
    const { count, slots, rows } = input;
    for (let i = 0; i < count; i++) {
      const slot = slots[i]!;
      const row = rows[i]!;
      if (halves !== null) {
        high[slot]! += halves.hi[2 * row + 1]!;
        low[slot]! += halves.lo[2 * row]!;
      } else low[slot]! += values![row]!;
      n[slot]!++;
      if (low[slot]! >= CARRY_AT || low[slot]! <= -CARRY_AT) carry(high, low, slot);
    }
  },
  merge(to, slot, from, i) {
    for (let lane = 0; lane < 3; lane++) {
      to.lanes[to.base + lane]![slot]! += from.lanes[from.base + lane]![i]!;
    }
    carry(to.lanes[to.base]!, to.lanes[to.base + 1]!, slot);
  },
};

function carry(
  high: Float64Array | Int32Array,
  low: Float64Array | Int32Array,
  slot: number,
): void {
  const units = Math.trunc(low[slot]! / TWO_32);
  high[slot]! += units;
  low[slot]! -= units * TWO_32;
}

function wholeTotal({ lanes, base }: FinishInput, slot: number): bigint {
  return BigInt(lanes[base]![slot]!) * BigInt(TWO_32) + BigInt(lanes[base + 1]![slot]!);
}

function isDouble(type: ColumnType | null): boolean {
  return type?.kind === "double";
}

/** Digits of a decimal result: see `decimal` in the definition. */
const DECIMAL_MAX = 10n ** 18n - 1n;

/** Null beyond the result's type, as integer arithmetic in expressions is. */
function wholeSumFinish(input: FinishInput): Output {
  const n = input.lanes[input.base + 2]!;
  const decimal = input.argType?.kind === "decimal";
  return int64Output(input.count, (i) => {
    const slot = input.slots[i]!;
    if (n[slot] === 0) return null;
    const total = wholeTotal(input, slot);
    if (decimal) return total > DECIMAL_MAX || total < -DECIMAL_MAX ? null : total;
    return BigInt.asIntN(64, total) === total ? total : null;
  });
}

function nullableNumber(
  input: FinishInput,
  nLane: number,
  valueOfSlot: (slot: number) => number,
): Output {
  const n = input.lanes[input.base + nLane]!;
  return numberOutput(input.count, (i) => {
    const slot = input.slots[i]!;
    return n[slot] === 0 ? null : valueOfSlot(slot);
  });
}

export function sum(argType: ColumnType): Aggregate {
  if (!isDouble(argType)) return { ...wholeSum, finish: wholeSumFinish };
  return {
    ...doubleSum,
    finish: (input) => nullableNumber(input, 1, (slot) => input.lanes[input.base]![slot]!),
  };
}

export function avg(argType: ColumnType): Aggregate {
  if (isDouble(argType)) {
    return {
      ...doubleSum,
      finish: (input) => {
        const { lanes, base } = input;
        return nullableNumber(input, 1, (slot) => lanes[base]![slot]! / lanes[base + 1]![slot]!);
      },
    };
  }
  const unit = argType.kind === "decimal" ? 10 ** argType.scale : 1;
  return {
    ...wholeSum,
    finish: (input) => {
      const n = input.lanes[input.base + 2]!;
      return nullableNumber(input, 2, (slot) => Number(wholeTotal(input, slot)) / unit / n[slot]!);
    },
  };
}

/**
 * Sample variance by Welford's recurrence; merged by Chan's formula. Lanes: n, mean, sum of
 * squares.
 */
export function variance(argType: ColumnType, root: boolean): Aggregate {
  return {
    ...PLAIN,
    laneCount: 3,
    fold(input, to) {
      const [n, mean, squares] = [0, 1, 2].map((lane) => to.lanes[to.base + lane]!);
      const valueAt = numberAt(argType, input.arg!);
      for (let i = 0; i < input.count; i++) {
        const slot = input.slots[i]!;
        const value = valueAt(input.rows[i]!);
        n![slot]!++;
        const delta = value - mean![slot]!;
        mean![slot]! += delta / n![slot]!;
        squares![slot]! += delta * (value - mean![slot]!);
      }
    },
    merge(to, slot, from, i) {
      const [n, mean, squares] = [0, 1, 2].map((lane) => to.lanes[to.base + lane]!);
      const m = from.lanes[from.base]![i]!;
      if (m === 0) return;
      if (n![slot] === 0) {
        // Copied bit by bit: compacting the state must not show in the results.
        n![slot] = m;
        mean![slot] = from.lanes[from.base + 1]![i]!;
        squares![slot] = from.lanes[from.base + 2]![i]!;
        return;
      }
      const total = n![slot]! + m;
      const delta = from.lanes[from.base + 1]![i]! - mean![slot]!;
      squares![slot]! += from.lanes[from.base + 2]![i]! + (delta * delta * n![slot]! * m) / total;
      mean![slot]! += (delta * m) / total;
      n![slot] = total;
    },
    finish: ({ lanes, base, slots, count: groups }) =>
      numberOutput(groups, (i) => {
        const n = lanes[base]![slots[i]!]!;
        if (n < 2) return null;
        const value = lanes[base + 2]![slots[i]!]! / (n - 1);
        return root ? Math.sqrt(value) : value;
      }),
  };
}

/** A reader of a numeric column as doubles, whatever its type. */
export function numberAt(type: ColumnType, column: Column): (row: number) => number {
  if (column.vector.kind === "int64") {
    const { values } = column.vector;
    const unit = type.kind === "decimal" ? 10 ** type.scale : 1;
    return (row) => Number(values[row]!) / unit;
  }
  const values = numbersOf(column);
  return (row) => values[row]!;
}
