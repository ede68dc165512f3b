/** Runs the built CLI as users do, in a directory of its own. */
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll } from "vitest";

const CLI = fileURLToPath(new URL("../../../dist/bin/millpond.js", import.meta.url));
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

export interface Result {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A directory that lives as long as the test file. */
export function testDir(name: string): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), `millpond-${name}-`));
  afterAll(() => fs.rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export function millpond(...args: string[]): Result {
  const options = { encoding: "utf8", maxBuffer: OUTPUT_BYTES_MAX } as const;
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], options);
  return { status, stdout, stderr };
}

/** Like `millpond`, and an exit code other than 0 fails with what was said. */
export function succeed(...args: string[]): Result {
  const result = millpond(...args);
  if (result.status === 0) return result;
  throw new Error(`millpond ${args.join(" ")} ended with ${result.status}:\n${result.stderr}`);
}

/** The command line of the CLI, for a shell. */
export function commandLine(args: readonly string[]): string {
  const quote = (word: string) => `'${word.replaceAll("'", "'\\''")}'`;
  return [process.execPath, CLI, ...args].map(quote).join(" ");
}

export function start(args: readonly string[], options: SpawnOptions = {}): ChildProcess {
  return spawn(process.execPath, [CLI, ...args], { stdio: "ignore", ...options });
}

/** Exit code, or the signal that ended it. */
export async function ended(child: ChildProcess): Promise<number | NodeJS.Signals | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return child.exitCode ?? child.signalCode;
}

/** JSON values, one a line. */
export function jsonLines(text: string): Record<string, unknown>[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}

/** Writes a file and the directories above it. */
export function write(file: string, content: string | Uint8Array): string {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, content);
  return file;
}
