/** Builds final columns: one value a slot, null where the aggregate saw nothing. */
import type { ColumnType } from "../../define/definition.js";
import type { Vector } from "../batch.js";
import type { Dictionary } from "../dictionary.js";

export interface Output {
  readonly vector: Vector;
  readonly valid: Uint8Array | null;
}

export function numberOutput(count: number, valueAt: (i: number) => number | null): Output {
  const values = new Float64Array(count);
  const valid = new Uint8Array(count).fill(1);
  let nulls = 0;
  for (let i = 0; i < count; i++) {
    const value = valueAt(i);
    if (value === null) {
      valid[i] = 0;
      nulls++;
    } else values[i] = value;
  }
  return { vector: { kind: "number", values }, valid: nulls === 0 ? null : valid };
}

export function int64Output(count: number, valueAt: (i: number) => bigint | null): Output {
  const values = new BigInt64Array(count);
  const valid = new Uint8Array(count).fill(1);
  let nulls = 0;
  for (let i = 0; i < count; i++) {
    const value = valueAt(i);
    if (value === null) {
      valid[i] = 0;
      nulls++;
    } else values[i] = value;
  }
  return { vector: { kind: "int64", values }, valid: nulls === 0 ? null : valid };
}

/** Non-negative whole numbers below 2^53, without making a bigint for each. */
export function countOutput(count: number, valueAt: (i: number) => number): Output {
  const values = new BigInt64Array(count);
  const halves = new Uint32Array(values.buffer);
  for (let i = 0; i < count; i++) {
    const value = valueAt(i);
    halves[2 * i] = value;
    halves[2 * i + 1] = Math.floor(value / 4294967296);
  }
  return { vector: { kind: "int64", values }, valid: null };
}

/** Values by dictionary code; a negative code is null. */
export function codedOutput(
  type: ColumnType,
  dictionary: Dictionary,
  count: number,
  codeAt: (i: number) => number,
): Output {
  if (type.kind === "list") return listOutput(dictionary, count, codeAt);
  if (type.kind === "bigint" || type.kind === "decimal") {
    return int64Output(count, (i) => (codeAt(i) < 0 ? null : dictionary.int64Of(codeAt(i))));
  }
  if (type.kind !== "string") {
    return numberOutput(count, (i) => (codeAt(i) < 0 ? null : dictionary.numberOf(codeAt(i))));
  }
  return stringOutput(dictionary, count, codeAt);
}

function stringOutput(d: Dictionary, count: number, codeAt: (i: number) => number): Output {
  const valid = new Uint8Array(count).fill(1);
  const starts = new Int32Array(count);
  const ends = new Int32Array(count);
  const places = new Map<number, number>();
  const parts: Uint8Array[] = [];
  let length = 0;
  let nulls = 0;
  for (let i = 0; i < count; i++) {
    const code = codeAt(i);
    if (code < 0) {
      valid[i] = 0;
      nulls++;
      continue;
    }
    let place = places.get(code);
    if (place === undefined) {
      place = parts.length;
      places.set(code, place);
      const bytes = d.bytesOf(code);
      parts.push(bytes);
      starts[i] = length;
      length += bytes.length;
    } else starts[i] = -1 - place;
  }
  const offsets = new Int32Array(parts.length + 1);
  const bytes = new Uint8Array(length);
  parts.forEach((part, p) => {
    bytes.set(part, offsets[p]!);
    offsets[p + 1] = offsets[p]! + part.length;
  });
  let next = 0;
  for (let i = 0; i < count; i++) {
    if (valid[i] === 0) continue;
    const place = starts[i]! < 0 ? -1 - starts[i]! : next++;
    starts[i] = offsets[place]!;
    ends[i] = offsets[place + 1]!;
  }
  return {
    vector: { kind: "bytes", bytes, starts, ends },
    valid: nulls === 0 ? null : valid,
  };
}

function listOutput(d: Dictionary, count: number, codeAt: (i: number) => number): Output {
  const values: unknown[] = new Array(count).fill(null);
  const valid = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    if (codeAt(i) < 0) continue;
    valid[i] = 1;
    values[i] = JSON.parse(Buffer.from(d.bytesOf(codeAt(i))).toString("utf8"));
  }
  return { vector: { kind: "any", values }, valid };
}
