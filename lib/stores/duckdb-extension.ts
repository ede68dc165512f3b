/**
 * DuckDB's httpfs extension, which reads S3: finds it beside a bundle or in a cache, and gets it
 * there for a laptop or for the bundle of another machine. It loads signed extensions only, so what
 * was tampered with is refused by DuckDB itself.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import * as fs from "node:fs/promises";
import { homedir } from "node:os";
import * as path from "node:path";
import { promisify } from "node:util";
import { DuckDBInstance } from "../duckdb-api.js";
import { MillpondError } from "../errors.js";
import { quoteText } from "../sinks/duckdb-types.js";
import { makeDirectory } from "./make-directory.js";

/** The DuckDB that package.json pins; an extension fits one version. */
const DUCKDB_VERSION = "1.5.5";
const FILE = "httpfs.duckdb_extension";
const PIP_TIMEOUT_MS = 120_000;

interface Platform {
  /** DuckDB's name for it, which is the extension's folder. */
  readonly duckdb: string;
  /** pip's name for it. */
  readonly pip: string;
  /** SHA-256 of the wheel that carries the extension. */
  readonly sha256: string;
}

const PLATFORMS = {
  x64: {
    duckdb: "linux_amd64",
    pip: "manylinux2014_x86_64",
    sha256: "84913dbe172ccb54368de2c4a020c38ca8b0e76f99df548f7fac37934cc7826f",
  },
  arm64: {
    duckdb: "linux_arm64",
    pip: "manylinux2014_aarch64",
    sha256: "567d17e398fc29f7ea4bc42ea277ea19643bd1ad1815f676cb6dd994b50399bb",
  },
} as const satisfies Readonly<Record<string, Platform>>;

export type LinuxArchitecture = keyof typeof PLATFORMS;

/** Where the extension is looked for and kept: beside a Lambda's code, or in the user's cache. */
export function extensionDirectory(env: NodeJS.ProcessEnv): string {
  if (env.MILLPOND_EXTENSIONS !== undefined) return env.MILLPOND_EXTENSIONS;
  const bundled = path.join(env.LAMBDA_TASK_ROOT ?? "", "extensions");
  if (env.LAMBDA_TASK_ROOT !== undefined && existsSync(bundled)) return bundled;
  const cache = env.XDG_CACHE_HOME ?? path.join(homedir(), ".cache");
  return path.join(cache, "millpond", "duckdb-extensions");
}

/**
 * Makes the extension for a Linux architecture available in `dir`, as
 * `v1.5.5/linux_arm64/httpfs.duckdb_extension`; at once when it is there. Throws
 * `MillpondError("STORAGE")` when it is not and can't be got.
 *
 * @example
 * await httpfsExtension({ architecture: "arm64", dir: "cdk.out/sink/extensions" });
 */
export async function httpfsExtension(options: {
  readonly architecture: LinuxArchitecture;
  readonly dir: string;
}): Promise<void> {
  const platform = PLATFORMS[options.architecture];
  const folder = path.join(options.dir, `v${DUCKDB_VERSION}`, platform.duckdb);
  if (existsSync(path.join(folder, FILE))) return;
  try {
    await fromWheel(platform, folder);
  } catch (cause) {
    throw unavailable(`pip could not get it for ${platform.duckdb}`, cause);
  }
}

/**
 * Makes the extension available for this machine in `directory` and returns that: what is there,
 * else a pinned wheel by pip, else DuckDB's own INSTALL.
 */
export async function localHttpfs(directory: string): Promise<string> {
  const { platform, arch } = process;
  if (platform === "linux" && (arch === "x64" || arch === "arm64")) {
    try {
      await httpfsExtension({ architecture: arch, dir: directory });
      return directory;
    } catch {
      // A machine without pip: DuckDB may reach its own place.
    }
  }
  try {
    // Does nothing when it is there.
    await withDuckdb(directory, ["INSTALL httpfs", "LOAD httpfs"]);
  } catch (cause) {
    throw unavailable("neither pip nor DuckDB's INSTALL could get it", cause);
  }
  return directory;
}

async function withDuckdb(directory: string, statements: readonly string[]): Promise<void> {
  makeDirectory(directory);
  const instance = await DuckDBInstance.create(":memory:", { threads: "1" });
  try {
    const connection = await instance.connect();
    await connection.run(`SET extension_directory = ${quoteText(directory)}`);
    for (const sql of statements) await connection.run(sql);
  } finally {
    instance.closeSync();
  }
}

async function fromWheel(platform: Platform, folder: string): Promise<void> {
  const run = promisify(execFile);
  makeDirectory(folder);
  const scratch = await fs.mkdtemp(path.join(folder, ".download-"));
  try {
    const requirements = path.join(scratch, "requirements.txt");
    const wheel = `duckdb-extension-httpfs==${DUCKDB_VERSION} --hash=sha256:${platform.sha256}\n`;
    await fs.writeFile(requirements, wheel);
    const pip = [
      ...["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"],
      ...["--require-hashes", "--only-binary=:all:", "--platform", platform.pip],
      ...["--dest", scratch, "--requirement", requirements],
    ];
    await run("python3", pip, { timeout: PIP_TIMEOUT_MS });
    const [file] = (await fs.readdir(scratch)).filter((name) => name.endsWith(".whl"));
    const unzip = ["-m", "zipfile", "--extract", path.join(scratch, file ?? ""), scratch];
    await run("python3", unzip, { timeout: PIP_TIMEOUT_MS });
    const inWheel = path.join("duckdb_extension_httpfs", "extensions", `v${DUCKDB_VERSION}`, FILE);
    // A rename, so that two at once never leave half a file.
    await fs.rename(path.join(scratch, inWheel), path.join(folder, FILE));
  } finally {
    await fs.rm(scratch, { recursive: true, force: true });
  }
}

function unavailable(found: string, cause: unknown): MillpondError {
  return new MillpondError(
    "STORAGE",
    `DuckDB's httpfs extension ${DUCKDB_VERSION}, which reads S3, is not here: ${found}. Install ` +
      "python3 with pip, or put the extension into the folder that MILLPOND_EXTENSIONS names, as " +
      `v${DUCKDB_VERSION}/<platform>/${FILE}`,
    { cause },
  );
}
