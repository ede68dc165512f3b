/**
 * The rows of one row table as JSON records of a topic, each exactly once for readers of committed
 * records: rows and progress are one transaction. Its id belongs to the topic, so that of two sinks
 * at work the newer one fences off the older. Values are `kafka-rows.ts`'s business.
 */
import { MillpondError } from "../errors.js";
import type {
  KafkaClient,
  KafkaReader,
  KafkaTransactions,
  PartitionOffsets,
} from "../sources/kafka/client.js";
import { connectKafka } from "../sources/kafka/kafkajs-client.js";
import { kafkaSettings } from "../sources/kafka/settings.js";
import {
  type FoundProgress,
  type KafkaProgress,
  lastRecord,
  PROGRESS_TOPIC,
  progressMessage,
  progressTopic,
  readProgress,
  transactionalId,
} from "./kafka-progress.js";
import { PUBLICATION_HEADER, type RowMessage, rowMessages, SOURCE_HEADER } from "./kafka-rows.js";
import { beyondLast, type Publication, type Sink, type TableLayout } from "./sink.js";
import { checkOutput } from "./sink-output.js";

export interface KafkaSinkOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly pipeline: string;
  readonly topic: string;
  readonly layout: TableLayout;
  /** Column that gives records their key; null for none. */
  readonly keyColumn: string | null;
  /** Where the rows come from: an output topic that is missing gets as many partitions. */
  readonly sourceTopic: string;
}

/** A transaction ends after so much, at the end of a publication. */
const TRANSACTION_BYTES = 16 * 1024 * 1024;
const TRANSACTION_MS = 30_000;
/**
 * A partition's records go out as one batch, at most so large: brokers take 1 MB by default, and
 * kafkajs's work for a batch grows by the square of its records.
 */
const BATCH_BYTES = 128 * 1024;
/** Over all partitions. */
const BUFFERED_BYTES_MAX = 16 * 1024 * 1024;
/** Without a source topic, as when the input is files. */
const PARTITIONS_DEFAULT = 4;

/**
 * Brokers and login are those of the environment (`kafkaSettings`).
 *
 * @throws MillpondError (from its methods) OUTPUT when the topic is another pipeline's, CONFLICT
 *   when another sink has taken over, LIMIT when a row is larger than the topic takes, INPUT when
 *   Kafka is not reached or refuses
 * @example
 * const sink = kafkaSink({
 *   env: process.env, pipeline: "activity", topic: "enriched_activity", layout,
 *   keyColumn: "user_id", sourceTopic: "user_activity",
 * });
 */
export function kafkaSink(options: KafkaSinkOptions): Sink {
  return new KafkaTopic(options);
}

/** What both `open` and `apply` need of Kafka. */
interface Connection {
  readonly client: KafkaClient;
  readonly reader: KafkaReader;
}

class KafkaTopic implements Sink {
  readonly name: string;
  readonly #options: KafkaSinkOptions;
  readonly #columns: string;
  #connection: Connection | null = null;
  #partitionCount = 0;
  #output: string | null = null;

  constructor(options: KafkaSinkOptions) {
    this.name = `kafka (topic ${options.topic})`;
    this.#options = options;
    const columns = options.layout.columns.map(({ name, type }) => [name, type]);
    this.#columns = JSON.stringify(columns);
  }

  /**
   * Fences nobody but who does not end: the sequence may be old by the time it returns, which
   * `apply` finds out.
   */
  async open(output?: string): Promise<number> {
    this.#output = output ?? this.#output;
    this.#connection ??= await connect(this.#options.env);
    const connection = this.#connection;
    try {
      const offsets = await this.#makeTopics(connection);
      this.#partitionCount = offsets.length;
      const { progress, isSettled } = await this.#progress(connection);
      if (progress === null) return await this.#claim(connection, offsets);
      await this.#checkTopic(connection, offsets, progress);
      if (isSettled) return progress.sequence;
      return await this.#transact(async ({ sequence }) => sequence);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async apply(publications: AsyncIterable<Publication>, lastSequence: number): Promise<void> {
    const { layout, keyColumn } = this.#options;
    await this.#transact(async (pass) => {
      for await (const publication of publications) {
        const { sequence, table, batch } = publication;
        if (table !== layout.name || sequence <= pass.sequence || batch.rowCount === 0) continue;
        if (sequence > lastSequence) throw beyondLast(sequence, lastSequence);
        for (const message of rowMessages(layout, keyColumn, publication)) await pass.add(message);
        if (pass.isLarge()) await pass.commit(sequence);
      }
      if (lastSequence > pass.sequence) await pass.commit(lastSequence);
    });
  }

  async close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = null;
    await connection?.reader.close();
    await connection?.client.close();
  }

  async #makeTopics({ client }: Connection): Promise<readonly PartitionOffsets[]> {
    const { topic, sourceTopic } = this.#options;
    if ((await client.offsets(progressTopic(topic))) === null) {
      await client.createTopic(progressTopic(topic), PROGRESS_TOPIC);
    }
    const found = await client.offsets(topic);
    if (found !== null) return found;
    const partitions = (await client.offsets(sourceTopic))?.length ?? PARTITIONS_DEFAULT;
    await client.createTopic(topic, { partitions });
    return (await client.offsets(topic)) ?? [];
  }

  async #progress({ client, reader }: Connection): Promise<FoundProgress> {
    const { pipeline, topic } = this.#options;
    const found = await readProgress(client, reader, topic);
    const { progress } = found;
    if (progress === null) return found;
    if (progress.pipeline !== pipeline) {
      throw new MillpondError(
        "OUTPUT",
        `topic ${topic} belongs to pipeline "${progress.pipeline}", not "${pipeline}": give this ` +
          "pipeline another topic",
      );
    }
    checkOutput(`topic ${topic}`, progress.output ?? null, this.#output);
    if (progress.columns === this.#columns) return found;
    throw new MillpondError(
      "OUTPUT",
      `topic ${topic} has rows with the columns ${progress.columns}, but the definition now has ` +
        `${this.#columns}: give the changed pipeline another topic`,
    );
  }

  /** A topic without progress: of someone else, or new, or one whose progress was removed. */
  async #claim(connection: Connection, offsets: readonly PartitionOffsets[]): Promise<number> {
    const { topic } = this.#options;
    for (const partition of offsets) {
      const last = await lastRecord(connection.reader, topic, partition);
      if (last?.headers.every(({ name }) => name !== PUBLICATION_HEADER) ?? true) continue;
      throw new MillpondError(
        "OUTPUT",
        `topic ${topic} holds a pipeline's rows, but ${progressTopic(topic)}, which says up to ` +
          "which, lost its record: rows could come twice. Give the pipeline another topic, or " +
          "remove both",
      );
    }
    return this.#transact(async (pass) => {
      if (!pass.isClaimed) await pass.commit(0);
      return pass.sequence;
    });
  }

  async #checkTopic(
    { reader }: Connection,
    offsets: readonly PartitionOffsets[],
    { ends }: KafkaProgress,
  ): Promise<void> {
    const { topic } = this.#options;
    for (const [name, end] of Object.entries(ends)) {
      const partition = Number(name);
      const high = offsets[partition]?.high;
      if (high !== undefined && high >= end) continue;
      // Another producer's open transaction may hold the committed end back.
      const from = { topic, partition, offset: high ?? 0 };
      const [range] = high === undefined ? [] : await reader.fetch([from], 0);
      if (range !== undefined && range.highWatermark >= end) continue;
      throw new MillpondError(
        "OUTPUT",
        `topic ${topic} is not the one that rows were written to: its partition ${partition} ` +
          `ends at ${range?.highWatermark ?? "nothing"}, but had reached ${end}. Restore it, or ` +
          "give the pipeline another topic and process the input again into a new output",
      );
    }
  }

  /** `work` sends in transactions that nobody else can get between. */
  async #transact<T>(work: (pass: Pass) => Promise<T>): Promise<T> {
    const connection = this.#connection;
    if (connection === null) {
      throw new MillpondError("USAGE", "The Kafka sink is not open: call open() first.");
    }
    const { pipeline, topic } = this.#options;
    const transactions = await connection.client.transactions(transactionalId(topic));
    try {
      await transactions.begin();
      // Only now: what had the id before has committed or never will.
      const { progress, isSettled } = await this.#progress(connection);
      if (!isSettled) throw hanging(topic);
      const known = { pipeline, columns: this.#columns, sequence: 0, ends: {}, ...progress };
      const isClaimed = progress !== null;
      return await work(
        new Pass({
          transactions,
          topic,
          partitionCount: this.#partitionCount,
          known,
          isClaimed,
          output: this.#output,
        }),
      );
    } finally {
      await transactions.close();
    }
  }
}

interface PassOptions {
  readonly transactions: KafkaTransactions;
  readonly topic: string;
  readonly partitionCount: number;
  /** Before the first commit. */
  readonly known: KafkaProgress;
  readonly isClaimed: boolean;
  readonly output: string | null;
}

/** Transactions of one call: the first is begun by the caller, each other with its first row. */
class Pass {
  readonly isClaimed: boolean;
  readonly #options: PassOptions;
  #known: KafkaProgress;
  readonly #ends = new Map<number, number>();
  readonly #buffers = new Map<number, Buffered>();
  #bufferedBytes = 0;
  #bytes = 0;
  #isBegun = true;
  #begunAtMs = performance.now();

  constructor(options: PassOptions) {
    this.#options = options;
    this.isClaimed = options.isClaimed;
    this.#known = options.known;
  }

  get sequence(): number {
    return this.#known.sequence;
  }

  isLarge(): boolean {
    const ageMs = performance.now() - this.#begunAtMs;
    return this.#bytes >= TRANSACTION_BYTES || ageMs >= TRANSACTION_MS;
  }

  /** A source partition's rows stay in one output partition, of the same number if there is one. */
  async add(message: RowMessage): Promise<void> {
    await this.#begin();
    const partition = message.partition % this.#options.partitionCount;
    const buffer = this.#buffers.get(partition) ?? { messages: [], bytes: 0 };
    this.#buffers.set(partition, buffer);
    const bytes = sizeOf(message);
    if (buffer.messages.length > 0 && buffer.bytes + bytes > BATCH_BYTES) {
      await this.#flush(partition, buffer);
    }
    buffer.messages.push(message);
    buffer.bytes += bytes;
    this.#bytes += bytes;
    this.#bufferedBytes += bytes;
    if (this.#bufferedBytes >= BUFFERED_BYTES_MAX) await this.#flushAll();
  }

  /** All rows up to this publication are there, and the sink's progress says so, or neither. */
  async commit(sequence: number): Promise<void> {
    await this.#begin();
    await this.#flushAll();
    const { transactions, topic, output } = this.#options;
    const ends = { ...this.#known.ends, ...Object.fromEntries(this.#ends) };
    const taken = sequence > 0 && output !== null ? { output } : {};
    const progress = { ...this.#known, ...taken, sequence, ends };
    const to = { topic: progressTopic(topic), partition: 0 };
    await transactions.send(to, [progressMessage(progress)]);
    await transactions.commit();
    this.#known = progress;
    this.#isBegun = false;
  }

  async #begin(): Promise<void> {
    if (this.#isBegun) return;
    await this.#options.transactions.begin();
    this.#isBegun = true;
    this.#bytes = 0;
    this.#begunAtMs = performance.now();
  }

  async #flushAll(): Promise<void> {
    await Promise.all([...this.#buffers].map(([to, buffer]) => this.#flush(to, buffer)));
  }

  async #flush(partition: number, buffer: Buffered): Promise<void> {
    const messages = buffer.messages.splice(0);
    this.#bufferedBytes -= buffer.bytes;
    buffer.bytes = 0;
    if (messages.length > 0) await this.#send(partition, messages);
  }

  /** A topic that takes less than a batch gets it in halves. */
  async #send(partition: number, messages: readonly RowMessage[]): Promise<void> {
    const { transactions, topic } = this.#options;
    try {
      this.#ends.set(partition, await transactions.send({ topic, partition }, messages));
    } catch (error) {
      if (!(error instanceof MillpondError) || error.code !== "LIMIT") throw error;
      if (messages.length === 1) throw rowTooLarge(topic, messages[0]!, error);
      const half = messages.length >> 1;
      await this.#send(partition, messages.slice(0, half));
      await this.#send(partition, messages.slice(half));
    }
  }
}

interface Buffered {
  readonly messages: RowMessage[];
  bytes: number;
}

/** Room for headers and Kafka's own fields of a record. */
const RECORD_BYTES = 200;

const sizeOf = ({ key, value }: RowMessage): number =>
  value.length + (key?.length ?? 0) + RECORD_BYTES;

async function connect(env: KafkaSinkOptions["env"]): Promise<Connection> {
  const client = await connectKafka(await kafkaSettings(env));
  return { client, reader: await client.reader() };
}

function rowTooLarge(topic: string, { headers, value }: RowMessage, cause: unknown) {
  const [from, partition, offset] = headers[SOURCE_HEADER]!.split("/");
  return new MillpondError(
    "LIMIT",
    `the row of ${from}, partition ${partition}, offset ${offset} has ${value.length} bytes as ` +
      `JSON, more than topic ${topic} takes: raise its max.message.bytes, or select fewer columns`,
    { cause },
  );
}

/**
 * A broker that went down between saying that a transaction is committed and writing so may never
 * write it (KIP-664): what the log shows is then not what was said, and sending on could double.
 */
function hanging(topic: string): MillpondError {
  return new MillpondError(
    "STORAGE",
    `a transaction of this pipeline hangs in topic ${progressTopic(topic)}: its broker went down ` +
      "before it wrote the end. Find it with Kafka's kafka-transactions.sh find-hanging, end it " +
      "there, in this topic and in the rows' topic; nothing is sent until then",
  );
}
