/** A partition's checkpoint as its users see it, and as the attributes of a stored item. */
import { MillpondError } from "../errors.js";
import type { SourcePosition } from "../sources/source.js";
import type { StateObject, StatePlaces } from "./decisions.js";
import type { CheckpointItem } from "./ports.js";

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

/** Closed partials and event rows of one commit, in one object until the publisher took them. */
export interface OutboxEntry {
  readonly sequence: number;
  readonly key: string;
  readonly bytes: number;
  /**
   * The partition's greatest event time as of this entry, epoch ms, so that a backlog can be taken
   * in steps; null before the first event.
   */
  readonly maxEventTime: number | null;
  /** Wall clock of the commit, epoch ms: tells how old a backlog is, and nothing else. */
  readonly committedAtMs: number;
}

/** What a caller decides per commit; the rest of a checkpoint is the committer's. */
export interface Progress {
  /** Records below this offset are done. */
  readonly nextOffset: number;
  /** Epoch ms; the watermark is this minus the lateness. Null before the first event. */
  readonly maxEventTime: number | null;
  /** Where the source stands, for its next `open`. */
  readonly position: SourcePosition | null;
  /** Opaque to the committer: accounting and whatever else the runtime must not lose. */
  readonly meta: JsonObject;
}

export interface Checkpoint extends Progress {
  readonly generation: number;
  readonly commitId: string;
  readonly definitionHash: string;
  readonly state: StatePlaces;
  readonly stateBytes: number;
  /** Of `stateBytes`, what came after the base. */
  readonly deltaBytes: number;
  /** Ascending by sequence. */
  readonly outbox: readonly OutboxEntry[];
  /** The first entry ever is 1. */
  readonly nextOutboxSequence: number;
}

/** Names sort as their numbers up to 12 digits. */
export function stateKey(id: string, generation: number, commitId: string): string {
  return `${id}/state/${String(generation).padStart(12, "0")}-${commitId}`;
}

export function outboxKey(id: string, sequence: number, commitId: string): string {
  return `${id}/outbox/${String(sequence).padStart(12, "0")}-${commitId}`;
}

/** The item's attributes; outbox keys are shortened to the commit id that `outboxKey` needs. */
export function toAttributes(checkpoint: Checkpoint): Record<string, unknown> {
  const { generation: _generation, commitId: _commitId, outbox, ...rest } = checkpoint;
  return {
    ...rest,
    outbox: outbox.map(({ sequence, key, bytes, maxEventTime, committedAtMs }) => [
      sequence,
      key.slice(key.lastIndexOf("-") + 1),
      bytes,
      maxEventTime,
      committedAtMs,
    ]),
  };
}

/** Throws `MillpondError("STORAGE")` when it is not the item of a partition's checkpoint. */
export function fromItem(id: string, item: CheckpointItem): Checkpoint {
  const read = new AttributeReader(id, item.attributes);
  const state = read.object("state");
  return {
    generation: item.generation,
    commitId: item.commitId,
    definitionHash: read.string("definitionHash"),
    nextOffset: read.number("nextOffset"),
    maxEventTime: read.get("maxEventTime") === null ? null : read.number("maxEventTime"),
    position: read.position(),
    meta: read.meta(),
    state: {
      objects: state.array("objects").map((object): StateObject => {
        const fields = new AttributeReader(id, object);
        return { key: fields.string("key"), pieceBytes: fields.numbers("pieceBytes") };
      }),
      inlinePieceBytes: state.numbers("inlinePieceBytes"),
    },
    stateBytes: read.number("stateBytes"),
    deltaBytes: read.number("deltaBytes"),
    outbox: read.array("outbox").map((entry): OutboxEntry => {
      const fields = new AttributeReader(id, entry);
      const sequence = fields.number("0");
      return {
        sequence,
        key: outboxKey(id, sequence, fields.string("1")),
        bytes: fields.number("2"),
        maxEventTime: fields.get("3") === null ? null : fields.number("3"),
        committedAtMs: fields.number("4"),
      };
    }),
    nextOutboxSequence: read.number("nextOutboxSequence"),
  };
}

/** Reads one JSON object (or array, by index), and says which attribute is wrong. */
class AttributeReader {
  readonly #id: string;
  readonly #fields: ReadonlyMap<string, unknown>;

  constructor(id: string, value: unknown) {
    this.#id = id;
    const isObject = typeof value === "object" && value !== null;
    this.#fields = new Map<string, unknown>(isObject ? Object.entries(value) : []);
  }

  get(name: string): unknown {
    return this.#fields.get(name);
  }

  string(name: string): string {
    const value = this.get(name);
    return typeof value === "string" ? value : this.#refuse(name, "a string");
  }

  number(name: string): number {
    const value = this.get(name);
    return typeof value === "number" ? value : this.#refuse(name, "a number");
  }

  array(name: string): unknown[] {
    const value = this.get(name);
    return Array.isArray(value) ? value : this.#refuse(name, "an array");
  }

  numbers(name: string): number[] {
    return this.array(name).map((value) =>
      typeof value === "number" ? value : this.#refuse(name, "an array of numbers"),
    );
  }

  object(name: string): AttributeReader {
    return new AttributeReader(this.#id, this.get(name));
  }

  meta(): JsonObject {
    const value = this.get("meta");
    return isJsonObject(value) ? value : this.#refuse("meta", "an object");
  }

  position(): SourcePosition | null {
    const value = this.get("position");
    if (value === null) return null;
    return isPosition(value) ? value : this.#refuse("position", "an object of plain values");
  }

  #refuse(name: string, expected: string): never {
    throw new MillpondError(
      "STORAGE",
      `checkpoint "${this.#id}": attribute "${name}" is ${JSON.stringify(this.get(name))}, ` +
        `expected ${expected}. Another version wrote it, or it is damaged: use the version that ` +
        "wrote it, or process the input again into a new output",
    );
  }
}

/** Store attributes come from JSON, so an object's values are JSON as well. */
function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isPosition(value: unknown): value is SourcePosition {
  return (
    isJsonObject(value) &&
    Object.values(value).every((field) => field === null || typeof field !== "object")
  );
}
