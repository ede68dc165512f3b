/** Programs that tests need, installed once from the registries into a cache. */
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

export const run = promisify(execFile);
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const CACHE = path.resolve(process.env.MILLPOND_TEST_CACHE ?? path.join(ROOT, ".cache", "servers"));

/**
 * The directory of a program in the cache, filled by `install` if it is not there yet. Files that
 * start side by side may both install; each does so in a place of its own, and the first to be
 * done is kept.
 *
 * @example const dir = await installed("kafka-4.4.0", (dir) => fetchJars(dir));
 */
export async function installed(
  name: string,
  install: (dir: string) => Promise<void>,
): Promise<string> {
  const dir = path.join(CACHE, name);
  if (existsSync(path.join(dir, "ready"))) return dir;
  const mine = `${dir}-${randomUUID()}`;
  mkdirSync(mine, { recursive: true });
  try {
    await install(mine);
    writeFileSync(path.join(mine, "ready"), "");
    renameSync(mine, dir);
  } catch (error) {
    rmSync(mine, { recursive: true, force: true });
    if (!existsSync(path.join(dir, "ready"))) throw error;
  }
  return dir;
}

/** A Python environment with these packages; returns its interpreter. */
export async function pythonWith(name: string, packages: readonly string[]): Promise<string> {
  const dir = await installed(name, async (venv) => {
    await run("python3", ["-m", "venv", venv]);
    const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    await run(path.join(venv, "bin", "python"), [...pip, ...packages]);
  });
  return path.join(dir, "bin", "python");
}

/** Leaves the jars that a pom names, and all that they need, in `to`. */
export async function copyJars(pom: string, to: string): Promise<void> {
  const goal = ["dependency:copy-dependencies", "-DincludeScope=runtime"];
  await run("mvn", ["-q", "-B", "-f", pom, ...goal, `-DoutputDirectory=${to}`]);
}

const DEBIAN = { java: "openjdk-17-jre-headless", mvn: "maven", python3: "python3-venv" };

/** Null when they are all here; else what to install. */
export async function missingOf(
  programs: readonly (keyof typeof DEBIAN)[],
): Promise<string | null> {
  for (const program of programs) {
    try {
      await run(program, [program === "java" ? "-version" : "--version"]);
    } catch {
      return `${program} is not here: install it (Debian: apt-get install ${DEBIAN[program]})`;
    }
  }
  return null;
}

/** A port that was free just now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = address !== null && typeof address === "object" ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}
