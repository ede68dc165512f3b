/** Which partition number a file has: for good, whatever files come later. */

export interface PartitionAssignment {
  /** Partition number by file name: every known file and every present one. */
  readonly partitions: ReadonlyMap<string, number>;
  /** Known files that are not there any more; what they held is in the results already. */
  readonly missing: readonly string[];
}

/**
 * Known files keep their numbers; new ones get the next free numbers, in byte order of their names.
 *
 * @example
 * assignPartitions(["b.csv", "a.csv"], new Map([["b.csv", 0]])).partitions.get("a.csv"); // 1
 */
export function assignPartitions(
  fileNames: readonly string[],
  known: ReadonlyMap<string, number>,
): PartitionAssignment {
  const partitions = new Map(known);
  let next = Math.max(-1, ...known.values()) + 1;
  for (const fileName of sortByBytes(fileNames)) {
    if (!partitions.has(fileName)) partitions.set(fileName, next++);
  }
  const present = new Set(fileNames);
  return { partitions, missing: [...known.keys()].filter((fileName) => !present.has(fileName)) };
}

/** JavaScript compares UTF-16 units; bytes are what other tools sort by. */
export function sortByBytes(names: readonly string[]): string[] {
  return names.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}
