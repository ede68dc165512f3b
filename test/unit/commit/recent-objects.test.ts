/** What is remembered of objects, and what is read again. */
import { expect, it } from "vitest";
import { RecentObjects } from "../../../lib/commit/recent-objects.js";
import { MemoryObjectStore } from "../../../lib/stores/memory.js";

const MEBIBYTE = 1024 * 1024;

/** A store that counts what it is asked for. */
function counted() {
  const memory = new MemoryObjectStore();
  const reads: string[] = [];
  const store = memory.withFaults({
    before: ({ name, target }) => void (name === "get" && reads.push(target)),
  });
  return { memory, store, reads };
}

it("gives what was just written without a read, and reads what it does not know", async () => {
  const { memory, store, reads } = counted();
  const objects = new RecentObjects(store);
  await objects.putIfAbsent("a", Buffer.from("one"));
  await memory.putIfAbsent("b", Buffer.from("two"));
  expect(Buffer.from((await objects.get("a"))!).toString()).toBe("one");
  expect(Buffer.from((await objects.get("b"))!).toString()).toBe("two");
  expect(await objects.get("c")).toBeNull();
  expect(reads).toEqual(["b", "c"]);
});

it("keeps the store's object when a key was taken before", async () => {
  const { memory, store } = counted();
  await memory.putIfAbsent("a", Buffer.from("first"));
  const objects = new RecentObjects(store);
  await objects.putIfAbsent("a", Buffer.from("second"));
  expect(Buffer.from((await objects.get("a"))!).toString()).toBe("first");
});

it("forgets what was deleted, and the oldest beyond 64 MiB", async () => {
  const { store, reads } = counted();
  const objects = new RecentObjects(store);
  await objects.putIfAbsent("gone", Buffer.from("x"));
  await objects.delete("gone");
  expect(await objects.get("gone")).toBeNull();
  for (const key of ["old", "new"]) await objects.putIfAbsent(key, Buffer.alloc(33 * MEBIBYTE));
  await objects.putIfAbsent("huge", Buffer.alloc(65 * MEBIBYTE));
  for (const key of ["new", "old", "huge"]) await objects.get(key);
  expect(reads).toEqual(["gone", "old", "huge"]);
});
