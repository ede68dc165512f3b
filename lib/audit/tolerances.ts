/** How exactly a published column can be expected to agree with its recomputation. */
import type { AggregateNode, ColumnNode, TableNode } from "../define/definition.js";

/** Two numbers agree if they differ by at most `absolute + relative * |expected|`. */
export interface Tolerance {
  readonly relative: number;
  readonly absolute: number;
  /**
   * Beside the recomputed number, how far rounding may take another order of the same additions
   * from it; infinite where one could overflow.
   */
  readonly rounding?: string;
}

/** The column of `aggregate`'s rounding; null when it has none to speak of. */
export function roundingColumn({ fn, name }: AggregateNode, result?: ColumnNode): string | null {
  const isRounded = ["sum", "avg", "variance", "stddev"].includes(fn);
  return isRounded && result?.type.kind === "double" ? `__rounding_${name}` : null;
}

/** Doubles within 1e-9 relative; the absolute part is for sums that cancel out. */
const DOUBLE_TOLERANCE: Tolerance = { relative: 1e-9, absolute: 1e-9 };
/**
 * Both ways are stable, but of values 4e9 apart from zero with a spread of 1 nine digits are lost
 * before any way begins, and the order of the rest shows.
 */
const VARIANCE_TOLERANCE: Tolerance = { relative: 1e-6, absolute: 1e-6 };
/** DDSketch promises 1 % of the value; the rest is rounding. */
const QUANTILE_TOLERANCE: Tolerance = { relative: 0.01001, absolute: 1e-9 };
/** HyperLogLog with 4,096 registers: 1.63 % standard error, here four of them. */
const DISTINCT_TOLERANCE: Tolerance = { relative: 0.065, absolute: 2 };

/** By column; columns not named must be equal. */
export function tolerancesOf(table: TableNode): Record<string, Tolerance> {
  if (table.shape.kind === "rows") return {};
  const types = new Map(table.columns.map((column) => [column.name, column]));
  const tolerances: Record<string, Tolerance> = {};
  for (const aggregate of table.shape.aggregates) {
    const tolerance = toleranceOf(aggregate, types.get(aggregate.name));
    if (tolerance === undefined) continue;
    const rounding = roundingColumn(aggregate, types.get(aggregate.name));
    tolerances[aggregate.name] = { ...tolerance, ...(rounding !== null && { rounding }) };
  }
  return tolerances;
}

function toleranceOf(aggregate: AggregateNode, column?: ColumnNode): Tolerance | undefined {
  if (aggregate.fn === "quantile") return QUANTILE_TOLERANCE;
  if (aggregate.fn === "approxCountDistinct") return DISTINCT_TOLERANCE;
  if (aggregate.fn === "variance" || aggregate.fn === "stddev") return VARIANCE_TOLERANCE;
  const isExact = ["min", "max", "first", "last"].includes(aggregate.fn);
  return column?.type.kind === "double" && !isExact ? DOUBLE_TOLERANCE : undefined;
}
