/**
 * A chart over time: stacked columns for what adds up, else lines. Positions are shares of the
 * width, so that it fits every screen and text keeps its size.
 */
import { axisTimeText, keyText, numberText, tickText, timeText } from "../format.js";
import { type Html, html } from "../html.js";
import { type Scale, scaleFor } from "./scale.js";

export interface Series {
  /** Empty where there is only one. */
  readonly name: string;
  /** Which colour. */
  readonly rank: number | "others" | "late";
  /** Ascending in time; NaN for no value. */
  readonly points: readonly { readonly atMs: number; readonly value: number }[];
}

export interface TimeChart {
  readonly title: string;
  readonly series: readonly Series[];
  /** Points are whole steps apart. */
  readonly stepMs: number;
  readonly stacks: boolean;
  readonly isLarge: boolean;
}

/** The plot's own units across and down. */
const ACROSS = 1000;
const TOP = 10;
const AXIS = 22;
const DASH_MAX = 8;
const LABEL_CHARS_MAX = 9;
/** Of the plot; few points do not make columns wider. */
const COLUMN_WIDTH_MAX = ACROSS / 12;
/** Where along the axis times are named; narrow charts have room for every other one. */
const LABELS = [0.02, 0.26, 0.5, 0.74, 0.98];
const NAMES_CHARS_MAX = 60;

interface Frame {
  readonly fromMs: number;
  readonly stepMs: number;
  readonly count: number;
  readonly height: number;
}

export function timeChart({ title, series, stepMs, stacks, isLarge }: TimeChart): Html {
  const times = series.flatMap(({ points }) => points.map(({ atMs }) => atMs));
  const fromMs = times.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const toMs = times.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  if (!Number.isFinite(toMs - fromMs)) return html``;
  const count = Math.round((toMs - fromMs) / stepMs) + 1;
  const frame: Frame = { fromMs, stepMs, count, height: isLarge ? 200 : 130 };
  const values = series.map((one) => aligned(one, frame));
  const known = values.flat().filter(Number.isFinite);
  const isStack = stacks && known.every((value) => value >= 0);
  const scale = scaleFor(isStack ? [0, ...sums(values, count)] : known, isStack);
  const paths = isStack ? columnPaths(values, frame, scale) : linePaths(values, frame, scale);
  const shapes = series.map(
    ({ rank }, index) =>
      html`<path class="${isStack ? "area" : "line"} s-${rank}" d="${paths[index]!}"/>`,
  );
  const range = `${timeText(fromMs, stepMs)} to ${timeText(toMs, stepMs)}`;
  const label = `${title} over time, ${range}, ${extent(known)}`;
  const height = frame.height + TOP + AXIS;
  return html`<figure class="chart${isLarge ? " large" : ""}"><figcaption>${title}</figcaption>
<div class="plot">${ticks(scale, frame)}<svg role="img" aria-label="${label}" width="100%"
 height="${height}" data-names="${names(series)}"
 data-tips="${tips(values, frame)}"><title>${label}</title>${grid(scale, frame)}<svg
 x="0" y="${TOP}" width="100%"
 height="${frame.height}" viewBox="0 0 ${ACROSS} ${frame.height}" preserveAspectRatio="none"
>${shapes}</svg>${timeAxis(frame)}<rect class="cursor" y="${TOP}" height="${frame.height}"
 width="0"/></svg></div></figure>`;
}

function extent(known: readonly number[]): string {
  if (known.length === 0) return "no values";
  const least = known.reduce((a, b) => Math.min(a, b));
  const most = known.reduce((a, b) => Math.max(a, b));
  return `from ${numberText(least)} to ${numberText(most)}`;
}

/** A value per step, NaN where there is none. */
function aligned({ points }: Series, { fromMs, stepMs, count }: Frame): number[] {
  const values = new Array<number>(count).fill(Number.NaN);
  for (const { atMs, value } of points) {
    const index = Math.round((atMs - fromMs) / stepMs);
    if (index >= 0 && index < count) values[index] = value;
  }
  return values;
}

function sums(values: readonly (readonly number[])[], count: number): number[] {
  return Array.from({ length: count }, (_, index) =>
    values.reduce((sum, one) => sum + (Number.isFinite(one[index]) ? one[index]! : 0), 0),
  );
}

const round = (value: number): number => Math.round(value * 10) / 10;

/** Left edge and width of a step, in units of the plot. */
function slotAt(index: number, { count }: Frame): { left: number; width: number } {
  const width = ACROSS / count;
  return { left: index * width, width };
}

function columnPaths(values: readonly number[][], frame: Frame, scale: Scale): string[] {
  const below = new Array<number>(frame.count).fill(0);
  return values.map((one) =>
    one
      .map((value, index) => {
        if (!(value > 0)) return "";
        const { left, width } = slotAt(index, frame);
        const bottom = round(frame.height * (1 - scale.at(below[index]!)));
        below[index]! += value;
        const top = round(frame.height * (1 - scale.at(below[index]!)));
        const gap = Math.max(width > 8 ? 1 : 0, (width - COLUMN_WIDTH_MAX) / 2);
        return `M${round(left + gap)} ${bottom}V${top}H${round(left + width - gap)}V${bottom}Z`;
      })
      .join(""),
  );
}

function linePaths(values: readonly number[][], frame: Frame, scale: Scale): string[] {
  return values.map((one) => {
    let path = "";
    for (const [index, value] of one.entries()) {
      if (!Number.isFinite(value)) continue;
      const { left, width } = slotAt(index, frame);
      const y = round(frame.height * (1 - scale.at(value)));
      const x = round(left + width / 2);
      const dash = Math.min(width / 5, DASH_MAX);
      const begins = !Number.isFinite(one[index - 1] ?? Number.NaN);
      // A point without neighbours is a short dash, or it could not be seen.
      if (begins) path += `M${round(x - dash)} ${y}L${x} ${y}`;
      else path += `L${x} ${y}`;
      if (!Number.isFinite(one[index + 1] ?? Number.NaN)) path += `L${round(x + dash)} ${y}`;
    }
    return path;
  });
}

const yAt = (value: number, { height }: Frame, scale: Scale): number =>
  TOP + round(height * (1 - scale.at(value)));

function grid(scale: Scale, frame: Frame): Html[] {
  return scale.ticks.map((tick) => {
    const y = yAt(tick, frame, scale);
    const style = tick === 0 ? "grid zero" : "grid";
    return html`<line class="${style}" x1="0" x2="100%" y1="${y}" y2="${y}"/>`;
  });
}

/** In a column of their own: text keeps its size, whatever the plot's width. */
function ticks(scale: Scale, frame: Frame): Html {
  const texts = scale.ticks.map((tick) => {
    const y = yAt(tick, frame, scale) + 4;
    return html`<text class="tick end" x="100%" y="${y}">${tickText(tick)}</text>`;
  });
  const height = frame.height + TOP + AXIS;
  return html`<svg class="ticks" width="52" height="${height}" aria-hidden="true">${texts}</svg>`;
}

function timeAxis(frame: Frame): Html[] {
  const { fromMs, stepMs, count, height } = frame;
  const spanMs = count * stepMs;
  const shares = count < LABELS.length ? [0, 1] : LABELS;
  const steps = [...new Set(shares.map((share) => Math.round(share * (count - 1))))];
  const [first, last] = [steps[0]!, steps.at(-1)!];
  return steps.map((index, at) => {
    const { left, width } = slotAt(index, frame);
    const text = axisTimeText(fromMs + index * stepMs, { spanMs, stepMs });
    const anchor = index === first ? "start" : index === last ? "end" : "mid";
    const between = at % 2 === 1 && anchor === "mid" ? " between" : "";
    // Of long names, a small chart has room for the first and the last.
    const isLong = text.length > LABEL_CHARS_MAX && anchor === "mid";
    const style = `tick ${anchor}${between}${isLong ? " long" : ""}`;
    const x = round((left + width / 2) / (ACROSS / 100));
    const y = TOP + height + 16;
    return html`<text class="${style}" x="${x}%" y="${y}">${text}</text>`;
  });
}

/** Which colour is whose; nothing for a series without a name. */
export function legend(series: readonly Pick<Series, "name" | "rank">[]): Html | null {
  if (series.every(({ name }) => name === "")) return null;
  return html`<ul class="legend">${series.map(
    ({ name, rank }) => html`<li><svg class="swatch" width="10" height="10" aria-hidden="true"><rect
 class="area s-${rank}" width="10" height="10" rx="2"/></svg>${keyText(
   name,
   NAMES_CHARS_MAX,
 )}</li>`,
  )}</ul>`;
}

const names = (series: readonly Series[]): string =>
  JSON.stringify(series.map(({ name }) => (name === "" ? "" : keyText(name, NAMES_CHARS_MAX))));

/** For the numbers under the pointer: a line a step, its time and a value for each series. */
function tips(values: readonly (readonly number[])[], { fromMs, stepMs, count }: Frame): string {
  return Array.from({ length: count }, (_, index) => {
    const texts = values.map((one) => (Number.isNaN(one[index]!) ? "" : numberText(one[index]!)));
    return [timeText(fromMs + index * stepMs, stepMs), ...texts].join("|");
  }).join("\n");
}
