/**
 * Loads a user's pipeline file: bundles it with esbuild, so that TypeScript and relative imports
 * work on every Node, and `millpond` means this program even where it isn't installed.
 */
import { existsSync } from "node:fs";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { Pipeline } from "../define/definition.js";
import { withParameters } from "../define/parameters.js";
import { MillpondError } from "../errors.js";
import { compilePipeline } from "./compile-pipeline.js";

/**
 * The pipeline that a file exports by default.
 * @param overrides values of declared parameters by name, as written on the command line
 * @throws MillpondError USAGE when there is no such file or it exports no pipeline, DEFINITION when
 *   it does not compile or its definition cannot work
 */
export async function loadPipeline(
  file: string,
  overrides: ReadonlyMap<string, string>,
): Promise<Pipeline> {
  const entry = path.resolve(file);
  if (!existsSync(entry)) {
    throw new MillpondError("USAGE", `${file} does not exist: give the path of a pipeline's file`);
  }
  process.setSourceMapsEnabled(true);
  const dir = await fs.mkdtemp(path.join(tmpdir(), "millpond-"));
  try {
    const bundle = path.join(dir, "pipeline.mjs");
    await compilePipeline(entry, bundle, { library: libraryUrl().href, staysHere: true });
    const loaded = await withParameters(overrides, () => evaluate(file, bundle));
    return requirePipeline(file, loaded);
  } finally {
    await fs.rm(dir, { recursive: true, force: true });
  }
}

/** Where this program's own library is: .js once compiled, .ts when the sources themselves run. */
export function libraryUrl(): URL {
  const compiled = new URL("../index.js", import.meta.url);
  const source = new URL("../index.ts", import.meta.url);
  return existsSync(fileURLToPath(compiled)) ? compiled : source;
}

async function evaluate(file: string, bundle: string): Promise<unknown> {
  try {
    const module: { default?: unknown } = await import(pathToFileURL(bundle).href);
    return module.default;
  } catch (error) {
    if (error instanceof MillpondError) throw error;
    const detail = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    throw new MillpondError("DEFINITION", `${file} failed while it was loaded: ${detail}`, {
      cause: error,
    });
  }
}

function requirePipeline(file: string, exported: unknown): Pipeline {
  if (isPipeline(exported)) return exported;
  const found = exported === undefined ? "has no default export" : "exports something else";
  throw new MillpondError(
    "USAGE",
    `${file} ${found}: write \`export default pipeline("name", { … })\``,
  );
}

function isPipeline(value: unknown): value is Pipeline {
  return (
    typeof value === "object" && value !== null && "kind" in value && value.kind === "pipeline"
  );
}
