/** Which tables a definition leads to. */
import { describe, expect, it } from "vitest";
import type { ColumnNode, PipelineDefinition, TableNode } from "../../../lib/define/definition.js";
import { revisionColumns, tableLayouts } from "../../../lib/sinks/layouts.js";

const user: ColumnNode = { name: "user", type: { kind: "string" }, nullable: true };
const at: ColumnNode = { name: "at", type: { kind: "timestamp" }, nullable: false };
const views: ColumnNode = { name: "views", type: { kind: "bigint" }, nullable: false };

const TABLE = { stream: "s", steps: [], emit: { kind: "final" }, reviseForMs: 0 } as const;

function rows(name: string, columns: ColumnNode[]): TableNode {
  return { ...TABLE, name, shape: { kind: "rows" }, columns };
}

function windowed(name: string, kind: "sliding" | "session", columns = [user, views]): TableNode {
  const window =
    kind === "session"
      ? ({ kind, gapMs: 1 } as const)
      : ({ kind, sizeMs: 1, everyMs: 1, offsetMs: 0 } as const);
  const shape = { kind: "windowed", window, groupBy: ["user"], aggregates: [] } as const;
  return { ...TABLE, name, shape, columns };
}

function definition(tables: TableNode[], bronze = false): PipelineDefinition {
  const stream = {
    name: "s",
    fields: [],
    eventTime: "at",
    latenessMs: 0,
    maxAheadMs: 0,
    idleAfterMs: 0,
    maxRecordBytes: 1,
  };
  return {
    version: 1,
    name: "p",
    parameters: [],
    streams: [stream],
    references: [],
    tables,
    sinks: [{ kind: "lake", bronze }, { kind: "duckdb" }],
  };
}

const names = (columns: readonly ColumnNode[]) => columns.map(({ name }) => name);

describe("table layouts", () => {
  it("wraps a windowed table's columns in its window and revision", () => {
    const [layout] = tableLayouts(definition([windowed("counts", "sliding")]));
    expect(layout).toMatchObject({ kind: "windowed", dateColumn: "window_start" });
    expect(layout.key).toEqual(["window_start", "user"]);
    expect(names(layout.columns)).toEqual([
      "window_start",
      "window_end",
      "user",
      "views",
      "revision",
    ]);
    expect(names(revisionColumns(layout)).at(-1)).toBe("retracted");
  });

  it("names a session's bounds after the session", () => {
    const [layout] = tableLayouts(definition([windowed("sessions", "session")]));
    expect(layout).toMatchObject({ kind: "session", dateColumn: "session_start" });
    expect(layout.key).toEqual(["session_start", "user"]);
    expect(names(layout.columns).slice(0, 2)).toEqual(["session_start", "session_end"]);
  });

  it("adds event_time to rows only when the event-time field was selected away", () => {
    const [kept, lost] = tableLayouts(definition([rows("a", [user, at]), rows("b", [user])]));
    expect(names(kept.columns)).toEqual(["user", "at", "late", "topic", "partition", "offset"]);
    expect(kept.dateColumn).toBe("at");
    expect(names(lost.columns)).toEqual([
      "user",
      "late",
      "event_time",
      "topic",
      "partition",
      "offset",
    ]);
    expect(lost.dateColumn).toBe("event_time");
  });

  it("adds late and dead letters always, bronze only for a lake that keeps it", () => {
    expect(tableLayouts(definition([])).map(({ name }) => name)).toEqual(["late", "dead_letters"]);
    expect(tableLayouts(definition([], true)).map(({ name }) => name)).toContain("bronze");
  });

  it.each(["Revision", "window_end", "retracted", "EVENT_DATE"])(
    "refuses a column %s, which the product adds, naming table and column",
    (name) => {
      const columns = [user, { ...views, name }];
      const pipeline = definition([windowed("counts", "sliding", columns)]);
      expect(() => tableLayouts(pipeline)).toThrow(new RegExp(`"counts".*"${name}"`));
    },
  );
});
