/** The CDK app's entry point: `npx cdk deploy -c pipeline=… -c kafka=…`; see `lib/aws`. */
import { App } from "aws-cdk-lib";
import { appSettings } from "../lib/aws/app-settings.js";
import { bundlePipeline } from "../lib/aws/bundle.js";
import { PipelineStack, stackName } from "../lib/aws/pipeline-stack.js";
import { errorText } from "../lib/cli/main.js";

try {
  const app = new App();
  const settings = appSettings(app.node.getAllContext());
  const code = await bundlePipeline(settings.pipeline, { architecture: settings.architecture });
  new PipelineStack(app, stackName(code, settings), { settings, code });
  app.synth();
} catch (error) {
  process.stderr.write(errorText(error, false));
  process.exitCode = 1;
}
