/**
 * Sinks that are servers, named by the environment. Each one's client is loaded when it is first
 * opened, so that a pipeline without it does not pay for it.
 */
import type { PipelineDefinition, SinkNode } from "../define/definition.js";
import type { Publication, Sink, TableLayout } from "../sinks/sink.js";

/** Null for a sink whose place is the output itself. */
export function remoteSink(
  definition: PipelineDefinition,
  node: SinkNode,
  layouts: readonly TableLayout[],
  env: NodeJS.ProcessEnv,
): Sink | null {
  const { name: pipeline } = definition;
  switch (node.kind) {
    case "lake":
    case "duckdb":
      return null;
    case "postgres":
      return new LoadedWhenOpened(`postgres (schema ${node.schema})`, async () => {
        const { postgresSink } = await import("../sinks/postgres.js");
        return postgresSink({ env, pipeline, schema: node.schema, layouts });
      });
    case "kafka":
      return new LoadedWhenOpened(`kafka (topic ${node.topic})`, async () => {
        const { kafkaSink } = await import("../sinks/kafka.js");
        const layout = layouts.find(({ name }) => name === node.tables[0])!;
        const table = definition.tables.find(({ name }) => name === layout.name)!;
        const stream = definition.streams.find(({ name }) => name === table.stream)!;
        const { key: keyColumn = null, name: sourceTopic } = stream;
        return kafkaSink({ env, pipeline, topic: node.topic, layout, keyColumn, sourceTopic });
      });
    case "snowflake":
      return new LoadedWhenOpened("snowflake", async () => {
        const { snowflakeSink } = await import("../sinks/snowflake.js");
        return snowflakeSink({ env, pipeline, layouts });
      });
  }
}

class LoadedWhenOpened implements Sink {
  readonly name: string;
  readonly #load: () => Promise<Sink>;
  #sink: Sink | null = null;

  constructor(name: string, load: () => Promise<Sink>) {
    this.name = name;
    this.#load = load;
  }

  async open(output?: string): Promise<number> {
    this.#sink ??= await this.#load();
    return this.#sink.open(output);
  }

  apply(publications: AsyncIterable<Publication>, lastSequence: number): Promise<void> {
    return this.#sink!.apply(publications, lastSequence);
  }

  async close(): Promise<void> {
    await this.#sink?.close();
  }
}
