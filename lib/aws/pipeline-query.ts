/** Questions to a pipeline's tables: a function behind a URL that AWS signs requests for. */
import { Duration } from "aws-cdk-lib";
import type * as iam from "aws-cdk-lib/aws-iam";
import * as lambda from "aws-cdk-lib/aws-lambda";
import { Construct } from "constructs";
import { handlerFunction } from "./handler-function.js";
import type { StreamPipeline } from "./stream-pipeline.js";

export interface PipelineQueryProps {
  readonly pipeline: StreamPipeline;
  /** DuckDB's memory is most of it; 2,048 unless told. */
  readonly memoryMiB?: number;
  /** A query is ended before; 60 seconds unless told. */
  readonly timeout?: Duration;
}

/**
 * SQL in, JSON, CSV or Parquet out.
 *
 * @example
 * const query = new PipelineQuery(stack, "Query", { pipeline: activity });
 * query.grantInvoke(analystsRole);
 * new CfnOutput(stack, "QueryUrl", { value: query.url.url });
 * // millpond query --endpoint <url> "SELECT * FROM page_view_counts"
 */
export class PipelineQuery extends Construct {
  readonly handler: lambda.Function;
  /**
   * Callers need `lambda:InvokeFunctionUrl` and `lambda:InvokeFunction`, and sign with their
   * credentials.
   */
  readonly url: lambda.FunctionUrl;

  constructor(scope: Construct, id: string, props: PipelineQueryProps) {
    super(scope, id);
    const { pipeline } = props;
    this.handler = handlerFunction(this, "Query", {
      code: pipeline.code,
      name: "query",
      description: `Millpond query of ${pipeline.pipelineName}`,
      environment: {
        ...pipeline.storage.environment(),
        MILLPOND_PIPELINE: pipeline.pipelineName,
      },
      timeout: props.timeout ?? Duration.seconds(60),
      memoryMiB: props.memoryMiB ?? 2_048,
      logRetention: pipeline.logRetention,
      removalPolicy: pipeline.removalPolicy,
    });
    pipeline.grantReadResults(this.handler);
    this.url = this.handler.addFunctionUrl({ authType: lambda.FunctionUrlAuthType.AWS_IAM });
  }

  /** Lets a principal ask. */
  grantInvoke(grantee: iam.IGrantable): iam.Grant {
    return this.url.grantInvokeUrl(grantee);
  }
}
