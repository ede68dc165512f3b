/** Tells when a pipeline's file, or anything it imports or refers to, has changed. */
import { statSync } from "node:fs";
import * as path from "node:path";
import type { Pipeline } from "../define/definition.js";

/** By comparing times and sizes: a few files only, and alike on every file system. */
const LOOK_EVERY_MS = 200;

export interface PipelineWatch {
  /** Also look at these files. */
  add(files: readonly string[]): void;
  close(): void;
}

/** Calls back once a change has been left alone for a moment; editors write more than once. */
export function watchFiles(files: readonly string[], onChange: () => void): PipelineWatch {
  /** As they were when the callback was last told, and at the last look. */
  const told = new Map<string, string>();
  const seen = new Map<string, string>();
  const add = (more: readonly string[]) => {
    for (const file of more) if (!told.has(file)) told.set(file, signature(file));
  };
  add(files);
  const timer = setInterval(() => {
    let [isNew, isQuiet] = [false, true];
    for (const [file, before] of told) {
      const now = signature(file);
      isNew ||= now !== before;
      isQuiet &&= now === (seen.get(file) ?? before);
      seen.set(file, now);
    }
    if (!isNew || !isQuiet) return;
    for (const [file, now] of seen) told.set(file, now);
    onChange();
  }, LOOK_EVERY_MS);
  return { add, close: () => clearInterval(timer) };
}

function signature(file: string): string {
  const found = statSync(file, { throwIfNoEntry: false });
  return found === undefined ? "" : `${found.mtimeMs} ${found.size} ${found.ino}`;
}

/** The pipeline's file, what it imports (but for packages), and its reference tables' files. */
export async function filesOf(file: string, { definition }: Pipeline): Promise<readonly string[]> {
  const { build } = await import("esbuild");
  const { metafile } = await build({
    entryPoints: [path.resolve(file)],
    bundle: true,
    write: false,
    metafile: true,
    platform: "node",
    format: "esm",
    external: ["millpond"],
    logLevel: "silent",
  });
  const own = Object.keys(metafile.inputs).filter((name) => !/\bnode_modules\b/.test(name));
  const imported = own.map((name) => path.resolve(name));
  const folder = path.dirname(path.resolve(file));
  const references = definition.references.map((one) => path.resolve(folder, one.path));
  return [...imported, ...references];
}
