/** A bundled pipeline made ready to run: its programs, its hash, and what its topics are. */
import * as path from "node:path";
import type { Pipeline, PipelineDefinition } from "../define/definition.js";
import { definitionHash } from "../define/json.js";
import { compileStream, type StreamProgram } from "../engine/program.js";
import { MillpondError } from "../errors.js";
import { readBundledReferences } from "../runtime/bundled-references.js";
import type { LoadedReferences } from "../runtime/references.js";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface PipelineRuntime {
  readonly definition: PipelineDefinition;
  readonly definitionHash: string;
  /** By stream. */
  readonly programs: ReadonlyMap<string, StreamProgram>;
}

/** Handlers of one process share programs, which keep nothing between slices but buffers. */
const compiled = new WeakMap<LoadedReferences, WeakMap<Pipeline, PipelineRuntime>>();

/**
 * Compiles the pipeline, once for the same references; they come from the caller or from beside the
 * bundle (`MILLPOND_REFERENCES`). Throws `MillpondError("INPUT")` when they are not there.
 *
 * @example
 * const { programs, definitionHash } = await pipelineRuntime(pipeline, process.env);
 */
export async function pipelineRuntime(
  pipeline: Pipeline,
  env: Environment,
  given?: LoadedReferences,
): Promise<PipelineRuntime> {
  const references = given ?? (await readBundledReferences(pipeline, referencesDir(env)));
  const runtimes = compiled.get(references) ?? new WeakMap<Pipeline, PipelineRuntime>();
  compiled.set(references, runtimes);
  const runtime = runtimes.get(pipeline) ?? compile(pipeline, references);
  runtimes.set(pipeline, runtime);
  return runtime;
}

function compile(pipeline: Pipeline, references: LoadedReferences): PipelineRuntime {
  const { definition, functions } = pipeline;
  const context = { functions, references: references.data };
  const programs = definition.streams.map(
    ({ name }) => [name, compileStream(definition, name, context)] as const,
  );
  return {
    definition,
    definitionHash: definitionHash(definition, references.hashes),
    programs: new Map(programs),
  };
}

/** `MILLPOND_REFERENCES`, else `references` beside the bundle that this code is part of. */
export function referencesDir(env: Environment): string {
  return env.MILLPOND_REFERENCES ?? path.join(import.meta.dirname, "references");
}

/**
 * Streams by topic: a stream's topic has its name, unless `MILLPOND_TOPICS` (a JSON object, stream
 * to topic) says otherwise. Throws `MillpondError("USAGE")` when that is no such object, names an
 * unknown stream, or gives two streams one topic.
 *
 * @example
 * streamsByTopic(definition, { MILLPOND_TOPICS: '{"clicks":"prod.clicks"}' }).get("prod.clicks");
 */
export function streamsByTopic(
  { name: pipeline, streams }: PipelineDefinition,
  env: Environment,
): ReadonlyMap<string, string> {
  const topics = new Map(streams.map(({ name }) => [name, name]));
  for (const [stream, topic] of Object.entries(parseTopics(env.MILLPOND_TOPICS ?? "{}"))) {
    if (!topics.has(stream) || typeof topic !== "string" || topic === "") {
      throw badTopics(
        `it gives stream "${stream}" the topic ${JSON.stringify(topic)}, and pipeline ` +
          `"${pipeline}" has the streams ${[...topics.keys()].join(", ")}`,
      );
    }
    topics.set(stream, topic);
  }
  const byTopic = new Map([...topics].map(([stream, topic]) => [topic, stream]));
  if (byTopic.size < topics.size) throw badTopics("two streams have the same topic");
  return byTopic;
}

function parseTopics(text: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw badTopics("it is not JSON", cause);
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw badTopics(`it is ${JSON.stringify(value)}`);
}

function badTopics(found: string, cause?: unknown): MillpondError {
  return new MillpondError(
    "USAGE",
    `MILLPOND_TOPICS cannot be used: ${found}. Expected a JSON object from stream to topic, such ` +
      'as {"clicks":"prod.clicks"}',
    { cause },
  );
}
