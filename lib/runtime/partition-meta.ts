/** What a partition's checkpoint carries for the runtime, and its reading back. */
import type { Checkpoint } from "../commit/checkpoint.js";
import type { PartitionCounters } from "../engine/fold.js";
import { MillpondError } from "../errors.js";

export interface PartitionMeta {
  readonly counters: PartitionCounters;
  /** The last commit was a flush: what stands open has been handed to the publisher. */
  readonly flushed: boolean;
  readonly label: string;
  readonly openWindows: number;
  readonly openSessions: number;
  readonly dedupIds: number;
  /** No record came since all live tables (`updates`) were handed over as they stand. */
  readonly updated: boolean;
  /**
   * Wall clock of the last commit with records, epoch ms: for idleness and ages, never for results.
   */
  readonly committedAtMs: number;
}

/** Progress asks again and again, and a checkpoint in memory does not change. */
const sound = new WeakSet<object>();

/** What `partitionMeta` wrote. Throws `MillpondError("STORAGE")` when it is something else. */
export function metaOf(
  checkpoint: Pick<Checkpoint, "meta" | "generation" | "commitId">,
): PartitionMeta {
  const { meta, generation, commitId } = checkpoint;
  const found: unknown = meta;
  if (isPartitionMeta(found)) return found;
  throw new MillpondError(
    "STORAGE",
    `a partition's checkpoint (generation ${generation}, commit ${commitId}) has ` +
      `${wrongIn(found)}. Another version wrote it, or it is damaged: use the version that wrote ` +
      "it, or process the input again into a new output",
  );
}

function isPartitionMeta(meta: unknown): meta is PartitionMeta {
  if (isRecord(meta) && sound.has(meta)) return true;
  if (wrongIn(meta) !== null) return false;
  if (isRecord(meta)) sound.add(meta);
  return true;
}

type Check = (value: unknown, path: string) => string | null;

/** The first value that is not what it must be, in words; null if there is none. */
function wrongIn(meta: unknown): string | null {
  return META(meta, "meta");
}

const expecting =
  (expected: string, test: (value: unknown) => boolean): Check =>
  (value, path) =>
    test(value) ? null : `"${path}" ${JSON.stringify(value)?.slice(0, 100)}, not ${expected}`;

const COUNT = expecting("a count", (value) => Number.isSafeInteger(value) && Number(value) >= 0);
const FLAG = expecting("true or false", (value) => typeof value === "boolean");
const TEXT = expecting("a text", (value) => typeof value === "string");
const TIME = expecting("a time in ms", Number.isFinite);
const OBJECT = expecting("an object", isRecord);

/** An object with (at least) these fields. */
const fields =
  (checks: Readonly<Record<string, Check>>): Check =>
  (value, path) => {
    if (!isRecord(value)) return OBJECT(value, path);
    const wrong = Object.entries(checks).map(([name, check]) =>
      check(value[name], `${path}.${name}`),
    );
    return wrong.find((found) => found !== null) ?? null;
  };

/** An object of such values by any names. */
const each =
  (check: Check): Check =>
  (value, path) => {
    if (!isRecord(value)) return OBJECT(value, path);
    const wrong = Object.entries(value).map(([name, item]) => check(item, `${path}.${name}`));
    return wrong.find((found) => found !== null) ?? null;
  };

const META = fields({
  counters: fields({
    records: COUNT,
    events: COUNT,
    duplicates: COUNT,
    deadLetters: each(COUNT),
    tables: each(fields({ events: COUNT, counted: COUNT, late: COUNT, duplicates: COUNT })),
    rows: each(COUNT),
  }),
  flushed: FLAG,
  label: TEXT,
  openWindows: COUNT,
  openSessions: COUNT,
  dedupIds: COUNT,
  updated: FLAG,
  committedAtMs: TIME,
});

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
