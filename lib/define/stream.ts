/**
 * Streams and the chains over them: what a user writes. Nothing is evaluated before `pipeline()`.
 */
import type { Aggregate } from "./aggregates.js";
import type {
  MapFunction,
  ReferenceNode,
  StreamNode,
  TableNode,
  WindowNode,
} from "./definition.js";
import { at, callerPlace, DefinitionError } from "./definition-error.js";
import { unknownColumn } from "./expression-types.js";
import type { BooleanExpr, Col, Expression, Exprs, Kind, ScalarKind } from "./expressions.js";
import { type ColumnsOf, fieldNode, plainColumns, type Schema } from "./fields.js";
import { checkColumnNames } from "./names.js";
import { checkOptions, type OptionNames } from "./options.js";
import { checkDuration } from "./windows.js";

/** A step as written; callbacks are called by `pipeline()`. */
export type Step =
  | { readonly kind: "filter"; readonly predicate: unknown }
  | { readonly kind: "derive"; readonly columns: unknown }
  | { readonly kind: "select"; readonly columns: readonly (readonly [string, string])[] }
  | {
      readonly kind: "map";
      readonly name: string;
      readonly fn: MapFunction;
      readonly schema: Schema;
    }
  | {
      readonly kind: "enrich";
      readonly reference: ReferenceNode;
      readonly on: readonly (readonly [string, string])[];
      readonly columns: readonly (readonly [string, string])[];
      readonly join: "left" | "inner";
    };

export interface TableParts {
  readonly stream: StreamNode;
  readonly steps: readonly Step[];
  readonly groupBy?: readonly string[];
  readonly window?: WindowNode;
  readonly aggregates?: Readonly<Record<string, Aggregate<never>>>;
  readonly emit: TableNode["emit"];
  readonly reviseForMs: number;
}

type NameOf<C> = Extract<keyof C, string>;
type GroupName<C> = {
  [P in NameOf<C>]: C[P] extends { readonly kind: Exclude<ScalarKind, "double"> } ? P : never;
}[NameOf<C>];
type Derived<D> = {
  readonly [P in keyof D]: D[P] extends Expression<infer K> ? Col<K, ValueOf<K> | null> : never;
};
type ValueOf<K extends Kind> = K extends "string"
  ? string
  : K extends "boolean"
    ? boolean
    : K extends "bigint" | "decimal"
      ? bigint
      : K extends "list"
        ? readonly unknown[]
        : number;
export type RowOf<C> = { readonly [P in keyof C]: C[P] extends Col<Kind, infer V> ? V : never };
type Renamed<C, S> = {
  readonly [P in keyof S]: S[P] extends keyof C ? C[S[P]] : never;
};

/** A table as declared; `emit` and `reviseFor` adjust when it is published. */
export class TableShape {
  readonly parts: TableParts;

  constructor(parts: TableParts) {
    this.parts = Object.freeze(parts);
  }

  /** `final()` (default) or `updates({ every })`. */
  emit(mode: TableNode["emit"]): TableShape {
    return new TableShape({ ...this.parts, emit: mode });
  }

  /** How long a published window takes revisions, in event time (default one day). */
  reviseFor(durationMs: number): TableShape {
    checkDuration("reviseFor", durationMs, 0);
    return new TableShape({ ...this.parts, reviseForMs: durationMs });
  }
}

/** A stream with steps over it. Immutable: every method returns a new chain. */
export class Chain<C> {
  readonly parts: TableParts;

  constructor(parts: TableParts) {
    this.parts = Object.freeze(parts);
  }

  #with<D>(step: Step): Chain<D> {
    return new Chain<D>({ ...this.parts, steps: [...this.parts.steps, step] });
  }

  /** Keeps the events for which the predicate is true. */
  filter(predicate: (e: Exprs<C>) => BooleanExpr): Chain<C> {
    return this.#with({ kind: "filter", predicate });
  }

  /** Adds columns, or replaces those of the same name. */
  derive<D extends Readonly<Record<string, Expression>>>(
    columns: (e: Exprs<C>) => D,
  ): Chain<Omit<C, keyof D> & Derived<D>> {
    return this.#with({ kind: "derive", columns });
  }

  /** Keeps these columns: `select("a", "b")`, or `select({ newName: "old" })`. */
  select<N extends NameOf<C>>(...names: readonly N[]): Chain<Pick<C, N>>;
  select<const S extends Readonly<Record<string, NameOf<C>>>>(names: S): Chain<Renamed<C, S>>;
  select(...names: readonly unknown[]): unknown {
    return this.#with({ kind: "select", columns: pairs(names) });
  }

  /**
   * A plain function over each row, for what expressions cannot say; null drops the row. `schema`
   * names all columns that are left after it. Timestamps are epoch ms, decimals unscaled bigints
   * (12.50 is 1250n); nothing but the row may decide what it returns.
   */
  map<S extends Schema>(
    name: string,
    fn: (row: RowOf<C>) => RowOf<ColumnsOf<S>> | null,
    schema: S,
  ): Chain<ColumnsOf<S>> {
    return this.#with({ kind: "map", name, fn: fn as unknown as MapFunction, schema });
  }

  /** Adds columns of a reference table's row that matches. */
  enrich<R, const S extends readonly NameOf<R>[] | Readonly<Record<string, NameOf<R>>>>(
    reference: Reference<R>,
    options: {
      readonly on: On<C, R> | readonly On<C, R>[];
      readonly select: S;
      readonly join?: "left" | "inner";
    },
  ): Chain<C & Enriched<R, S>> {
    at({ file: callerPlace() }, () => checkEnrichOptions(reference, options));
    const { on, select, join = "left" } = options;
    return this.#with({
      kind: "enrich",
      reference: reference.node,
      on: (Array.isArray(on) ? on : [on]).map((key) =>
        typeof key === "string" ? [key, key] : [key.column, key.reference],
      ),
      columns: pairs(Array.isArray(select) ? select : [select]),
      join,
    });
  }

  groupBy(...columns: readonly GroupName<C>[]): Grouped<C> {
    return new Grouped({ ...this.parts, groupBy: columns });
  }

  window(window: WindowNode): Windowed<C> {
    return new Windowed({ ...this.parts, groupBy: [], window });
  }

  /** A table of the events themselves. */
  rows(): TableShape {
    return new TableShape(this.parts);
  }
}

type On<C, R> =
  | (NameOf<C> & NameOf<R>)
  | { readonly column: NameOf<C>; readonly reference: NameOf<R> };
type Enriched<R, S> = S extends readonly (infer N)[]
  ? { readonly [P in N & keyof R]: R[P] extends Col<infer K, infer V> ? Col<K, V | null> : never }
  : {
      readonly [P in keyof S]: S[P] extends keyof R
        ? R[S[P]] extends Col<infer K, infer V>
          ? Col<K, V | null>
          : never
        : never;
    };

const ENRICH_OPTIONS: OptionNames<{ on: 1; select: 1; join: 1 }> = {
  on: true,
  select: true,
  join: true,
};

function checkEnrichOptions(given: Reference<unknown>, options: { readonly join?: unknown }): void {
  const what = `enrich with reference "${given?.node?.name}"`;
  checkOptions(what, options, ENRICH_OPTIONS);
  const { join = "left" } = options;
  if (join === "left" || join === "inner") return;
  throw new DefinitionError(`${what} has join ${JSON.stringify(join)}; give "left" or "inner"`);
}

/** A chain with its group columns. */
export class Grouped<C> {
  readonly parts: TableParts;

  constructor(parts: TableParts) {
    this.parts = Object.freeze(parts);
  }

  window(window: WindowNode): Windowed<C> {
    return new Windowed({ ...this.parts, window });
  }
}

/** A chain with its window. */
export class Windowed<C> {
  readonly parts: TableParts;

  constructor(parts: TableParts) {
    this.parts = Object.freeze(parts);
  }

  aggregate(aggregates: { readonly [name: string]: Aggregate<C> }): TableShape {
    return new TableShape({ ...this.parts, aggregates });
  }
}

const pairs = (names: readonly unknown[]): [string, string][] =>
  names.flatMap((name): [string, string][] =>
    typeof name === "string" ? [[name, name]] : Object.entries(name as Record<string, string>),
  );

/** Publish a window once, when it closes. */
export const final = (): TableNode["emit"] => ({ kind: "final" });

/** Also publish changed open windows, at most `every` so often. */
export function updates(options: { readonly every: number }): TableNode["emit"] {
  return at({ file: callerPlace() }, () => {
    checkOptions("updates", options, { every: true });
    checkDuration("updates every", options.every);
    return { kind: "updates", everyMs: options.every };
  });
}

export interface Reference<R> {
  readonly node: ReferenceNode;
  readonly columns?: R;
}

/** A reference table for `enrich`: a CSV, JSON or Parquet file beside the pipeline's file. */
export function reference<S extends Schema>(
  name: string,
  options: { readonly file: string; readonly schema: S },
): Reference<ColumnsOf<S>> {
  return at({ file: callerPlace() }, () => {
    const what = `reference "${name}"`;
    checkOptions(what, options, { file: true, schema: true });
    checkSchema(what, options.schema);
    const extension = /\.(csv|json|ndjson|jsonl|parquet)(\.gz)?$/i.exec(options.file)?.[1];
    if (extension === undefined) {
      throw new DefinitionError(`${what}: ${options.file} is neither .csv, .json nor .parquet`);
    }
    const format = extension.toLowerCase();
    const columns = plainColumns(options.schema);
    const kind = format === "csv" || format === "parquet" ? format : "json";
    return { node: { name, path: options.file, format: kind, columns } };
  });
}

function checkSchema(what: string, schema: unknown): void {
  if (typeof schema === "object" && schema !== null && !Array.isArray(schema)) return;
  throw new DefinitionError(`${what} has no schema; give one, like { id: string() }`);
}

export interface StreamOptions<S extends Schema> {
  readonly schema: S;
  /** Field whose equal values are always in one partition. */
  readonly key?: NameOf<S>;
  readonly eventTime: {
    [P in NameOf<S>]: ColumnsOf<S>[P] extends Col<"timestamp", number> ? P : never;
  }[NameOf<S>];
  /** How long to wait for events out of order, in ms. */
  readonly lateness: number;
  readonly maxAhead?: number;
  readonly idleAfter?: number;
  readonly dedup?: NameOf<S> | { readonly id: NameOf<S>; readonly within: number };
  readonly maxRecordBytes?: number;
}

const STREAM_OPTIONS: OptionNames<StreamOptions<Schema>> = {
  schema: true,
  key: true,
  eventTime: true,
  lateness: true,
  maxAhead: true,
  idleAfter: true,
  dedup: true,
  maxRecordBytes: true,
};
const HOUR_MS = 3_600_000;

/** A topic with its schema. */
export function stream<S extends Schema>(
  name: string,
  options: StreamOptions<S>,
): Chain<ColumnsOf<S>> {
  return at({ file: callerPlace() }, () => {
    const what = `stream "${name}"`;
    checkOptions(what, options, STREAM_OPTIONS);
    checkSchema(what, options.schema);
    const { dedup } = options;
    if (typeof dedup === "object") {
      checkOptions(`dedup of ${what}`, dedup, { id: true, within: true });
    }
    const node: StreamNode = {
      name,
      fields: Object.entries(options.schema).map(([field, builder]) => fieldNode(field, builder)),
      ...(options.key !== undefined && { key: options.key }),
      eventTime: options.eventTime,
      latenessMs: options.lateness,
      maxAheadMs: options.maxAhead ?? HOUR_MS,
      idleAfterMs: options.idleAfter ?? 60_000,
      ...(dedup !== undefined && {
        dedup: typeof dedup === "string" ? { id: dedup } : { id: dedup.id, withinMs: dedup.within },
      }),
      maxRecordBytes: options.maxRecordBytes ?? 1_048_576,
    };
    checkStream(node);
    const emit = { kind: "final" } as const;
    return new Chain({ stream: node, steps: [], emit, reviseForMs: 24 * HOUR_MS });
  });
}

/** Refuses a stream that cannot work. */
export function checkStream(node: StreamNode): void {
  const { name, fields, eventTime, key, dedup } = node;
  const where = `in stream "${name}"`;
  if (typeof name !== "string" || !/^[\w.-]{1,249}$/.test(name)) {
    throw new DefinitionError(`stream name "${name}" is no topic name; use letters, digits, . _ -`);
  }
  checkColumnNames(fields, where);
  const field = (wanted: string) => {
    const found = fields.find((other) => other.name === wanted);
    if (found === undefined) {
      throw unknownColumn(
        wanted,
        fields.map((other) => other.name),
        where,
      );
    }
    return found;
  };
  if (eventTime === undefined) {
    throw new DefinitionError(`stream "${name}" has no eventTime; name its timestamp field`);
  }
  const time = field(eventTime);
  if (time.type.kind !== "timestamp" || time.nullable || time.default !== undefined) {
    throw new DefinitionError(
      `event time "${eventTime}" ${where} must be a timestamp that is neither nullable nor has ` +
        "a default",
      { column: eventTime },
    );
  }
  checkDuration(`lateness of stream "${name}"`, node.latenessMs, 0);
  checkDuration(`maxAhead of stream "${name}"`, node.maxAheadMs, 0);
  checkDuration(`idleAfter of stream "${name}"`, node.idleAfterMs, 0);
  if (!Number.isSafeInteger(node.maxRecordBytes) || node.maxRecordBytes < 1) {
    throw new DefinitionError(`maxRecordBytes ${where} is ${node.maxRecordBytes}; give bytes`);
  }
  if (key !== undefined) field(key);
  if (dedup === undefined) return;
  if (field(dedup.id).nullable || field(dedup.id).type.kind === "list") {
    throw new DefinitionError(`dedup id "${dedup.id}" ${where} must be a scalar and not nullable`, {
      column: dedup.id,
    });
  }
  if (key === undefined) {
    throw new DefinitionError(
      `stream "${name}" has dedup but no key; duplicates are found within a partition, so ` +
        "declare the field that the topic is partitioned by as its key",
    );
  }
  if (dedup.withinMs !== undefined) checkDuration(`dedup within ${where}`, dedup.withinMs, 0);
}
