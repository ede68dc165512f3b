/** Lists: off the hot path, as plain values. */
import type { ColumnType } from "../../define/definition.js";
import type { RowValue } from "../batch.js";
import { valueAt } from "../row-values.js";
import { commonType } from "./convert.js";
import {
  BIGINT,
  BOOLEAN,
  isNumeric,
  listsOf,
  mapNumbers,
  mapWhole,
  type Operand,
  scaleOf,
  wrongKind,
} from "./operand.js";

export function listLength(operand: Operand, count: number): Operand {
  const lists = listsOf(operand);
  return mapWhole(BIGINT, [operand], count, (row) =>
    BigInt((lists[row * operand.step] as readonly unknown[]).length),
  );
}

/** Null elements equal nothing; numbers of different types compare as `eq` compares them. */
export function listContains(operand: Operand, needle: Operand, count: number): Operand {
  if (operand.type.kind !== "list") throw wrongKind(operand, "list");
  const { element } = operand.type;
  const common = commonType([element, needle.type]);
  const fromItem = normalizer(element, common);
  const fromNeedle = normalizer(needle.type, common);
  const column = { ...needle, name: "" };
  const lists = listsOf(operand);
  return mapNumbers(BOOLEAN, [operand, needle], count, (row) => {
    const wanted = fromNeedle(valueAt(column, row * needle.step));
    const list = lists[row * operand.step] as readonly RowValue[];
    return list.some((item) => item !== null && Object.is(fromItem(item), wanted)) ? 1 : 0;
  });
}

/** A value of one type as a value of a wider one, so that equal numbers are identical. */
function normalizer(from: ColumnType, to: ColumnType): (value: RowValue) => RowValue {
  if (!isNumeric(from)) return (value) => value;
  if (to.kind === "double") {
    // Adding 0 makes one zero of the two.
    return (value) => Number(value) / 10 ** scaleOf(from) + 0;
  }
  const factor = 10n ** BigInt(scaleOf(to) - scaleOf(from));
  return (value) => BigInt(value as number | bigint) * factor;
}
