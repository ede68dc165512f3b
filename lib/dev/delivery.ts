/**
 * What Lambda's event source mapping does after an invocation: which records are done, which are
 * tried again and when, which are given up. Decisions only.
 * https://docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html
 */
import { type LocatedRecord, partitionName } from "./kafka-event.js";

export interface DeliveryRules {
  /** Retries of a batch after its first failure; null retries until it succeeds. */
  readonly retriesMax: number | null;
  /** Failed records older than this are given up; null never. */
  readonly recordAgeMaxMs: number | null;
  /** After a failure, try the halves of a batch apart. */
  readonly bisect: boolean;
  /** Heed `batchItemFailures` of the function's response. */
  readonly partialBatches: boolean;
}

/** Records that are invoked together, and how often they failed so far. */
export interface Piece<R extends LocatedRecord> {
  readonly records: readonly R[];
  readonly failures: number;
}

export type InvocationResult =
  | { readonly kind: "response"; readonly response: unknown }
  | { readonly kind: "error"; readonly error: unknown };

export interface DeliveryStep<R extends LocatedRecord> {
  /** Succeeded. */
  readonly done: readonly R[];
  /** Given up: for the on-failure destination; then as good as done. */
  readonly discarded: readonly R[];
  /** To be invoked next, in this order. */
  readonly next: readonly Piece<R>[];
  /** How long to wait before that. */
  readonly waitMs: number;
}

const RETRY_FIRST_MS = 100;
const RETRY_MS_MAX = 10_000;

export function afterInvocation<R extends LocatedRecord>(
  piece: Piece<R>,
  result: InvocationResult,
  rules: DeliveryRules,
  nowMs: number,
): DeliveryStep<R> {
  const failed = failedRecords(piece.records, result, rules.partialBatches);
  const done = piece.records.filter((record) => !failed.has(record));
  const records = piece.records.filter((record) => failed.has(record));
  if (records.length === 0) return { done, discarded: [], next: [], waitMs: 0 };
  // Progress starts the count anew: it is another batch that failed.
  const failures = done.length > 0 ? 1 : piece.failures + 1;
  const waitMs = Math.min(RETRY_MS_MAX, RETRY_FIRST_MS * 2 ** (failures - 1));
  if (rules.bisect && records.length > 1 && done.length === 0) {
    // Splitting takes nothing off the number of retries.
    const middle = Math.ceil(records.length / 2);
    const halves = [records.slice(0, middle), records.slice(middle)];
    const next = halves.map((half) => ({ records: half, failures: piece.failures }));
    return { done, discarded: [], next, waitMs: RETRY_FIRST_MS };
  }
  if (rules.retriesMax !== null && failures > rules.retriesMax) {
    return { done, discarded: records, next: [], waitMs: 0 };
  }
  const isOld = ({ record }: R) =>
    rules.recordAgeMaxMs !== null && nowMs - record.timestampMs > rules.recordAgeMaxMs;
  const discarded = records.filter(isOld);
  const young = records.filter((record) => !isOld(record));
  const next = young.length === 0 ? [] : [{ records: young, failures }];
  return { done, discarded, next, waitMs: next.length === 0 ? 0 : waitMs };
}

/** The records to try again: all, none, or from a partition's first reported offset on. */
function failedRecords<R extends LocatedRecord>(
  records: readonly R[],
  result: InvocationResult,
  partialBatches: boolean,
): ReadonlySet<R> {
  if (result.kind === "error") return new Set(records);
  if (!partialBatches) return new Set();
  const reported = reportedFailures(result.response);
  if (reported === null) return new Set(records);
  const first = new Map<string, number>();
  for (const { partition, offset } of reported) {
    const isKnown = records.some(
      (one) => one.record.offset === offset && partitionName(one) === partition,
    );
    // Lambda takes a report of what it did not send for a failure of everything.
    if (!isKnown) return new Set(records);
    first.set(partition, Math.min(first.get(partition) ?? offset, offset));
  }
  return new Set(
    records.filter((one) => one.record.offset >= (first.get(partitionName(one)) ?? Infinity)),
  );
}

interface ReportedFailure {
  readonly partition: string;
  readonly offset: number;
}

/** `batchItemFailures`; none when there is no such list, null when it can't be understood. */
function reportedFailures(response: unknown): readonly ReportedFailure[] | null {
  if (typeof response !== "object" || response === null) return [];
  if (!("batchItemFailures" in response) || response.batchItemFailures === null) return [];
  const list = response.batchItemFailures;
  if (!Array.isArray(list)) return null;
  const found: ReportedFailure[] = [];
  for (const item of list) {
    const failure = reportedFailure(item);
    if (failure === null) return null;
    found.push(failure);
  }
  return found;
}

function reportedFailure(item: unknown): ReportedFailure | null {
  if (typeof item !== "object" || item === null || !("itemIdentifier" in item)) return null;
  const id = item.itemIdentifier;
  if (typeof id !== "object" || id === null) return null;
  if (!("partition" in id && "offset" in id)) return null;
  const { partition, offset } = id;
  if (typeof partition !== "string" || typeof offset !== "number") return null;
  return { partition, offset };
}
