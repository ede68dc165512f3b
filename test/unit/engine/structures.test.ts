/**
 * The engine's own data structures against plain JavaScript maps and sets, over random operations.
 */
import { describe, expect, test } from "vitest";
import { ByteReader, ByteWriter } from "../../../lib/engine/codec.js";
import { SeenIds } from "../../../lib/engine/dedup.js";
import { Dictionary } from "../../../lib/engine/dictionary.js";
import { SlotMap } from "../../../lib/engine/slot-map.js";

/** Mulberry32: small, seeded, good enough to choose test cases. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * below);
  };
}

const SEEDS = Array.from({ length: 20 }, () => Math.floor(Math.random() * 2 ** 31));

describe("number columns", () => {
  test.each([
    { name: "no values", values: [] },
    { name: "one constant", values: [7, 7, 7] },
    { name: "bytes above a minimum", values: [1_700_000_000_000, 1_700_000_000_255] },
    { name: "two bytes", values: [-5, 60_000] },
    { name: "four bytes", values: [0, 4_294_967_295] },
    {
      name: "a range wider than four bytes",
      values: [-9_007_199_254_740_991, 9_007_199_254_740_991],
    },
    {
      name: "fractions, infinities, not-a-number and negative zero",
      values: [0.1, Infinity, NaN, -0],
    },
  ])("come back as they went in: $name", ({ values }) => {
    const writer = new ByteWriter(1);
    writer.column(Float64Array.from(values), values.length);
    const back = new ByteReader(writer.finish()).column(values.length);
    expect([...back].map((v) => (Object.is(v, -0) ? "-0" : v))).toEqual(
      values.map((v) => (Object.is(v, -0) ? "-0" : v)),
    );
  });

  test("a cut-off object is refused, not read as garbage", () => {
    const writer = new ByteWriter();
    writer.column(Float64Array.of(1, 2, 3000), 3);
    const cut = writer.finish().subarray(0, 12);
    expect(() => new ByteReader(cut).column(3)).toThrow(/stored data ends/);
  });
});

describe("slot map", () => {
  test.each(SEEDS)(
    "equals a Map of Maps after random operations and restores (seed %i)",
    (seed) => {
      const pick = random(seed);
      let map = new SlotMap(true);
      const model = new Map<number, Map<number, number>>();
      const chunks: Uint8Array[] = [];
      for (let step = 0; step < 2000; step++) {
        const slot = pick(12);
        const key = pick(40);
        const action = pick(20);
        if (action === 0) {
          map.clear(slot);
          model.delete(slot);
          // A delta carries no removals: its owner lists removed slots. Start over with a base.
          chunks.length = 0;
          chunks.push(written(map, true));
        } else if (action === 1) {
          chunks.push(written(map, false));
          map = restored(chunks);
        } else {
          map.addTo(slot, key, action);
          const entries = model.get(slot) ?? new Map<number, number>();
          model.set(slot, entries.set(key, (entries.get(key) ?? 0) + action));
        }
      }
      for (let slot = 0; slot < 12; slot++) {
        const found = new Map<number, number>();
        map.forEach(slot, (key, value) => found.set(key, value));
        expect(found).toEqual(model.get(slot) ?? new Map());
        expect(map.countIn(slot)).toBe(model.get(slot)?.size ?? 0);
      }
    },
  );

  function written(map: SlotMap, all: boolean): Uint8Array {
    const writer = new ByteWriter();
    map.write(writer, all);
    map.saved();
    return writer.finish();
  }

  function restored(chunks: readonly Uint8Array[]): SlotMap {
    const map = new SlotMap(true);
    for (const chunk of chunks) {
      map.read(new ByteReader(chunk), (slot, key, value) => map.set(slot, key, value));
    }
    map.saved();
    return map;
  }
});

describe("dictionary", () => {
  test.each(SEEDS)("gives equal bytes equal codes and others others (seed %i)", (seed) => {
    const pick = random(seed);
    const dictionary = new Dictionary();
    const codes = new Map<string, number>();
    for (let i = 0; i < 5000; i++) {
      const text = "é#".repeat(pick(9)) + String(pick(300));
      const bytes = Buffer.from(text, "utf8");
      const code = dictionary.codeOf(bytes, 0, bytes.length);
      expect(code).toBe(codes.get(text) ?? codes.size);
      codes.set(text, code);
      expect(dictionary.lookup(bytes, 0, bytes.length)).toBe(code);
    }
    const writer = new ByteWriter();
    dictionary.write(writer, 0);
    const copy = new Dictionary();
    expect([...copy.read(new ByteReader(writer.finish()))]).toEqual([...codes.values()]);
    for (const [text, code] of codes) {
      expect(Buffer.from(copy.bytesOf(code)).toString("utf8")).toBe(text);
    }
    expect(copy.lookup(Buffer.from("never seen"), 0, 10)).toBe(-1);
  });
});

describe("seen ids", () => {
  test.each(SEEDS)(
    "remembers the latest sighting of every id, also after restores (seed %i)",
    (seed) => {
      const pick = random(seed);
      let ids = new SeenIds();
      const model = new Map<string, number>();
      const chunks: Uint8Array[] = [];
      let clock = 0;
      for (let slice = 0; slice < 60; slice++) {
        const withinMs = 500;
        for (let i = 0; i < 40; i++) {
          clock += pick(20);
          const time = clock - pick(300);
          const threshold = clock - 400 - withinMs;
          if (time < threshold) continue;
          const id = `id-${pick(400)}`;
          const bytes = Buffer.from(id);
          const expected = (model.get(id) ?? Number.NEGATIVE_INFINITY) >= threshold;
          expect(ids.seen(bytes, 0, bytes.length, time, threshold)).toBe(expected);
          model.set(id, Math.max(model.get(id) ?? time, time));
        }
        ids.endSlice(clock - 400 - withinMs);
        const all = slice % 17 === 0;
        if (all) chunks.length = 0;
        const writer = new ByteWriter();
        ids.write(writer, all);
        ids.saved();
        chunks.push(writer.finish());
        if (pick(3) === 0) {
          ids = new SeenIds();
          for (const chunk of chunks) ids.read(new ByteReader(chunk));
          ids.restored();
        }
      }
    },
  );

  test("forgets expired ids, so that memory is bounded by the window", () => {
    const ids = new SeenIds();
    for (let slice = 0; slice < 500; slice++) {
      for (let i = 0; i < 100; i++) {
        const bytes = Buffer.from(`${slice}-${i}`);
        ids.seen(bytes, 0, bytes.length, slice * 1000, slice * 1000 - 10_000);
      }
      ids.endSlice(slice * 1000 - 10_000);
    }
    expect(ids.size).toBeLessThan(3000);
  });
});
