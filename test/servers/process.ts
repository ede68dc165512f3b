/** A server as a child process: started, waited for, stopped, and never left behind. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";

const READY_MS_MAX = 60_000;
const TERM_MS_MAX = 3_000;
const OUTPUT_CHARS_MAX = 16_384;
const POLL_MS = 25;

export interface ServerCommand {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** Whether it answers. May throw: then it does not. */
  readonly isReady: () => Promise<boolean>;
}

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});
// How the test runner ends a process whose tests did not stop what they started.
process.once("SIGTERM", () => process.exit(143));

/** Throws with the server's last output if it ends, or is not ready in a minute. */
export async function startServer(server: ServerCommand): Promise<ChildProcess> {
  const child = spawn(server.command, server.args, {
    cwd: server.cwd,
    env: server.env,
    // Never written to: its end tells a server that cares that this process is gone.
    stdio: ["pipe", "pipe", "pipe"],
  });
  running.add(child);
  child.once("close", () => running.delete(child));
  let output = "";
  let failure: string | null = null;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-OUTPUT_CHARS_MAX);
    });
  }
  child.once("error", (error) => {
    failure = error.message;
  });
  child.once("exit", (code, signal) => {
    failure ??= `it ended with ${code ?? signal}`;
  });
  const deadline = Date.now() + READY_MS_MAX;
  while (failure === null && Date.now() < deadline) {
    if (await server.isReady().catch(() => false)) return child;
    await delay(POLL_MS);
  }
  await stopServer(child, "SIGKILL");
  throw new Error(
    `${server.name} did not start: ${failure ?? `not ready in ${READY_MS_MAX} ms`}\n${output}`,
  );
}

/** With SIGTERM, and SIGKILL if that is not enough after `termMsMax`. */
export async function stopServer(
  child: ChildProcess,
  signal: "SIGTERM" | "SIGKILL" = "SIGTERM",
  termMsMax = TERM_MS_MAX,
): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill(signal);
  const timer = setTimeout(() => child.kill("SIGKILL"), termMsMax);
  await ended;
  clearTimeout(timer);
}
