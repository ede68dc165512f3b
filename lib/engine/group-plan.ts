/** What a windowed table needs at run time, worked out once from its definition. */
import type {
  AggregateNode,
  ColumnNode,
  ColumnType,
  ExprNode,
  TableNode,
} from "../define/definition.js";
import { expressionType } from "../define/expression-types.js";
import type { Aggregate } from "./aggregates/aggregate.js";
import { aggregateFor } from "./aggregates/index.js";
import type { Combine } from "./slot-map.js";

/** Lane 0 of every group: how many events it holds. It carries the accounting (I2). */
export const EVENTS_LANE = 0;
/** Sessions: first and last event time, epoch ms. */
export const START_LANE = 1;
export const END_LANE = 2;

export interface AggregatePlan {
  readonly node: AggregateNode;
  readonly aggregate: Aggregate;
  readonly argType: ColumnType | null;
  /** The result's type. */
  readonly type: ColumnType;
  readonly base: number;
  /** Index among the store's slot maps; -1 for none. */
  readonly map: number;
  /** Index among the store's dictionaries; -1 when the argument isn't coded. */
  readonly dictionary: number;
}

export interface GroupPlan {
  readonly keys: readonly { readonly column: ColumnNode; readonly dictionary: number }[];
  readonly aggregates: readonly AggregatePlan[];
  readonly laneCount: number;
  readonly mapCount: number;
  readonly dictionaryCount: number;
  /** Per slot map: its combination, and the dictionary of its keys or -1. */
  readonly maps: readonly {
    readonly combine: Combine;
    readonly dictionary: number;
  }[];
  /** Per lane: the dictionary of the codes it holds or -1, and the lane that flags it. */
  readonly codeLanes: readonly {
    readonly lane: number;
    readonly flag: number;
    readonly dictionary: number;
  }[];
  readonly session: boolean;
}

/** `columns` are those the table's steps end with. */
export function groupPlan(table: TableNode, columns: readonly ColumnNode[]): GroupPlan {
  if (table.shape.kind !== "windowed") throw new TypeError(`${table.name} has no window`);
  const { shape } = table;
  const byName = new Map(columns.map((column) => [column.name, column]));
  const dictionaries = new Map<string, number>();
  const dictionaryOf = (expr: ExprNode): number => {
    const id = JSON.stringify(expr);
    if (!dictionaries.has(id)) dictionaries.set(id, dictionaries.size);
    return dictionaries.get(id)!;
  };
  const keys = shape.groupBy.map((name) => ({
    column: byName.get(name)!,
    dictionary: dictionaryOf({ op: "column", name }),
  }));
  const session = shape.window.kind === "session";
  let laneCount = session ? END_LANE + 1 : EVENTS_LANE + 1;
  const maps: { combine: Combine; dictionary: number }[] = [];
  const codeLanes: { lane: number; flag: number; dictionary: number }[] = [];
  const aggregates = shape.aggregates.map((node): AggregatePlan => {
    const argType = node.arg === undefined ? null : expressionType(node.arg, byName).type;
    const aggregate = aggregateFor(node, argType);
    const dictionary = aggregate.coded ? dictionaryOf(node.arg!) : -1;
    const base = laneCount;
    laneCount += aggregate.laneCount;
    if (aggregate.codeLane >= 0) {
      const flag = base + aggregate.flagLane;
      codeLanes.push({ lane: base + aggregate.codeLane, flag, dictionary });
    }
    const map = aggregate.mapCombine === null ? -1 : maps.length;
    if (aggregate.mapCombine !== null) maps.push({ combine: aggregate.mapCombine, dictionary });
    const { type } = table.columns.find((column) => column.name === node.name)!;
    return { node, aggregate, argType, type, base, map, dictionary };
  });
  return {
    keys,
    aggregates,
    laneCount,
    mapCount: maps.length,
    dictionaryCount: dictionaries.size,
    maps,
    codeLanes,
    session,
  };
}
