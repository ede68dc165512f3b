/** `millpond dev` as a child process, heard by its JSON lines. */
import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { ended, start } from "./cli.js";

export interface DevLine {
  readonly kind:
    | "started"
    | "restarted"
    | "waiting"
    | "status"
    | "trouble"
    | "stopping"
    | "stopped";
  readonly message?: string;
  readonly out?: string;
  readonly metrics?: string;
  readonly records?: number;
  readonly lag?: number;
  readonly tables?: Readonly<Record<string, number>>;
}

const WAIT_MS_MAX = 60_000;

export class DevProcess {
  readonly lines: DevLine[] = [];
  readonly #child: ChildProcess;
  #stderr = "";
  #heard: () => void = () => undefined;

  constructor(args: readonly string[], env: NodeJS.ProcessEnv = process.env) {
    this.#child = start(["dev", ...args, "--json"], { stdio: ["ignore", "pipe", "pipe"], env });
    createInterface(this.#child.stdout!).on("line", (line) => {
      this.lines.push(JSON.parse(line));
      this.#heard();
    });
    this.#child.stderr!.on("data", (chunk) => {
      this.#stderr += chunk;
    });
    this.#child.once("exit", () => this.#heard());
  }

  /** The first line after line `from` that fits; lines so far are kept for messages. */
  async heard(what: string, fits: (line: DevLine) => boolean, from = 0): Promise<DevLine> {
    const giveUpAt = Date.now() + WAIT_MS_MAX;
    for (;;) {
      const found = this.lines.slice(from).find(fits);
      if (found !== undefined) return found;
      const hasEnded = this.#child.exitCode !== null || this.#child.signalCode !== null;
      if (hasEnded || Date.now() > giveUpAt) {
        const last = this.lines.slice(-8).map((line) => JSON.stringify(line));
        throw new Error(`dev did not say: ${what}\n${last.join("\n")}\n${this.#stderr}`);
      }
      await new Promise<void>((resolve) => {
        this.#heard = resolve;
        setTimeout(resolve, 100);
      });
    }
  }

  /** Once all records of the topics are committed. */
  async caughtUp(records: number): Promise<void> {
    await this.heard(`${records} records`, (line) => line.records === records && line.lag === 0);
  }

  /** Ctrl-C, as npx and the terminal send it: twice. The exit code. */
  async interrupt(): Promise<number | NodeJS.Signals | null> {
    this.#child.kill("SIGINT");
    this.#child.kill("SIGINT");
    return ended(this.#child);
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await ended(this.#child);
  }
}
