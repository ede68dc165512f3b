/**
 * File input: a file or a directory of files as the partitions of a topic, a record's offset being
 * its index in its file.
 */
import { readdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import type { StreamNode } from "../../define/definition.js";
import { MillpondError } from "../../errors.js";
import type { SourcePosition } from "../source.js";
import { CsvReader } from "./csv-reader.js";
import {
  type FileIdentity,
  type FileReader,
  type FileSource,
  READ_LIMITS,
  type ReadLimits,
} from "./file-source.js";
import { FramedReader } from "./framed-reader.js";
import { findLineEnd } from "./ndjson.js";
import { ParquetReader } from "./parquet-reader.js";
import { assignPartitions, sortByBytes } from "./partitions.js";

export type { FileReader, FileSource } from "./file-source.js";
export { assignPartitions, type PartitionAssignment } from "./partitions.js";

type OpenReader = (
  identity: FileIdentity,
  stream: StreamNode,
  limits: ReadLimits,
  nextOffset: number,
  position: SourcePosition | null,
) => Promise<FileReader>;

const openNdjson: OpenReader = (identity, _stream, limits, nextOffset, position) =>
  FramedReader.open(identity, "ndjson", findLineEnd, limits, nextOffset, position);

const READERS: readonly { readonly extensions: readonly string[]; readonly open: OpenReader }[] = [
  {
    extensions: [".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz", ".json", ".json.gz"],
    open: openNdjson,
  },
  { extensions: [".csv", ".csv.gz"], open: CsvReader.open },
  { extensions: [".parquet"], open: ParquetReader.open },
];

export interface FileInput {
  /** A file, or a directory whose files are read; names that start with "." or "_" are not. */
  readonly path: string;
  readonly stream: StreamNode;
  /** Partition numbers of earlier runs, by file name. */
  readonly known: ReadonlyMap<string, number>;
  /** Smaller bounds, for tests. */
  readonly limits?: ReadLimits;
}

export interface FileSources {
  /** In name order. */
  readonly sources: readonly FileSource[];
  /** Known files that are not there any more. */
  readonly missing: readonly string[];
}

/**
 * The partitions of `path`. Throws `MillpondError("INPUT")` for a path that can't be read and for a
 * file in no known format.
 *
 * @example const { sources } = await openFileSources({ path: "in/", stream, known: new Map() });
 */
export async function openFileSources(input: FileInput): Promise<FileSources> {
  const { stream, limits = READ_LIMITS } = input;
  const paths = await listFiles(input.path);
  const { partitions, missing } = assignPartitions([...paths.keys()], input.known);
  const sources = sortByBytes([...paths.keys()]).map((fileName): FileSource => {
    const path = paths.get(fileName) ?? fileName;
    const partition = partitions.get(fileName) ?? 0;
    const identity = { path, topic: stream.name, partition, label: fileName };
    const openReader = readerFor(path);
    return {
      topic: stream.name,
      partition,
      label: fileName,
      fileName,
      async open(nextOffset, position) {
        if (nextOffset > 0 && position === null) {
          throw new MillpondError(
            "INPUT",
            `${path}: the checkpoint stands at record ${nextOffset} without a position in the ` +
              `file. Start over with a new --out directory.`,
          );
        }
        const from = nextOffset === 0 ? null : position;
        return orInputError(path, () => openReader(identity, stream, limits, nextOffset, from));
      },
    };
  });
  return { sources, missing };
}

/** Paths by file name. */
async function listFiles(path: string): Promise<Map<string, string>> {
  const kind = await orInputError(path, () => stat(path));
  if (!kind.isDirectory()) return new Map([[basename(path), path]]);
  const names = await orInputError(path, () => readdir(path));
  const paths = new Map<string, string>();
  for (const name of names) {
    if (name.startsWith(".") || name.startsWith("_")) continue;
    const filePath = join(path, name);
    const entry = await orInputError(filePath, () => stat(filePath));
    if (entry.isDirectory()) {
      throw new MillpondError(
        "INPUT",
        `${filePath} is a directory, and only files directly in the input directory are read. ` +
          `Move its files up, or start its name with "_" to leave it out.`,
      );
    }
    paths.set(name, filePath);
  }
  return paths;
}

function readerFor(path: string): OpenReader {
  for (const { extensions, open } of READERS) {
    if (extensions.some((extension) => path.endsWith(extension))) return open;
  }
  const supported = READERS.flatMap(({ extensions }) => extensions).join(", ");
  throw new MillpondError(
    "INPUT",
    `${path} is in no format that can be read. Supported: ${supported}. Convert it, or start its ` +
      `name with "_" to leave it out.`,
  );
}

async function orInputError<T>(path: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof MillpondError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    const message = `${path} cannot be read: ${why}. Check the path and its permissions.`;
    throw new MillpondError("INPUT", message, { cause: error });
  }
}
