/** What every pair of stores must do, whatever it is made of: one suite for all of them. */
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ATTRIBUTES_BYTES_MAX } from "../../lib/commit/decisions.js";
import type { CheckpointItem, CheckpointStore, ObjectStore } from "../../lib/commit/ports.js";

/** Stores on the same data, as so many processes would have them. */
export interface Clients {
  readonly checkpoints: readonly CheckpointStore[];
  readonly objects: readonly ObjectStore[];
  /** Removes everything. */
  cleanup(): Promise<void>;
}

/** How many race. */
export const CLIENTS = 32;

const EMPTY = new Uint8Array();
const WEIRD_KEYS = [
  "a",
  "a/b",
  "a/b/c",
  "A",
  "a.object",
  "a/000000000001.item",
  "../escape",
  "..",
  "./here",
  ".tmp/x",
  "with space/and%2Fpercent",
  "con/nul*?<>|:\\\"'",
  "žluťoučký/kůň",
  "日本語/🦆",
  "e\u0301",
  "\u00e9",
  "line\nbreak",
  `${"X".repeat(249)}/p-0`,
];

function item(generation: number, commitId: string, payload: Uint8Array = EMPTY): CheckpointItem {
  return { generation, commitId, attributes: { by: commitId, nested: { n: [1, null] } }, payload };
}

/** The contract of both stores; `make` opens `CLIENTS` of each on fresh data. */
export function describeStores(name: string, make: () => Promise<Clients>): void {
  describe(name, () => {
    let clients: Clients;
    beforeEach(async () => {
      clients = await make();
    });
    afterEach(() => clients.cleanup());

    describe("checkpoint store", () => {
      describeCheckpoints(() => clients.checkpoints[0]!);
      describeCheckpointRaces(() => clients.checkpoints);
    });
    describe("object store", () => {
      describeObjects(() => clients.objects[0]!, { hasFolders: false });
      describeObjectRaces(() => clients.objects);
    });
  });
}

/** The contract of a checkpoint store alone. */
export function describeCheckpointStore(make: () => Promise<readonly CheckpointStore[]>): void {
  let clients: readonly CheckpointStore[];
  beforeEach(async () => {
    clients = await make();
  });
  describeCheckpoints(() => clients[0]!);
  describeCheckpointRaces(() => clients);
}

export interface Limits {
  /** No key can be the folder of another. */
  readonly hasFolders: boolean;
}

/** The contract of an object store alone. */
export function describeObjectStore(
  limits: Limits,
  make: () => Promise<readonly ObjectStore[]>,
): void {
  let clients: readonly ObjectStore[];
  beforeEach(async () => {
    clients = await make();
  });
  describeObjects(() => clients[0]!, limits);
  describeObjectRaces(() => clients);
}

function describeCheckpoints(store: () => CheckpointStore): void {
  it("reads nothing where nothing was written", async () => {
    expect(await store().read("flights/p-0")).toBeNull();
    expect(await store().list("")).toEqual([]);
  });

  it("gives back an item as it was written, an empty payload too", async () => {
    for (const [index, payload] of [EMPTY, Uint8Array.of(0, 255, 10)].entries()) {
      const written = item(index + 1, `c${index}`, payload);
      expect(await store().compareAndSwap("flights/p-0", written)).toBe("committed");
      const read = await store().read("flights/p-0");
      expect({ ...read, payload: [...(read?.payload ?? [])] }).toEqual({
        ...written,
        payload: [...payload],
      });
    }
  });

  it("takes the largest payload it allows with the largest attributes of a commit", async () => {
    const payload = new Uint8Array(store().payloadBytesMax).fill(7);
    const text = "é".repeat((ATTRIBUTES_BYTES_MAX - Buffer.byteLength('{"text":""}')) / 2);
    const largest = { ...item(1, "a".repeat(16), payload), attributes: { text } };
    const id = `${"p".repeat(128)}/partitions/${"s".repeat(128)}/${2 ** 31 - 1}`;
    expect(await store().compareAndSwap(id, largest)).toBe("committed");
    const read = await store().read(id);
    expect(read?.payload.length).toBe(payload.length);
    expect(read?.attributes.text).toBe(text);
  });

  it("refuses a generation that does not follow the stored one, and writes nothing", async () => {
    expect(await store().compareAndSwap("x", item(2, "skips"))).toBe("conflict");
    expect(await store().read("x")).toBeNull();
    for (let generation = 1; generation <= 5; generation++) {
      expect(await store().compareAndSwap("x", item(generation, `g${generation}`))).toBe(
        "committed",
      );
      for (const wrong of [1, generation - 1, generation, generation + 2]) {
        expect(await store().compareAndSwap("x", item(wrong, "wrong"))).toBe("conflict");
      }
      expect((await store().read("x"))?.commitId).toBe(`g${generation}`);
    }
  });

  it("keeps attributes as JSON does, to the last bit", async () => {
    const attributes = {
      numbers: [0, -0, 2 ** 53, -(2 ** 53), 5e-324, 1.7976931348623157e308, 0.1 + 0.2],
      texts: ["", "é", "e\u0301", "\u0000\u001f\u2028", "🦆", "\ud800", '"\\/'],
      "": { "weird key\n": [true, false, null, [], {}] },
    };
    await store().compareAndSwap("x", { ...item(1, "a"), attributes });
    const read = (await store().read("x"))?.attributes;
    expect(JSON.stringify(read)).toBe(JSON.stringify(attributes));
  });

  it("lists more checkpoints than a page of any store holds", async () => {
    const payload = new Uint8Array(store().payloadBytesMax).fill(1);
    const ids = Array.from({ length: 150 }, (_, n) => `paged/partitions/${n}`);
    await inTurns(ids, (id) => store().compareAndSwap(id, item(1, "a", payload)));
    await store().compareAndSwap("paged/publisher", item(1, "a"));
    expect(await store().list("paged/partitions/")).toEqual(inOrder(ids, ""));
    expect(await store().list("paged/partitions/14")).toEqual(inOrder(ids, "paged/partitions/14"));
  });

  it("keeps ids apart, whatever they are made of, and lists them by prefix in order", async () => {
    for (const id of WEIRD_KEYS) await store().compareAndSwap(id, item(1, `of ${id}`));
    for (const id of WEIRD_KEYS) expect((await store().read(id))?.commitId).toBe(`of ${id}`);
    for (const prefix of ["", "a", "a/", "a/b", "..", "日", "X", "no such"]) {
      expect(await store().list(prefix)).toEqual(inOrder(WEIRD_KEYS, prefix));
    }
  });
}

function describeCheckpointRaces(clients: () => readonly CheckpointStore[]): void {
  it("lets exactly one of 32 racing clients win each generation, and never goes back", async () => {
    const racing = clients();
    for (let generation = 1; generation <= 40; generation++) {
      const contenders = racing.map((_, index) => `g${generation}-${index}`);
      const replies = await Promise.all(
        racing.map((client, n) => client.compareAndSwap("raced", item(generation, contenders[n]!))),
      );
      const winners = contenders.filter((_, index) => replies[index] === "committed");
      expect(winners).toHaveLength(1);
      const read = await racing[generation % racing.length]!.read("raced");
      expect([read?.generation, read?.commitId]).toEqual([generation, winners[0]]);
    }
  });

  it("never gives a reader less than what was acknowledged before it read", async () => {
    const [writer, ...readers] = clients().slice(0, 5);
    let acknowledged = 0;
    const read = async (reader: CheckpointStore) => {
      while (acknowledged < 100) {
        const atLeast = acknowledged;
        const found = (await reader.read("watched"))?.generation ?? 0;
        expect(found).toBeGreaterThanOrEqual(atLeast);
        expect(found).toBeLessThanOrEqual(acknowledged + 1);
        // In memory nothing waits, and the writer must have its turn.
        await new Promise(setImmediate);
      }
    };
    const reading = Promise.all(readers.map(read));
    for (let generation = 1; generation <= 100; generation++) {
      expect(await writer!.compareAndSwap("watched", item(generation, "w"))).toBe("committed");
      acknowledged = generation;
    }
    await reading;
  });
}

function describeObjects(store: () => ObjectStore, { hasFolders }: Limits): void {
  const isFolder = (key: string, keys: readonly string[]) =>
    keys.some((other) => other.startsWith(`${key}/`));
  const possible = (keys: readonly string[]) =>
    hasFolders ? keys.filter((key) => !isFolder(key, keys)) : keys;
  const weirdKeys = possible(WEIRD_KEYS);

  it("gives null for a missing object, and deletes it without complaint", async () => {
    expect(await store().get("no/such")).toBeNull();
    await store().delete("no/such");
    expect(await store().list("")).toEqual([]);
  });

  it("creates an object again after it was deleted", async () => {
    await store().putIfAbsent("k", Uint8Array.of(1));
    await store().delete("k");
    expect(await store().get("k")).toBeNull();
    expect(await store().putIfAbsent("k", EMPTY)).toBe("created");
    expect(await store().get("k")).toEqual(bytesOf([]));
  });

  it("shows readers the whole of a 20 MB object or nothing", async () => {
    const bytes = new Uint8Array(20_000_000).map((_, index) => index % 251);
    const put = store().putIfAbsent("big", bytes);
    const seen = await Promise.all(Array.from({ length: 16 }, () => store().get("big")));
    await put;
    for (const read of [...seen, await store().get("big")].slice(-17)) {
      if (read !== null) expect(Buffer.compare(read, bytes)).toBe(0);
    }
    expect((await store().get("big"))?.length).toBe(bytes.length);
  });

  it("keeps keys apart, whatever they are made of, and lists them by prefix in order", async () => {
    for (const key of weirdKeys) await store().putIfAbsent(key, Buffer.from(key));
    for (const key of weirdKeys) {
      expect(Buffer.from((await store().get(key)) ?? EMPTY).toString()).toBe(key);
    }
    for (const prefix of ["", "a", "a/", "a/b", "..", "日", "X", "no such"]) {
      expect(await store().list(prefix)).toEqual(inOrder(weirdKeys, prefix));
    }
  });

  it("lists more objects than a page of any store holds", async () => {
    const keys = Array.from({ length: 1_100 }, (_, n) => `paged/${n % 3}/${n}`);
    await inTurns(keys, (key) => store().putIfAbsent(key, EMPTY));
    expect(await store().list("paged/")).toEqual(inOrder(keys, ""));
    expect(await store().list("paged/2/10")).toEqual(inOrder(keys, "paged/2/10"));
  });

  it("agrees with a map over random operations", async () => {
    const seed = Date.now() % 2 ** 31;
    console.info(`seed ${seed}`);
    const key = fc.constantFrom(...possible(["a", "a/b", "b", "b/ä", "b/c/d"]));
    const operation = fc.tuple(fc.constantFrom("put", "get", "delete", "list"), key, fc.nat(255));
    await fc.assert(
      fc.asyncProperty(fc.uuid(), fc.array(operation, { maxLength: 30 }), async (root, steps) => {
        const model = new Map<string, number>();
        for (const [step, name, value] of steps) {
          await checkAgainst(store(), model, step, `${root}/${name}`, value);
        }
      }),
      { seed, numRuns: 30 },
    );
  });
}

function describeObjectRaces(clients: () => readonly ObjectStore[]): void {
  it("lets exactly one of 32 racing clients create an object, and never changes it", async () => {
    const racing = clients();
    for (let round = 0; round < 20; round++) {
      const key = `raced/${round}`;
      const replies = await Promise.all(
        racing.map((client, index) => client.putIfAbsent(key, Uint8Array.of(index))),
      );
      expect(replies.filter((reply) => reply === "created")).toHaveLength(1);
      expect(await racing[round]!.get(key)).toEqual(bytesOf([replies.indexOf("created")]));
      expect(await racing[0]!.putIfAbsent(key, Uint8Array.of(99))).toBe("exists");
    }
  });
}

async function checkAgainst(
  store: ObjectStore,
  model: Map<string, number>,
  step: string,
  key: string,
  value: number,
): Promise<void> {
  if (step === "put") {
    const expected = model.has(key) ? "exists" : "created";
    expect(await store.putIfAbsent(key, Uint8Array.of(value))).toBe(expected);
    if (expected === "created") model.set(key, value);
  } else if (step === "delete") {
    await store.delete(key);
    model.delete(key);
  } else if (step === "get") {
    expect((await store.get(key))?.[0]).toBe(model.get(key));
  } else {
    expect(await store.list(key)).toEqual(inOrder([...model.keys()], key));
  }
}

/** A few at a time. */
async function inTurns<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  const left = [...items];
  const next = async () => {
    for (let one = left.pop(); one !== undefined; one = left.pop()) await work(one);
  };
  await Promise.all(Array.from({ length: 8 }, next));
}

/** Plain `Buffer`, so that `toEqual` compares bytes only. */
function bytesOf(values: number[]): unknown {
  return expect.toSatisfy(
    (found: unknown) => found instanceof Uint8Array && Buffer.from(values).equals(found),
  );
}

function inOrder(keys: readonly string[], prefix: string): string[] {
  const bytes = (key: string) => Buffer.from(key).toString("hex");
  return keys
    .filter((key) => key.startsWith(prefix))
    .sort((a, b) => (bytes(a) < bytes(b) ? -1 : 1));
}
