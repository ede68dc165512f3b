/**
 * Comparisons. Strings compare by their UTF-8 bytes; NaN equals itself and is above all numbers.
 * Whole numbers and decimals compare exactly; against a double they are read as doubles, as
 * DuckDB does, so that the batch query over the same log takes the same rows.
 */

import { sameBytes, viewOf } from "../dictionary.js";
import { widen } from "./convert.js";
import {
  allValid,
  BOOLEAN,
  bytesOf,
  isNumeric,
  isValid,
  numbersOf,
  type Operand,
  scaleOf,
  wholeReader,
  wrongKind,
} from "./operand.js";

export type Comparison = "eq" | "ne" | "lt" | "lte" | "gt" | "gte";

/** The order is total, so that two loops serve all six. */
export function compare(op: Comparison, a: Operand, b: Operand, count: number): Operand {
  switch (op) {
    case "eq":
      return holds("eq", a, b, count, 1);
    case "ne":
      return holds("eq", a, b, count, 0);
    case "lt":
      return holds("lt", a, b, count, 1);
    case "gte":
      return holds("lt", a, b, count, 0);
    case "gt":
      return holds("lt", b, a, count, 1);
    case "lte":
      return holds("lt", b, a, count, 0);
  }
}

/** `yes` is what a row gets where the relation holds: 0 negates. */
function holds(op: "eq" | "lt", a: Operand, b: Operand, count: number, yes: 0 | 1): Operand {
  const values = new Float64Array(count);
  const no = 1 - yes;
  const [kindA, kindB] = [a.type.kind, b.type.kind];
  if (kindA === "string" && kindB === "string") {
    if (op === "eq") textsEqual(a, b, values, count, yes, no);
    else textsLess(a, b, values, count, yes, no);
  } else if (isNumeric(a.type) && isNumeric(b.type)) {
    compareNumeric(op, a, b, values, count, yes, no);
  } else if (kindA === kindB && a.vector.kind === "number") {
    compareFloats(op, a, b, values, count, yes, no);
  } else {
    throw wrongKind(b, `${kindA} (to compare with)`);
  }
  const valid = allValid([a, b], count);
  return { type: BOOLEAN, valid, vector: { kind: "number", values }, step: 1 };
}

function compareNumeric(
  op: "eq" | "lt",
  a: Operand,
  b: Operand,
  out: Float64Array,
  count: number,
  yes: number,
  no: number,
): void {
  const double = a.type.kind === "double" || b.type.kind === "double";
  if (double || (a.vector.kind === "number" && b.vector.kind === "number")) {
    const [x, y] = double ? [widenDouble(a, count), widenDouble(b, count)] : [a, b];
    compareFloats(op, x, y, out, count, yes, no);
    return;
  }
  const scale = Math.max(scaleOf(a.type), scaleOf(b.type));
  const x = wholeReader(a, scale);
  const y = wholeReader(b, scale);
  for (let i = 0; i < count; i++) {
    if (!isValid(a, i) || !isValid(b, i)) continue;
    out[i] = (op === "eq" ? x(i) === y(i) : x(i) < y(i)) ? yes : no;
  }
}

const widenDouble = (operand: Operand, count: number): Operand =>
  widen(operand, { kind: "double" }, count);

function compareFloats(
  op: "eq" | "lt",
  a: Operand,
  b: Operand,
  out: Float64Array,
  count: number,
  yes: number,
  no: number,
): void {
  const x = numbersOf(a);
  const y = numbersOf(b);
  const { step: stepA } = a;
  const { step: stepB } = b;
  for (let i = 0; i < count; i++) {
    const p = x[i * stepA]!;
    const q = y[i * stepB]!;
    const is =
      op === "eq"
        ? p === q || (Number.isNaN(p) && Number.isNaN(q))
        : p < q || (Number.isNaN(q) && !Number.isNaN(p));
    out[i] = is ? yes : no;
  }
}

function textsEqual(
  a: Operand,
  b: Operand,
  out: Float64Array,
  count: number,
  yes: number,
  no: number,
): void {
  if (a.step === 0 && b.step === 1) {
    textsEqual(b, a, out, count, yes, no);
    return;
  }
  const x = bytesOf(a);
  const y = bytesOf(b);
  const { step: stepA } = a;
  const { step: stepB } = b;
  const [viewX, viewY] = [viewOf(x.bytes), viewOf(y.bytes)];
  for (let i = 0; i < count; i++) {
    const start = x.starts[i * stepA]!;
    const end = x.ends[i * stepA]!;
    const other = y.starts[i * stepB]!;
    const sameLength = end - start === y.ends[i * stepB]! - other;
    out[i] = sameLength && sameBytes(viewY, other, viewX, start, end) ? yes : no;
  }
}

function textsLess(
  a: Operand,
  b: Operand,
  out: Float64Array,
  count: number,
  yes: number,
  no: number,
): void {
  const x = bytesOf(a);
  const y = bytesOf(b);
  const { step: stepA } = a;
  const { step: stepB } = b;
  for (let i = 0; i < count; i++) {
    const start = x.starts[i * stepA]!;
    const other = y.starts[i * stepB]!;
    const length = x.ends[i * stepA]! - start;
    const otherLength = y.ends[i * stepB]! - other;
    const shared = Math.min(length, otherLength);
    let k = 0;
    while (k < shared && x.bytes[start + k] === y.bytes[other + k]) k++;
    const less = k < shared ? x.bytes[start + k]! < y.bytes[other + k]! : length < otherLength;
    out[i] = less ? yes : no;
  }
}
