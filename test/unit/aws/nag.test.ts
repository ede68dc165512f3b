/** cdk-nag's AwsSolutions rules over every kind of Kafka, and what no policy may hold. */
import { AwsSolutionsChecks } from "cdk-nag";
import { describe, expect, test } from "vitest";
import { MODES, stackOf } from "./support.js";

describe.each(Object.entries(MODES))("%s", (_, context) => {
  test("no AwsSolutions finding is left without evidence", () => {
    const { app } = stackOf(context);
    app.synth();
    const report = new AwsSolutionsChecks(app).validateScope(app);
    const found = report.violations.flatMap(({ ruleName, violatingResources }) =>
      violatingResources.map(({ resourceLogicalId }) => `${ruleName} ${resourceLogicalId}`),
    );
    expect(found).toEqual([]);
  });
});
