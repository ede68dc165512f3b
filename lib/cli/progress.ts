/** What a long command shows while it works: a bar on a terminal, else lines of text or JSON. */
import type { Writable } from "node:stream";
import type { RunProgress } from "../runtime/run-pipeline.js";
import { counted } from "./numbers.js";

export interface ProgressOptions {
  readonly stream: Writable & { readonly columns?: number };
  readonly isTTY: boolean;
  readonly json: boolean;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
  readonly color?: boolean;
}

export interface Progress {
  update(facts: RunProgress): void;
  /** Draws the last state and leaves it on the screen; further calls do nothing. */
  done(): void;
}

const REDRAW_EVERY_MS = 100;
const LINE_EVERY_MS = 5_000;
/** The rate is over about this long, so that it follows changes without flickering. */
const RATE_OVER_MS = 2_000;
const WIDTH_MIN = 40;
const WIDTH_MAX = 200;

/** What a long command's work is given: where to tell how far it is, and when to stop. */
export interface Watch {
  readonly onProgress: (facts: RunProgress) => void;
  readonly signal: AbortSignal;
}

/** Shows how far `work` is, on stderr; Ctrl-C and SIGTERM ask it to stop, once. */
export async function watched<T>(json: boolean, work: (watch: Watch) => Promise<T>): Promise<T> {
  const progress = createProgress({ stream: process.stderr, isTTY: process.stderr.isTTY, json });
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  process.once("SIGINT", onSignal).once("SIGTERM", onSignal);
  try {
    return await work({ onProgress: (facts) => progress.update(facts), signal: stop.signal });
  } finally {
    progress.done();
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  }
}

export function createProgress(options: ProgressOptions): Progress {
  return new ProgressView(options);
}

class ProgressView implements Progress {
  readonly #options: ProgressOptions;
  readonly #now: () => number;
  readonly #everyMs: number;
  readonly #isDrawn: boolean;
  readonly #startedAt: number;
  #facts: RunProgress | null = null;
  #shownAt = Number.NEGATIVE_INFINITY;
  #rateAt: number;
  #rateRecords = 0;
  #rate = 0;
  #hasRate = false;
  #linesDrawn = 0;
  #isDone = false;

  constructor(options: ProgressOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#isDrawn = options.isTTY && !options.json;
    this.#everyMs = this.#isDrawn ? REDRAW_EVERY_MS : LINE_EVERY_MS;
    this.#startedAt = this.#now();
    this.#rateAt = this.#startedAt;
    // A first line only after a while: short runs need none.
    if (!this.#isDrawn) this.#shownAt = this.#startedAt;
  }

  update(facts: RunProgress): void {
    if (this.#isDone) return;
    this.#facts = facts;
    // The last state is shown once, by `done`.
    if (facts.phase === "done") return;
    const now = this.#now();
    if (now - this.#shownAt < this.#everyMs) return;
    this.#measure(facts, now);
    this.#show(facts, now);
  }

  done(): void {
    if (this.#isDone) return;
    this.#isDone = true;
    if (this.#facts === null) return;
    const now = this.#now();
    const elapsedMs = Math.max(now - this.#startedAt, 1);
    // At the end the mean says more than the last moment.
    this.#rate = (this.#facts.records / elapsedMs) * 1000;
    this.#show(this.#facts, now);
  }

  #measure(facts: RunProgress, now: number): void {
    const elapsedMs = now - this.#rateAt;
    if (elapsedMs <= 0) return;
    const current = ((facts.records - this.#rateRecords) / elapsedMs) * 1000;
    const weight = this.#hasRate ? 1 - Math.exp(-elapsedMs / RATE_OVER_MS) : 1;
    this.#rate += (current - this.#rate) * weight;
    this.#hasRate = true;
    this.#rateAt = now;
    this.#rateRecords = facts.records;
  }

  #show(facts: RunProgress, now: number): void {
    this.#shownAt = now;
    const { stream, json } = this.#options;
    if (json) stream.write(`${JSON.stringify(jsonProgress(facts, this.#rate))}\n`);
    else if (this.#isDrawn) this.#draw(facts);
    else stream.write(`${plainLine(facts, this.#rate)}\n`);
  }

  #draw(facts: RunProgress): void {
    const { stream, color } = this.#options;
    const lines = progressLines(facts, this.#rate, {
      width: stream.columns ?? 80,
      color: color ?? (process.env.NO_COLOR ?? "") === "",
    });
    const up = this.#linesDrawn > 0 ? `\x1b[${this.#linesDrawn}A` : "";
    stream.write(`${up}\r${lines.map((line) => `\x1b[2K${line}\n`).join("")}`);
    this.#linesDrawn = lines.length;
  }
}

/** The two lines of a terminal: how far, and how it goes. Parts that don't fit are left out. */
export function progressLines(
  facts: RunProgress,
  eventsPerSecond: number,
  view: { readonly width: number; readonly color: boolean },
): string[] {
  // One column stays free: some terminals wrap when the last one is written.
  const width = Math.max(WIDTH_MIN, Math.min(view.width, WIDTH_MAX)) - 1;
  const paint = (code: number, text: string) => (view.color ? `\x1b[${code}m${text}\x1b[0m` : text);
  const share = shareOf(facts);
  const percent = `${Math.floor(share * 100)}%`.padStart(4);
  const phase = facts.phase.slice(0, 10).padEnd(10);
  const tail = ` ${percent}  ${shortCount(eventsPerSecond)}/s`;
  const cells = Math.max(5, Math.min(60, width - phase.length - 1 - tail.length));
  const full = Math.round(share * cells);
  const bar = paint(36, "━".repeat(full)) + paint(2, "─".repeat(cells - full));
  const parts = [
    counted(facts.records, "record", shortCount),
    counted(facts.lateRows, "late row", shortCount),
    `${shortCount(facts.deadLetters)} dead`,
    ...(facts.watermark === null ? [] : [`wm ${isoSeconds(facts.watermark)}`]),
    `lag ${bytes(facts.bytesTotal - facts.bytesRead)}`,
  ];
  return [`${phase} ${bar}${tail}`, paint(2, fitParts(parts, width))];
}

function fitParts(parts: readonly string[], width: number): string {
  let line = "";
  for (const part of parts) {
    const longer = line === "" ? part : `${line} · ${part}`;
    if (longer.length <= width) line = longer;
  }
  return line;
}

function plainLine(facts: RunProgress, eventsPerSecond: number): string {
  const lag = facts.bytesTotal - facts.bytesRead;
  const watermark = facts.watermark === null ? "none" : isoSeconds(facts.watermark);
  return (
    `${facts.phase} ${Math.floor(shareOf(facts) * 100)}%: ${counted(facts.records, "record")}, ` +
    `${counted(facts.lateRows, "late row")}, ${counted(facts.deadLetters, "dead letter")}, ` +
    `${Math.round(eventsPerSecond)} records/s, watermark ${watermark}, lag ${bytes(lag)}`
  );
}

function jsonProgress(facts: RunProgress, eventsPerSecond: number) {
  const { watermark, ...rest } = facts;
  return {
    kind: "progress",
    ...rest,
    lagBytes: facts.bytesTotal - facts.bytesRead,
    watermark: watermark === null ? null : new Date(watermark).toISOString(),
    recordsPerSecond: Math.round(eventsPerSecond),
  };
}

function shareOf({ bytesRead, bytesTotal }: RunProgress): number {
  if (bytesTotal <= 0) return 1;
  return Math.min(1, Math.max(0, bytesRead / bytesTotal));
}

/** Three digits and a letter: 950, 12.3k, 4.56M. */
export function shortCount(count: number): string {
  const units = ["", "k", "M", "G", "T"];
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  if (unit === 0) return String(Math.round(value));
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)}${units[unit]}`;
}

function bytes(count: number): string {
  return `${shortCount(Math.max(0, count))}B`;
}

function isoSeconds(epochMs: number): string {
  const date = new Date(epochMs);
  if (Number.isNaN(date.getTime())) return "none";
  return `${date.toISOString().slice(0, 19)}Z`;
}
