/** Field builders: how a stream's (or a map's, or a reference table's) columns are declared. */

import type {
  ColumnNode,
  FieldNode,
  LiteralValue,
  ScalarType,
  TimestampFormat,
} from "./definition.js";
import { at, callerPlace, DefinitionError } from "./definition-error.js";
import {
  type BooleanExpr,
  type Col,
  columnExpression,
  type ExprOf,
  type Kind,
  literalNode,
  predicate,
  type ScalarKind,
} from "./expressions.js";
import { checkOptions } from "./options.js";

type Check = (x: never) => BooleanExpr;

interface FieldParts extends Omit<FieldNode, "name" | "path" | "checks"> {
  readonly path?: readonly string[];
  readonly checks: readonly Check[];
}

declare const COLUMN: unique symbol;

/** One declared column. Immutable: every method returns a new builder. */
export class Field<K extends Kind, V> {
  declare readonly [COLUMN]: Col<K, V>;
  readonly parts: FieldParts;

  constructor(parts: FieldParts) {
    this.parts = Object.freeze(parts);
  }

  /** Null and a missing key are allowed, and give null. */
  nullable(): Field<K, V | null> {
    return new Field({ ...this.parts, nullable: true });
  }

  /** The value when the key is missing, and for null where the field is not nullable. */
  default(value: K extends "decimal" ? number | string : K extends "timestamp" ? Date : V): this {
    const literal = at({ file: callerPlace() }, () => defaultLiteral(value, this.parts));
    return new Field({ ...this.parts, default: literal }) as this;
  }

  /** A rule; a record that makes it false is a dead letter (`failed_check`). Null passes. */
  check(rule: (x: ExprOf<K, V>) => BooleanExpr): this {
    const checks = [...this.parts.checks, rule as unknown as Check];
    return new Field({ ...this.parts, checks }) as this;
  }

  /** Where the value is in the record: `.at("payload.temp")` or `.at("payload", "temp")`. */
  at(...path: readonly string[]): this {
    const keys = path.length === 1 ? path[0].split(".") : path;
    if (keys.length === 0 || keys.some((key) => key === "")) {
      throw new DefinitionError(`.at(${path.join(", ")}) has an empty key; name every key`, {
        file: callerPlace(),
      });
    }
    return new Field({ ...this.parts, path: keys }) as this;
  }
}

/** A field of any type. */
export interface AnyField {
  readonly [COLUMN]: Col;
  readonly parts: FieldParts;
}
export type Schema = { readonly [name: string]: AnyField };
export type ColumnsOf<S> = {
  readonly [P in keyof S]: S[P] extends { readonly [COLUMN]: infer C extends Col } ? C : never;
};

const field = <K extends Kind, V>(type: FieldNode["type"], more: Partial<FieldParts> = {}) =>
  new Field<K, V>({ type, nullable: false, checks: [], ...more });

export const string = () => field<"string", string>({ kind: "string" });
/** A string that is one of `values`; another is `out_of_range`. */
export function oneOf<const V extends readonly [string, ...string[]]>(...values: V) {
  return field<"string", V[number]>({ kind: "string" }, { oneOf: values });
}
export const boolean = () => field<"boolean", boolean>({ kind: "boolean" });
/** 32-bit signed. */
export const int = () => field<"int", number>({ kind: "int" });
/** 64-bit signed; a JS bigint in `map`. */
export const bigint = () => field<"bigint", bigint>({ kind: "bigint" });
export const double = () => field<"double", number>({ kind: "double" });
/** Exact, of at most 18 digits; its unscaled bigint in `map`. */
export function decimal(precision: number, scale: number) {
  const whole = Number.isInteger(precision) && Number.isInteger(scale);
  if (!whole || precision < 1 || precision > 18 || scale < 0 || scale > precision) {
    throw new DefinitionError(
      `decimal(${precision}, ${scale}) is impossible; use a precision of 1 to 18, and a scale ` +
        "of 0 to the precision",
      { file: callerPlace() },
    );
  }
  return field<"decimal", bigint>({ kind: "decimal", precision, scale });
}
const TIMESTAMP_FORMATS: readonly TimestampFormat["kind"][] = [
  "iso",
  "epoch_s",
  "epoch_ms",
  "epoch_us",
];

/** Epoch milliseconds in `map`. */
export function timestamp(
  options: { readonly format?: TimestampFormat["kind"]; readonly withoutOffset?: "utc" } = {},
) {
  at({ file: callerPlace() }, () => checkTimestamp(options));
  const { format = "iso", withoutOffset } = options;
  return field<"timestamp", number>(
    { kind: "timestamp" },
    { format: { kind: format, ...(withoutOffset !== undefined && { withoutOffset }) } },
  );
}

function checkTimestamp(options: { readonly format?: string; readonly withoutOffset?: string }) {
  checkOptions("timestamp()", options, { format: true, withoutOffset: true });
  const { format = "iso", withoutOffset = "utc" } = options;
  const formats: readonly string[] = TIMESTAMP_FORMATS;
  if (!formats.includes(format)) {
    throw new DefinitionError(
      `timestamp() has no format "${format}"; give one of: ${formats.join(", ")}`,
    );
  }
  if (withoutOffset === "utc") return;
  throw new DefinitionError(`timestamp() has withoutOffset "${withoutOffset}"; give "utc"`);
}

export function list<K extends ScalarKind, V>(element: Field<K, V>) {
  const { type, format } = element.parts;
  if (type.kind === "list" || type.kind === "topK" || type.kind === "bytes") {
    throw new DefinitionError(`a list of ${type.kind} is not supported; its elements are scalars`, {
      file: callerPlace(),
    });
  }
  return field<"list", readonly V[]>(
    { kind: "list", element: type as ScalarType },
    format === undefined ? {} : { format },
  );
}

function defaultLiteral(value: unknown, parts: FieldParts): LiteralValue {
  if (parts.type.kind === "list") {
    throw new DefinitionError("a list has no default; make it .nullable()");
  }
  const { type, value: json } = literalNode(value, parts.type);
  const fits =
    type.kind === parts.type.kind || (type.kind === "int" && parts.type.kind === "bigint");
  const tooLong =
    type.kind === "decimal" &&
    parts.type.kind === "decimal" &&
    (type.scale > parts.type.scale ||
      type.precision - type.scale > parts.type.precision - parts.type.scale);
  const allowed = parts.oneOf?.includes(String(value)) ?? true;
  if (!fits || tooLong || !allowed) {
    const wanted = parts.oneOf === undefined ? parts.type.kind : `one of ${parts.oneOf.join(", ")}`;
    throw new DefinitionError(`default ${String(value)} does not fit; give ${wanted}`);
  }
  return parts.type.kind === "bigint" ? String(json) : json;
}

/** A builder as the stream's field; its checks are evaluated here. */
export function fieldNode(name: string, builder: unknown): FieldNode {
  if (!(builder instanceof Field)) {
    throw new DefinitionError(`column "${name}" has no type; give one, like string()`, {
      column: name,
    });
  }
  const { path = [name], checks, ...parts } = builder.parts;
  const column: ColumnNode = { name, type: parts.type, nullable: parts.nullable };
  const rules = checks.map((check) =>
    predicate(check(columnExpression(column) as never), `check of column "${name}"`),
  );
  return { name, path, ...parts, checks: rules };
}

/** A map's output or a reference's columns: types and nullability only. */
export function plainColumns(schema: Schema): ColumnNode[] {
  return Object.entries(schema).map(([name, builder]) => {
    const { type, nullable } = fieldNode(name, builder);
    return { name, type, nullable };
  });
}
