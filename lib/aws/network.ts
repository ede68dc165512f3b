/**
 * The VPC that brokers are in: isolated subnets, no NAT, and only the endpoints that are needed.
 * Which brokers there are is for `EventStream`.
 */
import { Fn } from "aws-cdk-lib";
import * as ec2 from "aws-cdk-lib/aws-ec2";
import * as logs from "aws-cdk-lib/aws-logs";
import { Construct } from "constructs";
import type { ExistingNetwork } from "./kafka.js";

export interface KafkaNetworkProps {
  /** Zones with a subnet each; 2 unless told. Each costs an endpoint's price for each service. */
  readonly zones?: number;
  /** Services that Lambda's pollers call from inside the VPC. */
  readonly interfaceServices: readonly ("lambda" | "sts" | "secretsmanager")[];
  readonly logRetention: logs.RetentionDays;
}

/** What a client of the brokers needs to know of their network. */
export interface ReachableNetwork {
  readonly vpc: ec2.IVpc;
  readonly subnets: readonly ec2.ISubnet[];
  /** Of functions that connect to brokers. */
  readonly clients: readonly ec2.ISecurityGroup[];
  /** Of brokers, and of Lambda's pollers, which take on the brokers' own. */
  readonly brokers: readonly ec2.ISecurityGroup[];
}

/**
 * A VPC without NAT: gateway endpoints for S3 and DynamoDB, which cost nothing, and interface
 * endpoints where Lambda's pollers run in on-demand mode.
 */
export class KafkaNetwork extends Construct implements ReachableNetwork {
  readonly vpc: ec2.IVpc;
  readonly subnets: readonly ec2.ISubnet[];
  readonly clients: readonly ec2.SecurityGroup[];
  readonly brokers: readonly ec2.SecurityGroup[];

  constructor(scope: Construct, id: string, props: KafkaNetworkProps) {
    super(scope, id);
    // Tokens, not look-ups: a stack needs no account to be synthesised, and only once.
    const zones = Array.from({ length: props.zones ?? 2 }, (_, at) => Fn.select(at, Fn.getAzs()));
    const vpc = new ec2.Vpc(this, "Vpc", {
      availabilityZones: zones,
      natGateways: 0,
      restrictDefaultSecurityGroup: false,
      subnetConfiguration: [
        { name: "brokers", subnetType: ec2.SubnetType.PRIVATE_ISOLATED, cidrMask: 24 },
      ],
      gatewayEndpoints: {
        S3: { service: ec2.GatewayVpcEndpointAwsService.S3 },
        DynamoDb: { service: ec2.GatewayVpcEndpointAwsService.DYNAMODB },
      },
    });
    // Their declarations say "or undefined" less exactly than our compiler reads them.
    this.vpc = vpc as ec2.IVpc;
    this.subnets = vpc.isolatedSubnets;
    this.logRejected(vpc, props.logRetention);
    const clients = this.group("Clients", "Functions that connect to brokers");
    const brokers = this.group("Brokers", "Brokers, and pollers of Lambda");
    // No route leads out: what port 443 reaches are the gateway endpoints, by public addresses.
    clients.addEgressRule(ec2.Peer.anyIpv4(), ec2.Port.HTTPS, "S3 by its gateway endpoint");
    this.clients = [clients];
    this.brokers = [brokers];
    this.addInterfaces(props.interfaceServices, brokers);
  }

  /** Lets clients, pollers and brokers reach the brokers on a port. */
  openPort(port: number): void {
    const tcp = ec2.Port.tcp(port);
    for (const brokers of this.brokers) {
      for (const clients of this.clients) {
        brokers.addIngressRule(clients, tcp, "Functions that produce or make topics");
        clients.addEgressRule(brokers, tcp, "Brokers");
      }
      brokers.addIngressRule(brokers, tcp, "Pollers of Lambda");
      brokers.addEgressRule(brokers, tcp, "Pollers of Lambda to brokers");
    }
  }

  private group(id: string, description: string): ec2.SecurityGroup {
    const { vpc } = this;
    return new ec2.SecurityGroup(this, id, { vpc, description, allowAllOutbound: false });
  }

  private addInterfaces(services: readonly string[], pollers: ec2.SecurityGroup): void {
    if (services.length === 0) return;
    const group = this.group("Endpoints", "Endpoints of AWS services");
    group.addIngressRule(pollers, ec2.Port.HTTPS, "Pollers of Lambda");
    pollers.addEgressRule(group, ec2.Port.HTTPS, "Pollers of Lambda to AWS services");
    for (const name of services) {
      new ec2.InterfaceVpcEndpoint(this, `${name}Endpoint`, {
        vpc: this.vpc,
        service: new ec2.InterfaceVpcEndpointAwsService(name),
        subnets: { subnets: [...this.subnets] },
        securityGroups: [group],
        open: false,
      });
    }
  }

  /** Rejected connections are what a wrong security group looks like; the rest is only cost. */
  private logRejected(vpc: ec2.Vpc, retention: logs.RetentionDays): void {
    const group = new logs.LogGroup(this, "FlowLogs", { retention });
    vpc.addFlowLog("Rejected", {
      destination: ec2.FlowLogDestination.toCloudWatchLogs(group),
      trafficType: ec2.FlowLogTrafficType.REJECT,
    });
  }
}

/** A network by its ids, without a look-up in the account. */
export function existingNetwork(
  scope: Construct,
  id: string,
  network: ExistingNetwork,
): ReachableNetwork {
  const own = new Construct(scope, id);
  const vpc = ec2.Vpc.fromVpcAttributes(own, "Vpc", {
    vpcId: network.vpcId,
    availabilityZones: [...network.availabilityZones],
    isolatedSubnetIds: [...network.subnetIds],
  });
  const groups = network.securityGroupIds.map((group) =>
    ec2.SecurityGroup.fromSecurityGroupId(own, group, group, { mutable: false }),
  );
  return { vpc, subnets: vpc.isolatedSubnets, clients: groups, brokers: groups };
}
