/** Groups cut out of one store and merged into another, also after one that could not be. */
import { expect, test } from "vitest";
import { ByteReader, ByteWriter } from "../../../lib/engine/codec.js";
import type { GroupPlan } from "../../../lib/engine/group-plan.js";
import { GroupStore } from "../../../lib/engine/group-store.js";

const PLAN: GroupPlan = {
  keys: [{ column: { name: "page", type: { kind: "string" }, nullable: false }, dictionary: 0 }],
  aggregates: [],
  laneCount: 1,
  mapCount: 0,
  dictionaryCount: 1,
  maps: [],
  codeLanes: [],
  session: false,
};

function storeOf(pages: readonly string[]): GroupStore {
  const store = new GroupStore(PLAN);
  for (const page of pages) {
    const code = store.dictionaries[0]!.codeOf(Buffer.from(page), 0, page.length);
    store.insert(0, [Int32Array.of(code)], 0);
  }
  return store;
}

function pagesOf(store: GroupStore): string[] {
  const [dictionary] = store.dictionaries;
  const page = (slot: number) => dictionary!.bytesOf(store.keys[0]![slot]!);
  return Array.from(store.liveSlots(), (slot) => Buffer.from(page(slot)).toString());
}

/** A machine without memory for what is to be written. */
class NoRoom extends ByteWriter {
  override column(): void {
    throw new RangeError("Array buffer allocation failed");
  }
}

test("a partial that could not be written leaves no trace in the next one", () => {
  const failing = storeOf(["a", "b", "c"]);
  expect(() => failing.writeGroups(new NoRoom(), Int32Array.of(2), 1)).toThrow(RangeError);
  const writer = new ByteWriter();
  storeOf(["x", "y", "z"]).writeGroups(writer, null, 3);
  const merged = new GroupStore(PLAN);
  merged.mergeGroups(new ByteReader(writer.finish()));
  expect(pagesOf(merged)).toEqual(["x", "y", "z"]);
});
