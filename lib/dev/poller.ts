/**
 * One member of a mapping's consumer group: keeps what was fetched until it is invoked, one
 * invocation at a time for a partition, and commits what succeeded. What follows from an
 * invocation is decided in `delivery.ts`, what goes into one in `batches.ts`.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { MillpondError } from "../errors.js";
import type {
  FetchedRecords,
  KafkaConsumer,
  TopicPartition,
  TopicPartitionOffset,
} from "../sources/kafka/client.js";
import { type BatchLimits, batchCounts, dueAtMs, type WaitingRecord } from "./batches.js";
import {
  afterInvocation,
  type DeliveryRules,
  type DeliveryStep,
  type InvocationResult,
  type Piece,
} from "./delivery.js";
import type { EventSourceMappingOptions } from "./event-source-mapping.js";
import { failureRecord } from "./failure-record.js";
import {
  EVENT_FRAME_BYTES,
  eventRecordBytes,
  kafkaEvent,
  PAYLOAD_BYTES_MAX,
  partitionName,
} from "./kafka-event.js";

/** Fetching of a partition pauses when so much of it waits: two invocations' worth. */
const WAITING_BYTES_MAX = 2 * PAYLOAD_BYTES_MAX;
const WAITING_BATCHES_MAX = 2;
/** After the on-failure destination failed. */
const DESTINATION_RETRY_MS = 1_000;

/** A partition that is this member's, from one assignment to the next. */
class AssignedPartition implements TopicPartition {
  readonly topic: string;
  readonly partition: number;
  readonly name: string;
  records: QueuedRecord[] = [];
  bytes = 0;
  sinceMs = 0;
  isPaused = false;
  highWatermark = 0;
  /** Where the group reads on; null until something was committed or fetched. */
  committed: number | null = null;
  /** Behind the last record that is done or given up; some before it may be left. */
  reached = 0;

  constructor(at: TopicPartition) {
    this.topic = at.topic;
    this.partition = at.partition;
    this.name = partitionName(at);
  }

  add({ records, nextOffset, highWatermark }: FetchedRecords, nowMs: number): void {
    if (this.records.length === 0) this.sinceMs = nowMs;
    this.committed ??= records[0]!.offset;
    this.highWatermark = highWatermark;
    const { topic, partition } = this;
    for (const [i, record] of records.entries()) {
      const located = { topic, partition, record };
      const bytes = eventRecordBytes(located);
      const next = i === records.length - 1 ? nextOffset : record.offset + 1;
      this.records.push({ ...located, bytes, nextOffset: next, queue: this });
      this.bytes += bytes;
    }
  }

  take(count: number): QueuedRecord[] {
    const taken = this.records.splice(0, count);
    for (const { bytes } of taken) this.bytes -= bytes;
    return taken;
  }
}

interface QueuedRecord extends WaitingRecord {
  readonly queue: AssignedPartition;
}

export class Poller {
  readonly stats = { delivered: 0, invocations: 0, failures: 0, discarded: 0 };
  private readonly options: EventSourceMappingOptions;
  private readonly limits: BatchLimits;
  private readonly rules: DeliveryRules;
  private readonly stopping = new AbortController();
  private readonly deliveries = new Set<Promise<void>>();
  /** Names of partitions with an invocation in flight; it outlives an assignment. */
  private readonly busy = new Set<string>();
  private assigned: ReadonlyMap<string, AssignedPartition> = new Map();
  private consumer: KafkaConsumer | null = null;
  private timer: NodeJS.Timeout | null = null;

  constructor(options: EventSourceMappingOptions, limits: BatchLimits, rules: DeliveryRules) {
    this.options = options;
    this.limits = limits;
    this.rules = rules;
  }

  async start(): Promise<void> {
    const { client, group, topics, startAt = "earliest", onTrouble } = this.options;
    this.consumer = await client.consume({
      group,
      topics,
      startAt,
      onAssigned: (partitions) => this.assign(partitions),
      onRecords: (fetched) => this.take(fetched),
      onTrouble: (error) => onTrouble?.(error),
    });
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    if (this.timer !== null) clearTimeout(this.timer);
    await Promise.all(this.deliveries);
    await this.consumer?.close();
    this.consumer = null;
  }

  lag(): number {
    let sum = 0;
    for (const { highWatermark, committed } of this.assigned.values()) {
      if (committed !== null) sum += Math.max(0, highWatermark - committed);
    }
    return sum;
  }

  /** What waited comes again, from the committed offsets. */
  private assign(partitions: readonly TopicPartition[]): void {
    const queues = partitions.map((at) => new AssignedPartition(at));
    this.assigned = new Map(queues.map((queue) => [queue.name, queue]));
    for (const queue of queues) this.consumer?.resume(queue);
  }

  private take(fetched: FetchedRecords): void {
    const queue = this.assigned.get(partitionName(fetched));
    if (queue === undefined || this.stopping.signal.aborted) return;
    queue.add(fetched, Date.now());
    this.pauseOrResume(queue);
    this.pump();
  }

  private pauseOrResume(queue: AssignedPartition): void {
    const fill = Math.max(
      queue.records.length / (this.limits.records * WAITING_BATCHES_MAX),
      queue.bytes / WAITING_BYTES_MAX,
    );
    if (!queue.isPaused && fill >= 1) {
      this.consumer?.pause(queue);
      queue.isPaused = true;
    } else if (queue.isPaused && fill <= 0.5) {
      this.consumer?.resume(queue);
      queue.isPaused = false;
    }
  }

  /** Starts what is due, and comes back when the next thing is. */
  private pump(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    while (!this.stopping.signal.aborted) {
      const ready = [...this.assigned.values()].filter(
        ({ name, records }) => records.length > 0 && !this.busy.has(name),
      );
      if (ready.length === 0) return;
      const inMs = dueAtMs(ready, this.limits) - Date.now();
      if (inMs > 0) {
        this.timer = setTimeout(() => this.pump(), inMs);
        return;
      }
      const counts = batchCounts(ready, this.limits);
      const records = ready.flatMap((queue, i) => queue.take(counts[i]!));
      for (const queue of ready) this.pauseOrResume(queue);
      this.begin(records);
    }
  }

  private begin(records: readonly QueuedRecord[]): void {
    const delivery = this.deliver(records)
      .catch((error: unknown) => {
        // What is neither done nor waiting must never be committed past.
        this.stopping.abort();
        this.options.onTrouble?.(error);
      })
      .finally(() => {
        this.deliveries.delete(delivery);
        this.pump();
      });
    this.deliveries.add(delivery);
  }

  /** Until every record is done, given up, or no longer this member's. */
  private async deliver(records: readonly QueuedRecord[]): Promise<void> {
    const held = new Set(records.map(({ queue }) => queue.name));
    for (const name of held) this.busy.add(name);
    let pieces: readonly Piece<QueuedRecord>[] = [{ records, failures: 0 }];
    while (pieces.length > 0 && !this.stopping.signal.aborted) {
      const [piece, ...rest] = pieces;
      const { next, waitMs } = await this.settle(await this.invoke(piece!), piece!, rest);
      pieces = this.stillMine([...next, ...rest]);
      // A partition whose records are all done need not wait for the others.
      const open = new Set(pieces.flatMap((one) => one.records.map(({ queue }) => queue.name)));
      for (const name of held) {
        if (open.has(name)) continue;
        held.delete(name);
        this.busy.delete(name);
      }
      if (pieces.length === 0) return;
      this.pump();
      if (waitMs > 0) await this.pause(waitMs);
    }
    for (const name of held) this.busy.delete(name);
  }

  private async invoke(piece: Piece<QueuedRecord>): Promise<DeliveryStep<QueuedRecord>> {
    const result = await this.call(piece.records);
    if (result.kind === "error") this.options.onTrouble?.(result.error);
    const step = afterInvocation(piece, result, this.rules, Date.now());
    this.stats.invocations++;
    this.stats.delivered += step.done.length;
    if (step.done.length < piece.records.length) this.stats.failures++;
    return step;
  }

  private async call(records: readonly QueuedRecord[]): Promise<InvocationResult> {
    const bytes = records.reduce((sum, record) => sum + record.bytes, EVENT_FRAME_BYTES);
    try {
      if (bytes > PAYLOAD_BYTES_MAX) throw tooLarge(records[0]!);
      const response = await this.options.invoke(kafkaEvent(this.options.origin, records));
      return { kind: "response", response };
    } catch (error) {
      return { kind: "error", error };
    }
  }

  /** Hands over what was given up, commits what is done, and says what is left. */
  private async settle(
    step: DeliveryStep<QueuedRecord>,
    { failures }: Piece<QueuedRecord>,
    rest: readonly Piece<QueuedRecord>[],
  ): Promise<Pick<DeliveryStep<QueuedRecord>, "next" | "waitMs">> {
    const { done, discarded, next, waitMs } = step;
    const left = [...next, ...rest].flatMap(({ records }) => records);
    if (discarded.length === 0) {
      await this.commit(done, left);
      return { next, waitMs };
    }
    try {
      await this.options.onFailure?.(failureRecord(this.options.origin, discarded, failures + 1));
    } catch (error) {
      this.options.onTrouble?.(error);
      await this.commit(done, [...discarded, ...left]);
      const again = { records: discarded, failures };
      return { next: [again, ...next], waitMs: DESTINATION_RETRY_MS };
    }
    this.stats.discarded += discarded.length;
    await this.commit([...done, ...discarded], left);
    return { next, waitMs };
  }

  /** Never past a record that is left: what was given up for its age may stand behind it. */
  private async commit(
    records: readonly QueuedRecord[],
    left: readonly QueuedRecord[],
  ): Promise<void> {
    const firstLeft = new Map<AssignedPartition, number>();
    for (const { queue, record } of left) {
      firstLeft.set(queue, Math.min(record.offset, firstLeft.get(queue) ?? record.offset));
    }
    const next = new Map<AssignedPartition, number>();
    for (const { queue, nextOffset } of records) {
      queue.reached = Math.max(queue.reached, nextOffset);
      const offset = Math.min(queue.reached, firstLeft.get(queue) ?? queue.reached);
      if (this.isMine(queue) && offset > (queue.committed ?? 0)) next.set(queue, offset);
    }
    if (next.size === 0) return;
    const offsets: TopicPartitionOffset[] = [];
    for (const [{ topic, partition }, offset] of next) offsets.push({ topic, partition, offset });
    try {
      await this.consumer?.commit(offsets);
      for (const [queue, offset] of next) queue.committed = offset;
    } catch (error) {
      // The next commit covers these; if there is none, they come again.
      this.options.onTrouble?.(error);
    }
  }

  private isMine(queue: AssignedPartition): boolean {
    return this.assigned.get(queue.name) === queue;
  }

  private stillMine(pieces: readonly Piece<QueuedRecord>[]): readonly Piece<QueuedRecord>[] {
    return pieces
      .map(({ records, failures }) => ({
        records: records.filter(({ queue }) => this.isMine(queue)),
        failures,
      }))
      .filter(({ records }) => records.length > 0);
  }

  private async pause(ms: number): Promise<void> {
    try {
      await sleep(ms, undefined, { signal: this.stopping.signal });
    } catch {
      // The mapping stops: the records come again from the committed offset.
    }
  }
}

function tooLarge({ topic, partition, record }: QueuedRecord): MillpondError {
  return new MillpondError(
    "LIMIT",
    `${topic} partition ${partition} offset ${record.offset}: the record does not fit the ` +
      `${PAYLOAD_BYTES_MAX} bytes of an invocation, so Lambda could never deliver it; give the ` +
      "mapping an on-failure destination and a retry limit, or lower the topic's max.message.bytes",
  );
}
