/** Layouts, rows and random histories that sink tests apply, and what must come out. */
import type { ColumnNode, ColumnType } from "../../lib/define/definition.js";
import type { Batch, RowValue } from "../../lib/engine/batch.js";
import type { Publication, TableLayout } from "../../lib/sinks/sink.js";
import { batchOf, plain, type Row } from "./sinks-batches.js";

export const column = (
  name: string,
  kind: "string" | "int" | "bigint" | "boolean" | "timestamp",
  nullable = false,
): ColumnNode => ({ name, type: { kind }, nullable });
const retracted = column("retracted", "boolean");

/** A windowed table with awkward names and nullable group columns. */
export const COUNTS: TableLayout = {
  name: "select",
  kind: "windowed",
  columns: [
    column("window_start", "timestamp"),
    column("window_end", "timestamp"),
    column("group", "string", true),
    column("Order", "int", true),
    column("count", "bigint"),
    column("revision", "int"),
  ],
  key: ["window_start", "group", "Order"],
  dateColumn: "window_start",
};

/** A row table with a column of every type. */
export const EVENTS: TableLayout = {
  name: "events",
  kind: "rows",
  columns: [
    { name: "s", type: { kind: "string" }, nullable: true },
    { name: "b", type: { kind: "boolean" }, nullable: true },
    { name: "i", type: { kind: "int" }, nullable: true },
    { name: "l", type: { kind: "bigint" }, nullable: true },
    { name: "d", type: { kind: "double" }, nullable: true },
    { name: "d4", type: { kind: "decimal", precision: 4, scale: 2 }, nullable: true },
    { name: "d9", type: { kind: "decimal", precision: 9, scale: 0 }, nullable: true },
    { name: "d18", type: { kind: "decimal", precision: 18, scale: 18 }, nullable: true },
    { name: "t", type: { kind: "timestamp" }, nullable: true },
    { name: "raw", type: { kind: "bytes" }, nullable: true },
    { name: "tags", type: { kind: "list", element: { kind: "string" } }, nullable: true },
    { name: "top", type: { kind: "topK", value: { kind: "int" } }, nullable: true },
  ],
  key: [],
  dateColumn: "t",
};

export const ORIGIN = [
  column("topic", "string"),
  column("partition", "int"),
  column("offset", "bigint"),
];

/** As every row table has them; a script fills the last three. */
export const ROWS: TableLayout = { ...EVENTS, columns: [...EVENTS.columns, ...ORIGIN] };

export const LAYOUTS = [COUNTS, EVENTS];
const DAY = 86_400_000;
export const T0 = Date.UTC(2024, 0, 1);

export const EVERY_TYPE: Row[] = [
  ["plain", true, 1, 1n, 1.5, 123n, 5n, 1n, T0, Buffer.from("ab"), ["x"], [{ value: 7, count: 2 }]],
  [null, null, null, null, null, null, null, null, null, null, null, null],
  ["", false, 0, 0n, 0, 0n, 0n, 0n, 0, Buffer.from([]), [], []],
  [
    "naïve 😀 日本\u0000'\"\\",
    true,
    -(2 ** 31),
    -(2n ** 63n),
    -1e300,
    -9999n,
    -999999999n,
    -999999999999999999n,
    -DAY - 1,
    Buffer.from([0, 255]),
    ["it's", null],
    [{ value: -1, count: 1 }],
  ],
  [
    "y".repeat(70_000),
    false,
    2 ** 31 - 1,
    2n ** 63n - 1n,
    5e-324,
    9999n,
    999999999n,
    999999999999999999n,
    8.64e15,
    Buffer.alloc(5000, 7),
    ["a", "b", "c"],
    null,
  ],
  ["year 1", null, 1, 1n, 1.25, 1n, 1n, 1n, Date.parse("0001-01-01T00:00:00Z"), null, null, null],
  ["year 0 and before", null, 1, 1n, 1.25, 1n, 1n, 1n, -8.64e15, null, null, null],
];

/** What a sink keeps of a value that its place cannot hold as it is. */
export type StoredValue = (type: ColumnType, value: RowValue) => RowValue;

export async function* stream(publications: readonly Publication[]) {
  yield* publications;
}

/** The latest revision of each key over all publications, or every row of an append-only table. */
export function expectedRows(
  layout: TableLayout,
  publications: readonly Publication[],
  rowsOf: ReadonlyMap<Batch, readonly Row[]>,
  stored: StoredValue = (_type, value) => value,
): (string | null)[][] {
  const latest = new Map<string, { revision: number; row: Row }>();
  let count = 0;
  for (const { table, batch } of publications) {
    if (table !== layout.name) continue;
    for (const row of rowsOf.get(batch) ?? []) {
      const at = (name: string) => row[layout.columns.findIndex((c) => c.name === name)];
      const key = layout.key.length > 0 ? JSON.stringify(layout.key.map(at)) : `row ${count++}`;
      const revision = Number(layout.key.length > 0 ? at("revision") : 0);
      const known = latest.get(key);
      if (known === undefined || revision >= known.revision) latest.set(key, { revision, row });
    }
  }
  return [...latest.values()]
    .filter(({ row }) => row[layout.columns.length] !== true)
    .map(({ row }) =>
      layout.columns.map(({ type }, index) => plain(type, stored(type, row[index]))),
    )
    .sort(compareRows);
}

export function compareRows(a: readonly unknown[], b: readonly unknown[]): number {
  const [left, right] = [JSON.stringify(a), JSON.stringify(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}

/** Publications under construction, with the rows they were made of. */
export class Script {
  readonly publications: Publication[] = [];
  readonly rowsOf = new Map<Batch, readonly Row[]>();
  #offset = 0;

  add(layout: TableLayout, rows: readonly Row[]): this {
    const placed = layout === ROWS ? rows.map((row) => this.#placed(row)) : rows;
    return this.#add(layout, placed);
  }

  #placed(row: Row): Row {
    const offset = this.#offset++;
    return [...row, "clicks", offset % 4, BigInt(offset)];
  }

  #add(layout: TableLayout, rows: readonly Row[]): this {
    const isMarked = rows.some((row) => row.length > layout.columns.length);
    const columns = isMarked ? [...layout.columns, retracted] : layout.columns;
    const full = rows.map((row) =>
      isMarked && row.length === layout.columns.length ? [...row, false] : row,
    );
    const batch = batchOf(columns, full);
    this.rowsOf.set(batch, rows);
    this.publications.push({ sequence: this.publications.length + 1, table: layout.name, batch });
    return this;
  }

  expected(layout: TableLayout, stored?: StoredValue): (string | null)[][] {
    return expectedRows(layout, this.publications, this.rowsOf, stored);
  }
}

export const count = (
  start: number,
  group: string | null,
  order: number | null,
  n: number,
  revision = 0,
  ...gone: boolean[]
): Row => [T0 + start, T0 + start + 60_000, group, order, BigInt(n), revision, ...gone];

/** A small repeatable random generator (mulberry32). */
export function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** A history as the engine makes them: new windows, later revisions, some retracted. */
export function randomScript(seed: number, publicationCount: number): Script {
  const random = randomOf(seed);
  const revisions = new Map<string, number>();
  const script = new Script();
  for (let p = 0; p < publicationCount; p++) {
    if (random(3) === 0) {
      script.add(
        ROWS,
        Array.from({ length: random(4) }, () => EVERY_TYPE[random(EVERY_TYPE.length)]),
      );
      continue;
    }
    const rows = new Map<string, Row>();
    for (let n = random(5); n > 0; n--) {
      const [start, group, order] = [
        (random(6) * DAY) / 4,
        [null, "a", "é"][random(3)],
        [null, 1][random(2)],
      ];
      const key = JSON.stringify([start, group, order]);
      const revision = rows.has(key) ? (revisions.get(key) ?? 0) : (revisions.get(key) ?? -1) + 1;
      revisions.set(key, revision);
      rows.set(
        key,
        count(start, group, order, random(1000), revision, revision > 0 && random(3) === 0),
      );
    }
    script.add(COUNTS, [...rows.values()]);
  }
  return script;
}

/** Rows of COUNTS, numbered from `first`, a second apart. */
export function manyCounts(first: number, rowCount: number, revision = 0): Batch {
  const numbers = Float64Array.from({ length: rowCount }, (_, i) => first + i);
  const bytes = Buffer.from("a-group-name-beyond-twelve");
  const starts = Int32Array.from(numbers, (n) => n % 10);
  const ends = starts.map(() => bytes.length);
  const time = { kind: "number", values: numbers.map((n) => T0 + n * 1000) } as const;
  const zeros = { kind: "number", values: new Float64Array(rowCount) } as const;
  const vectors: Record<string, Batch["columns"][number]["vector"]> = {
    window_start: time,
    window_end: time,
    group: { kind: "bytes", bytes, starts, ends },
    count: { kind: "int64", values: BigInt64Array.from(numbers, BigInt) },
    revision: { kind: "number", values: new Float64Array(rowCount).fill(revision) },
  };
  const columns = COUNTS.columns.map(({ name, type }) => {
    return { name, type, valid: null, vector: vectors[name] ?? zeros };
  });
  return { rowCount, columns };
}
