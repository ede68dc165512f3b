/** What `millpond/cdk` offers to other CDK apps. */
export { type AppSettings, appSettings } from "./app-settings.js";
export { type BundleOptions, bundlePipeline, type PipelineCode } from "./bundle.js";
export { EventStream, type EventStreamProps, type TopicOptions } from "./event-stream.js";
export type {
  ExistingKafka,
  ExistingNetwork,
  KafkaSource,
  ProvisionedKafka,
  SelfManagedKafka,
  ServerlessKafka,
} from "./kafka.js";
export {
  type AlarmThresholds,
  PipelineDashboard,
  type PipelineDashboardProps,
} from "./pipeline-dashboard.js";
export { PipelineQuery, type PipelineQueryProps } from "./pipeline-query.js";
export { PipelineStack, type PipelineStackProps, stackName } from "./pipeline-stack.js";
export {
  type ProducerSchedule,
  type ProvisionedPollers,
  type SinkServers,
  StreamPipeline,
  type StreamPipelineProps,
} from "./stream-pipeline.js";
