/** What a test pipeline has published, as plain rows. It is a sink in memory, nothing more. */
import type { ColumnType, PipelineDefinition } from "../define/definition.js";
import type { Batch } from "../engine/batch.js";
import { valueAt } from "../engine/row-values.js";
import { MillpondError } from "../errors.js";
import { isRevised, tableLayouts } from "../sinks/layouts.js";
import type { TableLayout } from "../sinks/sink.js";

/**
 * Timestamps are ISO-8601 text in UTC, decimals text ("12.50"), whole numbers of 64 bits numbers
 * (bigint beyond 2^53), bytes text; lists are arrays of these.
 */
export type TestValue =
  | string
  | number
  | bigint
  | boolean
  | null
  | readonly TestValue[]
  | { readonly value: TestValue; readonly count: TestValue };

export type TestRow = Readonly<Record<string, TestValue>>;

interface Kept {
  readonly layout: TableLayout;
  readonly changes: TestRow[];
}

export class TestTables {
  readonly #tables: ReadonlyMap<string, Kept>;

  constructor(definition: PipelineDefinition) {
    this.#tables = new Map(
      tableLayouts(definition).map((layout) => [layout.name, { layout, changes: [] }]),
    );
  }

  add(table: string, batch: Batch): void {
    const { changes } = this.#kept(table);
    for (let row = 0; row < batch.rowCount; row++) {
      const values = batch.columns.map(
        (column) => [column.name, plain(valueAt(column, row), column.type)] as const,
      );
      changes.push(Object.fromEntries(values));
    }
  }

  /** Everything that was published, in order. */
  changes(table: string): readonly TestRow[] {
    return [...this.#kept(table).changes];
  }

  /** Of each key the row that counts, without `revision`; by key. Others as they came. */
  rows(table: string): readonly TestRow[] {
    const { layout, changes } = this.#kept(table);
    if (!isRevised(layout)) return [...changes];
    const latest = new Map<string, TestRow>();
    for (const row of changes) {
      const key = JSON.stringify(
        layout.key.map((name) => row[name]),
        bigintAsText,
      );
      const before = latest.get(key);
      if (before === undefined || Number(row.revision) > Number(before.revision)) {
        latest.set(key, row);
      }
    }
    return [...latest]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .filter(([, row]) => row.retracted !== true)
      .map(([, { revision: _, retracted: __, ...row }]) => row);
  }

  #kept(table: string): Kept {
    const found = this.#tables.get(table);
    if (found !== undefined) return found;
    const names = [...this.#tables.keys()].join(", ");
    throw new MillpondError("USAGE", `the pipeline has no table "${table}"; it has ${names}`);
  }
}

function bigintAsText(_name: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}

function plain(value: unknown, type: ColumnType): TestValue {
  if (value === null || value === undefined) return null;
  switch (type.kind) {
    case "timestamp":
      return new Date(Number(value)).toISOString();
    case "decimal":
      return decimalText(BigInt(value as bigint), type.scale);
    case "bigint": {
      const whole = BigInt(value as bigint);
      return Number.isSafeInteger(Number(whole)) ? Number(whole) : whole;
    }
    case "bytes":
      return Buffer.from(value as Uint8Array).toString("utf8");
    case "list":
      return (value as unknown[]).map((element) => plain(element, type.element));
    case "topK":
      return (value as { value: unknown; count: unknown }[]).map((top) => ({
        value: plain(top.value, type.value),
        count: plain(top.count, { kind: "bigint" }),
      }));
    default:
      return value as string | number | boolean;
  }
}

function decimalText(unscaled: bigint, scale: number): string {
  if (scale === 0) return String(unscaled);
  const sign = unscaled < 0n ? "-" : "";
  const digits = String(unscaled < 0n ? -unscaled : unscaled).padStart(scale + 1, "0");
  return `${sign}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}
