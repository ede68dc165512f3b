/** A program that tests start as a process of its own, and kill. */
import { build, type Plugin } from "esbuild";

/**
 * Bundles `entry` (from the repository's root) as the module `outfile`.
 *
 * @example await bundleChild("test/integration/support/sink-child.ts", ".cache/sink-child.mjs");
 */
export async function bundleChild(
  entry: string,
  outfile: string,
  plugins: Plugin[] = [],
): Promise<void> {
  await build({
    entryPoints: [entry],
    outfile,
    bundle: true,
    packages: "external",
    platform: "node",
    format: "esm",
    logLevel: "error",
    plugins,
    // DuckDB's API is loaded by require.
    banner: {
      js:
        'import { createRequire as millpondCreateRequire } from "node:module";' +
        "const require = millpondCreateRequire(import.meta.url);",
    },
  });
}
