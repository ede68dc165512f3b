/** Stacks of settings for tests, over bundles of one line: what bundles hold is tested apart. */
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { App, type Stack } from "aws-cdk-lib";
import { Template } from "aws-cdk-lib/assertions";
import { appSettings } from "../../../lib/aws/app-settings.js";
import { FUNCTION_NAMES, type FunctionName, type PipelineCode } from "../../../lib/aws/bundle.js";
import { PipelineStack } from "../../../lib/aws/pipeline-stack.js";
import activity from "../../../pipelines/activity.js";

const root = mkdtempSync(path.join(tmpdir(), "millpond-aws-"));

function directoryOf(name: FunctionName): string {
  const dir = path.join(root, name);
  mkdirSync(dir, { recursive: true });
  writeFileSync(path.join(dir, "index.mjs"), `export const handler = "${name}";\n`);
  return dir;
}

export const code: PipelineCode = {
  definition: activity.definition,
  architecture: "arm64",
  directories: Object.fromEntries(
    FUNCTION_NAMES.map((name) => [name, directoryOf(name)]),
  ) as Record<FunctionName, string>,
};

const NETWORK = {
  vpcId: "vpc-0a1b2c3d",
  subnetIds: "subnet-0a1b2c3d,subnet-1a1b2c3d",
  availabilityZones: "eu-west-1a,eu-west-1b",
  securityGroupIds: "sg-0a1b2c3d",
};

/** One set of settings for every kind of Kafka. */
export const MODES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  serverless: { kafka: "serverless" },
  provisioned: { kafka: "provisioned" },
  "provisioned with pollers of its own": { kafka: "provisioned", pollers: "1-10" },
  "existing, provisioned": {
    kafka: "existing",
    clusterArn: "arn:aws:kafka:eu-west-1:123456789012:cluster/events/0f-4",
    ...NETWORK,
  },
  "existing, serverless": {
    kafka: "existing",
    clusterArn: "arn:aws:kafka:eu-west-1:123456789012:cluster/events/0f-s2",
    ...NETWORK,
  },
  "self-managed, scram": {
    kafka: "self-managed",
    bootstrapServers: "a.example:9096,b.example:9096",
    secretArn: "arn:aws:secretsmanager:eu-west-1:123456789012:secret:kafka-AbCdEf",
    ...NETWORK,
  },
  "self-managed, public": {
    kafka: "self-managed",
    bootstrapServers: "a.example:9094",
    kafkaAuth: "tls",
  },
  localstack: { profile: "localstack", bootstrapServers: "kafka:19092" },
};

export function stackOf(context: Readonly<Record<string, string>>): {
  readonly app: App;
  readonly stack: PipelineStack;
} {
  const app = new App({ context: { "@aws-cdk/core:validateAgainstDefaultRules": true } });
  const stack = new PipelineStack(app, "Test", { settings: appSettings(context), code });
  return { app, stack };
}

export const templateOf = (stack: Stack): Template => Template.fromStack(stack);
