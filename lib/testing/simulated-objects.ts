/**
 * Objects that records arrive in, in a simulated world: a bucket as each process sees it, and the
 * notifications of it in every form that they come in. When they come is for others.
 */
import type { FoundObject, ObjectSource } from "../sources/objects/object-source.js";
import type { SimulatedProcess, World } from "./world.js";

/** A file of one stream's records, a line each. */
export interface IncomingObject {
  readonly stream: string;
  readonly key: string;
  /** Of all its records, as their timestamp. */
  readonly modifiedMs: number;
  readonly lines: readonly string[];
}

export const INCOMING_BUCKET = "simulated-bucket";

export class IncomingBucket {
  readonly #world: World;
  readonly #prefix: string;
  readonly #objects = new Map<string, { readonly found: FoundObject; readonly bytes: Buffer }>();

  constructor(world: World, prefix: string) {
    this.#world = world;
    this.#prefix = prefix;
  }

  put({ key, lines, modifiedMs }: IncomingObject): void {
    const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(""));
    this.#objects.set(key, { found: { key, etag: "1", bytes: bytes.length, modifiedMs }, bytes });
  }

  remove(key: string): void {
    this.#objects.delete(key);
  }

  /** As one process sees it. */
  of(process: SimulatedProcess): ObjectSource {
    const read = <T>(what: string, apply: () => T) =>
      this.#world.call(process, { what, isWrite: false, apply });
    return {
      describe: (key) => read(`describe ${key}`, () => this.#objects.get(key)?.found ?? null),
      range: ({ key }, from, to) =>
        read(`read ${key}`, () => this.#objects.get(key)?.bytes.subarray(from, to) ?? null),
    };
  }

  /** What a function is invoked with: S3's own notification, EventBridge's, or SQS around one. */
  eventOf(keys: readonly string[]): unknown {
    const { random } = this.#world;
    const full = keys.map((key) => this.#prefix + key);
    if (full.length === 1 && random.unit() < 0.3) return eventBridge(full[0]!);
    if (random.unit() < 0.3) return { Records: full.map(s3Record) };
    const messages = full.map((key) =>
      random.unit() < 0.5 ? eventBridge(key) : { Records: [s3Record(key)] },
    );
    const record = (message: unknown) => ({
      eventSource: "aws:sqs",
      body: JSON.stringify(message),
    });
    return { Records: messages.map(record) };
  }
}

const s3Record = (key: string) => ({
  eventSource: "aws:s3",
  s3: {
    bucket: { name: INCOMING_BUCKET },
    // As in a URL's query.
    object: { key: encodeURIComponent(key).replaceAll("%20", "+") },
  },
});

const eventBridge = (key: string) => ({
  "detail-type": "Object Created",
  detail: { bucket: { name: INCOMING_BUCKET }, object: { key } },
});
