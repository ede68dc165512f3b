/**
 * The definition tree: what a pipeline *is*, as plain immutable data that survives JSON.
 * The builder writes it; the engine, the sinks and the audit read it. It holds no closures: a user
 * function (`map`) appears as a name and a hash of its source, and is bound again at load.
 */

/**
 * A value's type. `int` is 32-bit signed, `bigint` 64-bit signed, `decimal` has at most 18 digits.
 */
export type ScalarType =
  | { readonly kind: "string" }
  | { readonly kind: "boolean" }
  | { readonly kind: "int" }
  | { readonly kind: "bigint" }
  | { readonly kind: "double" }
  | { readonly kind: "decimal"; readonly precision: number; readonly scale: number }
  /** Milliseconds since the epoch, UTC; finer digits are floored. */
  | { readonly kind: "timestamp" };

export type ColumnType =
  | ScalarType
  | { readonly kind: "list"; readonly element: ScalarType }
  /** Result of `topK`: `[{value, count}]`, most frequent first. */
  | { readonly kind: "topK"; readonly value: ScalarType }
  /** Raw bytes: only in tables that the product itself writes (bronze, late, dead letters). */
  | { readonly kind: "bytes" };

export interface ColumnNode {
  readonly name: string;
  readonly type: ColumnType;
  readonly nullable: boolean;
}

/**
 * A literal in JSON form: bigint and decimal as decimal strings, timestamp as epoch milliseconds.
 */
export type LiteralValue = string | number | boolean | null;

/**
 * How a timestamp is written in the record. `iso` without an offset is refused unless
 * `withoutOffset` is "utc".
 */
export interface TimestampFormat {
  readonly kind: "iso" | "epoch_s" | "epoch_ms" | "epoch_us";
  readonly withoutOffset?: "utc";
}

/** One declared field of a stream. */
export interface FieldNode {
  readonly name: string;
  readonly type: ColumnType;
  /** Object keys from the record's root to the value; `[name]` unless declared by `.at(...)`. */
  readonly path: readonly string[];
  readonly nullable: boolean;
  /** Used when the key is missing, and for null where the field is not nullable. */
  readonly default?: LiteralValue;
  /** Allowed values of a `oneOf` string. */
  readonly oneOf?: readonly string[];
  /** For timestamps (and lists of them). */
  readonly format?: TimestampFormat;
  /**
   * Sanity rules over this field's column; a record that makes one false is `failed_check`. Null
   * passes.
   */
  readonly checks: readonly ExprNode[];
}

/** Operators: argument types, result types and null rules are in `expression-types.ts`. */
export type Operator =
  | "eq"
  | "ne"
  | "lt"
  | "lte"
  | "gt"
  | "gte"
  | "and"
  | "or"
  | "not"
  | "isNull"
  | "isNotNull"
  | "coalesce"
  | "if"
  | "in"
  | "add"
  | "sub"
  | "mul"
  | "div"
  | "mod"
  | "neg"
  | "abs"
  | "round"
  | "floor"
  | "ceil"
  | "lower"
  | "upper"
  | "trim"
  | "length"
  | "concat"
  | "startsWith"
  | "endsWith"
  | "contains"
  | "substring"
  | "toString"
  | "toDouble"
  | "toBigint"
  | "truncate"
  | "extract"
  | "addMs"
  | "diffMs"
  | "listLength"
  | "listContains";

export type ExprNode =
  | { readonly op: "column"; readonly name: string }
  | { readonly op: "literal"; readonly type: ScalarType; readonly value: LiteralValue }
  | {
      readonly op: Operator;
      readonly args: readonly ExprNode[];
      /** `truncate`/`extract`: the calendar unit. */
      readonly unit?: "minute" | "hour" | "day" | "dayOfWeek" | "month" | "year";
    };

export interface StreamNode {
  /** The topic. */
  readonly name: string;
  readonly fields: readonly FieldNode[];
  /** Field whose equal values are always in one partition. */
  readonly key?: string;
  readonly eventTime: string;
  readonly latenessMs: number;
  readonly maxAheadMs: number;
  readonly idleAfterMs: number;
  readonly dedup?: {
    readonly id: string /** Absent: the pipeline's longest window, at least the lateness. */;
    readonly withinMs?: number;
  };
  /** Longest accepted record value; longer ones are dead letters (`oversize`). */
  readonly maxRecordBytes: number;
}

export type StepNode =
  | { readonly kind: "filter"; readonly predicate: ExprNode }
  | {
      readonly kind: "derive";
      readonly columns: readonly { readonly name: string; readonly expr: ExprNode }[];
    }
  | {
      readonly kind: "select";
      readonly columns: readonly { readonly name: string; readonly from: string }[];
    }
  | {
      readonly kind: "map";
      readonly name: string;
      readonly sourceHash: string;
      readonly output: readonly ColumnNode[];
    }
  | {
      readonly kind: "enrich";
      /** Key into `PipelineDefinition.references`. */
      readonly reference: string;
      readonly on: readonly { readonly column: string; readonly referenceColumn: string }[];
      readonly columns: readonly { readonly name: string; readonly from: string }[];
      /** `left` keeps events without a match (null columns); `inner` drops them like a filter. */
      readonly join: "left" | "inner";
    };

/**
 * Windows are half-open [start, end), aligned to the epoch plus `offsetMs`. Tumbling: everyMs =
 * sizeMs.
 */
export type WindowNode =
  | {
      readonly kind: "sliding";
      readonly sizeMs: number;
      readonly everyMs: number;
      readonly offsetMs: number;
    }
  | { readonly kind: "session"; readonly gapMs: number };

export type AggregateFunction =
  | "count"
  | "sum"
  | "avg"
  | "min"
  | "max"
  | "first"
  | "last"
  | "variance"
  | "stddev"
  | "countDistinct"
  | "approxCountDistinct"
  | "quantile"
  | "topK";

export interface AggregateNode {
  readonly name: string;
  readonly fn: AggregateFunction;
  readonly arg?: ExprNode;
  /** Only events for which this is true take part. */
  readonly filter?: ExprNode;
  /** quantile: q in [0, 1]. */
  readonly q?: number;
  /** topK: how many. */
  readonly k?: number;
}

export interface TableNode {
  readonly name: string;
  readonly stream: string;
  readonly steps: readonly StepNode[];
  readonly shape:
    | { readonly kind: "rows" }
    | {
        readonly kind: "windowed";
        readonly window: WindowNode;
        readonly groupBy: readonly string[];
        readonly aggregates: readonly AggregateNode[];
      };
  readonly emit:
    | { readonly kind: "final" }
    | { readonly kind: "updates"; readonly everyMs: number };
  readonly reviseForMs: number;
  /** Columns of the result, in order, without those that the product adds. */
  readonly columns: readonly ColumnNode[];
}

export interface ReferenceNode {
  readonly name: string;
  /** Relative to the pipeline's file. */
  readonly path: string;
  readonly format: "csv" | "json" | "parquet";
  readonly columns: readonly ColumnNode[];
}

export type SinkNode =
  | { readonly kind: "lake"; readonly bronze: boolean; readonly tables?: readonly string[] }
  | { readonly kind: "duckdb"; readonly tables?: readonly string[] }
  | { readonly kind: "postgres"; readonly schema: string; readonly tables?: readonly string[] }
  /** One row table, to a topic with as many partitions as its stream's. */
  | { readonly kind: "kafka"; readonly topic: string; readonly tables: readonly [string] }
  | { readonly kind: "snowflake"; readonly bronze: boolean; readonly tables?: readonly string[] };

/** Whether a sink takes every record as read. */
export const takesBronze = (sink: SinkNode): boolean => "bronze" in sink && sink.bronze;

export interface ParameterNode {
  readonly name: string;
  readonly value: string | number | boolean;
}

export interface PipelineDefinition {
  readonly version: 1;
  readonly name: string;
  readonly parameters: readonly ParameterNode[];
  readonly streams: readonly StreamNode[];
  readonly references: readonly ReferenceNode[];
  readonly tables: readonly TableNode[];
  readonly sinks: readonly SinkNode[];
}

/**
 * A plain function over one row, by the name its `map` step carries. Values are as in `RowValue`.
 */
export type MapFunction = (
  row: Readonly<Record<string, unknown>>,
) => Record<string, unknown> | null;

/** What `pipeline()` returns: the data, and the functions the data names. */
export interface Pipeline {
  readonly kind: "pipeline";
  readonly definition: PipelineDefinition;
  /** Map functions by `${table}/${step name}`. */
  readonly functions: ReadonlyMap<string, MapFunction>;
  /** File of the call to `pipeline()`, for error messages; undefined when it can't be told. */
  readonly file: string | undefined;
}

/** Table names that the product owns. */
export const RESERVED_TABLES = ["late", "dead_letters", "accounting", "bronze"] as const;
