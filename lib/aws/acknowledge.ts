/** Findings of cdk-nag that are right as they are, each with its evidence beside the resource. */
import { Validations } from "aws-cdk-lib";
import { Construct } from "constructs";

/**
 * `reasons` by rule, e.g. `AwsSolutions-IAM5` or one finding of it, `AwsSolutions-IAM5[…]`. A
 * principal that is no construct has no policy in this stack, and nothing to acknowledge.
 */
export function acknowledge(target: object, reasons: Readonly<Record<string, string>>): void {
  if (!Construct.isConstruct(target)) return;
  for (const [id, reason] of Object.entries(reasons)) {
    Validations.of(target).acknowledge({ id, reason });
  }
}
