/** What `millpond dev` shows: a block of live numbers on a terminal, else lines of text or JSON. */
import type { Writable } from "node:stream";
import type { Figures } from "../dev/figures.js";
import type { DevStatus } from "../dev/session.js";
import { MillpondError } from "../errors.js";
import { counted } from "./numbers.js";
import { shortCount } from "./progress.js";

export interface DevViewOptions {
  readonly stream: Writable & { readonly columns?: number };
  readonly isTTY: boolean;
  readonly json: boolean;
}

/** A line that stays. */
export type DevNote =
  | {
      readonly kind: "started" | "restarted";
      readonly pipeline: string;
      readonly out: string;
      /** Where Prometheus may read. */
      readonly metrics?: string;
    }
  | { readonly kind: "waiting" | "stopping" | "stopped"; readonly message: string };

const LINE_EVERY_MS = 5_000;
/** The same trouble again and again is said once in so long. */
const TROUBLE_EVERY_MS = 10_000;
const TROUBLES_MAX = 100;

export class DevView {
  readonly #options: DevViewOptions;
  readonly #saidAt = new Map<string, number>();
  #drawn = 0;
  #shownAt = Number.NEGATIVE_INFINITY;
  #before: { readonly records: number; readonly atMs: number } | null = null;

  constructor(options: DevViewOptions) {
    this.#options = options;
  }

  note(note: DevNote): void {
    if (this.#options.json) this.#write(`${JSON.stringify(note)}\n`);
    else this.#print(noteText(note));
  }

  trouble(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    const nowMs = performance.now();
    const saidAt = this.#saidAt.get(message);
    if (saidAt !== undefined && nowMs - saidAt < TROUBLE_EVERY_MS) return;
    if (this.#saidAt.size >= TROUBLES_MAX) this.#saidAt.clear();
    this.#saidAt.set(message, nowMs);
    const code = error instanceof MillpondError ? error.code : "UNEXPECTED";
    if (this.#options.json) {
      this.#write(`${JSON.stringify({ kind: "trouble", code, message })}\n`);
    } else this.#print(`trouble: ${message}`);
  }

  /** Call it as often as there is news; a block is drawn anew, lines come every few seconds. */
  status(status: DevStatus): void {
    const nowMs = performance.now();
    const isLines = !this.#options.isTTY || this.#options.json;
    if (isLines && !this.#options.json && nowMs - this.#shownAt < LINE_EVERY_MS) return;
    this.#shownAt = nowMs;
    const rate = this.#rate(status.mapping.delivered, nowMs);
    if (this.#options.json) this.#write(`${JSON.stringify(jsonStatus(status, rate))}\n`);
    else if (isLines) this.#write(`${statusLine(status, rate)}\n`);
    else this.#draw(statusBlock(status, rate, this.#options.stream.columns ?? 80));
  }

  /** The rate is from one status to the next; a new session counts from 0 again. */
  #rate(records: number, atMs: number): number {
    const before = this.#before;
    this.#before = { records, atMs };
    if (before === null || records < before.records || atMs <= before.atMs) return 0;
    return ((records - before.records) / (atMs - before.atMs)) * 1000;
  }

  #print(line: string): void {
    this.#erase();
    this.#write(`${line}\n`);
  }

  #draw(lines: readonly string[]): void {
    this.#erase();
    this.#write(lines.map((line) => `${line}\n`).join(""));
    this.#drawn = lines.length;
  }

  #erase(): void {
    if (this.#drawn > 0) this.#write(`\x1b[${this.#drawn}A\x1b[0J`);
    this.#drawn = 0;
  }

  #write(text: string): void {
    this.#options.stream.write(text);
  }
}

function noteText(note: DevNote): string {
  if ("message" in note) return note.message;
  const metrics = note.metrics === undefined ? "" : `, metrics at ${note.metrics}`;
  return `${note.kind}: pipeline "${note.pipeline}", results in ${note.out}${metrics}`;
}

function statusLine({ mapping, figures }: DevStatus, rate: number): string {
  const flow = `${Math.round(rate)} records/s, lag ${mapping.lag}`;
  if (figures === null) {
    return `${flow}, ${mapping.delivered} delivered, ${mapping.failures} failed invocations`;
  }
  const { records, lateRows, duplicates, deadLetters, watermark, tables } = figures;
  return (
    `${flow}, ${counted(records, "record")}, ${counted(lateRows, "late row")}, ` +
    `${counted(duplicates, "duplicate")}, ` +
    `${counted(deadLetters, "dead letter")}, watermark ${timeText(watermark)}; ` +
    rowsOf(tables, String).join(", ")
  );
}

const short = (count: number, what: string) => counted(count, what, shortCount);

function statusBlock({ mapping, figures }: DevStatus, rate: number, columns: number): string[] {
  const parts = [`${shortCount(rate)} records/s`, `lag ${shortCount(mapping.lag)}`];
  if (mapping.failures > 0) parts.push(`${shortCount(mapping.failures)} failed invocations`);
  const lines = [parts.join(" · ")];
  if (figures !== null) {
    const { records, lateRows, duplicates, deadLetters, watermark, tables } = figures;
    const counts = [
      short(records, "record"),
      short(lateRows, "late row"),
      short(duplicates, "duplicate"),
      `${shortCount(deadLetters)} dead`,
      `watermark ${timeText(watermark)}`,
    ];
    lines.push(...flowed(counts, columns - 1), ...flowed(rowsOf(tables, shortCount), columns - 1));
  }
  // A line that wraps would be two to erase.
  return lines.map((line) => cut(line, Math.max(20, columns - 1)));
}

/** Rows by table, or why there are none. */
function rowsOf(tables: Figures["tables"], text: (count: number) => string): string[] {
  const all = Object.entries(tables);
  if (all.every(([, count]) => count === 0)) {
    return ["no rows yet: a window's come once the watermark has passed its end"];
  }
  return all.map(([name, count], i) => `${i === 0 ? "rows: " : ""}${name} ${text(count)}`);
}

/** Parts beside each other, on as many lines as they take. */
function flowed(parts: readonly string[], width: number): string[] {
  const lines: string[] = [];
  for (const part of parts) {
    const longer = lines.length === 0 ? part : `${lines.at(-1)} · ${part}`;
    if (lines.length === 0 || longer.length > width) lines.push(part);
    else lines[lines.length - 1] = longer;
  }
  return lines;
}

const cut = (line: string, width: number): string =>
  line.length <= width ? line : `${line.slice(0, width - 1)}…`;

function jsonStatus({ mapping, figures }: DevStatus, rate: number): object {
  const watermark = figures?.watermark ?? null;
  return {
    kind: "status",
    recordsPerSecond: Math.round(rate),
    ...mapping,
    ...figures,
    ...(figures !== null && { watermark: watermark === null ? null : isoText(watermark) }),
  };
}

const timeText = (epochMs: number | null): string =>
  epochMs === null ? "none" : `${isoText(epochMs).slice(0, 19)}Z`;

function isoText(epochMs: number): string {
  const date = new Date(epochMs);
  return Number.isNaN(date.getTime()) ? "none" : date.toISOString();
}
