/**
 * One look at a pipeline: a CloudWatch dashboard, and alarms on what should wake someone. The
 * metrics themselves are `StreamPipeline`'s and AWS's own.
 */
import { Duration, Stack } from "aws-cdk-lib";
import * as cloudwatch from "aws-cdk-lib/aws-cloudwatch";
import * as actions from "aws-cdk-lib/aws-cloudwatch-actions";
import * as iam from "aws-cdk-lib/aws-iam";
import type * as lambda from "aws-cdk-lib/aws-lambda";
import * as sns from "aws-cdk-lib/aws-sns";
import * as subscriptions from "aws-cdk-lib/aws-sns-subscriptions";
import { Construct } from "constructs";
import { type AlertName, type AlertRule, alertRule } from "../observe/alerts.js";
import { GRAPHS, type Graph } from "../observe/graphs.js";
import { METRICS, metricDefinition } from "../observe/metrics.js";
import { costAnHour } from "./cost-metric.js";
import type { PipelineQuery } from "./pipeline-query.js";
import type { StreamPipeline } from "./stream-pipeline.js";

/** From when on an alarm rings; see `docs/operations.md` for what to do. */
export interface AlarmThresholds {
  /** Records not yet read; 1,000,000 unless told. */
  readonly consumerLag?: number;
  /** Age of the oldest commit that the sink has not taken; 15 minutes unless told. */
  readonly outboxAge?: Duration;
  /** Records in dead_letters in 5 minutes; 1,000 unless told. */
  readonly deadLetters?: number;
  /** State of a partition; 200 MB unless told. */
  readonly stateBytes?: number;
}

export interface PipelineDashboardProps {
  readonly pipeline: StreamPipeline;
  readonly query?: PipelineQuery;
  /** Gets an e-mail for every alarm. */
  readonly alarmEmail?: string;
  readonly thresholds?: AlarmThresholds;
}

/**
 * @example
 * const dashboard = new PipelineDashboard(stack, "Dashboard", {
 *   pipeline: activity, alarmEmail: "oncall@example.com",
 * });
 * dashboard.alarms.get("OutboxAge");
 */
export class PipelineDashboard extends Construct {
  readonly dashboard: cloudwatch.Dashboard;
  /** Every alarm tells it. */
  readonly topic: sns.Topic;
  /** By name. */
  readonly alarms: ReadonlyMap<string, cloudwatch.Alarm>;
  private readonly pipeline: StreamPipeline;

  constructor(scope: Construct, id: string, props: PipelineDashboardProps) {
    super(scope, id);
    this.pipeline = props.pipeline;
    this.topic = this.makeTopic(props.alarmEmail);
    this.alarms = new Map(
      this.alarmRules(props.thresholds ?? {}).map((rule) => [rule.name, this.makeAlarm(rule)]),
    );
    this.dashboard = new cloudwatch.Dashboard(this, "Dashboard", {
      defaultInterval: Duration.hours(3),
      periodOverride: cloudwatch.PeriodOverride.AUTO,
    });
    for (const row of this.rows(props.query)) this.dashboard.addWidgets(...row);
  }

  private makeTopic(email: string | undefined): sns.Topic {
    const { key } = this.pipeline;
    const topic = new sns.Topic(this, "Alarms", { masterKey: key, enforceSSL: true });
    // An encrypted topic takes CloudWatch's messages only when its key says so.
    key.addToResourcePolicy(
      new iam.PolicyStatement({
        sid: `Alarms${topic.node.addr.slice(-8)}`,
        principals: [new iam.ServicePrincipal("cloudwatch.amazonaws.com")],
        actions: ["kms:Decrypt", "kms:GenerateDataKey"],
        // Of a key policy, which is about this key alone.
        resources: ["*"],
        conditions: { StringEquals: { "aws:SourceAccount": Stack.of(this).account } },
      }),
    );
    if (email !== undefined) topic.addSubscription(new subscriptions.EmailSubscription(email));
    return topic;
  }

  private makeAlarm(rule: AlarmRule): cloudwatch.Alarm {
    const alarm = new cloudwatch.Alarm(this, rule.name, {
      alarmDescription: `${rule.what} What to do: ${rule.todo}`,
      metric: rule.metric,
      threshold: rule.threshold,
      evaluationPeriods: rule.periods,
      comparisonOperator: cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
      // A pipeline at rest says nothing, and that is well.
      treatMissingData: cloudwatch.TreatMissingData.NOT_BREACHING,
    });
    const tell = new actions.SnsAction(this.topic);
    alarm.addAlarmAction(tell);
    alarm.addOkAction(tell);
    return alarm;
  }

  private alarmRules(thresholds: AlarmThresholds): AlarmRule[] {
    return [
      ...progressRules(this.pipeline, thresholds),
      ...functionRules(this.pipeline),
      ...queueRules(this.pipeline),
    ];
  }

  private rows(query: PipelineQuery | undefined): cloudwatch.IWidget[][] {
    const { pipeline } = this;
    const { processor, sink, producer, ingest } = pipeline;
    const handlers = [processor, sink, producer, ingest, ...(query ? [query.handler] : [])];
    return [
      [
        new cloudwatch.AlarmStatusWidget({
          title: `Alarms of ${pipeline.pipelineName}`,
          alarms: [...this.alarms.values()],
          width: 24,
        }),
      ],
      [
        this.graph(GRAPHS.throughput),
        this.plot("Consumer lag (records)", [pipeline.metricConsumerLag({ label: "not read" })]),
        this.graph(GRAPHS.watermarkLag),
      ],
      [this.graph(GRAPHS.eventToVisible), this.graph(GRAPHS.outboxAge), this.graph(GRAPHS.outbox)],
      [this.graph(GRAPHS.late), this.graph(GRAPHS.dead), this.graph(GRAPHS.state)],
      [
        this.plot(
          "Errors",
          handlers.map((handler) =>
            handler === processor
              ? pipeline.metricProcessorFailures(named(handler))
              : handler.metricErrors(named(handler)),
          ),
        ),
        this.plot("Throttles", [
          ...handlers.map((handler) => handler.metricThrottles(named(handler))),
          throttledWrites(pipeline),
        ]),
        this.graph(GRAPHS.failures),
      ],
      [
        this.graph(GRAPHS.durations),
        this.graph(GRAPHS.sent),
        this.plot("Cost an hour (USD, list prices)", costAnHour(pipeline, handlers)),
      ],
      [this.graph(GRAPHS.commits), explanations()],
    ];
  }

  private graph({ title, cloudWatchUnit, metrics }: Graph): cloudwatch.GraphWidget {
    const shown = metrics.filter((name) => metricDefinition(name).inCloudWatch);
    const period = Duration.minutes(1);
    return this.plot(
      cloudWatchUnit === undefined ? title : `${title} (${cloudWatchUnit})`,
      shown.map((name) => this.pipeline.metric(name, { label: name, period })),
    );
  }

  private plot(title: string, left: cloudwatch.IMetric[]): cloudwatch.GraphWidget {
    return new cloudwatch.GraphWidget({
      title,
      left,
      width: 8,
      leftYAxis: { min: 0, showUnits: false },
    });
  }
}

interface AlarmRule extends Pick<AlertRule, "what" | "todo"> {
  readonly name: string;
  readonly metric: cloudwatch.IMetric;
  readonly threshold: number;
  /** Of five minutes each. */
  readonly periods: number;
}

const PERIOD = Duration.minutes(5);

/** What is rung for outside AWS too: its texts, and its threshold unless another one is given. */
function shared(
  name: AlertName,
  own?: number,
): Pick<AlarmRule, "name" | "threshold" | "what" | "todo"> {
  const { threshold, what, todo } = alertRule(name);
  return { name, threshold: own ?? threshold, what, todo };
}

function progressRules(pipeline: StreamPipeline, thresholds: AlarmThresholds): AlarmRule[] {
  const { consumerLag, deadLetters, stateBytes } = thresholds;
  const { outboxAge = Duration.seconds(alertRule("OutboxAge").threshold) } = thresholds;
  const period = PERIOD;
  const lag = pipeline.metricConsumerLag({ period });
  const age = pipeline.metric("OutboxAgeMs", { period });
  const dead = pipeline.metric("DeadLetters", { period });
  const state = pipeline.metric("StateBytes", { period });
  return [
    { ...shared("ConsumerLag", consumerLag), metric: lag, periods: 3 },
    { ...shared("OutboxAge", outboxAge.toMilliseconds()), metric: age, periods: 2 },
    { ...shared("DeadLetters", deadLetters), metric: dead, periods: 1 },
    { ...shared("StateBytes", stateBytes), metric: state, periods: 3 },
  ];
}

function functionRules(pipeline: StreamPipeline): AlarmRule[] {
  const { processor, sink } = pipeline;
  const period = PERIOD;
  const failures = pipeline.metricProcessorFailures({ period });
  return [
    { ...shared("ProcessorErrors"), metric: failures, periods: 3 },
    { ...shared("SinkErrors"), metric: sink.metricErrors({ period }), periods: 3 },
    {
      name: "Throttles",
      metric: processor.metricThrottles({ period: PERIOD }),
      threshold: 1,
      periods: 3,
      what: "The account has no concurrency left for the processor.",
      todo: "raise the account's limit of concurrent executions, or reserve some for it.",
    },
    {
      name: "StateThrottles",
      metric: throttledWrites(pipeline).with({ period: PERIOD }),
      threshold: 10,
      periods: 3,
      what: "DynamoDB refuses commits for a while; they are tried again.",
      todo: "longer batching windows make fewer commits; the table's own limits can be raised.",
    },
  ];
}

function queueRules(pipeline: StreamPipeline): AlarmRule[] {
  const { storage, incomingDeadLetters } = pipeline;
  const period = PERIOD;
  const batchesGivenUp = pipeline.metricBatchesGivenUp({ period });
  return [
    {
      name: "InvocationsLost",
      metric: storage.deadLetters.metricApproximateNumberOfMessagesVisible({ period }),
      threshold: 1,
      periods: 1,
      what: "A tick or a producer's run could not be invoked.",
      todo: "read the message in the dead-letter queue; ticks repeat, so it may be deleted.",
    },
    {
      name: "ObjectsRejected",
      metric: pipeline.metric("ObjectsRejected", { period }),
      threshold: 1,
      periods: 1,
      what: "Ingest refused an object, or its changed content: what it holds is in no table.",
      todo: "read ingest's log for its key, and put the content under a new name.",
    },
    {
      name: "ObjectsLost",
      metric: incomingDeadLetters.metricApproximateNumberOfMessagesVisible({ period }),
      threshold: 1,
      periods: 1,
      what: "Ingest failed on an object 20 times.",
      todo: "read ingest's log for its key; when mended, redrive the dead-letter queue.",
    },
    ...(batchesGivenUp === undefined ? [] : [givenUpRule(batchesGivenUp)]),
  ];
}

function givenUpRule(metric: cloudwatch.IMetric): AlarmRule {
  return {
    name: "BatchesGivenUp",
    metric,
    threshold: 1,
    periods: 1,
    what: "Lambda gave records up: they are in the bucket beneath aws/lambda/, in no table.",
    todo: "mend the cause, send these records again, and think about retries without a limit.",
  };
}

function throttledWrites({ storage }: StreamPipeline): cloudwatch.Metric {
  return new cloudwatch.Metric({
    namespace: "AWS/DynamoDB",
    metricName: "WriteThrottleEvents",
    dimensionsMap: { TableName: storage.table.tableName },
    statistic: cloudwatch.Stats.SUM,
    label: "state table",
  });
}

const named = (handler: lambda.Function) => ({ label: handler.node.id });

/** What each of our metrics says, beside the graphs. */
function explanations(): cloudwatch.TextWidget {
  const shown = METRICS.filter(({ inCloudWatch }) => inCloudWatch);
  const lines = shown.map(({ name, help }) => `**${name}** ${help}`);
  return new cloudwatch.TextWidget({ markdown: lines.join("  \n"), width: 16, height: 6 });
}
