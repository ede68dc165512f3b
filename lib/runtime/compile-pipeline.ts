/**
 * Turns a user's pipeline file into one JavaScript module with esbuild. What runs it, here or in
 * a Lambda, is for others; both get the same text, so that hashes of `map` functions are equal.
 */
import * as fs from "node:fs/promises";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import type { BuildFailure, Plugin } from "esbuild";
import { MillpondError } from "../errors.js";

export interface CompileOptions {
  /** What the module imports as `millpond`: a URL, or a path beside the module. */
  readonly library: string;
  /** Whether the module stays on this machine: it keeps `import.meta.url` and a source map. */
  readonly staysHere: boolean;
}

/** @throws MillpondError DEFINITION when the file does not compile */
export async function compilePipeline(
  entry: string,
  outfile: string,
  { library, staysHere }: CompileOptions,
): Promise<void> {
  const { build } = await import("esbuild");
  const location = staysHere ? JSON.stringify(pathToFileURL(entry).href) : "import.meta.url";
  try {
    await build({
      entryPoints: [entry],
      outfile,
      bundle: true,
      format: "esm",
      platform: "node",
      target: "node20",
      sourcemap: staysHere ? "inline" : false,
      logLevel: "silent",
      // Bundled CommonJS packages call require() for Node's own modules.
      banner: {
        js:
          'import { createRequire as millpondCreateRequire } from "node:module";' +
          `const require = millpondCreateRequire(${location});`,
      },
      plugins: [ownLibrary(library), ...(staysHere ? [ownLocation()] : [])],
    });
  } catch (error) {
    if (!isBuildFailure(error)) throw error;
    const messages = error.errors.map(({ text, location: at }) =>
      at === null ? text : `${at.file}:${at.line}:${at.column + 1}: ${text}`,
    );
    throw new MillpondError("DEFINITION", messages.join("; "), { cause: error });
  }
}

function isBuildFailure(error: unknown): error is BuildFailure {
  return error instanceof Error && "errors" in error && Array.isArray(error.errors);
}

function ownLibrary(library: string): Plugin {
  return {
    name: "millpond",
    setup(build) {
      build.onResolve({ filter: /^millpond$/ }, () => ({ path: library, external: true }));
    },
  };
}

/** The bundle lies elsewhere, but `import.meta.url` must still be where the user's file is. */
function ownLocation(): Plugin {
  return {
    name: "location",
    setup(build) {
      build.onLoad({ filter: /\.[cm]?[jt]s$/ }, async ({ path: file }) => {
        const source = await fs.readFile(file, "utf8");
        if (!source.includes("import.meta.")) return undefined;
        const contents = source
          .replaceAll("import.meta.url", JSON.stringify(pathToFileURL(file).href))
          .replaceAll("import.meta.dirname", JSON.stringify(path.dirname(file)))
          .replaceAll("import.meta.filename", JSON.stringify(file));
        return { contents, loader: /ts$/.test(file) ? "ts" : "js" };
      });
    },
  };
}
