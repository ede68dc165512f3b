/**
 * Makes the directories that Lambda runs: each handler with its libraries, the user's pipeline,
 * its reference tables, and DuckDB where it is used. What is deployed with them is for the
 * constructs.
 */
import { existsSync } from "node:fs";
import * as fs from "node:fs/promises";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import type { BuildOptions, Plugin } from "esbuild";
import type { PipelineDefinition } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { writeBundledReferences } from "../runtime/bundled-references.js";
import { compilePipeline } from "../runtime/compile-pipeline.js";
import { libraryUrl, loadPipeline } from "../runtime/load-pipeline.js";
import { type LoadedReferences, loadReferences } from "../runtime/references.js";
import { httpfsExtension } from "../stores/duckdb-extension.js";
import { makeDirectory } from "../stores/make-directory.js";
import { copyDuckdbBindings, userCache } from "./duckdb-bindings.js";

export type Architecture = "arm64" | "x64";

/** What a handler's directory holds beside its code. */
interface Contents {
  readonly pipeline: boolean;
  readonly duckdb: boolean;
}

const CONTENTS = {
  producer: { pipeline: true, duckdb: false },
  processor: { pipeline: true, duckdb: false },
  sink: { pipeline: true, duckdb: true },
  query: { pipeline: false, duckdb: true },
  ingest: { pipeline: true, duckdb: false },
  topics: { pipeline: false, duckdb: false },
} as const satisfies Readonly<Record<string, Contents>>;

export type FunctionName = keyof typeof CONTENTS;

export const FUNCTION_NAMES = Object.keys(CONTENTS) as readonly FunctionName[];

/** Everything of a pipeline that a stack needs; made by `bundlePipeline`. */
export interface PipelineCode {
  readonly definition: PipelineDefinition;
  readonly architecture: Architecture;
  /** A directory with `index.mjs` for each function. */
  readonly directories: Readonly<Record<FunctionName, string>>;
}

export interface BundleOptions {
  /** Of the functions; `arm64` unless told, which costs a fifth less. */
  readonly architecture?: Architecture;
  /** Where the directories are made; beneath the CDK's output unless told. */
  readonly outDir?: string;
}

/**
 * Bundles all functions of a pipeline, for `StreamPipeline` and `PipelineQuery`.
 *
 * @param file the file that exports the pipeline by default
 * @throws MillpondError USAGE, DEFINITION or INPUT when file or reference tables can't be used
 * @example
 * const code = await bundlePipeline("pipelines/activity.ts");
 * new StreamPipeline(stack, "Activity", { code, stream });
 */
export async function bundlePipeline(
  file: string,
  { architecture = "arm64", outDir = defaultOutDir() }: BundleOptions = {},
): Promise<PipelineCode> {
  const pipeline = await loadPipeline(file, new Map());
  const root = path.resolve(outDir, `${pipeline.definition.name}-${architecture}`);
  await fs.rm(root, { recursive: true, force: true });
  const references = await loadReferences(pipeline);
  // Whoever has no such sink need not have installed its driver, and does not carry it.
  const hasSnowflake = pipeline.definition.sinks.some(({ kind }) => kind === "snowflake");
  const left = hasSnowflake ? [] : ["snowflake-sdk"];
  const input: Input = { file: path.resolve(file), references, architecture, root, left };
  // Once, before several functions copy it.
  await httpfsExtension({ architecture, dir: extensionCache(architecture) });
  const directories = await Promise.all(
    FUNCTION_NAMES.map(async (name) => [name, await bundleFunction(name, input)] as const),
  );
  return {
    definition: pipeline.definition,
    architecture,
    directories: Object.fromEntries(directories) as Record<FunctionName, string>,
  };
}

interface Input {
  readonly file: string;
  readonly references: LoadedReferences;
  readonly architecture: Architecture;
  readonly root: string;
  /** Packages that handlers import only when needed, and never need. */
  readonly left: readonly string[];
}

const extensionCache = (architecture: Architecture): string =>
  path.join(userCache(), `httpfs-${architecture}`);

const defaultOutDir = (): string => path.join(process.env.CDK_OUTDIR ?? "cdk.out", ".bundles");

async function bundleFunction(name: FunctionName, input: Input): Promise<string> {
  const dir = path.join(input.root, name);
  makeDirectory(dir);
  const { pipeline, duckdb }: Contents = CONTENTS[name];
  await compileHandler(handlerEntry(name), dir, input.left);
  if (pipeline) {
    // Beside the handler, not inside: a minifier would change the functions it is hashed by.
    await compilePipeline(input.file, path.join(dir, PIPELINE_FILE), {
      library: `./${LIBRARY_FILE}`,
      staysHere: false,
    });
    await compileLibrary(path.join(dir, LIBRARY_FILE));
    await writeBundledReferences(input.references, path.join(dir, "references"));
  }
  if (duckdb) {
    await copyDuckdbBindings(input.architecture, dir);
    await fs.cp(extensionCache(input.architecture), path.join(dir, "extensions"), {
      recursive: true,
      // Of another process that gets the same thing now.
      filter: (source) => !path.basename(source).startsWith(".download-"),
    });
  }
  return dir;
}

const PIPELINE_FILE = "pipeline.mjs";
const LIBRARY_FILE = "millpond.mjs";

/** The sources when they run, else what the package ships. */
function handlerEntry(name: FunctionName): string {
  for (const extension of ["js", "ts"]) {
    const url = new URL(`../../lambdas/${name}/index.${extension}`, import.meta.url);
    if (existsSync(url)) return fileURLToPath(url);
  }
  throw new MillpondError("USAGE", `handler "${name}" is not in this package: install it again`);
}

/** What Lambda's Node and Node 20 run alike: the newest runtime is not on every laptop. */
const COMMON = {
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  minify: true,
  legalComments: "none",
  logLevel: "silent",
  mainFields: ["module", "main"],
} satisfies BuildOptions;

async function compileHandler(
  entry: string,
  outdir: string,
  left: readonly string[],
): Promise<void> {
  const { build } = await import("esbuild");
  await build({
    ...COMMON,
    entryPoints: { index: entry },
    outdir,
    outExtension: { ".js": ".mjs" },
    // What is imported only when needed stays out of the cold start.
    splitting: true,
    chunkNames: "chunks/[hash]",
    external: ["@duckdb/node-bindings*", ...left],
    banner: {
      js:
        'import { createRequire as millpondCreateRequire } from "node:module";' +
        "const require = millpondCreateRequire(import.meta.url);" +
        // Snowflake's driver looks for files beside it, and does without those.
        "const __dirname = import.meta.dirname;",
    },
    plugins: [besideHandler(), duckdbInside()],
  });
}

async function compileLibrary(outfile: string): Promise<void> {
  const { build } = await import("esbuild");
  await build({ ...COMMON, entryPoints: [fileURLToPath(libraryUrl())], outfile });
}

/** What `lib/duckdb-api` requires by itself would stay out of the bundle. */
function duckdbInside(): Plugin {
  return {
    name: "duckdb-inside",
    setup(build) {
      build.onResolve({ filter: /\/duckdb-api\.js$/ }, ({ kind, resolveDir }) =>
        build.resolve("@duckdb/node-api", { kind, resolveDir }),
      );
    },
  };
}

function besideHandler(): Plugin {
  return {
    name: "millpond-pipeline",
    setup(build) {
      build.onResolve({ filter: /^millpond-pipeline$/ }, () => ({
        path: `./${PIPELINE_FILE}`,
        external: true,
      }));
      build.onResolve({ filter: /^millpond$/ }, () => ({ path: fileURLToPath(libraryUrl()) }));
    },
  };
}
