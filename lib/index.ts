/** What a pipeline's file imports. */
export {
  approxCountDistinct,
  avg,
  count,
  countDistinct,
  first,
  last,
  max,
  min,
  quantile,
  stddev,
  sum,
  topK,
  variance,
} from "./define/aggregates.js";
export type * from "./define/definition.js";
export { DefinitionError } from "./define/definition-error.js";
export { days, hours, minutes, ms, seconds } from "./define/durations.js";
export { literal, when } from "./define/expressions.js";
export {
  bigint,
  boolean,
  decimal,
  double,
  int,
  list,
  oneOf,
  string,
  timestamp,
} from "./define/fields.js";
export { definitionHash, fromJson, toJson } from "./define/json.js";
export { parameter, withParameters } from "./define/parameters.js";
export { duckdb, kafka, lake, pipeline, postgres, snowflake } from "./define/pipeline.js";
export { final, reference, stream, updates } from "./define/stream.js";
export { session, sliding, tumbling } from "./define/windows.js";
export { MillpondError } from "./errors.js";
