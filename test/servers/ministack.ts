/**
 * MiniStack, an AWS emulator that is a plain process: installed into the cache, started on a free
 * port, with a scratch directory of its own.
 */
import type { ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { freePort, pythonWith } from "./cache.js";
import { startServer, stopServer } from "./process.js";

/** The launcher patches internals of this very version. */
const VERSION = "1.5.33";
const LAUNCHER = fileURLToPath(new URL("ministack_ext.py", import.meta.url));
const NODE_MODULES = fileURLToPath(new URL("../../node_modules", import.meta.url));

/** It waits for open connections before it saves what it holds. */
const SAVE_MS_MAX = 30_000;

export interface MinistackOptions {
  /** "host:port,…": what MSK says its brokers are, for plain text and for IAM alike. */
  readonly kafkaBootstrap?: string;
  /** Enforce IAM policies. */
  readonly auth?: boolean;
  /** Further variables of the server, and so of the Lambdas it runs. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface Ministack {
  readonly endpoint: string;
  /** What AWS clients need, in this process (`Object.assign(process.env, env)`) or in others. */
  readonly env: Record<string, string>;
  /** Ends it and removes its scratch directory. */
  stop(): Promise<void>;
  /** As a crash: what was not saved is lost. */
  kill(): Promise<void>;
  /** Stop in the usual way, which keeps what it held, and start again on the same port. */
  restart(): Promise<void>;
}

/** Null when MiniStack can be used; otherwise why this machine can't. */
export async function setUpMinistack(): Promise<string | null> {
  try {
    await interpreter();
    return null;
  } catch (error) {
    return `python3 with venv, pip and ministack==${VERSION} is not to be had: ${String(error)}`;
  }
}

function interpreter(): Promise<string> {
  return pythonWith(`ministack-${VERSION}`, [`ministack==${VERSION}`]);
}

/**
 * @example
 * const aws = await startMinistack();
 * const dynamodb = new DynamoDBClient({ endpoint: aws.endpoint, … });
 * await aws.stop();
 */
export async function startMinistack(options: MinistackOptions = {}): Promise<Ministack> {
  const python = await interpreter();
  const scratch = mkdtempSync(path.join(tmpdir(), "millpond-ministack-"));
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const env = clientEnv(endpoint);
  const start = () =>
    startServer({
      name: "MiniStack",
      command: python,
      args: [LAUNCHER],
      cwd: scratch,
      env: serverEnv(options, env, scratch, port),
      isReady: async () => (await fetch(`${endpoint}/_ministack/health`)).ok,
    });
  let child: ChildProcess = await start();
  return {
    endpoint,
    env,
    async stop() {
      await stopServer(child);
      rmSync(scratch, { recursive: true, force: true });
    },
    kill: () => stopServer(child, "SIGKILL"),
    async restart() {
      await stopServer(child, "SIGTERM", SAVE_MS_MAX);
      child = await start();
    },
  };
}

function clientEnv(endpoint: string): Record<string, string> {
  return {
    AWS_ENDPOINT_URL: endpoint,
    // The address as an IP gives path-style S3.
    AWS_ENDPOINT_URL_S3: endpoint,
    AWS_REGION: "us-east-1",
    AWS_DEFAULT_REGION: "us-east-1",
    AWS_ACCESS_KEY_ID: "test",
    AWS_SECRET_ACCESS_KEY: "test",
    AWS_EC2_METADATA_DISABLED: "true",
    CDK_DISABLE_CLI_TELEMETRY: "true",
    // Its note about Node 20 goes to stderr, where tests look for errors.
    AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: "true",
  };
}

function serverEnv(
  options: MinistackOptions,
  clients: Readonly<Record<string, string>>,
  scratch: string,
  port: number,
): Record<string, string> {
  const temporary = path.join(scratch, "tmp");
  mkdirSync(temporary, { recursive: true });
  const { PATH = "", HOME = "" } = process.env;
  const bootstrap = options.kafkaBootstrap ?? "";
  return {
    PATH,
    HOME,
    ...clients,
    BIND_HOST: "127.0.0.1",
    GATEWAY_PORT: String(port),
    LOG_LEVEL: "WARNING",
    END_WITH_STDIN: "1",
    TMPDIR: temporary,
    // Custom resources of the CDK need an AWS SDK, as Lambda's own runtime has.
    NODE_PATH: NODE_MODULES,
    PERSIST_STATE: "1",
    STATE_DIR: path.join(scratch, "state"),
    S3_PERSIST: "1",
    S3_DATA_DIR: path.join(scratch, "s3"),
    MINISTACK_MSK_BOOTSTRAP: bootstrap,
    MINISTACK_MSK_BOOTSTRAP_SASL_IAM: bootstrap,
    AUTH: String(options.auth ?? false),
    ...options.env,
  };
}
