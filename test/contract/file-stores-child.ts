/** A process that commits to file stores as fast as it can, until `until` or its death. */
import { PartitionCommitter } from "../../lib/commit/committer.js";
import { FileCheckpointStore, FileObjectStore } from "../../lib/stores/files.js";

const [dir = "", untilText = "0", name = ""] = process.argv.slice(2);
const until = Number(untilText);
const committer = new PartitionCommitter({
  checkpoints: new FileCheckpointStore(dir),
  objects: new FileObjectStore(dir),
  id: "hammered/p-0",
  definitionHash: "h",
});

/** Each commit adds 1 to a counter kept as state, and leaves the number in the outbox. */
let { checkpoint } = await committer.load();
while ((checkpoint?.nextOffset ?? 0) < until) {
  const nextOffset = (checkpoint?.nextOffset ?? 0) + 1;
  const result = await committer.commit({
    nextOffset,
    maxEventTime: nextOffset,
    position: { at: nextOffset },
    meta: { by: name },
    // Every 50th state is a base beyond the item's bound, so that objects come and go.
    state:
      nextOffset % 50 === 0
        ? { kind: "base", bytes: new Uint8Array(300_000).fill(nextOffset) }
        : { kind: "delta", bytes: new Uint8Array(3_000).fill(nextOffset) },
    outbox: nextOffset % 10 === 0 ? Buffer.from(String(nextOffset)) : null,
    releaseOutboxUpTo: 0,
  });
  if (result.kind === "committed") {
    checkpoint = result.checkpoint;
    process.stdout.write(`${checkpoint.generation} ${checkpoint.commitId}\n`);
  } else {
    ({ checkpoint } = await committer.load());
  }
}
