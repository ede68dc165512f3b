/** Truth and choice: Kleene and/or/not, null tests, coalesce, if, in. */
import type { ColumnType } from "../../define/definition.js";
import { compare } from "./compare.js";
import { widen } from "./convert.js";
import {
  BOOLEAN,
  bytesOf,
  isValid,
  listsOf,
  mapTexts,
  numbersOf,
  type Operand,
  scaleOf,
  wholeReader,
} from "./operand.js";

/** `decisive` settles the result whatever the others are: false for and, true for or. */
export function junction(operands: readonly Operand[], decisive: 0 | 1, count: number): Operand {
  return operands.reduce((a, b) => pair(a, b, decisive, count));
}

function pair(a: Operand, b: Operand, decisive: 0 | 1, count: number): Operand {
  const x = numbersOf(a);
  const y = numbersOf(b);
  const { step: stepA, valid: validA } = a;
  const { step: stepB, valid: validB } = b;
  const values = new Float64Array(count);
  const nullable = validA !== null || validB !== null;
  const valid = nullable ? new Uint8Array(count) : null;
  for (let i = 0; i < count; i++) {
    const knownA = validA === null || validA[i * stepA] !== 0;
    const knownB = validB === null || validB[i * stepB] !== 0;
    const settled = (knownA && x[i * stepA] === decisive) || (knownB && y[i * stepB] === decisive);
    values[i] = settled ? decisive : 1 - decisive;
    if (valid !== null) valid[i] = settled || (knownA && knownB) ? 1 : 0;
  }
  return { type: BOOLEAN, valid, vector: { kind: "number", values }, step: 1 };
}

export function not(operand: Operand): Operand {
  const values = numbersOf(operand).map((value) => 1 - value);
  return { ...operand, vector: { kind: "number", values } };
}

/** 1 where the operand is null (`whenNull` 1) or is not (0). */
export function nullTest(operand: Operand, whenNull: 0 | 1, count: number): Operand {
  const values = new Float64Array(count);
  for (let i = 0; i < count; i++) values[i] = isValid(operand, i) ? 1 - whenNull : whenNull;
  return { type: BOOLEAN, valid: null, vector: { kind: "number", values }, step: 1 };
}

/** SQL's IN: null when nothing is equal and something is null. */
export function isIn(needle: Operand, choices: readonly Operand[], count: number): Operand {
  const tests = choices.map((choice) => compare("eq", needle, choice, count));
  if (tests.length > 0) return junction(tests, 1, count);
  return {
    type: BOOLEAN,
    valid: null,
    vector: { kind: "number", values: new Float64Array(1) },
    step: 0,
  };
}

export function coalesce(type: ColumnType, operands: readonly Operand[], count: number): Operand {
  const wide = operands.map((operand) => widen(operand, type, count));
  const last = wide.length - 1;
  const which = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    let k = 0;
    while (k < last && !isValid(wide[k]!, i)) k++;
    which[i] = k;
  }
  return choose(type, wide, which, count);
}

/** A null condition takes the second branch, as CASE does. */
export function branch(
  type: ColumnType,
  condition: Operand,
  branches: readonly Operand[],
  count: number,
): Operand {
  const test = numbersOf(condition);
  const which = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    which[i] = isValid(condition, i) && test[i * condition.step] === 1 ? 0 : 1;
  }
  return choose(
    type,
    branches.map((operand) => widen(operand, type, count)),
    which,
    count,
  );
}

/** Row i from operand `which[i]`; all have the type already. */
function choose(
  type: ColumnType,
  operands: readonly Operand[],
  which: Uint8Array,
  count: number,
): Operand {
  const valid = new Uint8Array(count);
  for (let i = 0; i < count; i++) valid[i] = isValid(operands[which[i]!]!, i) ? 1 : 0;
  const { kind } = operands[0]!.vector;
  if (kind === "bytes") {
    const vectors = operands.map(bytesOf);
    const texts = mapTexts([], count, (row, out) => {
      const k = which[row]!;
      const at = row * operands[k]!.step;
      if (valid[row] !== 0)
        out.addBytes(vectors[k]!.bytes, vectors[k]!.starts[at]!, vectors[k]!.ends[at]!);
    });
    return { ...texts, type, valid };
  }
  if (kind === "int64") {
    const readers = operands.map((operand) => wholeReader(operand, scaleOf(type)));
    const values = new BigInt64Array(count);
    for (let i = 0; i < count; i++) values[i] = readers[which[i]!]!(i);
    return { type, valid, vector: { kind, values }, step: 1 };
  }
  if (kind === "any") {
    const lists = operands.map(listsOf);
    const values = Array.from({ length: count }, (_, i) => {
      const k = which[i]!;
      return lists[k]![i * operands[k]!.step];
    });
    return { type, valid, vector: { kind, values }, step: 1 };
  }
  const arrays = operands.map(numbersOf);
  const values = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const k = which[i]!;
    values[i] = arrays[k]![i * operands[k]!.step]!;
  }
  return { type, valid, vector: { kind, values }, step: 1 };
}
