/** Simulated records as NDJSON files, one per partition, with a fixed buffer for each. */
import { closeSync, openSync, readdirSync, writeSync } from "node:fs";
import { join } from "node:path";
import { MillpondError } from "../../errors.js";
import { makeDirectory } from "../../stores/make-directory.js";
import type { SimulatedRecord } from "./simulate.js";

const BUFFER_BYTES = 256 * 1024;
/** Far above any record the simulators make. */
const LINE_BYTES_MAX = 4096;

export interface SimulateSummary {
  readonly records: number;
  readonly ok: number;
  readonly late: number;
  readonly duplicates: number;
  readonly malformed: number;
  readonly bytes: number;
  readonly files: readonly string[];
}

/** Throws USAGE when the directory holds such files already: appending would mix two streams. */
export function writeSimulation(
  directory: string,
  partitions: number,
  records: Iterable<SimulatedRecord>,
): SimulateSummary {
  makeDirectory(directory);
  const old = readdirSync(directory).find((name) => /^part-\d+\.ndjson/.test(name));
  if (old !== undefined) {
    throw new MillpondError(
      "USAGE",
      `simulate: ${join(directory, old)} exists already; give an empty or new --out directory`,
    );
  }
  const width = Math.max(2, String(partitions - 1).length);
  const files = Array.from({ length: partitions }, (_, p) => {
    return join(directory, `part-${String(p).padStart(width, "0")}.ndjson`);
  });
  const writers: LineFile[] = [];
  const counts = { ok: 0, late: 0, duplicate: 0, malformed: 0 };
  try {
    for (const file of files) writers.push(new LineFile(file));
    for (const { partition, line, kind } of records) {
      counts[kind]++;
      writers[partition]!.add(line);
    }
    for (const writer of writers) writer.flush();
  } finally {
    for (const writer of writers) writer.close();
  }
  const { ok, late, duplicate, malformed } = counts;
  const bytes = writers.reduce((sum, writer) => sum + writer.written, 0);
  const total = ok + late + duplicate + malformed;
  return { records: total, ok, late, duplicates: duplicate, malformed, bytes, files };
}

class LineFile {
  readonly #fd: number;
  readonly #path: string;
  readonly #buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  #used = 0;
  written = 0;

  constructor(path: string) {
    this.#path = path;
    this.#fd = openSync(path, "w");
  }

  add(line: string | Uint8Array): void {
    if (this.#used + LINE_BYTES_MAX > BUFFER_BYTES) this.flush();
    if (typeof line === "string") this.#used += this.#buffer.write(line, this.#used);
    else {
      this.#buffer.set(line, this.#used);
      this.#used += line.length;
    }
    this.#buffer[this.#used++] = 0x0a;
  }

  flush(): void {
    let done = 0;
    try {
      while (done < this.#used) {
        done += writeSync(this.#fd, this.#buffer, done, this.#used - done);
      }
    } catch (cause) {
      throw new MillpondError("STORAGE", `simulate: cannot write ${this.#path}: ${cause}`, {
        cause,
      });
    }
    this.written += done;
    this.#used = 0;
  }

  close(): void {
    closeSync(this.#fd);
  }
}
