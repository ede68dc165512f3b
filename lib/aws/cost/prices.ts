/**
 * List prices in US dollars, without free tiers, discounts or taxes: the only place that holds
 * them. AWS's own pages fill in their tables by script, so most were read elsewhere, not always
 * with a region: a price names where, and what is left in doubt. Bring `source` and `dated` up to
 * date together with a number.
 */

export interface Price {
  readonly usd: number;
  readonly per: string;
  /** Where the number was read; with a doubt, AWS's page to check it on. */
  readonly source: string;
  /** The source's own date, by month or year; null where it names none. */
  readonly dated: string | null;
  /** Why not to rely on it unchecked. */
  readonly doubt?: string;
}

type Source = Pick<Price, "source" | "dated" | "doubt">;

const price = (usd: number, per: string, source: Source): Price => ({ usd, per, ...source });
const read = (source: string, dated: string | null = null): Source => ({ source, dated });
const unsure = (page: string, doubt: string): Source => ({ source: page, dated: null, doubt });

const NO_ADDRESS = "read only in copies of AWS's list whose origin is not known";

const LAMBDA_REQUESTS = read(
  "https://git.mcrn.ar/mariano/lambda_local_runner/src/branch/main/" +
    "docs/lambdas-md/lambda-13-cost.md",
  "2026-05",
);
const LAMBDA_DURATION = read("https://cloudchipr.com/blog/aws-lambda-pricing", "2024");
const LAMBDA = unsure("https://aws.amazon.com/lambda/pricing/", NO_ADDRESS);
const DYNAMODB = read("https://airbyte.com/data-engineering-resources/dynamodb-pricing", "2025-07");
const DYNAMODB_STORAGE = read(
  "https://gist.github.com/bahrmichael/94e01d26dc21b9b7156d7d27b1b9e16e",
  "2020-12",
);
const DYNAMODB_BACKUP = read("https://gist.github.com/allenheltondev?page=3");
const S3 = read(
  "https://devnotes.tech/understanding-aws-s3-pricing-a-complete-cost-breakdown-with-examples",
);
const MSK = read(
  "https://github.com/Gilgamech/OfferingOverview/blob/" +
    "26d85c659aaeb5451d4cc59429d1db066925017a/notes/MSK.md",
);
const MSK_LARGE = unsure(
  "https://aws.amazon.com/msk/pricing/",
  "what was read differs, from 0.128 to 0.204",
);
const PRIVATE_LINK = read("https://awsnegotiations.com/privatelink-cost-analysis.html", "2026-05");
const METRICS = read("https://signoz.io/guides/cloudwatch-pricing", "2026-02");
const ALARMS = unsure("https://aws.amazon.com/cloudwatch/pricing/", "read for another region only");
const CLOUDWATCH = read(
  "https://www.factualminds.com/blog/amazon-cloudwatch-pricing-metrics-logs-alarms-dashboards.md",
  "2026-06",
);
const KMS_KEYS = read("https://aws.amazon.com/kms/pricing/");
const KMS_REQUESTS = read("https://www.wring.co/blog/aws-kms-pricing-guide");
const FLINK = read(
  "https://raw.githubusercontent.com/api-evangelist/kinesis/refs/heads/main/" +
    "plans/kinesis-plans-pricing.yml",
  "2026-09",
);
const FLINK_STORAGE = unsure(
  "https://aws.amazon.com/managed-service-apache-flink/pricing/",
  "AWS's example bills the 50 GB of a KPU, its agent-toolkit-for-aws has them included",
);
const EMR = unsure("https://aws.amazon.com/emr/pricing/", NO_ADDRESS);
const GLUE = read("https://awsnegotiations.com/glue-job-cost-optimization.html", "2026-05");

/** US East (N. Virginia). */
const usEast1 = {
  lambdaRequests: price(0.2, "million requests", LAMBDA_REQUESTS),
  lambdaArmGbSecond: price(0.0000133334, "GB-second on arm64", LAMBDA_DURATION),
  lambdaX86GbSecond: price(0.0000166667, "GB-second on x86", LAMBDA_DURATION),
  lambdaScratchGbSecond: price(0.0000000309, "GB-second of /tmp above 512 MB", LAMBDA),
  eventPollerUnitHour: price(0.185, "event poller unit-hour, 20 MB/s", LAMBDA),
  dynamodbWrites: price(0.625, "million write request units", DYNAMODB),
  dynamodbReads: price(0.125, "million read request units", DYNAMODB),
  dynamodbGbMonth: price(0.25, "GB-month", DYNAMODB_STORAGE),
  dynamodbBackupGbMonth: price(0.2, "GB-month of point-in-time recovery", DYNAMODB_BACKUP),
  s3Puts: price(5, "million PUT, COPY, POST or LIST requests", S3),
  s3Gets: price(0.4, "million GET requests", S3),
  s3GbMonth: price(0.023, "GB-month", S3),
  mskServerlessClusterHour: price(0.75, "cluster-hour", MSK),
  mskServerlessPartitionHour: price(0.0015, "partition-hour", MSK),
  mskServerlessGbIn: price(0.1, "GB written", MSK),
  mskServerlessGbOut: price(0.05, "GB read", MSK),
  mskServerlessGbMonth: price(0.1, "GB-month of serverless storage", MSK),
  mskSmallBrokerHour: price(0.0456, "kafka.t3.small broker-hour", MSK),
  mskLargeBrokerHour: price(0.204, "kafka.m7g.large broker-hour", MSK_LARGE),
  mskGbMonth: price(0.1, "GB-month of broker storage", MSK),
  endpointHour: price(0.01, "interface endpoint-hour in a zone", PRIVATE_LINK),
  endpointGb: price(0.01, "GB through an interface endpoint", PRIVATE_LINK),
  metricMonth: price(0.3, "custom metric-month", METRICS),
  alarmMonth: price(0.1, "alarm-month", ALARMS),
  dashboardMonth: price(3, "dashboard-month", CLOUDWATCH),
  logsGb: price(0.5, "GB of logs taken in", CLOUDWATCH),
  keyMonth: price(1, "key-month", KMS_KEYS),
  keyRequests: price(3, "million requests", KMS_REQUESTS),
  flinkKpuHour: price(0.11, "KPU-hour", FLINK),
  flinkGbMonth: price(0.1, "GB-month of running application storage, 50 GB a KPU", FLINK_STORAGE),
  emrVcpuHour: price(0.042094, "vCPU-hour on arm64", EMR),
  emrGbHour: price(0.004628, "GB-hour on arm64", EMR),
  glueDpuHour: price(0.44, "DPU-hour", GLUE),
} satisfies Readonly<Record<string, Price>>;

export type PriceName = keyof typeof usEast1;
export type Prices = Readonly<Record<PriceName, Price>>;

export const PRICE_LIST = {
  /** The region that the numbers were read for. */
  readFor: "us-east-1",
  /** Regions taken to have the same list prices for all of these. */
  regions: { "us-east-1": usEast1, "us-east-2": usEast1, "us-west-2": usEast1 },
} as const;
