/** A random pipeline with random logs for it, in a workspace of its own. */
import { writeFile } from "node:fs/promises";
import type { Pipeline } from "../../../lib/define/definition.js";
import { type Logs, Workspace } from "./check.js";
import { partitionLines, type StreamPlan, streamPlan } from "./events.js";
import { LEVELS_CSV, type PipelineOptions, randomPipeline } from "./pipelines.js";
import type { Random } from "./random.js";

export interface Scenario {
  readonly workspace: Workspace;
  readonly pipeline: Pipeline;
  /** By topic; nothing is written yet. */
  readonly logs: ReadonlyMap<string, Logs>;
  /** What to say when it fails. */
  readonly about: string;
}

export interface ScenarioOptions extends PipelineOptions {
  readonly recordsMax: number;
  readonly partitionsMax: number;
}

export async function withScenario(
  random: Random,
  options: ScenarioOptions,
  check: (scenario: Scenario) => Promise<void>,
): Promise<void> {
  const workspace = await Workspace.create();
  try {
    const plans = [streamPlan(random, "events")];
    if (random.chance(0.2)) plans.push(streamPlan(random, "others"));
    await writeFile(workspace.csv, LEVELS_CSV);
    const logs = new Map(plans.map((plan) => [plan.topic, randomLogs(random, plan, options)]));
    const pipeline = randomPipeline(random, plans, workspace.csv, options);
    const about = `seed ${random.seed}, plans ${JSON.stringify(plans)}`;
    await check({ workspace, pipeline, logs, about });
  } finally {
    await workspace.remove();
  }
}

/** About `recordsMax` records in all at most; some partitions are empty or nearly so. */
function randomLogs(random: Random, plan: StreamPlan, options: ScenarioOptions): string[][] {
  const { recordsMax, partitionsMax } = options;
  const partitions = random.between(1, partitionsMax);
  const records = Math.ceil(random.between(recordsMax / 10, recordsMax) / partitions);
  return Array.from({ length: partitions }, (_, partition) => {
    const lines = partitionLines(random, plan, partition);
    const count = random.chance(0.1) ? random.below(5) : random.between(records / 2, records * 1.5);
    return Array.from({ length: Math.floor(count) }, () => String(lines.next().value));
  });
}
