/**
 * What a producer is asked to send, proved: fields of the invocation's event over those of
 * MILLPOND_PRODUCER. The schedule's own event asks for what the environment says, at its time.
 */
import { MillpondError } from "../errors.js";
import { SIMULATIONS, type Simulation } from "../sources/simulate/simulate.js";

/** Where a request goes on that ran out of time. */
export interface ProducerPosition {
  /** A data set's object; absent for a simulator. */
  readonly object?: string;
  /** Records of it (or of the simulation) that were sent. */
  readonly records: number;
}

/** The event, as its JSON is: see docs/dev.md for a table of the fields. */
export interface ProducerRequest {
  readonly simulator?: Simulation;
  /** An object, or all objects of a folder, beneath `datasets/`: NDJSON, also gzipped. */
  readonly dataset?: string;
  /** Needed where the pipeline has several. */
  readonly stream?: string;
  /** How many; a data set's end by default. */
  readonly events?: number;
  /** Records a second; as fast as Kafka takes them by default. */
  readonly rate?: number;
  /** A simulator's events per second of event time; `rate` by default, else 1,000. */
  readonly eventRate?: number;
  readonly seed?: number;
  /** ISO time of a simulator's first event; by default such that the events are about now. */
  readonly start?: string;
  /** Shares of events, 0 to 1. */
  readonly late?: number;
  readonly duplicates?: number;
  readonly malformed?: number;
  readonly outOfOrderMs?: number;
  readonly from?: ProducerPosition;
}

const EVENTS_MAX = 1_000_000_000;
const RATE_MAX = 1_000_000;
/** Rates below make waits that outlast a function. */
const RATE_MIN = 0.1;

type Fields = Readonly<Record<string, unknown>>;
type Check = (value: unknown) => boolean;

const isNumber =
  (min: number, max: number): Check =>
  (value) =>
    typeof value === "number" && value >= min && value <= max;
const isWhole =
  (min: number, max: number): Check =>
  (value) =>
    Number.isSafeInteger(value) && isNumber(min, max)(value);
const isText: Check = (value) => typeof value === "string" && value !== "";
const isShare = { expected: "a number from 0 to 1", holds: isNumber(0, 1) };

const FIELDS: Readonly<Record<keyof ProducerRequest, { expected: string; holds: Check }>> = {
  simulator: {
    expected: `one of ${SIMULATIONS.join(", ")}`,
    holds: (value) => SIMULATIONS.some((name) => name === value),
  },
  dataset: {
    expected: 'a path beneath datasets/, such as "clicks/" or "clicks/day-1.ndjson.gz"',
    holds: (value) =>
      typeof value === "string" && /^(?!.*\.\.)[\w!.*'()=-][\w!.*'()=/-]*$/.test(value),
  },
  stream: { expected: "a stream's name", holds: isText },
  events: { expected: `a whole number from 1 to ${EVENTS_MAX}`, holds: isWhole(1, EVENTS_MAX) },
  rate: {
    expected: `records a second, ${RATE_MIN} to ${RATE_MAX}`,
    holds: isNumber(RATE_MIN, RATE_MAX),
  },
  eventRate: {
    expected: `events a second, ${RATE_MIN} to ${RATE_MAX}`,
    holds: isNumber(RATE_MIN, RATE_MAX),
  },
  seed: {
    expected: "a whole number from 0",
    holds: isWhole(0, Number.MAX_SAFE_INTEGER),
  },
  start: {
    expected: 'an ISO time with its offset, such as "2025-01-01T00:00:00Z"',
    holds: (value) =>
      typeof value === "string" &&
      /(Z|[+-]\d\d:?\d\d)$/.test(value) &&
      !Number.isNaN(Date.parse(value)),
  },
  late: isShare,
  duplicates: isShare,
  malformed: isShare,
  outOfOrderMs: { expected: "milliseconds from 0 to 120000", holds: isWhole(0, 120_000) },
  from: { expected: 'what a response gave as "next.from"', holds: isPosition },
};

function isPosition(value: unknown): boolean {
  if (!isObject(value) || !("records" in value)) return false;
  if (!isWhole(0, Number.MAX_SAFE_INTEGER)(value.records)) return false;
  return !("object" in value) || isText(value.object);
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * @param event an event of a schedule, or a JSON object of `ProducerRequest`'s fields
 * @param defaults MILLPOND_PRODUCER: such an object, as text
 * @param now epoch ms, for an invocation that names no time
 * @throws MillpondError USAGE that names the field
 */
export function producerRequest(
  event: unknown,
  defaults: string | undefined,
  now: number,
): { readonly request: ProducerRequest; readonly invokedAtMs: number } {
  const base = parseDefaults(defaults);
  const scheduledMs = scheduledAtMs(event);
  if (scheduledMs !== null) {
    return { request: checked(base, "MILLPOND_PRODUCER"), invokedAtMs: scheduledMs };
  }
  if (!isObject(event ?? {})) {
    throw new MillpondError("USAGE", "the producer's event is no JSON object of its fields");
  }
  const fields = isObject(event) ? event : {};
  // One source: an event that names its own puts that of the environment aside.
  const { simulator, dataset, ...others } = base;
  const named = "simulator" in fields || "dataset" in fields;
  const merged = named ? { ...others, ...fields } : { ...base, ...fields };
  return { request: checked(merged, "the producer's event"), invokedAtMs: now };
}

function parseDefaults(text: string | undefined): Fields {
  if (text === undefined || text === "") return {};
  try {
    const found: unknown = JSON.parse(text);
    if (isObject(found)) return found;
  } catch {
    // Said below.
  }
  throw new MillpondError(
    "USAGE",
    'MILLPOND_PRODUCER is no JSON object; give one such as {"simulator":"sensors","events":6000}',
  );
}

/** When EventBridge's schedule fired; the same when Lambda tries that event again. */
function scheduledAtMs(event: unknown): number | null {
  if (!isObject(event) || event["detail-type"] !== "Scheduled Event") return null;
  const time = typeof event.time === "string" ? Date.parse(event.time) : Number.NaN;
  return Number.isNaN(time) ? null : time;
}

function checked(fields: Fields, where: string): ProducerRequest {
  const names = Object.keys(FIELDS);
  for (const [name, value] of Object.entries(fields)) {
    const field = isField(name) ? FIELDS[name] : undefined;
    if (field === undefined) {
      throw new MillpondError(
        "USAGE",
        `${where}: no field "${name}"; there are ${names.join(", ")}`,
      );
    }
    if (field.holds(value)) continue;
    const found = JSON.stringify(value);
    throw new MillpondError("USAGE", `${where}: ${name} is ${found}; give ${field.expected}`);
  }
  const request: ProducerRequest = fields;
  if ((request.simulator === undefined) === (request.dataset === undefined)) {
    throw new MillpondError("USAGE", `${where}: give either "simulator" or "dataset"`);
  }
  if (request.simulator !== undefined && request.events === undefined) {
    throw new MillpondError("USAGE", `${where}: a simulator needs "events", how many to send`);
  }
  return request;
}

const isField = (name: string): name is keyof ProducerRequest => Object.hasOwn(FIELDS, name);
