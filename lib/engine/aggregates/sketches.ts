/** countDistinct, approxCountDistinct, quantile, topK: aggregates that live in a `SlotMap`. */
import type { ColumnType, ScalarType } from "../../define/definition.js";
import type { Column } from "../batch.js";
import { hash128, hashWords } from "../hash128.js";
import type { SlotMap } from "../slot-map.js";
import type { Aggregate, FinishInput } from "./aggregate.js";
import { countOutput, numberOutput } from "./output.js";
import { numberAt } from "./sums.js";

const IN_MAP = { laneCount: 0, codeLane: -1, flagLane: -1, merge() {} } as const;

/** Exact: the set of dictionary codes. */
export const countDistinct: Aggregate = {
  ...IN_MAP,
  mapCombine: "union",
  coded: true,
  fold(input, _to, map) {
    const codes = input.codes!;
    const { count, slots, rows } = input;
    for (let i = 0; i < count; i++) map!.add(slots[i]!, codes[rows[i]!]!);
  },
  finish: ({ slots, count, map }) => countOutput(count, (i) => map!.countIn(slots[i]!)),
};

/** Exact counts by value; the result is the k greatest, ties by ascending value. */
export const topK: Aggregate = {
  ...IN_MAP,
  mapCombine: "add",
  coded: true,
  fold(input, _to, map) {
    const codes = input.codes!;
    for (let i = 0; i < input.count; i++) map!.addTo(input.slots[i]!, codes[input.rows[i]!]!, 1);
  },
  finish(input) {
    const values: unknown[] = [];
    const valid = new Uint8Array(input.count);
    for (let i = 0; i < input.count; i++) {
      const top = topOf(input, input.slots[i]!);
      values.push(top.length === 0 ? null : top);
      valid[i] = top.length === 0 ? 0 : 1;
    }
    return { vector: { kind: "any", values }, valid };
  },
};

function topOf({ map, dictionary, node, argType }: FinishInput, slot: number): unknown[] {
  const entries: { code: number; count: number }[] = [];
  map!.forEach(slot, (code, count) => entries.push({ code, count }));
  const valueOfCode = (code: number) => scalarOf(argType as ScalarType, dictionary!, code);
  const order = (a: number, b: number): number => {
    if (argType!.kind === "string") return dictionary!.compare(a, b);
    const [x, y] = [valueOfCode(a), valueOfCode(b)];
    return x === y ? 0 : x! < y! ? -1 : 1;
  };
  entries.sort((a, b) => b.count - a.count || order(a.code, b.code));
  return entries
    .slice(0, node.k)
    .map(({ code, count }) => ({ value: valueOfCode(code), count: BigInt(count) }));
}

function scalarOf(
  type: ScalarType,
  dictionary: NonNullable<FinishInput["dictionary"]>,
  code: number,
) {
  if (type.kind === "string") return Buffer.from(dictionary.bytesOf(code)).toString("utf8");
  if (type.kind === "bigint" || type.kind === "decimal") return dictionary.int64Of(code);
  const number = dictionary.numberOf(code);
  return type.kind === "boolean" ? number === 1 : number;
}

/** HyperLogLog: 2^12 registers, standard error 1.04 / 64 = 1.6 %. */
const HLL_BITS = 12;
const HLL_REGISTERS = 1 << HLL_BITS;
/** Bits of the 64-bit hash that are left for the rank. */
const HLL_RANK_BITS = 64 - HLL_BITS;

export const approxCountDistinct: Aggregate = {
  ...IN_MAP,
  mapCombine: "max",
  coded: false,
  fold(input, _to, map) {
    const hashRow = rowHasher(input.arg!);
    for (let i = 0; i < input.count; i++) {
      hashRow(input.rows[i]!);
      const high = hashWords[0]!;
      const rest = (high << HLL_BITS) >>> 0;
      const rank =
        rest !== 0
          ? Math.clz32(rest) + 1
          : Math.min(32 - HLL_BITS + Math.clz32(hashWords[1]!) + 1, HLL_RANK_BITS + 1);
      map!.raiseTo(input.slots[i]!, high >>> (32 - HLL_BITS), rank);
    }
  },
  finish: ({ slots, count, map }) =>
    countOutput(count, (i) => Math.round(estimate(map!, slots[i]!))),
};

function rowHasher(column: Column): (row: number) => void {
  const { vector } = column;
  if (vector.kind === "bytes") {
    return (row) => hash128(vector.bytes, vector.starts[row]!, vector.ends[row]!);
  }
  if (vector.kind === "any") throw new TypeError(`${column.name}: lists cannot be hashed`);
  if (vector.kind === "number") {
    for (let i = 0; i < vector.values.length; i++) vector.values[i] = vector.values[i]! + 0;
  }
  const { buffer, byteOffset, byteLength } = vector.values;
  const bytes = new Uint8Array(buffer, byteOffset, byteLength);
  return (row) => hash128(bytes, row * 8, row * 8 + 8);
}

/**
 * Ertl's improved raw estimator (arXiv:1702.01284, algorithm 6): no bias tables, any cardinality.
 */
function estimate(map: SlotMap, slot: number): number {
  const histogram = new Float64Array(HLL_RANK_BITS + 2);
  let set = 0;
  map.forEach(slot, (_register, rank) => {
    histogram[rank]!++;
    set++;
  });
  histogram[0] = HLL_REGISTERS - set;
  let z = HLL_REGISTERS * tau(1 - histogram[HLL_RANK_BITS + 1]! / HLL_REGISTERS);
  for (let k = HLL_RANK_BITS; k >= 1; k--) z = 0.5 * (z + histogram[k]!);
  z += HLL_REGISTERS * sigma(histogram[0]! / HLL_REGISTERS);
  return (HLL_REGISTERS * HLL_REGISTERS) / (2 * Math.LN2 * z);
}

function sigma(input: number): number {
  if (input === 1) return Number.POSITIVE_INFINITY;
  let x = input;
  let y = 1;
  let z = x;
  for (let before = Number.NaN; before !== z; ) {
    x *= x;
    before = z;
    z += x * y;
    y += y;
  }
  return z;
}

function tau(input: number): number {
  if (input === 0 || input === 1) return 0;
  let x = input;
  let y = 1;
  let z = 1 - x;
  for (let before = Number.NaN; before !== z; ) {
    x = Math.sqrt(x);
    before = z;
    y *= 0.5;
    z -= (1 - x) ** 2 * y;
  }
  return z / 3;
}

/** DDSketch (Masson et al., VLDB 2019): any quantile within 1 % of the true value. */
const ACCURACY = 0.01;
const GAMMA = (1 + ACCURACY) / (1 - ACCURACY);
const LOG_GAMMA = Math.log(GAMMA);
/** Values nearer to zero than this count as zero. */
const SMALLEST = 1e-300;
const ZERO_KEY = 0x7fffffff;
/** What has no bucket: infinities, and not-a-number, which sorts last as in SQL. */
const SPECIAL_KEYS = new Map([
  [Number.POSITIVE_INFINITY, 0x7ffffffe],
  [Number.NEGATIVE_INFINITY, 0x7ffffffd],
  [Number.NaN, 0x7ffffffc],
]);
const SPECIAL_VALUES = new Map([...SPECIAL_KEYS].map(([value, key]) => [key, value]));
/** Keys keep sign and bucket: 2 * bucket for positive values, 2 * bucket + 1 for negative ones. */
const bucketOf = (magnitude: number): number => Math.ceil(Math.log(magnitude) / LOG_GAMMA);

function keyOf(value: number): number {
  if (Math.abs(value) < SMALLEST) return ZERO_KEY;
  if (!Number.isFinite(value)) return SPECIAL_KEYS.get(value)!;
  return value > 0 ? 2 * bucketOf(value) : 2 * bucketOf(-value) + 1;
}

function valueOfKey(key: number): number {
  if (key === ZERO_KEY) return 0;
  const special = SPECIAL_VALUES.get(key);
  if (special !== undefined) return special;
  const negative = (key & 1) !== 0;
  const upper = GAMMA ** ((negative ? key - 1 : key) / 2);
  // Doubled last: of the greatest doubles, twice as much is none.
  const magnitude = Math.min(2 * (upper / (GAMMA + 1)), Number.MAX_VALUE);
  return negative ? -magnitude : magnitude;
}

export function quantile(argType: ColumnType): Aggregate {
  return {
    ...IN_MAP,
    mapCombine: "add",
    coded: false,
    fold(input, _to, map) {
      const valueAt = numberAt(argType, input.arg!);
      for (let i = 0; i < input.count; i++) {
        map!.addTo(input.slots[i]!, keyOf(valueAt(input.rows[i]!)), 1);
      }
    },
    finish: ({ slots, count, map, node }) =>
      numberOutput(count, (i) => quantileOf(map!, slots[i]!, node.q!)),
  };
}

function order(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  return a < b ? -1 : Number(a > b);
}

function quantileOf(map: SlotMap, slot: number, q: number): number | null {
  const buckets: { value: number; count: number }[] = [];
  let total = 0;
  map.forEach(slot, (key, count) => {
    buckets.push({ value: valueOfKey(key), count });
    total += count;
  });
  if (total === 0) return null;
  buckets.sort((a, b) => order(a.value, b.value));
  const rank = Math.floor(q * (total - 1));
  let below = 0;
  for (const bucket of buckets) {
    below += bucket.count;
    if (below > rank) return bucket.value;
  }
  return buckets[buckets.length - 1]!.value;
}
