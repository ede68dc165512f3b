/** A sink that reaches a PostgreSQL server: its network, its variables, and its one secret. */
import { App, Stack } from "aws-cdk-lib";
import { Match } from "aws-cdk-lib/assertions";
import * as ec2 from "aws-cdk-lib/aws-ec2";
import * as secretsmanager from "aws-cdk-lib/aws-secretsmanager";
import { expect, test } from "vitest";
import { EventStream } from "../../../lib/aws/event-stream.js";
import { StreamPipeline } from "../../../lib/aws/stream-pipeline.js";
import { code, templateOf } from "./support.js";

test("the sink alone gets network, variables and the secret", () => {
  const stack = new Stack(new App(), "Test");
  // Their declarations say "or undefined" less exactly than our compiler reads them.
  const vpc = new ec2.Vpc(stack, "Vpc", { natGateways: 0 }) as ec2.IVpc;
  const securityGroup = new ec2.SecurityGroup(stack, "ToDatabase", { vpc });
  const secret = new secretsmanager.Secret(stack, "Login") as secretsmanager.ISecret;
  const events = new EventStream(stack, "Events", { kafka: { kind: "serverless" }, code });
  new StreamPipeline(stack, "Activity", {
    code,
    events,
    sinkServers: {
      environment: { PGHOST: "db.example", PGDATABASE: "results" },
      secrets: { MILLPOND_POSTGRES_SECRET_ARN: secret },
      network: { vpc, subnets: vpc.isolatedSubnets, securityGroup },
    },
  });
  const template = templateOf(stack);
  const secretArn = { Ref: Match.stringLikeRegexp("^Login") };
  const variables = {
    PGHOST: "db.example",
    PGDATABASE: "results",
    MILLPOND_POSTGRES_SECRET_ARN: secretArn,
    NODE_EXTRA_CA_CERTS: "/var/runtime/ca-cert.pem",
  };
  template.hasResourceProperties("AWS::Lambda::Function", {
    Description: Match.stringLikeRegexp("sink"),
    Environment: { Variables: Match.objectLike(variables) },
    VpcConfig: {
      SecurityGroupIds: [{ "Fn::GetAtt": [Match.stringLikeRegexp("^ToDatabase"), "GroupId"] }],
    },
  });
  const readers = Object.values(template.findResources("AWS::IAM::Policy")).filter((policy) =>
    JSON.stringify(policy).includes("secretsmanager:GetSecretValue"),
  );
  expect(readers).toHaveLength(1);
  expect(JSON.stringify(readers[0])).toContain("SinkRole");
});
