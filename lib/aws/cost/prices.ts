/**
 * List prices in US dollars, without free tiers, discounts or taxes: the only place that holds
 * them. Bring `asOf` up to date together with the numbers.
 */

export interface Price {
  readonly usd: number;
  readonly per: string;
  /** The public page that states it. */
  readonly source: string;
}

const price = (usd: number, per: string, source: string): Price => ({ usd, per, source });

const LAMBDA = "https://aws.amazon.com/lambda/pricing/";
const DYNAMODB = "https://aws.amazon.com/dynamodb/pricing/on-demand/";
const S3 = "https://aws.amazon.com/s3/pricing/";
const MSK = "https://aws.amazon.com/msk/pricing/";
const PRIVATE_LINK = "https://aws.amazon.com/privatelink/pricing/";
const CLOUDWATCH = "https://aws.amazon.com/cloudwatch/pricing/";
const KMS = "https://aws.amazon.com/kms/pricing/";
const FLINK = "https://aws.amazon.com/managed-service-apache-flink/pricing/";
const EMR = "https://aws.amazon.com/emr/pricing/";
const GLUE = "https://aws.amazon.com/glue/pricing/";

/** US East (N. Virginia). */
const usEast1 = {
  lambdaRequests: price(0.2, "million requests", LAMBDA),
  lambdaArmGbSecond: price(0.0000133334, "GB-second on arm64", LAMBDA),
  lambdaX86GbSecond: price(0.0000166667, "GB-second on x86", LAMBDA),
  lambdaScratchGbSecond: price(0.0000000309, "GB-second of /tmp above 512 MB", LAMBDA),
  eventPollerUnitHour: price(0.185, "event poller unit-hour, four pollers of 5 MB/s", LAMBDA),
  dynamodbWrites: price(0.625, "million write request units", DYNAMODB),
  dynamodbReads: price(0.125, "million read request units", DYNAMODB),
  dynamodbGbMonth: price(0.25, "GB-month", DYNAMODB),
  dynamodbBackupGbMonth: price(0.2, "GB-month of point-in-time recovery", DYNAMODB),
  s3Puts: price(5, "million PUT, COPY, POST or LIST requests", S3),
  s3Gets: price(0.4, "million GET requests", S3),
  s3GbMonth: price(0.023, "GB-month", S3),
  mskServerlessClusterHour: price(0.75, "cluster-hour", MSK),
  mskServerlessPartitionHour: price(0.0015, "partition-hour", MSK),
  mskServerlessGbIn: price(0.1, "GB written", MSK),
  mskServerlessGbOut: price(0.05, "GB read", MSK),
  mskSmallBrokerHour: price(0.0456, "kafka.t3.small broker-hour", MSK),
  mskLargeBrokerHour: price(0.204, "kafka.m7g.large broker-hour", MSK),
  mskGbMonth: price(0.1, "GB-month of broker storage", MSK),
  endpointHour: price(0.01, "interface endpoint-hour in a zone", PRIVATE_LINK),
  endpointGb: price(0.01, "GB through an interface endpoint", PRIVATE_LINK),
  metricMonth: price(0.3, "custom metric-month", CLOUDWATCH),
  alarmMonth: price(0.1, "alarm-month", CLOUDWATCH),
  dashboardMonth: price(3, "dashboard-month", CLOUDWATCH),
  logsGb: price(0.5, "GB of logs taken in", CLOUDWATCH),
  keyMonth: price(1, "key-month", KMS),
  keyRequests: price(3, "million requests", KMS),
  flinkKpuHour: price(0.11, "KPU-hour", FLINK),
  flinkGbMonth: price(0.1, "GB-month of running application storage, 50 GB a KPU", FLINK),
  emrVcpuHour: price(0.042094, "vCPU-hour on arm64", EMR),
  emrGbHour: price(0.004628, "GB-hour on arm64", EMR),
  glueDpuHour: price(0.44, "DPU-hour", GLUE),
} as const satisfies Readonly<Record<string, Price>>;

export type PriceName = keyof typeof usEast1;
export type Prices = Readonly<Record<PriceName, Price>>;

export const PRICE_LIST = {
  /** When the numbers were last compared with the pages. */
  asOf: "2025-11",
  /** Regions with the same list prices for all of these share a table. */
  regions: { "us-east-1": usEast1, "us-east-2": usEast1, "us-west-2": usEast1 },
} as const;
