/** A workspace's files as Kafka topics: their lines through the processor's handler to results. */
import { mkdir, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointCell } from "../../../lib/commit/cell.js";
import type { Pipeline } from "../../../lib/define/definition.js";
import { makeProcessor } from "../../../lib/handlers/processor.js";
import { outputPaths } from "../../../lib/runtime/output.js";
import { loadReferences } from "../../../lib/runtime/references.js";
import { runPipeline } from "../../../lib/runtime/run-pipeline.js";
import { FileCheckpointStore } from "../../../lib/stores/files.js";
import { kafkaEvent, type TestRecord } from "../../unit/handlers/kafka-support.js";
import type { Workspace } from "./check.js";
import type { Random } from "./random.js";

interface TopicPartition {
  readonly topic: string;
  readonly partition: number;
  readonly records: readonly TestRecord[];
}

/** As the local run reads them: a line a record, its index the offset, blank lines left out. */
async function topicPartitions(
  { definition }: Pipeline,
  workspace: Workspace,
): Promise<TopicPartition[]> {
  const found: TopicPartition[] = [];
  for (const { name: topic } of definition.streams) {
    const names = (await readdir(workspace.input(topic))).sort();
    for (const [partition, name] of names.entries()) {
      const file = join(workspace.input(topic), name);
      const timestamp = Math.floor((await stat(file)).mtimeMs);
      const lines = (await readFile(file, "utf8")).split("\n").filter((line) => line.trim() !== "");
      const records = lines.map((value, offset) => ({ offset, timestamp, value }));
      found.push({ topic, partition, records });
    }
  }
  return found;
}

/**
 * Feeds the topics to the handler in random batches over random partitions, some of them again,
 * some by a second environment; returns the partitions. `between` is called after each batch.
 */
export async function feedProcessor(
  pipeline: Pipeline,
  workspace: Workspace,
  env: Record<string, string | undefined>,
  random: Random,
  between: () => Promise<void> = async () => undefined,
): Promise<TopicPartition[]> {
  const references = await loadReferences(pipeline);
  const write = () => undefined;
  const options = { pipeline, env, references, write };
  const environments = [makeProcessor(options), makeProcessor(options)];
  const context = { getRemainingTimeInMillis: () => 60_000 };
  const partitions = await topicPartitions(pipeline, workspace);
  const positions = partitions.map(() => 0);
  while (partitions.some(({ records }, i) => positions[i]! < records.length)) {
    const batch = partitions.map(({ topic, partition, records }, i) => {
      const from = Math.max(0, positions[i]! - (random.chance(0.2) ? random.below(200) : 0));
      positions[i] = Math.min(records.length, positions[i]! + random.below(400));
      return { topic, partition, records: records.slice(from, positions[i]) };
    });
    const event = kafkaEvent(batch, random.pick(["aws:kafka", "SelfManagedKafka"]));
    await random.pick(environments)(event, context);
    await between();
  }
  return partitions;
}

/** `feedProcessor`, and the end of each log published as a local run does it. */
export async function runThroughProcessor(
  pipeline: Pipeline,
  workspace: Workspace,
  out: string,
  random: Random,
): Promise<void> {
  const env = { MILLPOND_STORE: `file:${out}` };
  const partitions = await feedProcessor(pipeline, workspace, env, random);
  await finishOutput(pipeline, out, partitions);
}

/** A local run that finds its files gone: it flushes and publishes what their partitions left. */
export async function finishOutput(
  pipeline: Pipeline,
  out: string,
  partitions: readonly { readonly topic: string; readonly partition: number }[],
): Promise<void> {
  const checkpoints = new FileCheckpointStore(outputPaths(out).checkpoints);
  const inputs = new Map<string, string>();
  for (const { name: topic } of pipeline.definition.streams) {
    const known = partitions.filter((partition) => partition.topic === topic);
    const numbers = known.map(({ partition }) => [`part-${partition}`, partition]);
    const id = `${pipeline.definition.name}/files/${topic}`;
    const cell = new CheckpointCell(checkpoints, id);
    await cell.read();
    await cell.swap({ partitions: Object.fromEntries(numbers) }, new Uint8Array());
    const empty = join(out, "..", "gone", topic);
    await mkdir(empty, { recursive: true });
    inputs.set(topic, empty);
  }
  await runPipeline({ pipeline, inputs, out, flush: true, batchSize: 1000, workers: 1 });
}
