/**
 * A sink in a simulated world: tables and progress change in one step, as every sink promises. It
 * holds what it is given against that promise's other half: each publication once, in order, and
 * the same for all who bring it.
 */
import { crc32 } from "node:zlib";
import { encodeBatch } from "../engine/batch-codec.js";
import { valueAt } from "../engine/row-values.js";
import type { AccountingRow } from "../runtime/accounting.js";
import type { RunSinks } from "../runtime/run-sinks.js";
import type { Publication, Sink, TableLayout } from "../sinks/sink.js";
import { checkOutput } from "../sinks/sink-output.js";
import { SimulatedFault, Violation } from "./faults.js";
import type { SimulatedProcess, World } from "./world.js";

/** A row as a plain object; bigints stay what they are, bytes are Latin-1 text. */
export type SimulatedRow = Readonly<Record<string, unknown>>;

interface StoredRow {
  readonly revision: number;
  readonly isRetracted: boolean;
  readonly row: SimulatedRow;
}

/** Columns by which rows of the tables that only grow are told apart. */
const ORIGIN = ["topic", "partition", "offset"];

/** What one sink has stored, for all processes that bring it publications. */
export class SimulatedTables {
  sequence = 0;
  /** A server may be down: then nobody gets on with it, and nobody else should wait for it. */
  isDown = false;
  /** Whose publications it has; null before the first. */
  #output: string | null = null;
  readonly #rows = new Map<string, Map<string, StoredRow>>();
  readonly #layouts: ReadonlyMap<string, TableLayout>;
  readonly #digests = new Map<number, number>();

  constructor(layouts: readonly TableLayout[]) {
    this.#layouts = new Map(layouts.map((layout) => [layout.name, layout]));
    for (const { name } of layouts) this.#rows.set(name, new Map());
  }

  /** Names of all tables, and their rows as they stand, without their revision. */
  tables(): Map<string, SimulatedRow[]> {
    return new Map(
      [...this.#rows].map(([name, rows]) => {
        const standing = [...rows.values()].filter(({ isRetracted }) => !isRetracted);
        return [name, standing.map(({ row }) => row)];
      }),
    );
  }

  /** The last publication it has taken. Refuses those of another output, as servers do. */
  open(output: string | null): number {
    if (this.isDown) throw new SimulatedFault("this server is down");
    checkOutput("a simulated sink", this.#output, output);
    return this.sequence;
  }

  apply(
    publications: readonly Publication[],
    lastSequence: number,
    output: string | null = null,
  ): void {
    this.open(output);
    this.#output ??= output;
    for (const publication of publications) {
      this.#checkSame(publication);
      if (publication.sequence <= this.sequence) continue;
      if (publication.sequence !== this.sequence + 1) {
        throw new Violation(
          `a sink that stands at ${this.sequence} was given publication ${publication.sequence}`,
        );
      }
      this.#take(publication);
      this.sequence = publication.sequence;
    }
    if (lastSequence > this.sequence) {
      throw new Violation(`a sink was told ${lastSequence}, but got up to ${this.sequence} only`);
    }
  }

  #checkSame({ sequence, table, batch }: Publication): void {
    const digest = crc32(encodeBatch(batch), crc32(table));
    const before = this.#digests.get(sequence);
    this.#digests.set(sequence, digest);
    if (before === undefined || before === digest) return;
    throw new Violation(`publication ${sequence} (${table}) is not what it was before`);
  }

  #take({ table, batch, sequence }: Publication): void {
    const layout = this.#layouts.get(table);
    const rows = this.#rows.get(table);
    if (layout === undefined || rows === undefined) throw new Violation(`no table "${table}"`);
    const isRevised = layout.key.length > 0;
    const key = isRevised ? layout.key : table === "late" ? ["table", ...ORIGIN] : ORIGIN;
    for (let i = 0; i < batch.rowCount; i++) {
      const fields = batch.columns.map((column) => [column.name, plain(valueAt(column, i))]);
      const { revision, retracted, ...row } = Object.fromEntries(fields);
      const text = key.map((name) => String(row[name])).join("|");
      const before = rows.get(text);
      if (before !== undefined && (!isRevised || before.revision >= revision)) {
        const what = isRevised ? `revision ${revision} after ${before.revision}` : "twice";
        throw new Violation(`publication ${sequence}: row ${text} of "${table}" came ${what}`);
      }
      rows.set(text, { revision, isRetracted: retracted === true, row });
    }
  }
}

const plain = (value: unknown): unknown =>
  value instanceof Uint8Array ? Buffer.from(value).toString("latin1") : value;

/** What stands behind all sinks of a pipeline. */
export interface SimulatedResults {
  /** Where the output is. */
  readonly own: readonly SimulatedTables[];
  readonly servers: readonly SimulatedTables[];
  /** Whether sinks in the output stay open between rounds. */
  readonly stayOpen: boolean;
  /** As last shown; null before. */
  accounting: readonly AccountingRow[] | null;
}

/** The sinks as one process sees them. */
export function sinksOf(
  world: World,
  process: SimulatedProcess,
  results: SimulatedResults,
): RunSinks {
  const own = results.own.map((tables, index) => ({ tables, name: `own-${index}` }));
  const servers = results.servers.map((tables, index) => ({ tables, name: `server-${index}` }));
  return {
    // Those in the output are its own; what is on a server may be another output's.
    own: own.map((place) => sinkOf(world, process, { ...place, asksWhose: false })),
    stayOpen: results.stayOpen,
    remote: servers.map((place) => sinkOf(world, process, { ...place, asksWhose: true })),
    complete: ({ accounting }) =>
      world.call(process, {
        what: "show the accounting",
        isWrite: true,
        apply: () => {
          if (accounting !== null) results.accounting = accounting;
          return new Map();
        },
      }),
    sweep: async () => undefined,
    close: async () => undefined,
  };
}

function sinkOf(
  world: World,
  process: SimulatedProcess,
  place: { readonly tables: SimulatedTables; readonly name: string; readonly asksWhose: boolean },
): Sink {
  const { tables, name, asksWhose } = place;
  let output: string | null = null;
  return {
    name,
    open(given) {
      output = asksWhose ? (given ?? null) : null;
      const apply = () => tables.open(output);
      return world.call(process, { what: `open ${name}`, isWrite: false, apply });
    },
    async apply(publications, lastSequence) {
      const batches: Publication[] = [];
      for await (const publication of publications) batches.push(publication);
      await world.call(process, {
        what: `apply to ${name} up to ${lastSequence}`,
        isWrite: true,
        apply: () => tables.apply(batches, lastSequence, output),
      });
    },
    close: async () => undefined,
  };
}
