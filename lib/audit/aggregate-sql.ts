/** Every aggregate in DuckDB SQL; the approximate ones exactly, for a comparison with tolerance. */
import type { AggregateNode, ColumnNode, ColumnType } from "../define/definition.js";
import { expressionSql } from "./expression-sql.js";
import { resultSql, workingType } from "./sql-types.js";

/** Order of the log, as `first` and `last` see it. */
const LOG_ORDER = "__t, __p, __o";

/** From here on a square, and soon a sum of squares, is no finite double. */
const SQUARED_MAX = "1e145";
/** Each addition is off by at most half of it, relatively; so is each of two orders. */
const DOUBLE_EPSILON = Number.EPSILON;

/** The aggregate's result, over rows that hold `columns` and `__t`, `__p`, `__o`. */
export function aggregateSql(
  aggregate: AggregateNode,
  columns: ReadonlyMap<string, ColumnType>,
  result: ColumnNode,
): string {
  const { argument, where } = inputSql(aggregate, columns);
  const value = valueSql(aggregate, argument, where);
  // A sum that leaves its type is null.
  const castTo = aggregate.fn === "sum" ? "TRY_CAST" : "CAST";
  const cast = `${castTo}(${value} AS ${workingType(result.type)})`;
  return resultSql(
    result.nullable ? cast : `coalesce(${cast}, ${emptyValue(result)})`,
    result.type,
  );
}

/** Of an aggregate with a `roundingColumn`: how far the result may be off, over the same rows. */
export function roundingSql(
  aggregate: AggregateNode,
  columns: ReadonlyMap<string, ColumnType>,
): string {
  const { argument, where } = inputSql(aggregate, columns);
  const size = `abs(CAST(${argument} AS DOUBLE))`;
  if (aggregate.fn === "variance" || aggregate.fn === "stddev") {
    return `CASE WHEN max(${size})${where} >= ${SQUARED_MAX} THEN 'infinity'::DOUBLE END`;
  }
  const additions = aggregate.fn === "sum" ? ` * count(${argument})${where}` : "";
  // Of one sign nothing cancels out, and what overflows does so in every order.
  const cancels = `min(${argument})${where} < 0 AND max(${argument})${where} > 0`;
  return `CASE WHEN ${cancels}
    THEN ${DOUBLE_EPSILON}::DOUBLE${additions} * sum(${size})${where} END`;
}

function inputSql(aggregate: AggregateNode, columns: ReadonlyMap<string, ColumnType>) {
  const filter = aggregate.filter && expressionSql(aggregate.filter, columns).sql;
  const argument = aggregate.arg && expressionSql(aggregate.arg, columns).sql;
  const conditions = [filter, argument && `${argument} IS NOT NULL`].filter(Boolean);
  const where = conditions.length === 0 ? "" : ` FILTER (WHERE ${conditions.join(" AND ")})`;
  return { argument: argument ?? "", where };
}

/** What a result that is never null shows for no input: an empty list, or zero. */
const emptyValue = (result: ColumnNode): string =>
  result.type.kind === "topK" || result.type.kind === "list" ? "[]" : "0";

function valueSql(aggregate: AggregateNode, argument: string, where: string): string {
  const asDouble = `CAST(${argument} AS DOUBLE)`;
  // DuckDB would give up at others.
  const squarable = `CASE WHEN abs(${asDouble}) < ${SQUARED_MAX} THEN ${asDouble} END`;
  const spread = (fn: string): string =>
    `CASE WHEN count(${argument})${where} > 1
      THEN coalesce(${fn}(${squarable})${where}, 'nan'::DOUBLE) END`;
  switch (aggregate.fn) {
    case "count":
      return `count(*)${where}`;
    case "sum":
    case "min":
    case "max":
      return `${aggregate.fn}(${argument})${where}`;
    case "avg":
      return `avg(${argument})${where}`;
    case "first":
      return `first(${argument} ORDER BY ${LOG_ORDER})${where}`;
    case "last":
      return `last(${argument} ORDER BY ${LOG_ORDER})${where}`;
    case "variance":
      return spread("var_samp");
    case "stddev":
      return spread("stddev_samp");
    case "countDistinct":
    case "approxCountDistinct":
      return `count(DISTINCT ${argument})${where}`;
    case "quantile": {
      // The lower quantile, as the DDSketch paper (arXiv:1908.10693) defines it.
      const rank = `1 + floor(CAST(${aggregate.q} AS DOUBLE) * (count(${argument})${where} - 1))`;
      return `list_sort(list(${asDouble})${where})[CAST(${rank} AS BIGINT)]`;
    }
    case "topK": {
      const entries = `map_entries(histogram(${argument})${where})`;
      const byRank = `list_sort(list_transform(${entries},
        lambda e: {'rank': -(e."value"::BIGINT), 'item': e."key"}))[1:${aggregate.k}]`;
      return `list_transform(${byRank},
        lambda e: {'value': e."item", 'count': -(e."rank")})`;
    }
  }
}
