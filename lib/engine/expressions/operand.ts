/**
 * What operators take and give: a column, or one value that stands for every row. Both are read as
 * `values[row * step]`, so each operator has one loop and literals are never spread out.
 */
import type { ColumnType, LiteralValue, ScalarType } from "../../define/definition.js";
import { MillpondError } from "../../errors.js";
import type { BytesVector, Column, Vector } from "../batch.js";

export interface Operand {
  readonly type: ColumnType;
  readonly valid: Uint8Array | null;
  readonly vector: Vector;
  /** 0: one value for all rows. */
  readonly step: 0 | 1;
}

export const BOOLEAN: ScalarType = { kind: "boolean" };
export const BIGINT: ScalarType = { kind: "bigint" };
export const DOUBLE: ScalarType = { kind: "double" };
export const STRING: ScalarType = { kind: "string" };
export const INT: ScalarType = { kind: "int" };
export const TIMESTAMP: ScalarType = { kind: "timestamp" };

export function decimalType(scale: number): ScalarType {
  return { kind: "decimal", precision: 18, scale };
}

export function columnOperand(column: Column): Operand {
  return { type: column.type, valid: column.valid, vector: column.vector, step: 1 };
}

export function literalOperand(type: ScalarType, value: LiteralValue): Operand {
  const valid = value === null ? new Uint8Array(1) : null;
  return { type, valid, vector: literalVector(type, value), step: 0 };
}

function literalVector(type: ScalarType, value: LiteralValue): Vector {
  switch (type.kind) {
    case "string": {
      const bytes = Buffer.from(value === null ? "" : String(value));
      return { kind: "bytes", bytes, starts: Int32Array.of(0), ends: Int32Array.of(bytes.length) };
    }
    case "bigint":
      return { kind: "int64", values: BigInt64Array.of(BigInt(String(value ?? 0))) };
    case "decimal":
      return { kind: "int64", values: BigInt64Array.of(unscaled(String(value ?? 0), type.scale)) };
    default:
      return { kind: "number", values: Float64Array.of(Number(value ?? 0)) };
  }
}

/** "12.3" at scale 2 is 1230n. */
function unscaled(text: string, scale: number): bigint {
  const match = /^([+-]?)(\d*)(?:\.(\d*))?$/.exec(text);
  const fraction = match?.[3] ?? "";
  if (match === null || fraction.length > scale) {
    throw new MillpondError(
      "DEFINITION",
      `the literal "${text}" is not a decimal with at most ${scale} digits after the point`,
    );
  }
  const digits = BigInt(`${match[2]}${fraction.padEnd(scale, "0")}` || "0");
  return match[1] === "-" ? -digits : digits;
}

/** As many rows as the batch has, for a result that is one value. */
export function spread(operand: Operand, count: number): Operand {
  if (operand.step === 1) return operand;
  const { vector } = operand;
  const valid = operand.valid === null ? null : new Uint8Array(count).fill(operand.valid[0]!);
  return { type: operand.type, valid, vector: spreadVector(vector, count), step: 1 };
}

function spreadVector(vector: Vector, count: number): Vector {
  switch (vector.kind) {
    case "number":
      return { kind: "number", values: new Float64Array(count).fill(vector.values[0]!) };
    case "int64":
      return { kind: "int64", values: new BigInt64Array(count).fill(vector.values[0]!) };
    case "any":
      return { kind: "any", values: new Array<unknown>(count).fill(vector.values[0]) };
    case "bytes": {
      const starts = new Int32Array(count).fill(vector.starts[0]!);
      const ends = new Int32Array(count).fill(vector.ends[0]!);
      return { kind: "bytes", bytes: vector.bytes, starts, ends };
    }
  }
}

/** Rows where every operand has a value; null when that is all rows. */
export function allValid(operands: readonly Operand[], count: number): Uint8Array | null {
  let valid: Uint8Array | null = null;
  for (const operand of operands) {
    if (operand.valid === null) continue;
    const from = operand.valid;
    const { step } = operand;
    const into: Uint8Array = valid ?? new Uint8Array(count).fill(1);
    for (let i = 0; i < count; i++) into[i]! &= from[i * step]!;
    valid = into;
  }
  return valid;
}

export function isValid(operand: Operand, row: number): boolean {
  return operand.valid === null || operand.valid[row * operand.step] !== 0;
}

export function numbersOf(operand: Operand): Float64Array {
  if (operand.vector.kind === "number") return operand.vector.values;
  throw wrongKind(operand, "number");
}

export function bytesOf(operand: Operand): BytesVector {
  if (operand.vector.kind === "bytes") return operand.vector;
  throw wrongKind(operand, "string");
}

export function listsOf(operand: Operand): readonly unknown[] {
  if (operand.vector.kind === "any") return operand.vector.values;
  throw wrongKind(operand, "list");
}

export function wrongKind(operand: Operand, expected: string): MillpondError {
  return new MillpondError(
    "DEFINITION",
    `an expression has a ${operand.type.kind} where a ${expected} is expected; convert it first`,
  );
}

export function isWhole(type: ColumnType): boolean {
  return type.kind === "int" || type.kind === "bigint";
}

export function isNumeric(type: ColumnType): boolean {
  return isWhole(type) || type.kind === "double" || type.kind === "decimal";
}

export function scaleOf(type: ColumnType): number {
  return type.kind === "decimal" ? type.scale : 0;
}

/** Reads an int, bigint or decimal as an integer with `scale` digits after the point. */
export function wholeReader(operand: Operand, scale: number): (row: number) => bigint {
  const factor = 10n ** BigInt(scale - scaleOf(operand.type));
  const { vector, step } = operand;
  if (vector.kind === "number") {
    return (row) => BigInt(vector.values[row * step]!) * factor;
  }
  if (vector.kind !== "int64") throw wrongKind(operand, "whole number");
  if (factor === 1n) return (row) => vector.values[row * step]!;
  return (row) => vector.values[row * step]! * factor;
}

export function textReader(operand: Operand): (row: number) => string {
  const { bytes, starts, ends } = bytesOf(operand);
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { step } = operand;
  return (row) => buffer.toString("utf8", starts[row * step]!, ends[row * step]!);
}

/** Numbers by row where all operands have a value; `compute` may give null. */
export function mapNumbers(
  type: ScalarType,
  operands: readonly Operand[],
  count: number,
  compute: (row: number) => number | null,
): Operand {
  const valid = allValid(operands, count) ?? new Uint8Array(count).fill(1);
  const values = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    if (valid[i] === 0) continue;
    const value = compute(i);
    if (value === null) valid[i] = 0;
    else values[i] = value;
  }
  return { type, valid, vector: { kind: "number", values }, step: 1 };
}

/** Integers by row where all operands have a value; beyond 64 bits or 18 digits is null. */
export function mapWhole(
  type: ScalarType,
  operands: readonly Operand[],
  count: number,
  compute: (row: number) => bigint | null,
): Operand {
  const valid = allValid(operands, count) ?? new Uint8Array(count).fill(1);
  const values = new BigInt64Array(count);
  const fits = type.kind === "decimal" ? fitsDecimal : fitsBigint;
  for (let i = 0; i < count; i++) {
    if (valid[i] === 0) continue;
    const value = compute(i);
    if (value === null || !fits(value)) valid[i] = 0;
    else values[i] = value;
  }
  return { type, valid, vector: { kind: "int64", values }, step: 1 };
}

const DECIMAL_LIMIT = 10n ** 18n;
const fitsDecimal = (value: bigint): boolean => value < DECIMAL_LIMIT && value > -DECIMAL_LIMIT;
const fitsBigint = (value: bigint): boolean => BigInt.asIntN(64, value) === value;

/** The bytes of a derived string column: one buffer that grows. */
export class TextBuilder {
  #bytes = Buffer.allocUnsafe(1024);
  #used = 0;

  get used(): number {
    return this.#used;
  }

  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#used);
  }

  addText(text: string): void {
    this.#reserve(text.length * 3);
    this.#used += this.#bytes.write(text, this.#used);
  }

  addBytes(bytes: Uint8Array, start: number, end: number): void {
    this.#reserve(end - start);
    const into = this.#bytes;
    let at = this.#used;
    for (let i = start; i < end; i++) into[at++] = bytes[i]!;
    this.#used = at;
  }

  #reserve(more: number): void {
    if (this.#used + more <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(2 * this.#bytes.length, this.#used + more));
    this.#bytes.copy(grown, 0, 0, this.#used);
    this.#bytes = grown;
  }
}

/** Strings by row where all operands have a value: `write` appends a row's bytes. */
export function mapTexts(
  operands: readonly Operand[],
  count: number,
  write: (row: number, out: TextBuilder) => void,
): Operand {
  const valid = allValid(operands, count);
  const starts = new Int32Array(count);
  const ends = new Int32Array(count);
  const out = new TextBuilder();
  for (let i = 0; i < count; i++) {
    starts[i] = out.used;
    if (valid === null || valid[i] !== 0) write(i, out);
    ends[i] = out.used;
  }
  return {
    type: STRING,
    valid,
    vector: { kind: "bytes", bytes: out.bytes, starts, ends },
    step: 1,
  };
}
