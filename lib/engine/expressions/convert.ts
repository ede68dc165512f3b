/** Conversions between types: widening of numbers, `toString`, `toDouble` and `toBigint`. */
import type { ColumnType } from "../../define/definition.js";
import {
  BIGINT,
  DOUBLE,
  decimalType,
  isNumeric,
  isWhole,
  mapNumbers,
  mapTexts,
  mapWhole,
  numbersOf,
  type Operand,
  scaleOf,
  textReader,
  wholeReader,
  wrongKind,
} from "./operand.js";

/** The type that can hold all of them: numbers widen, other kinds stay as they are. */
export function commonType(types: readonly ColumnType[]): ColumnType {
  const first = types[0]!;
  if (types.every((type) => type.kind === first.kind) && first.kind !== "decimal") return first;
  if (types.some((type) => type.kind === "double")) return DOUBLE;
  if (types.some((type) => type.kind === "decimal")) {
    return decimalType(Math.max(...types.map(scaleOf)));
  }
  return BIGINT;
}

/** The same values as a wider type; what does not fit a decimal's 18 digits is null. */
export function widen(operand: Operand, type: ColumnType, count: number): Operand {
  const same = operand.type.kind === type.kind && scaleOf(operand.type) === scaleOf(type);
  if (same || !isNumeric(type)) return operand;
  const rows = operand.step === 0 ? 1 : count;
  const converted =
    type.kind === "double"
      ? toDouble(operand, rows)
      : mapWhole(
          type.kind === "decimal" ? type : BIGINT,
          [operand],
          rows,
          wholeReader(operand, scaleOf(type)),
        );
  return { ...converted, step: operand.step };
}

export function toDouble(operand: Operand, count: number): Operand {
  const { type, vector } = operand;
  if (vector.kind === "number") return { ...operand, type: DOUBLE };
  if (type.kind === "string") {
    const text = textReader(operand);
    return mapNumbers(DOUBLE, [operand], count, (row) => parseDouble(text(row)));
  }
  const whole = wholeReader(operand, scaleOf(type));
  return mapNumbers(DOUBLE, [operand], count, decimalToDouble(whole, scaleOf(type)));
}

/** As DuckDB does it: one division, or beyond 2^53 the whole and the fraction by themselves. */
function decimalToDouble(whole: (row: number) => bigint, scale: number): (row: number) => number {
  if (scale === 0) return (row) => Number(whole(row));
  const factor = 10n ** BigInt(scale);
  const divisor = Number(factor);
  return (row) => {
    const value = whole(row);
    if (value <= 9007199254740992n && value >= -9007199254740992n) return Number(value) / divisor;
    return Number(value / factor) + Number(value % factor) / divisor;
  };
}

function parseDouble(text: string): number | null {
  const trimmed = text.trim();
  return /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(trimmed) ? Number(trimmed) : null;
}

/** Doubles round half to even and decimals half away from zero, as DuckDB's CAST does. */
export function toBigint(operand: Operand, count: number): Operand {
  const { type } = operand;
  if (type.kind === "string") {
    const text = textReader(operand);
    return mapWhole(BIGINT, [operand], count, (row) => parseBigint(text(row)));
  }
  if (operand.vector.kind === "number") {
    const values = numbersOf(operand);
    const { step } = operand;
    return mapWhole(BIGINT, [operand], count, (row) => roundToEven(values[row * step]!));
  }
  const whole = wholeReader(operand, scaleOf(type));
  const scale = scaleOf(type);
  return mapWhole(BIGINT, [operand], count, (row) => roundUnscaled(whole(row), scale));
}

function roundToEven(value: number): bigint | null {
  if (!Number.isFinite(value)) return null;
  const floor = Math.floor(value);
  const rest = value - floor;
  const up = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0);
  return BigInt(up ? floor + 1 : floor);
}

/** Half away from zero. */
export function roundUnscaled(value: bigint, scale: number): bigint {
  const factor = 10n ** BigInt(scale);
  const half = value < 0n ? -(factor / 2n) : factor / 2n;
  return (value + half) / factor;
}

function parseBigint(text: string): bigint | null {
  const match = /^([+-]?)(\d+)(?:\.(\d*))?$/.exec(text.trim());
  if (match === null) return null;
  const fraction = match[3] ?? "";
  const digits = roundUnscaled(BigInt(match[2]! + fraction), fraction.length);
  return match[1] === "-" ? -digits : digits;
}

export function toText(operand: Operand, count: number): Operand {
  if (operand.type.kind === "string") return operand;
  const text = textOf(operand);
  return mapTexts([operand], count, (row, out) => out.addText(text(row)));
}

function textOf(operand: Operand): (row: number) => string {
  const { type, step } = operand;
  if (isWhole(type) || type.kind === "decimal") {
    const whole = wholeReader(operand, scaleOf(type));
    return (row) => decimalText(whole(row), scaleOf(type));
  }
  const values = numbersOf(operand);
  switch (type.kind) {
    case "boolean":
      return (row) => (values[row * step] === 1 ? "true" : "false");
    case "timestamp":
      return (row) => new Date(values[row * step]!).toISOString();
    case "double":
      return (row) => doubleText(values[row * step]!);
    default:
      throw wrongKind(operand, "scalar");
  }
}

function decimalText(value: bigint, scale: number): string {
  if (scale === 0) return value.toString();
  const digits = (value < 0n ? -value : value).toString().padStart(scale + 1, "0");
  const at = digits.length - scale;
  return `${value < 0n ? "-" : ""}${digits.slice(0, at)}.${digits.slice(at)}`;
}

/** DuckDB's form: the shortest digits, always a point or an exponent ("1.0", "1e+16", "1e-05"). */
function doubleText(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value < 0 ? "-inf" : "inf";
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  const [mantissa = "0", power = "0"] = Math.abs(value).toExponential().split("e");
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) {
    const size = String(Math.abs(exponent)).padStart(2, "0");
    return `${sign}${mantissa}e${exponent < 0 ? "-" : "+"}${size}`;
  }
  const digits = mantissa.replace(".", "");
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, "0");
  return `${sign}${whole}.${digits.slice(exponent + 1) || "0"}`;
}
