/**
 * What a backfill does with tables on servers: whether it can rebuild them, where it does, and how
 * they come into place. What is local, or in a bucket, is others' business.
 */
import type { PipelineDefinition, SinkNode } from "../define/definition.js";
import { MillpondError } from "../errors.js";
import { remoteSink } from "../runtime/remote-sinks.js";
import { chosen } from "../runtime/run-sinks.js";
import { tableLayouts } from "../sinks/layouts.js";
import type { Sink } from "../sinks/sink.js";

type Env = NodeJS.ProcessEnv;
type PostgresNode = Extract<SinkNode, { readonly kind: "postgres" }>;

/** Throws `MillpondError("OUTPUT")`. */
export function refuseServers({ sinks }: PipelineDefinition): void {
  for (const { kind } of sinks) {
    if (kind === "kafka" || kind === "snowflake") throw refused(kind);
  }
}

const refused = (kind: "kafka" | "snowflake"): MillpondError =>
  new MillpondError(
    "OUTPUT",
    kind === "kafka"
      ? "what a kafka sink has sent cannot be taken back, so a backfill does not send it anew: " +
          "give the changed definition another topic, and process the input again into a new " +
          "--out (in AWS, in a stack that reads its topics from the beginning)"
      : "a backfill does not replace tables in Snowflake: process the input again into a new " +
          "--out (in AWS, a new stack) with SNOWFLAKE_SCHEMA another schema, then put that in " +
          "the old one's place: ALTER SCHEMA new_schema SWAP WITH old_schema",
  );

const postgresNodes = ({ sinks }: PipelineDefinition): readonly PostgresNode[] =>
  sinks.filter((node) => node.kind === "postgres");

/** Whether there are tables on servers to be replaced. */
export const hasServers = (definition: PipelineDefinition): boolean =>
  postgresNodes(definition).length > 0;

/** By schema, the output whose tables will be replaced there; null for none. */
export type Replaced = ReadonlyMap<string, string | null>;

/**
 * Before anything is rebuilt, or touched: whether it could replace what `output` has; null for any
 * output of the pipeline.
 *
 * @throws MillpondError USAGE when an audit would not find the server, OUTPUT when tables there
 *   could not be replaced, STORAGE when it is not reached
 */
export async function checkServers(
  definition: PipelineDefinition,
  output: string | null,
  env: Env,
): Promise<Replaced> {
  const layouts = tableLayouts(definition);
  const replaced = new Map<string, string | null>();
  for (const node of postgresNodes(definition)) {
    const { namesServer } = await import("./postgres-copy.js");
    if (!namesServer(env)) throw unproved(node.schema);
    const { checkReplacement } = await import("../sinks/postgres-replace.js");
    const { name: pipeline } = definition;
    const place = { env, pipeline, schema: node.schema, layouts: chosen(layouts, node) };
    replaced.set(node.schema, await checkReplacement({ ...place, output }));
  }
  return replaced;
}

/** Makes room for what will be rebuilt as `output`; where there is some already, it is left. */
export async function makeRoom(
  { name: pipeline }: PipelineDefinition,
  output: string,
  replaced: Replaced,
  env: Env,
): Promise<void> {
  for (const [schema, before] of replaced) {
    const { makeStaging } = await import("../sinks/postgres-replace.js");
    await makeStaging({ env, pipeline, schema }, { output, replaced: before });
  }
}

const unproved = (schema: string): MillpondError =>
  new MillpondError(
    "USAGE",
    `the environment names no PostgreSQL server, so what is rebuilt for schema "${schema}" could ` +
      "not be proved: set DATABASE_URL or PGHOST",
  );

/** The definition with its tables on servers where a backfill fills them. */
export async function stagedDefinition(
  definition: PipelineDefinition,
): Promise<PipelineDefinition> {
  if (!hasServers(definition)) return definition;
  const { staged } = await import("../sinks/postgres-replace.js");
  return staged(definition);
}

/** Of a definition whose tables were filled: they are `output`'s, also where no row came. */
export async function nameOutput(
  definition: PipelineDefinition,
  output: string,
  env: Env,
): Promise<void> {
  await withSinks(definition, env, async (sink) => {
    const taken = await sink.open(output);
    await sink.apply(nothing(), taken);
  });
}

/** Tables that were rebuilt for this output come into place, in one transaction a server. */
export function placeServers(
  definition: PipelineDefinition,
  output: string,
  env: Env,
): Promise<void> {
  return withSinks(definition, env, async (sink) => {
    await sink.open(output);
  });
}

async function* nothing() {}

async function withSinks(
  definition: PipelineDefinition,
  env: Env,
  work: (sink: Sink) => Promise<void>,
): Promise<void> {
  const layouts = tableLayouts(definition);
  for (const node of postgresNodes(definition)) {
    const sink = remoteSink(definition, node, chosen(layouts, node), env)!;
    try {
      await work(sink);
    } finally {
      await sink.close();
    }
  }
}
