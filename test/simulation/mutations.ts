/**
 * Ways to break the protocol on purpose, as edits of the sources. The simulator has to find each,
 * or it proves nothing. An edit that no longer fits its source is an error: then write it anew.
 */

export interface Edit {
  readonly file: string;
  /** Occurs once. */
  readonly find: string;
  readonly replace: string;
}

export interface Mutation {
  readonly name: string;
  readonly edits: readonly Edit[];
}

const one = (name: string, file: string, find: string, replace: string): Mutation => ({
  name,
  edits: [{ file, find, replace }],
});

export const MUTATIONS: readonly Mutation[] = [
  one(
    "the store does not compare generations",
    "lib/testing/simulated-stores.ts",
    'if ((this.#items.get(id)?.generation ?? 0) !== next.generation - 1) return "conflict";',
    "",
  ),
  one(
    "another's commit is taken for one's own",
    "lib/commit/decisions.ts",
    'return stored?.commitId === attempted.commitId ? "committed" : "lost";',
    'return "committed";',
  ),
  {
    name: "the checkpoint is written before the objects it names",
    edits: [
      {
        file: "lib/commit/committer.ts",
        find: `    await Promise.all(
      plan.puts.map(({ key, bytes }) => withAttempts(() => this.#objects.putIfAbsent(key, bytes))),
    );
`,
        replace: "",
      },
      {
        file: "lib/commit/committer.ts",
        find: "    this.#checkpoint = plan.checkpoint;\n",
        replace: `    await Promise.all(
      plan.puts.map(({ key, bytes }) => withAttempts(() => this.#objects.putIfAbsent(key, bytes))),
    );
    this.#checkpoint = plan.checkpoint;
`,
      },
    ],
  },
  one(
    "a commit whose reply was lost is taken for failed, without reading back",
    "lib/commit/cell.ts",
    'reply === "committed" ? item : await withAttempts(() => this.#store.read(this.id));',
    'reply === "committed" ? item : { ...item, commitId: "of someone else" };',
  ),
  one(
    "a commit whose reply was lost is taken for done, without reading back",
    "lib/commit/cell.ts",
    'reply === "committed" ? item : await withAttempts(() => this.#store.read(this.id));',
    'reply !== "conflict" ? item : await withAttempts(() => this.#store.read(this.id));',
  ),
  one(
    "commit ids repeat",
    "lib/commit/cell.ts",
    'return Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString("hex");',
    'return "0123456789abcdef";',
  ),
  {
    name: "ids of dedup leave early",
    edits: [
      {
        file: "lib/engine/dedup.ts",
        find: "if (threshold <= this.earliestExpiry) return;",
        replace: "",
      },
      {
        file: "lib/engine/dedup.ts",
        find: "const kept = this.segments.filter((segment) => segment.timeMax >= threshold);",
        replace:
          "const kept = this.segments.filter((segment) => segment.timeMax >= threshold + 60_000);",
      },
    ],
  },
  one(
    "the watermark moves by batch, not by event",
    "lib/engine/fold.ts",
    "watermarks[i] = maxTime - latenessMs;",
    "watermarks[i] = this.maxTime - latenessMs;",
  ),
  one(
    "the processor releases outbox entries that were not taken",
    "lib/runtime/partition-writer.ts",
    "warm.releaseUpTo = takenFrom(item?.attributes ?? {}, this.#options.id);",
    "warm.releaseUpTo = waiting.at(-1)?.sequence ?? 0;",
  ),
  one(
    "a flush releases outbox entries that were not taken",
    "lib/runtime/sink-rounds.ts",
    "run.releaseUpTo = this.#publisher.state.taken[id] ?? 0;",
    "run.releaseUpTo = Number.MAX_SAFE_INTEGER;",
  ),
  one(
    "the sweep takes objects of commits under way",
    "lib/commit/decisions.ts",
    "numberInKey(key) <= decidedNumber && !used.has(key)",
    "numberInKey(key) <= decidedNumber + 1 && !used.has(key)",
  ),
  one(
    "the sweep takes objects that are named",
    "lib/commit/decisions.ts",
    "numberInKey(key) <= decidedNumber && !used.has(key)",
    "numberInKey(key) <= decidedNumber",
  ),
  one(
    "records that come again are taken again",
    "lib/runtime/kafka-progress.ts",
    'return { kind: "take", from };',
    'return { kind: "take", from: 0 };',
  ),
  one(
    "warm state is used again after a commit that failed",
    "lib/runtime/partition-writer.ts",
    "    this.#warm = null;\n    const { fold } = warm;",
    "    const { fold } = warm;",
  ),
  one(
    "offsets are taken for consecutive",
    "lib/runtime/partition-writer.ts",
    "const nextOffset = slice.offsets[slice.count - 1]! + 1;",
    "const nextOffset = slice.offsets[0]! + slice.count;",
  ),
  {
    name: "a sink's progress is not of one step with its rows",
    edits: [
      {
        file: "lib/testing/simulated-sink.ts",
        find: "      this.sequence = publication.sequence;\n",
        replace: "",
      },
      {
        file: "lib/testing/simulated-sink.ts",
        find: "    if (lastSequence > this.sequence) {",
        replace: "    if (false) {",
      },
      {
        file: "lib/testing/simulated-sink.ts",
        find: "      if (publication.sequence !== this.sequence + 1) {",
        replace: "      if (false) {",
      },
      {
        file: "lib/testing/simulated-sink.ts",
        find: "apply: () => tables.apply(batches, lastSequence, output),\n      });",
        replace: `apply: () => tables.apply(batches, lastSequence, output),
      });
      await world.call(process, {
        what: "progress",
        isWrite: true,
        apply: () => {
          tables.sequence = Math.max(tables.sequence, lastSequence);
        },
      });`,
      },
    ],
  },
  one(
    "a flush closes windows",
    "lib/engine/windows.ts",
    "return this.openStarts().map((start) => this.partial(start, true));",
    `const all = this.openStarts().map((start) => this.partial(start, true));
    this.close(Number.MAX_SAFE_INTEGER);
    this.closed = [];
    return all;`,
  ),
  one(
    "windows do not wait for partitions that are behind",
    "lib/runtime/awaited.ts",
    "const isAwaited = (sinceMs: number) => nowMs - sinceMs < patienceMs;",
    "const isAwaited = (sinceMs: number) => nowMs < sinceMs;",
  ),
  one(
    "the publisher takes outbox entries again",
    "lib/commit/publisher.ts",
    "if (entry.sequence <= already) continue;",
    "",
  ),
  one(
    "publications leave before every sink has them",
    "lib/commit/publisher.ts",
    "({ sequence }) => sequence > options.sinksTookUpTo);",
    "({ sequence }) => sequence > options.sinksTookUpTo + 1);",
  ),
  one(
    "the publisher deletes before it commits",
    "lib/commit/publisher.ts",
    "    await this.commit(next, commitId);\n",
    `    await Promise.allSettled(this.takenKeys.map((key) => this.objects.delete(key)));
    await this.commit(next, commitId);
`,
  ),
  one(
    "what a late partition brings is no revision",
    "lib/commit/publisher.ts",
    "    entry.dirty = true;\n",
    "    entry.dirty = entry.published === null;\n",
  ),
  one(
    "rows of sessions that became one are not withdrawn",
    "lib/engine/revise.ts",
    "if (startBefore[old] !== start[row]) withdrawn.push(old);",
    "if (startBefore[old] !== start[row]) continue;",
  ),
  one(
    "a topic made anew is not noticed",
    "lib/runtime/kafka-progress.ts",
    "if (maxTimestampMs !== null && timestamps[from]! > maxTimestampMs) {",
    "if (maxTimestampMs === 0) {",
  ),
  one(
    "a changed definition is not refused",
    "lib/commit/committer.ts",
    "  if (definitionHash === expected) return;\n",
    "  if (definitionHash !== expected || definitionHash === expected) return;\n",
  ),
  one(
    "a partial batch response leaves a hole",
    "lib/handlers/processor.ts",
    "itemIdentifier: { partition, offset },",
    "itemIdentifier: { partition, offset: offset + 1 },",
  ),
  one(
    "two requests in one environment share their memory",
    "lib/handlers/processor.ts",
    "const memory = this.#freeMemory.pop() ?? new EnvelopeMemory();",
    "const memory = this.#freeMemory[0] ?? new EnvelopeMemory();",
  ),
  one(
    "the sink sleeps on what partitions tell",
    "lib/handlers/sink.ts",
    'return owner === pipeline && name.startsWith("partitions/");',
    'return owner === pipeline && name.startsWith("publisher");',
  ),
  one(
    "requests of one sink's environment do not take turns",
    "lib/handlers/sink.ts",
    "const turn = last.then(work);",
    "const turn = work();",
  ),
  one(
    "a server that is down holds other sinks up",
    "lib/runtime/sink-rounds.ts",
    "        down.set(sink, error);\n",
    "        throw error;\n",
  ),
  one(
    "publications leave although a server that is down lacks them",
    "lib/runtime/sink-rounds.ts",
    "this.#tookUpTo.set(sink, Math.max(trimmedThrough, this.#tookUpTo.get(sink) ?? 0));",
    "this.#tookUpTo.set(sink, publisher.state.sequence);",
  ),
  one(
    "a full outbox is not refused",
    "lib/runtime/partition-writer.ts",
    "if (left.length < waitingEntriesMax && bytes < waitingBytesMax) {",
    "if (left.length >= 0) {",
  ),
  one(
    "state beyond its bound is committed",
    "lib/commit/committer.ts",
    '      stateBytesMax,\n      "use shorter',
    '      Number.MAX_SAFE_INTEGER,\n      "use shorter',
  ),
  one(
    "records at a bound are answered for",
    "lib/handlers/processor.ts",
    "      return { name, offset, error };\n",
    `      if (error instanceof MillpondError && error.code === "LIMIT") return null;
      return { name, offset, error };
`,
  ),
  one(
    "a redelivery that lacks records is taken for another topic's",
    "lib/runtime/kafka-progress.ts",
    "if (at < 0 || at >= from || offsets[at] !== offset || markOf",
    "if (at < 0 || at >= from || (at === 0 && offsets[at] !== offset) || markOf",
  ),
  one(
    "an object that is begun is read from its start",
    "lib/runtime/object-ingest.ts",
    "position: begun?.reader ?? null,",
    "position: null,",
  ),
  one(
    "an object is begun before the one before it is finished",
    "lib/runtime/object-ingest.ts",
    "if (begun !== null && begun.object !== key && (await this.#ledger(begun.object)) === null) {",
    "if (begun !== null && begun.object === null) {",
  ),
  {
    name: "S3's refusal of a put during another one (409) is taken for a key that is taken",
    edits: [
      {
        file: "lib/stores/s3.ts",
        find: "return httpStatus(error) === 412 ||",
        replace: "return httpStatus(error) === 412 || httpStatus(error) === 409 ||",
      },
      {
        file: "lib/stores/aws-errors.ts",
        find: " && status !== 409",
        replace: "",
      },
    ],
  },
];
