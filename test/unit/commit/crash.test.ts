/** I4 and I5: a fault at every single I/O step, and two processes on one checkpoint. */
import { describe, expect, it } from "vitest";
import {
  committerOver,
  faultAt,
  ID,
  type MemoryStores,
  memoryStores,
  outcomeOf,
  runJob,
  STEPS,
  stepRequest,
  through,
} from "./fixtures.js";

const undisturbed = memoryStores();
await runJob(undisturbed);
const expected = await outcomeOf(undisturbed);

const counting = faultAt(Number.POSITIVE_INFINITY, "before", false);
await runJob(through(memoryStores(), counting));
const operations = counting.operations;

async function checkSweptClean(stores: MemoryStores): Promise<void> {
  const committer = committerOver(stores);
  const released = await releasedBy(stores);
  await committer.sweep(async () => new Set(released));
  const { checkpoint } = await committer.load();
  const used = [...(checkpoint?.state.objects ?? []), ...(checkpoint?.outbox ?? [])];
  const left = await stores.objects.list(`${ID}/`);
  expect(left.filter((key) => !released.includes(key))).toEqual(
    used.map(({ key }) => key).sort((a, b) => (a < b ? -1 : 1)),
  );
}

/** The publisher's part: step 6 released entry 1, whose object is still to be read. */
async function releasedBy(stores: MemoryStores): Promise<string[]> {
  return stores.objects.list(`${ID}/outbox/000000000001-`);
}

describe("a job whose I/O fails", () => {
  it("has steps of every kind to fail at", () => {
    const kinds = new Set(operations.map(({ store, name }) => `${store}.${name}`));
    expect([...kinds].sort((a, b) => (a < b ? -1 : 1))).toEqual([
      "checkpoints.compareAndSwap",
      "checkpoints.read",
      "objects.delete",
      "objects.putIfAbsent",
    ]);
    expect(operations.length).toBeGreaterThan(2 * STEPS);
  });

  for (const moment of ["before", "after"] as const) {
    it(`ends as undisturbed when the process dies ${moment} any step and runs again`, async () => {
      for (let at = 0; at < operations.length; at++) {
        const stores = memoryStores();
        const dying = runJob(through(stores, faultAt(at, moment, true)));
        const death = await dying.then(
          () => null,
          (error: unknown) => error,
        );
        // Only a fault in the very last deletes goes unnoticed.
        if (operations[at]?.name !== "delete") expect(death, `step ${at}`).not.toBeNull();
        await runJob(stores);
        expect(await outcomeOf(stores), `step ${at}`).toEqual(expected);
        await checkSweptClean(stores);
      }
    });

    it(`ends as undisturbed, in one go, when any step fails ${moment} it is applied`, async () => {
      for (let at = 0; at < operations.length; at++) {
        const stores = memoryStores();
        await runJob(through(stores, faultAt(at, moment, false)));
        expect(await outcomeOf(stores), `step ${at}`).toEqual(expected);
        await checkSweptClean(stores);
      }
    });
  }
});

describe("two processes on one checkpoint", () => {
  it("end as one, when one pauses before any step while the other runs to the end", async () => {
    for (let at = 0; at < operations.length; at++) {
      const stores = memoryStores();
      let count = 0;
      const paused = through(stores, {
        before: () => (count++ === at ? runJob(stores) : undefined),
      });
      await runJob(paused);
      expect(await outcomeOf(stores), `step ${at}`).toEqual(expected);
      await checkSweptClean(stores);
    }
  });

  it("end as one, when each runs between any two steps of the other", async () => {
    for (let jobs = 2; jobs <= 5; jobs++) {
      const stores = memoryStores();
      await Promise.all(Array.from({ length: jobs }, () => runJob(stores)));
      expect(await outcomeOf(stores)).toEqual(expected);
      await checkSweptClean(stores);
    }
  });

  it("never both commit the same generation", async () => {
    const stores = memoryStores();
    const [zombie, heir] = [committerOver(stores), committerOver(stores)];
    await zombie.load();
    await heir.load();
    for (let step = 0; step < STEPS; step++) {
      const results = await Promise.all([
        zombie.commit(stepRequest(step)),
        heir.commit(stepRequest(step)),
      ]);
      expect(results.map(({ kind }) => kind).sort((a, b) => (a < b ? -1 : 1))).toEqual([
        "committed",
        "conflict",
      ]);
      await zombie.load();
      await heir.load();
    }
    expect(await outcomeOf(stores)).toEqual(expected);
  });

  it("reload when the state was replaced while it was read", async () => {
    const stores = memoryStores();
    const writer = committerOver(stores);
    await writer.load();
    for (let step = 0; step < 4; step++) await writer.commit(stepRequest(step));
    let moved = false;
    const reader = committerOver(
      through(stores, {
        before: async ({ name }) => {
          if (name !== "get" || moved) return;
          moved = true;
          await writer.commit(stepRequest(4));
        },
      }),
    );
    const { checkpoint, chunks } = await reader.load();
    expect(moved).toBe(true);
    expect(checkpoint?.nextOffset).toBe(5);
    expect(chunks.map((chunk) => chunk[0])).toEqual([5]);
  });
});

describe("a commit whose outcome cannot be told any more", () => {
  it("keeps its objects, for the checkpoints after it may name them", async () => {
    const stores = memoryStores();
    const overtaken = committerOver(
      through(stores, {
        after: async ({ name }) => {
          if (name !== "compareAndSwap") return;
          await runJob(stores);
          throw new Error("the reply was lost");
        },
      }),
    );
    await overtaken.load();
    expect((await overtaken.commit(stepRequest(0))).kind).toBe("conflict");
    expect(await outcomeOf(stores)).toEqual(expected);
    const kept = await stores.objects.list(`${ID}/outbox/000000000001-`);
    expect(kept).toHaveLength(1);
  });
});

describe("a write that arrives late", () => {
  it("counts once when the first attempt lands after it was given up for lost", async () => {
    const stores = memoryStores();
    let late: (() => Promise<unknown>) | null = null;
    const slow: MemoryStores["checkpoints"] = stores.checkpoints;
    const checkpoints = {
      payloadBytesMax: slow.payloadBytesMax,
      read: (id: string) => slow.read(id),
      list: (prefix: string) => slow.list(prefix),
      compareAndSwap: async (...args: Parameters<typeof slow.compareAndSwap>) => {
        if (late === null) {
          late = () => slow.compareAndSwap(...args);
          throw new Error("timeout");
        }
        expect(await late()).toBe("committed");
        return slow.compareAndSwap(...args);
      },
    };
    const committer = committerOver({ checkpoints, objects: stores.objects });
    await committer.load();
    const result = await committer.commit(stepRequest(0));
    expect(result.kind).toBe("committed");
    expect((await stores.checkpoints.read(ID))?.generation).toBe(1);
  });
});
