/** Findings of cdk-nag that are right as they are, each with its evidence beside the resource. */
import { Stack, Validations } from "aws-cdk-lib";
import { Construct } from "constructs";

/**
 * `reasons` by rule, e.g. `AwsSolutions-S1`. A principal that is no construct has no policy in this
 * stack, and nothing to acknowledge.
 */
export function acknowledge(target: object, reasons: Readonly<Record<string, string>>): void {
  if (!Construct.isConstruct(target)) return;
  for (const [id, reason] of Object.entries(reasons)) {
    Validations.of(target).acknowledge({ id, reason });
  }
}

/** A resource with a wildcard in a policy of `target`; any other wildcard is still found. */
export function acknowledgeWildcard(target: object, resource: string, reason: string): void {
  if (!Construct.isConstruct(target)) return;
  const found = flattened(Stack.of(target).resolve(resource));
  acknowledge(target, { [`AwsSolutions-IAM5[Resource::${found}]`]: reason });
}

/** As cdk-nag writes what is not known before the deploy: `<Id.Attribute>`. */
function flattened(value: unknown): string {
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return value.map(flattened).join("");
  if (typeof value !== "object" || value === null) return String(value);
  const [name, argument]: [string, unknown] = Object.entries(value)[0] ?? ["", ""];
  if (name === "Fn::Join" && Array.isArray(argument)) return flattened(argument[1]);
  if (name === "Fn::GetAtt" && Array.isArray(argument)) return `<${argument.join(".")}>`;
  return `<${String(argument)}>`;
}
