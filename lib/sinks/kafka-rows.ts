/** Rows of a row table as Kafka messages: JSON values, and where each row came from as headers. */
import type { ColumnNode, ColumnType } from "../define/definition.js";
import type { Batch, Column, RowValue } from "../engine/batch.js";
import { valueAt } from "../engine/row-values.js";
import { MillpondError } from "../errors.js";
import type { KafkaMessage } from "../sources/kafka/client.js";
import type { Publication, TableLayout } from "./sink.js";

/** Where a row came from: "topic/partition/offset". */
export const SOURCE_HEADER = "millpond-source";
/** Which publication a row is of, and its place there: "57/3". */
export const PUBLICATION_HEADER = "millpond-publication";

/** Columns that are in the header instead of the value. */
const ORIGIN: readonly string[] = ["topic", "partition", "offset"];

export interface RowMessage extends KafkaMessage {
  readonly value: Buffer;
  /** The partition that the row came from. */
  readonly partition: number;
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * A message a row. `keyColumn` is the column whose value is the key; null for no key.
 *
 * @throws MillpondError INVARIANT when the batch does not fit the table
 * @example
 * for (const message of rowMessages(layout, "user_id", publication)) buffer.push(message);
 */
export function* rowMessages(
  layout: TableLayout,
  keyColumn: string | null,
  { sequence, batch }: Publication,
): Generator<RowMessage> {
  const columns = layout.columns.map((node, index) => checked(layout, node, batch, index));
  const inValue = columns.filter(({ name }) => !ORIGIN.includes(name));
  const names = inValue.map(({ name }) => JSON.stringify(name));
  const origin = ORIGIN.map((name) => named(columns, name));
  const key = keyColumn === null ? undefined : columns.find(({ name }) => name === keyColumn);
  for (let row = 0; row < batch.rowCount; row++) {
    const fields = inValue.map((column, at) => {
      return `${names[at]}:${jsonText(column.type, valueAt(column, row))}`;
    });
    yield {
      key: key === undefined ? null : keyText(key.type, valueAt(key, row)),
      value: Buffer.from(`{${fields.join(",")}}`),
      partition: Number(valueAt(origin[1]!, row)),
      headers: {
        [SOURCE_HEADER]: origin.map((column) => valueAt(column, row)).join("/"),
        [PUBLICATION_HEADER]: `${sequence}/${row}`,
      },
    };
  }
}

function named(columns: readonly Column[], name: string): Column {
  const column = columns.find((candidate) => candidate.name === name);
  if (column !== undefined) return column;
  throw new MillpondError("INVARIANT", `Rows for Kafka lack "${name}": a bug in Millpond.`);
}

function checked(layout: TableLayout, node: ColumnNode, batch: Batch, index: number): Column {
  const column = batch.columns[index];
  const isExpected = column?.name === node.name && column.type.kind === node.type.kind;
  const hasNull = column?.valid?.subarray(0, batch.rowCount).includes(0) === true;
  if (isExpected && (node.nullable || !hasNull)) return column;
  const found = isExpected ? "a null" : `"${column?.name}" (${column?.type.kind})`;
  throw new MillpondError(
    "INVARIANT",
    `Rows for table "${layout.name}": found ${found} in the place of column "${node.name}" ` +
      `(${node.type.kind}). This is a bug in Millpond: report it.`,
  );
}

/** A string as it is, so that it hashes to the partition that any producer would choose. */
function keyText(type: ColumnType, value: RowValue): string | null {
  if (value === null || typeof value === "string") return value;
  const text = jsonText(type, value);
  return text.startsWith('"') ? text.slice(1, -1) : text;
}

/**
 * JSON that a stream reads again as the same value: integers and decimals with all their digits,
 * timestamps in ISO 8601, bytes in base64. A double that JSON has no number for is null.
 */
export function jsonText(type: ColumnType, value: RowValue): string {
  if (value === null) return "null";
  switch (type.kind) {
    case "timestamp":
      return JSON.stringify(new Date(Number(value)));
    case "bigint":
      return String(value);
    case "decimal":
      return decimalText(BigInt(String(value)), type.scale);
    case "bytes":
      return value instanceof Uint8Array ? `"${Buffer.from(value).toString("base64")}"` : "null";
    case "list":
      return listText(value, (element) => jsonText(type.element, element as RowValue));
    case "topK":
      return listText(value, (item) => topText(type.value, item as TopItem));
    default:
      return JSON.stringify(value);
  }
}

function listText(value: RowValue, elementText: (element: unknown) => string): string {
  return Array.isArray(value) ? `[${value.map(elementText).join(",")}]` : "null";
}

interface TopItem {
  readonly value: RowValue;
  readonly count: unknown;
}

function topText(type: ColumnType, item: TopItem): string {
  return `{"value":${jsonText(type, item.value)},"count":${String(item.count)}}`;
}

function decimalText(unscaled: bigint, scale: number): string {
  const sign = unscaled < 0n ? "-" : "";
  const digits = (unscaled < 0n ? -unscaled : unscaled).toString().padStart(scale + 1, "0");
  return scale === 0 ? sign + digits : `${sign}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}
