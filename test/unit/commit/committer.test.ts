/** What the committer stores, refuses and cleans up. */
import { describe, expect, it, vi } from "vitest";
import { CheckpointCell } from "../../../lib/commit/cell.js";
import { readOutbox } from "../../../lib/commit/committer.js";
import {
  ATTRIBUTES_BYTES_MAX,
  OUTBOX_ENTRIES_MAX,
  STATE_OBJECTS_MAX,
} from "../../../lib/commit/decisions.js";
import type { CheckpointStore } from "../../../lib/commit/ports.js";
import { committerOver, ID, memoryStores, request, runJob, stepRequest } from "./fixtures.js";

const bytes = (length: number, value = 1) => new Uint8Array(length).fill(value);

describe("the committer", () => {
  it("loads nothing before the first commit", async () => {
    expect(await committerOver(memoryStores()).load()).toEqual({ checkpoint: null, chunks: [] });
  });

  it("gives a later process all that was committed", async () => {
    const stores = memoryStores();
    const first = committerOver(stores);
    await first.load();
    const committed = await first.commit(
      request({
        nextOffset: 7,
        maxEventTime: -62_135_596_800_000,
        position: { file: "a.ndjson", byte: 812, "": null },
        meta: { late: 3, nested: { list: [1, "x", null] } },
        outbox: Buffer.from("closed"),
      }),
    );
    const { checkpoint } = await committerOver(stores).load();
    expect(committed).toEqual({ kind: "committed", checkpoint });
    expect(checkpoint).toMatchObject({
      nextOffset: 7,
      position: { file: "a.ndjson", byte: 812, "": null },
    });
  });

  it("lets the caller reuse its bytes after a commit", async () => {
    const stores = memoryStores();
    const committer = committerOver(stores);
    await committer.load();
    const reused = bytes(10, 1);
    await committer.commit(request({ nextOffset: 1, state: { kind: "base", bytes: reused } }));
    reused.fill(2);
    await committer.commit(request({ nextOffset: 2, state: { kind: "delta", bytes: reused } }));
    const { chunks } = await committerOver(stores).load();
    expect(chunks.map((chunk) => [...new Set(chunk)])).toEqual([[1], [2]]);
  });

  it("writes no object while the state fits the item", async () => {
    const stores = memoryStores(1_000);
    const committer = committerOver(stores);
    await committer.load();
    for (let n = 1; n <= 10; n++) {
      await committer.commit(
        request({ nextOffset: n, state: { kind: "delta", bytes: bytes(99) } }),
      );
    }
    expect(await stores.objects.list("")).toEqual([]);
  });

  it("deletes the state objects that a base replaced, after the commit", async () => {
    const stores = memoryStores(100);
    const committer = committerOver(stores);
    await committer.load();
    await committer.commit(request({ nextOffset: 1, state: { kind: "base", bytes: bytes(500) } }));
    await committer.commit(request({ nextOffset: 2, state: { kind: "delta", bytes: bytes(200) } }));
    expect(await stores.objects.list("")).toHaveLength(2);
    await committer.commit(request({ nextOffset: 3, state: { kind: "base", bytes: bytes(600) } }));
    expect(await stores.objects.list("")).toHaveLength(1);
  });

  it("drops released outbox entries from the checkpoint, and leaves their objects", async () => {
    const stores = memoryStores();
    const committer = committerOver(stores);
    await committer.load();
    for (let n = 1; n <= 3; n++) {
      await committer.commit(request({ nextOffset: n, outbox: Buffer.from(`${n}`) }));
    }
    const before = (await committer.load()).checkpoint?.outbox ?? [];
    await committer.commit(request({ nextOffset: 3, releaseOutboxUpTo: 2 }));
    const after = (await committer.load()).checkpoint;
    expect(after?.outbox.map(({ sequence }) => sequence)).toEqual([3]);
    expect(after?.nextOutboxSequence).toBe(4);
    const texts = await Promise.all(before.map((entry) => readOutbox(stores.objects, entry)));
    expect(texts.map((text) => Buffer.from(text).toString())).toEqual(["1", "2", "3"]);
    expect(await stores.objects.list("")).toEqual(before.map(({ key }) => key));
  });

  it("lets sweep spare what a publisher still reads", async () => {
    const stores = memoryStores();
    const committer = committerOver(stores);
    await committer.load();
    await committer.commit(request({ nextOffset: 1, outbox: bytes(1) }));
    const key = (await committer.load()).checkpoint?.outbox[0]?.key ?? "";
    await committer.commit(request({ nextOffset: 1, releaseOutboxUpTo: 1 }));
    expect(await committer.sweep(async () => new Set([key]))).toBe(0);
    expect(await committer.sweep(async () => new Set())).toBe(1);
    expect(await stores.objects.list("")).toEqual([]);
  });
});

describe("the committer refuses", () => {
  it("an output of another definition, and says what to do", async () => {
    const stores = memoryStores();
    await runJob(stores);
    await expect(committerOver(stores, "changed").load()).rejects.toMatchObject({
      code: "OUTPUT",
      message: expect.stringMatching(/flights\/p-3.*changed definition.*another output/s),
    });
  });

  it("a checkpoint whose state object is gone", async () => {
    const stores = memoryStores();
    await runJob(stores);
    for (const key of await stores.objects.list(`${ID}/state/`)) await stores.objects.delete(key);
    await expect(committerOver(stores).load()).rejects.toMatchObject({
      code: "STORAGE",
      message: expect.stringContaining(`${ID}/state/`),
    });
  });

  it("to commit before it has loaded, or again after a conflict", async () => {
    const stores = memoryStores();
    const committer = committerOver(stores);
    await expect(committer.commit(stepRequest(0))).rejects.toMatchObject({ code: "INVARIANT" });
    await committer.load();
    await runJob(stores);
    expect((await committer.commit(stepRequest(0))).kind).toBe("conflict");
    await expect(committer.commit(stepRequest(0))).rejects.toMatchObject({ code: "INVARIANT" });
  });

  it("progress that goes back", async () => {
    const committer = committerOver(memoryStores());
    await committer.load();
    await committer.commit(request({ nextOffset: 5, maxEventTime: 50 }));
    for (const back of [
      { nextOffset: 4, maxEventTime: 50 },
      { nextOffset: Number.NaN, maxEventTime: 50 },
      { nextOffset: 6, maxEventTime: 49 },
      { nextOffset: 6, maxEventTime: null },
    ]) {
      await expect(committer.commit(request(back))).rejects.toMatchObject({ code: "INVARIANT" });
    }
    expect((await committer.commit(request({ nextOffset: 6, maxEventTime: 50 }))).kind).toBe(
      "committed",
    );
  });

  it("more than its bounds, naming the limit, with nothing written", async () => {
    const stores = memoryStores(10);
    const committer = committerOver(stores);
    await committer.load();
    const large = request({ nextOffset: 1, meta: { text: "x".repeat(ATTRIBUTES_BYTES_MAX) } });
    await expect(committer.commit({ ...large, outbox: bytes(1) })).rejects.toMatchObject({
      code: "LIMIT",
      message: expect.stringMatching(/attribute bytes, the limit is 393216/),
    });
    expect(await stores.objects.list("")).toEqual([]);
    const delta = request({ nextOffset: 1, state: { kind: "delta", bytes: bytes(11) } });
    for (let n = 0; n < STATE_OBJECTS_MAX; n++) await committer.commit(delta);
    await expect(committer.commit(delta)).rejects.toThrow(/65 state objects, the limit is 64/);
    const base = request({ nextOffset: 1, state: { kind: "base", bytes: bytes(11) } });
    expect((await committer.commit(base)).kind).toBe("committed");
  });

  it("an outbox longer than its limit, until the publisher took some", async () => {
    const stores = memoryStores();
    const seed = committerOver(stores);
    await seed.load();
    await seed.commit(request({ nextOffset: 1, outbox: bytes(1) }));
    const cell = new CheckpointCell(stores.checkpoints, ID);
    const item = await cell.read();
    const outbox = Array.from({ length: OUTBOX_ENTRIES_MAX }, (_, n) => [n + 1, "ab", 1, null, 0]);
    const nextOutboxSequence = OUTBOX_ENTRIES_MAX + 1;
    await cell.swap({ ...item?.attributes, outbox, nextOutboxSequence }, bytes(0));
    const committer = committerOver(stores);
    await committer.load();
    const next = request({ nextOffset: 2, outbox: bytes(1) });
    await expect(committer.commit(next)).rejects.toThrow(/outbox entries, the limit is 5000/);
    expect((await committer.commit({ ...next, releaseOutboxUpTo: 1 })).kind).toBe("committed");
  });

  it("a checkpoint with attributes it does not know", async () => {
    const stores = memoryStores();
    const cell = new CheckpointCell(stores.checkpoints, ID);
    await cell.read();
    await cell.swap({ nextOffset: "7" }, bytes(0));
    await expect(committerOver(stores).load()).rejects.toMatchObject({ code: "STORAGE" });
  });
});

describe("the checkpoint cell", () => {
  it("gives up after three attempts on a store that is down, with the cause", async () => {
    const stores = memoryStores();
    let swaps = 0;
    const down = stores.checkpoints.withFaults({
      before: ({ name }) => {
        if (name !== "compareAndSwap") return;
        swaps += 1;
        throw new Error("no route to host");
      },
    });
    const cell = new CheckpointCell(down, "x");
    await cell.read();
    await expect(cell.swap({}, bytes(0))).rejects.toThrow(/3 attempts: no route to host/);
    expect(swaps).toBe(3);
  });

  it("stops when the checkpoint went back under it", async () => {
    const { checkpoints } = memoryStores();
    const cell = new CheckpointCell(checkpoints, "x");
    await cell.read();
    await cell.swap({}, bytes(0));
    const item = await cell.read();
    const emptied: CheckpointStore = {
      payloadBytesMax: 1,
      read: vi.fn().mockResolvedValueOnce(item).mockResolvedValue(null),
      compareAndSwap: async () => "conflict",
      list: async () => [],
    };
    const emptiedCell = new CheckpointCell(emptied, "x");
    await emptiedCell.read();
    await expect(emptiedCell.swap({}, bytes(0))).rejects.toThrow(/went back.*found.*none/);
  });
});
