/**
 * What is new in a table since it was last published: rows that are new (revision 0), changed
 * (next revision), or withdrawn (sessions that became part of another). Pure.
 */
import type { Batch, Column } from "./batch.js";
import { gather, numberColumn } from "./columns.js";
import { valueAt } from "./row-values.js";

export interface Revised {
  /** For sinks: with `revision` and `retracted`. */
  readonly changed: Batch;
  /** All rows as they now stand, with `revision`: what the next comparison starts from. */
  readonly full: Batch;
}

const REVISION = "revision";

/** Rows published for the first time: all are new. */
export function firstRevision(rows: Batch): Batch {
  const revisions = new Float64Array(rows.rowCount);
  return withRetracted(withRevision(rows, revisions), new Float64Array(rows.rowCount));
}

/** A window published again. Groups never leave a window, so nothing is withdrawn. */
export function reviseWindow(before: Batch, rows: Batch, keys: readonly string[]): Revised {
  const index = new Map<string, number>();
  const keyBefore = rowText(before, keys);
  for (let row = 0; row < before.rowCount; row++) index.set(keyBefore(row), row);
  const keyNow = rowText(rows, keys);
  const content = rows.columns.map((column) => column.name);
  const contentBefore = rowText(before, content);
  const contentNow = rowText(rows, content);
  const revisionOf = revisionsOf(before);
  const revisions = new Float64Array(rows.rowCount);
  const changed: number[] = [];
  for (let row = 0; row < rows.rowCount; row++) {
    const old = index.get(keyNow(row));
    if (old !== undefined) {
      const same = contentBefore(old) === contentNow(row);
      revisions[row] = revisionOf(old) + (same ? 0 : 1);
      if (same) continue;
    }
    changed.push(row);
  }
  const full = withRevision(rows, revisions);
  return { full, changed: withRetracted(pick(full, changed), new Float64Array(changed.length)) };
}

/**
 * Sessions against those that a flush published while they were open. A session takes the place of
 * every open one that starts within it: the one with its own start is revised, others withdrawn.
 */
export function reviseSessions(before: Batch, rows: Batch, keys: readonly string[]): Revised {
  const open = new Map<string, number[]>();
  const keyBefore = rowText(before, keys);
  for (let row = 0; row < before.rowCount; row++) {
    const list = open.get(keyBefore(row));
    if (list === undefined) open.set(keyBefore(row), [row]);
    else list.push(row);
  }
  const keyNow = rowText(rows, keys);
  const content = rows.columns.map((column) => column.name);
  const contentBefore = rowText(before, content);
  const contentNow = rowText(rows, content);
  const [startBefore, start, end] = [
    times(before, "session_start"),
    times(rows, "session_start"),
    times(rows, "session_end"),
  ];
  const revisionOf = revisionsOf(before);
  const revisions = new Float64Array(rows.rowCount);
  const changed: number[] = [];
  const withdrawn: number[] = [];
  for (let row = 0; row < rows.rowCount; row++) {
    let same = false;
    for (const old of open.get(keyNow(row)) ?? []) {
      if (startBefore[old]! < start[row]! || startBefore[old]! > end[row]!) continue;
      if (startBefore[old] !== start[row]) withdrawn.push(old);
      else {
        same = contentBefore(old) === contentNow(row);
        revisions[row] = revisionOf(old) + (same ? 0 : 1);
      }
    }
    if (!same) changed.push(row);
  }
  const full = withRevision(rows, revisions);
  const gone = pick(before, withdrawn);
  const goneRevisions = Float64Array.from(withdrawn, (old) => revisionOf(old) + 1);
  const retractions = withRetracted(
    replaceColumn(gone, numberColumn(REVISION, { kind: "int" }, goneRevisions)),
    new Float64Array(withdrawn.length).fill(1),
  );
  const current = withRetracted(pick(full, changed), new Float64Array(changed.length));
  return { full, changed: concat(current, retractions) };
}

function withRevision(rows: Batch, revisions: Float64Array): Batch {
  const column = numberColumn(REVISION, { kind: "int" }, revisions);
  return { rowCount: rows.rowCount, columns: [...rows.columns, column] };
}

function withRetracted(rows: Batch, flags: Float64Array): Batch {
  const column = numberColumn("retracted", { kind: "boolean" }, flags);
  return { rowCount: rows.rowCount, columns: [...rows.columns, column] };
}

function replaceColumn(rows: Batch, column: Column): Batch {
  return { ...rows, columns: rows.columns.map((c) => (c.name === column.name ? column : c)) };
}

function pick(rows: Batch, which: readonly number[]): Batch {
  const indexes = Int32Array.from(which);
  const columns = rows.columns.map((column) => gather(column, indexes, indexes.length));
  return { rowCount: indexes.length, columns };
}

/** Both batches' rows, one after the other. */
function concat(a: Batch, b: Batch): Batch {
  if (b.rowCount === 0) return a;
  const columns = a.columns.map((column, c) =>
    concatColumn(column, a.rowCount, b.columns[c]!, b.rowCount),
  );
  return { rowCount: a.rowCount + b.rowCount, columns };
}

function concatColumn(a: Column, aCount: number, b: Column, bCount: number): Column {
  const valid = new Uint8Array(aCount + bCount);
  for (let i = 0; i < aCount; i++) valid[i] = a.valid === null ? 1 : a.valid[i]!;
  for (let i = 0; i < bCount; i++) valid[aCount + i] = b.valid === null ? 1 : b.valid[i]!;
  return { name: a.name, type: a.type, valid, vector: concatVector(a, aCount, b, bCount) };
}

function concatVector(a: Column, aCount: number, b: Column, bCount: number): Column["vector"] {
  if (a.vector.kind === "number" && b.vector.kind === "number") {
    const values = new Float64Array(aCount + bCount);
    values.set(a.vector.values.subarray(0, aCount));
    values.set(b.vector.values.subarray(0, bCount), aCount);
    return { kind: "number", values };
  }
  if (a.vector.kind === "int64" && b.vector.kind === "int64") {
    const values = new BigInt64Array(aCount + bCount);
    values.set(a.vector.values.subarray(0, aCount));
    values.set(b.vector.values.subarray(0, bCount), aCount);
    return { kind: "int64", values };
  }
  if (a.vector.kind === "bytes" && b.vector.kind === "bytes") {
    const bytes = Buffer.concat([a.vector.bytes, b.vector.bytes]);
    const starts = new Int32Array(aCount + bCount);
    const ends = new Int32Array(aCount + bCount);
    const shift = a.vector.bytes.length;
    starts.set(a.vector.starts.subarray(0, aCount));
    ends.set(a.vector.ends.subarray(0, aCount));
    for (let i = 0; i < bCount; i++) {
      starts[aCount + i] = b.vector.starts[i]! + shift;
      ends[aCount + i] = b.vector.ends[i]! + shift;
    }
    return { kind: "bytes", bytes, starts, ends };
  }
  const values = Array.from({ length: aCount }, (_, i) => valueAt(a, i) as unknown);
  for (let i = 0; i < bCount; i++) values.push(valueAt(b, i));
  return { kind: "any", values };
}

function revisionsOf(batch: Batch): (row: number) => number {
  const values = times(batch, REVISION);
  return (row) => values[row]!;
}

function times(batch: Batch, name: string): Float64Array {
  const column = batch.columns.find((c) => c.name === name);
  if (column?.vector.kind !== "number") throw new TypeError(`no number column ${name}`);
  return column.vector.values;
}

/** A row's values as text that is equal exactly when the values are. */
function rowText(batch: Batch, names: readonly string[]): (row: number) => string {
  const columns = names.map((name) => batch.columns.find((column) => column.name === name)!);
  return (row) =>
    JSON.stringify(
      columns.map((column) => valueAt(column, row)),
      (_key, value: unknown) => {
        if (typeof value === "bigint") return `${value}n`;
        // JSON would make null of them.
        if (typeof value === "number" && !Number.isFinite(value)) return `${value}#`;
        return Object.is(value, -0) ? 0 : value;
      },
    );
}
