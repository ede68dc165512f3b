/**
 * The whole stack deployed by the real CDK to MiniStack, with a real Kafka beside it, and an event
 * source mapping of our own in place of Lambda's, which no emulator has.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { CloudFormationClient, DescribeStacksCommand } from "@aws-sdk/client-cloudformation";
import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import {
  App,
  CfnResource,
  CliCredentialsStackSynthesizer,
  type IReusableStackSynthesizer,
} from "aws-cdk-lib";
import { Kafka, logLevel } from "kafkajs";
import { type AppSettings, appSettings } from "../../lib/aws/app-settings.js";
import { bundlePipeline } from "../../lib/aws/bundle.js";
import { PipelineStack, stackName } from "../../lib/aws/pipeline-stack.js";
import {
  EventSourceMapping,
  type EventSourceMappingOptions,
} from "../../lib/dev/event-source-mapping.js";
import { lambdaInvoker } from "../../lib/dev/lambda-invoker.js";
import { connectKafka } from "../../lib/sources/kafka/kafkajs-client.js";
import { setUpKafka, startKafka, type TestKafka } from "../servers/kafka.js";
import { type Ministack, setUpMinistack, startMinistack } from "../servers/ministack.js";

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const CDK = path.join(ROOT, "node_modules", ".bin", "cdk");
const CDK_MS_MAX = 240_000;

/** Null when stacks can be deployed here; otherwise why not, and what to install. */
export const setUpCloud = async (): Promise<string | null> =>
  (await setUpMinistack()) ?? (await setUpKafka());

export interface CloudOptions {
  /** Settings beside those of the emulator's profile. */
  readonly context?: Readonly<Record<string, string>>;
  readonly pipeline: string;
  /** Further variables of the emulator, and so of the functions it runs. */
  readonly env?: Readonly<Record<string, string>>;
  /** The emulator enforces what functions' roles allow, but for statements named here. */
  readonly enforced?: { readonly without: readonly string[] };
}

export class Cloud {
  readonly kafka: TestKafka;
  readonly aws: Ministack;
  /** The stack's outputs by name. */
  readonly outputs: Readonly<Record<string, string>>;
  private readonly scratch: string;

  private constructor(
    kafka: TestKafka,
    aws: Ministack,
    outputs: Readonly<Record<string, string>>,
    scratch: string,
  ) {
    this.kafka = kafka;
    this.aws = aws;
    this.outputs = outputs;
    this.scratch = scratch;
  }

  /** Sets this process's AWS variables to the emulator's. */
  static async start(options: CloudOptions): Promise<Cloud> {
    const { context = {}, pipeline, env = {}, enforced } = options;
    const kafka = await startKafka();
    const aws = await startMinistack({
      kafkaBootstrap: kafka.bootstrap,
      env,
      auth: enforced !== undefined,
    });
    Object.assign(process.env, aws.env);
    const scratch = mkdtempSync(path.join(tmpdir(), "millpond-cloud-"));
    const cdk = new CdkCommand(aws.env, scratch);
    const settings = appSettings({
      profile: "localstack",
      architecture: process.arch === "arm64" ? "arm64" : "x64",
      bootstrapServers: kafka.bootstrap,
      ...context,
      pipeline,
    });
    const name = await synthesize(scratch, settings, enforced);
    await cdk.bootstrap();
    await cdk.deploy();
    return new Cloud(kafka, aws, await outputsOf(name), scratch);
  }

  /** Stores as the deployed functions have them. */
  get env(): Record<string, string> {
    return {
      ...this.aws.env,
      MILLPOND_STORE: "aws",
      MILLPOND_STATE_TABLE: this.output("StateTable"),
      MILLPOND_BUCKET: this.output("Bucket"),
    };
  }

  output(name: string): string {
    const value = this.outputs[name];
    if (value === undefined) throw new TypeError(`the stack has no output ${name}`);
    return value;
  }

  /** Invokes a deployed function and returns its answer; throws what it threw. */
  async invoke(output: string, event: unknown): Promise<unknown> {
    const client = new LambdaClient({
      maxAttempts: 1,
      requestHandler: { requestTimeout: 15 * 60_000 },
    });
    const answer = await client.send(
      new InvokeCommand({
        FunctionName: this.output(output),
        Payload: Buffer.from(JSON.stringify(event)),
      }),
    );
    client.destroy();
    const text = Buffer.from(answer.Payload ?? []).toString("utf8");
    if (answer.FunctionError !== undefined) throw new TypeError(`${output} failed: ${text}`);
    const parsed: unknown = text === "" ? null : JSON.parse(text);
    return parsed;
  }

  /** Starts polling topics for the deployed processor, through Lambda's API. */
  async poll(
    topics: readonly string[],
    options: Partial<EventSourceMappingOptions> = {},
  ): Promise<EventSourceMapping> {
    const { bootstrap } = this.kafka;
    const client = await connectKafka({ brokers: [bootstrap], auth: { kind: "plaintext" } });
    return await EventSourceMapping.start({
      client,
      origin: { bootstrapServers: bootstrap },
      topics,
      group: "processor",
      invoke: await lambdaInvoker(this.output("Processor")),
      ...options,
    });
  }

  async stop(): Promise<void> {
    await this.aws.stop();
    await this.kafka.stop();
    rmSync(this.scratch, { recursive: true, force: true });
  }
}

/** Synthesises the app into `<scratch>/cdk.out`; returns the stack's name. */
async function synthesize(
  scratch: string,
  settings: AppSettings,
  enforced: CloudOptions["enforced"],
): Promise<string> {
  const code = await bundlePipeline(path.join(ROOT, settings.pipeline), {
    architecture: settings.architecture,
    outDir: path.join(scratch, "bundles"),
  });
  const app = new App({
    outdir: path.join(scratch, "cdk.out"),
    // With the caller's credentials: the emulator does not let the CDK's own roles do their work.
    ...(enforced !== undefined && {
      defaultStackSynthesizer: new CliCredentialsStackSynthesizer() as IReusableStackSynthesizer,
    }),
  });
  const name = stackName(code, settings);
  const stack = new PipelineStack(app, name, { settings, code });
  if (enforced !== undefined) {
    allowPlainHttp(stack);
    dropStatements(stack, enforced.without);
  }
  app.synth();
  return name;
}

interface PolicyDocument {
  readonly Statement: readonly { readonly Sid?: string; readonly Effect: string }[];
}

function policiesOf(stack: PipelineStack, type: RegExp): [CfnResource, PolicyDocument][] {
  return stack.node.findAll().flatMap((construct): [CfnResource, PolicyDocument][] => {
    if (!(construct instanceof CfnResource) || !type.test(construct.cfnResourceType)) return [];
    return [[construct, stack.resolve(Object(construct).policyDocument)]];
  });
}

function setStatements(resource: CfnResource, Statement: PolicyDocument["Statement"]): void {
  resource.addPropertyOverride("PolicyDocument", { Version: "2012-10-17", Statement });
}

/** Takes statements out of roles' policies: what needs them must fail then. */
function dropStatements(stack: PipelineStack, sids: readonly string[]): void {
  for (const [resource, { Statement }] of policiesOf(stack, /::IAM::Policy$/)) {
    const kept = Statement.filter(({ Sid = "" }) => !sids.includes(Sid));
    if (kept.length < Statement.length) setStatements(resource, kept);
  }
}

/** The emulator has no TLS, which buckets, queues and topics otherwise insist on. */
function allowPlainHttp(stack: PipelineStack): void {
  const types = /::(BucketPolicy|QueuePolicy|TopicPolicy)$/;
  for (const [resource, { Statement }] of policiesOf(stack, types)) {
    setStatements(
      resource,
      Statement.map((statement) =>
        statement.Effect === "Deny" ? { ...statement, ...NOTHING } : statement,
      ),
    );
  }
}

/** A denial that is about no action. */
const NOTHING = { Action: "none:None" };

/** The real command line, in a folder without a cdk.json. */
class CdkCommand {
  private readonly env: Readonly<Record<string, string>>;
  private readonly dir: string;

  constructor(env: Readonly<Record<string, string>>, dir: string) {
    this.env = env;
    this.dir = dir;
  }

  bootstrap(): Promise<void> {
    return this.run(["bootstrap", "aws://000000000000/us-east-1"]);
  }

  deploy(): Promise<void> {
    const quietly = ["--require-approval", "never", "--method=direct"];
    return this.run(["deploy", "--app", "cdk.out", "--all", ...quietly]);
  }

  private async run(args: readonly string[]): Promise<void> {
    const { PATH = "", HOME = "" } = process.env;
    const env = { PATH, HOME, ...this.env, CI: "true" };
    const options = { cwd: this.dir, env, timeout: CDK_MS_MAX, maxBuffer: 16 * 1024 * 1024 };
    try {
      await run(CDK, args, options);
    } catch (error) {
      const said = error instanceof Error && "stderr" in error ? String(error.stderr) : "";
      throw new Error(`cdk ${args[0]} failed: ${said.slice(-4_000)}`, { cause: error });
    }
  }
}

async function outputsOf(name: string): Promise<Record<string, string>> {
  const client = new CloudFormationClient({});
  const { Stacks = [] } = await client.send(new DescribeStacksCommand({ StackName: name }));
  client.destroy();
  const outputs = Stacks[0]?.Outputs ?? [];
  return Object.fromEntries(
    outputs.map(({ OutputKey = "", OutputValue = "" }) => [OutputKey, OutputValue]),
  );
}

/** Writes a topic's records, as Kafka has them, one file a partition; returns how many. */
export async function saveTopic(bootstrap: string, topic: string, dir: string): Promise<number> {
  const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.connect();
  const ends = await admin.fetchTopicOffsets(topic);
  await admin.disconnect();
  const lines = ends.map((): string[] => []);
  const missing = new Set(ends.flatMap(({ partition, high }) => (high === "0" ? [] : partition)));
  const consumer = kafka.consumer({ groupId: `raw-${process.pid}-${Date.now()}` });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await new Promise<void>((resolve, reject) => {
    if (missing.size === 0) resolve();
    consumer.on("consumer.crash", ({ payload }) => {
      // A new broker's coordinator loads for a moment: it begins again by itself.
      if (!payload.restart) reject(payload.error);
    });
    const eachBatch = async ({ batch }: { batch: import("kafkajs").Batch }) => {
      for (const { value } of batch.messages) {
        lines[batch.partition]!.push(value?.toString("utf8") ?? "");
      }
      const end = ends.find(({ partition }) => partition === batch.partition)!.high;
      if (Number(batch.lastOffset()) + 1 >= Number(end)) missing.delete(batch.partition);
      if (missing.size === 0) resolve();
    };
    consumer.run({ eachBatch }).catch(reject);
  });
  await consumer.disconnect();
  await mkdir(dir, { recursive: true });
  for (const [partition, values] of lines.entries()) {
    const name = `part-${String(partition).padStart(2, "0")}.ndjson`;
    writeFileSync(path.join(dir, name), values.map((value) => `${value}\n`).join(""));
  }
  return lines.reduce((sum, { length }) => sum + length, 0);
}
