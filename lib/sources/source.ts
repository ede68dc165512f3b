/**
 * The port every partitioned input implements: read slices in order, from a remembered position.
 */
import type { Slice } from "../engine/slice.js";

/** Where a reader stands, as JSON the checkpoint carries; opaque to everyone but its source. */
export type SourcePosition = Readonly<Record<string, string | number | boolean | null>>;

export interface PartitionReader {
  readonly topic: string;
  readonly partition: number;
  /** A name for people, e.g. the file's name. */
  readonly label: string;
  /**
   * Bytes of this partition's input still unread and in all (compressed size for .gz), for
   * progress; NaN when unknown.
   */
  readonly bytesTotal: number;
  readonly bytesRead: number;
  /**
   * The next at most `recordsMax` records, or null at the end of the input. The slice is valid
   * until the next call.
   */
  read(recordsMax: number): Promise<Slice | null>;
  /**
   * Replays only: the event time, epoch ms, at which the next record is due; -Infinity for now, or
   * at the end. `read` is for when that time has come.
   */
  nextEventMs?(): Promise<number>;
  /** Position after the last slice returned; give it to `open` to continue there. */
  position(): SourcePosition;
  close(): Promise<void>;
}

export interface PartitionSource {
  readonly topic: string;
  readonly partition: number;
  readonly label: string;
  /**
   * Open at `nextOffset`; `position` is what the last checkpoint stored, null on first use.
   * Throws `MillpondError("INPUT")` if what was already read has changed since.
   */
  open(nextOffset: number, position: SourcePosition | null): Promise<PartitionReader>;
}
