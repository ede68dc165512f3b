/** What the stack consists of, for each kind of Kafka: only what a change could break unseen. */
import { App, type Stack } from "aws-cdk-lib";
import { Match, type Template } from "aws-cdk-lib/assertions";
import { AccountRootPrincipal, Role } from "aws-cdk-lib/aws-iam";
import { describe, expect, test } from "vitest";
import { appSettings } from "../../../lib/aws/app-settings.js";
import { PipelineStack } from "../../../lib/aws/pipeline-stack.js";
import { kafka, lake, minutes, pipeline, stream, string, timestamp } from "../../../lib/index.js";
import { code, MODES, stackOf, templateOf } from "./support.js";

const templates = new Map<string, Template>();

function templateFor(mode: string): Template {
  const known = templates.get(mode);
  if (known !== undefined) return known;
  const made = templateOf(stackOf(MODES[mode]!).stack);
  templates.set(mode, made);
  return made;
}

/** A resource's properties, whatever they are. */
type Properties = Readonly<Record<string, unknown>>;

const propertiesOf = (template: Template, type: string): Properties[] =>
  Object.values(template.findResources(type)).map(({ Properties }) => Properties ?? {});

interface Statement {
  readonly Sid?: string;
  readonly Effect: string;
  readonly Action: string | readonly string[];
  readonly Resource: unknown;
}

/** Statements of the policies of functions and others of the stack, not of the resources' own. */
function statementsOf(template: Template): Statement[] {
  return propertiesOf(template, "AWS::IAM::Policy").flatMap(
    ({ PolicyDocument }) => (PolicyDocument as { Statement: Statement[] }).Statement,
  );
}

const actionsOf = ({ Action }: Statement): readonly string[] => [Action].flat();

function kafkaMapping(template: Template): Properties {
  return propertiesOf(template, "AWS::Lambda::EventSourceMapping").find(
    (mapping) => mapping.Topics !== undefined,
  )!;
}

/** A stack of a pipeline that reads two topics. */
function twoStreams(): Stack {
  const schema = { id: string(), at: timestamp() };
  const [orders, clicks] = ["orders", "clicks"].map((name) =>
    stream(name, { schema, eventTime: "at", lateness: minutes(1) }),
  );
  const { definition } = pipeline(
    "shop",
    { all_orders: orders!.rows(), all_clicks: clicks!.rows() },
    { sinks: [lake()] },
  );
  const settings = appSettings(MODES.serverless!);
  return new PipelineStack(new App(), "Shop", { settings, code: { ...code, definition } });
}

/** It ends with the deployed stack's own id: a new stack begins at the topic's beginning. */
function groupOf(name: string): unknown {
  const stackId = { "Fn::Split": ["/", { Ref: "AWS::StackId" }] };
  return { "Fn::Join": ["", [`${name}-`, { "Fn::Select": [2, stackId] }]] };
}

const interfaceEndpoints = (template: Template): number =>
  propertiesOf(template, "AWS::EC2::VPCEndpoint").filter(
    ({ VpcEndpointType }) => VpcEndpointType === "Interface",
  ).length;

describe.each(Object.keys(MODES))("%s", (mode) => {
  const template = templateFor(mode);

  test("no policy holds a wildcard that could be narrower", () => {
    for (const statement of statementsOf(template)) {
      const actions = actionsOf(statement);
      expect(actions.filter((action) => action.includes("*"))).toEqual([]);
      if (JSON.stringify(statement.Resource) !== '"*"') continue;
      expect(actions.filter((action) => !/^ec2:Describe/.test(action))).toEqual([]);
    }
  });

  test("functions run on the newest Node, on arm64, and log to groups that end", () => {
    for (const { Runtime, Architectures } of propertiesOf(template, "AWS::Lambda::Function")) {
      expect({ Runtime, Architectures }).toEqual({
        Runtime: "nodejs24.x",
        Architectures: ["arm64"],
      });
    }
    for (const group of propertiesOf(template, "AWS::Logs::LogGroup")) {
      expect(group.RetentionInDays).toBe(30);
    }
  });

  test("no NAT, no address of one's own, no managed policy", () => {
    template.resourceCountIs("AWS::EC2::NatGateway", 0);
    template.resourceCountIs("AWS::EC2::EIP", 0);
    for (const role of propertiesOf(template, "AWS::IAM::Role")) {
      expect(role.ManagedPolicyArns).toBeUndefined();
    }
  });

  test("a table with stream, recovery and key; a bucket whose live objects no rule takes", () => {
    template.hasResourceProperties("AWS::DynamoDB::Table", {
      KeySchema: [
        { AttributeName: "pipeline", KeyType: "HASH" },
        { AttributeName: "name", KeyType: "RANGE" },
      ],
      BillingMode: "PAY_PER_REQUEST",
      StreamSpecification: { StreamViewType: "KEYS_ONLY" },
      PointInTimeRecoverySpecification: { PointInTimeRecoveryEnabled: true },
      SSESpecification: { SSEEnabled: true, SSEType: "KMS" },
    });
    template.hasResourceProperties("AWS::S3::Bucket", {
      NotificationConfiguration: { EventBridgeConfiguration: { EventBridgeEnabled: true } },
      LifecycleConfiguration: {
        Rules: [
          {
            Id: "unfinished-uploads",
            Status: "Enabled",
            AbortIncompleteMultipartUpload: { DaysAfterInitiation: 7 },
          },
          {
            Id: "old-failures",
            Status: "Enabled",
            Prefix: "aws/lambda/",
            ExpirationInDays: 90,
          },
        ],
      },
    });
  });

  test("a principal reaches only its pipeline's items", () => {
    const reads = statementsOf(template).filter(({ Sid }) => Sid === "Checkpoints");
    expect(reads).toHaveLength(3);
    for (const statement of reads) {
      expect(statement).toMatchObject({
        Condition: { "ForAllValues:StringEquals": { "dynamodb:LeadingKeys": ["activity"] } },
      });
    }
  });

  test("the sink is woken by partitions alone, and by a tick", () => {
    template.hasResourceProperties("AWS::Lambda::EventSourceMapping", {
      StartingPosition: "LATEST",
      FilterCriteria: {
        Filters: [{ Pattern: '{"dynamodb":{"Keys":{"name":{"S":[{"prefix":"partitions/"}]}}}}' }],
      },
    });
    template.hasResourceProperties("AWS::Events::Rule", { ScheduleExpression: "rate(1 minute)" });
  });

  test("who only reads can't encrypt", () => {
    const decrypting = statementsOf(template).filter(({ Sid }) => Sid === "ReadByKey");
    expect(decrypting.map(actionsOf)).toEqual(
      decrypting.map(() => ["kms:Decrypt", "kms:DescribeKey"]),
    );
    const query = Object.entries(template.findResources("AWS::IAM::Policy")).filter(([id]) =>
      id.startsWith("Query"),
    );
    expect(query).toHaveLength(1);
    expect(JSON.stringify(query)).not.toMatch(/kms:(Encrypt|GenerateDataKey)/);
  });

  test("an object that takes more than one invocation goes on within a minute", () => {
    const [ingest] = propertiesOf(template, "AWS::Lambda::Function").filter(({ Description }) =>
      String(Description).includes("ingest"),
    );
    template.hasResourceProperties("AWS::SQS::Queue", {
      VisibilityTimeout: Number(ingest?.Timeout) + 60,
      RedrivePolicy: Match.objectLike({ maxReceiveCount: 20 }),
    });
  });

  test("queries need a signature", () => {
    template.hasResourceProperties("AWS::Lambda::Url", { AuthType: "AWS_IAM" });
  });

  test("every alarm tells someone what to do", () => {
    const alarms = propertiesOf(template, "AWS::CloudWatch::Alarm");
    expect(alarms.length).toBeGreaterThanOrEqual(10);
    for (const alarm of alarms) {
      expect(alarm.AlarmDescription).toMatch(/^[A-Z].+\. What to do: .+\.$/);
      expect(alarm.AlarmActions).toHaveLength(1);
      expect(alarm.TreatMissingData).toBe("notBreaching");
    }
  });
});

describe("the event source mapping", () => {
  test("on demand: from the beginning, 10,000 records, no knob that only costs", () => {
    const mapping = kafkaMapping(templateFor("serverless"));
    expect(mapping).toMatchObject({
      Topics: ["user_activity"],
      StartingPosition: "TRIM_HORIZON",
      BatchSize: 10_000,
      MaximumBatchingWindowInSeconds: 5,
      AmazonManagedKafkaEventSourceConfig: {
        ConsumerGroupId: groupOf("millpond-activity-dev-user_activity"),
      },
    });
    for (const name of ["ProvisionedPollerConfig", "FunctionResponseTypes"]) {
      expect(mapping[name]).toBeUndefined();
    }
  });

  test("provisioned: partial batches, bisect, no record given up unless asked", () => {
    const template = templateFor("provisioned with pollers of its own");
    expect(kafkaMapping(template)).toMatchObject({
      ProvisionedPollerConfig: { MinimumPollers: 1, MaximumPollers: 10 },
      FunctionResponseTypes: ["ReportBatchItemFailures"],
      BisectBatchOnFunctionError: true,
      MaximumRetryAttempts: -1,
      MaximumRecordAgeInSeconds: -1,
      MetricsConfig: { Metrics: ["EventCount", "ErrorCount", "KafkaMetrics"] },
    });
    template.hasResourceProperties("AWS::Lambda::Function", {
      Environment: { Variables: Match.objectLike({ MILLPOND_PARTIAL_BATCH: "true" }) },
    });
  });

  test("each of several streams is read by a group of its own", () => {
    const mappings = propertiesOf(templateOf(twoStreams()), "AWS::Lambda::EventSourceMapping");
    const groups = mappings.flatMap((mapping) => {
      const config = mapping.AmazonManagedKafkaEventSourceConfig as Properties | undefined;
      return config?.ConsumerGroupId ?? [];
    });
    expect(groups).toEqual([
      groupOf("millpond-shop-dev-orders"),
      groupOf("millpond-shop-dev-clicks"),
    ]);
  });

  test("paused, nothing is read from topics or objects, and the sink is awake", () => {
    const context = { ...MODES.serverless!, paused: "true" };
    const template = templateOf(stackOf(context).stack);
    const mappings = propertiesOf(template, "AWS::Lambda::EventSourceMapping");
    expect(mappings.map(({ Enabled }) => Enabled)).toEqual([false, undefined, false]);
  });

  test("records given up by any mapping ring; where none are, nothing is watched", () => {
    const template = templateFor("provisioned with pollers of its own");
    const [mapping] = Object.entries(
      template.findResources("AWS::Lambda::EventSourceMapping"),
    ).flatMap(([id, { Properties }]) => (Properties.Topics === undefined ? [] : id));
    const givenUp = "OnFailureDestinationDeliveredEventCount";
    template.hasResourceProperties("AWS::CloudWatch::Alarm", {
      Metrics: Match.arrayWith([
        Match.objectLike({
          MetricStat: Match.objectLike({
            Metric: Match.objectLike({
              MetricName: givenUp,
              Dimensions: [
                { Name: "EventSourceMappingUUID", Value: { "Fn::GetAtt": [mapping, "Id"] } },
              ],
            }),
          }),
        }),
      ]),
    });
    const onDemand = propertiesOf(templateFor("provisioned"), "AWS::CloudWatch::Alarm");
    expect(JSON.stringify(onDemand)).not.toContain(givenUp);
  });

  test("records that the processor reports back ring like its errors", () => {
    const of = (mode: string) => {
      const alarm = propertiesOf(templateFor(mode), "AWS::CloudWatch::Alarm").find(
        ({ AlarmDescription }) => String(AlarmDescription).startsWith("The processor has failed"),
      );
      return [...JSON.stringify(alarm).matchAll(/"MetricName":"(\w+)"/g)].map(([, name]) => name);
    };
    expect(of("serverless")).toEqual(["Errors"]);
    expect(of("provisioned with pollers of its own")).toEqual(["Errors", "FailedInvokeEventCount"]);
  });

  test("provisioned with retries gives up what fails", () => {
    const context = { kafka: "provisioned", pollers: "2-4", retries: "5" };
    const mapping = kafkaMapping(templateOf(stackOf(context).stack));
    expect(mapping).toMatchObject({ MaximumRetryAttempts: 5 });
    expect(mapping.DestinationConfig).toBeDefined();
  });

  test("brokers of one's own: their addresses, network and secret", () => {
    const mapping = kafkaMapping(templateFor("self-managed, scram"));
    expect(mapping).toMatchObject({
      SelfManagedEventSource: {
        Endpoints: { KafkaBootstrapServers: ["a.example:9096", "b.example:9096"] },
      },
      SourceAccessConfigurations: [
        { Type: "VPC_SUBNET", URI: "subnet:subnet-0a1b2c3d" },
        { Type: "VPC_SUBNET", URI: "subnet:subnet-1a1b2c3d" },
        { Type: "VPC_SECURITY_GROUP", URI: "security_group:sg-0a1b2c3d" },
        { Type: "SASL_SCRAM_512_AUTH", URI: expect.stringContaining("secret:kafka") },
      ],
    });
  });

  test("the emulator's profile leaves it to others", () => {
    const template = templateFor("localstack");
    expect(kafkaMapping(template)).toBeUndefined();
    template.resourceCountIs("AWS::MSK::ServerlessCluster", 0);
  });
});

describe("the network", () => {
  test("on-demand pollers get endpoints of Lambda and STS; S3 and DynamoDB gateways", () => {
    const template = templateFor("serverless");
    expect(interfaceEndpoints(template)).toBe(2);
    expect(propertiesOf(template, "AWS::EC2::VPCEndpoint")).toHaveLength(4);
  });

  test("provisioned pollers need none", () => {
    expect(interfaceEndpoints(templateFor("provisioned with pollers of its own"))).toBe(0);
  });

  test("nothing lets the world in", () => {
    for (const mode of Object.keys(MODES)) {
      for (const type of ["AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroupIngress"]) {
        for (const rule of propertiesOf(templateFor(mode), type)) {
          expect(JSON.stringify(rule.SecurityGroupIngress ?? rule.CidrIp ?? "")).not.toContain(
            "0.0.0.0/0",
          );
        }
      }
    }
  });
});

describe("the cluster", () => {
  test("provisioned: TLS, IAM alone, a key, logs of brokers, lag by group", () => {
    templateFor("provisioned").hasResourceProperties("AWS::MSK::Cluster", {
      ClientAuthentication: {
        Sasl: { Iam: { Enabled: true } },
        Unauthenticated: { Enabled: false },
      },
      EncryptionInfo: {
        EncryptionAtRest: { DataVolumeKMSKeyId: Match.anyValue() },
        EncryptionInTransit: { ClientBroker: "TLS", InCluster: true },
      },
      EnhancedMonitoring: "PER_TOPIC_PER_BROKER",
      LoggingInfo: { BrokerLogs: { CloudWatchLogs: { Enabled: true } } },
      NumberOfBrokerNodes: 3,
    });
  });

  test("topics by MSK's API where the cluster has it, else by a function in the VPC", () => {
    const inVpc = (mode: string): boolean =>
      propertiesOf(templateFor(mode), "AWS::Lambda::Function").some(
        ({ Description, VpcConfig }) =>
          Description === "Makes a stack's topics" && VpcConfig !== undefined,
      );
    expect(inVpc("provisioned")).toBe(false);
    expect(inVpc("existing, provisioned")).toBe(false);
    expect(inVpc("serverless")).toBe(true);
    expect(inVpc("existing, serverless")).toBe(true);
  });

  test("names of topic and group in policies are this pipeline's", () => {
    const text = JSON.stringify(statementsOf(templateFor("serverless")));
    expect(text).toContain("/user_activity");
    expect(text).toContain("/millpond-activity-dev");
  });
});

test("a principal of one's own gets what a grant says, and nothing else", () => {
  const stack = stackOf(MODES.serverless!).stack;
  const assumedBy = new AccountRootPrincipal();
  const grants = {
    Analyst: (role: Role) => stack.pipeline.grantReadResults(role),
    Sender: (role: Role) => stack.pipeline.grantIngest(role),
    Tester: (role: Role) => stack.pipeline.grantDatasets(role),
  };
  for (const [id, grant] of Object.entries(grants)) grant(new Role(stack, id, { assumedBy }));
  const policies = Object.entries(templateOf(stack).findResources("AWS::IAM::Policy"));
  const of = (id: string) => {
    const [, policy] = policies.find(([name]) => name.startsWith(id))!;
    const { Statement: statements } = policy.Properties.PolicyDocument;
    return statements.map(({ Sid, Action }: Statement) => `${Sid}: ${[Action].flat().join()}`);
  };
  const [reading, writing] = ["kms:Decrypt,kms:DescribeKey", "kms:Encrypt,kms:GenerateDataKey"];
  expect(of("Analyst")).toEqual([
    "Lake: s3:GetObject",
    "LakeList: s3:ListBucket",
    `ReadByKey: ${reading}`,
    "Database: s3:GetObject",
    "DatabaseList: s3:ListBucket",
  ]);
  const written = `WriteByKey: ${reading},${writing}`;
  expect(of("Sender")).toEqual(["Incoming: s3:PutObject", written]);
  expect(of("Tester")).toEqual(["Datasets: s3:PutObject", written]);
});

test("stage prod keeps its data, others go with their stack", () => {
  const policies = (stage: string) =>
    new Set(
      ["AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::MSK::ServerlessCluster"].flatMap((type) =>
        Object.values(templateOf(stackOf({ stage }).stack).findResources(type)).map(
          ({ DeletionPolicy }) => DeletionPolicy,
        ),
      ),
    );
  expect(policies("prod")).toEqual(new Set(["Retain"]));
  expect(policies("dev")).toEqual(new Set(["Delete"]));
});

test("the dashboard shows every metric of the product", async () => {
  const { METRICS } = await import("../../../lib/observe/metrics.js");
  const [{ DashboardBody } = {}] = propertiesOf(
    templateFor("serverless"),
    "AWS::CloudWatch::Dashboard",
  );
  const text = JSON.stringify(DashboardBody);
  const quoted = (name: string) => `\\"${name}\\"`;
  const graphs = text.slice(0, text.indexOf("**"));
  expect(
    METRICS.filter(({ name, inCloudWatch }) => inCloudWatch && !graphs.includes(quoted(name))).map(
      ({ name }) => name,
    ),
  ).toEqual([]);
});

test("the constructs work in an app of one's own, without flags or settings", async () => {
  const { App, Stack } = await import("aws-cdk-lib");
  const { EventStream, PipelineDashboard, PipelineQuery, StreamPipeline } = await import(
    "../../../lib/aws/index.js"
  );
  const { code } = await import("./support.js");
  const stack = new Stack(new App(), "Clicks");
  const events = new EventStream(stack, "Events", { kafka: { kind: "serverless" }, code });
  const pipeline = new StreamPipeline(stack, "Activity", { code, events });
  const query = new PipelineQuery(stack, "Query", { pipeline });
  new PipelineDashboard(stack, "Dashboard", { pipeline, query, alarmEmail: "you@example.com" });
  const template = templateOf(stack);
  template.hasResourceProperties("AWS::SNS::Subscription", { Endpoint: "you@example.com" });
  // What is not said is kept.
  for (const { DeletionPolicy } of Object.values(template.findResources("AWS::S3::Bucket"))) {
    expect(DeletionPolicy).toBe("Retain");
  }
});

describe("a sink that writes to a topic", () => {
  function writing(mode: string): Template {
    const { definition } = kafkaPipeline;
    const settings = appSettings(MODES[mode]!);
    const own = { ...code, definition };
    return templateOf(new PipelineStack(new App(), "Writing", { settings, code: own }));
  }
  const schema = { id: string(), at: timestamp() };
  const orders = stream("orders", { schema, eventTime: "at", lateness: minutes(1) });
  const kafkaPipeline = pipeline(
    "shop",
    { all_orders: orders.rows() },
    { sinks: [lake(), kafka({ table: "all_orders", topic: "clean" })] },
  );

  test("has its topics made, reaches the brokers, and may use these topics and one id", () => {
    const template = writing("serverless");
    const topics = propertiesOf(template, "Custom::MillpondTopic").map(({ Topic }) => Topic);
    expect(topics).toEqual(["orders", "clean", "clean-millpond-progress"]);
    template.hasResourceProperties("Custom::MillpondTopic", {
      Topic: "clean-millpond-progress",
      Partitions: 1,
      Settings: { "cleanup.policy": "compact" },
    });
    template.hasResourceProperties("AWS::Lambda::Function", {
      Description: Match.stringLikeRegexp("sink of shop"),
      Environment: { Variables: Match.objectLike({ MILLPOND_KAFKA_AUTH: "iam" }) },
      VpcConfig: Match.anyValue(),
    });
    const granted = statementsOf(template).flatMap((statement) =>
      actionsOf(statement).includes("kafka-cluster:AlterTransactionalId") ? [statement] : [],
    );
    expect(granted).toHaveLength(1);
    expect(JSON.stringify(granted)).toMatch(/:transactional-id\/.*\/millpond-clean"/);
    const others = propertiesOf(templateFor("serverless"), "AWS::Lambda::Function");
    const sink = others.find(({ Description }) => String(Description).includes("sink"));
    expect(sink?.VpcConfig).toBeUndefined();
  });

  test("and a consumer group's name that Lambda would refuse is refused first", () => {
    const long = stream("o".repeat(150), { schema, eventTime: "at", lateness: minutes(1) });
    const { definition } = pipeline("shop", { all_orders: long.rows() });
    const settings = appSettings(MODES.serverless!);
    expect(
      () => new PipelineStack(new App(), "Long", { settings, code: { ...code, definition } }),
    ).toThrow(/would have 205 characters: Lambda takes 200/);
  });
});
