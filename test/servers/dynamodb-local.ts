/** DynamoDB Local, Amazon's own, in memory: its jars from Maven Central in the cache. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { copyJars, freePort, installed, run } from "./cache.js";
import { startServer, stopServer } from "./process.js";

const VERSION = "2.6.1";
const POM = fileURLToPath(new URL("dynamodb-local/pom.xml", import.meta.url));
const MAIN = "com.amazonaws.services.dynamodbv2.local.main.ServerRunner";

export interface DynamoDbLocal {
  readonly endpoint: string;
  stop(): Promise<void>;
}

/** Null when it can be used; otherwise why this machine can't. */
export async function setUpDynamoDbLocal(): Promise<string | null> {
  try {
    await jars();
    return null;
  } catch (error) {
    return `java, mvn and DynamoDBLocal ${VERSION} from Maven are not to be had: ${String(error)}`;
  }
}

function jars(): Promise<string> {
  return installed(`dynamodb-local-${VERSION}`, async (dir) => {
    await run("java", ["-version"]);
    await copyJars(POM, path.join(dir, "libs"));
  });
}

/** @example const server = await startDynamoDbLocal(); */
export async function startDynamoDbLocal(): Promise<DynamoDbLocal> {
  const libs = path.join(await jars(), "libs");
  const scratch = mkdtempSync(path.join(tmpdir(), "millpond-dynamodb-"));
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const child = await startServer({
    name: "DynamoDB Local",
    command: "java",
    args: [
      ...["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
      ...[`-Djava.library.path=${libs}`, "-cp", `${libs}/*`, MAIN],
      ...["-inMemory", "-sharedDb", "-disableTelemetry", "-port", String(port)],
    ],
    cwd: scratch,
    env: { PATH: process.env.PATH ?? "", HOME: scratch },
    // Without credentials it answers, and refuses.
    isReady: async () => (await fetch(endpoint)).status === 400,
  });
  return {
    endpoint,
    async stop() {
      await stopServer(child);
      rmSync(scratch, { recursive: true, force: true });
    },
  };
}
