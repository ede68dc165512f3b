/**
 * Columns in memory: what the decoder fills, expressions read, and sinks write.
 * One layout for all of them (close to Arrow's), so that the hot path allocates per slice, not per
 * event.
 */
import type { ColumnType } from "../define/definition.js";

/** Strings or raw bytes back to back: value i is `bytes[starts[i], ends[i])`. */
export interface BytesVector {
  readonly kind: "bytes";
  readonly bytes: Uint8Array;
  readonly starts: Int32Array;
  readonly ends: Int32Array;
}

/** int, double, timestamp (epoch ms) and boolean (0 or 1). */
export interface NumberVector {
  readonly kind: "number";
  readonly values: Float64Array;
}

/** bigint, and decimal as its unscaled integer (12.34 at scale 2 is 1234n). */
export interface Int64Vector {
  readonly kind: "int64";
  readonly values: BigInt64Array;
}

/** Lists and topK results as plain JS values; off the hot path. Elements are `RowValue`s. */
export interface AnyVector {
  readonly kind: "any";
  readonly values: unknown[];
}

export type Vector = BytesVector | NumberVector | Int64Vector | AnyVector;

/** One column of a batch. Rows with `valid[i] === 0` are null; `valid === null` means none is. */
export interface Column {
  readonly name: string;
  readonly type: ColumnType;
  readonly valid: Uint8Array | null;
  readonly vector: Vector;
}

/** Typed arrays may be longer than `rowCount`; only the first `rowCount` entries count. */
export interface Batch {
  readonly rowCount: number;
  readonly columns: readonly Column[];
}

/**
 * A value off the hot path, by type: string → string; boolean → boolean; int, double → number;
 * bigint → bigint; decimal → its unscaled bigint; timestamp → number (epoch ms); list → array;
 * topK → array of {value, count}; bytes → Uint8Array; null → null.
 */
export type RowValue = string | boolean | number | bigint | Uint8Array | null | readonly unknown[];
