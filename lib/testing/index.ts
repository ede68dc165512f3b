/** What a test of a pipeline imports, as "millpond/testing". */
export { type FuzzOptions, type FuzzReport, fuzzPipeline } from "./fuzz-pipeline.js";
export type { FuzzGenerator, FuzzRandom, FuzzRecord } from "./fuzz-records.js";
export type { TestRecord } from "./record-queue.js";
export {
  type SendOptions,
  type TestPipeline,
  type TestPipelineOptions,
  testPipeline,
} from "./test-pipeline.js";
export type { TestRow, TestValue } from "./test-tables.js";
