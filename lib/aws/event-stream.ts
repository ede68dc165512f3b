/**
 * Kafka for pipelines: a new MSK cluster, one that is there, or brokers of your own, with the
 * network, topics and logins to use it. What reads the topics is for `StreamPipeline`.
 */
import { CustomResource, Duration, Names, RemovalPolicy } from "aws-cdk-lib";
import * as cloudwatch from "aws-cdk-lib/aws-cloudwatch";
import type * as ec2 from "aws-cdk-lib/aws-ec2";
import * as iam from "aws-cdk-lib/aws-iam";
import type * as kms from "aws-cdk-lib/aws-kms";
import type * as lambda from "aws-cdk-lib/aws-lambda";
import * as logs from "aws-cdk-lib/aws-logs";
import * as msk from "aws-cdk-lib/aws-msk";
import { Construct } from "constructs";
import { BROKERS_RESOURCE, TOPIC_RESOURCE } from "../handlers/topics.js";
import type { PipelineCode } from "./bundle.js";
import { handlerFunction } from "./handler-function.js";
import {
  authOf,
  ClusterNames,
  checkKafka,
  hasTopicApi,
  type KafkaAuth,
  type KafkaSource,
  MSK_PORTS,
  type ProvisionedKafka,
} from "./kafka.js";
import { existingNetwork, KafkaNetwork, type ReachableNetwork } from "./network.js";

export interface EventStreamProps {
  readonly kafka: KafkaSource;
  /** Its function for topics is deployed. */
  readonly code: Pick<PipelineCode, "architecture" | "directories">;
  /**
   * Whether pipelines poll in on-demand mode, whose pollers need endpoints of Lambda and STS in the
   * VPC (Lambda developer guide, "Configuring your Amazon MSK cluster and Amazon VPC network");
   * true unless told. False when all poll in provisioned mode: two endpoints less to pay for.
   */
  readonly onDemandPollers?: boolean;
  /** Encrypts a provisioned cluster's disks; MSK's own key unless told. */
  readonly encryptionKey?: kms.IKey;
  /** One month unless told. */
  readonly logRetention?: logs.RetentionDays;
  /** Of a new cluster; it is kept unless told. */
  readonly removalPolicy?: RemovalPolicy;
}

export interface TopicOptions {
  /** 4 unless told. More can be added later, fewer not. */
  readonly partitions?: number;
  /** Copies of each partition; what the cluster has as default unless told. */
  readonly replicas?: number;
  /** Kafka's topic settings, e.g. `{"retention.ms": "604800000"}`. */
  readonly settings?: Readonly<Record<string, string>>;
}

const PARTITIONS = 4;

/**
 * A Kafka cluster and what is needed to use it.
 *
 * @example
 * const code = await bundlePipeline("pipelines/activity.ts");
 * const events = new EventStream(stack, "Events", { kafka: { kind: "serverless" }, code });
 * events.addTopic("user_activity", { partitions: 8 });
 * events.grantProduce(myFunction, "user_activity");
 */
export class EventStream extends Construct {
  readonly kafka: KafkaSource;
  readonly auth: KafkaAuth;
  /** MSK alone. */
  readonly clusterArn: string | undefined;
  /** A new cluster's resource. */
  readonly cluster: msk.CfnCluster | msk.CfnServerlessCluster | undefined;
  /** Null when brokers are reached over the internet, or nobody here needs to reach them. */
  readonly network: ReachableNetwork | undefined;
  /** `host:port,…`; known when deployed. */
  readonly bootstrapServers: string;
  private readonly props: EventStreamProps;
  private readonly retention: logs.RetentionDays;
  private readonly topics = new Map<string, CustomResource>();
  private topicFunction: lambda.Function | undefined;

  constructor(scope: Construct, id: string, props: EventStreamProps) {
    super(scope, id);
    checkKafka(props.kafka);
    this.props = props;
    this.kafka = props.kafka;
    this.auth = authOf(props.kafka);
    this.retention = props.logRetention ?? logs.RetentionDays.ONE_MONTH;
    this.network = this.makeNetwork();
    this.cluster = this.makeCluster();
    this.clusterArn =
      props.kafka.kind === "existing" ? props.kafka.clusterArn : this.cluster?.attrArn;
    this.bootstrapServers =
      props.kafka.kind === "self-managed"
        ? props.kafka.bootstrapServers.join(",")
        : this.findBrokers();
  }

  /** Makes the topic when the stack is deployed, or takes it as it is; it outlives the stack. */
  addTopic(name: string, options: TopicOptions = {}): CustomResource {
    const known = this.topics.get(name);
    if (known !== undefined) return known;
    this.topicFunction ??= this.makeTopicFunction();
    this.allowTopic(this.topicFunction, name);
    const topic = new CustomResource(this, `Topic-${name}`, {
      resourceType: TOPIC_RESOURCE,
      serviceToken: this.topicFunction.functionArn,
      properties: {
        Topic: name,
        Partitions: options.partitions ?? PARTITIONS,
        ...(options.replicas !== undefined && { Replicas: options.replicas }),
        Settings: options.settings ?? {},
      },
    });
    // Its permissions are a resource of their own, which nothing else waits for.
    topic.node.addDependency(this.topicFunction);
    this.topics.set(name, topic);
    return topic;
  }

  /** What `lib/sources/kafka/settings.ts` reads. */
  environment(): Record<string, string> {
    const secretArn = this.secretArn();
    return {
      MILLPOND_BOOTSTRAP: this.bootstrapServers,
      MILLPOND_KAFKA_AUTH: this.auth,
      ...(secretArn !== undefined && { MILLPOND_KAFKA_SECRET_ARN: secretArn }),
    };
  }

  /** Lets a principal write to a topic, idempotently. */
  grantProduce(grantee: iam.IGrantable, topic: string): void {
    const names = this.names();
    if (names !== null) {
      this.allow(grantee, names.clusterArn, ["Connect", "WriteDataIdempotently"]);
      this.allow(grantee, names.topic(topic), ["DescribeTopic", "WriteData"]);
    }
    this.allowSecret(grantee);
  }

  /** Lets a principal read and write topics in transactions of one id, as the Kafka sink does. */
  grantTransactions(grantee: iam.IGrantable, topics: readonly string[], id: string): void {
    const names = this.names();
    if (names !== null) {
      this.allow(grantee, names.clusterArn, ["Connect", "WriteDataIdempotently"]);
      for (const topic of topics) {
        this.allow(grantee, names.topic(topic), ["DescribeTopic", "ReadData", "WriteData"]);
      }
      const actions = ["AlterTransactionalId", "DescribeTransactionalId"];
      this.allow(grantee, names.transactionalId(id), actions);
    }
    this.allowSecret(grantee);
  }

  /** Lets a principal read a topic with a consumer group, as Lambda's pollers do. */
  grantConsume(grantee: iam.IGrantable, topic: string, group: string): void {
    const names = this.names();
    if (names !== null) {
      // Of AWSLambdaMSKExecutionRole what concerns the cluster.
      grantee.grantPrincipal.addToPrincipalPolicy(
        new iam.PolicyStatement({
          actions: [
            "kafka:DescribeCluster",
            "kafka:DescribeClusterV2",
            "kafka:GetBootstrapBrokers",
          ],
          resources: [names.clusterArn],
        }),
      );
      this.allow(grantee, names.clusterArn, ["Connect", "DescribeClusterDynamicConfiguration"]);
      this.allow(grantee, names.topic(topic), ["DescribeTopic", "ReadData"]);
      this.allow(grantee, names.group(group), ["AlterGroup", "DescribeGroup"]);
    }
    this.allowSecret(grantee);
  }

  /** Records that a consumer group has not read yet, of a topic, in the brokers' own count. */
  metricConsumerLag(
    topic: string,
    group: string,
    options: cloudwatch.MetricOptions = {},
  ): cloudwatch.Metric | undefined {
    if (this.cluster === undefined) return undefined;
    return new cloudwatch.Metric({
      namespace: "AWS/Kafka",
      metricName: "SumOffsetLag",
      dimensionsMap: {
        "Cluster Name": this.cluster.clusterName,
        "Consumer Group": group,
        Topic: topic,
      },
      statistic: cloudwatch.Stats.MAXIMUM,
      ...options,
    });
  }

  private makeNetwork(): ReachableNetwork | undefined {
    const { kafka, onDemandPollers = true } = this.props;
    if (kafka.kind === "existing" || kafka.kind === "self-managed") {
      const { network } = kafka;
      return network === undefined ? undefined : existingNetwork(this, "Network", network);
    }
    const network = new KafkaNetwork(this, "Network", {
      zones: kafka.kind === "provisioned" ? 3 : 2,
      interfaceServices: onDemandPollers ? ["lambda", "sts"] : [],
      logRetention: this.retention,
    });
    network.openPort(MSK_PORTS.iam);
    return network;
  }

  private makeCluster(): msk.CfnCluster | msk.CfnServerlessCluster | undefined {
    const { kafka } = this.props;
    if (this.network === undefined) return undefined;
    if (kafka.kind === "serverless") return this.serverless(this.network);
    if (kafka.kind === "provisioned") return this.provisioned(kafka, this.network);
    return undefined;
  }

  private serverless(network: ReachableNetwork): msk.CfnServerlessCluster {
    const cluster = new msk.CfnServerlessCluster(this, "Cluster", {
      clusterName: this.clusterName(),
      clientAuthentication: { sasl: { iam: { enabled: true } } },
      vpcConfigs: [vpcConfig(network)],
    });
    cluster.applyRemovalPolicy(this.props.removalPolicy ?? RemovalPolicy.RETAIN);
    return cluster;
  }

  private provisioned(kafka: ProvisionedKafka, network: ReachableNetwork): msk.CfnCluster {
    const { subnetIds, securityGroups } = vpcConfig(network);
    const brokerLogs = new logs.LogGroup(this, "BrokerLogs", {
      retention: this.retention,
      removalPolicy: this.props.removalPolicy ?? RemovalPolicy.RETAIN,
    });
    const { encryptionKey } = this.props;
    const cluster = new msk.CfnCluster(this, "Cluster", {
      clusterName: this.clusterName(),
      kafkaVersion: kafka.kafkaVersion ?? "3.9.x",
      numberOfBrokerNodes: kafka.brokers ?? 3,
      brokerNodeGroupInfo: {
        instanceType: kafka.instanceType ?? "kafka.t3.small",
        clientSubnets: subnetIds,
        securityGroups,
        storageInfo: { ebsStorageInfo: { volumeSize: kafka.storageGiB ?? 100 } },
      },
      clientAuthentication: {
        sasl: { iam: { enabled: true } },
        unauthenticated: { enabled: false },
      },
      encryptionInfo: {
        encryptionInTransit: { clientBroker: "TLS", inCluster: true },
        ...(encryptionKey !== undefined && {
          encryptionAtRest: { dataVolumeKmsKeyId: encryptionKey.keyArn },
        }),
      },
      // Consumer lag by topic and group.
      enhancedMonitoring: "PER_TOPIC_PER_BROKER",
      loggingInfo: {
        brokerLogs: { cloudWatchLogs: { enabled: true, logGroup: brokerLogs.logGroupName } },
      },
    });
    cluster.applyRemovalPolicy(this.props.removalPolicy ?? RemovalPolicy.RETAIN);
    return cluster;
  }

  /** 64 characters at most, and the same at every synthesis. */
  private clusterName(): string {
    return Names.uniqueResourceName(this, { maxLength: 60, separator: "-" });
  }

  /** Asked for once, outside the VPC, where MSK's API needs no endpoint that costs. */
  private findBrokers(): string {
    const find = this.setUpFunction("FindBrokers", "Finds the brokers of an MSK cluster", {
      MILLPOND_CLUSTER_ARN: this.clusterArn ?? "",
      MILLPOND_KAFKA_AUTH: this.auth,
    });
    find.addToRolePolicy(
      new iam.PolicyStatement({
        actions: ["kafka:GetBootstrapBrokers"],
        resources: [this.clusterArn ?? ""],
      }),
    );
    const found = new CustomResource(this, "FoundBrokers", {
      resourceType: BROKERS_RESOURCE,
      serviceToken: find.functionArn,
      properties: { ClusterArn: this.clusterArn },
    });
    found.node.addDependency(find);
    return found.getAttString("BootstrapServers");
  }

  private makeTopicFunction(): lambda.Function {
    const description = "Makes a stack's topics";
    if (hasTopicApi(this.kafka)) {
      const made = this.setUpFunction("MakeTopics", description, {
        MILLPOND_TOPIC_API_CLUSTER_ARN: this.clusterArn ?? "",
      });
      return made;
    }
    const made = this.setUpFunction("MakeTopics", description, this.environment(), this.network);
    this.allowSecret(made);
    return made;
  }

  private setUpFunction(
    id: string,
    description: string,
    environment: Readonly<Record<string, string>>,
    network?: ReachableNetwork,
  ): lambda.Function {
    return handlerFunction(this, id, {
      code: this.props.code,
      name: "topics",
      description,
      environment,
      timeout: Duration.minutes(2),
      memoryMiB: 256,
      logRetention: this.retention,
      removalPolicy: this.props.removalPolicy ?? RemovalPolicy.RETAIN,
      ...(network !== undefined && { network }),
    });
  }

  private allowTopic(grantee: iam.IGrantable, topic: string): void {
    const names = this.names();
    if (names === null) return;
    this.allow(grantee, names.clusterArn, ["Connect"]);
    this.allow(grantee, names.topic(topic), [
      "AlterTopic",
      "AlterTopicDynamicConfiguration",
      "CreateTopic",
      "DescribeTopic",
      "DescribeTopicDynamicConfiguration",
    ]);
  }

  private names(): ClusterNames | null {
    return this.clusterArn === undefined ? null : new ClusterNames(this, this.clusterArn);
  }

  private allow(grantee: iam.IGrantable, resource: string, actions: readonly string[]): void {
    grantee.grantPrincipal.addToPrincipalPolicy(
      new iam.PolicyStatement({
        actions: actions.map((action) => `kafka-cluster:${action}`),
        resources: [resource],
      }),
    );
  }

  private secretArn(): string | undefined {
    return this.kafka.kind === "self-managed" ? this.kafka.secretArn : undefined;
  }

  private allowSecret(grantee: iam.IGrantable): void {
    const secretArn = this.secretArn();
    if (secretArn === undefined) return;
    grantee.grantPrincipal.addToPrincipalPolicy(
      new iam.PolicyStatement({
        actions: ["secretsmanager:GetSecretValue"],
        resources: [secretArn],
      }),
    );
  }
}

function vpcConfig({ subnets, brokers }: ReachableNetwork) {
  const id = (group: ec2.ISecurityGroup) => group.securityGroupId;
  return { subnetIds: subnets.map(({ subnetId }) => subnetId), securityGroups: brokers.map(id) };
}
