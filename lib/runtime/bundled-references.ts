/**
 * Reference tables as data beside a bundle: DuckDB reads them once, when the bundle is made, and
 * the processor, which holds no DuckDB, reads the result.
 */
import * as fs from "node:fs/promises";
import * as path from "node:path";
import type { Pipeline } from "../define/definition.js";
import { decodeBatch, encodeBatch } from "../engine/batch-codec.js";
import type { ReferenceData } from "../engine/steps.js";
import { MillpondError } from "../errors.js";
import { codeOf } from "../stores/fs-errors.js";
import { makeDirectory } from "../stores/make-directory.js";
import type { LoadedReferences } from "./references.js";

const INDEX_FILE = "references.json";
const FORMAT_VERSION = 1;

/**
 * Writes reference tables into `dir`, which is made if it is absent. They are loaded by the caller,
 * so that a bundle which only reads holds no DuckDB. The hashes are those of the files themselves,
 * so the definition's hash is the same as in a local run.
 *
 * @example
 * await writeBundledReferences(await loadReferences(pipeline), "cdk.out/bundle/references");
 */
export async function writeBundledReferences(
  { data, hashes }: LoadedReferences,
  dir: string,
): Promise<void> {
  makeDirectory(dir);
  const files: Record<string, { readonly file: string; readonly sha256: string }> = {};
  for (const [index, [name, { batch }]] of [...data].entries()) {
    const file = `${index}.batch`;
    await fs.writeFile(path.join(dir, file), encodeBatch(batch));
    files[name] = { file, sha256: hashes.get(name)! };
  }
  const json = JSON.stringify({ format: FORMAT_VERSION, files }, null, 2);
  await fs.writeFile(path.join(dir, INDEX_FILE), `${json}\n`);
}

/**
 * Reads what `writeBundledReferences` wrote; nothing at all for a pipeline without references.
 * Throws `MillpondError("INPUT")` when a reference of the pipeline is not there.
 *
 * @example
 * const references = await readBundledReferences(pipeline, referencesDir(process.env));
 * compileStream(definition, "flights", { functions, references: references.data });
 */
export async function readBundledReferences(
  { definition }: Pipeline,
  dir: string,
): Promise<LoadedReferences> {
  const data = new Map<string, ReferenceData>();
  const hashes = new Map<string, string>();
  if (definition.references.length === 0) return { data, hashes };
  const files = await readIndex(dir);
  for (const { name } of definition.references) {
    const entry = files.get(name);
    if (entry === undefined) throw missing(dir, `reference "${name}" is not in its index`);
    hashes.set(name, entry.sha256);
    data.set(name, { batch: decodeBatch(await readFile(dir, entry.file)) });
  }
  return { data, hashes };
}

async function readIndex(dir: string): Promise<Map<string, { file: string; sha256: string }>> {
  const index: unknown = JSON.parse((await readFile(dir, INDEX_FILE)).toString("utf8"));
  const found = new Map<string, { file: string; sha256: string }>();
  if (typeof index !== "object" || index === null || !("files" in index)) return found;
  for (const [name, entry] of Object.entries(index.files ?? {})) {
    const fields: unknown = entry;
    if (typeof fields !== "object" || fields === null) continue;
    if (!("file" in fields && "sha256" in fields)) continue;
    const { file, sha256 } = fields;
    if (typeof file === "string" && typeof sha256 === "string") found.set(name, { file, sha256 });
  }
  return found;
}

async function readFile(dir: string, name: string): Promise<Buffer> {
  try {
    return await fs.readFile(path.join(dir, name));
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") throw missing(dir, `${name} is not there`, cause);
    throw cause;
  }
}

function missing(dir: string, found: string, cause?: unknown): MillpondError {
  return new MillpondError(
    "INPUT",
    `the reference tables beside this bundle are incomplete: in ${dir}, ${found}. Make the ` +
      "bundle again, and let MILLPOND_REFERENCES name the directory if it is not `references` " +
      "beside it",
    { cause },
  );
}
