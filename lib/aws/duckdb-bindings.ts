/**
 * DuckDB's native library for the architecture that a Lambda has, which is often not this
 * machine's: from this installation, else as the very package that npm would install.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import * as fs from "node:fs/promises";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import * as path from "node:path";
import { promisify } from "node:util";
import { MillpondError } from "../errors.js";
import { makeDirectory } from "../stores/make-directory.js";

const run = promisify(execFile);
const require = createRequire(import.meta.url);

/** The registry's own hashes of the packages; they change with the version in package.json. */
const PACKAGES = {
  version: "1.5.5-r.5",
  arm64:
    "sha512-CafH2AIvXtpwDynG3KB/4uEOHRGlFoB7auCRMIwH3BKNIobsANV5LSpDJ3tfyRCF" +
    "IsK6e8AT1eseWVnu2Dv3cw==",
  x64:
    "sha512-kCyq6BXhn6QXfwF8yVdVKriSSHP+rfVWcJ56cG8qZzlOZpxyvT5WGm6jMshxg4di" +
    "tLlOsHsIN/D47RYrcjXuHQ==",
} as const;

/**
 * Puts `@duckdb/node-bindings` and its library into `<dir>/node_modules`.
 * @throws MillpondError STORAGE when npm can't get the library, or gets another one
 */
export async function copyDuckdbBindings(
  architecture: "arm64" | "x64",
  dir: string,
): Promise<void> {
  const scope = path.join(dir, "node_modules", "@duckdb");
  const loader = path.dirname(require.resolve("@duckdb/node-bindings/package.json"));
  makeDirectory(scope);
  for (const file of ["package.json", "duckdb.js"]) {
    const target = path.join(scope, "node-bindings");
    makeDirectory(target);
    await fs.copyFile(path.join(loader, file), path.join(target, file));
  }
  const name = `node-bindings-linux-${architecture}`;
  const library = await libraryDir(name, architecture);
  await fs.cp(library, path.join(scope, name), { recursive: true });
}

async function libraryDir(name: string, architecture: "arm64" | "x64"): Promise<string> {
  const { version } = PACKAGES;
  const installed = installedDir(name);
  if (installed !== null) return installed;
  const cached = path.join(userCache(), `${name}-${version}`);
  if (existsSync(cached)) return cached;
  return await fetchPackage(`@duckdb/${name}@${version}`, PACKAGES[architecture], cached);
}

/** Where downloads are kept for the next bundle. */
export function userCache(): string {
  return path.join(process.env.XDG_CACHE_HOME ?? path.join(homedir(), ".cache"), "millpond");
}

/** Null when npm left it out, as it does for other machines than this. */
function installedDir(name: string): string | null {
  try {
    const file = require.resolve(`@duckdb/${name}/package.json`);
    const { version }: { version: string } = require(file);
    return version === PACKAGES.version ? path.dirname(file) : null;
  } catch {
    return null;
  }
}

/** Into a directory of its own first, and moved when it is whole: others may do the same now. */
async function fetchPackage(spec: string, integrity: string, target: string): Promise<string> {
  makeDirectory(path.dirname(target));
  const scratch = await fs.mkdtemp(`${target}.`);
  try {
    const archive = await pack(spec, scratch);
    const found = createHash("sha512")
      .update(await fs.readFile(archive))
      .digest("base64");
    if (`sha512-${found}` !== integrity) {
      throw new MillpondError(
        "STORAGE",
        `${spec} has sha512-${found} and not ${integrity}: ` +
          "the registry served another package; don't use it, and tell its maintainers",
      );
    }
    await run("tar", ["-xzf", archive, "-C", scratch]);
    await fs.rename(path.join(scratch, "package"), target).catch((error: unknown) => {
      if (!existsSync(target)) throw error;
    });
    return target;
  } finally {
    await fs.rm(scratch, { recursive: true, force: true });
  }
}

async function pack(spec: string, dir: string): Promise<string> {
  try {
    const { stdout } = await run("npm", ["pack", spec, "--json", "--pack-destination", dir]);
    const found: unknown = JSON.parse(stdout);
    const first: unknown = Array.isArray(found) ? found[0] : undefined;
    if (typeof first === "object" && first !== null && "filename" in first) {
      return path.join(dir, String(first.filename));
    }
    throw new TypeError(`npm pack said ${stdout.slice(0, 200)}`);
  } catch (cause) {
    throw new MillpondError(
      "STORAGE",
      `npm could not fetch ${spec}, DuckDB's library for the functions' architecture: ` +
        `check the registry, or deploy with the architecture of this machine (${process.arch})`,
      { cause },
    );
  }
}
