/** A batch's columns as a table's sink expects them: checked, and with `retracted` if it lacks. */
import type { ColumnNode } from "../define/definition.js";
import type { Batch, Column } from "../engine/batch.js";
import { MillpondError } from "../errors.js";

/**
 * The batch's columns in the table's order. Those beyond the table's are left out; if the batch
 * lacks the last one (`retracted`), that is false.
 *
 * @throws MillpondError INVARIANT when the batch does not fit the table
 * @example const columns = checkedColumns(layout.name, revisionColumns(layout), batch);
 */
export function checkedColumns(
  table: string,
  expected: readonly ColumnNode[],
  batch: Batch,
): readonly Column[] {
  return expected.map((node, index) => checkedColumn(table, node, batch, index));
}

function checkedColumn(table: string, expected: ColumnNode, batch: Batch, index: number): Column {
  const found = batch.columns[index];
  if (found === undefined && expected.name === "retracted") return noneRetracted(batch.rowCount);
  if (found?.name !== expected.name || found.type.kind !== expected.type.kind) {
    const what = found === undefined ? "no column" : `"${found.name}" (${found.type.kind})`;
    throw new MillpondError(
      "INVARIANT",
      `Rows for table "${table}": found ${what} at position ${index + 1}, expected ` +
        `"${expected.name}" (${expected.type.kind}). This is a bug in Millpond: report it.`,
    );
  }
  if (!expected.nullable && found.valid?.subarray(0, batch.rowCount).includes(0)) {
    throw new MillpondError(
      "INVARIANT",
      `Rows for table "${table}": found a null in column "${found.name}", which is not ` +
        "nullable. This is a bug in Millpond: report it.",
    );
  }
  return found;
}

function noneRetracted(rowCount: number): Column {
  const values = new Float64Array(rowCount);
  const vector = { kind: "number", values } as const;
  return { name: "retracted", type: { kind: "boolean" }, valid: null, vector };
}
