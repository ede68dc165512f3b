/** The benchmark's pipeline as a file, for worker threads, which load it again by path. */
import { parameter } from "../../lib/index.js";
import { benchPipeline, type Workload } from "./pipelines.js";

const workload = parameter("workload", "tumbling") as Workload;
export default benchPipeline(workload, parameter("bronze", "false") === "true");
