/** Versity S3 Gateway, an S3 server over a directory that checks signatures; built by Go. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { freePort, installed, run } from "./cache.js";
import { startServer, stopServer } from "./process.js";

const VERSION = "1.8.0";
const MODULE = `github.com/versity/versitygw/cmd/versitygw@v${VERSION}`;
const KEYS = { access: "millpond-test", secret: "only-for-tests" } as const;

export interface Versitygw {
  /** What S3 clients need. */
  readonly env: Record<string, string>;
  stop(): Promise<void>;
}

/** Null when it can be used; otherwise why this machine can't. */
export async function setUpVersitygw(): Promise<string | null> {
  try {
    await program();
    return null;
  } catch (error) {
    return `go (1.24 or newer) and versitygw ${VERSION} are not to be had: ${String(error)}`;
  }
}

async function program(): Promise<string> {
  const dir = await installed(`versitygw-${VERSION}`, async (bin) => {
    await run("go", ["install", MODULE], { env: { ...process.env, GOBIN: bin } });
  });
  return path.join(dir, "versitygw");
}

/** @example const server = await startVersitygw(); Object.assign(process.env, server.env); */
export async function startVersitygw(): Promise<Versitygw> {
  const command = await program();
  const scratch = mkdtempSync(path.join(tmpdir(), "millpond-versitygw-"));
  const [root, meta] = [path.join(scratch, "root"), path.join(scratch, "meta")];
  for (const dir of [root, meta]) mkdirSync(dir);
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const child = await startServer({
    name: "versitygw",
    command,
    // Metadata beside the files: not every file system has extended attributes.
    args: ["--port", `127.0.0.1:${port}`, "--quiet", "posix", "--sidecar", meta, root],
    cwd: scratch,
    env: { ROOT_ACCESS_KEY: KEYS.access, ROOT_SECRET_KEY: KEYS.secret, HOME: scratch },
    // Without a signature it answers, and refuses.
    isReady: async () => (await fetch(endpoint)).status === 403,
  });
  return {
    env: {
      AWS_ENDPOINT_URL_S3: endpoint,
      AWS_REGION: "us-east-1",
      AWS_ACCESS_KEY_ID: KEYS.access,
      AWS_SECRET_ACCESS_KEY: KEYS.secret,
      AWS_EC2_METADATA_DISABLED: "true",
    },
    async stop() {
      await stopServer(child);
      rmSync(scratch, { recursive: true, force: true });
    },
  };
}
