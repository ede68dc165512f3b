/**
 * What a slice hands on, as sections of one outbox object: partials of closed windows, and rows.
 */
import { ByteReader, ByteWriter } from "./codec.js";

export type SectionKind =
  /** A partial of the window that starts at `start`. */
  | "window"
  /** Closed (or, if `open`, still open) sessions. */
  | "sessions"
  /** A batch of rows for a row table, `late`, `dead_letters` or `bronze`. */
  | "rows";

export interface Section {
  readonly kind: SectionKind;
  readonly table: string;
  /** Window start, epoch ms; 0 otherwise. */
  readonly start: number;
  /** A flush: the window or session stands as it is and will be replaced. */
  readonly open: boolean;
  /** Groups of a partial, rows of a batch. */
  readonly count: number;
  readonly bytes: Uint8Array;
}

/** Where a section lies inside its object. */
export interface SectionPlace extends Omit<Section, "bytes"> {
  readonly at: number;
  readonly length: number;
}

const KINDS: readonly SectionKind[] = ["window", "sessions", "rows"];
const FORMAT_VERSION = 1;

export function encodeSections(sections: readonly Section[]): Uint8Array {
  const total = sections.reduce((sum, section) => sum + section.bytes.length + 64, 64);
  const writer = new ByteWriter(total);
  writer.u8(FORMAT_VERSION);
  writer.u32(sections.length);
  for (const section of sections) {
    writer.u8(KINDS.indexOf(section.kind));
    writer.text(section.table);
    writer.f64(section.start);
    writer.u8(section.open ? 1 : 0);
    writer.u32(section.count);
    writer.block(section.bytes);
  }
  // Not `finish`: nobody uses this writer again, and a copy would be of all that leaves.
  return writer.bytes.subarray(0, writer.length);
}

export function sectionPlaces(object: Uint8Array): SectionPlace[] {
  const reader = new ByteReader(object);
  if (reader.u8() !== FORMAT_VERSION) throw new TypeError("unknown version of an outbox object");
  const count = reader.u32();
  return Array.from({ length: count }, () => {
    const kind = KINDS[reader.u8()]!;
    const table = reader.text();
    const start = reader.f64();
    const open = reader.u8() === 1;
    const groups = reader.u32();
    const length = reader.u32();
    const at = reader.at;
    reader.raw(length);
    return { kind, table, start, open, count: groups, at, length };
  });
}
