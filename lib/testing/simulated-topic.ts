/**
 * Partitions of a simulated topic as an event source mapping reads them: how far the group is, what
 * is in flight, and the events that Lambda would make. When to deliver what is for others.
 */
import type { Random } from "../sources/simulate/random.js";

export interface SimulatedRecord {
  readonly offset: number;
  readonly timestampMs: number;
  /** Null is a tombstone. */
  readonly value: string | Uint8Array | null;
  readonly key?: string;
}

export interface SimulatedLog {
  readonly topic: string;
  readonly partition: number;
  /** Ascending by offset, gaps allowed. */
  readonly records: readonly SimulatedRecord[];
}

/** Records of a log `[from, to)` that are on their way to a processor. */
export interface Delivery {
  readonly feed: PartitionFeed;
  readonly from: number;
  readonly to: number;
}

const base64 = (value: string | Uint8Array) => Buffer.from(value).toString("base64");

function envelopeRecord(log: SimulatedLog, { offset, timestampMs, value, key }: SimulatedRecord) {
  return {
    topic: log.topic,
    partition: log.partition,
    offset,
    timestamp: timestampMs,
    timestampType: "CREATE_TIME",
    ...(key === undefined ? {} : { key: base64(key) }),
    value: value === null ? null : base64(value),
    headers: [],
  };
}

/** As Lambda calls a partition. */
export const feedName = ({ topic, partition }: Pick<SimulatedLog, "topic" | "partition">) =>
  `${topic}-${partition}`;

/** A log made ready, once, for many runs. */
export class PreparedLog {
  readonly log: SimulatedLog;
  readonly envelopes: readonly unknown[];

  constructor(log: SimulatedLog) {
    this.log = log;
    this.envelopes = log.records.map((record) => Object.freeze(envelopeRecord(log, record)));
  }
}

/** One partition of one run. */
export class PartitionFeed {
  readonly log: SimulatedLog;
  readonly name: string;
  readonly #envelopes: readonly unknown[];
  /** Indices of records that are gone, for a later one has their key. */
  readonly #compacted = new Set<number>();
  /** A partition may be added to a topic at any time. */
  isThere = true;
  /** Index of the record that the group reads next. */
  position = 0;
  /** Records before it are gone from the broker. */
  floor = 0;
  /** Indices of records that went before anyone had answered for them: they may be in no result. */
  readonly removedUnread = new Set<number>();
  /** Records before it were acknowledged once. */
  acknowledged = 0;
  isBusy = false;
  /** End of a batch that is delivered again as it was; null when it is cut anew. */
  retryTo: number | null = null;
  /** Nothing comes before this step. */
  quietUntilStep = 0;

  constructor({ log, envelopes }: PreparedLog) {
    this.log = log;
    this.name = feedName(log);
    this.#envelopes = envelopes;
  }

  get isDone(): boolean {
    return this.position >= this.log.records.length;
  }

  /** The next records, so many at most. */
  take(recordsMax: number, random: Random): Delivery {
    const { retryTo } = this;
    // What the poller holds it delivers again, wherever the broker's log begins by now.
    if (retryTo === null) this.position = Math.max(this.position, this.floor);
    let from = this.position;
    while (this.#compacted.has(from)) from++;
    const size = 1 + random.below(recordsMax);
    const to = Math.min(this.log.records.length, retryTo ?? from + size);
    this.isBusy = true;
    this.retryTo = null;
    return { feed: this, from, to: Math.max(to, from + 1) };
  }

  envelopesOf(from: number, to: number): readonly unknown[] {
    return this.#envelopes.slice(from, to).filter((_, i) => !this.#compacted.has(from + i));
  }

  /**
   * Of records that were acknowledged, so that there is one truth about the others. The last record
   * always stays.
   */
  compact(random: Random): void {
    const { records } = this.log;
    const lastByKey = new Map(records.map(({ key }, index) => [key, index]));
    for (let index = 0; index < Math.min(this.acknowledged, records.length - 1); index++) {
      const { key } = records[index]!;
      const isReplaced = key !== undefined && lastByKey.get(key)! > index;
      if (isReplaced && random.unit() < 0.5) this.#compacted.add(index);
    }
  }

  /**
   * Retention takes records, whether anyone has read them or not; false when there are none left.
   * The last one always stays.
   */
  removeUnread(random: Random): boolean {
    const from = Math.max(this.position, this.floor);
    const unread = this.log.records.length - 1 - from;
    if (unread <= 0) return false;
    this.floor = from + 1 + random.below(unread);
    for (let index = Math.max(from, this.acknowledged); index < this.floor; index++) {
      this.removedUnread.add(index);
    }
    if (random.unit() < 0.5) this.retryTo = null;
    return true;
  }

  /** Records that never were in this log, as those of a topic made anew: other and younger ones. */
  otherEnvelopes(offset: number, count: number): unknown[] {
    const youngestMs = Math.max(...this.log.records.map((record) => record.timestampMs));
    const timestampMs = youngestMs + 3_600_000;
    return Array.from({ length: count }, (_, i) =>
      envelopeRecord(this.log, { offset: offset + i, timestampMs, value: '{"other":"topic"}' }),
    );
  }
}

export function kafkaEvent(records: ReadonlyMap<string, readonly unknown[]>): unknown {
  return {
    eventSource: "aws:kafka",
    eventSourceArn: "arn:aws:kafka:eu-central-1:1:cluster/simulated/1",
    bootstrapServers: "simulated:9098",
    records: Object.fromEntries(records),
  };
}
