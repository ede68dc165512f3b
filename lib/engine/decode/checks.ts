/** The fields' sanity rules, over the columns of a decoded slice. */
import type { ColumnNode, ExprNode, StreamNode } from "../../define/definition.js";
import { MillpondError } from "../../errors.js";
import type { Batch, Column } from "../batch.js";
import { valueAt } from "../row-values.js";
import { excerpt } from "./field-column.js";

/** Compiles an expression over columns of the given names and types. */
export type CompileExpression = (
  node: ExprNode,
  columns: readonly ColumnNode[],
) => (batch: Batch) => Column;

interface Check {
  readonly fieldIndex: number;
  /** Counted from 1, for messages. */
  readonly ordinal: number;
  readonly evaluate: (batch: Batch) => Column;
}

export class Checks {
  private readonly checks: readonly Check[];

  constructor(stream: StreamNode, compile: CompileExpression | undefined) {
    this.checks = stream.fields.flatMap((field, fieldIndex) =>
      field.checks.map((node, i) => {
        if (compile === undefined) {
          throw new MillpondError(
            "INVARIANT",
            `stream "${stream.name}": field "${field.name}" has checks, and the decoder was ` +
              "given nothing to compile them with",
          );
        }
        return { fieldIndex, ordinal: i + 1, evaluate: compile(node, stream.fields) };
      }),
    );
  }

  /** Rows that make a check false, with the first such check's message. Null passes. */
  failures(batch: Batch): Map<number, string> {
    const failed = new Map<number, string>();
    for (const { fieldIndex, ordinal, evaluate } of this.checks) {
      const { valid, vector } = evaluate(batch);
      if (vector.kind !== "number") {
        throw new MillpondError("INVARIANT", `a check gave a ${vector.kind} column, not booleans`);
      }
      for (let row = 0; row < batch.rowCount; row++) {
        if (vector.values[row] !== 0 || (valid !== null && valid[row] === 0)) continue;
        if (!failed.has(row)) failed.set(row, message(batch.columns[fieldIndex], row, ordinal));
      }
    }
    return failed;
  }
}

function message(column: Column, row: number, ordinal: number): string {
  const value = valueAt(column, row);
  const found = typeof value === "bigint" ? String(value) : JSON.stringify(value);
  const name = JSON.stringify(column.name);
  return `field ${name}: check ${ordinal} is false for ${excerpt(found)}`;
}
