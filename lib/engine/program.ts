/** A definition made ready to run: one program per stream, shared by the stream's partitions. */
import {
  type ColumnNode,
  type PipelineDefinition,
  type StreamNode,
  type TableNode,
  takesBronze,
} from "../define/definition.js";
import { createDecoder } from "./decode/decoder.js";
import { compileExpression } from "./expressions.js";
import { type GroupPlan, groupPlan } from "./group-plan.js";
import { type CompiledSteps, compileSteps, type StepContext } from "./steps.js";

export interface WindowedProgram {
  readonly table: TableNode;
  readonly steps: CompiledSteps;
  readonly plan: GroupPlan;
}

export interface RowProgram {
  readonly table: TableNode;
  readonly steps: CompiledSteps;
  /** The event time travels along under `event_time` when the table has lost it. */
  readonly addEventTime: boolean;
}

export interface StreamProgram {
  readonly stream: StreamNode;
  readonly decoder: ReturnType<typeof createDecoder>;
  readonly windowed: readonly WindowedProgram[];
  readonly rows: readonly RowProgram[];
  readonly bronze: boolean;
  /** How far below the watermark ids are remembered; undefined without dedup. */
  readonly dedupWithinMs: number | undefined;
}

export function compileStream(
  definition: PipelineDefinition,
  streamName: string,
  context: StepContext,
): StreamProgram {
  const stream = definition.streams.find((s) => s.name === streamName);
  if (stream === undefined) throw new TypeError(`no stream ${streamName} in ${definition.name}`);
  const columns: ColumnNode[] = stream.fields.map(({ name, type, nullable }) => ({
    name,
    type,
    nullable,
  }));
  const tables = definition.tables.filter((table) => table.stream === streamName);
  const programs = tables.map((table) => ({ table, steps: compileSteps(table, columns, context) }));
  return {
    stream,
    decoder: createDecoder(stream, compileExpression),
    windowed: programs
      .filter(({ table }) => table.shape.kind === "windowed")
      .map(({ table, steps }) => ({ table, steps, plan: groupPlan(table, steps.columns) })),
    rows: programs
      .filter(({ table }) => table.shape.kind === "rows")
      .map(({ table, steps }) => ({
        table,
        steps,
        addEventTime: !table.columns.some((column) => column.name === stream.eventTime),
      })),
    bronze: definition.sinks.some(takesBronze),
    dedupWithinMs: dedupWithinMs(definition, stream),
  };
}

/** DESIGN, section 3: by default the longest window of the pipeline, at least the lateness. */
export function dedupWithinMs(
  definition: PipelineDefinition,
  stream: StreamNode,
): number | undefined {
  if (stream.dedup === undefined) return undefined;
  if (stream.dedup.withinMs !== undefined) return stream.dedup.withinMs;
  return Math.max(stream.latenessMs, ...definition.tables.map(windowMs));
}

function windowMs(table: TableNode): number {
  if (table.shape.kind !== "windowed") return 0;
  const { window } = table.shape;
  return window.kind === "session" ? window.gapMs : window.sizeMs;
}
