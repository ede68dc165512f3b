/**
 * Lambda's Kafka event source mapping, on a laptop: polls a real broker as a consumer group and
 * invokes a function with the payload that Lambda would make. At least once; a partition's offset
 * is committed after its records succeeded. What the function does is not its business.
 */
import { MillpondError } from "../errors.js";
import type { KafkaClient } from "../sources/kafka/client.js";
import type { BatchLimits } from "./batches.js";
import type { DeliveryRules } from "./delivery.js";
import type { FailureRecord } from "./failure-record.js";
import type { EventOrigin, KafkaEvent } from "./kafka-event.js";
import { Poller } from "./poller.js";

/** Answers as the function would, or throws what it throws. */
export type Invoker = (event: KafkaEvent) => Promise<unknown>;

export interface EventSourceMappingOptions {
  readonly client: KafkaClient;
  readonly origin: EventOrigin;
  readonly topics: readonly string[];
  /** The consumer group that keeps the offsets. */
  readonly group: string;
  readonly invoke: Invoker;
  readonly startAt?: "earliest" | "latest";
  /** Lambda's: at most 10,000 records, and a window of half a second. */
  readonly limits?: Partial<BatchLimits>;
  /** Without any, a batch that fails is tried until it succeeds, as on-demand mappings do. */
  readonly rules?: Partial<DeliveryRules>;
  /** Members of the group, which share its partitions. */
  readonly pollers?: number;
  /** Takes batches that were given up; without one they are only counted. */
  readonly onFailure?: (failure: FailureRecord) => Promise<void>;
  /** Failed invocations and lost brokers, which the mapping goes on trying to get over. */
  readonly onTrouble?: (error: unknown) => void;
}

export interface MappingStats {
  /** Records of invocations that succeeded. */
  readonly delivered: number;
  readonly invocations: number;
  readonly failures: number;
  /** Records given up. */
  readonly discarded: number;
  /** Records on the brokers that are not delivered yet, as far as is known. */
  readonly lag: number;
}

const BATCH_RECORDS = 10_000;
const WINDOW_MS = 500;
const WINDOW_MS_MAX = 300_000;
const POLLERS_MAX = 16;

/**
 * Runs until `stop`, which lets invocations in flight end.
 * @throws MillpondError USAGE for limits that Lambda would refuse, INPUT when Kafka is not reached
 * @example
 * const mapping = await EventSourceMapping.start({
 *   client, origin: { bootstrapServers: "localhost:9092" }, topics: ["clicks"], group: "clicks",
 *   invoke: (event) => handler(event),
 * });
 * await mapping.stop();
 */
export class EventSourceMapping {
  private readonly pollers: readonly Poller[];

  private constructor(pollers: readonly Poller[]) {
    this.pollers = pollers;
  }

  static async start(options: EventSourceMappingOptions): Promise<EventSourceMapping> {
    const limits = { records: BATCH_RECORDS, windowMs: WINDOW_MS, ...options.limits };
    expectRange("batch size", limits.records, 1, BATCH_RECORDS);
    expectRange("batching window", limits.windowMs, 0, WINDOW_MS_MAX);
    const { pollers: count = 1 } = options;
    expectRange("number of pollers", count, 1, POLLERS_MAX);
    const rules = {
      retriesMax: null,
      recordAgeMaxMs: null,
      bisect: false,
      partialBatches: false,
      ...options.rules,
    };
    const pollers = Array.from({ length: count }, () => new Poller(options, limits, rules));
    const mapping = new EventSourceMapping(pollers);
    try {
      for (const poller of pollers) await poller.start();
    } catch (error) {
      await mapping.stop();
      throw error;
    }
    return mapping;
  }

  stats(): MappingStats {
    const sum = { delivered: 0, invocations: 0, failures: 0, discarded: 0, lag: 0 };
    for (const { stats } of this.pollers) {
      sum.delivered += stats.delivered;
      sum.invocations += stats.invocations;
      sum.failures += stats.failures;
      sum.discarded += stats.discarded;
    }
    for (const poller of this.pollers) sum.lag += poller.lag();
    return sum;
  }

  /** Takes no more records, waits for the invocations in flight, and leaves the group. */
  async stop(): Promise<void> {
    await Promise.all(this.pollers.map((poller) => poller.stop()));
  }
}

function expectRange(what: string, found: number, min: number, max: number): void {
  if (Number.isInteger(found) && found >= min && found <= max) return;
  throw new MillpondError(
    "USAGE",
    `event source mapping: ${what} is ${found}; give a whole number from ${min} to ${max}`,
  );
}
