/**
 * The records that a pipeline is fuzzed with: what the user's generator gives for the number of a
 * log, looked through, and put into the partitions of simulated topics.
 */
import { setTimeout } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import type { FieldNode, PipelineDefinition, StreamNode } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { partitionOf } from "../sources/simulate/random.js";
import { NO_FAULTS } from "./faults.js";
import { bytesOf, type TestRecord } from "./record-queue.js";
import { PreparedLog, type SimulatedLog } from "./simulated-topic.js";
import { timeOf } from "./test-pipeline.js";
import { inWorld, World } from "./world.js";

/** A simulated run is about batches and failures; of more records it only gets slower. */
const RECORDS_MAX = 10_000;
/** Of topics whose records have keys and no partitions. */
const PARTITIONS = 3;
/** What simulated clocks show at first: no event is ahead of it, unless it is meant to be. */
export const FUZZ_START_MS = Date.UTC(2100, 0, 1);

/** Seeded: the same log gives the same numbers on every machine. */
export interface FuzzRandom {
  /** In [0, 1). */
  unit(): number;
  /** A whole number in [0, n). */
  below(n: number): number;
  pick<T>(choices: readonly T[]): T;
  /** In place. */
  shuffle<T>(items: T[]): T[];
}

export interface FuzzRecord {
  readonly stream: string;
  /** By the key unless given, as a producer chooses it (of 3); 0 without either. */
  readonly partition?: number;
  /** Objects as JSON, text and bytes as they are, null as a tombstone. */
  readonly value: TestRecord;
  /** The record's Kafka key; none by default. */
  readonly key?: string;
  /** The record's Kafka timestamp; later than any event unless given (see `maxAhead`). */
  readonly timestamp?: Date | string;
}

/**
 * The records of one log, each stream's partitions in their order. It uses no other chance than
 * `random` (`Math.random`, `Date.now` and `crypto` are seeded meanwhile).
 */
export type FuzzGenerator = (random: FuzzRandom) => Iterable<FuzzRecord>;

interface PlacedRecord {
  readonly stream: string;
  readonly partition: number;
  readonly value: Buffer | null;
  readonly key: string | null;
  readonly timestampMs: number;
}

/** @throws MillpondError USAGE when records cannot be used, or are others the second time */
export async function fuzzLogs(
  definition: PipelineDefinition,
  generator: FuzzGenerator,
  number: number,
): Promise<PreparedLog[]> {
  const records = await generated(definition, generator, number);
  // So that a clock shows another time, should the generator look at one.
  await setTimeout(2);
  const again = await generated(definition, generator, number);
  const at = records.findIndex((record, i) => !isDeepStrictEqual(record, again[i]));
  if (at >= 0 || again.length !== records.length) {
    const [first, second] = [records, again].map((all) => shownRecord(all[Math.max(at, 0)]));
    throw new MillpondError(
      "USAGE",
      `the generator gave other records when called once more: record ${Math.max(at, 0)} was ` +
        `${first}, then ${second}. A failure could not be repeated: take all chance from its ` +
        "argument, keep nothing from call to call, and do not look at the clock",
    );
  }
  if (records.length === 0) {
    throw new MillpondError("USAGE", "the generator gave no records; give at least one");
  }
  for (const stream of definition.streams) refuseSpreadKeys(stream, records);
  return [...partitionsOf(records)].map(([, own]) => {
    const { stream: topic, partition } = own[0]!;
    const inOrder = own.map(({ timestampMs, value, key }, offset) => ({
      offset,
      timestampMs,
      value,
      ...(key !== null && { key }),
    }));
    return new PreparedLog({ topic, partition, records: inOrder });
  });
}

async function generated(
  definition: PipelineDefinition,
  generator: FuzzGenerator,
  seed: number,
): Promise<PlacedRecord[]> {
  const world = new World({ seed, startMs: FUZZ_START_MS, odds: NO_FAULTS });
  return inWorld(world, async () => {
    try {
      const given: unknown = generator(world.random);
      return [...placedRecords(definition, given)];
    } catch (cause) {
      if (cause instanceof MillpondError) throw cause;
      throw new MillpondError("USAGE", `the generator threw ${cause}`, { cause });
    }
  });
}

function* placedRecords(definition: PipelineDefinition, given: unknown): Generator<PlacedRecord> {
  if (typeof given !== "object" || given === null || !(Symbol.iterator in given)) {
    const found = given instanceof Promise ? "a promise" : String(given);
    throw new MillpondError("USAGE", `the generator returned ${found}; return a list of records`);
  }
  let count = 0;
  for (const record of given as Iterable<FuzzRecord>) {
    if (count === RECORDS_MAX) {
      throw new MillpondError(
        "LIMIT",
        `the generator gave more than ${RECORDS_MAX} records; give some dozens, and run more ` +
          "schedules: each 50 of them have records of their own",
      );
    }
    yield placed(definition, record, count++);
  }
}

function placed(
  { name, streams }: PipelineDefinition,
  { stream, partition, value, key, timestamp }: FuzzRecord,
  index: number,
): PlacedRecord {
  const refuse = (found: string, expected: string) =>
    new MillpondError("USAGE", `record ${index} of the generator has ${found}; ${expected}`);
  if (!streams.some((node) => node.name === stream)) {
    const names = streams.map((node) => node.name).join(", ");
    throw refuse(`stream "${stream}"`, `pipeline "${name}" reads ${names}`);
  }
  if (value === undefined) throw refuse("no value", "give an object, text, bytes or null");
  const chosen = partition ?? (key === undefined ? 0 : partitionOf(key, PARTITIONS));
  if (!Number.isSafeInteger(chosen) || chosen < 0) {
    throw refuse(`partition ${chosen}`, "give 0, 1, …");
  }
  const timestampMs = timestamp === undefined ? FUZZ_START_MS : timeOf(timestamp);
  return { stream, partition: chosen, value: bytesOf(value), key: key ?? null, timestampMs };
}

/** By stream and partition. */
function partitionsOf(records: readonly PlacedRecord[]): Map<string, PlacedRecord[]> {
  const found = new Map<string, PlacedRecord[]>();
  for (const record of records) {
    const name = `${record.stream}/${record.partition}`;
    const own = found.get(name);
    if (own === undefined) found.set(name, [record]);
    else own.push(record);
  }
  return found;
}

/** What a stream declares as its key is in one partition; sessions and dedup rely on it. */
function refuseSpreadKeys(stream: StreamNode, records: readonly PlacedRecord[]): void {
  const field = stream.fields.find(({ name }) => name === stream.key);
  if (field === undefined) return;
  const seen = new Map<string, number>();
  for (const record of records) {
    const key = record.stream === stream.name ? keyIn(record.value, field) : undefined;
    if (key === undefined) continue;
    const before = seen.get(key);
    seen.set(key, record.partition);
    if (before === undefined || before === record.partition) continue;
    throw new MillpondError(
      "USAGE",
      `the generator gave records of stream "${stream.name}" with ${field.name} ${key} in the ` +
        `partitions ${before} and ${record.partition}, but the stream declares ${field.name} as ` +
        "its key: all that have the same are in one partition. Give each record " +
        `{ key: ${field.name} }, which chooses the partition, or correct the declaration`,
    );
  }
}

/** As JSON; undefined where there is none, or none that can be told from others. */
function keyIn(bytes: Buffer | null, { path, type }: FieldNode): string | undefined {
  let value: unknown;
  try {
    value = JSON.parse(bytes?.toString("utf8") ?? "null");
  } catch {
    return undefined;
  }
  for (const name of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = Object.entries(value).find(([key]) => key === name)?.[1];
  }
  const isKey = type.kind === "string" ? typeof value === "string" : Number.isSafeInteger(value);
  return isKey ? JSON.stringify(value) : undefined;
}

const SHOWN_MAX = 200;

const shownValue = (value: Buffer | null) =>
  value === null ? "null" : value.toString("utf8").slice(0, SHOWN_MAX);

function shownRecord(record: PlacedRecord | undefined): string {
  if (record === undefined) return "none";
  const { stream, partition, value } = record;
  return `${stream}/${partition} ${shownValue(value)}`;
}

/** A line a record, for traces. */
export function shownLog({ topic, partition, records }: SimulatedLog): string[] {
  return records.map(({ offset, value, key }) => {
    const place = `${topic}-${partition} offset ${offset}`;
    const withKey = key === undefined ? place : `${place}, key ${key}`;
    return `${withKey}: ${shownValue(value === null ? null : Buffer.from(value))}`;
  });
}
