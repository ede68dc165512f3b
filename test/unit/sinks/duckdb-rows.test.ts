/** Strings and blobs into DuckDB, however they lie in a batch's bytes. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ColumnNode } from "../../../lib/define/definition.js";
import type { Batch, Vector } from "../../../lib/engine/batch.js";
import { Database } from "../../../lib/sinks/duckdb-database.js";
import { randomOf } from "../../contract/sinks-script.js";

const COLUMNS: readonly ColumnNode[] = [
  { name: "id", type: { kind: "int" }, nullable: false },
  { name: "text", type: { kind: "string" }, nullable: true },
  { name: "raw", type: { kind: "bytes" }, nullable: true },
];
const PIECES = ["a", "é", "日", "😀", "\u0000", "'", "z".repeat(30)];
const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000);

/** How values lie in the bytes: one after the other, apart, in any order, or all in one place. */
const LAYOUTS = ["dense", "gaps", "broken gaps", "scattered", "one place"] as const;

describe("strings and blobs", () => {
  let dir: string;
  let database: Database;

  beforeAll(async () => {
    dir = await mkdtemp(`${tmpdir()}/millpond-rows-`);
    database = Database.inMemory({ tempDir: dir });
  });
  afterAll(async () => {
    await database.close();
    await rm(dir, { recursive: true, force: true });
  });

  for (const layout of LAYOUTS) {
    for (const isShared of [false, true]) {
      const memory = isShared ? ", in memory that threads share" : "";
      it(`come out as they went in: ${layout}${memory} (seed ${SEED})`, async () => {
        const random = randomOf(SEED);
        const values = Array.from({ length: 5_000 }, () => valueFrom(random));
        if (layout === "one place") values.fill("the same long text everywhere");
        const { vector, valid } = laidOut(values, layout, isShared, random);
        const ids = { kind: "number", values: Float64Array.from(values.keys()) } as const;
        const batch: Batch = {
          rowCount: values.length,
          columns: [
            { name: "id", type: { kind: "int" }, valid: null, vector: ids },
            { name: "text", type: { kind: "string" }, valid, vector },
            { name: "raw", type: { kind: "bytes" }, valid, vector },
          ],
        };
        await database.run("CREATE OR REPLACE TABLE t (id INTEGER, text VARCHAR, raw BLOB)");
        const appender = await database.appender({ name: "t" }, COLUMNS);
        appender.append(batch);
        // Nothing of one batch is seen through another.
        if (vector.kind === "bytes") vector.bytes.fill(0);
        appender.append({ rowCount: 0, columns: batch.columns });
        appender.close();
        const rows = await database.rows(
          "SELECT text, encode(text) = raw AS same FROM t ORDER BY id",
        );
        expect(rows.map(({ text }) => text)).toEqual(values);
        // DuckDB compares by the first bytes, which it keeps apart.
        const [groups] = await database.rows("SELECT count(DISTINCT text)::INT AS n FROM t");
        expect(groups?.n).toBe(new Set(values.filter((value) => value !== null)).size);
        expect(rows.every(({ text, same }) => text === null || same)).toBe(true);
      });
    }
  }
});

/** From none to some hundred bytes; often about as long as DuckDB keeps in place. */
function valueFrom(random: (below: number) => number): string | null {
  if (random(10) === 0) return null;
  const length = random(3) === 0 ? random(3) : random(9);
  return Array.from({ length }, () => PIECES[random(PIECES.length)]).join("");
}

function laidOut(
  values: readonly (string | null)[],
  layout: (typeof LAYOUTS)[number],
  isShared: boolean,
  random: (below: number) => number,
): { vector: Vector; valid: Uint8Array } {
  const parts = values.map((value) => Buffer.from(value ?? "nothing to be seen here"));
  const room = parts.reduce((sum, part) => sum + part.length + 64, 0);
  const bytes = new Uint8Array(isShared ? new SharedArrayBuffer(room) : new ArrayBuffer(room));
  const [starts, ends] = [new Int32Array(values.length), new Int32Array(values.length)];
  const order = [...values.keys()];
  if (layout === "scattered") order.sort(() => random(3) - 1);
  let at = 0;
  for (const index of order) {
    const part = parts[index] ?? new Uint8Array();
    if (layout === "one place") at = 0;
    if (layout === "gaps") at += random(9);
    if (layout === "broken gaps") bytes[at++] = 0xff;
    bytes.set(part, at);
    starts[index] = at;
    at += part.length;
    ends[index] = at;
  }
  const valid = Uint8Array.from(values, (value) => (value === null ? 0 : 1));
  return { vector: { kind: "bytes", bytes, starts, ends }, valid };
}
