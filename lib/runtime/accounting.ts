/**
 * I2 as rows: one a stream and one a table, added up over partitions, and the check of the sums.
 */
import type { PublisherState } from "../commit/publisher-state.js";
import type { PipelineDefinition, TableNode } from "../define/definition.js";
import type { PartitionCounters } from "../engine/fold.js";
import { DEAD_LETTER_REASONS } from "../engine/slice.js";
import { MillpondError } from "../errors.js";

/** One row of `accounting`. A number that does not apply is null. */
export interface AccountingRow {
  readonly [column: string]: string | number | null;
  readonly kind: "stream" | "table";
  readonly name: string;
  readonly stream: string;
  /** Streams: records read. */
  readonly records: number | null;
  /** Streams: records that decoded. Windowed tables: events after the table's filters. */
  readonly events: number | null;
  readonly dead_letters: number | null;
  readonly counted: number | null;
  readonly late: number | null;
  readonly duplicates: number | null;
  /** Row tables: rows. */
  readonly rows: number | null;
  /** Windowed tables: counted events that came after `reviseFor` and are in no row. */
  readonly beyond_revise: number | null;
}

export interface StreamCounters {
  readonly stream: string;
  readonly counters: PartitionCounters;
}

const NOTHING = {
  records: null,
  events: null,
  dead_letters: null,
  counted: null,
  late: null,
  duplicates: null,
  rows: null,
  beyond_revise: null,
};

export function accountingRows(
  definition: PipelineDefinition,
  partitions: readonly StreamCounters[],
  published: PublisherState,
): AccountingRow[] {
  const of = (stream: string) =>
    partitions.filter((p) => p.stream === stream).map(({ counters }) => counters);
  const streams = definition.streams.map(({ name }): AccountingRow => {
    const all = of(name);
    const reasons = DEAD_LETTER_REASONS.map((reason) => [
      reason,
      total(all, (c) => c.deadLetters[reason] ?? 0),
    ]);
    return {
      kind: "stream",
      name,
      stream: name,
      ...NOTHING,
      records: total(all, (c) => c.records),
      events: total(all, (c) => c.events),
      dead_letters: reasons.reduce((sum, [, count]) => sum + Number(count), 0),
      duplicates: total(all, (c) => c.duplicates),
      ...Object.fromEntries(reasons),
    };
  });
  const tables = definition.tables.map((table) => tableRow(table, of(table.stream), published));
  return [...streams, ...tables];
}

function tableRow(
  { name, stream, shape }: TableNode,
  counters: readonly PartitionCounters[],
  published: PublisherState,
): AccountingRow {
  const row = { kind: "table" as const, name, stream, ...NOTHING };
  if (shape.kind === "rows") return { ...row, rows: total(counters, (c) => c.rows[name] ?? 0) };
  return {
    ...row,
    events: total(counters, (c) => c.tables[name]?.events ?? 0),
    counted: total(counters, (c) => c.tables[name]?.counted ?? 0),
    late: total(counters, (c) => c.tables[name]?.late ?? 0),
    duplicates: total(counters, (c) => c.tables[name]?.duplicates ?? 0),
    beyond_revise: published.totals[name]?.beyondReviseEvents ?? 0,
  };
}

function total(
  counters: readonly PartitionCounters[],
  of: (counters: PartitionCounters) => number,
): number {
  return counters.reduce((sum, one) => sum + of(one), 0);
}

export interface AccountingFacts {
  readonly definition: PipelineDefinition;
  readonly rows: readonly AccountingRow[];
  readonly published: PublisherState;
  /** Everything open was published: windowed tables then hold every counted event. */
  readonly flushed: boolean;
  /** Rows that a sink really holds, by table, for the tables that only grow. */
  readonly storedRows: ReadonlyMap<string, number>;
}

/** Throws `INVARIANT` with every sum that does not hold. */
export function checkAccounting(facts: AccountingFacts): void {
  const wrong = [...sums(facts)].filter(({ left, right }) => left !== right);
  if (wrong.length === 0) return;
  const list = wrong.map(({ what, left, right }) => `${what}: ${left} is not ${right}`).join("; ");
  throw new MillpondError(
    "INVARIANT",
    `the accounting does not add up: ${list}. Results of this output cannot be trusted; ` +
      "keep the output and its input, and report it",
  );
}

interface Sum {
  readonly what: string;
  readonly left: number;
  readonly right: number;
}

function* sums(facts: AccountingFacts): Generator<Sum> {
  const { rows, published } = facts;
  for (const row of rows) {
    const { name } = row;
    if (row.kind === "stream") {
      const right = row.events! + row.dead_letters!;
      yield {
        what: `stream "${name}": records and events + dead letters`,
        left: row.records!,
        right,
      };
    } else if (row.rows !== null) {
      const right = published.totals[name]?.publishedRows ?? 0;
      yield { what: `table "${name}": rows and rows handed to sinks`, left: row.rows, right };
    } else {
      const right = row.counted! + row.late! + row.duplicates!;
      yield {
        what: `table "${name}": events and counted + late + duplicates`,
        left: row.events!,
        right,
      };
    }
  }
  yield* productSums(facts);
  if (facts.flushed) yield* publishedSums(facts);
  for (const [name, left] of facts.storedRows) {
    const right = published.totals[name]?.publishedRows ?? 0;
    yield { what: `table "${name}": rows stored and rows handed to sinks`, left, right };
  }
}

/** Late events and dead letters have a row each. */
function* productSums({ rows, published }: AccountingFacts): Generator<Sum> {
  const counted = (kind: string, column: string) =>
    rows.filter((row) => row.kind === kind).reduce((sum, row) => sum + Number(row[column] ?? 0), 0);
  const stored = (table: string) => published.totals[table]?.publishedRows ?? 0;
  yield {
    what: "late events and rows of late",
    left: counted("table", "late"),
    right: stored("late"),
  };
  yield {
    what: "dead letters and rows of dead_letters",
    left: counted("stream", "dead_letters"),
    right: stored("dead_letters"),
  };
}

/** Where windows do not overlap, each counted event is in exactly one published row. */
function* publishedSums({ definition, rows, published }: AccountingFacts): Generator<Sum> {
  for (const { name, shape } of definition.tables) {
    if (shape.kind !== "windowed") continue;
    const { window } = shape;
    if (window.kind === "sliding" && window.everyMs !== window.sizeMs) continue;
    const row = rows.find((r) => r.kind === "table" && r.name === name)!;
    const windows = published.windows[name] ?? [];
    const open = Object.values(published.sessions[name]?.open ?? {});
    const right =
      (published.totals[name]?.settledEvents ?? 0) +
      (published.totals[name]?.beyondReviseEvents ?? 0) +
      windows.reduce((sum, { events }) => sum + events, 0) +
      open.reduce((sum, { events }) => sum + events, 0);
    yield {
      what: `table "${name}": events counted and events published`,
      left: row.counted!,
      right,
    };
  }
}
