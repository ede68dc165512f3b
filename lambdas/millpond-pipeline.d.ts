/** The user's pipeline, which the bundler puts in place of this module. */
declare module "millpond-pipeline" {
  import type { Pipeline } from "millpond";

  const pipeline: Pipeline;
  export default pipeline;
}
