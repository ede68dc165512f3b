/** Which tables a definition leads to and how their rows are laid out (see `TableLayout`). */
import {
  type ColumnNode,
  type ColumnType,
  type PipelineDefinition,
  type StreamNode,
  type TableNode,
  takesBronze,
} from "../define/definition.js";
import { MillpondError } from "../errors.js";
import type { TableLayout } from "./sink.js";

function column(name: string, kind: SimpleKind, nullable = false): ColumnNode {
  return { name, type: { kind }, nullable };
}

type SimpleKind = Exclude<ColumnType["kind"], "decimal" | "list" | "topK">;

const ORIGIN = [column("topic", "string"), column("partition", "int"), column("offset", "bigint")];
const REVISION = column("revision", "int");

const LATE: TableLayout = {
  name: "late",
  kind: "late",
  columns: [
    column("table", "string"),
    ...ORIGIN,
    column("event_time", "timestamp"),
    column("watermark", "timestamp", true),
    column("payload", "string"),
  ],
  key: [],
  dateColumn: "event_time",
};

const DEAD_LETTERS: TableLayout = {
  name: "dead_letters",
  kind: "dead_letters",
  columns: [
    ...ORIGIN,
    column("timestamp", "timestamp", true),
    column("reason", "string"),
    column("detail", "string"),
    column("raw", "bytes", true),
  ],
  key: [],
  dateColumn: "timestamp",
};

export const BRONZE: TableLayout = {
  name: "bronze",
  kind: "bronze",
  columns: [
    ...ORIGIN,
    column("timestamp", "timestamp", true),
    column("key", "bytes", true),
    column("value", "bytes", true),
  ],
  key: [],
  dateColumn: "timestamp",
};

/**
 * All tables of a pipeline: its own in their order, then `late` and `dead_letters`, then `bronze`
 * if a sink takes it.
 *
 * Windowed: `window_start`, `window_end`, the table's columns, `revision`; sessions likewise with
 * `session_start`, `session_end`. Row tables: the table's columns, `late`, then `event_time` unless
 * the stream's event-time field is among the columns under its own name, then `topic`, `partition`,
 * `offset`.
 *
 * @throws MillpondError DEFINITION when a column has the name of one that the product adds.
 */
export function tableLayouts(definition: PipelineDefinition): TableLayout[] {
  const keepsBronze = definition.sinks.some(takesBronze);
  const layouts = [
    ...definition.tables.map((table) => resultLayout(table, streamOf(definition, table))),
    LATE,
    DEAD_LETTERS,
    ...(keepsBronze ? [BRONZE] : []),
  ];
  for (const layout of layouts) refuseTakenNames(layout);
  return layouts;
}

function streamOf(definition: PipelineDefinition, table: TableNode): StreamNode {
  const stream = definition.streams.find((candidate) => candidate.name === table.stream);
  if (stream === undefined) {
    throw new MillpondError(
      "DEFINITION",
      `Table "${table.name}" reads stream "${table.stream}", which pipeline ` +
        `"${definition.name}" does not declare. Declare it, or correct the table's stream.`,
    );
  }
  return stream;
}

function resultLayout(table: TableNode, stream: StreamNode): TableLayout {
  const { shape } = table;
  if (shape.kind === "rows") return rowsLayout(table, stream);
  const kind = shape.window.kind === "session" ? "session" : "windowed";
  const prefix = kind === "session" ? "session" : "window";
  return {
    name: table.name,
    kind,
    columns: [
      column(`${prefix}_start`, "timestamp"),
      column(`${prefix}_end`, "timestamp"),
      ...table.columns,
      REVISION,
    ],
    key: [`${prefix}_start`, ...shape.groupBy],
    dateColumn: `${prefix}_start`,
  };
}

function rowsLayout(table: TableNode, stream: StreamNode): TableLayout {
  const hasEventTime = table.columns.some(
    ({ name, type }) => name === stream.eventTime && type.kind === "timestamp",
  );
  return {
    name: table.name,
    kind: "rows",
    columns: [
      ...table.columns,
      column("late", "boolean"),
      ...(hasEventTime ? [] : [column("event_time", "timestamp")]),
      ...ORIGIN,
    ],
    key: [],
    dateColumn: hasEventTime ? stream.eventTime : "event_time",
  };
}

/** DuckDB and Spark compare column names without case: two that differ only in case clash. */
function refuseTakenNames(layout: TableLayout): void {
  const taken = new Map([["event_date", "event_date"]]);
  if (isRevised(layout)) taken.set("retracted", "retracted");
  for (const { name } of layout.columns) {
    const other = taken.get(name.toLowerCase());
    if (other !== undefined) {
      throw new MillpondError(
        "DEFINITION",
        `Table "${layout.name}" would have the columns "${other}" and "${name}", which clash: ` +
          "case does not count, and the product adds some. Rename the pipeline's column.",
      );
    }
    taken.set(name.toLowerCase(), name);
  }
}

/** Whether rows of this table can be superseded and retracted. */
export function isRevised(layout: TableLayout): boolean {
  return layout.kind === "windowed" || layout.kind === "session";
}

/** Columns of a sink that keeps every revision: the layout's, and whether it was withdrawn. */
export function revisionColumns(layout: TableLayout): readonly ColumnNode[] {
  return isRevised(layout) ? [...layout.columns, column("retracted", "boolean")] : layout.columns;
}
