/**
 * A pipeline in AWS: Lambda polls Kafka and invokes the processor, the table's stream wakes the
 * sink. Kafka is `EventStream`'s, questions are `PipelineQuery`'s, graphs `PipelineDashboard`'s.
 */
import { Duration, Fn, RemovalPolicy, Size, Stack } from "aws-cdk-lib";
import * as cloudwatch from "aws-cdk-lib/aws-cloudwatch";
import type * as ec2 from "aws-cdk-lib/aws-ec2";
import * as events from "aws-cdk-lib/aws-events";
import * as targets from "aws-cdk-lib/aws-events-targets";
import * as iam from "aws-cdk-lib/aws-iam";
import * as kms from "aws-cdk-lib/aws-kms";
import * as lambda from "aws-cdk-lib/aws-lambda";
import * as logs from "aws-cdk-lib/aws-logs";
import type * as secretsmanager from "aws-cdk-lib/aws-secretsmanager";
import * as sqs from "aws-cdk-lib/aws-sqs";
import { Construct } from "constructs";
import { MillpondError } from "../errors.js";
import { METRIC_NAMESPACE, type MetricName, metricDefinition } from "../observe/metrics.js";
import { PROGRESS_TOPIC, progressTopic, transactionalId } from "../sinks/kafka-progress.js";
import { acknowledgeWildcard } from "./acknowledge.js";
import type { PipelineCode } from "./bundle.js";
import type { EventStream, TopicOptions } from "./event-stream.js";
import { allowInterfaces, type HandlerFunctionProps, handlerFunction } from "./handler-function.js";
import type { ReachableNetwork } from "./network.js";
import { deadLetterQueue, FAILURES_PREFIX, PipelineStorage } from "./pipeline-storage.js";

/** Event pollers of one's own: a price an hour each, for limits that on-demand mode lacks. */
export interface ProvisionedPollers {
  /** 1 to 200; these are always on. */
  readonly min: number;
  /** 1 to 2,000. */
  readonly max: number;
  /**
   * Times that a failing batch is tried again before it goes to the on-failure destination; for
   * ever unless told. What is given up is missing from every table: only the failure's object and
   * the alarm tell of it.
   */
  readonly retries?: number;
  /** Halve a failing batch, to find what fails it; true unless told. */
  readonly bisect?: boolean;
}

/** When and what the producer sends; see its handler for the request's fields. */
export interface ProducerSchedule {
  readonly every: Duration;
  readonly request: Readonly<Record<string, unknown>>;
}

/** What the sink function needs to reach the servers of `postgres()` and `snowflake()`. */
export interface SinkServers {
  /**
   * Variables of `.env.example` that are no secrets: `PGHOST`, `PGDATABASE`, …
   */
  readonly environment?: Readonly<Record<string, string>>;
  /**
   * Secrets by the variable that takes their ARN, `MILLPOND_POSTGRES_SECRET_ARN` and the like; the
   * function may read them, and they are in nobody's environment.
   */
  readonly secrets?: Readonly<Record<string, secretsmanager.ISecret>>;
  /**
   * Where the servers let the function in. Its subnets need ways to DynamoDB, S3 and, for secrets,
   * Secrets Manager. Without it the function is in no VPC.
   */
  readonly network?: {
    readonly vpc: ec2.IVpc;
    readonly subnets: readonly ec2.ISubnet[];
    readonly securityGroup: ec2.ISecurityGroup;
  };
}

export interface StreamPipelineProps {
  /** From `bundlePipeline`. */
  readonly code: PipelineCode;
  readonly events: EventStream;
  /** Part of names that must differ between copies in one account; `dev` unless told. */
  readonly stage?: string;
  /** By stream. */
  readonly topics?: Readonly<Record<string, TopicOptions>>;
  /** Records an invocation gets at most; 10,000, which is Lambda's limit, unless told. */
  readonly batchSize?: number;
  /** How long Lambda gathers records for one; 5 seconds unless told. Longer is cheaper. */
  readonly batchingWindow?: Duration;
  /** On-demand mode, which has no price of its own, unless given. */
  readonly pollers?: ProvisionedPollers;
  /**
   * False when something else polls the topics and invokes the processor, as `millpond dev` does
   * beside an emulator that can't; true unless told.
   */
  readonly polledByLambda?: boolean;
  /** Nothing is read yet, from topics or `incoming/`, so that a backfill comes first. */
  readonly paused?: boolean;
  /** How long commits gather before the sink is woken; 15 seconds unless told. */
  readonly sinkWindow?: Duration;
  /** How often the sink looks for work without being woken; one minute unless told. */
  readonly tick?: Duration;
  readonly producer?: ProducerSchedule;
  /** Of sinks that are servers; none unless told. */
  readonly sinkServers?: SinkServers;
  /** For table and bucket; a new one unless given. */
  readonly encryptionKey?: kms.IKey;
  /** Of state and results; they are kept unless told. */
  readonly removalPolicy?: RemovalPolicy;
  /** One month unless told. */
  readonly logRetention?: logs.RetentionDays;
}

/** Of a Kafka source, Lambda's limit is 14 minutes (developer guide, "Processing MSK messages"). */
const PROCESSOR_TIMEOUT = Duration.minutes(5);
const SINK_TIMEOUT = Duration.minutes(10);
const INGEST_TIMEOUT = Duration.minutes(10);
/**
 * A message comes again after it: an object that took longer than one invocation goes on then, so
 * it is little more than Lambda's least, the function's own timeout.
 */
const INGEST_VISIBILITY = Duration.minutes(11);
/** Once a minute the producer goes on where it stopped. */
const PRODUCER_TIMEOUT = Duration.minutes(5);

/** Of RDS too, which Node does not know; in Lambda's runtimes since Node 20 (developer guide). */
const AMAZON_CERTIFICATES = "/var/runtime/ca-cert.pem";

/** A vCPU is had at 1,769 MB; a slice is one thread's work. */
const PROCESSOR_MEMORY_MIB = 1_769;
const SINK_MEMORY_MIB = 3_008;
const SMALL_MEMORY_MIB = 512;

/**
 * Everything of a pipeline between its topics and its tables.
 *
 * @example
 * const code = await bundlePipeline("pipelines/activity.ts");
 * const events = new EventStream(stack, "Events", { kafka: { kind: "serverless" }, code });
 * const activity = new StreamPipeline(stack, "Activity", {
 *   code, events, topics: { user_activity: { partitions: 8 } },
 * });
 * activity.grantReadResults(analystsRole);
 * activity.metric("WatermarkLagMs").createAlarm(stack, "Behind", { … });
 */
export class StreamPipeline extends Construct {
  /** The pipeline's name, from its definition. */
  readonly pipelineName: string;
  readonly code: PipelineCode;
  readonly events: EventStream;
  readonly key: kms.IKey;
  readonly storage: PipelineStorage;
  readonly processor: lambda.Function;
  readonly sink: lambda.Function;
  readonly ingest: lambda.Function;
  readonly producer: lambda.Function;
  /** One a stream; none when something else polls. */
  readonly mappings: readonly lambda.CfnEventSourceMapping[];
  /** New objects that ingest has not taken yet. */
  readonly incoming: sqs.Queue;
  readonly incomingDeadLetters: sqs.Queue;
  /** Rules that run the sink, and the producer if it has a schedule. */
  readonly schedules: readonly events.Rule[];
  private readonly groupPrefix: string;
  readonly logRetention: logs.RetentionDays;
  readonly removalPolicy: RemovalPolicy;
  private readonly props: StreamPipelineProps;

  constructor(scope: Construct, id: string, props: StreamPipelineProps) {
    super(scope, id);
    checkProps(props);
    this.props = props;
    const { definition } = props.code;
    this.pipelineName = definition.name;
    this.code = props.code;
    this.events = props.events;
    this.removalPolicy = props.removalPolicy ?? RemovalPolicy.RETAIN;
    this.logRetention = props.logRetention ?? logs.RetentionDays.ONE_MONTH;
    this.groupPrefix = groupPrefix(this.pipelineName, props.stage);
    this.key = props.encryptionKey ?? this.makeKey();
    const { pipelineName: pipeline, key, removalPolicy } = this;
    this.storage = new PipelineStorage(this, "Storage", { pipeline, key, removalPolicy });
    for (const { name } of definition.streams) this.events.addTopic(name, props.topics?.[name]);
    this.processor = this.makeProcessor();
    this.mappings = props.polledByLambda === false ? [] : this.pollTopics();
    this.sink = this.makeSink();
    this.producer = this.makeProducer();
    this.incomingDeadLetters = deadLetterQueue(this, "IncomingDeadLetters", this.removalPolicy);
    this.incoming = this.makeIncoming();
    this.ingest = this.makeIngest();
    this.schedules = this.makeSchedules();
  }

  /**
   * One of the metrics in `lib/observe/metrics.ts`, with the statistic it is read by.
   * @param options may name a stream, for a metric that is kept by stream
   */
  metric(
    name: MetricName,
    { stream, ...options }: cloudwatch.MetricOptions & { readonly stream?: string } = {},
  ): cloudwatch.Metric {
    const { statistic, help } = metricDefinition(name);
    return new cloudwatch.Metric({
      namespace: METRIC_NAMESPACE,
      metricName: name,
      dimensionsMap: {
        Pipeline: this.pipelineName,
        ...(stream !== undefined && { Stream: stream }),
      },
      statistic,
      label: help,
      ...options,
    });
  }

  /** Records that Lambda has not handed to the processor yet, the furthest topic's. */
  metricConsumerLag(options: cloudwatch.MetricOptions = {}): cloudwatch.Metric {
    return new cloudwatch.Metric({
      namespace: "AWS/Lambda",
      metricName: "OffsetLag",
      dimensionsMap: { FunctionName: this.processor.functionName },
      statistic: cloudwatch.Stats.MAXIMUM,
      ...options,
    });
  }

  /**
   * Records that were given up, over all mappings; without pollers of one's own (`pollers`) none
   * is, and there is no metric.
   */
  metricBatchesGivenUp(options: cloudwatch.MetricOptions = {}): cloudwatch.IMetric | undefined {
    const given = this.mappingMetrics("OnFailureDestinationDeliveredEventCount", options);
    return given.length === 0 ? undefined : sumOf(given, options);
  }

  /**
   * What the processor could not process: invocations that failed and, with `pollers`, records that
   * it reported back, which are no errors of the function.
   */
  metricProcessorFailures(options: cloudwatch.MetricOptions = {}): cloudwatch.IMetric {
    const errors = this.processor.metricErrors(options);
    const reported = this.mappingMetrics("FailedInvokeEventCount", options);
    return reported.length === 0 ? errors : sumOf([errors, ...reported], options);
  }

  /** Lambda counts by mapping in provisioned mode alone. */
  private mappingMetrics(
    metricName: string,
    options: cloudwatch.MetricOptions,
  ): cloudwatch.Metric[] {
    if (this.props.pollers === undefined) return [];
    return this.mappings.map(
      ({ attrId }) =>
        new cloudwatch.Metric({
          namespace: "AWS/Lambda",
          metricName,
          dimensionsMap: { EventSourceMappingUUID: attrId },
          statistic: cloudwatch.Stats.SUM,
          ...options,
        }),
    );
  }

  /**
   * The group that Lambda's pollers read a stream with: one of its own for each mapping, as Lambda
   * wants it, and for each deployed stack, because the offsets of a group that is there go before
   * the starting position (developer guide, "Customizable consumer group ID"): a new state table
   * under an old group would miss what that had read.
   */
  consumerGroup(stream: string): string {
    const deployment = Fn.select(2, Fn.split("/", Stack.of(this).stackId));
    return `${this.groupPrefix}-${stream}-${deployment}`;
  }

  /** Lets a principal read the lake and the database. */
  grantReadResults(grantee: iam.IGrantable): void {
    const { storage, pipelineName } = this;
    const actions = ["GetObject"] as const;
    storage.grantObjects(grantee, "Lake", { prefix: `lake/${pipelineName}/`, actions, list: true });
    const database = `databases/${pipelineName}.duckdb`;
    storage.grantObjects(grantee, "Database", { prefix: database, actions, list: true });
  }

  /** Lets a principal put objects where ingest takes them. */
  grantIngest(grantee: iam.IGrantable): void {
    this.storage.grantObjects(grantee, "Incoming", { prefix: "incoming/", actions: ["PutObject"] });
  }

  /** Lets a principal put data sets for the producer. */
  grantDatasets(grantee: iam.IGrantable): void {
    this.storage.grantObjects(grantee, "Datasets", { prefix: "datasets/", actions: ["PutObject"] });
  }

  private makeKey(): kms.Key {
    return new kms.Key(this, "Key", {
      description: `State and results of the Millpond pipeline ${this.pipelineName}`,
      enableKeyRotation: true,
      removalPolicy: this.removalPolicy,
    });
  }

  private function(
    id: string,
    props: Pick<HandlerFunctionProps, "name" | "timeout" | "memoryMiB"> &
      Partial<HandlerFunctionProps>,
  ): lambda.Function {
    const made = handlerFunction(this, id, {
      code: this.code,
      description: `Millpond ${props.name} of ${this.pipelineName}`,
      environment: {},
      logRetention: this.logRetention,
      removalPolicy: this.removalPolicy,
      ...props,
    });
    if (props.deadLetters !== undefined) allowSend(made, props.deadLetters);
    return made;
  }

  private makeProcessor(): lambda.Function {
    const { pollers, events: source } = this.props;
    const processor = this.function("Processor", {
      name: "processor",
      timeout: PROCESSOR_TIMEOUT,
      memoryMiB: PROCESSOR_MEMORY_MIB,
      environment: {
        ...this.storage.environment(),
        ...(pollers !== undefined && { MILLPOND_PARTIAL_BATCH: "true" }),
      },
    });
    this.storage.grantCheckpoints(processor);
    this.grantState(processor);
    if (this.props.polledByLambda === false) return processor;
    for (const { name } of this.code.definition.streams) {
      source.grantConsume(processor, name, this.consumerGroup(name));
    }
    if (processor.role !== undefined && source.network !== undefined) {
      allowInterfaces(processor.role);
    }
    this.storage.grantObjects(processor, "Failures", {
      prefix: FAILURES_PREFIX,
      actions: ["PutObject"],
      list: true,
    });
    return processor;
  }

  private makeSink(): lambda.Function {
    const { storage, pipelineName } = this;
    const { environment = {}, secrets = {} } = this.props.sinkServers ?? {};
    const writesKafka = this.code.definition.sinks.some(({ kind }) => kind === "kafka");
    const network = this.sinkNetwork(writesKafka);
    const arns = Object.entries(secrets).map(([name, { secretArn }]) => [name, secretArn]);
    const sink = this.function("Sink", {
      name: "sink",
      timeout: SINK_TIMEOUT,
      memoryMiB: SINK_MEMORY_MIB,
      scratch: Size.gibibytes(2),
      environment: {
        ...storage.environment(),
        ...(writesKafka && this.events.environment()),
        ...(this.props.sinkServers !== undefined && { NODE_EXTRA_CA_CERTS: AMAZON_CERTIFICATES }),
        ...environment,
        ...Object.fromEntries(arns),
      },
      ...(network !== undefined && { network }),
      deadLetters: storage.deadLetters,
    });
    for (const secret of Object.values(secrets)) secret.grantRead(sink);
    storage.grantCheckpoints(sink);
    this.grantState(sink);
    const actions = ["GetObject", "PutObject", "DeleteObject"] as const;
    storage.grantObjects(sink, "Lake", { prefix: `lake/${pipelineName}/`, actions, list: true });
    storage.grantObjects(sink, "Database", {
      prefix: `databases/${pipelineName}.duckdb`,
      actions: ["GetObject", "PutObject"],
      list: true,
    });
    this.makeOutputTopics(sink);
    this.wake(sink);
    return sink;
  }

  /** That of sinks which are servers, if there is one, which must then reach the brokers too. */
  private sinkNetwork(writesKafka: boolean): ReachableNetwork | undefined {
    const brokers = writesKafka ? this.events.network : undefined;
    const servers = this.props.sinkServers?.network;
    if (servers === undefined) return brokers;
    const clients = [servers.securityGroup, ...(brokers?.clients ?? [])];
    return { ...servers, clients, brokers: [] };
  }

  /** As many partitions as the rows' own topic has, and a topic for the sink's progress. */
  private makeOutputTopics(sink: lambda.Function): void {
    const { definition } = this.code;
    for (const node of definition.sinks) {
      if (node.kind !== "kafka") continue;
      const table = definition.tables.find(({ name }) => name === node.tables[0]);
      const { partitions } = this.props.topics?.[table?.stream ?? ""] ?? {};
      this.events.addTopic(node.topic, partitions === undefined ? {} : { partitions });
      const progress = progressTopic(node.topic);
      this.events.addTopic(progress, PROGRESS_TOPIC);
      const id = transactionalId(node.topic);
      this.events.grantTransactions(sink, [node.topic, progress], id);
    }
  }

  /** Partitions' commits alone: the publisher's own would wake the sink that made them. */
  private wake(sink: lambda.Function): void {
    const { table } = this.storage;
    const streamArn = table.tableStreamArn ?? "";
    sink.addToRolePolicy(
      new iam.PolicyStatement({
        sid: "Wake",
        actions: ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
        resources: [streamArn],
      }),
    );
    const streams = `${table.tableArn}/stream/*`;
    sink.addToRolePolicy(
      new iam.PolicyStatement({
        sid: "WakeList",
        actions: ["dynamodb:ListStreams"],
        resources: [streams],
      }),
    );
    const sam = "The streams of one table, as SAM's DynamoDBStreamReadPolicy grants ListStreams.";
    acknowledgeWildcard(sink.grantPrincipal, streams, sam);
    new lambda.CfnEventSourceMapping(this, "Wake", {
      functionName: sink.functionName,
      eventSourceArn: streamArn,
      startingPosition: "LATEST",
      batchSize: 1_000,
      maximumBatchingWindowInSeconds: (this.props.sinkWindow ?? Duration.seconds(15)).toSeconds(),
      filterCriteria: {
        filters: [{ pattern: '{"dynamodb":{"Keys":{"name":{"S":[{"prefix":"partitions/"}]}}}}' }],
      },
      // A call to wake, not data: a later one, or the tick, does the same.
      maximumRetryAttempts: 1,
      maximumRecordAgeInSeconds: 300,
    }).node.addDependency(sink);
  }

  private makeProducer(): lambda.Function {
    const { storage, events: target } = this;
    const producer = this.function("Producer", {
      name: "producer",
      timeout: PRODUCER_TIMEOUT,
      memoryMiB: SMALL_MEMORY_MIB,
      environment: {
        ...storage.environment(),
        ...target.environment(),
        ...(this.props.producer !== undefined && {
          MILLPOND_PRODUCER: JSON.stringify(this.props.producer.request),
        }),
      },
      deadLetters: storage.deadLetters,
      ...(target.network !== undefined && { network: target.network }),
    });
    for (const { name } of this.code.definition.streams) target.grantProduce(producer, name);
    storage.grantObjects(producer, "Datasets", {
      prefix: "datasets/",
      actions: ["GetObject"],
      list: true,
    });
    return producer;
  }

  private makeIncoming(): sqs.Queue {
    const queue = new sqs.Queue(this, "Incoming", {
      encryption: sqs.QueueEncryption.SQS_MANAGED,
      enforceSSL: true,
      visibilityTimeout: INGEST_VISIBILITY,
      retentionPeriod: Duration.days(14),
      deadLetterQueue: { queue: this.incomingDeadLetters, maxReceiveCount: 20 },
      removalPolicy: this.removalPolicy,
    });
    new events.Rule(this, "NewObjects", {
      description: "New objects for ingest",
      eventPattern: {
        source: ["aws.s3"],
        detailType: ["Object Created"],
        detail: {
          bucket: { name: [this.storage.bucket.bucketName] },
          object: { key: [{ prefix: "incoming/" }] },
        },
      },
      targets: [new targets.SqsQueue(queue)],
    });
    return queue;
  }

  private makeIngest(): lambda.Function {
    const { storage, incoming } = this;
    const ingest = this.function("Ingest", {
      name: "ingest",
      timeout: INGEST_TIMEOUT,
      memoryMiB: PROCESSOR_MEMORY_MIB,
      environment: storage.environment(),
    });
    storage.grantCheckpoints(ingest);
    this.grantState(ingest);
    storage.grantObjects(ingest, "Incoming", {
      prefix: "incoming/",
      actions: ["GetObject"],
      // Without it S3 says "denied" where an object was deleted meanwhile.
      list: true,
    });
    ingest.addToRolePolicy(
      new iam.PolicyStatement({
        sid: "TakeIncoming",
        actions: ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"],
        resources: [incoming.queueArn],
      }),
    );
    new lambda.CfnEventSourceMapping(this, "TakeIncoming", {
      functionName: ingest.functionName,
      eventSourceArn: incoming.queueArn,
      batchSize: 1,
      // Objects of a stream are one partition: more at once would only wait for each other.
      scalingConfig: { maximumConcurrency: 2 },
      ...this.pausing(),
    }).node.addDependency(ingest);
    return ingest;
  }

  private makeSchedules(): readonly events.Rule[] {
    const { producer, tick = Duration.minutes(1) } = this.props;
    const rules = [
      new events.Rule(this, "Tick", {
        description: "Runs the sink: idle partitions move, leftovers go",
        schedule: events.Schedule.rate(tick),
        targets: [this.target(this.sink, { tick: true })],
      }),
    ];
    if (producer === undefined) return rules;
    const rule = new events.Rule(this, "Produce", {
      description: "Runs the producer",
      schedule: events.Schedule.rate(producer.every),
      targets: [this.target(this.producer, producer.request)],
    });
    return [...rules, rule];
  }

  private target(handler: lambda.Function, event: Readonly<Record<string, unknown>>) {
    return new targets.LambdaFunction(handler, {
      event: events.RuleTargetInput.fromObject(event),
      deadLetterQueue: this.storage.deadLetters,
      // The next tick does what this one could not.
      maxEventAge: Duration.minutes(5),
      retryAttempts: 2,
    });
  }

  private grantState(grantee: iam.IGrantable): void {
    this.storage.grantObjects(grantee, "State", {
      prefix: `state/${this.pipelineName}/`,
      actions: ["GetObject", "PutObject", "DeleteObject"],
      list: true,
    });
  }

  private pollTopics(): lambda.CfnEventSourceMapping[] {
    return this.code.definition.streams.map(({ name }) => {
      const mapping = new lambda.CfnEventSourceMapping(this, `Poll-${name}`, {
        functionName: this.processor.functionName,
        topics: [name],
        // From the beginning: results are a function of the whole log.
        startingPosition: "TRIM_HORIZON",
        batchSize: this.props.batchSize ?? BATCH_SIZE,
        maximumBatchingWindowInSeconds: this.window().toSeconds(),
        destinationConfig: { onFailure: { destination: this.storage.bucket.bucketArn } },
        ...this.source(name),
        ...pollerProps(this.props.pollers),
        ...this.pausing(),
      });
      mapping.node.addDependency(this.processor, this.events.addTopic(name));
      return mapping;
    });
  }

  private pausing(): Pick<lambda.CfnEventSourceMappingProps, "enabled"> {
    return { enabled: this.props.paused !== true };
  }

  private window(): Duration {
    return this.props.batchingWindow ?? Duration.seconds(5);
  }

  private source(stream: string): Partial<lambda.CfnEventSourceMappingProps> {
    const { kafka, clusterArn } = this.events;
    const group = { consumerGroupId: this.consumerGroup(stream) };
    if (kafka.kind !== "self-managed") {
      return {
        ...(clusterArn !== undefined && { eventSourceArn: clusterArn }),
        amazonManagedKafkaEventSourceConfig: group,
      };
    }
    const { network, secretArn, bootstrapServers } = kafka;
    const access = [
      ...(network?.subnetIds ?? []).map((id) => ({ type: "VPC_SUBNET", uri: `subnet:${id}` })),
      ...(network?.securityGroupIds ?? []).map((id) => ({
        type: "VPC_SECURITY_GROUP",
        uri: `security_group:${id}`,
      })),
      ...(secretArn === undefined ? [] : [{ type: "SASL_SCRAM_512_AUTH", uri: secretArn }]),
    ];
    return {
      selfManagedEventSource: { endpoints: { kafkaBootstrapServers: [...bootstrapServers] } },
      selfManagedKafkaEventSourceConfig: group,
      ...(access.length > 0 && { sourceAccessConfigurations: access }),
    };
  }
}

const BATCH_SIZE = 10_000;

/** What only provisioned mode has. */
function pollerProps(
  pollers: ProvisionedPollers | undefined,
): Partial<lambda.CfnEventSourceMappingProps> {
  if (pollers === undefined) return {};
  return {
    provisionedPollerConfig: { minimumPollers: pollers.min, maximumPollers: pollers.max },
    functionResponseTypes: ["ReportBatchItemFailures"],
    bisectBatchOnFunctionError: pollers.bisect ?? true,
    maximumRetryAttempts: pollers.retries ?? -1,
    maximumRecordAgeInSeconds: -1,
    metricsConfig: { metrics: ["EventCount", "ErrorCount", "KafkaMetrics"] },
  };
}

/** Of metrics that say nothing while nothing happens. */
function sumOf(
  metrics: readonly cloudwatch.Metric[],
  { period, label }: cloudwatch.MetricOptions,
): cloudwatch.MathExpression {
  return new cloudwatch.MathExpression({
    expression: metrics.map((_, at) => `FILL(m${at}, 0)`).join(" + "),
    usingMetrics: Object.fromEntries(metrics.map((metric, at) => [`m${at}`, metric])),
    ...(period !== undefined && { period }),
    ...(label !== undefined && { label }),
  });
}

const groupPrefix = (pipeline: string, stage = "dev"): string => `millpond-${pipeline}-${stage}`;

/** Of a stack's id, a UUID is part of the group's name; Lambda's API bounds the whole. */
const STACK_ID_CHARS = 36;
const GROUP_CHARS_MAX = 200;

function allowSend(sender: lambda.Function, queue: sqs.IQueue): void {
  sender.addToRolePolicy(
    new iam.PolicyStatement({
      sid: "DeadLetters",
      actions: ["sqs:SendMessage"],
      resources: [queue.queueArn],
    }),
  );
}

function checkProps({ batchSize = BATCH_SIZE, pollers, code, stage }: StreamPipelineProps): void {
  const refuse = (text: string): never => {
    throw new MillpondError("USAGE", `pipeline "${code.definition.name}": ${text}`);
  };
  if (!Number.isInteger(batchSize) || batchSize < 1 || batchSize > BATCH_SIZE) {
    refuse(`batchSize is ${batchSize}: Lambda takes 1 to ${BATCH_SIZE}`);
  }
  if (stage !== undefined && !/^[a-z][a-z0-9-]{0,19}$/.test(stage)) {
    refuse(`stage is "${stage}": use up to 20 of a-z, 0-9 and -, a letter first`);
  }
  for (const { name } of code.definition.streams) {
    const length = `${groupPrefix(code.definition.name, stage)}-${name}-`.length + STACK_ID_CHARS;
    if (length > GROUP_CHARS_MAX) {
      refuse(
        `the consumer group of stream "${name}" would have ${length} characters: Lambda takes ` +
          `${GROUP_CHARS_MAX}. Shorten the pipeline's or the stream's name`,
      );
    }
  }
  if (pollers === undefined) return;
  const { min, max, retries = 0 } = pollers;
  if (!(min >= 1 && min <= 200 && max >= min && max <= 2_000)) {
    refuse(`pollers are ${min} to ${max}: Lambda takes min 1 to 200 and max min to 2000`);
  }
  if (retries < -1 || retries > 10_000) refuse(`retries are ${retries}: Lambda takes 0 to 10000`);
}
