/**
 * A real PostgreSQL for tests, of the system's own package: one server per call, on a port and in
 * a directory of its own. What tests do with it is theirs.
 */
import type { ChildProcess } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import pg from "pg";
import { freePort, run } from "./cache.js";
import { startServer, stopServer } from "./process.js";

const USER = "postgres";
const DATABASES = "/usr/lib/postgresql";
/** What a fast shutdown may take when connections are open. */
const STOP_MS_MAX = 10_000;

export interface TestPostgres {
  readonly port: number;
  /** Of the database `postgres`, as its superuser, without a password. */
  readonly env: Readonly<Record<string, string>>;
  /** A new, empty database; its variables. */
  createDatabase(name: string): Promise<Readonly<Record<string, string>>>;
  /** One statement as the superuser, in database `postgres` or another. */
  query(sql: string, database?: string): Promise<pg.QueryResult>;
  /** kill -9 of every process of the server. */
  kill(): Promise<void>;
  /** After `kill` or `pause`. */
  start(): Promise<void>;
  /** Ends connections and stops; what was written stays for `start`. */
  pause(): Promise<void>;
  /** Ends the server and removes what it wrote. */
  stop(): Promise<void>;
}

/** Null when `startPostgres` can be used; otherwise what to install. */
export async function setUpPostgres(): Promise<string | null> {
  try {
    await run(path.join(binaries(), "postgres"), ["--version"]);
    return null;
  } catch {
    return "PostgreSQL is not here: install it (Debian: apt-get install postgresql)";
  }
}

/** Debian keeps versions side by side, and off the path; others have theirs on it. */
function binaries(): string {
  const versions = fs.existsSync(DATABASES) ? fs.readdirSync(DATABASES) : [];
  const newest = versions.sort((a, b) => Number(b) - Number(a))[0];
  return newest === undefined ? "" : path.join(DATABASES, newest, "bin");
}

/** PostgreSQL does not run as root. */
function asServer(program: string, args: readonly string[]): [string, string[]] {
  const command = path.join(binaries(), program);
  if (process.getuid?.() !== 0) return [command, [...args]];
  return ["setpriv", [`--reuid=${USER}`, `--regid=${USER}`, "--clear-groups", command, ...args]];
}

class Server implements TestPostgres {
  readonly port: number;
  readonly #dir: string;
  #child: ChildProcess | null = null;

  constructor(port: number, dir: string) {
    this.port = port;
    this.#dir = dir;
  }

  get env(): Readonly<Record<string, string>> {
    return this.#envOf("postgres");
  }

  #envOf(PGDATABASE: string): Readonly<Record<string, string>> {
    return { PGHOST: "127.0.0.1", PGPORT: String(this.port), PGUSER: USER, PGDATABASE };
  }

  async initialize(): Promise<void> {
    if (process.getuid?.() === 0) await run("chown", [USER, this.#dir]);
    const data = path.join(this.#dir, "data");
    const options = ["--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust", "--no-sync"];
    const [command, args] = asServer("initdb", ["-D", data, "-U", USER, ...options]);
    await run(command, args, { cwd: this.#dir });
  }

  async createDatabase(name: string): Promise<Readonly<Record<string, string>>> {
    await this.query(`CREATE DATABASE ${pg.escapeIdentifier(name)}`);
    return this.#envOf(name);
  }

  async query(sql: string, database = "postgres"): Promise<pg.QueryResult> {
    const client = new pg.Client({ host: "127.0.0.1", port: this.port, user: USER, database });
    await client.connect();
    try {
      return await client.query(sql);
    } finally {
      await client.end();
    }
  }

  async start(): Promise<void> {
    const settings = ["fsync=off", "unix_socket_directories=", "max_connections=40"];
    const [command, args] = asServer("postgres", [
      ...["-D", path.join(this.#dir, "data"), "-p", String(this.port)],
      ...settings.flatMap((setting) => ["-c", setting]),
    ]);
    this.#child = await startServer({
      name: "PostgreSQL",
      command,
      args,
      env: { PATH: process.env.PATH ?? "" },
      cwd: this.#dir,
      isReady: async () => (await this.query("SELECT 1")).rowCount === 1,
    });
  }

  async kill(): Promise<void> {
    const { pid } = this.#child ?? {};
    if (this.#child === null || pid === undefined) return;
    const { stdout } = await run("pgrep", ["-P", String(pid)]);
    const others = stdout.trim().split("\n").map(Number);
    await stopServer(this.#child, "SIGKILL");
    // A new server refuses to start beside processes that the old one left.
    while (others.some((other) => sendKill(other))) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async pause(): Promise<void> {
    // SIGINT is PostgreSQL's "fast": open transactions are rolled back.
    this.#child?.kill("SIGINT");
    if (this.#child !== null) await stopServer(this.#child, "SIGTERM", STOP_MS_MAX);
  }

  async stop(): Promise<void> {
    await this.pause();
    fs.rmSync(this.#dir, { recursive: true, force: true });
  }
}

/** False once the process is gone. */
function sendKill(pid: number): boolean {
  try {
    return process.kill(pid, "SIGKILL");
  } catch {
    return false;
  }
}

/**
 * A running server, after `setUpPostgres` returned null.
 *
 * @example
 * const postgres = await startPostgres();
 * const env = await postgres.createDatabase("results");
 * await postgres.stop();
 */
export async function startPostgres(): Promise<TestPostgres> {
  const dir = fs.mkdtempSync(path.join(tmpdir(), "millpond-postgres-"));
  const server = new Server(await freePort(), dir);
  try {
    await server.initialize();
    await server.start();
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}
