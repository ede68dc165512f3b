/** The stack that `cdk deploy` makes of the settings: one pipeline with everything around it. */
import { CfnOutput, Duration, Fn, RemovalPolicy, Stack } from "aws-cdk-lib";
import * as ec2 from "aws-cdk-lib/aws-ec2";
import * as kms from "aws-cdk-lib/aws-kms";
import * as logs from "aws-cdk-lib/aws-logs";
import type { Construct } from "constructs";
import { acknowledge } from "./acknowledge.js";
import type { AppSettings } from "./app-settings.js";
import type { PipelineCode } from "./bundle.js";
import { EventStream } from "./event-stream.js";
import { PipelineDashboard } from "./pipeline-dashboard.js";
import { PipelineQuery } from "./pipeline-query.js";
import { StreamPipeline } from "./stream-pipeline.js";

export interface PipelineStackProps {
  readonly settings: AppSettings;
  readonly code: PipelineCode;
}

/**
 * @example
 * const settings = appSettings(app.node.getAllContext());
 * const code = await bundlePipeline(settings.pipeline);
 * new PipelineStack(app, stackName(code, settings), { settings, code });
 */
export class PipelineStack extends Stack {
  readonly events: EventStream;
  readonly pipeline: StreamPipeline;
  readonly query: PipelineQuery;
  readonly dashboard: PipelineDashboard;

  constructor(scope: Construct, id: string, { settings, code }: PipelineStackProps) {
    super(scope, id, { description: `Millpond pipeline ${code.definition.name}` });
    const removalPolicy = settings.retain ? RemovalPolicy.RETAIN : RemovalPolicy.DESTROY;
    const logRetention = logs.RetentionDays.ONE_MONTH;
    const key = new kms.Key(this, "Key", {
      description: `Data of the Millpond pipeline ${code.definition.name}`,
      enableKeyRotation: true,
      removalPolicy,
    });
    const { pollers, producer } = settings;
    this.events = new EventStream(this, "Events", {
      kafka: settings.kafka,
      code,
      encryptionKey: key,
      logRetention,
      removalPolicy,
      onDemandPollers: pollers === undefined,
    });
    if (settings.profile === "localstack") isolatedNetwork(this);
    this.pipeline = new StreamPipeline(this, "Pipeline", {
      code,
      events: this.events,
      stage: settings.stage,
      topics: Object.fromEntries(
        code.definition.streams.map(({ name }) => [name, { partitions: settings.partitions }]),
      ),
      batchingWindow: Duration.seconds(settings.batchWindowSeconds),
      polledByLambda: settings.profile !== "localstack",
      paused: settings.paused,
      encryptionKey: key,
      removalPolicy,
      logRetention,
      ...(pollers !== undefined && { pollers }),
      ...(producer !== undefined && {
        producer: { every: Duration.minutes(1), request: producer },
      }),
    });
    this.query = new PipelineQuery(this, "Query", { pipeline: this.pipeline });
    this.dashboard = new PipelineDashboard(this, "Observe", {
      pipeline: this.pipeline,
      query: this.query,
      ...(settings.alarmEmail !== undefined && { alarmEmail: settings.alarmEmail }),
    });
    this.addOutputs();
  }

  private addOutputs(): void {
    const { pipeline, query, dashboard } = this;
    const outputs = {
      QueryUrl: [query.url.url, "millpond query --endpoint takes it"],
      QueryFunction: [query.handler.functionName, "Answers queries"],
      Bucket: [pipeline.storage.bucket.bucketName, "State, lake, databases, incoming objects"],
      StateTable: [pipeline.storage.table.tableName, "Checkpoints"],
      Processor: [pipeline.processor.functionName, "Takes records from Kafka"],
      Sink: [pipeline.sink.functionName, "Writes results"],
      Producer: [pipeline.producer.functionName, "Sends simulated records, or data sets"],
      Brokers: [this.events.bootstrapServers, "Kafka"],
      AlarmTopic: [dashboard.topic.topicArn, "Gets every alarm"],
      DashboardName: [dashboard.dashboard.dashboardName, "In CloudWatch"],
    } as const;
    for (const [name, [value, description]] of Object.entries(outputs)) {
      new CfnOutput(this, name, { value, description });
    }
  }
}

/** What emulators can make of a network, beside brokers that are reached without it. */
function isolatedNetwork(stack: Stack): void {
  const vpc = new ec2.Vpc(stack, "IsolatedNetwork", {
    availabilityZones: [0, 1].map((at) => Fn.select(at, Fn.getAzs())),
    natGateways: 0,
    restrictDefaultSecurityGroup: false,
    subnetConfiguration: [{ name: "isolated", subnetType: ec2.SubnetType.PRIVATE_ISOLATED }],
    gatewayEndpoints: { S3: { service: ec2.GatewayVpcEndpointAwsService.S3 } },
  });
  acknowledge(vpc, { "AwsSolutions-VPC7": "Of the emulator's profile alone, which has no logs." });
}

/** CloudFormation takes letters, digits and hyphens. */
export function stackName({ definition }: PipelineCode, { stage }: AppSettings): string {
  return `millpond-${definition.name.replaceAll("_", "-")}-${stage}`;
}
