/**
 * A stand-in for a Snowflake account: fakesnow (DuckDB that speaks Snowflake's SQL) behind the
 * protocol of Snowflake's driver, with a user that logs in by key pair. What it can't show is told
 * in docs/examples/clickstream.md.
 */
import type { ChildProcess } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { freePort, pythonWith } from "./cache.js";
import { startServer, stopServer } from "./process.js";

/** The launcher patches internals of this very version; the others are what it was tried with. */
const PACKAGES = [
  "fakesnow[server]==0.12.1",
  "snowflake-connector-python==4.8.1",
  "duckdb==2.0.0",
  "sqlglot==30.22.0",
  "starlette==1.10.0",
  "uvicorn==0.54.0",
  "PyJWT==2.15.1",
];
const LAUNCHER = fileURLToPath(new URL("snowflake/fakesnow_ext.py", import.meta.url));
const USER = "MILLPOND";

/** Makes the n-th statement that matches fail, or, with "down", all from that on. */
export interface SnowflakeFault {
  readonly match: string;
  readonly when: "before" | "after" | "down";
  readonly skip?: number;
}

export interface TestSnowflake {
  /** For the sink: a schema of the account, which is made when it is first used. */
  env(schema: string): Record<string, string>;
  /** Null: nothing fails any more. Either way, the log starts anew. */
  fail(fault: SnowflakeFault | null): Promise<void>;
  /** Whether the fault has struck. */
  hasFailed(): Promise<boolean>;
  /** Statements since the last call of `fail`. */
  log(): Promise<string[]>;
  stop(): Promise<void>;
}

/** Null when the stand-in can be used; otherwise why this machine can't. */
export async function setUpSnowflake(): Promise<string | null> {
  try {
    await interpreter();
    return null;
  } catch (error) {
    return `python3 (3.11 or later) with venv, pip and fakesnow is not to be had: ${String(error)}`;
  }
}

function interpreter(): Promise<string> {
  return pythonWith("fakesnow-0.12.1", PACKAGES);
}

/**
 * @example
 * const snowflake = await startSnowflake();
 * const sink = snowflakeSink({ env: snowflake.env("CLICKS"), pipeline, layouts });
 * await snowflake.stop();
 */
export async function startSnowflake(): Promise<TestSnowflake> {
  const python = await interpreter();
  const scratch = mkdtempSync(path.join(tmpdir(), "millpond-fakesnow-"));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const keyFile = makeKeys(scratch);
  const { PATH = "", HOME = "" } = process.env;
  const child: ChildProcess = await startServer({
    name: "fakesnow",
    command: python,
    args: ["-W", "ignore", LAUNCHER, String(port), path.join(scratch, "keys")],
    cwd: scratch,
    env: { PATH, HOME, TMPDIR: scratch },
    isReady: async () => (await fetch(`${url}/test/health`)).ok,
  });
  return {
    env: (schema) => ({
      SNOWFLAKE_ACCESS_URL: url,
      SNOWFLAKE_ACCOUNT: "MYORG-TEST",
      SNOWFLAKE_USER: USER,
      SNOWFLAKE_PRIVATE_KEY_PATH: keyFile,
      SNOWFLAKE_ROLE: "MILLPOND_LOADER",
      SNOWFLAKE_WAREHOUSE: "MILLPOND_WH",
      SNOWFLAKE_DATABASE: "ANALYTICS",
      SNOWFLAKE_SCHEMA: schema,
    }),
    async fail(fault) {
      await fetch(`${url}/test/fault`, { method: "POST", body: JSON.stringify(fault ?? {}) });
    },
    async hasFailed() {
      return (await (await fetch(`${url}/test/fault`)).text()) === "true";
    },
    async log() {
      const lines: string[] = JSON.parse(await (await fetch(`${url}/test/log`)).text());
      return lines;
    },
    async stop() {
      await stopServer(child);
      rmSync(scratch, { recursive: true, force: true });
    },
  };
}

/** Returns the private key's file; the server knows the public half only. */
function makeKeys(dir: string): string {
  const pair = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
  mkdirSync(path.join(dir, "keys"));
  writeFileSync(path.join(dir, "keys", `${USER}.pem`), pair.publicKey);
  const file = path.join(dir, "private.p8");
  writeFileSync(file, pair.privateKey, { mode: 0o600 });
  return file;
}
