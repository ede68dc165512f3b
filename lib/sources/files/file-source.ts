/** What every file reader adds to the source port. */
import type { PartitionReader, PartitionSource, SourcePosition } from "../source.js";

export interface FileReader extends PartitionReader {
  /** What was wrong with the file without stopping the run; complete once `read` returned null. */
  readonly warnings: readonly string[];
}

export interface FileSource extends PartitionSource {
  /** The file's name without its directory: what identifies the partition from run to run. */
  readonly fileName: string;
  open(nextOffset: number, position: SourcePosition | null): Promise<FileReader>;
}

/** Which file, and as which partition. */
export interface FileIdentity {
  readonly path: string;
  readonly topic: string;
  readonly partition: number;
  readonly label: string;
}

/** Bounds on memory; tests make them small. */
export interface ReadLimits {
  /** First size of the read buffer. */
  readonly blockBytes: number;
  /** A longer line is never held in memory: it becomes one `oversize` record. */
  readonly lineBytesMax: number;
  /** How much of such a line is kept. */
  readonly oversizeKeptBytes: number;
  /** A slice ends early once its records span this much. */
  readonly sliceBytesMax: number;
}

const MIB = 1024 * 1024;

export const READ_LIMITS: ReadLimits = {
  blockBytes: 2 * MIB,
  lineBytesMax: 64 * MIB,
  oversizeKeptBytes: MIB,
  sliceBytesMax: 8 * MIB,
};
