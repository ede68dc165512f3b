/**
 * The streaming fold of one partition: slices in, sections and state out. Pure and without I/O;
 * its results depend on the records alone, not on how they were cut into slices (I1).
 */
import { MillpondError } from "../errors.js";
import { Accumulator } from "./accumulate.js";
import { encodeBatch } from "./batch-codec.js";
import { ByteReader, ByteWriter } from "./codec.js";
import type { Decoded } from "./decode/decoder.js";
import { SeenIds } from "./dedup.js";
import { byteRows } from "./dictionary.js";
import { compileExpression } from "./expressions.js";
import { bronzeBatch, deadLetterBatch, LateRows, rowTableBatch } from "./product-rows.js";
import type { StreamProgram, WindowedProgram } from "./program.js";
import type { Section } from "./section.js";
import { SessionOperator } from "./sessions.js";
import type { DeadLetterReason, Slice } from "./slice.js";
import type { Flow } from "./steps.js";
import {
  DUPLICATE,
  FRESH,
  type Partial,
  type TableCounters,
  type TableInput,
  UNCHECKABLE,
} from "./table-input.js";
import { WindowOperator } from "./windows.js";

const STATE_VERSION = 2;
const NEVER = Number.NEGATIVE_INFINITY;

type Operator = WindowOperator | SessionOperator;

/** The numbers of I2 for one partition. */
export interface PartitionCounters {
  records: number;
  events: number;
  duplicates: number;
  deadLetters: { [reason in DeadLetterReason]?: number };
  /** Per windowed table. */
  tables: Record<string, TableCounters>;
  /** Rows handed to each row table. */
  rows: Record<string, number>;
}

export class PartitionFold {
  readonly counters: PartitionCounters;
  private readonly program: StreamProgram;
  private readonly topic: string;
  private readonly partition: number;
  private readonly operators: { program: WindowedProgram; operator: Operator }[];
  private readonly ids: SeenIds | null;
  private maxTime = NEVER;
  private watermarks = new Float64Array(0);
  private verdicts = new Uint8Array(0);
  private allRows = new Int32Array(0);
  private readonly stateWriter = new ByteWriter();
  private readonly batchWriter = new ByteWriter();

  constructor(program: StreamProgram, topic: string, partition: number) {
    this.program = program;
    this.topic = topic;
    this.partition = partition;
    this.ids = program.dedupWithinMs === undefined ? null : new SeenIds();
    this.operators = program.windowed.map((windowed) => ({
      program: windowed,
      operator: makeOperator(windowed),
    }));
    this.counters = emptyCounters(program);
    for (const { program: windowed, operator } of this.operators) {
      this.counters.tables[windowed.table.name] = operator.counters;
    }
  }

  /** Greatest event time so far, epoch ms; -Infinity before the first event. */
  get maxEventTime(): number {
    return this.maxTime;
  }

  /** W(p): greatest event time - lateness. */
  get watermark(): number {
    return this.maxTime - this.program.stream.latenessMs;
  }

  /** What is open, for people who look. */
  get sizes(): { openWindows: number; openSessions: number; dedupIds: number } {
    let openWindows = 0;
    let openSessions = 0;
    for (const { operator } of this.operators) {
      if (operator instanceof SessionOperator) openSessions += operator.openSessions;
      else openWindows += operator.openWindows;
    }
    return { openWindows, openSessions, dedupIds: this.ids?.size ?? 0 };
  }

  /** Folds a slice in and returns what leaves with it. The slice's bytes are not kept. */
  process(slice: Slice): Section[] {
    const decoded = this.program.decoder.decode(slice);
    this.count(slice, decoded);
    this.judge(decoded);
    const sections: Section[] = [];
    if (this.program.bronze && slice.count > 0) {
      sections.push(this.rows("bronze", bronzeBatch(slice)));
    }
    if (decoded.deadLetters.length > 0) {
      sections.push(this.rows("dead_letters", deadLetterBatch(slice, decoded.deadLetters)));
    }
    const late = new LateRows(slice, decoded, this.watermarks);
    for (const { program, operator } of this.operators) {
      operator.process(this.inputFor(program, decoded), (event) => {
        late.add(program.table.name, event);
      });
      sections.push(...this.partials(program, operator.advance(this.watermark)));
    }
    if (late.count > 0) sections.push(this.rows("late", late.batch()));
    sections.push(...this.rowTables(slice, decoded));
    this.ids?.endSlice(this.watermark - this.program.dedupWithinMs!);
    return sections;
  }

  /** As if an event of that time, epoch ms, had been read that no table counts. */
  advanceTo(eventTimeMs: number): Section[] {
    this.maxTime = Math.max(this.maxTime, eventTimeMs);
    this.ids?.endSlice(this.watermark - this.program.dedupWithinMs!);
    return this.operators.flatMap(({ program, operator }) =>
      this.partials(program, operator.advance(this.watermark)),
    );
  }

  /** Open windows and sessions as they stand (a flush); the state does not change. */
  snapshot(wanted: (table: string) => boolean): Section[] {
    return this.operators
      .filter(({ program }) => wanted(program.table.name))
      .flatMap(({ program, operator }) => {
        const partials = this.partials(program, operator.snapshot());
        // Even no open session is news: those published open before have all closed since.
        return partials.length > 0 || !program.plan.session
          ? partials
          : [emptySnapshot(program.table.name)];
      });
  }

  /** The state as a base (`all`), or what changed since `saved` was last called. */
  writeState(all: boolean): Uint8Array {
    const writer = this.stateWriter;
    writer.reset();
    writer.u8(STATE_VERSION);
    writer.f64(this.maxTime);
    this.ids?.write(writer, all);
    for (const { operator } of this.operators) operator.write(writer, all);
    return writer.finish();
  }

  saved(): void {
    this.ids?.saved();
    for (const { operator } of this.operators) operator.saved();
  }

  /** Restores a fresh fold from a base, its deltas in order, and the counters. */
  restore(chunks: readonly Uint8Array[], counters: PartitionCounters): void {
    for (const chunk of chunks) {
      const reader = new ByteReader(chunk);
      const version = reader.u8();
      if (version !== STATE_VERSION) {
        throw new MillpondError(
          "STORAGE",
          `the state of ${this.topic}/${this.partition} has version ${version}, this program ` +
            `reads ${STATE_VERSION}; run it with the Millpond that wrote it`,
        );
      }
      this.maxTime = reader.f64();
      this.ids?.read(reader);
      for (const { operator } of this.operators) operator.read(reader);
    }
    this.ids?.restored();
    for (const { program, operator } of this.operators) {
      operator.restored(this.watermark);
      Object.assign(operator.counters, counters.tables[program.table.name]);
    }
    const { tables: _, ...others } = structuredClone(counters);
    Object.assign(this.counters, others);
  }

  private count(slice: Slice, decoded: Decoded): void {
    const { counters } = this;
    counters.records += slice.count;
    counters.events += decoded.rowCount;
    for (const { reason } of decoded.deadLetters) {
      counters.deadLetters[reason] = (counters.deadLetters[reason] ?? 0) + 1;
    }
  }

  /** The watermark before each event, and whether it is a duplicate or too old to tell. */
  private judge(decoded: Decoded): void {
    const { rowCount, eventTimes } = decoded;
    if (this.watermarks.length < rowCount) {
      this.watermarks = new Float64Array(rowCount);
      this.verdicts = new Uint8Array(rowCount);
      this.allRows = Int32Array.from({ length: rowCount }, (_, i) => i);
    }
    const { watermarks, verdicts } = this;
    const { latenessMs } = this.program.stream;
    let maxTime = this.maxTime;
    for (let i = 0; i < rowCount; i++) {
      watermarks[i] = maxTime - latenessMs;
      if (eventTimes[i]! > maxTime) maxTime = eventTimes[i]!;
    }
    this.maxTime = maxTime;
    if (this.ids === null) verdicts.fill(FRESH, 0, rowCount);
    else this.judgeDuplicates(decoded, this.ids);
  }

  private judgeDuplicates(decoded: Decoded, seen: SeenIds): void {
    const { rowCount, eventTimes } = decoded;
    const { watermarks, verdicts } = this;
    const { stream } = this.program;
    const ids = byteRows(decoded.columns.find((column) => column.name === stream.dedup!.id)!);
    const withinMs = this.program.dedupWithinMs!;
    for (let i = 0; i < rowCount; i++) {
      const threshold = watermarks[i]! - withinMs;
      const time = eventTimes[i]!;
      if (time < threshold) {
        verdicts[i] = UNCHECKABLE;
        continue;
      }
      const start = ids.starts === null ? i * 8 : ids.starts[i]!;
      const end = ids.ends === null ? start + 8 : ids.ends[i]!;
      const duplicate = seen.seen(ids.bytes, start, end, time, threshold);
      verdicts[i] = duplicate ? DUPLICATE : FRESH;
      if (duplicate) this.counters.duplicates++;
    }
  }

  private inputFor(program: { steps: WindowedProgram["steps"] }, decoded: Decoded): TableInput {
    const start: Flow = {
      batch: { rowCount: decoded.rowCount, columns: decoded.columns },
      rows: this.allRows,
      count: decoded.rowCount,
      eventOf: null,
    };
    const { verdicts, watermarks } = this;
    // Written out: a spread's object has another hidden class by how it came about, and every loop
    // over it would be compiled again for each.
    const { batch, rows, count, eventOf } = program.steps.run(start);
    return { batch, rows, count, eventOf, times: decoded.eventTimes, watermarks, verdicts };
  }

  private partials(program: WindowedProgram, partials: readonly Partial[]): Section[] {
    const table = program.table.name;
    return partials.map(({ kind, start, open, groups, bytes }) => ({
      kind,
      table,
      start,
      open,
      count: groups,
      bytes,
    }));
  }

  private rowTables(slice: Slice, decoded: Decoded): Section[] {
    return this.program.rows.flatMap((program) => {
      const batch = rowTableBatch(program, this.inputFor(program, decoded), slice, decoded);
      const { name } = program.table;
      this.counters.rows[name] = (this.counters.rows[name] ?? 0) + batch.rowCount;
      return batch.rowCount === 0 ? [] : [this.rows(name, batch)];
    });
  }

  private rows(table: string, batch: Parameters<typeof encodeBatch>[0]): Section {
    const bytes = encodeBatch(batch, this.batchWriter);
    return { kind: "rows", table, start: 0, open: false, count: batch.rowCount, bytes };
  }
}

function emptySnapshot(table: string): Section {
  return { kind: "sessions", table, start: 0, open: true, count: 0, bytes: new Uint8Array(0) };
}

function makeOperator({ table, plan, steps }: WindowedProgram): Operator {
  if (table.shape.kind !== "windowed") throw new TypeError(`${table.name} has no window`);
  const { window } = table.shape;
  const accumulator = new Accumulator(plan, (node) => compileExpression(node, steps.columns));
  if (window.kind === "session") return new SessionOperator(window.gapMs, plan, accumulator);
  return new WindowOperator(window, plan, accumulator);
}

function emptyCounters(program: StreamProgram): PartitionCounters {
  const counters: PartitionCounters = {
    records: 0,
    events: 0,
    duplicates: 0,
    deadLetters: {},
    tables: {},
    rows: {},
  };
  for (const { table } of program.rows) counters.rows[table.name] = 0;
  return counters;
}
