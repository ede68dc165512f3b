/**
 * Arithmetic. Whole numbers and decimals are exact, and null beyond 64 bits or 18 digits; with a
 * double in it the result is a double. Division is always in doubles, and by zero gives null.
 */
import { MillpondError } from "../../errors.js";
import { roundUnscaled, widen } from "./convert.js";
import {
  allValid,
  BIGINT,
  DOUBLE,
  decimalType,
  isWhole,
  mapNumbers,
  mapWhole,
  numbersOf,
  type Operand,
  scaleOf,
  wholeReader,
} from "./operand.js";

export function arithmetic(
  op: "add" | "sub" | "mul",
  a: Operand,
  b: Operand,
  count: number,
): Operand {
  if (a.type.kind === "double" || b.type.kind === "double") return doubles(op, a, b, count);
  const scales = [scaleOf(a.type), scaleOf(b.type)] as const;
  const scale = op === "mul" ? scales[0] + scales[1] : Math.max(...scales);
  if (scale > 18) {
    throw new MillpondError(
      "DEFINITION",
      `a product of decimals has ${scale} digits after the point, more than the 18 that fit; ` +
        "use toDouble() on one of them",
    );
  }
  const type = isWhole(a.type) && isWhole(b.type) ? BIGINT : decimalType(scale);
  const x = wholeReader(a, op === "mul" ? scales[0] : scale);
  const y = wholeReader(b, op === "mul" ? scales[1] : scale);
  switch (op) {
    case "add":
      return mapWhole(type, [a, b], count, (row) => x(row) + y(row));
    case "sub":
      return mapWhole(type, [a, b], count, (row) => x(row) - y(row));
    case "mul":
      return mapWhole(type, [a, b], count, (row) => x(row) * y(row));
  }
}

function doubles(op: "add" | "sub" | "mul", a: Operand, b: Operand, count: number): Operand {
  const x = doublesOf(a, count);
  const y = doublesOf(b, count);
  const { step: p } = a;
  const { step: q } = b;
  const values = new Float64Array(count);
  if (op === "add") for (let i = 0; i < count; i++) values[i] = x[i * p]! + y[i * q]!;
  else if (op === "sub") for (let i = 0; i < count; i++) values[i] = x[i * p]! - y[i * q]!;
  else for (let i = 0; i < count; i++) values[i] = x[i * p]! * y[i * q]!;
  return {
    type: DOUBLE,
    valid: allValid([a, b], count),
    vector: { kind: "number", values },
    step: 1,
  };
}

const doublesOf = (operand: Operand, count: number): Float64Array =>
  numbersOf(widen(operand, DOUBLE, count));

export function divide(a: Operand, b: Operand, count: number): Operand {
  const x = doublesOf(a, count);
  const y = doublesOf(b, count);
  return mapNumbers(DOUBLE, [a, b], count, (row) => {
    const divisor = y[row * b.step]!;
    return divisor === 0 ? null : x[row * a.step]! / divisor;
  });
}

/** The remainder has the dividend's sign; by zero it is null. Decimals are read as doubles. */
export function modulo(a: Operand, b: Operand, count: number): Operand {
  if (isWhole(a.type) && isWhole(b.type)) {
    const x = wholeReader(a, 0);
    const y = wholeReader(b, 0);
    return mapWhole(BIGINT, [a, b], count, (row) => {
      const divisor = y(row);
      return divisor === 0n ? null : x(row) % divisor;
    });
  }
  const x = doublesOf(a, count);
  const y = doublesOf(b, count);
  return mapNumbers(DOUBLE, [a, b], count, (row) => {
    const divisor = y[row * b.step]!;
    return divisor === 0 ? null : x[row * a.step]! % divisor;
  });
}

/** An int becomes a bigint, as -(-2^31) needs one. */
export function signed(op: "neg" | "abs", operand: Operand, count: number): Operand {
  const { type, step } = operand;
  if (type.kind === "double") {
    const values = numbersOf(operand).map(op === "neg" ? (x) => -x : (x) => Math.abs(x));
    return { type, valid: operand.valid, vector: { kind: "number", values }, step };
  }
  const whole = wholeReader(operand, scaleOf(type));
  const apply = op === "neg" ? (x: bigint) => -x : (x: bigint) => (x < 0n ? -x : x);
  return mapWhole(type.kind === "decimal" ? type : BIGINT, [operand], count, (row) =>
    apply(whole(row)),
  );
}

export function toWholeDouble(
  op: "round" | "floor" | "ceil",
  operand: Operand,
  count: number,
): Operand {
  const { type } = operand;
  if (type.kind === "decimal") {
    const whole = wholeReader(operand, type.scale);
    return mapNumbers(DOUBLE, [operand], count, (row) => Number(cut(op, whole(row), type.scale)));
  }
  const round = { round: roundAway, floor: Math.floor, ceil: Math.ceil }[op];
  const values = doublesOf(operand, count).map((x) => round(x));
  const { valid, step } = operand;
  return { type: DOUBLE, valid, vector: { kind: "number", values }, step };
}

function cut(op: "round" | "floor" | "ceil", value: bigint, scale: number): bigint {
  if (op === "round") return roundUnscaled(value, scale);
  const factor = 10n ** BigInt(scale);
  const toZero = value / factor;
  if (toZero * factor === value) return toZero;
  if (op === "floor") return value < 0n ? toZero - 1n : toZero;
  return value < 0n ? toZero : toZero + 1n;
}

/** Half away from zero; by the exact rest, as adding 0.5 can itself round. */
function roundAway(value: number): number {
  const toZero = Math.trunc(value);
  return Math.abs(value - toZero) >= 0.5 ? toZero + Math.sign(value) : toZero;
}
