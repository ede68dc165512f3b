/**
 * Where a pipeline's state and results are: the table of checkpoints, the bucket, and the queue of
 * what could not be invoked; with what each function may do with which part of them.
 */
import { Duration, RemovalPolicy } from "aws-cdk-lib";
import * as dynamodb from "aws-cdk-lib/aws-dynamodb";
import * as iam from "aws-cdk-lib/aws-iam";
import type * as kms from "aws-cdk-lib/aws-kms";
import * as s3 from "aws-cdk-lib/aws-s3";
import * as sqs from "aws-cdk-lib/aws-sqs";
import { Construct } from "constructs";
import { acknowledge, acknowledgeWildcard } from "./acknowledge.js";

export interface PipelineStorageProps {
  readonly pipeline: string;
  readonly key: kms.IKey;
  readonly removalPolicy: RemovalPolicy;
}

/** What Lambda writes there when a batch is given up has this prefix, which can't be chosen. */
export const FAILURES_PREFIX = "aws/lambda/";
const ACCESS_LOG_DAYS = 90;
const FAILURE_DAYS = 90;

export class PipelineStorage extends Construct {
  /** Checkpoints of partitions and publisher, one item each. */
  readonly table: dynamodb.Table;
  /** State, lake, databases, incoming objects, data sets. */
  readonly bucket: s3.Bucket;
  readonly accessLogs: s3.IBucket;
  /** Events that a function could not be invoked with. */
  readonly deadLetters: sqs.Queue;
  private readonly props: PipelineStorageProps;

  constructor(scope: Construct, id: string, props: PipelineStorageProps) {
    super(scope, id);
    // S3 may write its logs by policy; the other way is an ACL, which buckets no longer have.
    this.node.setContext("@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy", true);
    this.props = props;
    const { key, removalPolicy } = props;
    const isKept = removalPolicy === RemovalPolicy.RETAIN;
    this.table = new dynamodb.Table(this, "State", {
      partitionKey: { name: "pipeline", type: dynamodb.AttributeType.STRING },
      sortKey: { name: "name", type: dynamodb.AttributeType.STRING },
      billingMode: dynamodb.BillingMode.PAY_PER_REQUEST,
      encryption: dynamodb.TableEncryption.CUSTOMER_MANAGED,
      encryptionKey: key,
      // The sink only needs to be woken: what changed, it reads.
      stream: dynamodb.StreamViewType.KEYS_ONLY,
      pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: true },
      deletionProtection: isKept,
      removalPolicy,
    });
    this.accessLogs = this.makeAccessLogs();
    this.bucket = new s3.Bucket(this, "Bucket", {
      ...secure(removalPolicy),
      encryption: s3.BucketEncryption.KMS,
      encryptionKey: key,
      // One call to KMS for many objects.
      bucketKeyEnabled: true,
      serverAccessLogsBucket: this.accessLogs,
      lifecycleRules: lifecycle(),
    });
    // As a property: the CDK's own way deploys a function with rights on every bucket.
    const bucket = this.bucket.node.defaultChild;
    if (bucket instanceof s3.CfnBucket) {
      bucket.addPropertyOverride(
        "NotificationConfiguration.EventBridgeConfiguration.EventBridgeEnabled",
        true,
      );
    }
    this.deadLetters = deadLetterQueue(this, "DeadLetters", removalPolicy);
  }

  environment(): Record<string, string> {
    return {
      MILLPOND_STORE: "aws",
      MILLPOND_STATE_TABLE: this.table.tableName,
      MILLPOND_BUCKET: this.bucket.bucketName,
    };
  }

  /** Checkpoints of this pipeline alone. */
  grantCheckpoints(grantee: iam.IGrantable): void {
    this.add(grantee, "Checkpoints", {
      actions: ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"],
      resources: [this.table.tableArn],
      conditions: {
        "ForAllValues:StringEquals": { "dynamodb:LeadingKeys": [this.props.pipeline] },
      },
    });
    this.grantKey(grantee, "write");
  }

  /** Objects beneath a prefix; `prefix` ends with "/", or names one object. */
  grantObjects(grantee: iam.IGrantable, sid: string, access: ObjectAccess): void {
    const { prefix, actions } = access;
    const objects = prefix.endsWith("/") ? `${prefix}*` : prefix;
    this.add(grantee, sid, {
      actions: actions.map((action) => `s3:${action}`),
      resources: [this.bucket.arnForObjects(objects)],
    });
    if (access.list === true) {
      this.add(grantee, `${sid}List`, {
        actions: ["s3:ListBucket"],
        resources: [this.bucket.bucketArn],
        // A read of what is not there is 404 with this permission, else 403; it has no prefix.
        conditions: { StringLikeIfExists: { "s3:prefix": [objects] } },
      });
    }
    this.grantKey(grantee, actions.includes("PutObject") ? "write" : "read");
    if (!objects.endsWith("*")) return;
    acknowledgeWildcard(
      grantee.grantPrincipal,
      this.bucket.arnForObjects(objects),
      "Keys carry commit ids and are not known before: it names bucket, prefix and actions.",
    );
  }

  /** Data in table and bucket is under this key. */
  private grantKey(grantee: iam.IGrantable, access: "read" | "write"): void {
    const isWriting = access === "write";
    this.add(grantee, isWriting ? "WriteByKey" : "ReadByKey", {
      actions: [
        ...["kms:Decrypt", "kms:DescribeKey"],
        ...(isWriting ? ["kms:Encrypt", "kms:GenerateDataKey"] : []),
      ],
      resources: [this.props.key.keyArn],
    });
  }

  private add(grantee: iam.IGrantable, sid: string, props: iam.PolicyStatementProps): void {
    grantee.grantPrincipal.addToPrincipalPolicy(new iam.PolicyStatement({ sid, ...props }));
  }

  private makeAccessLogs(): s3.IBucket {
    const bucket = new s3.Bucket(this, "AccessLogs", {
      ...secure(this.props.removalPolicy),
      // S3 can't deliver its logs to a bucket under a customer's key without more rights.
      encryption: s3.BucketEncryption.S3_MANAGED,
      lifecycleRules: [{ id: "old-logs", expiration: Duration.days(ACCESS_LOG_DAYS) }],
    });
    acknowledge(bucket, {
      "AwsSolutions-S1": "It holds the access logs of the other bucket; logging it would loop.",
    });
    // Declared less exactly than our compiler reads it.
    return bucket as s3.IBucket;
  }
}

export interface ObjectAccess {
  readonly prefix: string;
  readonly actions: readonly ("GetObject" | "PutObject" | "DeleteObject")[];
  readonly list?: boolean;
}

function secure(removalPolicy: RemovalPolicy) {
  return {
    blockPublicAccess: s3.BlockPublicAccess.BLOCK_ALL,
    enforceSSL: true,
    minimumTLSVersion: 1.2,
    objectOwnership: s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
    removalPolicy,
  };
}

/**
 * What Millpond no longer needs it deletes itself, by reference. A rule by age can't know what a
 * checkpoint still names, so none touches state, lake or databases.
 */
function lifecycle(): s3.LifecycleRule[] {
  return [
    { id: "unfinished-uploads", abortIncompleteMultipartUploadAfter: Duration.days(7) },
    { id: "old-failures", prefix: FAILURES_PREFIX, expiration: Duration.days(FAILURE_DAYS) },
  ];
}

export function deadLetterQueue(
  scope: Construct,
  id: string,
  removalPolicy: RemovalPolicy,
): sqs.Queue {
  const queue = new sqs.Queue(scope, id, {
    encryption: sqs.QueueEncryption.SQS_MANAGED,
    enforceSSL: true,
    retentionPeriod: Duration.days(14),
    removalPolicy,
  });
  acknowledge(queue, {
    "AwsSolutions-SQS3": "It is a dead-letter queue itself; an alarm watches that it is empty.",
  });
  return queue;
}
