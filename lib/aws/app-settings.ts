/**
 * The app's settings, from the CDK's context (`-c name=value`, or `context` in cdk.json): checked
 * as a whole before anything is made, because a deploy finds a wrong one late.
 */
import { MillpondError } from "../errors.js";
import type { Architecture } from "./bundle.js";
import type { ExistingNetwork, KafkaSource } from "./kafka.js";
import type { ProvisionedPollers } from "./stream-pipeline.js";

export interface AppSettings {
  /** `localstack`: brokers beside the emulator, and something else that polls them. */
  readonly profile: "aws" | "localstack";
  /** File that exports the pipeline. */
  readonly pipeline: string;
  readonly stage: string;
  readonly kafka: KafkaSource;
  readonly partitions: number;
  readonly architecture: Architecture;
  readonly batchWindowSeconds: number;
  /** Read nothing yet: `millpond backfill` comes first. */
  readonly paused: boolean;
  /** Keep data when the stack goes. */
  readonly retain: boolean;
  readonly pollers?: ProvisionedPollers;
  /** A request of the producer, sent once a minute. */
  readonly producer?: Readonly<Record<string, unknown>>;
  readonly alarmEmail?: string;
}

/** Every setting and what it is for; `cdk synth -c help=true` shows them. */
export const SETTINGS = {
  pipeline: "file that exports the pipeline (pipelines/activity.ts)",
  stage: "part of names; prod keeps its data when the stack goes (dev)",
  paused: "true or false: read nothing yet, so that a backfill comes first (false)",
  retain: "true or false: keep data when the stack goes (true for stage prod)",
  kafka: "serverless, provisioned, existing or self-managed (serverless)",
  partitions: "of each topic (4)",
  instanceType: "provisioned: of brokers (kafka.t3.small)",
  brokers: "provisioned: a multiple of 3 (3)",
  storageGiB: "provisioned: disk of a broker (100)",
  kafkaVersion: "provisioned: 3.6.0 or later (3.9.x)",
  clusterArn: "existing: the MSK cluster",
  bootstrapServers: "self-managed: host:port,host:port",
  kafkaAuth: "self-managed: scram, tls or plaintext (scram)",
  secretArn: "self-managed, scram: the secret with username and password",
  vpcId: "existing or self-managed: where the brokers are",
  subnetIds: "of that VPC, separated by commas",
  availabilityZones: "of those subnets, in their order",
  securityGroupIds: "let in by the brokers",
  batchWindowSeconds: "how long Lambda gathers records, 0 to 300 (5)",
  pollers: "min-max, e.g. 1-10: provisioned pollers instead of on-demand mode",
  retries: "with pollers: tries before records are given up (for ever)",
  producer: "simulator=rate, e.g. activity=100, or a request as JSON: runs once a minute",
  alarmEmail: "address that alarms go to",
  architecture: "arm64 or x64 (arm64)",
  profile: "aws or localstack (aws)",
} as const;

type SettingName = keyof typeof SETTINGS;
type Context = Readonly<Record<string, unknown>>;

/**
 * @param context the app's whole context; names with ":", "@" or "/" are the CDK's own
 * @throws MillpondError USAGE naming the setting
 * @example appSettings({ kafka: "provisioned", brokers: "6" })
 */
export function appSettings(context: Context): AppSettings {
  refuseUnknown(context);
  const read = new Reader(context);
  const profile = read.choice("profile", ["aws", "localstack"], "aws");
  const stage = read.text("stage") ?? "dev";
  const pollers = pollersOf(read);
  const producer = producerOf(read);
  const alarmEmail = read.text("alarmEmail");
  return {
    profile,
    pipeline: read.text("pipeline") ?? "pipelines/activity.ts",
    stage,
    kafka: profile === "localstack" ? localKafka(read) : kafkaOf(read),
    partitions: read.integer("partitions", 1, 10_000, 4),
    architecture: read.choice("architecture", ["arm64", "x64"], "arm64"),
    batchWindowSeconds: read.integer("batchWindowSeconds", 0, 300, 5),
    paused: read.choice("paused", ["true", "false"], "false") === "true",
    retain: read.choice("retain", ["true", "false"], String(stage === "prod")) === "true",
    ...(pollers !== undefined && { pollers }),
    ...(producer !== undefined && { producer }),
    ...(alarmEmail !== undefined && { alarmEmail }),
  };
}

function refuseUnknown(context: Context): void {
  const names = Object.keys(context).filter((name) => !/[:@/]/.test(name));
  const unknown = names.find((name) => !(name in SETTINGS));
  if (unknown === undefined) return;
  throw new MillpondError(
    "USAGE",
    `setting "${unknown}" is unknown: known are ${Object.keys(SETTINGS).join(", ")}`,
  );
}

class Reader {
  private readonly context: Context;

  constructor(context: Context) {
    this.context = context;
  }

  text(name: SettingName): string | undefined {
    const value = this.context[name];
    if (value === undefined || value === "") return undefined;
    if (["string", "number", "boolean"].includes(typeof value)) return String(value);
    return this.refuse(name, JSON.stringify(value), "give text");
  }

  required(name: SettingName, why: string): string {
    return this.text(name) ?? this.refuse(name, "missing", `${why} needs it: ${SETTINGS[name]}`);
  }

  choice<T extends string>(name: SettingName, choices: readonly T[], fallback: string): T {
    const found = this.text(name) ?? fallback;
    const choice = choices.find((known) => known === found);
    return choice ?? this.refuse(name, `"${found}"`, `give ${choices.join(" or ")}`);
  }

  integer(name: SettingName, min: number, max: number, fallback: number): number {
    const text = this.text(name);
    const value = text === undefined ? fallback : Number(text);
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    return this.refuse(name, `"${text}"`, `give ${min} to ${max}`);
  }

  list(name: SettingName): readonly string[] {
    return (this.text(name) ?? "").split(",").flatMap((part) => part.trim() || []);
  }

  refuse(name: SettingName, found: string, todo: string): never {
    throw new MillpondError("USAGE", `setting "${name}" is ${found}: ${todo}`);
  }
}

function kafkaOf(read: Reader): KafkaSource {
  const kinds = ["serverless", "provisioned", "existing", "self-managed"] as const;
  const kind = read.choice("kafka", kinds, "serverless");
  if (kind === "serverless") return { kind };
  if (kind === "provisioned") {
    const [instanceType, kafkaVersion] = [read.text("instanceType"), read.text("kafkaVersion")];
    return {
      kind,
      brokers: read.integer("brokers", 3, 90, 3),
      storageGiB: read.integer("storageGiB", 1, 16_384, 100),
      ...(instanceType !== undefined && { instanceType }),
      ...(kafkaVersion !== undefined && { kafkaVersion }),
    };
  }
  const network = networkOf(read);
  if (kind === "existing") {
    const clusterArn = read.required("clusterArn", `kafka=${kind}`);
    return { kind, clusterArn, ...(network !== undefined && { network }) };
  }
  const secretArn = read.text("secretArn");
  read.required("bootstrapServers", `kafka=${kind}`);
  return {
    kind,
    bootstrapServers: read.list("bootstrapServers"),
    auth: read.choice("kafkaAuth", ["scram", "tls", "plaintext"], "scram"),
    ...(secretArn !== undefined && { secretArn }),
    ...(network !== undefined && { network }),
  };
}

/** As docker-compose.localstack.yml names the broker for containers beside it. */
const LOCAL_BROKERS = "kafka:19092";

function localKafka(read: Reader): KafkaSource {
  const bootstrapServers = read.list("bootstrapServers");
  return {
    kind: "self-managed",
    bootstrapServers: bootstrapServers.length > 0 ? bootstrapServers : [LOCAL_BROKERS],
    auth: "plaintext",
  };
}

function networkOf(read: Reader): ExistingNetwork | undefined {
  const vpcId = read.text("vpcId");
  if (vpcId === undefined) return undefined;
  for (const name of ["subnetIds", "availabilityZones", "securityGroupIds"] as const) {
    read.required(name, "vpcId");
  }
  const subnetIds = read.list("subnetIds");
  const availabilityZones = read.list("availabilityZones");
  if (subnetIds.length !== availabilityZones.length) {
    const found = `${availabilityZones.length} for ${subnetIds.length} subnets`;
    return read.refuse("availabilityZones", found, "give each subnet's, in their order");
  }
  const securityGroupIds = read.list("securityGroupIds");
  return { vpcId, subnetIds, availabilityZones, securityGroupIds };
}

function pollersOf(read: Reader): ProvisionedPollers | undefined {
  const text = read.text("pollers");
  const retries = read.text("retries");
  if (text === undefined) {
    if (retries === undefined) return undefined;
    return read.refuse("retries", `"${retries}"`, "only provisioned mode has it: set pollers too");
  }
  const [, min, max] = /^(\d+)-(\d+)$/.exec(text) ?? [];
  if (min === undefined || max === undefined) {
    return read.refuse("pollers", `"${text}"`, "give min-max, e.g. 1-10");
  }
  const range = { min: Number(min), max: Number(max) };
  if (retries === undefined) return range;
  return { ...range, retries: read.integer("retries", 0, 10_000, 0) };
}

function producerOf(read: Reader): Readonly<Record<string, unknown>> | undefined {
  const text = read.text("producer");
  if (text === undefined) return undefined;
  const [, simulator, rate] = /^([a-z]+)=(\d+)$/.exec(text) ?? [];
  if (simulator !== undefined && rate !== undefined) {
    return { simulator, rate: Number(rate), events: Number(rate) * 60 };
  }
  try {
    const found: unknown = JSON.parse(text);
    if (typeof found === "object" && found !== null && !Array.isArray(found)) return { ...found };
  } catch {
    // Neither form: said below.
  }
  return read.refuse("producer", `"${text}"`, "give simulator=rate, or a request as JSON");
}
