/**
 * Numbers out of the scanner's last token, exactly: quickly where a double holds every digit, else
 * by way of BigInt. What the type makes of the number (range, fractions) is left to the readers.
 */
import { EXACT_DIGITS, type Scanner } from "./scan.js";

const POWERS_OF_TEN = Array.from({ length: 23 }, (_, power) => Number(`1e${power}`));

/** 2^63 has 19 digits: whatever has more is out of every type's range. */
const DIGITS_MAX = 19;

/** The result of `scaled` was cut: it is the floor of the number, not the number. */
export const INEXACT = 1;
export const EXACT = 0;
/** The number has more digits than any type holds. */
export const TOO_LARGE = 2;

/** The last token as a double, rounded like `Number(text)`; infinite if it overflows. */
export function toDouble(scanner: Scanner): number {
  const { mantissa, exponent } = scanner;
  // Exact operands and one rounding give the nearest double (Clinger 1990).
  if (scanner.digits <= EXACT_DIGITS && exponent >= -22 && exponent <= 22) {
    const value =
      exponent < 0 ? mantissa / POWERS_OF_TEN[-exponent] : mantissa * POWERS_OF_TEN[exponent];
    return scanner.negative ? -value : value;
  }
  return Number(scanner.text(scanner.start, scanner.stop));
}

/** A number times a power of ten, floored to a whole number; reused from call to call. */
export class Scaled {
  /** The value, if `small`: at most 15 digits. */
  number = 0;
  bigint = 0n;
  small: boolean = true;

  /** Compute floor(last token × 10^scale); returns EXACT, INEXACT or TOO_LARGE. */
  read(scanner: Scanner, scale: number): number {
    const shift = scanner.exponent + scale;
    this.small = true;
    if (scanner.digits <= EXACT_DIGITS) {
      if (shift >= 0 && scanner.digits + shift <= EXACT_DIGITS) {
        const value = scanner.mantissa * POWERS_OF_TEN[shift];
        // Not `-value`: that would make -0 of 0.
        this.number = scanner.negative ? 0 - value : value;
        return EXACT;
      }
      if (shift < 0 && shift >= -EXACT_DIGITS) return this.divide(scanner, POWERS_OF_TEN[-shift]);
    }
    this.small = false;
    return this.readLong(scanner.text(scanner.start, scanner.stop), scanner.exponent, scale);
  }

  private divide(scanner: Scanner, divisor: number): number {
    const rest = scanner.mantissa % divisor;
    const quotient = (scanner.mantissa - rest) / divisor;
    const floor = rest === 0 ? quotient : quotient + 1;
    this.number = scanner.negative ? 0 - floor : quotient;
    return rest === 0 ? EXACT : INEXACT;
  }

  private readLong(text: string, exponent: number, scale: number): number {
    const negative = text.startsWith("-");
    const digits = significantDigits(text);
    const power = exponent + scale + digits.trailingZeros;
    const significant = digits.text.length;
    if (significant === 0) {
      this.bigint = 0n;
      return EXACT;
    }
    if (significant + power > DIGITS_MAX) return TOO_LARGE;
    if (power >= 0) {
      const value = BigInt(digits.text) * 10n ** BigInt(power);
      this.bigint = negative ? -value : value;
      return EXACT;
    }
    const whole = BigInt(digits.text.slice(0, Math.max(0, significant + power)) || "0");
    this.bigint = negative ? -whole - 1n : whole;
    return INEXACT;
  }
}

/** The mantissa's digits without zeros around them, and how many trailing ones there were. */
function significantDigits(text: string): { text: string; trailingZeros: number } {
  const mantissa = text.split(/[eE]/, 1)[0].replace("-", "").replace(".", "");
  let first = 0;
  while (first < mantissa.length && mantissa[first] === "0") first += 1;
  let last = mantissa.length;
  while (last > first && mantissa[last - 1] === "0") last -= 1;
  return { text: mantissa.slice(first, last), trailingZeros: mantissa.length - last };
}
