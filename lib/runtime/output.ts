/** The output directory of a run: what lies where in it, whose it is, and who may write to it. */
import * as fs from "node:fs";
import * as path from "node:path";
import { type PipelineDefinition, takesBronze } from "../define/definition.js";
import { definitionFrom, toJson } from "../define/json.js";
import { DuckDBInstance } from "../duckdb-api.js";
import { MillpondError } from "../errors.js";
import { codeOf } from "../stores/fs-errors.js";
import { makeDirectory } from "../stores/make-directory.js";

const FORMAT_VERSION = 1;
/** DuckDB's words for a file that another process holds; a path may contain "lock" as well. */
export const LOCKED = /could not set lock|conflicting lock/i;

export interface OutputPaths {
  readonly dir: string;
  readonly manifest: string;
  readonly lock: string;
  /** What holds all that follows: `dir`, or a folder in it that a backfill made. */
  readonly data: string;
  readonly checkpoints: string;
  readonly objects: string;
  /** Copies of the reference tables' files, by the table's name. */
  readonly references: string;
  readonly lake: string;
  readonly database: string;
}

/** Where an output's files are now; its manifest may name a folder for them. */
export function outputPaths(dir: string): OutputPaths {
  return pathsIn(dir, dataFolderOf(path.resolve(dir, MANIFEST)));
}

/** The same for data in `folder` of the output; "." is the output's directory itself. */
export function pathsIn(dir: string, folder: string): OutputPaths {
  const at = (...names: string[]) => path.join(path.resolve(dir), ...names);
  return {
    dir: path.resolve(dir),
    manifest: at(MANIFEST),
    lock: at("state", "lock"),
    data: at(folder),
    checkpoints: at(folder, "state", "checkpoints"),
    objects: at(folder, "state", "objects"),
    references: at(folder, "state", "references"),
    lake: at(folder, "lake"),
    database: at(folder, "results.duckdb"),
  };
}

const MANIFEST = "millpond.json";
/** Folders that a backfill makes; no other is ever deleted whole. */
export const DATA_FOLDER = /^data-[0-9a-f]{12}$/;

/** What is wrong with a manifest is for `readManifest` to say. */
function dataFolderOf(manifest: string): string {
  try {
    const { data }: { data?: unknown } = JSON.parse(fs.readFileSync(manifest, "utf8"));
    return typeof data === "string" && DATA_FOLDER.test(data) ? data : ".";
  } catch {
    return ".";
  }
}

export interface Manifest {
  readonly format: number;
  readonly pipeline: string;
  readonly definitionHash: string;
  readonly definition: PipelineDefinition;
}

/** The manifest, or null when the directory holds none. */
export function readManifest(paths: OutputPaths): Manifest | null {
  let text: string;
  try {
    text = fs.readFileSync(paths.manifest, "utf8");
  } catch (cause) {
    const code = codeOf(cause);
    // ENOTDIR: the output is a file, which is for whoever claims it to say.
    if (code !== "ENOENT" && code !== "ENOTDIR") {
      const advice = "make it readable, or give another --out";
      throw new MillpondError("OUTPUT", `${paths.manifest} cannot be read: ${advice}`, { cause });
    }
    return null;
  }
  return manifestFrom(paths, text);
}

function manifestFrom(paths: OutputPaths, text: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw damaged(paths, "it is not JSON", cause);
  }
  const entries = typeof value === "object" && value !== null ? Object.entries(value) : [];
  const fields = new Map<string, unknown>(entries);
  const format = fields.get("format");
  if (typeof format === "number" && format !== FORMAT_VERSION) {
    throw new MillpondError(
      "OUTPUT",
      `${paths.dir} was written in format ${format}, this program reads and writes ` +
        `${FORMAT_VERSION}: use the Millpond that wrote it, or give a new --out`,
    );
  }
  const [pipeline, definitionHash] = ["pipeline", "definitionHash"].map((name) => {
    const found = fields.get(name);
    if (typeof found === "string") return found;
    throw damaged(paths, `its "${name}" is ${JSON.stringify(found)}, not a text`);
  });
  if (typeof format !== "number") throw damaged(paths, "it names no format");
  try {
    const definition = definitionFrom(fields.get("definition"));
    return { format, pipeline: pipeline!, definitionHash: definitionHash!, definition };
  } catch (cause) {
    const found = cause instanceof Error ? cause.message : String(cause);
    throw damaged(paths, `its definition cannot be read: ${found}`, cause);
  }
}

function damaged(paths: OutputPaths, found: string, cause?: unknown): MillpondError {
  return new MillpondError(
    "STORAGE",
    `${paths.manifest} is damaged: ${found}. Restore it, or give a new --out`,
    { cause },
  );
}

/** For commands that read what a run wrote. */
export function noResults(dir: string): MillpondError {
  const found = fs.existsSync(dir) ? "holds no results" : "does not exist";
  return new MillpondError(
    "USAGE",
    `--out ${dir} ${found}: give the directory that \`millpond run --out\` wrote to`,
  );
}

/** Makes the directory this pipeline's; under the lock, after `checkOutput`. */
export function claimOutput(
  paths: OutputPaths,
  definition: PipelineDefinition,
  definitionHash: string,
): void {
  if (checkOutput(paths, definition, definitionHash) === "claimed") return;
  writeManifest(paths, definition, definitionHash);
}

/** In one step: whoever reads the output finds the manifest before or this one. */
export function writeManifest(
  paths: OutputPaths,
  definition: PipelineDefinition,
  definitionHash: string,
): void {
  const folder = path.relative(paths.dir, paths.data);
  const manifest = {
    format: FORMAT_VERSION,
    pipeline: definition.name,
    definitionHash,
    ...(folder !== "" && { data: folder }),
    definition: definitionFrom(JSON.parse(toJson(definition))),
  };
  const temporary = `${paths.manifest}.tmp`;
  try {
    fs.writeFileSync(temporary, `${JSON.stringify(manifest, null, 2)}\n`);
    fs.renameSync(temporary, paths.manifest);
  } catch (cause) {
    throw cannotWrite(paths, cause);
  }
}

/**
 * Throws `OUTPUT` for a directory of something else, of another pipeline, or of a changed
 * definition; changes nothing.
 */
export function checkOutput(
  paths: OutputPaths,
  definition: PipelineDefinition,
  definitionHash: string,
): "free" | "claimed" {
  const found = readManifest(paths);
  if (found === null) {
    refuseForeign(paths);
    return "free";
  }
  if (found.pipeline !== definition.name) {
    throw new MillpondError(
      "OUTPUT",
      `${paths.dir} belongs to pipeline "${found.pipeline}", not "${definition.name}": ` +
        "give another --out",
    );
  }
  if (found.definitionHash === definitionHash) return "claimed";
  throw new MillpondError(
    "OUTPUT",
    `${paths.dir} was written by another version of pipeline "${definition.name}" ` +
      `(${changesBetween(found.definition, JSON.parse(toJson(definition)))}). ` +
      `Results of two definitions do not mix: ${waysOut(found.definition, definition)}, or go ` +
      "back to the old definition",
  );
}

/** A backfill needs bronze, and neither topics nor Snowflake can be rebuilt. */
function waysOut(before: PipelineDefinition, after: PipelineDefinition): string {
  const fixed = after.sinks.find(({ kind }) => kind === "kafka" || kind === "snowflake");
  if (fixed !== undefined) {
    const own = fixed.kind === "kafka" ? "topic" : "schema";
    const place = `give a new --out, and its ${fixed.kind} sink another ${own}`;
    return `${place}, to process the input again`;
  }
  const again = "give a new --out to process the input again";
  const keepBronze = [before, after].every(({ sinks }) => sinks.some(takesBronze));
  return keepBronze ? `rebuild them from bronze with \`millpond backfill\`, ${again}` : again;
}

/** What changed, in a few words. */
function changesBetween(before: PipelineDefinition, after: PipelineDefinition): string {
  const changed: string[] = [];
  const compare = (
    what: string,
    a: readonly { name: string }[],
    b: readonly { name: string }[],
  ) => {
    for (const name of new Set([...a, ...b].map((item) => item.name))) {
      const [x, y] = [a, b].map((list) => JSON.stringify(list.find((item) => item.name === name)));
      if (x !== y) changed.push(`${what} "${name}"`);
    }
  };
  compare("stream", before.streams, after.streams);
  compare("table", before.tables, after.tables);
  compare("parameter", before.parameters, after.parameters);
  compare("reference", before.references, after.references);
  if (JSON.stringify(before.sinks) !== JSON.stringify(after.sinks)) changed.push("the sinks");
  if (changed.length === 0) return "the content of a reference table changed";
  return `changed: ${changed.join(", ")}`;
}

function refuseForeign(paths: OutputPaths): void {
  let names: string[] = [];
  try {
    names = fs.readdirSync(paths.dir);
  } catch (cause) {
    if (fs.existsSync(paths.dir)) {
      throw new MillpondError("OUTPUT", `${paths.dir} is not a directory: give another --out`, {
        cause,
      });
    }
  }
  const foreign = names.filter((name) => name !== "millpond.json.tmp" && name !== "state");
  if (foreign.length === 0) return;
  throw new MillpondError(
    "OUTPUT",
    `${paths.dir} holds other files (${foreign.slice(0, 3).join(", ")}, …) and no millpond.json: ` +
      "give an empty or new directory as --out",
  );
}

export interface OutputLock {
  release(): void;
}

const heldHere = new Set<string>();

/**
 * Keeps a second run off the directory. The lock is the operating system's file lock that DuckDB
 * takes on a database it writes to, so that it ends with the process, also by kill -9. Should it
 * ever fail to hold, compare-and-swap still keeps the results right.
 */
export async function lockOutput(paths: OutputPaths): Promise<OutputLock> {
  if (heldHere.has(paths.lock)) throw inUse(paths, undefined);
  heldHere.add(paths.lock);
  try {
    makeDirectory(path.dirname(paths.lock));
    const instance = await openLock(paths.lock);
    return {
      release() {
        instance.closeSync();
        heldHere.delete(paths.lock);
      },
    };
  } catch (cause) {
    heldHere.delete(paths.lock);
    if (isLocked(cause)) throw inUse(paths, cause);
    throw cause instanceof MillpondError ? cause : cannotWrite(paths, cause);
  }
}

async function openLock(file: string): Promise<DuckDBInstance> {
  const open = () => DuckDBInstance.create(file, { threads: "1" });
  try {
    return await open();
  } catch (error) {
    if (isLocked(error)) throw error;
    // Nobody holds it, so what is wrong may be its content: a disk that was full cut it short.
    fs.rmSync(file, { force: true });
    return open();
  }
}

function isLocked(error: unknown): boolean {
  return error instanceof Error && LOCKED.test(error.message);
}

const STORAGE_FULL = /ENOSPC|EDQUOT|EFBIG|EIO|No space left|quota exceeded/i;

function cannotWrite(paths: OutputPaths, cause: unknown): MillpondError {
  const found = cause instanceof Error ? cause.message : String(cause);
  const isFull = STORAGE_FULL.test(found);
  const advice = isFull
    ? "free some space and run again"
    : "give another --out, or this user write access to it";
  const message = `cannot write to ${paths.dir}: ${found}; ${advice}`;
  return new MillpondError(isFull ? "STORAGE" : "OUTPUT", message, { cause });
}

function inUse(paths: OutputPaths, cause: unknown): MillpondError {
  return new MillpondError(
    "CONFLICT",
    `another run is writing to ${paths.dir}: wait until it ends, stop it, or give another --out`,
    { cause },
  );
}
