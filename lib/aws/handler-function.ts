/**
 * A Lambda of ours: newest Node, a role with nothing in it but its own log group, logs that end.
 * What it may do beyond that is granted by who makes it.
 */
import type { Duration, RemovalPolicy, Size } from "aws-cdk-lib";
import { Stack } from "aws-cdk-lib";
import * as iam from "aws-cdk-lib/aws-iam";
import * as lambda from "aws-cdk-lib/aws-lambda";
import * as logs from "aws-cdk-lib/aws-logs";
import type * as sqs from "aws-cdk-lib/aws-sqs";
import type { Construct } from "constructs";
import { acknowledgeWildcard } from "./acknowledge.js";
import type { FunctionName, PipelineCode } from "./bundle.js";
import type { ReachableNetwork } from "./network.js";

export interface HandlerFunctionProps {
  readonly code: Pick<PipelineCode, "architecture" | "directories">;
  readonly name: FunctionName;
  readonly description: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly timeout: Duration;
  readonly memoryMiB: number;
  /** `/tmp`; Lambda's 512 MiB unless told. */
  readonly scratch?: Size;
  /** Only functions that connect to brokers; everything else stays outside, and starts faster. */
  readonly network?: ReachableNetwork;
  /** Where events go that were invoked asynchronously and failed. */
  readonly deadLetters?: sqs.IQueue;
  readonly logRetention: logs.RetentionDays;
  readonly removalPolicy: RemovalPolicy;
}

/** Node's own certificate store is enough; a source map would cost start-up time. */
const RUNTIME = lambda.Runtime.NODEJS_24_X;

export function handlerFunction(
  scope: Construct,
  id: string,
  props: HandlerFunctionProps,
): lambda.Function {
  const logGroup = new logs.LogGroup(scope, `${id}Logs`, {
    retention: props.logRetention,
    removalPolicy: props.removalPolicy,
  });
  const role = new iam.Role(scope, `${id}Role`, {
    assumedBy: new iam.ServicePrincipal("lambda.amazonaws.com"),
    description: `Millpond: ${props.description}`,
  });
  role.addToPrincipalPolicy(
    new iam.PolicyStatement({
      sid: "OwnLogs",
      actions: ["logs:CreateLogStream", "logs:PutLogEvents"],
      resources: [logGroup.logGroupArn],
    }),
  );
  const { network } = props;
  if (network !== undefined) allowInterfaces(role);
  return new lambda.Function(scope, id, {
    description: props.description,
    runtime: RUNTIME,
    architecture:
      props.code.architecture === "arm64" ? lambda.Architecture.ARM_64 : lambda.Architecture.X86_64,
    code: lambda.Code.fromAsset(props.code.directories[props.name]),
    handler: "index.handler",
    role,
    environment: { ...props.environment },
    timeout: props.timeout,
    memorySize: props.memoryMiB,
    logGroup,
    ...(props.scratch !== undefined && { ephemeralStorageSize: props.scratch }),
    ...(props.deadLetters !== undefined && { deadLetterQueue: props.deadLetters }),
    ...(network !== undefined && {
      vpc: network.vpc,
      vpcSubnets: { subnets: [...network.subnets] },
      securityGroups: [...network.clients],
    }),
  });
}

/**
 * What Lambda needs to put a function or a poller into a VPC (Lambda developer guide, "Required
 * IAM permissions"): descriptions can't be narrowed, and it checks the others before it knows ids.
 */
export function allowInterfaces(role: iam.IRole): void {
  const { region, account, partition } = Stack.of(role);
  const any = (kind: string) => `arn:${partition}:ec2:${region}:${account}:${kind}/*`;
  const interfaces = [any("network-interface"), any("subnet"), any("security-group")];
  role.addToPrincipalPolicy(
    new iam.PolicyStatement({
      sid: "DescribeNetwork",
      actions: [
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
      ],
      resources: ["*"],
    }),
  );
  role.addToPrincipalPolicy(
    new iam.PolicyStatement({
      sid: "OwnInterfaces",
      actions: [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:UnassignPrivateIpAddresses",
      ],
      resources: interfaces,
    }),
  );
  const everywhere = "EC2's Describe actions take no resource (Service Authorization Reference).";
  acknowledgeWildcard(role, "*", everywhere);
  for (const resource of interfaces) {
    acknowledgeWildcard(role, resource, "Lambda names network interfaces itself, in this account.");
  }
}
