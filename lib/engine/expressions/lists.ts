/** Lists: off the hot path, as plain values. */
import type { ScalarType } from "../../define/definition.js";
import type { RowValue } from "../batch.js";
import { valueAt } from "../row-values.js";
import { widen } from "./convert.js";
import {
  BIGINT,
  BOOLEAN,
  listsOf,
  mapNumbers,
  mapWhole,
  type Operand,
  wrongKind,
} from "./operand.js";

export function listLength(operand: Operand, count: number): Operand {
  const lists = listsOf(operand);
  return mapWhole(BIGINT, [operand], count, (row) =>
    BigInt((lists[row * operand.step] as readonly unknown[]).length),
  );
}

/** The needle is read as the list's element type; null elements equal nothing. */
export function listContains(operand: Operand, needle: Operand, count: number): Operand {
  if (operand.type.kind !== "list") throw wrongKind(operand, "list");
  const element: ScalarType = operand.type.element;
  const wanted = widen(needle, element, count);
  const column = { name: "", type: element, valid: wanted.valid, vector: wanted.vector };
  const lists = listsOf(operand);
  return mapNumbers(BOOLEAN, [operand, wanted], count, (row) => {
    const value = valueAt(column, row * wanted.step);
    const list = lists[row * operand.step] as readonly RowValue[];
    return list.some((item) => item === value) ? 1 : 0;
  });
}
