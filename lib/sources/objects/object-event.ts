/**
 * The notifications that say "a new object": of S3 itself and of EventBridge, also inside messages
 * of SQS. Which objects are wanted is left to others.
 */
import { MillpondError } from "../../errors.js";

export interface NewObject {
  readonly bucket: string;
  readonly key: string;
}

/** Messages inside messages: SQS around S3 or EventBridge. */
const DEPTH_MAX = 2;

/**
 * The objects an event names, each once, in order. Throws `MillpondError("INPUT")` when it is none
 * of the known notifications.
 *
 * @example
 * for (const { bucket, key } of newObjects(event)) await ingest(key);
 */
export function newObjects(event: unknown): NewObject[] {
  const byName = new Map<string, NewObject>();
  for (const object of found(event, 0)) byName.set(`${object.bucket}/${object.key}`, object);
  return [...byName.values()];
}

function found(event: unknown, depth: number): NewObject[] {
  if (field(event, "detail-type") === "Object Created") {
    const bucket = field(field(field(event, "detail"), "bucket"), "name");
    const key = field(field(field(event, "detail"), "object"), "key");
    if (typeof bucket === "string" && typeof key === "string") return [{ bucket, key }];
  }
  // S3 sends it once when notifications are set up.
  if (field(event, "Event") === "s3:TestEvent") return [];
  const records = field(event, "Records");
  if (!Array.isArray(records)) throw unknownEvent(event);
  return records.flatMap((record: unknown) => inRecord(record, depth));
}

function inRecord(record: unknown, depth: number): NewObject[] {
  const body = field(record, "body");
  if (field(record, "eventSource") === "aws:sqs" && typeof body === "string" && depth < DEPTH_MAX) {
    return found(parsed(body), depth + 1);
  }
  const s3 = field(record, "s3");
  const bucket = field(field(s3, "bucket"), "name");
  const key = field(field(s3, "object"), "key");
  if (typeof bucket !== "string" || typeof key !== "string") throw unknownEvent(record);
  // S3 writes keys as in a URL's query.
  return [{ bucket, key: decoded(key, record) }];
}

function decoded(key: string, record: unknown): string {
  try {
    return decodeURIComponent(key.replaceAll("+", " "));
  } catch {
    throw unknownEvent(record);
  }
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    throw unknownEvent(body);
  }
}

function field(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return new Map<string, unknown>(Object.entries(value)).get(name);
}

function unknownEvent(event: unknown): MillpondError {
  return new MillpondError(
    "INPUT",
    `the event names no new object: ${(JSON.stringify(event) ?? "undefined").slice(0, 200)}. ` +
      "Expected S3's notification or EventBridge's \"Object Created\", also inside SQS messages",
  );
}
