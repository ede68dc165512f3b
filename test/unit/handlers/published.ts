/** Everything that processors left behind, published: rows by table, for comparing. */

import type { CheckpointStore, ObjectStore } from "../../../lib/commit/ports.js";
import { Publisher } from "../../../lib/commit/publisher.js";
import type { Pipeline } from "../../../lib/define/definition.js";
import { definitionHash } from "../../../lib/define/json.js";
import { compileStream } from "../../../lib/engine/program.js";
import { valueAt } from "../../../lib/engine/row-values.js";
import { goneSource } from "../../../lib/runtime/gone-source.js";
import { metaOf } from "../../../lib/runtime/partition-meta.js";
import { PartitionRun } from "../../../lib/runtime/partition-run.js";
import { partitionPrefix } from "../../../lib/runtime/runner.js";

export interface Published {
  /** Rows as JSON, sorted. */
  readonly tables: Record<string, string[]>;
  readonly records: number;
}

/** Flushes every partition and publishes all; at the end of a test, for it moves the stores on. */
export async function published(
  pipeline: Pipeline,
  stores: { readonly checkpoints: CheckpointStore; readonly objects: ObjectStore },
): Promise<Published> {
  const { definition, functions } = pipeline;
  const context = { functions, references: new Map() };
  const programs = definition.streams.map(({ name }) => compileStream(definition, name, context));
  const { checkpoints, objects } = stores;
  const shared = { checkpoints, objects, definitionHash: definitionHash(definition) };
  const facts = [];
  let records = 0;
  for (const program of programs) {
    const stream = program.stream.name;
    const prefix = partitionPrefix(definition.name, stream);
    for (const id of await stores.checkpoints.list(prefix)) {
      const partition = Number(id.slice(prefix.length));
      const source = goneSource(stream, partition, id);
      const run = new PartitionRun({ ...shared, program, source, id });
      await run.flush();
      records += metaOf(run.checkpoint!).counters.records;
      facts.push({ id, stream, partition, checkpoint: run.checkpoint, idle: false });
    }
  }
  const id = `${definition.name}/publisher`;
  const publisher = new Publisher({ ...shared, id, programs });
  await publisher.load();
  await publisher.round({ partitions: facts, flush: () => true, sinksTookUpTo: 0 });
  const tables: Record<string, string[]> = {};
  for (const publication of publisher.state.publications) {
    const { rowCount, columns } = await publisher.batchOf(publication);
    tables[publication.table] ??= [];
    for (let row = 0; row < rowCount; row++) {
      const fields = columns.map((column) => [column.name, shown(valueAt(column, row))]);
      tables[publication.table]!.push(JSON.stringify(Object.fromEntries(fields)));
    }
  }
  for (const rows of Object.values(tables)) rows.sort();
  return { tables, records };
}

function shown(value: unknown): unknown {
  if (typeof value === "bigint") return `${value}n`;
  return value instanceof Uint8Array ? Buffer.from(value).toString("latin1") : value;
}
