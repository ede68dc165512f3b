/** A `millpond tail` from its first fetch to its last record; how a record looks is not its own. */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { MillpondError } from "../errors.js";
import type {
  FetchedRange,
  KafkaClient,
  KafkaReader,
  PartitionOffsets,
} from "../sources/kafka/client.js";
import { connectKafka } from "../sources/kafka/kafkajs-client.js";
import { kafkaSettings } from "../sources/kafka/settings.js";
import type { TailFlags, TailFrom } from "./tail.js";
import { type RecordLines, recordLines, type TailRecord } from "./tail-lines.js";

const LAST_RECORDS = 10;
const WAIT_MS = 500;
const RETRY_MS = 1_000;

export async function tail(name: string, flags: TailFlags): Promise<void> {
  const env = { ...process.env, ...bootstrapOf(flags.bootstrap) };
  const { topic, lines } = await recordLines(name, flags, env);
  const client = await connectKafka(await kafkaSettings(env));
  try {
    const offsets = await partitionsOf(client, topic, flags.partition);
    const reader = await client.reader();
    try {
      await new Tail({ topic, flags, client, reader, lines, offsets }).run();
    } finally {
      await reader.close();
    }
  } finally {
    await client.close();
  }
}

/** Without any setting, a broker on this machine. */
export function bootstrapOf(given: string | undefined): { readonly MILLPOND_BOOTSTRAP?: string } {
  if (given !== undefined) return { MILLPOND_BOOTSTRAP: given };
  const { MILLPOND_BOOTSTRAP, MILLPOND_CLUSTER_ARN } = process.env;
  const isNamed = MILLPOND_BOOTSTRAP !== undefined || MILLPOND_CLUSTER_ARN !== undefined;
  return isNamed ? {} : { MILLPOND_BOOTSTRAP: "localhost:9092" };
}

async function partitionsOf(
  client: KafkaClient,
  topic: string,
  wanted: number | undefined,
): Promise<readonly PartitionOffsets[]> {
  const offsets = await client.offsets(topic);
  if (offsets === null) {
    throw new MillpondError(
      "INPUT",
      `there is no topic "${topic}", or this login may not see it: check its name; millpond ` +
        "produce and millpond dev make topics that are missing",
    );
  }
  const found = offsets.filter(({ partition }) => wanted === undefined || partition === wanted);
  if (found.length > 0) return found;
  throw new MillpondError(
    "USAGE",
    `--partition: topic ${topic} has no partition ${wanted}; it has 0 to ${offsets.length - 1}`,
  );
}

interface TailOptions {
  readonly topic: string;
  readonly flags: TailFlags;
  readonly client: KafkaClient;
  readonly reader: KafkaReader;
  readonly lines: RecordLines;
  readonly offsets: readonly PartitionOffsets[];
}

class Tail {
  readonly #options: TailOptions;
  /** Where each partition is read next. */
  readonly #positions = new Map<number, number>();
  #shown = 0;

  constructor(options: TailOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const { flags, offsets } = this.#options;
    const ends = new Map(offsets.map(({ partition, high }) => [partition, high]));
    if (flags.from === undefined) await this.#showLast(flags.limit ?? LAST_RECORDS);
    else {
      await this.#begin(flags.from);
      await this.#readTo(ends);
    }
    while (flags.follow === true && !this.#isDone()) await this.#follow();
  }

  async #begin(from: TailFrom): Promise<void> {
    const { topic, client, offsets } = this.#options;
    const at = from.kind === "time" ? await client.offsetsAt(topic, from.timestampMs) : null;
    if (from.kind === "offset" && offsets.length > 1) {
      throw new MillpondError(
        "USAGE",
        `--from ${from.offset}: topic ${topic} has ${offsets.length} partitions, each with its ` +
          "own offsets; give --partition too",
      );
    }
    for (const { partition, low, high } of offsets) {
      const wanted = {
        beginning: () => low,
        end: () => high,
        offset: () => (from.kind === "offset" ? from.offset : low),
        time: () => at?.get(partition) ?? high,
      }[from.kind]();
      if (wanted < low) note(`partition ${partition} begins at ${low}: earlier ones are not kept`);
      if (wanted > high) note(`partition ${partition} ends at ${high}: nothing is there yet`);
      this.#positions.set(partition, Math.min(high, Math.max(low, wanted)));
    }
  }

  /** Of all partitions the newest, by their timestamps. */
  async #showLast(count: number): Promise<void> {
    let last: TailRecord[] = [];
    for (const { partition, low, high } of this.#options.offsets) {
      for (let offset = Math.max(low, high - count); offset < high; ) {
        const [range] = await this.#fetch([[partition, offset]], 0);
        if (range === undefined) break;
        const records = range.records.filter((record) => record.offset < high);
        last.push(...records.map((record) => ({ ...record, partition })));
        last = last.toSorted(byTime).slice(-count);
        offset = range.nextOffset;
      }
      this.#positions.set(partition, high);
    }
    await this.#show(last);
    this.#shown = 0;
  }

  async #readTo(ends: ReadonlyMap<number, number>): Promise<void> {
    for (;;) {
      const left = [...this.#positions].filter(([partition, at]) => at < ends.get(partition)!);
      if (left.length === 0 || this.#isDone()) return;
      await this.#take(await this.#fetch(left, 0), ends);
    }
  }

  async #follow(): Promise<void> {
    try {
      await this.#take(await this.#fetch([...this.#positions], WAIT_MS), null);
    } catch (error) {
      note(`${error instanceof Error ? error.message : String(error)}; trying again`);
      await sleep(RETRY_MS);
      await this.#catchUp();
    }
  }

  /** What a topic does not keep any more is passed over, with a word. */
  async #catchUp(): Promise<void> {
    const offsets = await this.#options.client.offsets(this.#options.topic).catch(() => null);
    for (const { partition, low } of offsets ?? []) {
      const at = this.#positions.get(partition);
      if (at === undefined || at >= low) continue;
      note(`partition ${partition}: offsets ${at} to ${low - 1} are not kept any more`);
      this.#positions.set(partition, low);
    }
  }

  async #take(
    ranges: readonly FetchedRange[],
    ends: ReadonlyMap<number, number> | null,
  ): Promise<void> {
    for (const { partition, records, nextOffset } of ranges) {
      const end = ends?.get(partition) ?? Number.POSITIVE_INFINITY;
      const wanted = records.filter(({ offset }) => offset < end);
      await this.#show(wanted.map((record) => ({ ...record, partition })));
      this.#positions.set(partition, nextOffset);
    }
  }

  async #show(records: readonly TailRecord[]): Promise<void> {
    const { flags, lines } = this.#options;
    const left = (flags.limit ?? Number.POSITIVE_INFINITY) - this.#shown;
    const some = records.slice(0, left);
    this.#shown += some.length;
    for (const line of lines(some)) {
      if (!process.stdout.write(`${line}\n`)) await once(process.stdout, "drain");
    }
  }

  #isDone(): boolean {
    return this.#shown >= (this.#options.flags.limit ?? Number.POSITIVE_INFINITY);
  }

  #fetch(from: readonly (readonly [number, number])[], waitMs: number): Promise<FetchedRange[]> {
    const { topic, reader } = this.#options;
    const at = from.map(([partition, offset]) => ({ topic, partition, offset }));
    return reader.fetch(at, waitMs);
  }
}

function byTime(a: TailRecord, b: TailRecord): number {
  return a.timestampMs - b.timestampMs || a.partition - b.partition || a.offset - b.offset;
}

const note = (text: string): boolean => process.stderr.write(`${text}\n`);
