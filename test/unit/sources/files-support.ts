/** What the tests of file sources share: a scratch directory, a stream, reading a file. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import type { ColumnType, FieldNode, StreamNode } from "../../../lib/define/definition.js";
import { READ_LIMITS, type ReadLimits } from "../../../lib/sources/files/file-source.js";
import { type FileReader, openFileSources } from "../../../lib/sources/files/index.js";
import type { SourcePosition } from "../../../lib/sources/source.js";

export interface ReadRecord {
  readonly text: string;
  readonly offset: number;
  readonly fault: string | null;
}

export function field(name: string, type: ColumnType, more: Partial<FieldNode> = {}): FieldNode {
  return { name, type, path: [name], nullable: true, checks: [], ...more };
}

export function streamOf(...fields: FieldNode[]): StreamNode {
  return {
    name: "events",
    fields,
    eventTime: "t",
    latenessMs: 0,
    maxAheadMs: 0,
    idleAfterMs: 0,
    maxRecordBytes: 1e6,
  };
}

export async function scratch(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "millpond-files-"));
  afterAll(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

export async function write(dir: string, name: string, content: string | Uint8Array) {
  const path = join(dir, name);
  await writeFile(path, content);
  return path;
}

export interface ReadOptions {
  readonly stream?: StreamNode;
  readonly limits?: Partial<ReadLimits>;
  readonly recordsMax?: number;
  /** Stop after at least this many records. */
  readonly stopAfter?: number;
  readonly from?: { readonly nextOffset: number; readonly position: SourcePosition };
}

export interface ReadResult {
  readonly records: ReadRecord[];
  readonly nextOffset: number;
  readonly position: SourcePosition;
  readonly warnings: readonly string[];
  readonly timestamps: Set<number>;
}

export async function readFileRecords(
  path: string,
  options: ReadOptions = {},
): Promise<ReadResult> {
  const { stream = streamOf(), recordsMax = 1000, stopAfter = Infinity, from } = options;
  const limits = { ...READ_LIMITS, ...options.limits };
  const { sources } = await openFileSources({ path, stream, limits, known: new Map() });
  const reader = await sources[0]!.open(from?.nextOffset ?? 0, from?.position ?? null);
  try {
    return await drain(reader, recordsMax, stopAfter, from?.nextOffset ?? 0);
  } finally {
    await reader.close();
  }
}

async function drain(
  reader: FileReader,
  recordsMax: number,
  stopAfter: number,
  firstOffset: number,
): Promise<ReadResult> {
  const records: ReadRecord[] = [];
  const timestamps = new Set<number>();
  while (records.length < stopAfter) {
    const slice = await reader.read(recordsMax);
    if (slice === null) break;
    for (let i = 0; i < slice.count; i++) {
      const bytes = slice.bytes.subarray(slice.starts[i], slice.ends[i]);
      const fault = slice.faults.get(i);
      timestamps.add(slice.timestamps[i]!);
      records.push({
        text: Buffer.from(bytes).toString("latin1"),
        offset: slice.offsets[i]!,
        fault: fault === undefined ? null : `${fault.reason}: ${fault.detail}`,
      });
    }
  }
  // The position must survive the checkpoint's JSON.
  const position: SourcePosition = JSON.parse(JSON.stringify(reader.position()));
  const nextOffset = firstOffset + records.length;
  return { records, nextOffset, position, warnings: reader.warnings, timestamps };
}

export function texts(result: ReadResult): string[] {
  return result.records.map((record) => record.text);
}

/** A seed for a random test, new each time; the test prints it when it fails. */
export function newSeed(): number {
  return Math.floor(Math.random() * 2 ** 31);
}
