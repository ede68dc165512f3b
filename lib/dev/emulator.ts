/**
 * The stack's emulator profile, deployed by the CDK and put to work once: events sent, polled for
 * the deployed processor, published, asked for. Starting emulator and broker is not its business.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { MillpondError } from "../errors.js";
import { connectKafka } from "../sources/kafka/kafkajs-client.js";
import { EventSourceMapping } from "./event-source-mapping.js";
import { lambdaInvoker } from "./lambda-invoker.js";

export interface EmulatorOptions {
  /** Of the emulator. */
  readonly endpoint: string;
  /** Brokers as this machine reaches them. */
  readonly bootstrap: string;
  /** Brokers as functions reach them. */
  readonly functionBootstrap: string;
  readonly events: number;
  /** Takes one line at a time of what is going on. */
  readonly tell: (line: string) => void;
}

/** What the demo deploys, and the simulator whose events it takes. */
const PIPELINE = "pipelines/activity.ts";
const TOPIC = "user_activity";
const STACK = "millpond-activity-dev";
const QUESTION =
  "SELECT page, sum(views)::BIGINT AS views, max(users) AS most_users_a_minute " +
  "FROM page_view_counts GROUP BY page ORDER BY views DESC LIMIT 5";
const POLL_MS = 500;

/**
 * Deploys and runs the demo; returns the query's rows. Sets this process's AWS variables.
 * @throws MillpondError STORAGE when the CDK fails, INPUT when the broker or a function does
 * @example
 * await runOnEmulator({ endpoint: "http://localhost:4566", bootstrap: "localhost:9092",
 *   functionBootstrap: "kafka:19092", events: 10_000, tell: console.log });
 */
export async function runOnEmulator(options: EmulatorOptions): Promise<unknown> {
  const { tell } = options;
  const env = emulatorEnv(options.endpoint);
  Object.assign(process.env, env);
  tell("deploying with the CDK …");
  const outputs = await deploy(options.functionBootstrap);
  const invoke = (name: string, event: unknown) => invokeFunction(outputs, name, event);
  tell("sending events …");
  const sent = await invoke("Producer", {
    simulator: "activity",
    events: options.events,
    start: "2026-01-01T00:00:00Z",
    late: 0.01,
    duplicates: 0.01,
    malformed: 0.001,
  });
  tell(`sent: ${JSON.stringify(sent)}`);
  await drain(options, output(outputs, "Processor"));
  tell("publishing …");
  tell(`published: ${JSON.stringify(await invoke("Sink", { flush: true }))}`);
  const answer = await invoke("QueryFunction", { sql: QUESTION, format: "json" });
  const body = typeof answer === "object" && answer !== null && "body" in answer ? answer.body : "";
  const rows: unknown = JSON.parse(String(body));
  return rows;
}

function emulatorEnv(endpoint: string): Record<string, string> {
  return {
    AWS_ENDPOINT_URL: endpoint,
    AWS_ENDPOINT_URL_S3: endpoint.replace("//localhost", "//127.0.0.1"),
    AWS_REGION: "us-east-1",
    AWS_DEFAULT_REGION: "us-east-1",
    // Emulators take any.
    AWS_ACCESS_KEY_ID: "test",
    AWS_SECRET_ACCESS_KEY: "test",
    AWS_EC2_METADATA_DISABLED: "true",
    CDK_DISABLE_CLI_TELEMETRY: "true",
  };
}

async function deploy(bootstrapServers: string): Promise<ReadonlyMap<string, string>> {
  const scratch = await fs.mkdtemp(path.join(tmpdir(), "millpond-emulator-"));
  try {
    // A folder without cdk.json, or it would run the app.
    await cdk(["bootstrap", "aws://000000000000/us-east-1"], scratch);
    const file = path.join(scratch, "outputs.json");
    const settings = {
      profile: "localstack",
      architecture: process.arch === "arm64" ? "arm64" : "x64",
      pipeline: PIPELINE,
      bootstrapServers,
    };
    const context = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    const quietly = ["--all", "--require-approval", "never", "--method=direct"];
    const out = ["--outputs-file", file, "--output", path.join(scratch, "cdk.out")];
    await cdk(["deploy", ...quietly, ...out, ...context], ROOT);
    return outputsIn(await fs.readFile(file, "utf8"));
  } finally {
    await fs.rm(scratch, { recursive: true, force: true });
  }
}

/** Where cdk.json is: two folders above the sources, three above what is compiled. */
const ROOT = fileURLToPath(
  new URL(import.meta.url.includes("/dist/") ? "../../.." : "../..", import.meta.url),
);

async function cdk(args: readonly string[], cwd: string): Promise<void> {
  const program = createRequire(path.join(ROOT, "package.json")).resolve("aws-cdk/bin/cdk");
  const child = spawn(process.execPath, [program, ...args], {
    cwd,
    env: process.env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-4_000);
  });
  const [code] = (await once(child, "close")) as [number | null];
  if (code === 0) return;
  throw new MillpondError(
    "STORAGE",
    `cdk ${args[0]} ended with ${code}: ${said.trim()}. Check that the emulator answers`,
  );
}

function outputsIn(text: string): ReadonlyMap<string, string> {
  const found: unknown = JSON.parse(text);
  if (typeof found !== "object" || found === null || !(STACK in found)) return new Map();
  const outputs: unknown = found[STACK];
  const entries = typeof outputs === "object" && outputs !== null ? Object.entries(outputs) : [];
  return new Map(entries.map(([name, value]) => [name, String(value)]));
}

function output(outputs: ReadonlyMap<string, string>, name: string): string {
  const value = outputs.get(name);
  if (value !== undefined) return value;
  throw new MillpondError("STORAGE", `the stack has no output ${name}: deploy it again`);
}

async function invokeFunction(
  outputs: ReadonlyMap<string, string>,
  name: string,
  event: unknown,
): Promise<unknown> {
  const { InvokeCommand, LambdaClient } = await import("@aws-sdk/client-lambda");
  const client = new LambdaClient({ maxAttempts: 1 });
  try {
    const Payload = Buffer.from(JSON.stringify(event));
    const FunctionName = output(outputs, name);
    const answer = await client.send(new InvokeCommand({ FunctionName, Payload }));
    const text = Buffer.from(answer.Payload ?? []).toString("utf8");
    if (answer.FunctionError !== undefined) {
      throw new MillpondError("INPUT", `${name} failed: ${text}; its log says more`);
    }
    const parsed: unknown = text === "" ? null : JSON.parse(text);
    return parsed;
  } finally {
    client.destroy();
  }
}

/** Polls the topic for the deployed processor until nothing is left. */
async function drain({ bootstrap, tell }: EmulatorOptions, processor: string): Promise<void> {
  const brokers = bootstrap.split(",");
  const client = await connectKafka({ brokers, auth: { kind: "plaintext" } });
  try {
    const ends = (await client.offsets(TOPIC)) ?? [];
    const records = ends.reduce((sum, { low, high }) => sum + high - low, 0);
    const mapping = await EventSourceMapping.start({
      client,
      origin: { bootstrapServers: bootstrap },
      topics: [TOPIC],
      // A group of its own, from the beginning: what was processed before is skipped.
      group: `millpond-demo-${Date.now()}`,
      invoke: await lambdaInvoker(processor),
      onTrouble: (error) => tell(`trouble: ${String(error)}`),
    });
    while (mapping.stats().delivered < records) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      tell(`processed ${mapping.stats().delivered} of ${records} records`);
    }
    await mapping.stop();
  } finally {
    await client.close();
  }
}
