/**
 * What every aggregate is to the engine: some number lanes a group, perhaps a `SlotMap`, a fold
 * over rows, a merge of two partials, and a final column. All are mergeable, so that panes,
 * partitions and sessions combine.
 */
import type { AggregateNode, ColumnType } from "../../define/definition.js";
import type { Column, Vector } from "../batch.js";
import type { Dictionary } from "../dictionary.js";
import type { SlotMap } from "../slot-map.js";

/** Rows to fold, already without those that the filter or a null argument excludes. */
export interface FoldInput {
  readonly count: number;
  readonly slots: Int32Array;
  readonly rows: Int32Array;
  /** Event time by position (not by row), epoch ms. */
  readonly times: Float64Array;
  /** The argument; null for `count()`. */
  readonly arg: Column | null;
  /** The argument's dictionary codes by row, for coded arguments. */
  readonly codes: Int32Array | null;
}

/** Lanes as arrays by lane, indexed by slot (a store) or by position (a block being merged). */
export type Lanes = readonly (Float64Array | Int32Array)[];

export interface LaneSource {
  readonly lanes: Lanes;
  /** First lane of this aggregate. */
  readonly base: number;
}

export interface FinishInput extends LaneSource {
  readonly slots: Int32Array;
  readonly count: number;
  readonly dictionary: Dictionary | null;
  readonly map: SlotMap | null;
  readonly node: AggregateNode;
  readonly argType: ColumnType | null;
}

/** Compares two dictionary codes of the store merged into; after recoding both are codes there. */
export type CompareCodes = (a: number, b: number) => number;

export interface Aggregate {
  readonly laneCount: number;
  /** Lane, relative to the base, that holds a dictionary code; -1 for none. */
  readonly codeLane: number;
  /** Lane, relative to the base, that tells whether the code lane is set. */
  readonly flagLane: number;
  /** How entries of the slot map combine; null when the aggregate has none. */
  readonly mapCombine: "union" | "add" | "max" | null;
  /** The argument is turned into dictionary codes first. */
  readonly coded: boolean;
  fold(input: FoldInput, to: LaneSource, map: SlotMap | null, compare: CompareCodes): void;
  /** Merges partial `i` of `from` (codes already those of `to`) into `slot`. */
  merge(to: LaneSource, slot: number, from: LaneSource, i: number, compare: CompareCodes): void;
  finish(input: FinishInput): { vector: Vector; valid: Uint8Array | null };
}

export type ValueKind = "number" | "int64" | "coded";

export function valueKind(type: ColumnType): ValueKind {
  if (type.kind === "bigint" || type.kind === "decimal") return "int64";
  return type.kind === "string" || type.kind === "list" ? "coded" : "number";
}

export const TWO_32 = 4294967296;

/** The two halves of an int64 column's rows: value = hi[2r+1] * 2^32 + lo[2r]. */
export function int64Halves(column: Column): { hi: Int32Array; lo: Uint32Array } {
  const { vector } = column;
  if (vector.kind !== "int64") throw new TypeError(`column ${column.name} is not 64-bit`);
  const { buffer, byteOffset, length } = vector.values;
  return {
    hi: new Int32Array(buffer, byteOffset, length * 2),
    lo: new Uint32Array(buffer, byteOffset, length * 2),
  };
}

export function numbersOf(column: Column): Float64Array {
  if (column.vector.kind !== "number") throw new TypeError(`column ${column.name} has no numbers`);
  return column.vector.values;
}
