/**
 * The producer's handler: simulated events, or a data set's records, to a stream's topic, keyed and
 * idempotent, at a set rate. Invoked, or on a schedule, when it goes on in event time.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Pipeline, StreamNode } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { emfOutput, stdoutLine, type WriteLine } from "../observe/emf.js";
import type { MetricsOutput } from "../observe/metrics.js";
import type { KafkaClient, KafkaMessage, KafkaProducer } from "../sources/kafka/client.js";
import { connectKafka } from "../sources/kafka/kafkajs-client.js";
import { kafkaSettings } from "../sources/kafka/settings.js";
import { simulate } from "../sources/simulate/simulate.js";
import { type Datasets, openDatasets } from "./datasets.js";
import type { InvocationContext } from "./deadline.js";
import { type Environment, streamsByTopic } from "./pipeline-runtime.js";
import {
  type ProducerPosition,
  type ProducerRequest,
  producerRequest,
} from "./producer-request.js";

/** One request to Kafka holds at most so much. */
const SEND_RECORDS_MAX = 2_000;
const SEND_BYTES_MAX = 1024 * 1024;
/** Records that are due are sent together, so often. */
const TICK_MS = 100;
/** Left for the last request, and for answering. */
const DEADLINE_MARGIN_MS = 5_000;
const EVENTS_PER_SECOND = 1_000;

export interface ProducerOptions {
  readonly pipeline: Pipeline;
  /** The process's environment by default. */
  readonly env?: Environment;
  /** Instead of the one that `env` names; it stays open. */
  readonly client?: KafkaClient;
  /** Takes metrics, as EMF, unless `metrics` does; stdout by default. */
  readonly write?: WriteLine;
  readonly metrics?: MetricsOutput;
}

export interface ProducerResponse {
  readonly topic: string;
  /** Acknowledged by Kafka in this invocation, duplicates among them. */
  readonly sent: number;
  /** False when time ran out: invoke with `next` to go on. */
  readonly done: boolean;
  readonly next?: ProducerRequest;
}

export type ProducerHandler = (
  event: unknown,
  context: InvocationContext,
) => Promise<ProducerResponse>;

/**
 * The handler. Its event is a `ProducerRequest`, whose fields go before those of MILLPOND_PRODUCER.
 * A schedule's event starts the simulation at the time it fired, so that a retry of it sends the
 * same ids again, and the next one others.
 *
 * @example
 * export const handler = makeProducer({ pipeline });
 * // {"simulator": "activity", "events": 6000, "rate": 100}
 */
export function makeProducer(options: ProducerOptions): ProducerHandler {
  const env = options.env ?? process.env;
  const metrics = options.metrics ?? emfOutput(options.write ?? stdoutLine);
  const { definition } = options.pipeline;
  return async (event, context) => {
    const { request, invokedAtMs } = producerRequest(event, env.MILLPOND_PRODUCER, Date.now());
    const { stream, topic } = target(options.pipeline, request, env);
    const explicit = withTimes(request, invokedAtMs);
    const records = await recordsOf(explicit, stream, env);
    const client = options.client ?? (await connectKafka(await kafkaSettings(env)));
    const run = new Run(explicit, topic, context);
    try {
      const producer = await client.producer();
      try {
        return await run.send(records, producer);
      } finally {
        await producer.close();
      }
    } finally {
      if (options.client === undefined) await client.close();
      const labels = { stream: stream.name };
      const sent = { metric: "RecordsProduced", value: run.sent, labels } as const;
      metrics.write(definition.name, [sent], Date.now());
    }
  };
}

/**
 * Sends a simulator's records to a topic, as the handler does to a stream's. Ends early when the
 * context has no time left.
 *
 * @example
 * const request = { simulator: "sensors", events: 600, rate: 10 } as const;
 * await sendSimulated(request, "readings", producer, context);
 */
export async function sendSimulated(
  request: ProducerRequest,
  topic: string,
  producer: KafkaProducer,
  context: InvocationContext,
): Promise<ProducerResponse> {
  const { request: checked, invokedAtMs } = producerRequest(request, undefined, Date.now());
  const explicit = withTimes(checked, invokedAtMs);
  return new Run(explicit, topic, context).send(simulated(explicit), producer);
}

function target(
  { definition }: Pipeline,
  request: ProducerRequest,
  env: Environment,
): { readonly stream: StreamNode; readonly topic: string } {
  const topics = streamsByTopic(definition, env);
  const names = definition.streams.map(({ name }) => name);
  const wanted = request.stream ?? (names.length === 1 ? names[0] : undefined);
  for (const [topic, name] of topics) {
    const stream = definition.streams.find((one) => one.name === name);
    if (name === wanted && stream !== undefined) return { stream, topic };
  }
  throw new MillpondError(
    "USAGE",
    `the producer's "stream" is ${JSON.stringify(request.stream) ?? "missing"}; pipeline ` +
      `"${definition.name}" has ${names.join(", ")}`,
  );
}

/** Everything that depends on the clock made explicit, so that `next` goes on with the same. */
function withTimes(request: ProducerRequest, invokedAtMs: number): ProducerRequest {
  const { simulator, events, rate, seed = 1 } = request;
  if (simulator === undefined || events === undefined) return request;
  const eventRate = request.eventRate ?? rate ?? EVENTS_PER_SECOND;
  if (request.start !== undefined) return { ...request, seed, eventRate };
  // Paced, events happen as they are sent; all at once, the last one has just happened.
  const aheadMs = rate === undefined ? Math.ceil((events / eventRate) * 1000) : 0;
  const startMs = invokedAtMs - aheadMs;
  const start = new Date(startMs).toISOString();
  return { ...request, eventRate, start, seed: mixed(seed, startMs) };
}

/** Another seed for another time, so that ids never repeat. */
function mixed(seed: number, startMs: number): number {
  const product = BigInt(seed) * 0x9e3779b97f4a7c15n + BigInt(startMs) * 0xbf58476d1ce4e5b9n;
  return Number(BigInt.asUintN(64, product) >> 12n);
}

interface PositionedMessage {
  readonly message: KafkaMessage;
  readonly bytes: number;
  /** Where to go on after it. */
  readonly position: ProducerPosition;
}

async function recordsOf(
  request: ProducerRequest,
  stream: StreamNode,
  env: Environment,
): Promise<AsyncGenerator<PositionedMessage>> {
  if (request.dataset === undefined) return simulated(request);
  const datasets = await openDatasets(env);
  const objects = await datasets.list(request.dataset);
  if (objects.length > 0) return replayed(request, datasets, objects, stream);
  throw new MillpondError(
    "USAGE",
    `no NDJSON objects at datasets/${request.dataset}: put some there (.ndjson or .ndjson.gz), ` +
      "or name another data set",
  );
}

async function* simulated(request: ProducerRequest): AsyncGenerator<PositionedMessage> {
  const { simulator, events = 0, seed = 1, start = "", from, eventRate } = request;
  const options = {
    events,
    seed,
    // Which partition a key goes to is for Kafka; what is late is so by the newest of all.
    partitions: 1,
    ratePerSecond: eventRate ?? EVENTS_PER_SECOND,
    startMs: Date.parse(start),
    late: request.late ?? 0,
    duplicates: request.duplicates ?? 0,
    malformed: request.malformed ?? 0,
    outOfOrderMs: request.outOfOrderMs ?? 0,
  };
  let records = 0;
  for (const { key, line } of simulate(simulator!, options)) {
    records++;
    if (records <= (from?.records ?? 0)) continue;
    const value = typeof line === "string" ? line : Buffer.from(line);
    yield { message: { key, value }, bytes: key.length + line.length, position: { records } };
  }
}

async function* replayed(
  { from, events = Number.POSITIVE_INFINITY }: ProducerRequest,
  datasets: Datasets,
  objects: readonly string[],
  stream: StreamNode,
): AsyncGenerator<PositionedMessage> {
  const keyOf = keyReader(stream);
  let left = events;
  for (const object of objects) {
    if (from?.object !== undefined && object < from.object) continue;
    const skipped = object === from?.object ? from.records : 0;
    let records = 0;
    for await (const value of datasets.lines(object)) {
      records++;
      if (records <= skipped) continue;
      if (left-- <= 0) return;
      const key = keyOf(value);
      const bytes = value.length + (key?.length ?? 0);
      yield { message: { key, value }, bytes, position: { object, records } };
    }
  }
}

/** A record's key is that of its stream; without one, or where it cannot be read, there is none. */
function keyReader(stream: StreamNode): (line: Buffer) => string | null {
  const field = stream.fields.find(({ name }) => name === stream.key);
  if (field === undefined) return () => null;
  return (line) => {
    let value: unknown;
    try {
      value = JSON.parse(line.toString("utf8"));
    } catch {
      return null;
    }
    for (const step of field.path) {
      if (typeof value !== "object" || value === null) return null;
      value = Reflect.get(value, step);
    }
    const isKey = typeof value === "string" || typeof value === "number";
    return isKey ? String(value) : null;
  };
}

/** Sends at the request's rate until the records end or time does. */
class Run {
  sent = 0;
  readonly #request: ProducerRequest;
  readonly #topic: string;
  readonly #context: InvocationContext;
  readonly #startedAt = performance.now();
  #position: ProducerPosition | undefined;

  constructor(request: ProducerRequest, topic: string, context: InvocationContext) {
    this.#request = request;
    this.#topic = topic;
    this.#context = context;
    this.#position = request.from;
  }

  async send(
    records: AsyncGenerator<PositionedMessage>,
    producer: KafkaProducer,
  ): Promise<ProducerResponse> {
    let [messages, bytes]: [KafkaMessage[], number] = [[], 0];
    let position = this.#position;
    const flush = async () => {
      await producer.send(this.#topic, messages);
      this.sent += messages.length;
      this.#position = position;
      [messages, bytes] = [[], 0];
    };
    for await (const record of records) {
      const isDue = this.sent + messages.length < this.#due();
      const isFull = messages.length >= SEND_RECORDS_MAX || bytes + record.bytes > SEND_BYTES_MAX;
      if (messages.length > 0 && (!isDue || isFull)) await flush();
      if (!this.#hasTime() || !(await this.#untilDue())) return this.#response(false);
      messages.push(record.message);
      bytes += record.bytes;
      ({ position } = record);
    }
    await flush();
    return this.#response(true);
  }

  /** How many records should have been sent by now. */
  #due(): number {
    const { rate } = this.#request;
    if (rate === undefined) return Number.POSITIVE_INFINITY;
    return Math.floor(((performance.now() - this.#startedAt) * rate) / 1000) + 1;
  }

  #hasTime(): boolean {
    return this.#context.getRemainingTimeInMillis() > DEADLINE_MARGIN_MS;
  }

  /** False when time ran out before the next record was due. */
  async #untilDue(): Promise<boolean> {
    while (this.sent >= this.#due()) {
      await sleep(TICK_MS);
      if (!this.#hasTime()) return false;
    }
    return true;
  }

  #response(done: boolean): ProducerResponse {
    const answer = { topic: this.#topic, sent: this.sent, done };
    if (done) return answer;
    const { events, dataset, ...request } = this.#request;
    const from = this.#position ?? { records: 0 };
    const isLimited = dataset !== undefined && events !== undefined;
    const left = isLimited ? events - this.sent : events;
    return {
      ...answer,
      next: {
        ...request,
        ...(dataset !== undefined && { dataset }),
        ...(left !== undefined && { events: left }),
        from,
      },
    };
  }
}
