/** What a pipeline costs an hour, as metric math over AWS's own metrics and the list prices. */
import { Duration } from "aws-cdk-lib";
import * as cloudwatch from "aws-cdk-lib/aws-cloudwatch";
import * as lambda from "aws-cdk-lib/aws-lambda";
import { PRICE_LIST } from "./cost/prices.js";
import type { StreamPipeline } from "./stream-pipeline.js";

/** The region isn't known when a stack is made; other regions differ by some percent. */
const PRICES = PRICE_LIST.regions["us-east-1"];
const HOUR = Duration.hours(1);
const MILLION = 1e6;

/** What grows with the load; Kafka, endpoints and storage cost the same every hour. */
export function costAnHour(
  pipeline: StreamPipeline,
  handlers: readonly lambda.Function[],
): cloudwatch.IMetric[] {
  const { table } = pipeline.storage;
  const writes = new cloudwatch.Metric({
    namespace: "AWS/DynamoDB",
    metricName: "ConsumedWriteCapacityUnits",
    dimensionsMap: { TableName: table.tableName },
    statistic: cloudwatch.Stats.SUM,
    period: HOUR,
  });
  return [
    lambdaCost(handlers),
    new cloudwatch.MathExpression({
      label: "DynamoDB",
      expression: `FILL(w, 0) * ${decimal(PRICES.dynamodbWrites.usd / MILLION)}`,
      usingMetrics: { w: writes },
      period: HOUR,
    }),
    new cloudwatch.MathExpression({
      label: "S3 writes by commits",
      expression: `FILL(o, 0) * ${decimal(PRICES.s3Puts.usd / MILLION)}`,
      usingMetrics: { o: pipeline.metric("StorageWrites", { period: HOUR }) },
      period: HOUR,
    }),
  ];
}

function lambdaCost(handlers: readonly lambda.Function[]): cloudwatch.MathExpression {
  const usingMetrics: Record<string, cloudwatch.IMetric> = {};
  const terms = handlers.flatMap((handler, at) => {
    const statistic = cloudwatch.Stats.SUM;
    usingMetrics[`i${at}`] = handler.metricInvocations({ statistic, period: HOUR });
    usingMetrics[`d${at}`] = handler.metricDuration({ statistic, period: HOUR });
    const perMs = gbSecond(handler) * (memoryMiB(handler) / 1_024 / 1_000);
    const perRequest = PRICES.lambdaRequests.usd / MILLION;
    return [`FILL(i${at}, 0) * ${decimal(perRequest)}`, `FILL(d${at}, 0) * ${decimal(perMs)}`];
  });
  return new cloudwatch.MathExpression({
    label: "Lambda",
    expression: terms.join(" + "),
    usingMetrics,
    period: HOUR,
  });
}

function gbSecond(handler: lambda.Function): number {
  const isArm = handler.architecture.name === lambda.Architecture.ARM_64.name;
  return isArm ? PRICES.lambdaArmGbSecond.usd : PRICES.lambdaX86GbSecond.usd;
}

function memoryMiB(handler: lambda.Function): number {
  const resource = handler.node.defaultChild;
  return resource instanceof lambda.CfnFunction ? (resource.memorySize ?? 128) : 128;
}

/** Metric math reads no exponents. */
const decimal = (value: number): string => value.toFixed(15).replace(/0+$/, "");
