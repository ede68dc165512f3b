/** Random logs of several partitions, and the files that hold them as the reference wants them. */
import type { Workspace } from "./check.js";
import { partitionLines, type StreamPlan, TOPIC } from "./events.js";
import type { Random } from "./random.js";

/** One to `partitionsMax` logs, about `recordsMax` records in all at most; some are nearly empty. */
export function randomPartitions(
  random: Random,
  plan: StreamPlan,
  recordsMax: number,
  partitionsMax = 8,
): string[][] {
  const partitions = random.between(1, partitionsMax);
  const records = Math.ceil(random.between(recordsMax / 10, recordsMax) / partitions);
  return Array.from({ length: partitions }, (_, partition) => {
    const lines = partitionLines(random, plan, partition);
    const count = random.chance(0.1) ? random.below(5) : random.between(records / 2, records * 1.5);
    return Array.from({ length: Math.floor(count) }, () => String(lines.next().value));
  });
}

export function filesOf(workspace: Workspace, partitions: number) {
  return Array.from({ length: partitions }, (_, partition) => {
    return { path: workspace.file(partition), topic: TOPIC, partition };
  });
}
