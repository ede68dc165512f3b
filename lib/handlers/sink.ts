/**
 * The sink's handler: woken by the state table's stream and by a tick, it brings results up to what
 * the processors have committed. An event is only a wake-up: what there is to do is in the stores.
 */
import type { Pipeline } from "../define/definition.js";
import { emfOutput, stdoutLine, type WriteLine } from "../observe/emf.js";
import type { MetricName, MetricsOutput, Observation } from "../observe/metrics.js";
import type { LoadedReferences } from "../runtime/references.js";
import { makeSinks, storePlaces } from "../runtime/run-sinks.js";
import { type RoundsReport, SinkRounds } from "../runtime/sink-rounds.js";
import { openStores, type Stores } from "../stores/open-stores.js";
import type { InvocationContext } from "./deadline.js";
import { type Environment, pipelineRuntime } from "./pipeline-runtime.js";

export interface SinkOptions {
  readonly pipeline: Pipeline;
  /** `MILLPOND_*`; the process's environment by default. */
  readonly env?: Environment;
  /** Instead of those that `env` names. */
  readonly stores?: Pick<Stores, "checkpoints" | "objects" | "lake" | "database">;
  /** Instead of those beside the bundle. */
  readonly references?: LoadedReferences;
  /** Takes metrics, as EMF, unless `metrics` does; stdout by default. */
  readonly write?: WriteLine;
  readonly metrics?: MetricsOutput;
}

/** `null` when the event tells of nothing that a sink could take. */
export type SinkHandler = ((
  event: unknown,
  context: InvocationContext,
) => Promise<RoundsReport | null>) & {
  /** Gives back memory and temporary files; a later event opens what it needs again. */
  close(): Promise<void>;
};

/**
 * The handler. It takes records of the state table's stream, `{"flush": true}` (publish open
 * windows as they stand), and anything else as a tick. Throws when a store or sink fails; nothing
 * is lost, the next event goes on. Events at once in one environment take turns.
 *
 * @example
 * export const handler = makeSink({ pipeline });
 */
export function makeSink(options: SinkOptions): SinkHandler {
  return sinkHandler({
    pipeline: options.pipeline.definition.name,
    metrics: options.metrics ?? emfOutput(options.write ?? stdoutLine),
    open: () => openRounds(options),
  });
}

/** The same over other rounds: `open` makes them when they are first needed. */
export function sinkHandler(options: {
  readonly pipeline: string;
  readonly metrics: MetricsOutput;
  readonly open: () => Promise<SinkRounds>;
}): SinkHandler {
  const { pipeline: name, metrics, open } = options;
  let setup: Promise<SinkRounds> | null = null;
  let last: Promise<unknown> = Promise.resolve();
  const takeTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const turn = last.then(work);
    last = turn.catch(() => undefined);
    return turn;
  };
  const handle = async (event: unknown, context: InvocationContext) => {
    const request = requestOf(event, name);
    if (request === null) return null;
    const started = performance.now();
    let rounds: SinkRounds | null = null;
    try {
      setup ??= open();
      rounds = await setup;
      const remainingMs = () => context.getRemainingTimeInMillis();
      return await rounds.run({ ...request, remainingMs });
    } catch (error) {
      if (rounds === null) setup = null;
      metrics.write(name, [{ metric: "SinkErrors", value: 1 }], Date.now());
      throw error;
    } finally {
      const durationMs = performance.now() - started;
      if (rounds !== null) metrics.write(name, seen(rounds.report, durationMs), Date.now());
    }
  };
  return Object.assign(
    (event: unknown, context: InvocationContext) => takeTurn(() => handle(event, context)),
    { close: () => takeTurn(async () => (await setup)?.close()) },
  );
}

async function openRounds(options: SinkOptions): Promise<SinkRounds> {
  const env = options.env ?? process.env;
  const stores = options.stores ?? (await openStores(env));
  const runtime = await pipelineRuntime(options.pipeline, env, options.references);
  const { definition, definitionHash } = runtime;
  const places = storePlaces(stores, definition.name, env);
  const sinks = makeSinks(definition, places, definitionHash, env);
  return new SinkRounds({ ...runtime, ...stores, sinks });
}

/**
 * Null: records of the state table, none of which is a partition of this pipeline. The sink's own
 * commits come back through the stream too, and must not wake it again.
 */
export function requestOf(
  event: unknown,
  pipeline: string,
): { readonly flush: boolean; readonly tick: boolean } | null {
  if (typeof event !== "object" || event === null) return { flush: false, tick: true };
  if ("Records" in event && Array.isArray(event.Records)) {
    const isNews = event.Records.some((record) => tellsOfPartition(record, pipeline));
    return isNews ? { flush: false, tick: false } : null;
  }
  return { flush: "flush" in event && event.flush === true, tick: true };
}

function tellsOfPartition(record: unknown, pipeline: string): boolean {
  const keys = property(property(record, "dynamodb"), "Keys");
  const name = property(property(keys, "name"), "S");
  const owner = property(property(keys, "pipeline"), "S");
  // A shape that is not known wakes the sink: better once too often.
  if (typeof name !== "string" || typeof owner !== "string") return true;
  return owner === pipeline && name.startsWith("partitions/");
}

function property(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return new Map<string, unknown>(Object.entries(value)).get(name);
}

function seen(report: RoundsReport, durationMs: number): Observation[] {
  const one = (metric: MetricName, value: number) => ({ metric, value });
  const rows = Object.entries(report.rowsByTable);
  const pending = Object.entries(report.pendingBySink);
  return [
    ...rows.map(([table, value]) => ({ ...one("PublishedRows", value), labels: { table } })),
    ...report.commitToVisibleMs.map((ms) => one("EventToVisibleMs", ms)),
    ...(report.oldestWaitingMs === null ? [] : [one("OutboxAgeMs", report.oldestWaitingMs)]),
    ...pending.map(([sink, value]) => ({
      ...one("PublicationsPending", value),
      labels: { sink },
    })),
    one("SinkDurationMs", durationMs),
  ];
}
