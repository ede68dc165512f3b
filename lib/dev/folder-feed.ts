/**
 * Local folders as a bucket's notifications: files that appear are handed to the ingest handler,
 * with the event that S3 would send. What was taken already is the handler's to know.
 */
import { readdir, stat } from "node:fs/promises";
import * as path from "node:path";
import { MillpondError } from "../errors.js";
import type { IngestHandler } from "../handlers/ingest.js";
import { directoryObjects, type ObjectSource } from "../sources/objects/object-source.js";

const LOOK_EVERY_MS = 1_000;
/** Hidden, or by name not there yet; a folder of such a name is passed over too. */
const PASSED_OVER = /(^|\/)[._]|\.(tmp|part)$/;

export interface Folder {
  readonly stream: string;
  readonly dir: string;
}

export interface FolderFeedOptions {
  /** One a stream. */
  readonly folders: readonly Folder[];
  readonly handle: (event: object) => ReturnType<IngestHandler>;
  readonly onTrouble: (error: unknown) => void;
  /** A second. */
  readonly lookEveryMs?: number;
}

interface FoundFile {
  /** As in a bucket: `incoming/<stream>/<path in the folder>`. */
  readonly key: string;
  readonly bytes: number;
  readonly modifiedMs: number;
}

/** The files of these folders, under the keys that they would have in a bucket. */
export function folderObjects(folders: readonly Folder[]): ObjectSource {
  const sources = new Map(folders.map(({ stream, dir }) => [stream, directoryObjects(dir)]));
  const split = (key: string) => {
    const [, stream = "", name = ""] = /^incoming\/([^/]+)\/(.+)$/s.exec(key) ?? [];
    return { source: sources.get(stream), name };
  };
  return {
    async describe(key) {
      const { source, name } = split(key);
      const found = await source?.describe(name);
      return found ? { ...found, key } : null;
    },
    async range(object, from, to) {
      const { source, name } = split(object.key);
      return (await source?.range({ ...object, key: name }, from, to)) ?? null;
    },
  };
}

/**
 * Looks into its folders again and again, until it is stopped. A file is handed over once its size
 * and time were the same at two looks, oldest first; one that changes later comes again, and is
 * refused by the handler.
 *
 * @example
 * const feed = new FolderFeed({ folders: [{ stream: "readings", dir: "in" }], handle, onTrouble });
 * await feed.stop();
 */
export class FolderFeed {
  readonly #options: FolderFeedOptions;
  /** By key, as it was at the last look, and as it was handed over. */
  #seen = new Map<string, string>();
  readonly #handled = new Map<string, string>();
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> = Promise.resolve();
  #isStopping = false;

  constructor(options: FolderFeedOptions) {
    this.#options = options;
    this.#lookLater(0);
  }

  /** Lets the file under way end. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#looking;
  }

  #lookLater(afterMs: number): void {
    if (this.#isStopping) return;
    this.#timer = setTimeout(() => {
      this.#looking = this.#look().then(() =>
        this.#lookLater(this.#options.lookEveryMs ?? LOOK_EVERY_MS),
      );
    }, afterMs);
  }

  async #look(): Promise<void> {
    const before = this.#seen;
    this.#seen = new Map();
    for (const folder of this.#options.folders) {
      const files = await filesIn(folder).catch((error: unknown) => {
        this.#options.onTrouble(error);
        return [];
      });
      for (const file of files) this.#seen.set(file.key, signature(file));
      const ready = files.filter(
        (file) =>
          before.get(file.key) === signature(file) &&
          this.#handled.get(file.key) !== signature(file),
      );
      for (const file of ready) if (!(await this.#handOver(file))) break;
    }
    for (const key of this.#handled.keys()) if (!this.#seen.has(key)) this.#handled.delete(key);
  }

  /** False when the rest has to wait: they are taken in order. */
  async #handOver(file: FoundFile): Promise<boolean> {
    if (this.#isStopping) return false;
    const { handle, onTrouble } = this.#options;
    try {
      for (const { key, outcome } of await handle(notification(file.key))) {
        if (outcome.kind === "rejected") onTrouble(new MillpondError("INPUT", outcome.reason));
        if (outcome.kind !== "ingested") continue;
        for (const warning of outcome.warnings) {
          onTrouble(new MillpondError("INPUT", `object "${key}": ${warning}`));
        }
      }
    } catch (error) {
      if (!this.#isStopping) onTrouble(error);
      return false;
    }
    this.#handled.set(file.key, signature(file));
    return true;
  }
}

async function filesIn({ stream, dir }: Folder): Promise<FoundFile[]> {
  const files: FoundFile[] = [];
  for (const entry of await readdir(dir, { withFileTypes: true, recursive: true })) {
    const file = path.join(entry.parentPath, entry.name);
    const name = path.relative(dir, file).split(path.sep).join("/");
    if (!entry.isFile() || PASSED_OVER.test(name)) continue;
    const found = await stat(file).catch(() => null);
    if (found === null) continue;
    const { size: bytes, mtimeMs: modifiedMs } = found;
    files.push({ key: `incoming/${stream}/${name}`, bytes, modifiedMs });
  }
  return files.sort((a, b) => a.modifiedMs - b.modifiedMs || (a.key < b.key ? -1 : 1));
}

function signature({ bytes, modifiedMs }: FoundFile): string {
  return `${bytes} bytes, ${modifiedMs}`;
}

/** S3's own, whose keys are written as in a URL. */
function notification(key: string): object {
  const object = { key: encodeURIComponent(key) };
  return { Records: [{ eventSource: "aws:s3", s3: { bucket: { name: "folders" }, object } }] };
}
