/** Numbers and counts of the command line: proved when they come in, worded when they go out. */
import { InvalidArgumentError } from "commander";

/** A parser of whole numbers in [min, max]. */
export function whole(min: number, max: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (/^\d+$/.test(value) && number >= min && number <= max) return number;
    throw new InvalidArgumentError(`expected a whole number from ${min} to ${max}.`);
  };
}

/** Any number; what uses it says which it takes. */
export function anyNumber(value: string): number {
  const found = value.trim() === "" ? Number.NaN : Number(value);
  if (Number.isNaN(found)) throw new InvalidArgumentError("expected a number.");
  return found;
}

/** @example counted(1, "dead letter"); // "1 dead letter" */
export function counted(
  count: number,
  what: string,
  text: (count: number) => string = String,
): string {
  return `${text(count)} ${what}${count === 1 ? "" : "s"}`;
}
