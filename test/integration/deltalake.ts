/** PyPI's `deltalake` as a second opinion on the lake: set up once, in a cache. */
import { execFile } from "node:child_process";
import { existsSync, renameSync, rmSync } from "node:fs";
import * as path from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const VENV = path.resolve(".cache", "deltalake-1.6.6");
const PYTHON = path.join(VENV, "bin", "python");
const PACKAGES = ["deltalake==1.6.6", "pyarrow==26.0.1"];

/** Null when `deltalake` can be used; otherwise why this machine can't. */
export async function setUpDeltalake(): Promise<string | null> {
  try {
    if (!existsSync(path.join(VENV, "ready"))) await install();
    return null;
  } catch (error) {
    return `python3 with pip and ${PACKAGES.join(", ")} is not to be had: ${String(error)}`;
  }
}

/** In a place of this process's own first: test files run side by side. */
async function install(): Promise<void> {
  const mine = `${VENV}-${process.pid}`;
  const python = path.join(mine, "bin", "python");
  await run("python3", ["-m", "venv", "--clear", mine]);
  await run(python, ["-m", "pip", "install", "--quiet", ...PACKAGES]);
  await run(python, ["-c", "import deltalake, pyarrow; open('ready', 'w')"], { cwd: mine });
  try {
    renameSync(mine, VENV);
  } catch (error) {
    rmSync(mine, { recursive: true });
    // Another test file was first.
    if (!existsSync(path.join(VENV, "ready"))) throw error;
  }
}

/** Run Python that has `DeltaTable`, `table_dir` and `args`, and prints one JSON value. */
export async function deltalake(
  tableDir: string,
  code: string,
  ...args: readonly string[]
): Promise<unknown> {
  const program = [
    "import json, os, sys",
    "from deltalake import DeltaTable",
    "table_dir, *args = sys.argv[1:]",
    code,
    // Threads of the libraries now and then abort an interpreter that ends in the usual way.
    "sys.stdout.flush()",
    "os._exit(0)",
  ].join("\n");
  const options = { maxBuffer: 64 * 1024 * 1024 };
  const { stdout } = await run(PYTHON, ["-c", program, tableDir, ...args], options);
  return JSON.parse(stdout);
}
