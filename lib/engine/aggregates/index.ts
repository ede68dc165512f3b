/** The aggregate of each function name, specialised for its argument's type. */
import type { AggregateNode, ColumnType } from "../../define/definition.js";
import type { Aggregate } from "./aggregate.js";
import { byTime, extreme } from "./picks.js";
import { approxCountDistinct, countDistinct, quantile, topK } from "./sketches.js";
import { avg, count, sum, variance } from "./sums.js";

export function aggregateFor(node: AggregateNode, argType: ColumnType | null): Aggregate {
  if (node.fn === "count") return count;
  if (argType === null) throw new TypeError(`aggregate ${node.fn} needs an argument`);
  switch (node.fn) {
    case "sum":
      return sum(argType);
    case "avg":
      return avg(argType);
    case "min":
      return extreme(argType, 1);
    case "max":
      return extreme(argType, -1);
    case "first":
    case "last":
      return byTime(argType, node.fn);
    case "variance":
      return variance(argType, false);
    case "stddev":
      return variance(argType, true);
    case "countDistinct":
      return countDistinct;
    case "approxCountDistinct":
      return approxCountDistinct;
    case "quantile":
      return quantile(argType);
    case "topK":
      return topK;
  }
}
