/**
 * Where records come from: the kinds of Kafka, how one logs in to each, and the names of its
 * parts in IAM policies. Pure; `EventStream` makes the resources.
 */
import { Arn, ArnFormat, Fn, Stack, Token } from "aws-cdk-lib";
import type { IConstruct } from "constructs";
import { MillpondError } from "../errors.js";

/** How clients log in, as `MILLPOND_KAFKA_AUTH` says it. */
export type KafkaAuth = "iam" | "scram" | "tls" | "plaintext";

/** A network that is there already. */
export interface ExistingNetwork {
  readonly vpcId: string;
  /** With a route to the brokers; at least two, in different zones. */
  readonly subnetIds: readonly string[];
  /** Of `subnetIds`, in their order. */
  readonly availabilityZones: readonly string[];
  /** Let in by the brokers, and let in to each other. */
  readonly securityGroupIds: readonly string[];
}

/** Amazon MSK Serverless: no brokers to size; a fixed price an hour. */
export interface ServerlessKafka {
  readonly kind: "serverless";
}

/** Amazon MSK with brokers of a size of your own. */
export interface ProvisionedKafka {
  readonly kind: "provisioned";
  /** `kafka.t3.small` unless told: for trying it out, not for load. */
  readonly instanceType?: string;
  /** A multiple of the zones, 3; 3 unless told. */
  readonly brokers?: number;
  /** Disk of each broker; 100 unless told. */
  readonly storageGiB?: number;
  /** 3.6.0 or later, which has the API for topics; 3.9.x unless told. */
  readonly kafkaVersion?: string;
}

/** An MSK cluster that is there already, with IAM authentication on. */
export interface ExistingKafka {
  readonly kind: "existing";
  readonly clusterArn: string;
  /** Needed to produce, and for topics on MSK Serverless. */
  readonly network?: ExistingNetwork;
}

/** Brokers that are not MSK's. */
export interface SelfManagedKafka {
  readonly kind: "self-managed";
  /** `host:port` of some of them. */
  readonly bootstrapServers: readonly string[];
  readonly auth: "scram" | "tls" | "plaintext";
  /** Secrets Manager: `{"username": …, "password": …}`; needed for `scram`. */
  readonly secretArn?: string;
  /** Where they can be reached; left out when they are public. */
  readonly network?: ExistingNetwork;
}

export type KafkaSource = ServerlessKafka | ProvisionedKafka | ExistingKafka | SelfManagedKafka;

/** MSK's listeners inside the VPC, by authentication (MSK developer guide, "Port information"). */
export const MSK_PORTS: Readonly<Record<KafkaAuth, number>> = {
  iam: 9098,
  scram: 9096,
  tls: 9094,
  plaintext: 9092,
};

/**
 * MSK's API makes topics on provisioned clusters alone (developer guide, "Topic operations"); the
 * ARN of a serverless one ends with `-s` and a digit.
 */
export function hasTopicApi(kafka: KafkaSource): boolean {
  if (kafka.kind === "provisioned") return true;
  return kafka.kind === "existing" && !/-s\d+$/.test(kafka.clusterArn);
}

export function authOf(kafka: KafkaSource): KafkaAuth {
  return kafka.kind === "self-managed" ? kafka.auth : "iam";
}

/** @throws MillpondError USAGE for what AWS would refuse late in a deploy */
export function checkKafka(kafka: KafkaSource): void {
  if (kafka.kind === "provisioned") checkProvisioned(kafka);
  if (kafka.kind === "existing" && !Token.isUnresolved(kafka.clusterArn)) {
    if (!/^arn:[\w-]+:kafka:[\w-]+:\d{12}:cluster\/[^/]+\/[^/]+$/.test(kafka.clusterArn)) {
      throw new MillpondError(
        "USAGE",
        `"${kafka.clusterArn}" is no ARN of an MSK cluster: ` +
          "expected arn:aws:kafka:<region>:<account>:cluster/<name>/<id>",
      );
    }
  }
  if (kafka.kind === "self-managed") checkSelfManaged(kafka);
}

function checkProvisioned({ brokers = 3, kafkaVersion = "3.9.x" }: ProvisionedKafka): void {
  if (brokers < 3 || brokers % 3 !== 0) {
    throw new MillpondError(
      "USAGE",
      `${brokers} brokers can't be spread over 3 zones: use a multiple of 3`,
    );
  }
  const [major = 0, minor = 0] = kafkaVersion.split(".").map(Number);
  if (major < 3 || (major === 3 && minor < 6)) {
    throw new MillpondError(
      "USAGE",
      `Kafka ${kafkaVersion} has no API for topics on MSK: use 3.6.0 or later`,
    );
  }
}

function checkSelfManaged({ bootstrapServers, auth, secretArn }: SelfManagedKafka): void {
  const wrong = bootstrapServers.find((server) => !/^[\w.-]+:\d{1,5}$/.test(server));
  if (bootstrapServers.length === 0 || wrong !== undefined) {
    throw new MillpondError(
      "USAGE",
      `bootstrap servers ${wrong === undefined ? "are missing" : `hold "${wrong}"`}: ` +
        "give host:port, several separated by commas",
    );
  }
  if (auth === "scram" && secretArn === undefined) {
    throw new MillpondError(
      "USAGE",
      "scram needs the ARN of a secret with username and password: give secretArn",
    );
  }
}

/** Names of a cluster's parts, as `kafka-cluster:` actions take them. */
export class ClusterNames {
  readonly clusterArn: string;
  private readonly scope: IConstruct;

  constructor(scope: IConstruct, clusterArn: string) {
    this.scope = scope;
    this.clusterArn = clusterArn;
  }

  topic(name: string): string {
    return this.part("topic", name);
  }

  group(name: string): string {
    return this.part("group", name);
  }

  transactionalId(name: string): string {
    return this.part("transactional-id", name);
  }

  /** `…:cluster/<name>/<id>` becomes `…:<kind>/<name>/<id>/<part>`. */
  private part(kind: string, part: string): string {
    const [cluster, id] = [1, 2].map((at) => Fn.select(at, Fn.split("/", this.clusterArn)));
    return Arn.format(
      {
        service: "kafka",
        resource: kind,
        resourceName: `${cluster}/${id}/${part}`,
        arnFormat: ArnFormat.SLASH_RESOURCE_NAME,
      },
      Stack.of(this.scope),
    );
  }
}
