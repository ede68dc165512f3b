/** An object's records as slices: which formats there are, and how one is opened. */
import { MillpondError } from "../../errors.js";
import { byteInputOf } from "../files/byte-input.js";
import { type FileReader, READ_LIMITS, type ReadLimits } from "../files/file-source.js";
import { FramedReader } from "../files/framed-reader.js";
import { findLineEnd } from "../files/ndjson.js";
import type { SourcePosition } from "../source.js";
import { JsonLinesInput } from "./json-lines.js";
import { type FoundObject, type ObjectSource, objectFile } from "./object-source.js";

const OBJECT_EXTENSIONS = [".ndjson", ".jsonl", ".json"] as const;

/** Smaller than for local files: a Lambda has less memory, and state needs its share. */
const OBJECT_LIMITS: ReadLimits = { ...READ_LIMITS, lineBytesMax: 16 * 1024 * 1024 };

/**
 * Opens an object at its first record, which then has offset `nextOffset`, or where `position` of
 * an earlier reader stands. Throws `MillpondError("INPUT")` for a format that cannot be read.
 *
 * @example
 * const reader = await openObject({ source, object, stream: "clicks", partition: 0,
 *   nextOffset: 0, position: null });
 * for (let slice = await reader.read(10_000); slice !== null; …) …
 */
export async function openObject(options: {
  readonly source: ObjectSource;
  readonly object: FoundObject;
  readonly stream: string;
  readonly partition: number;
  readonly nextOffset: number;
  readonly position: SourcePosition | null;
}): Promise<FileReader> {
  const { source, object, stream, partition, nextOffset, position } = options;
  const { key, bytes: size, modifiedMs: mtimeMs } = object;
  const plain = key.replace(/\.gz$/, "");
  if (!OBJECT_EXTENSIONS.some((extension) => plain.endsWith(extension))) {
    throw new MillpondError(
      "INPUT",
      `object "${key}" is in no format that can be read; its name must end in ` +
        `${OBJECT_EXTENSIONS.join(", ")}, each also with .gz. Write it again under such a name`,
    );
  }
  const bytes = await byteInputOf(objectFile(source, object), key);
  const input = plain.endsWith(".json") ? new JsonLinesInput(bytes) : bytes;
  const identity = { path: key, topic: stream, partition, label: key };
  const file = { input, size, mtimeMs, nextOffset };
  return FramedReader.over(file, identity, "lines", findLineEnd, OBJECT_LIMITS, position);
}
