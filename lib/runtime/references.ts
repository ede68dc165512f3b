/** Reference tables for `enrich`: a CSV, JSON or Parquet file, read once into columns. */

import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import type {
  ColumnNode,
  Pipeline,
  PipelineDefinition,
  ReferenceNode,
} from "../define/definition.js";
import { DuckDBInstance } from "../duckdb-api.js";
import type { Batch } from "../engine/batch.js";
import { columnFromValues } from "../engine/row-values.js";
import type { ReferenceData } from "../engine/steps.js";
import { MillpondError } from "../errors.js";
import { duckdbType, quoteName, quoteText } from "../sinks/duckdb-types.js";
import { makeDirectory } from "../stores/make-directory.js";

/** A reference table is held in memory by every worker. */
export const REFERENCE_ROWS_MAX = 1_000_000;

export interface LoadedReferences {
  readonly data: ReadonlyMap<string, ReferenceData>;
  /** SHA-256 of each file, so that changed content counts as a changed definition (I1). */
  readonly hashes: ReadonlyMap<string, string>;
}

/** `file` of the pipeline, against which relative paths are resolved. */
export async function loadReferences(pipeline: Pipeline): Promise<LoadedReferences> {
  const data = new Map<string, ReferenceData>();
  const hashes = new Map<string, string>();
  const files = referenceFiles(pipeline);
  for (const reference of pipeline.definition.references) {
    const file = files.get(reference.name)!;
    hashes.set(reference.name, hashFile(reference, file));
    data.set(reference.name, { batch: await readReference(reference, file) });
  }
  return { data, hashes };
}

/** The files of a pipeline's reference tables, by name. */
export function referenceFiles(pipeline: Pipeline): Map<string, string> {
  const dir = baseDir(pipeline);
  const { references } = pipeline.definition;
  return new Map(references.map(({ name, path: file }) => [name, path.resolve(dir, file)]));
}

/** Copies them into `dir`, where an audit finds those that the results were made with. */
export function keepReferences(pipeline: Pipeline, dir: string): void {
  const kept = keptFiles(pipeline.definition, dir);
  for (const [name, file] of referenceFiles(pipeline)) {
    const copy = kept.get(name)!;
    if (fs.existsSync(copy)) continue;
    makeDirectory(dir);
    fs.copyFileSync(file, `${copy}.tmp`);
    fs.renameSync(`${copy}.tmp`, copy);
  }
}

/** Those that `keepReferences` left in `dir`. */
export function keptReferences(definition: PipelineDefinition, dir: string): Map<string, string> {
  return new Map([...keptFiles(definition, dir)].filter(([, file]) => fs.existsSync(file)));
}

/** The name's end tells a reader whether the file is compressed. */
function keptFiles({ references }: PipelineDefinition, dir: string): Map<string, string> {
  return new Map(
    references.map(({ name, path: file }) => [
      name,
      path.join(dir, `${name}-${path.basename(file)}`),
    ]),
  );
}

function baseDir({ file }: Pipeline): string {
  if (file === undefined) return process.cwd();
  const place = file.replace(/:\d+(:\d+)?$/, "");
  return path.dirname(place.startsWith("file:") ? fileURLToPath(place) : path.resolve(place));
}

function hashFile(reference: ReferenceNode, file: string): string {
  try {
    return createHash("sha256").update(fs.readFileSync(file)).digest("hex");
  } catch (cause) {
    throw new MillpondError(
      "INPUT",
      `reference "${reference.name}": ${file} cannot be read; its path is taken relative to the ` +
        "pipeline's file",
      { cause },
    );
  }
}

const READERS = {
  csv: (file: string) => `read_csv(${quoteText(file)}, header=true, all_varchar=true)`,
  json: (file: string) => `read_json(${quoteText(file)})`,
  parquet: (file: string) => `read_parquet(${quoteText(file)})`,
} as const;

async function readReference(reference: ReferenceNode, file: string): Promise<Batch> {
  const instance = await DuckDBInstance.create(":memory:", {
    threads: "1",
    autoinstall_known_extensions: "false",
    autoload_known_extensions: "false",
  });
  try {
    const connection = await instance.connect();
    await connection.run("SET TimeZone='UTC'");
    const columns = reference.columns
      .map(({ name, type }) => {
        const value = `CAST(${quoteName(name)} AS ${duckdbType(type)})`;
        // Timestamps travel as epoch ms, decimals unscaled: the engine's own forms.
        if (type.kind === "timestamp") return `epoch_ms(${value})::DOUBLE AS ${quoteName(name)}`;
        if (type.kind === "decimal") {
          return `(${value} * ${10 ** type.scale})::BIGINT AS ${quoteName(name)}`;
        }
        return `${value} AS ${quoteName(name)}`;
      })
      .join(", ");
    const rows = `SELECT ${columns} FROM ${READERS[reference.format](file)}`;
    const reader = await connection.runAndReadAll(`${rows} LIMIT ${REFERENCE_ROWS_MAX + 1}`);
    return referenceBatch(reference, reader.getColumns());
  } catch (cause) {
    if (cause instanceof MillpondError) throw cause;
    throw new MillpondError(
      "INPUT",
      `reference "${reference.name}": ${file} does not fit its declared columns: ` +
        `${cause instanceof Error ? (cause.message.split("\n")[0] ?? "") : String(cause)}`,
      { cause },
    );
  } finally {
    instance.closeSync();
  }
}

function referenceBatch(reference: ReferenceNode, values: readonly (readonly unknown[])[]): Batch {
  const rowCount = values[0]?.length ?? 0;
  if (rowCount > REFERENCE_ROWS_MAX) {
    throw new MillpondError(
      "LIMIT",
      `reference "${reference.name}" has more than ${REFERENCE_ROWS_MAX} rows, which is too ` +
        "large to keep in memory; filter the file first",
    );
  }
  const columns = reference.columns.map((node: ColumnNode, c) =>
    columnFromValues({ ...node, nullable: true }, values[c] ?? []),
  );
  return { rowCount, columns };
}
