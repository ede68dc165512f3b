/** What `millpond inspect` shows, as text. */
import type { InspectedPartition, InspectReport } from "../runtime/inspect-data.js";
import { counted } from "./numbers.js";
import { accountingText } from "./run-report.js";
import { textTable } from "./text-table.js";

export interface TextView {
  readonly width: number;
  readonly color: boolean;
}

export function inspectText(report: InspectReport, view: TextView): string {
  const sections = [
    `pipeline ${report.pipeline}  definition ${report.definitionHash.slice(0, 12)}\n`,
    section("Partitions", report.streams.map(partitionRow), view),
    section(
      "Tables",
      report.tables.map((table) => ({ ...table })),
      view,
    ),
    section(
      "Sinks",
      report.sinks.map((sink) => ({ ...sink })),
      view,
    ),
    `Outbox: ${counted(report.outbox, "publication")} not taken by a sink yet\n`,
  ];
  if (report.accounting.length > 0) {
    sections.push(`Accounting\n${accountingText(report.accounting)}`);
  }
  return sections.filter((text) => text !== "").join("\n");
}

type Cells = Readonly<Record<string, string | number | null>>;

function partitionRow(partition: InspectedPartition): Cells {
  return {
    partition: `${partition.topic}-${partition.partition}`,
    offset: partition.nextOffset,
    watermark: time(partition.watermark),
    max_event_time: time(partition.maxEventTime),
    windows: partition.openWindows,
    sessions: partition.openSessions,
    dedup_ids: partition.dedupIds,
    state_bytes: partition.stateBytes,
    generation: partition.generation,
    file: partition.label,
  };
}

function section(title: string, rows: readonly Cells[], view: TextView): string {
  const [first] = rows;
  if (first === undefined) return "";
  const columns = Object.entries(first).map(([name, value]) => ({
    name,
    isNumber: typeof value === "number",
  }));
  const cells = rows.map((row) =>
    columns.map(({ name }) => {
      const value = row[name] ?? null;
      return value === null ? null : String(value);
    }),
  );
  return `${title}\n${textTable(columns, cells, view)}`;
}

function time(epochMs: number | null): string | null {
  return epochMs === null ? null : new Date(epochMs).toISOString();
}
