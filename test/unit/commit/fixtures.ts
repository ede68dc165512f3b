/** A small stateful job over a committer, and faults for the in-memory stores below it. */
import {
  type CommitRequest,
  PartitionCommitter,
  readOutbox,
} from "../../../lib/commit/committer.js";
import type { CheckpointStore, ObjectStore } from "../../../lib/commit/ports.js";
import {
  type FaultHook,
  MemoryCheckpointStore,
  MemoryObjectStore,
  type StoreOperation,
} from "../../../lib/stores/memory.js";

export const ID = "flights/p-3";

export interface Stores<C extends CheckpointStore, O extends ObjectStore> {
  readonly checkpoints: C;
  readonly objects: O;
}
export type MemoryStores = Stores<MemoryCheckpointStore, MemoryObjectStore>;

export function memoryStores(payloadBytesMax = 100): MemoryStores {
  return {
    checkpoints: new MemoryCheckpointStore({ payloadBytesMax }),
    objects: new MemoryObjectStore(),
  };
}

/** The same stores as another process with these faults would see them. */
export function through(stores: MemoryStores, faults: FaultHook): MemoryStores {
  return {
    checkpoints: stores.checkpoints.withFaults(faults),
    objects: stores.objects.withFaults(faults),
  };
}

export function committerOver(
  stores: Stores<CheckpointStore, ObjectStore>,
  definitionHash = "hash",
): PartitionCommitter {
  return new PartitionCommitter({ ...stores, id: ID, definitionHash });
}

export function request(changes: Partial<CommitRequest> & { nextOffset: number }): CommitRequest {
  return {
    maxEventTime: null,
    position: null,
    meta: {},
    state: { kind: "delta", bytes: new Uint8Array() },
    outbox: null,
    releaseOutboxUpTo: 0,
    ...changes,
  };
}

export const STEPS = 8;

/** Step n of the job: deltas that overflow the item, a small base, a large base, an outbox each. */
export function stepRequest(step: number): CommitRequest {
  const bytes = new Uint8Array([30, 30, 60, 30, 20, 150, 40, 70][step]).fill(step + 1);
  return request({
    nextOffset: step + 1,
    maxEventTime: 1_000 * step,
    position: { step },
    meta: { step },
    state: { kind: step === 4 || step === 5 ? "base" : "delta", bytes },
    outbox: step % 3 === 1 ? null : Buffer.from(`outbox of step ${step}`),
    releaseOutboxUpTo: step === 6 ? 1 : 0,
  });
}

/** Run the job from wherever its checkpoint is to the end, as a process that just started. */
export async function runJob(stores: Stores<CheckpointStore, ObjectStore>): Promise<void> {
  const committer = committerOver(stores);
  let step = (await committer.load()).checkpoint?.nextOffset ?? 0;
  while (step < STEPS) {
    const result = await committer.commit(stepRequest(step));
    if (result.kind === "conflict") {
      step = (await committer.load()).checkpoint?.nextOffset ?? 0;
    } else {
      step = result.checkpoint.nextOffset;
    }
  }
}

/** What the job amounts to, without what differs from run to run (commit ids). */
export async function outcomeOf(stores: MemoryStores): Promise<unknown> {
  const { checkpoint, chunks } = await committerOver(stores).load();
  const outbox = (checkpoint?.outbox ?? []).map(async (entry) => ({
    sequence: entry.sequence,
    text: Buffer.from(await readOutbox(stores.objects, entry)).toString(),
  }));
  return {
    generation: checkpoint?.generation,
    nextOffset: checkpoint?.nextOffset,
    maxEventTime: checkpoint?.maxEventTime,
    position: checkpoint?.position,
    meta: checkpoint?.meta,
    stateBytes: checkpoint?.stateBytes,
    deltaBytes: checkpoint?.deltaBytes,
    nextOutboxSequence: checkpoint?.nextOutboxSequence,
    chunks: chunks.map((chunk) => [...chunk]),
    outbox: await Promise.all(outbox),
  };
}

export class Fault extends Error {}

/** Counts operations from 0; number `at` fails and, if `lasting`, all later ones do. */
export function faultAt(
  at: number,
  moment: "before" | "after",
  lasting: boolean,
): FaultHook & { operations: StoreOperation[] } {
  const operations: StoreOperation[] = [];
  return {
    operations,
    before(operation) {
      operations.push(operation);
      const number = operations.length - 1;
      if (number > at && lasting) throw new Fault("the process is gone");
      if (number === at && moment === "before") throw new Fault("failed before");
    },
    after(operation) {
      const number = operations.indexOf(operation);
      if (number > at && lasting) throw new Fault("the process is gone");
      if (number === at && moment === "after") throw new Fault("the reply was lost");
    },
  };
}
